package acl_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// A Secret of somebody else is refused, with the possible fixes. One of them is to label it, and then its other keys
// are kept.
func TestAccToken_deliversToALabeledSecretOfSomebodyElse(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	_, err := acctest.Kube(t).CoreV1().Secrets(f.Namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, StringData: map[string]string{"password": "theirs"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const managedBy, component = "app.kubernetes.io/managed-by", "app.kubernetes.io/component"
	const provider, ofTokens = "terraform-provider-consul-k8s", "acl-token"
	hcl := f.tokenHCL("a", `secret = { name = "theirs" }`)
	theirs := func(*terraform.State) error { return same(f.secret("theirs", "password"), "theirs") }
	test(t, resource.TestCase{
		CheckDestroy: func(s *terraform.State) error {
			return errors.Join(theirs(s), same(f.secret("theirs", "token"), ""))
		},
		Steps: []resource.TestStep{
			{
				Config:             hcl,
				PlanOnly:           true,
				ExpectNonEmptyPlan: true,
				ExpectError: acctest.Says(
					fmt.Sprintf("kubectl label secret -n %s theirs %s=%s %s=%s", f.Namespace, managedBy, provider, component, ofTokens),
				),
			},
			{
				PreConfig: f.patchSecret("theirs", fmt.Sprintf(`{"metadata":{"labels":{%q:%q,%q:%q}}}`, managedBy, provider, component, ofTokens)),
				Config:    hcl,
				Check: resource.ComposeTestCheckFunc(theirs, func(*terraform.State) error {
					known, err := f.knows(f.secret("theirs", "token"))
					if err == nil && !known {
						err = errors.New("the key does not hold a token of the cluster")
					}
					return err
				}),
			},
			{Config: hcl, PlanOnly: true},
			{ // an existing key is never written
				Config: hcl + f.tokenHCL(
					"b",
					`secret = { name = "theirs", key = "password" }`,
				), PlanOnly: true, ExpectNonEmptyPlan: true, ExpectError: acctest.Says("its key password, exists, and this provider did not create it"),
			},
		},
	})
	if _, err := acctest.Kube(t).CoreV1().Secrets(f.Namespace).Get(context.Background(), "theirs", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// Kubernetes cannot change the type of a Secret, so the Secret is created again with the same token, unless it has
// keys of others.
func TestAccToken_changesTheTypeOfItsSecret(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	hcl := func(secretType string) string {
		return f.tokenHCL("a", fmt.Sprintf("secret = { name = \"x\", type = %q }", secretType))
	}
	before := ""
	holds := func(secretType string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			s, err := acctest.Kube(t).CoreV1().Secrets(f.Namespace).Get(context.Background(), "x", metav1.GetOptions{})
			if err != nil {
				return err
			}
			return errors.Join(same(string(s.Type), secretType), same(string(s.Data["token"]), before))
		}
	}
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: hcl("Opaque"), Check: func(*terraform.State) error {
			before = f.secret("x", "token")
			return nil
		}},
		{
			Config: hcl("example.com/x"),
			ConfigPlanChecks: resource.ConfigPlanChecks{
				PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(tokenAddress, plancheck.ResourceActionUpdate)},
			},
			Check: holds("example.com/x"),
		},
		{Config: hcl("example.com/x"), PlanOnly: true},
		{
			PreConfig: f.patchSecret("x", `{"stringData":{"password":"theirs"}}`),
			Config:    hcl("example.com/y"),
			ExpectError: acctest.Says(
				"the type of Secret " + f.Namespace + "/x is example.com/x and cannot be changed to example.com/y while it has keys of others",
			),
		},
		{Config: hcl("example.com/x"), Check: resource.ComposeTestCheckFunc(holds("example.com/x"), func(*terraform.State) error {
			return same(f.secret("x", "password"), "theirs")
		})},
	}})
}

// What another resource of this or another configuration has is refused at plan: its token, its accessor ID, or its
// key of a Secret.
func TestAccToken_takesNothingOfOthers(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	const chosen, anonymous = "8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55", "00000000-0000-0000-0000-000000000002"
	f.do(func(acl *api.ACL) error {
		_, _, err := acl.TokenUpdate(&api.ACLToken{AccessorID: anonymous, Policies: []*api.ACLLink{{Name: "builtin/global-read-only"}}}, nil)
		return err
	})
	theirs := acctest.NewCLI(
		t,
		map[string]string{"main.tf": requiredProviders + f.tokenHCL("a", fmt.Sprintf("accessor_id = %q\nsecret = { name = \"x\" }", chosen))},
	)
	theirs.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	before := f.secret("x", "token")

	for hcl, says := range map[string]string{
		f.tokenHCL("b", fmt.Sprintf("accessor_id = %q", chosen)): "accessor_id: import it: terraform import " +
			"consul_k8s_token.<name> '" + f.ID() + "/" + chosen + "'",
		f.tokenHCL("b", `secret = { name = "x" }`): fmt.Sprintf("the key token of Secret %s/x holds the token %s of cluster %s. Choose "+
			"another name or key. If it is this very token, import it: terraform import consul_k8s_token.<name> '%s/%s'",
			f.Namespace, chosen, f.ID(), f.ID(), chosen),
		f.tokenHCL(
			"b", "accessor_id = \"9f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55\"",
		) + f.tokenHCL(
			"c", "accessor_id = \"9f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55\"",
		): "declares the token 9f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55 too. Remove one of the two.",
	} {
		out, code := acctest.NewCLI(t, map[string]string{"main.tf": requiredProviders + hcl}).Run(t.Context(), "plan", "-no-color")
		if code == 0 || !acctest.Says(says).MatchString(out) {
			t.Errorf("the plan ended with exit code %d and does not say %q:\n%s", code, says, out)
		}
	}
	out := acctest.NewCLI(
		t,
		map[string]string{"main.tf": requiredProviders + f.tokenHCL("b", fmt.Sprintf("accessor_id = %q", anonymous))},
	).Must(
		t.Context(),
		"plan",
		"-no-color",
	)
	if says := "The declared rights replace the rights that the token has in " + f.ID() + `: policy "builtin/global-read-only". To see each change in a plan, import the token first: terraform import consul_k8s_token.<name> '` + f.ID() + `/anonymous'`; !acctest.Says(
		says,
	).MatchString(
		out,
	) {
		t.Errorf("the plan does not say %q:\n%s", says, out)
	}
	if known, err := f.knows(before); err != nil || !known || f.secret("x", "token") != before {
		t.Errorf("the token of the other configuration is known: %t, %v", known, err)
	}
}
