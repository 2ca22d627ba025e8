package acl_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/compare"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	"github.com/hashicorp/terraform-plugin-testing/tfversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

const tokenAddress = "consul_k8s_token.a"

// knows reports whether Consul knows a secret ID.
func (f fixture) knows(secretID string) (bool, error) {
	err := f.Any(context.Background(), secretID, func(client *api.Client) error {
		_, _, err := client.ACL().TokenReadSelf(nil)
		return err
	})
	if consul.IsUnknownToken(err) {
		return false, nil
	}
	return err == nil, err
}

// userTokens counts the tokens that neither Consul nor the bootstrap created.
func (f fixture) userTokens(want int) resource.TestCheckFunc {
	return f.check(func(acl *api.ACL) error {
		list, _, err := acl.TokenList(nil)
		var found []string
		for _, t := range list {
			if t.AccessorID != consulacl.AnonymousAccessorID && t.AccessorID != consulacl.AgentTokenAccessor(f.Cluster, 0) && t.SecretID != f.token {
				found = append(found, t.AccessorID)
			}
		}
		if err == nil && len(found) != want {
			err = fmt.Errorf("there are %d tokens instead of %d: %v", len(found), want, found)
		}
		return err
	})
}

func TestAccToken_rotation(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	before := ""
	hcl := func(more string) string {
		return f.tokenHCL("a", "service_identities = [{ service_name = \"web\" }]\nsecret = { name = \"web\" }\n"+more)
	}
	rotated := func(*terraform.State) error {
		after := f.secret("web", "token")
		old, err := f.knows(before)
		if err != nil {
			return err
		}
		fresh, err := f.knows(after)
		if err != nil || old || !fresh || after == before {
			return fmt.Errorf("the former token is known: %t, the one in the Secret: %t, changed: %t, %w", old, fresh, after != before, err)
		}
		before = after
		return nil
	}
	accessor := statecheck.CompareValue(compare.ValuesDiffer())
	differs := func() []statecheck.StateCheck {
		return []statecheck.StateCheck{accessor.AddStateValue(tokenAddress, tfjsonpath.New("accessor_id"))}
	}
	test(t, resource.TestCase{
		CheckDestroy: f.userTokens(0),
		Steps: []resource.TestStep{
			{Config: hcl(""), ConfigStateChecks: differs(), Check: func(*terraform.State) error {
				before = f.secret("web", "token")
				return nil
			}},
			{ // a rotation that was just declared is not due
				Config: hcl(`rotation = { trigger = "1", after = "720h", grace_period = "1s" }`),
				ConfigPlanChecks: resource.ConfigPlanChecks{
					PreApply: []plancheck.PlanCheck{plancheck.ExpectKnownValue(tokenAddress, tfjsonpath.New("accessor_id"), knownvalue.NotNull())},
				},
				Check: func(*terraform.State) error { return same(f.secret("web", "token"), before) },
			},
			{
				Config:            hcl(`rotation = { trigger = "2", after = "720h", grace_period = "1s" }`),
				ConfigStateChecks: differs(),
				Check:             resource.ComposeTestCheckFunc(rotated, f.userTokens(1)),
			},
			{Config: hcl(`rotation = { trigger = "2", after = "720h", grace_period = "1s" }`), PlanOnly: true},
			{Config: hcl("local = true\nrotation = { trigger = \"2\", grace_period = \"1s\" }"), ConfigStateChecks: differs(), Check: rotated},
			{
				Config:            hcl("local = true\nexpiration_ttl = \"2h\"\nrotation = { trigger = \"2\", grace_period = \"1s\" }"),
				ConfigStateChecks: differs(),
				Check:             rotated,
			},
			{Config: hcl("local = true\nexpiration_ttl = \"120m\"\nrotation = { trigger = \"2\", grace_period = \"1s\" }"), PlanOnly: true},
			{Config: hcl(`rotation = { trigger = "2", grace_period = "1s" }`), ConfigStateChecks: differs(), Check: rotated},
		},
	})
}

