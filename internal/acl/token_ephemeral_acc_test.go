package acl_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/tfversion"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/acctest"
)

// A short-lived token that cannot be made says what is missing, and where.
func TestAccTokenEphemeral_refusals(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	token := func(cluster, more string) string {
		return fmt.Sprintf("ephemeral \"consul_k8s_token\" \"a\" {\n  cluster = %q\n  %s\n}\n", cluster, more)
	}
	refused := func(hcl, says string) resource.TestStep {
		return resource.TestStep{Config: hcl, PlanOnly: true, ExpectError: acctest.Says(says)}
	}
	const unknown = "8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55"
	test(t, resource.TestCase{
		TerraformVersionChecks: []tfversion.TerraformVersionCheck{tfversion.SkipBelow(tfversion.Version1_10_0)},
		Steps: []resource.TestStep{
			refused(token(f.ID(), `policies = ["builtin/global-read-only", "nobody"]`), fmt.Sprintf(`policies: cluster %s has no policy "nobody". If the same apply makes it, refer to its attribute id`, f.ID())),
			refused(token(f.ID(), `policies = ["`+unknown+`"]`), fmt.Sprintf(`has no policy %q`, unknown)),
			refused(token(f.ID(), `roles = ["nobody"]`), `roles: cluster `+f.ID()+` has no role "nobody"`),
			refused(token(f.Namespace+"/other", `roles = ["nobody"]`), "Cannot create the token"),
			refused(token(f.ID(), `accessor_id = "`+unknown+`"`), "Cannot read the token"),
			{Config: token(f.ID(), `policies = ["builtin/global-read-only"]`)},
		},
	})
}
