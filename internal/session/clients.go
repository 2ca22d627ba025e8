// Package session holds what lives as long as one process of the provider: the clients, which connect on first use, what resources claim
// in one plan, and locks.
package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lock"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Clients holds the clients that the provider block passes to resources and data
// sources. It connects on first use, so that a plan works even if the provider
// block is not known yet. It is safe for concurrent use.
type Clients struct {
	// Config of the Kubernetes cluster; meaningless while Unknown.
	Config kube.Config
	// Unknown says that the provider block depends on values that are not known
	// before apply.
	Unknown bool
	// ExpectedUID, unless "", is the UID that the Kubernetes cluster must have.
	ExpectedUID string
	// Claims of the resources that are planned in this run.
	Claims Claims
	// Backups is held while backup schedules are set up or removed: if two of them create
	// the same repository at once, restic may leave a repository that nobody can open.
	Backups lock.Mutex

	// Objects locks the names of ACL objects that are being created or deleted.
	Objects lock.Keyed

	mu     lock.Mutex
	kube   *kube.Client
	consul *consul.Connector
}

// ErrUnknown says that the provider block is not known yet.
var ErrUnknown = errors.New("the provider block depends on values that are not known yet")

// NewClients returns Clients that are not configured yet.
func NewClients() *Clients { return &Clients{} }

// ClientsOf returns Clients that are already connected.
func ClientsOf(k *kube.Client) *Clients {
	c := NewClients()
	c.kube, c.consul = k, consul.NewConnector(k)
	return c
}

// Kube returns the Kubernetes client, after making sure that it is connected to
// the expected cluster.
func (c *Clients) Kube(ctx context.Context) (*kube.Client, error) {
	k, _, err := c.connect(ctx)
	return k, err
}

// Consul returns access to the servers of one cluster.
func (c *Clients) Consul(ctx context.Context, namespace, name string) (*consul.Cluster, error) {
	_, connector, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	return connector.Cluster(namespace, name), nil
}

func (c *Clients) connect(ctx context.Context) (*kube.Client, *consul.Connector, error) {
	unlock, err := c.mu.Lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	if c.Unknown {
		return nil, nil, ErrUnknown
	}
	if c.kube != nil {
		return c.kube, c.consul, nil
	}
	config, err := c.Config.RESTConfig()
	if err != nil {
		return nil, nil, err
	}
	k, err := kube.NewClient(config, server.ManagedBy)
	if err != nil {
		return nil, nil, err
	}
	if c.ExpectedUID != "" {
		uid, err := k.ClusterUID(ctx)
		if err != nil {
			return nil, nil, err
		}
		if uid != c.ExpectedUID {
			return nil, nil, &WrongClusterError{Host: config.Host, UID: uid, Expected: c.ExpectedUID}
		}
	}
	c.kube, c.consul = k, consul.NewConnector(k)
	return c.kube, c.consul, nil
}

// WrongClusterError says that the provider is connected to a Kubernetes cluster
// other than the one that expected_cluster_uid names.
type WrongClusterError struct {
	Host, UID, Expected string
}

// Error implements error.
func (e *WrongClusterError) Error() string {
	return fmt.Sprintf(
		"the Kubernetes cluster at %s has the UID %s (namespace kube-system), but expected_cluster_uid is %s",
		e.Host,
		e.UID,
		e.Expected,
	)
}

// ConnectError is the diagnostic of an error that Kube or Consul returned.
func ConnectError(err error) diag.Diagnostic {
	var wrong *WrongClusterError
	switch {
	case errors.As(err, &wrong):
		return diag.NewErrorDiagnostic("Wrong Kubernetes cluster",
			"Nothing was touched: "+err.Error()+". Point the provider block at the right cluster, or correct expected_cluster_uid.")
	case errors.Is(err, kube.ErrNotConfigured):
		return diag.NewErrorDiagnostic(
			"No Kubernetes cluster is configured",
			"The provider block must say which cluster to use: set host (with token, client_certificate and client_key, or exec), or config_path "+
				"(KUBE_CONFIG_PATH) or config_paths (KUBE_CONFIG_PATHS). "+
				"The provider never falls back to localhost, to the KUBECONFIG variable, or to the cluster that it runs in.\n\n"+err.Error(),
		)
	case errors.Is(err, ErrUnknown):
		return diag.NewErrorDiagnostic(
			"The Kubernetes cluster is not known yet",
			"The provider block depends on values that become known during apply. Until then, resources can be planned, but nothing can be read "+
				"from the cluster. Add a depends_on to this block, or apply in two steps.",
		)
	default:
		return diag.NewErrorDiagnostic(
			"Cannot connect to Kubernetes",
			err.Error()+"\n\nCheck the provider block and its environment variables: config_path (KUBE_CONFIG_PATH), config_context (KUBE_CTX), "+
				"host (KUBE_HOST), and the attributes that belong to them.",
		)
	}
}

// FromProviderData returns the Clients that were passed to Configure. While the
// provider is not configured yet, it returns nil without a diagnostic.
func FromProviderData(data any) (*Clients, diag.Diagnostics) {
	var diags diag.Diagnostics
	if data == nil {
		return nil, nil
	}
	c, ok := data.(*Clients)
	if !ok {
		diags.AddError(
			"Unexpected provider data",
			fmt.Sprintf("Expected *session.Clients, got %T. This is a bug in the provider. Please report it.", data),
		)
	}
	return c, diags
}
