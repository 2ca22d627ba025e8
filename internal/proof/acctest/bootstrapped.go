package acctest

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Bootstrapped starts a cluster of one server in its own namespace, without Terraform, and bootstraps its ACLs. It
// returns access to the cluster and the management token. changes may change the spec. The namespace is deleted when
// the test ends. The test is skipped unless acceptance tests are enabled.
func Bootstrapped(t testing.TB, version string, changes ...func(*server.Spec)) (c *consul.Cluster, token string) {
	t.Helper()
	PreCheck(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, token, err := startBootstrapped(ctx, Kube(t), Namespace(t), version, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return c, token
}

func startBootstrapped(
	ctx context.Context,
	k *kube.Client,
	namespace, version string,
	changes ...func(*server.Spec),
) (c *consul.Cluster, token string, err error) {
	spec := server.Spec{
		Name: "consul", Namespace: namespace,
		Version: version, Image: "docker.io/hashicorp/consul:" + version, Replicas: 1,
		Datacenter: "dc1", Domain: "consul",
		Storage: server.Storage{Size: resource.MustParse("1Gi"), WhenDeleted: server.Delete, WhenScaled: server.Delete},
		Resources: server.Resources{
			Requests: map[string]resource.Quantity{"cpu": resource.MustParse("20m"), "memory": resource.MustParse("64Mi")},
		},
		Placement:   server.Placement{AntiAffinity: server.AntiAffinityRequired},
		Performance: server.Performance{RaftMultiplier: 1, LeaveDrainTime: 5 * time.Second, RPCHoldTimeout: 7 * time.Second},
		Autopilot:   server.DefaultAutopilot,
		Update:      server.DefaultUpdate,
		Service:     server.Service{Type: "ClusterIP"},
		ACL:         server.ACL{Enabled: true, DefaultPolicy: "deny"},
	}
	for _, change := range changes {
		change(&spec)
	}
	for _, o := range server.Objects(spec).All() {
		fields, err := server.Fields(o)
		if err != nil {
			return nil, "", err
		}
		if err := k.Apply(ctx, fields); err != nil {
			return nil, "", err
		}
	}
	c = consul.NewConnector(k).Cluster(spec.Namespace, spec.Name)
	if _, err := consulacl.EnsureBootstrap(
		ctx, c, consulacl.SecretRef{Name: "consul-bootstrap-token", Key: "token"}, consulacl.BootstrapOptions{},
	); err != nil {
		return nil, "", err
	}
	token, _, err = consulacl.ManagementToken(ctx, c)
	return c, token, err
}