// A token that is older than rotation.after is rotated by the next apply.
func TestAccToken_rotatesByAge(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	hcl := f.tokenHCL("a", `secret = { name = "web" }
  rotation = { after = "1m", grace_period = "0s" }`)
	before := ""
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: hcl, Check: func(*terraform.State) error {
			before = f.secret("web", "token")
			return nil
		}},
		{
			PreConfig: func() {
				acctest.Wait(t, "the token to be older than a minute", func(context.Context) (string, error) {
					var age time.Duration
					f.do(func(acl *api.ACL) error {
						token, _, err := acl.TokenRead(
							consulacl.AccessorFor(f.Cluster, consulacl.Target{Namespace: f.Namespace, Name: "web", Key: "token"}),
							nil,
						)
						if err == nil {
							age = time.Since(token.CreateTime)
						}
						return err
					})
					if age < time.Minute {
						return age.String(), nil
					}
					return "", nil
				})
			},
			Config: hcl,
			Check: func(*terraform.State) error {
				if known, err := f.knows(before); err != nil || known || f.secret("web", "token") == before {
					return fmt.Errorf("the token was not rotated: %t, %w", known, err)
				}
				return nil
			},
		},
	}})
}

// The provider is killed during the grace period: both tokens stay valid. The next apply resumes with the same new
// token.
func TestAccLong_resumesAKilledRotation(t *testing.T) {
	f := bootstrapped(t)
	hcl := func(trigger, grace string) string {
		return `terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
` + f.tokenHCL("a", fmt.Sprintf("secret = { name = \"web\" }\nrotation = { trigger = %q, grace_period = %q }", trigger, grace))
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": hcl("1", "1m")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	old := f.secret("web", "token")
	cli.Write("main.tf", hcl("2", "1m"))
	killed, out := cli.RunAndKill(t.Context(), "apply", func(context.Context) bool { return f.secret("web", "token") != old })
	if !killed {
		t.Fatalf("the apply ended before it could be killed: %s", out)
	}
	delivered := f.secret("web", "token")
	if known, err := f.knows(old); err != nil || !known {
		t.Fatalf("the former token was revoked too early: %t, %v", known, err)
	}
	cli.Write("main.tf", hcl("2", "1s"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if err := same(f.secret("web", "token"), delivered); err != nil {
		t.Error("another token was delivered")
	}
	if known, err := f.knows(old); err != nil || known {
		t.Errorf("the former token is still known: %t, %v", known, err)
	}
	if err := f.userTokens(1)(nil); err != nil {
		t.Error(err)
	}
	cli.Must(t.Context(), "plan", "-detailed-exitcode", "-no-color")

	// A rotation that was killed and then reverted leaves no token behind.
	cli.Write("main.tf", hcl("3", "1m"))
	if killed, out := cli.RunAndKill(
		t.Context(), "apply", func(context.Context) bool { return f.secret("web", "token") != delivered },
	); !killed {
		t.Fatalf("the apply ended before it could be killed: %s", out)
	}
	cli.Write("main.tf", hcl("2", "1m"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if err := same(f.secret("web", "token"), delivered); err != nil {
		t.Error("the former token was not delivered again")
	}
	if err := f.userTokens(1)(nil); err != nil {
		t.Error(err)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	if err := f.userTokens(0)(nil); err != nil {
		t.Error(err)
	}
}

// No object leaves the state, and no destroy succeeds, because of a credential that Consul does not know or that
// lacks the right.
func TestAccACLObjects_stayInTheStateWithABadCredential(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	var weak string
	f.do(func(acl *api.ACL) error {
		p, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "weak", Rules: `acl = "read"`}, nil)
		if err != nil {
			return err
		}
		token, _, err := acl.TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: p.ID}}}, nil)
		if err == nil {
			weak = token.SecretID
		}
		return err
	})
	f.cleanUp()
	hcl := f.policy(
		"a",
		"name = \"a\"\nrules = \"operator = \\\"read\\\"\"",
	) + f.role(
		"a",
		`name = "a"`,
	) + f.tokenHCL(
		"a",
		`policies = [consul_k8s_policy.a.name]
  secret = { name = "web" }`,
	) + f.authMethod(
		"pods",
		`type = "kubernetes"`,
	) + f.bindingRule(
		"a",
		`auth_method = consul_k8s_auth_method.pods.name
  bind_type = "role"
  bind_name = consul_k8s_role.a.name`,
	)
	use := func(token string) func() {
		return f.patchSecret("consul-bootstrap-token", fmt.Sprintf(`{"stringData":{"token":%q}}`, token))
	}
	all := func(s *terraform.State) error {
		if n := len(s.RootModule().Resources); n != 5 {
			return fmt.Errorf("%d of 5 resources are in the state", n)
		}
		return f.userTokens(2)(s)
	}
	const dead = "11111111-2222-3333-4444-555555555555"
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: hcl},
		{PreConfig: use(dead), Config: hcl, PlanOnly: true},
		{RefreshState: true, Check: all},
		{Config: hcl, Destroy: true, ExpectError: acctest.Says("Consul does not know the one in the Secret")},
		{Config: hcl + f.policy("b", "name = \"b\"\nrules = \"\""), ExpectError: acctest.Says("Consul does not know the one in the Secret")},
		{PreConfig: use(weak), Config: hcl, PlanOnly: true},
		{RefreshState: true, Check: all},
		{Config: hcl, Destroy: true, ExpectError: acctest.Says("lacks the right acl:write")},
		{
			Config:             hcl + f.policy("b", "name = \"b\"\nrules = \"\""),
			PlanOnly:           true,
			ExpectNonEmptyPlan: true,
			ExpectError:        acctest.Says("lacks the right acl:write"),
		},
		{PreConfig: use(f.token), Config: hcl, PlanOnly: true},
		{RefreshState: true, Check: all},
		{ // servers that do not answer: the state is kept too
			PreConfig: func() {
				err := acctest.Kube(t).CoreV1().Pods(f.Namespace).Delete(t.Context(), "consul-server-0", metav1.DeleteOptions{})
				if err != nil {
					t.Fatal(err)
				}
			},
			RefreshState: true,
			Check: func(s *terraform.State) error { // Consul itself cannot be asked
				if n := len(s.RootModule().Resources); n != 5 {
					return fmt.Errorf("%d of 5 resources are in the state", n)
				}
				return nil
			},
		},
		{
			PreConfig: func() {
				acctest.Wait(t, "the server to come back", func(ctx context.Context) (string, error) { return consul.Missing(ctx, f.Cluster, f.token, 1, 0) })
			},
			RefreshState: true, Check: all,
		},
		{Config: hcl, PlanOnly: true},
	}})
}

