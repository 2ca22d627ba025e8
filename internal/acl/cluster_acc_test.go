package acl_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

const requiredProviders = `terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
`

// A cluster that no resource creates is most likely a typo. One that the same apply creates, and that the
// configuration refers to, is not.
func TestAccACLObjects_planWarnsOnceOfAClusterThatNothingCreates(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t) // it does not exist
	policies := func(cluster string) (hcl string) {
		for i := range 3 {
			hcl += fmt.Sprintf("resource \"consul_k8s_policy\" \"p%d\" {\n  cluster = %s\n  name = \"p%d\"\n  rules = \"\"\n}\n", i, cluster, i)
		}
		return hcl
	}
	bootstrap := func(cluster string) string {
		return fmt.Sprintf("resource \"consul_k8s_acl_bootstrap\" \"test\" {\n  cluster = %s\n}\n", cluster)
	}
	const warning, ofBootstrap = "There is no such cluster", "consul_k8s_acl_bootstrap.test.cluster"
	cluster, typo := clusterHCL(namespace, "  acl = { enabled = true }\n"), fmt.Sprintf("%q", namespace+"/typo")
	for name, c := range map[string]struct {
		hcl      string
		warnings int
	}{
		"objects":                {policies(typo), 1},
		"a bootstrap":            {bootstrap(typo) + policies(ofBootstrap), 1},
		"beside another cluster": {cluster + bootstrap("consul_k8s_cluster.test.id") + policies(typo), 1},
		"of the same apply":      {cluster + bootstrap("consul_k8s_cluster.test.id") + policies(ofBootstrap), 0},
		"ACLs not known yet": {"resource \"terraform_data\" \"on\" {\n  input = true\n}\n" +
			clusterHCL(namespace, "  acl = { enabled = terraform_data.on.output }\n") + bootstrap("consul_k8s_cluster.test.id"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			out := acctest.NewCLI(t, map[string]string{"main.tf": requiredProviders + c.hcl}).Must(t.Context(), "plan", "-no-color")
			if got := strings.Count(out, warning); got != c.warnings {
				t.Errorf("%d warnings instead of %d:\n%s", got, c.warnings, out)
			}
		})
	}
}

func TestAccACLBootstrap_planRefusesAClusterWithoutACLs(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	bootstrap := "resource \"consul_k8s_acl_bootstrap\" \"test\" {\n  cluster = consul_k8s_cluster.test.id\n}\n"
	refused := acctest.Says(
		`Cluster ` + namespace + `/consul has no ACLs to bootstrap: set acl = { enabled = true, default_policy = "allow" }`,
	)
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: clusterHCL(namespace, "") + bootstrap, PlanOnly: true, ExpectNonEmptyPlan: true, ExpectError: refused},
		{
			Config:             clusterHCL(namespace, "  acl = { enabled = false }\n") + bootstrap,
			PlanOnly:           true,
			ExpectNonEmptyPlan: true,
			ExpectError:        refused,
		},
		{Config: clusterHCL(namespace, "  acl = { enabled = true }\n") + bootstrap, PlanOnly: true, ExpectNonEmptyPlan: true},
	}})
}
