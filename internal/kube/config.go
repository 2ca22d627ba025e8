// Package kube is Kubernetes as this product uses it: connect, server-side apply, exec, port-forward, wait, and
// explain a failure. It does not know about Terraform or Consul.
package kube

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/transport"
)

// ErrNotConfigured says that no setting names the Kubernetes cluster to use. There is no fallback: not to
// localhost, not to the cluster that this process may run in, not to the KUBECONFIG environment variable.
var ErrNotConfigured = errors.New("no Kubernetes cluster is configured")

// Config says how to reach a Kubernetes cluster. Empty fields are not set. The explicit fields take precedence
// over the kubeconfig files.
type Config struct {
	// Host is the API server's address, as URL or host:port.
	Host          string
	Username      string
	Password      string
	Token         string
	Insecure      bool
	TLSServerName string
	// ClientCertificate, ClientKey and ClusterCACertificate are PEM texts.
	ClientCertificate    string
	ClientKey            string
	ClusterCACertificate string
	// ProxyURL of an HTTP, HTTPS or SOCKS5 proxy.
	ProxyURL string

	// ConfigPaths are kubeconfig files, merged in order; "~" is the home directory.
	ConfigPaths     []string
	Context         string
	ContextAuthInfo string
	ContextCluster  string

	Exec *Exec

	// UserAgent of every request.
	UserAgent string

	// Wrap, unless nil, sees every HTTP request: to Kubernetes, and through [Client.Wrap] to the servers in its pods.
	Wrap transport.WrapperFunc
}

// Exec is a client-go credential plugin
// (kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins).
type Exec struct {
	APIVersion string
	Command    string
	Args       []string
	Env        map[string]string
}

// RESTConfig builds the configuration of a client. It reads the kubeconfig files but connects to nothing. It
// returns ErrNotConfigured if neither a host nor a kubeconfig is given.
func (c Config) RESTConfig() (*rest.Config, error) {
	base := clientcmdapi.NewConfig()
	if c.Host == "" && len(c.ConfigPaths) == 0 {
		return nil, ErrNotConfigured
	}
	if len(c.ConfigPaths) > 0 {
		var paths []string
		for _, p := range c.ConfigPaths {
			p, err := expandHome(p)
			if err != nil {
				return nil, err
			}
			if _, err := os.Stat(p); err != nil {
				return nil, fmt.Errorf("reading the kubeconfig: %w", err)
			}
			paths = append(paths, p)
		}
		loaded, err := (&clientcmd.ClientConfigLoadingRules{Precedence: paths}).Load()
		if err != nil {
			return nil, fmt.Errorf("reading the kubeconfig: %w", err)
		}
		base = loaded
	}

	o := &clientcmd.ConfigOverrides{CurrentContext: c.Context}
	if c.ContextAuthInfo != "" || c.ContextCluster != "" {
		o.Context = clientcmdapi.Context{AuthInfo: c.ContextAuthInfo, Cluster: c.ContextCluster}
	}
	if c.Host != "" {
		// https unless the host says otherwise: a token must not be sent unencrypted.
		u, _, err := rest.DefaultServerURL(c.Host, "", schema.GroupVersion{}, true)
		if err != nil {
			return nil, fmt.Errorf("parsing the host %q: %w", c.Host, err)
		}
		o.ClusterInfo.Server = strings.TrimSuffix(u.String(), "/")
	}
	o.ClusterInfo.InsecureSkipTLSVerify = c.Insecure
	o.ClusterInfo.TLSServerName = c.TLSServerName
	o.ClusterInfo.CertificateAuthorityData = []byte(c.ClusterCACertificate)
	o.ClusterInfo.ProxyURL = c.ProxyURL
	o.AuthInfo.Username, o.AuthInfo.Password, o.AuthInfo.Token = c.Username, c.Password, c.Token
	o.AuthInfo.ClientCertificateData = []byte(c.ClientCertificate)
	o.AuthInfo.ClientKeyData = []byte(c.ClientKey)
	if c.Exec != nil {
		e := &clientcmdapi.ExecConfig{
			APIVersion:      c.Exec.APIVersion,
			Command:         c.Exec.Command,
			Args:            c.Exec.Args,
			InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		}
		for k, v := range c.Exec.Env {
			e.Env = append(e.Env, clientcmdapi.ExecEnvVar{Name: k, Value: v})
		}
		o.AuthInfo.Exec = e
	}

	// Not the deferred loader, because it falls back to the cluster that this process runs in.
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*base, c.Context, o, nil).ClientConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, fmt.Errorf("%w: %w", ErrNotConfigured, err)
		}
		return nil, fmt.Errorf("building the Kubernetes client configuration: %w", err)
	}
	cfg.UserAgent = c.UserAgent
	cfg.WrapTransport = c.Wrap
	// The API server's own priority and fairness limits clients
	// (kubernetes.io/docs/concepts/cluster-administration/flow-control). A limit on this side would make a plan
	// slow, and its error would hide what an operation was waiting for when it times out.
	cfg.QPS = -1
	return cfg, nil
}

func expandHome(p string) (string, error) {
	rest, ok := strings.CutPrefix(p, "~")
	if !ok || (rest != "" && !strings.HasPrefix(rest, "/")) {
		return p, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("expanding %q: %w", p, err)
	}
	return filepath.Join(home, rest), nil
}