func TestAccToken_chosenSecretAndExpiry(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	const first, second = "0f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c01", "0f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c02"
	hcl := func(secretID, version string) string {
		return f.tokenHCL(
			"a",
			fmt.Sprintf(
				"secret_id_wo = %q\nsecret_id_wo_version = %q\nsecret = { name = \"web\" }\nrotation = { grace_period = \"1s\" }",
				secretID,
				version,
			),
		)
	}
	short := f.tokenHCL("b", "expiration_ttl = \"1m\"\nsecret = { name = \"short\" }")
	test(t, resource.TestCase{
		TerraformVersionChecks: []tfversion.TerraformVersionCheck{tfversion.SkipBelow(tfversion.Version1_11_0)},
		CheckDestroy:           f.userTokens(0),
		Steps: []resource.TestStep{
			{Config: hcl(first, "1"), Check: func(s *terraform.State) error {
				if strings.Contains(s.String(), first) {
					return errors.New("the chosen secret ID is in the state")
				}
				return same(f.secret("web", "token"), first)
			}},
			{Config: hcl(second, "1"), PlanOnly: true}, // only the version counts
			{
				Config: hcl(second, "2"),
				Check: func(*terraform.State) error {
					if known, err := f.knows(first); err != nil || known {
						return fmt.Errorf("the former secret ID is known: %t, %w", known, err)
					}
					return same(f.secret("web", "token"), second)
				},
			},
			{Config: short},
			{ // an expired token is created again
				PreConfig: func() {
					expired := f.secret("short", "token")
					acctest.Wait(t, "the token to expire", func(context.Context) (string, error) {
						known, err := f.knows(expired)
						if known {
							return "it is valid", err
						}
						return "", err
					})
				},
				Config: short,
				Check: func(*terraform.State) error {
					if known, err := f.knows(f.secret("short", "token")); err != nil || !known {
						return fmt.Errorf("the new token is known: %t, %w", known, err)
					}
					return nil
				},
			},
		},
	})
}

