package cluster_test

import (
	"context"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// If Consul refuses its configuration, a create fails with Consul's words before there is a server, and leaves
// nothing. It waits for a volume that somebody has to create by hand, and gives that reason.
func TestAccCluster_createChecksItsConfiguration(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(extra string) string {
		return hcl(namespace, fmt.Sprintf("  version = %q\n  replicas = 1\n  create_namespace = true\n"+
			"  storage = { size = \"1Gi\", class = \"\", retention = { when_deleted = \"Delete\" } }\n  timeouts = { create = \"30s\" }\n  "+
			"extra_config = jsonencode(%s)\n",
			acctest.ConsulVersion, extra))
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": required + config(`{ log_level = "LOUD" }`)})
	out, code := cli.Run(t.Context(), "apply", "-auto-approve", "-no-color")
	if code != 1 || !acctest.Says("Invalid log level: LOUD").MatchString(out) || !acctest.Says("nothing was changed").MatchString(out) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	acctest.Wait(t, "the namespace to be deleted", func(ctx context.Context) (string, error) {
		_, err := acctest.Kube(t).CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		found, err := kube.Found(err)
		if err != nil || !found {
			return "", err
		}
		return "it is still there", nil
	})

	cli.Write("main.tf", required+config(`{ log_level = "debug" }`))
	out = cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if !acctest.Says("no storage class: it waits for a volume that a person or another tool creates").MatchString(out) {
		t.Errorf("the warning does not say what is missing:\n%s", out)
	}
	claim, err := acctest.Kube(t).CoreV1().PersistentVolumeClaims(namespace).Get(t.Context(), "data-consul-server-0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if class := claim.Spec.StorageClassName; class == nil || *class != "" {
		t.Errorf("the storage class of the claim is %v", class)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}
