package acctest_test

import (
	"fmt"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// The documented roles are enough to grow volumes and to rebuild servers. A plan without the right to read storage
// classes warns and continues.
func TestAccRights_documentedRolesSufficeForVolumes(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	namespace, class := acctest.Namespace(t), acctest.ExpandableClass(t)
	acctest.StartResizer(t, namespace)
	main := func(role, size, onChange string) string {
		return fmt.Sprintf(`
terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
provider "consul" {
%s
}
resource "consul_k8s_cluster" "main" {
  name      = "consul"
  namespace = %q
  version   = %q
  storage   = { size = %q, class = %q, on_change = %q, retention = { when_deleted = "Delete" } }
%s
}
`, credential(t, namespace, role), namespace, acctest.ConsulVersion, size, class, onChange, acctest.Small)
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": main("apply", "1Gi", "grow")})
	cli.Setenv("KUBE_CONFIG_PATH", "") // the kubeconfig of the administrator
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")

	warned := acctest.Says("Could not check whether the volumes can grow")
	cli.Write("main.tf", main("plan", "2Gi", "grow"))
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 2 || !warned.MatchString(out) {
		t.Errorf("without the right to read classes, the plan does not warn and continue (exit code %d):\n%s", code, out)
	}
	clusterRole(t, namespace, "test-plan", "volumes")
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 2 || warned.MatchString(out) {
		t.Errorf("with the documented roles, the plan does not grow the volumes (exit code %d):\n%s", code, out)
	}

	cli.Write("main.tf", main("apply", "2Gi", "grow"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	cli.Write("main.tf", main("apply", "3Gi", "rebuild"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	if left := holdings(t, namespace); len(left) > 0 {
		t.Errorf("the destroy left %q", left)
	}
}