// A secret ID that is chosen for a token with another one rotates it, however the token was created. If it is the
// token's own, as after an import, it is only recorded, even if the plan does not know it yet.
func TestAccToken_aSecretIDThatIsChosenLater(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	const first, second, third = "4f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c01", "4f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c02", "4f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c03"
	imported := map[string]string{}
	f.do(func(acl *api.ACL) error {
		for name, secretID := range map[string]string{"b": second, "c": third} {
			token, _, err := acl.TokenCreate(&api.ACLToken{SecretID: secretID}, nil)
			if err != nil {
				return err
			}
			imported[name] = token.AccessorID
		}
		return nil
	})
	importing := func(name string) string {
		return fmt.Sprintf("import {\n  to = consul_k8s_token.%s\n  id = \"%s/%s\"\n}\n", name, f.ID(), imported[name])
	}
	hcl := func(name, chosen string) string {
		if chosen != "" {
			chosen = "\nsecret_id_wo = " + chosen + "\nsecret_id_wo_version = \"1\""
		}
		return f.tokenHCL(name, fmt.Sprintf("secret = { name = %q }\nrotation = { grace_period = \"0s\" }", name)+chosen)
	}
	generated := ""
	keeps := func(name string) resource.TestCheckFunc {
		return func(s *terraform.State) error {
			return same(s.RootModule().Resources["consul_k8s_token."+name].Primary.ID, imported[name])
		}
	}
	test(t, resource.TestCase{
		TerraformVersionChecks: []tfversion.TerraformVersionCheck{tfversion.SkipBelow(tfversion.Version1_11_0)},
		CheckDestroy:           f.userTokens(0),
		Steps: []resource.TestStep{
			{Config: hcl("a", ""), Check: func(*terraform.State) error {
				generated = f.secret("a", "token")
				return nil
			}},
			{
				Config: hcl("a", `"`+first+`"`),
				Check: resource.ComposeTestCheckFunc(func(*terraform.State) error {
					if known, err := f.knows(generated); err != nil || known {
						return fmt.Errorf("the generated secret ID is known: %t, %w", known, err)
					}
					return same(f.secret("a", "token"), first)
				}, f.userTokens(3)),
			},
			{Config: hcl("a", `"`+first+`"`), PlanOnly: true},
			{
				Config: hcl("a", "") + hcl("b", `"`+second+`"`) + importing("b"),
				Check:  resource.ComposeTestCheckFunc(keeps("b"), func(*terraform.State) error { return same(f.secret("b", "token"), second) }),
			},
			{ // the secret ID is known only during the apply
				Config: hcl("a", "") + hcl("b", "") + "resource \"terraform_data\" \"last\" {\n  input = \"3\"\n}\n" +
					hcl("c", `"`+strings.TrimSuffix(third, "3")+`${terraform_data.last.output}"`) + importing("c"),
				Check: resource.ComposeTestCheckFunc(
					keeps("b"),
					keeps("c"),
					func(*terraform.State) error { return same(f.secret("c", "token"), third) },
					f.userTokens(3),
				),
			},
		},
	})
}

