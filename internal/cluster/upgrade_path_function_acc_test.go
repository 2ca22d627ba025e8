package cluster_test

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/tfversion"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// testUpgradePath calls the function in Terraform. It needs no cluster.
func testUpgradePath(t *testing.T, steps ...resource.TestStep) {
	t.Helper()
	test(t, resource.TestCase{
		TerraformVersionChecks: []tfversion.TerraformVersionCheck{tfversion.SkipBelow(tfversion.Version1_8_0)},
		Steps:                  steps,
	})
}

func callUpgradePath(arguments string) string {
	return "output \"steps\" {\n  value = provider::consul::upgrade_path(" + arguments + ")\n}\n"
}

func TestAccUpgradePath_returnsTheSteps(t *testing.T) {
	t.Parallel()
	returns := func(arguments string, want ...knownvalue.Check) resource.TestStep {
		return resource.TestStep{Config: callUpgradePath(arguments), ConfigStateChecks: []statecheck.StateCheck{
			statecheck.ExpectKnownOutputValue("steps", knownvalue.ListExact(want)),
		}}
	}
	testUpgradePath(t,
		returns(`"1.18.2", "1.22.7"`, knownvalue.StringExact("1.20.x"), knownvalue.StringExact("1.22.7")),
		returns(`"1.21.5", "2.0.3"`, knownvalue.StringExact("2.0.3")),
		returns(`"1.22.7", "1.22.7"`),
		resource.TestStep{
			Config: "resource \"terraform_data\" \"test\" {\n  input = \"1.22.7\"\n}\n" + callUpgradePath(`"1.18.2", terraform_data.test.output`),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectUnknownOutputValue("steps"),
			}},
		},
	)
}

func TestAccUpgradePath_refusals(t *testing.T) {
	t.Parallel()
	refuses := func(arguments, want string) resource.TestStep {
		return resource.TestStep{Config: callUpgradePath(arguments), PlanOnly: true, ExpectError: acctest.Says(want)}
	}
	testUpgradePath(t,
		refuses(`"1.22", "1.22.7"`, `"1.22" is not a semantic version of three numbers, such as "1.22.7"`),
		refuses(`"1.22.7", null`, "argument must not be null"),
		refuses(`"1.22.7", "1.21.0"`, "1.21.0 is older than 1.22.7, and Consul does not support downgrades"),
	)
}
