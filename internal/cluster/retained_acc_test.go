package cluster_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The plan of a new cluster with the name of a former one lists the volumes that it starts with, and refuses an older
// version. The cluster uses the namespace that the former one created.
func TestAccCluster_startsWithRetainedDataAndNeverBesideIt(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	namespace := acctest.NamespaceName(t)
	config := func(version string) string {
		return required + hcl(namespace, fmt.Sprintf(
			"  create_namespace = true\n  version = %q\n  storage = { size = \"1Gi\" }\n  update = { snapshot_before = false, server_timeout = "+
				"\"2m\" }\n",
			version,
		))
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config(acctest.ConsulVersion)})
	if out := cli.Must(t.Context(), "apply", "-auto-approve", "-no-color"); strings.Contains(out, "existing data") {
		t.Errorf("nothing exists, and the plan warns:\n%s", out)
	}
	if err := putKey(t, namespace, "greeting", "hello"); err != nil {
		t.Fatal(err)
	}

	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	cli.Write("main.tf", config(acctest.OlderVersion))
	out, code := cli.Run(t.Context(), "plan", "-no-color")
	if code == 0 ||
		!acctest.Says(
			"the volume claims data-consul-server-0, data-consul-server-1, data-consul-server-2 hold data of Consul "+acctest.ConsulVersion,
		).MatchString(
			unframed(out),
		) ||
		!acctest.Says(
			"kubectl -n "+namespace+" delete pvc data-consul-server-0 data-consul-server-1 data-consul-server-2",
		).MatchString(
			unframed(out),
		) {
		t.Errorf("an older version is not refused (exit code %d):\n%s", code, out)
	}
	cli.Write("main.tf", config(acctest.ConsulVersion))
	out = unframed(cli.Must(t.Context(), "apply", "-auto-approve", "-no-color"))
	for _, want := range []string{"data-consul-server-0 (1Gi, created", "data of Consul " + acctest.ConsulVersion} {
		if !acctest.Says(want).MatchString(out) {
			t.Errorf("the plan does not say %q:\n%s", want, out)
		}
	}
	if err := errors.Join(voters(t, namespace, 3)(nil), hasKey(t, namespace, "greeting", "hello")); err != nil {
		t.Error(err)
	}
	claim, err := acctest.Kube(t).CoreV1().PersistentVolumeClaims(namespace).Get(t.Context(), "data-consul-server-0", metav1.GetOptions{})
	if err != nil || claim.Annotations[server.AnnotationDataVersion] != acctest.ConsulVersion {
		t.Errorf("the claim is annotated with %v, %v", claim.Annotations, err)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}