// A token expires at the declared time, and is left alone until then. Once it has expired, a plan asks for another
// time. Removing the time rotates the token.
func TestAccToken_expirationTime(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	soon, later := time.Now().Add(2*time.Minute).UTC(), time.Now().Add(2*time.Hour).UTC()
	hcl := func(expiry string) string {
		return f.tokenHCL("a", expiry+"\nsecret = { name = \"web\" }\nrotation = { grace_period = \"0s\" }")
	}
	at := func(expires time.Time) string {
		return hcl(fmt.Sprintf("expiration_time = %q", expires.Format(time.RFC3339)))
	}
	expires := func(want func(api.ACLToken) bool) resource.TestCheckFunc {
		return func(*terraform.State) error {
			return f.Any(context.Background(), f.secret("web", "token"), func(client *api.Client) error {
				self, _, err := client.ACL().TokenReadSelf(nil)
				if err == nil && !want(*self) {
					err = fmt.Errorf("the token expires at %v", self.ExpirationTime)
				}
				return err
			})
		}
	}
	isAt := func(want time.Time) resource.TestCheckFunc {
		return expires(func(t api.ACLToken) bool {
			return t.ExpirationTime != nil && t.ExpirationTime.Equal(want.Truncate(time.Second))
		})
	}
	accessor := statecheck.CompareValue(compare.ValuesDiffer())
	differs := func() []statecheck.StateCheck {
		return []statecheck.StateCheck{accessor.AddStateValue(tokenAddress, tfjsonpath.New("accessor_id"))}
	}
	test(t, resource.TestCase{
		CheckDestroy: f.userTokens(0),
		Steps: []resource.TestStep{
			{Config: at(soon), Check: isAt(soon)},
			{
				PreConfig: func() {
					expired := f.secret("web", "token")
					acctest.Wait(t, "the token to expire", func(context.Context) (string, error) {
						if known, err := f.knows(expired); known || err != nil {
							return "it is valid", err
						}
						return "", nil
					})
				},
				Config: at(soon), ExpectError: acctest.Says("expiration_time: " + soon.Format(time.RFC3339) + " has passed"),
			},
			{Config: at(later), Check: isAt(later), ConfigStateChecks: differs()},
			{Config: at(later), PlanOnly: true},
			{Config: hcl(""), Check: expires(func(t api.ACLToken) bool { return t.ExpirationTime == nil }), ConfigStateChecks: differs()},
			{Config: hcl(""), PlanOnly: true},
			{ // more than 24 hours, the maximum according to Consul's documentation
				Config: hcl(`expiration_ttl = "720h"`), ConfigStateChecks: differs(),
				Check: expires(func(t api.ACLToken) bool {
					return t.ExpirationTime != nil && time.Until(*t.ExpirationTime) > 719*time.Hour
				}),
			},
		},
	})
}

func TestAccToken_anonymous(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	hcl := f.policy("a", "name = \"anonymous\"\nrules = \"key_prefix \\\"public/\\\" { policy = \\\"read\\\" }\"") +
		f.tokenHCL(
			"a",
			"accessor_id = \"00000000-0000-0000-0000-000000000002\"\ndescription = \"Anonymous Token\"\npolicies = [consul_k8s_policy.a.name]",
		)
	mayRead := func(want bool) resource.TestCheckFunc {
		return func(*terraform.State) error {
			err := f.Any(context.Background(), "", func(client *api.Client) error {
				_, _, err := client.KV().Get("public/x", nil)
				return err
			})
			if (err == nil) != want || (err != nil && !consul.IsForbidden(err)) {
				return fmt.Errorf("an anonymous read was answered with %w", errors.Join(err, errors.New("unexpectedly")))
			}
			return nil
		}
	}
	test(t, resource.TestCase{
		CheckDestroy: mayRead(false),
		Steps: []resource.TestStep{
			{Config: hcl, Check: mayRead(true)},
			{Config: hcl, PlanOnly: true},
			{ResourceName: tokenAddress, ImportState: true, ImportStateId: f.ID() + "/anonymous", ImportStateVerify: true},
		},
	})
}

