package acl_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/tfversion"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// testFunction runs policy_rules in Terraform, with a provider without access to Kubernetes.
func testFunction(t *testing.T, steps ...resource.TestStep) {
	t.Helper()
	acctest.PreCheck(t)
	for _, env := range []string{"KUBE_CONFIG_PATH", "KUBE_CONFIG_PATHS", "KUBE_HOST"} {
		t.Setenv(env, "")
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: acctest.Factories(),
		TerraformVersionChecks:   []tfversion.TerraformVersionCheck{tfversion.SkipBelow(tfversion.Version1_8_0)},
		Steps:                    steps,
	})
}

func call(argument string) string {
	return fmt.Sprintf("output \"rules\" {\n  value = provider::consul::policy_rules(%s)\n}\n", argument)
}

func TestAccPolicyRules_returnsCanonicalHCL(t *testing.T) {
	const vault = `operator = "read"

key_prefix "vault/" {
  policy = "write"
}

service "vault" {
  policy     = "write"
  intentions = "read"
}
`
	returns := func(argument, want string) resource.TestStep {
		return resource.TestStep{Config: call(argument), ConfigStateChecks: []statecheck.StateCheck{
			statecheck.ExpectKnownOutputValue("rules", knownvalue.StringExact(want)),
		}}
	}
	testFunction(
		t,
		returns(
			`{ key_prefix = { "vault/" = "write" }, service = { vault = { policy = "write", intentions = "read" } }, operator = "read" }`,
			vault,
		),
		// The same in another form.
		returns(
			`{ operator = "read", service = { vault = { intentions = "read", policy = "write" } }, key_prefix = tomap({ "vault/" = { policy = "write" } }) }`,
			vault,
		),
		returns(`{ operator = null, acl = "read", key = null, node = { "a" = null }, service = { a = { policy = "read", intentions = null } } }`,
			"acl = \"read\"\n\nservice \"a\" {\n  policy = \"read\"\n}\n"),
		returns(`{}`, ""),
		returns(`{ key_prefix = {}, key = tomap({ a = "list" }) }`, "key \"a\" {\n  policy = \"list\"\n}\n"),
		returns("{ key = { \"a\\\"$${b}\\n\" = \"deny\" } }", "key \"a\\\"\\u0024{b}\\n\" {\n  policy = \"deny\"\n}\n"),
	)
}

func TestAccPolicyRules_waitsForWhatIsUnknown(t *testing.T) {
	config := func(argument string) string {
		return "resource \"terraform_data\" \"test\" {\n  input = \"write\"\n}\n" + call(argument)
	}
	const unknown = "terraform_data.test.output"
	for _, argument := range []string{
		`{ operator = ` + unknown + ` }`, `{ key = { "a" = ` + unknown + ` } }`, `{ key = { "a" = { policy = ` + unknown + ` } } }`,
	} {
		testFunction(t, resource.TestStep{
			Config: config(argument),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectUnknownOutputValue("rules"),
			}},
		})
	}
}

func TestAccPolicyRules_refusals(t *testing.T) {
	refuses := func(argument, want string) resource.TestStep {
		return resource.TestStep{Config: call(argument), PlanOnly: true, ExpectNonEmptyPlan: true, ExpectError: acctest.Says(want)}
	}
	testFunction(
		t,
		refuses(`"read"`, `rules: expected an object of resources`),
		refuses(`null`, `argument must not be null`),
		refuses(`["read"]`, `rules: expected an object of resources`),
		refuses(
			`{ key_prefx = { "a" = "read" } }`,
			`rules.key_prefx: there is no resource key_prefx, and Consul would silently ignore it: did you mean key_prefix?`,
		),
		refuses(
			`{ key_prefx = {}, operator = "list" }`,
			`did you mean key_prefix? rules.operator: operator: policy cannot be "list"`,
		), // all at once
		refuses(`{ namespace = { "a" = "read" } }`, `rules.namespace: namespace requires Consul Enterprise`),
		refuses(`{ operator = "list" }`, `rules.operator: operator: policy cannot be "list"`),
		refuses(`{ operator = "" }`, `rules.operator: operator has no policy`),
		refuses(`{ operator = { policy = "read" } }`, `rules.operator: expected a disposition, such as "read"`),
		refuses(`{ operator = true }`, `rules.operator: expected a disposition, such as "read"`),
		refuses(`{ key = "read" }`, `rules.key: expected a map from segments to dispositions`),
		refuses(
			`{ key = { "a/" = "raed" } }`,
			`rules.key["a/"]: key "a/": policy cannot be "raed": it must be "read", "list", "write" or "deny"`,
		),
		refuses(`{ key = { "a/" = ["read"] } }`, `rules.key["a/"]: expected a disposition, or an object with policy and intentions`),
		refuses(`{ key = { "a/" = {} } }`, `rules.key["a/"]: key "a/" has no policy`),
		refuses(
			`{ key = { "a/" = { polcy = "read" } } }`,
			`rules.key["a/"].polcy: there is no such attribute: use policy and, for services, intentions`,
		),
		refuses(`{ key = { "a/" = { policy = ["read"] } } }`, `rules.key["a/"].policy: expected a disposition, such as "read"`),
		refuses(`{ key = { "a/" = { policy = "read", intentions = "read" } } }`, `rules.key["a/"]: key "a/" does not support intentions`),
		refuses(`{ service = { a = { policy = "read", intentions = "list" } } }`, `rules.service["a"]: service "a": intentions cannot be "list"`),
	)
}