// Import of a token with a new delivery delivers it, and does nothing else.
func TestAccToken_importDelivers(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	var existing, other *api.ACLToken
	f.do(func(acl *api.ACL) (err error) {
		existing, _, err = acl.TokenCreate(
			&api.ACLToken{Description: "theirs", ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: "web"}}},
			nil,
		)
		if err == nil {
			other, _, err = acl.TokenCreate(&api.ACLToken{Description: "other"}, nil)
		}
		return err
	})
	imported := fmt.Sprintf("import {\n  to = %s\n  id = \"%s/%s\"\n}\n", tokenAddress, f.ID(), existing.AccessorID)
	plain := f.tokenHCL("a", "description = \"theirs\"\nservice_identities = [{ service_name = \"web\" }]")
	delivering := f.tokenHCL(
		"a",
		"description = \"theirs\"\nservice_identities = [{ service_name = \"web\" }]\nsecret = { name = \"web\" }\nrotation = { trigger "+
			"= \"1\" }",
	)
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{
			Config: imported + plain,
			ConfigPlanChecks: resource.ConfigPlanChecks{
				PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(tokenAddress, plancheck.ResourceActionNoop)},
			},
		},
		{Config: delivering, Check: func(*terraform.State) error { return same(f.secret("web", "token"), existing.SecretID) }},
		{Config: delivering, PlanOnly: true},
		{ // imported and delivered by one apply
			Config: delivering + f.tokenHCL("b", "description = \"other\"\nsecret = { name = \"other\" }") +
				fmt.Sprintf("import {\n  to = consul_k8s_token.b\n  id = \"%s/%s\"\n}\n", f.ID(), other.AccessorID),
			ConfigPlanChecks: resource.ConfigPlanChecks{
				PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction("consul_k8s_token.b", plancheck.ResourceActionUpdate)},
			},
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue("consul_k8s_token.b", tfjsonpath.New("accessor_id"), knownvalue.StringExact(other.AccessorID)),
			},
			Check: func(*terraform.State) error { return same(f.secret("other", "token"), other.SecretID) },
		},
	}})
}

// A running pod that reads its mounted Secret for each request is never refused, while its token is rotated with the
// default grace period, and while its Secret is deleted and restored.
func TestAccToken_rotationReachesARunningPod(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	hcl := func(trigger string) string {
		return f.policy("a", fmt.Sprintf("name = \"writer\"\nrules = %q", acctest.WriterRules)) +
			f.tokenHCL(
				"a",
				fmt.Sprintf("policies = [consul_k8s_policy.a.name]\nsecret = { name = \"writer\" }\nrotation = { trigger = %q }", trigger),
			)
	}
	var writer *acctest.Writer
	test(t, resource.TestCase{
		Steps: []resource.TestStep{
			{Config: hcl("1"), Check: func(*terraform.State) error {
				writer = acctest.StartWriter(t, f.Namespace, "writer")
				writer.HasToken(1)
				writer.More(20)
				return nil
			}},
			{Config: hcl("2"), Check: resource.ComposeTestCheckFunc(f.userTokens(1), func(*terraform.State) error {
				writer.HasToken(2)
				writer.More(20)
				return nil
			})},
			{
				PreConfig: func() {
					if err := acctest.Kube(t).CoreV1().Secrets(f.Namespace).Delete(t.Context(), "writer", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config: hcl("2"),
				Check: func(*terraform.State) error {
					writer.More(20)
					defer writer.Stop()
					return writer.Verify(f.token)
				},
			},
		},
	})
}

// Former bugs: a change in place of a token that expires; a token that moved to another Secret while another one
// replaced it; a replacement on purpose; a lost label; two tokens that leave one Secret at once.
func TestAccToken_keepsItsOwn(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	a := func(more string) string { return f.tokenHCL("a", more) }
	before := ""
	replaced := resource.ConfigPlanChecks{
		PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(tokenAddress, plancheck.ResourceActionReplace)},
	}
	test(t, resource.TestCase{
		CheckDestroy: func(s *terraform.State) error {
			if list, err := acctest.Kube(t).CoreV1().Secrets(f.Namespace).List(context.Background(), metav1.ListOptions{}); err != nil ||
				len(list.Items) != 1 {
				return fmt.Errorf("the destroy left %d Secrets beside the management token's, %w", len(list.Items)-1, err)
			}
			return f.userTokens(0)(s)
		},
		Steps: []resource.TestStep{
			{Config: a("expiration_ttl = \"8h\"\nsecret = { name = \"x\" }")},
			{Config: a("description = \"changed\"\nexpiration_ttl = \"8h\"\nsecret = { name = \"x\" }")},
			{Config: a("description = \"changed\"\nexpiration_ttl = \"8h\"\nsecret = { name = \"x\" }"), PlanOnly: true},
			{
				PreConfig: f.patchSecret("x", `{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}`),
				Config:    a("description = \"changed\"\nexpiration_ttl = \"8h\"\nsecret = { name = \"x\" }"),
			},
			{Config: a("expiration_ttl = \"8h\"\nsecret = { name = \"y\" }"), Check: func(*terraform.State) error {
				before = f.secret("y", "token")
				return nil
			}},
			{
				Config: a("expiration_ttl = \"8h\"\nsecret = { name = \"y\" }") + f.tokenHCL("b", "local = true\nsecret = { name = \"x\" }"),
				Check: resource.ComposeTestCheckFunc(f.userTokens(2), func(*terraform.State) error {
					if known, err := f.knows(before); err != nil || !known || f.secret("x", "token") == before {
						return fmt.Errorf("the token of the other resource is known: %t, %w", known, err)
					}
					return same(f.secret("y", "token"), before)
				}),
			},
			{ // a chosen accessor ID: replaced, as Consul cannot change it
				Config: a("accessor_id = \"8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55\"\nsecret = { name = \"y\" }"), ConfigPlanChecks: replaced,
			},
			{
				Config:           a("accessor_id = \"8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55\"\nlocal = true\nsecret = { name = \"y\" }"),
				ConfigPlanChecks: replaced,
			},
			{Config: a("secret = { name = \"z\", key = \"a\" }") + f.tokenHCL("b", "secret = { name = \"z\", key = \"b\" }")},
			{
				Config: a(
					"secret = { name = \"z\", key = \"a\" }",
				) + f.tokenHCL(
					"b",
					"secret = { name = \"z\", key = \"b\", type = \"example.com/x\" }",
				),
				PlanOnly: true, ExpectNonEmptyPlan: true,
				ExpectError: acctest.Says("is also declared with another type"),
			},
			{Config: a("secret = { name = \"z\", key = \"a\" }") + f.tokenHCL("b", "secret = { name = \"z\", key = \"b\" }")},
		},
	})
}

// -replace creates an object again, and nothing prevents that.
func TestAccACLObjects_replacedOnPurpose(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	hcl := func(lifecycle string) string {
		return requiredProviders + f.policy("a", "name = \"a\"\nrules = \"operator = \\\"read\\\"\""+lifecycle) + f.role("a", `name = "a"
  policies = [consul_k8s_policy.a.name]`+lifecycle) + f.tokenHCL("a", `roles = [consul_k8s_role.a.name]
  secret = { name = "x" }`)
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": hcl("")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	before := f.secret("x", "token")
	cli.Must(
		t.Context(),
		"apply",
		"-auto-approve",
		"-no-color",
		"-replace=consul_k8s_policy.a",
		"-replace=consul_k8s_role.a",
		"-replace=consul_k8s_token.a",
	)
	if known, err := f.knows(before); err != nil || known || f.secret("x", "token") == before {
		t.Errorf("the token was not replaced: %t, %v", known, err)
	}
	cli.Must(t.Context(), "plan", "-no-color") // the links follow the names
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")

	// An object that is created before it is destroyed is kept, and nothing loses rights.
	cli.Write("main.tf", hcl("\nlifecycle { create_before_destroy = true }"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-replace=consul_k8s_policy.a", "-replace=consul_k8s_role.a")
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	f.do(func(acl *api.ACL) error {
		role, _, err := acl.RoleReadByName("a", nil)
		if err == nil && len(role.Policies) != 1 {
			t.Errorf("the role lost its policy: %+v", role)
		}
		return err
	})
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}
