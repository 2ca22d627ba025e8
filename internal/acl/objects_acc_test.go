package acl_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
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
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/acl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/aclrules"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// fixture is a cluster of one server with bootstrapped ACLs. HCL refers to it by its ID.
type fixture struct {
	*consul.Cluster
	t     *testing.T
	token string
}

func bootstrapped(t *testing.T) fixture {
	t.Helper()
	c, token := acctest.Lend(t)
	return fixture{Cluster: c, t: t, token: token}
}

// do calls Consul with the management token, not through the code under test.
func (f fixture) do(do func(*api.ACL) error) {
	f.t.Helper()
	if err := f.Any(f.t.Context(), f.token, func(client *api.Client) error { return do(client.ACL()) }); err != nil {
		f.t.Fatal(err)
	}
}

// check wraps do as a check of plugin-testing.
func (f fixture) check(do func(*api.ACL) error) resource.TestCheckFunc {
	return func(*terraform.State) error {
		return f.Any(context.Background(), f.token, func(client *api.Client) error { return do(client.ACL()) })
	}
}

// before wraps do as the PreConfig of a step.
func (f fixture) before(do func(*api.ACL) error) func() {
	return func() { f.t.Helper(); f.do(do) }
}

func (f fixture) policy(name, more string) string {
	return fmt.Sprintf("resource \"consul_k8s_policy\" %q {\n  cluster = %q\n  %s\n}\n", name, f.ID(), more)
}

func (f fixture) role(name, more string) string {
	return fmt.Sprintf("resource \"consul_k8s_role\" %q {\n  cluster = %q\n  %s\n}\n", name, f.ID(), more)
}

func (f fixture) tokenHCL(name, more string) string {
	return fmt.Sprintf("resource \"consul_k8s_token\" %q {\n  cluster = %q\n  %s\n}\n", name, f.ID(), more)
}

func TestAccPolicy_lifecycle(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	const address = "consul_k8s_policy.a"
	id := statecheck.CompareValue(compare.ValuesSame())
	sameID := func() statecheck.StateCheck { return id.AddStateValue(address, tfjsonpath.New("id")) }
	hcl := f.policy("a", `name = "a"
  rules = <<-R
    key_prefix "vault/" {
      policy = "write"
    },
    node_prefix "" { policy = "read" }
  R`)
	sameRules := f.policy("a", `name = "a"
  rules = jsonencode({ node_prefix = { "" = { policy = "read" } }, key_prefix = { "vault/" = { policy = "write" } } })`)
	renamed := f.policy("a", `name = "team/b"
  description = "changed"
  datacenters = ["dc1"]
  rules = "key_prefix \"other/\" { policy = \"read\" }"`)
	rulesAre := func(name, want string) resource.TestCheckFunc {
		return f.check(func(acl *api.ACL) error {
			p, _, err := acl.PolicyReadByName(name, nil)
			if err != nil || p == nil {
				return fmt.Errorf("policy %s: %v, %w", name, p, err)
			}
			got, err := aclrules.ParseRules(p.Rules)
			if err != nil {
				return err
			}
			if expected, err := aclrules.ParseRules(want); err != nil || !got.Equal(expected) {
				return fmt.Errorf("the rules are %q, %w", p.Rules, err)
			}
			return nil
		})
	}
	test(t, resource.TestCase{
		CheckDestroy: f.check(func(acl *api.ACL) error {
			list, _, err := acl.PolicyList(nil)
			for _, p := range list {
				if !consulacl.IsBuiltInPolicy(p.ID, p.Name) {
					return fmt.Errorf("the destroy left policy %s", p.Name)
				}
			}
			return err
		}),
		Steps: []resource.TestStep{
			{
				Config:            hcl,
				ConfigStateChecks: []statecheck.StateCheck{sameID()},
				Check:             rulesAre("a", `key_prefix "vault/" { policy = "write" } node_prefix "" { policy = "read" }`),
			},
			{Config: hcl, PlanOnly: true},
			{Config: sameRules, PlanOnly: true},
			{ResourceName: address, ImportState: true, ImportStateId: f.ID() + "/a", ImportStateVerify: true},
			{ResourceName: address, ImportState: true, ImportStateVerify: true, ImportStateIdFunc: func(s *terraform.State) (string, error) {
				return f.ID() + "/" + s.RootModule().Resources[address].Primary.ID, nil
			}},
			{ // rules changed by somebody else, and reverted
				PreConfig: f.before(func(acl *api.ACL) error {
					p, _, err := acl.PolicyReadByName("a", nil)
					if err != nil {
						return err
					}
					p.Rules = `key_prefix "" { policy = "write" }`
					_, _, err = acl.PolicyUpdate(p, nil)
					return err
				}),
				Config: hcl,
				ConfigPlanChecks: resource.ConfigPlanChecks{
					PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate)},
				},
				ConfigStateChecks: []statecheck.StateCheck{sameID()},
				Check:             rulesAre("a", `key_prefix "vault/" { policy = "write" } node_prefix "" { policy = "read" }`),
			},
			{ // the same content in another form is not drift
				PreConfig: f.before(func(acl *api.ACL) error {
					p, _, err := acl.PolicyReadByName("a", nil)
					if err != nil {
						return err
					}
					p.Rules = `{"node_prefix":{"":{"policy":"read"}},"key_prefix":{"vault/":{"policy":"write"}}}`
					_, _, err = acl.PolicyUpdate(p, nil)
					return err
				}),
				Config: hcl, PlanOnly: true,
			},
			{
				Config:            renamed,
				ConfigStateChecks: []statecheck.StateCheck{sameID()},
				Check:             rulesAre("team/b", `key_prefix "other/" { policy = "read" }`),
			},
			{ResourceName: address, ImportState: true, ImportStateId: f.ID() + "/team/b", ImportStateVerify: true},
			{ // deleted by somebody else, and created again
				PreConfig: f.before(func(acl *api.ACL) error {
					p, _, err := acl.PolicyReadByName("team/b", nil)
					if err == nil {
						_, err = acl.PolicyDelete(p.ID, nil)
					}
					return err
				}),
				Config: renamed,
				Check:  rulesAre("team/b", `key_prefix "other/" { policy = "read" }`),
			},
		},
	})
}

// The templated policies that a plan knows are those of Consul.
func TestAccTemplatedPolicies_areThoseOfConsul(t *testing.T) {
	t.Parallel()
	for _, version := range []string{acctest.OlderVersion, acctest.ConsulVersion} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c, token := acctest.Bootstrapped(t, version)
			fixture{Cluster: c, t: t, token: token}.do(func(client *api.ACL) error {
				list, _, err := client.TemplatedPolicyList(nil)
				got := map[string]bool{}
				for name, p := range list {
					got[name] = strings.Contains(p.Schema, `"required": ["name"]`)
				}
				if want := acl.Templates(); !maps.Equal(got, want) {
					t.Errorf("Consul has the templates %v, not %v", got, want)
				}
				return err
			})
		})
	}
}

func TestAccACLObjects_refusals(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	f.do(func(acl *api.ACL) error {
		_, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "theirs", Rules: `operator = "read"`}, nil)
		if err == nil {
			_, _, err = acl.RoleCreate(&api.ACLRole{Name: "theirs", Description: "theirs"}, nil)
		}
		return err
	})
	if _, err := acctest.Kube(t).CoreV1().Secrets(f.Namespace).Create(
		t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}}, metav1.CreateOptions{},
	); err != nil {
		t.Fatal(err)
	}
	some := `rules = "operator = \"read\""`
	expires := func(in time.Duration) string {
		return fmt.Sprintf("expiration_time = %q", time.Now().Add(in).UTC().Format(time.RFC3339))
	}
	expectRefusals(t, []refusal{
		{f.policy("a", "name = \"a b\"\n"+some), `name: Consul would refuse "a b"`},
		{f.policy("a", "name = \"builtin/x\"\n"+some), `names that begin with "builtin/" are reserved for Consul`},
		{f.policy("a", "name = \"global-management\"\n"+some), "built into Consul"},
		{f.policy("a", "name = \"a\"\nrules = \"key_prefix \\\"x\\\" {\""), "rules: line 1, column 18: not HCL"},
		{
			f.policy("a", "name = \"a\"\nrules = \"keyprefix \\\"x\\\" { policy = \\\"read\\\" }\""),
			"rules: line 1, column 1: there is no resource keyprefix",
		},
		{
			f.policy("a", "name = \"a\"\nrules = \"node \\\"x\\\" { policy = \\\"list\\\" }\""),
			`rules: line 1, column 6: node "x": policy cannot be "list", which only key and key_prefix support`,
		},
		{
			f.policy("a", "name = \"theirs\"\n"+`rules = "operator = \"write\""`),
			"import it: terraform import consul_k8s_policy.<name> '" + f.ID() + "/theirs'",
		},
		{f.role("a", `name = "theirs"`), "import it: terraform import consul_k8s_role.<name> '" + f.ID() + "/theirs'"},
		{f.policy("a", "name = \"same\"\n"+some) + f.policy("b", "name = \"same\"\n"+some), `declares the name "same"`},
		{f.role("a", "name = \"a\"\npolicies = [\"nobody\"]"), `has no policy "nobody"`},
		{f.tokenHCL("a", `roles = ["nobody"]`), `has no role "nobody"`},
		{f.role("a", "name = \"a\"\nservice_identities = [{ service_name = \"UPPER\" }]"), `Consul would refuse "UPPER"`},
		{
			f.role("a", "name = \"a\"\ntemplated_policies = [{ template_name = \"builtin/dnss\" }]"),
			`templated_policies: there is no template "builtin/dnss"`,
		},
		{
			f.tokenHCL("a", `templated_policies = [{ template_name = "builtin/service" }]`),
			"templated_policies: the template builtin/service needs the attribute name",
		},
		{f.tokenHCL("a", `expiration_ttl = "30s"`), `expiration_ttl: "30s" must be a duration between 1m0s and 87600h0m0s`},
		{f.tokenHCL("a", `expiration_time = "tomorrow"`), `expiration_time: "tomorrow" is not a time in RFC 3339`},
		{f.tokenHCL("a", expires(11*365*24*time.Hour)), "is more than ten years ahead"},
		{
			f.tokenHCL("a", expires(time.Hour)+"\nexpiration_ttl = \"1h\""),
			`Attribute "expiration_ttl" cannot be specified when "expiration_time" is specified`,
		},
		{f.tokenHCL("a", `secret = { name = "theirs" }`), "this provider did not create it"},
		{f.tokenHCL("a", `secret = { name = "x" }`) + f.tokenHCL("b", `secret = { name = "x" }`), "delivers to the key token of Secret"},
		{f.tokenHCL("a", `secret = { name = "x", template = "none" }`), "must have {{.SecretID}}"},
		{f.tokenHCL("a", `secret = { name = "x", template = "{{.Nothing}}" }`), "it is not a Go template"},
		{f.tokenHCL("a", `secrets = [{ name = "x" }, { name = "x", type = "Opaque" }]`), "is declared twice"},
		{
			f.tokenHCL("a", "secret = { name = \"x\" }\nsecrets = [{ name = \"y\" }]"),
			`Attribute "secrets" cannot be specified when "secret" is specified`,
		},
		{f.tokenHCL("a", "accessor_id = \"8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55\"\nrotation = { trigger = \"x\" }"), "leave accessor_id out"},
		{
			f.tokenHCL("a", "accessor_id = \"00000000-0000-0000-0000-000000000002\"\nsecret = { name = \"x\" }"),
			"The anonymous token has no secret ID",
		},
		{f.tokenHCL("a", `accessor_id = "x"`), "it must be a UUID"},
	})
	test(t, resource.TestCase{Steps: []resource.TestStep{
		// What may change before the apply is a warning, and the apply reports what is wrong.
		{Config: f.tokenHCL("a", `expiration_time = "2001-01-01T00:00:00Z"`), PlanOnly: true, ExpectNonEmptyPlan: true},
		{
			Config:      f.tokenHCL("a", `expiration_time = "2001-01-01T00:00:00Z"`),
			ExpectError: acctest.Says("expiration_time: 2001-01-01T00:00:00Z has passed"),
		},
		{Config: f.tokenHCL("a", `secret = { name = "x", namespace = "nowhere-at-all" }`), PlanOnly: true, ExpectNonEmptyPlan: true},
		{
			Config:      f.tokenHCL("a", `secret = { name = "x", namespace = "nowhere-at-all" }`),
			ExpectError: acctest.Says("the namespace nowhere-at-all of the Secret x does not exist"),
		},
		{
			Config:        f.policy("a", "name = \"a\"\n"+some),
			ResourceName:  "consul_k8s_policy.a",
			ImportState:   true,
			ImportStateId: f.ID() + "/global-management",
			ExpectError:   acctest.Says("is built into Consul"),
		},
		{
			Config:        f.policy("a", "name = \"a\"\n"+some),
			ResourceName:  "consul_k8s_policy.a",
			ImportState:   true,
			ImportStateId: f.ID() + "/nobody",
			ExpectError:   acctest.Says("nobody of " + f.ID() + ": it does not exist."),
		},
		{
			Config:        f.policy("a", "name = \"a\"\n"+some),
			ResourceName:  "consul_k8s_policy.a",
			ImportState:   true,
			ImportStateId: "nobody",
			ExpectError:   acctest.Says(`is not of the form "<namespace>/<cluster>/<name or ID>"`),
		},
		{
			Config:       f.tokenHCL("a", ""),
			ResourceName: "consul_k8s_token.a",
			ImportState:  true,
			ImportStateIdFunc: func(*terraform.State) (string, error) {
				accessor, err := consulacl.VerifyToken(context.Background(), f.Cluster, f.token)
				return f.ID() + "/" + accessor, err
			},
			ExpectError: acctest.Says("is the management token"),
		},
		{
			Config:        f.tokenHCL("a", ""),
			ResourceName:  "consul_k8s_token.a",
			ImportState:   true,
			ImportStateId: f.ID() + "/" + consulacl.AgentTokenAccessor(f.Cluster, 0),
			ExpectError:   acctest.Says("is the agent token of a server"),
		},
	}})
}

type refusal struct{ hcl, says string }

// expectRefusals plans each configuration with its own provider process: the configurations must not conflict with
// each other.
func expectRefusals(t *testing.T, list []refusal) {
	t.Helper()
	var refusals []acctest.Refusal
	for _, r := range list {
		own := fmt.Sprintf(
			"provider \"consul\" {\n  config_path = %q\n}\n",
			os.Getenv("KUBE_CONFIG_PATH"),
		) // an empty block would inherit the root's
		refusals = append(refusals, acctest.Refusal{Config: own + r.hcl, Says: r.says})
	}
	acctest.ExpectRefusals(t, "", refusals)
}

// The next apply adopts what a killed apply left behind: only its own objects.
func TestAccACLObjects_resumeAnInterruptedCreate(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	var policy, role string
	target := consulacl.Target{Namespace: f.Namespace, Name: "delivered", Key: "token"}
	const secretID = "5f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c77"
	f.do(func(acl *api.ACL) error {
		p, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "a", Rules: `operator = "read"`}, nil)
		if err != nil {
			return err
		}
		r, _, err := acl.RoleCreate(&api.ACLRole{Name: "a", Policies: []*api.ACLLink{{Name: "a"}}}, nil)
		if err != nil {
			return err
		}
		policy, role = p.ID, r.ID
		_, _, err = acl.TokenCreate(
			&api.ACLToken{AccessorID: consulacl.AccessorFor(f.Cluster, target), SecretID: secretID, Description: consulacl.Unfinished},
			nil,
		)
		return err
	})
	hcl := f.policy("a", `name = "a"
  rules = "operator = \"read\""`) + f.role("a", `name = "a"
  policies = [consul_k8s_policy.a.name]`) + f.tokenHCL("a", `policies = [consul_k8s_policy.a.name]
  secret = { name = "delivered" }`)
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{
			Config: hcl,
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue(
					"consul_k8s_policy.a",
					tfjsonpath.New("id"),
					knownvalue.StringFunc(func(id string) error { return same(id, policy) }),
				),
				statecheck.ExpectKnownValue(
					"consul_k8s_role.a",
					tfjsonpath.New("id"),
					knownvalue.StringFunc(func(id string) error { return same(id, role) }),
				),
				statecheck.ExpectKnownValue(
					"consul_k8s_token.a",
					tfjsonpath.New("id"),
					knownvalue.StringExact(consulacl.AccessorFor(f.Cluster, target)),
				),
			},
			Check: func(*terraform.State) error { return same(f.secret("delivered", "token"), secretID) },
		},
		{Config: hcl, PlanOnly: true},
		{ // the create is complete: another resource cannot have the key
			Config: hcl + f.tokenHCL(
				"b",
				`secret = { name = "delivered" }`,
			), PlanOnly: true, ExpectNonEmptyPlan: true, ExpectError: acctest.Says("Two tokens for one key"),
		},
	}})
}

func same(got, want string) error {
	if got != want {
		return fmt.Errorf("it is %q instead of %q", got, want)
	}
	return nil
}

// secret reads a key of a Secret, "" if it does not exist.
func (f fixture) secret(name, key string) string {
	s, err := acctest.Kube(f.t).CoreV1().Secrets(f.Namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return string(s.Data[key])
}

func (f fixture) patchSecret(name, patch string) func() {
	return func() {
		f.t.Helper()
		_, err := acctest.Kube(
			f.t,
		).CoreV1().Secrets(
			f.Namespace,
		).Patch(
			f.t.Context(),
			name,
			types.MergePatchType,
			[]byte(patch),
			metav1.PatchOptions{},
		)
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

func TestAccRole_lifecycle(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	const address = "consul_k8s_role.a"
	policies := f.policy("a", `name = "a"
  rules = "operator = \"read\""`) + f.policy("b", `name = "b"
  rules = "operator = \"read\""`)
	hcl := policies + f.role("a", `name = "a"
  policies           = [consul_k8s_policy.a.name, consul_k8s_policy.b.id]
  service_identities = [{ service_name = "web" }, { service_name = "api", datacenters = ["dc1"] }]
  node_identities    = [{ node_name = "n1", datacenter = "dc1" }]
  templated_policies = [{ template_name = "builtin/dns" }, { template_name = "builtin/service", name = "db" }]`)
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: hcl},
		{Config: hcl, PlanOnly: true},
		{
			ResourceName:            address,
			ImportState:             true,
			ImportStateId:           f.ID() + "/a",
			ImportStateVerify:       true,
			ImportStateVerifyIgnore: []string{"policies"},
		},
		{ // a right that somebody else added is noticed, and removed
			PreConfig: f.before(func(acl *api.ACL) error {
				r, _, err := acl.RoleReadByName("a", nil)
				if err != nil {
					return err
				}
				r.ServiceIdentities = append(r.ServiceIdentities, &api.ACLServiceIdentity{ServiceName: "more"})
				_, _, err = acl.RoleUpdate(r, nil)
				return err
			}),
			Config: hcl,
			ConfigPlanChecks: resource.ConfigPlanChecks{
				PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate)},
			},
			Check: f.check(func(acl *api.ACL) error {
				r, _, err := acl.RoleReadByName("a", nil)
				if err == nil &&
					(len(r.ServiceIdentities) != 2 || len(r.Policies) != 2 || len(r.NodeIdentities) != 1 || len(r.TemplatedPolicies) != 2) {
					err = fmt.Errorf("the role is %+v", r)
				}
				return err
			}),
		},
		{ // a link that Consul removed with its policy is noticed
			PreConfig: f.before(func(acl *api.ACL) error {
				p, _, err := acl.PolicyReadByName("b", nil)
				if err == nil {
					_, err = acl.PolicyDelete(p.ID, nil)
				}
				return err
			}),
			Config: hcl,
		},
		{Config: hcl, PlanOnly: true},
		// a null in a nested set counts as not set
		{Config: policies + f.role("a", "name = \"a\"\nservice_identities = [{ service_name = \"api\", datacenters = [null, \"dc1\"] }]")},
		{
			Config:   policies + f.role("a", "name = \"a\"\nservice_identities = [{ service_name = \"api\", datacenters = [null, \"dc1\"] }]"),
			PlanOnly: true,
		},
		{ // all links removed
			Config: policies + f.role("a", `name = "a"`),
			Check: f.check(func(acl *api.ACL) error {
				r, _, err := acl.RoleReadByName("a", nil)
				if err == nil && len(r.ServiceIdentities)+len(r.Policies)+len(r.NodeIdentities)+len(r.TemplatedPolicies) > 0 {
					err = fmt.Errorf("the role is %+v", r)
				}
				return err
			}),
		},
	}})
}

var uuidText = regexp.MustCompile(`^[0-9a-f-]{36}$`)

func TestAccToken_delivery(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	k := acctest.Kube(t)
	const address = "consul_k8s_token.a"
	hcl := f.tokenHCL("a", `description = "a"
  service_identities = [{ service_name = "web" }]
  secrets = [
    { name = "plain" },
    { name = "shared", key = "config.json", template = "{\"token\": \"{{.SecretID}}\"}", labels = { team = "web" } },
  ]`)
	other := f.tokenHCL("b", `secret = { name = "shared", key = "b" }`)
	delivered := func(*terraform.State) error {
		secretID := f.secret("plain", "token")
		if !uuidText.MatchString(secretID) {
			return fmt.Errorf("the Secret plain does not hold a secret ID but %d characters", len(secretID))
		}
		var self *api.ACLToken
		err := f.Any(context.Background(), secretID, func(client *api.Client) (err error) {
			self, _, err = client.ACL().TokenReadSelf(nil)
			return err
		})
		if err != nil {
			return err
		}
		if self.Description != "a" || len(self.ServiceIdentities) != 1 {
			return fmt.Errorf("the token in the Secret is another one: %s", self.Description)
		}
		return same(f.secret("shared", "config.json"), fmt.Sprintf(`{"token": %q}`, secretID))
	}
	updates := resource.ConfigPlanChecks{
		PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate)},
	}
	accessor := statecheck.CompareValue(compare.ValuesSame())
	sameToken := func() statecheck.StateCheck { return accessor.AddStateValue(address, tfjsonpath.New("accessor_id")) }
	test(t, resource.TestCase{
		CheckDestroy: func(*terraform.State) error {
			for _, name := range []string{"plain", "shared", "moved"} {
				if _, err := k.CoreV1().Secrets(f.Namespace).Get(context.Background(), name, metav1.GetOptions{}); err == nil {
					return fmt.Errorf("the destroy left Secret %s", name)
				}
			}
			return nil
		},
		Steps: []resource.TestStep{
			{Config: hcl, Check: delivered, ConfigStateChecks: []statecheck.StateCheck{sameToken()}},
			{Config: hcl, PlanOnly: true},
			{ // the Secret is deleted
				PreConfig: func() {
					if err := k.CoreV1().Secrets(f.Namespace).Delete(t.Context(), "plain", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config: hcl, ConfigPlanChecks: updates, Check: delivered, ConfigStateChecks: []statecheck.StateCheck{sameToken()},
			},
			{PreConfig: f.patchSecret("plain", `{"stringData":{"token":"edited"}}`), Config: hcl, ConfigPlanChecks: updates, Check: delivered},
			{
				PreConfig:        f.patchSecret("shared", `{"metadata":{"labels":{"team":"other"}}}`),
				Config:           hcl,
				ConfigPlanChecks: updates,
				Check:            delivered,
			},
			{Config: hcl + other, Check: resource.ComposeTestCheckFunc(delivered, func(*terraform.State) error {
				if id := f.secret("shared", "b"); !uuidText.MatchString(id) || strings.Contains(f.secret("shared", "config.json"), id) {
					return fmt.Errorf("the second key holds %d characters", len(id))
				}
				return nil
			})},
			{Config: hcl + other, PlanOnly: true},
			{ // one of the two is removed: the key of the other is kept
				Config: hcl,
				Check: resource.ComposeTestCheckFunc(delivered, func(*terraform.State) error {
					return same(f.secret("shared", "b"), "")
				}),
			},
			{ // to another Secret, and another type
				Config: f.tokenHCL("a", `description = "a"
  service_identities = [{ service_name = "web" }]
  secret = { name = "moved", type = "example.com/token" }`),
				ConfigStateChecks: []statecheck.StateCheck{sameToken()},
				Check: func(*terraform.State) error {
					if f.secret("plain", "token")+f.secret("shared", "config.json") != "" {
						return fmt.Errorf("the token is still where it was")
					}
					if !uuidText.MatchString(f.secret("moved", "token")) {
						return fmt.Errorf("the token was not moved")
					}
					return nil
				},
			},
			{
				ResourceName:            address,
				ImportState:             true,
				ImportStateVerify:       true,
				ImportStateVerifyIgnore: []string{"secret", "delivered_to"},
				ImportStateIdFunc: func(s *terraform.State) (string, error) {
					return f.ID() + "/" + s.RootModule().Resources[address].Primary.ID, nil
				},
			},
		},
	})
}

func TestAccACLDataSources_showWhatIsThere(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	source := func(kind, what string) string {
		return fmt.Sprintf("data \"consul_k8s_%s\" \"a\" {\n  cluster = %q\n  %s\n}\n", kind, f.ID(), what)
	}
	resources := f.policy("a", "name = \"a\"\nrules = \"operator = \\\"read\\\"\"") + f.role("a", `name = "a"
  policies = [consul_k8s_policy.a.name]`) + f.tokenHCL("a", `roles = [consul_k8s_role.a.name]`)
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: source("policy", `name = "nobody"`), ExpectError: acctest.Says("policy nobody of " + f.ID() + ": it does not exist")},
		{Config: source("token", `accessor_id = "8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55"`), ExpectError: acctest.Says("it does not exist")},
		{Config: source("role", ""), ExpectError: regexp.MustCompile(`(?s)id.*name`)},
		{
			Config: resources + source(
				"policy",
				"id = consul_k8s_policy.a.id",
			) + source(
				"role",
				"name = consul_k8s_role.a.name",
			) + source(
				"token",
				"accessor_id = consul_k8s_token.a.accessor_id",
			),
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue("data.consul_k8s_policy.a", tfjsonpath.New("rules"), knownvalue.StringExact(`operator = "read"`)),
				statecheck.ExpectKnownValue(
					"data.consul_k8s_role.a",
					tfjsonpath.New("policies"),
					knownvalue.SetExact([]knownvalue.Check{knownvalue.StringExact("a")}),
				),
				statecheck.ExpectKnownValue(
					"data.consul_k8s_token.a",
					tfjsonpath.New("roles"),
					knownvalue.SetExact([]knownvalue.Check{knownvalue.StringExact("a")}),
				),
			},
		},
	}})
}

// A plan that deletes a policy or a role names who loses rights, except objects that it deletes too.
func TestAccACLObjects_planNamesWhoLosesRights(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	const required = `terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
`
	objects := f.policy("a", "name = \"a\"\nrules = \"operator = \\\"read\\\"\"") + f.role("a", `name = "a"
  policies = [consul_k8s_policy.a.name]`) + f.tokenHCL("a", `description = "ours"
  policies = [consul_k8s_policy.a.name]
  roles = [consul_k8s_role.a.name]`)
	cli := acctest.NewCLI(t, map[string]string{"main.tf": required + objects})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	warning := regexp.MustCompile(`in use`)
	if out := cli.Must(t.Context(), "plan", "-destroy", "-no-color"); warning.MatchString(out) {
		t.Errorf("a plan that destroys everything warns of its own objects:\n%s", out)
	}
	f.do(func(acl *api.ACL) error {
		_, _, err := acl.TokenCreate(
			&api.ACLToken{Description: "of the web team", Policies: []*api.ACLLink{{Name: "a"}}, Roles: []*api.ACLLink{{Name: "a"}}},
			nil,
		)
		if err == nil {
			_, _, err = acl.RoleCreate(&api.ACLRole{Name: "other", Policies: []*api.ACLLink{{Name: "a"}}}, nil)
		}
		return err
	})
	out := cli.Must(t.Context(), "plan", "-destroy", "-no-color")
	for _, says := range []string{
		`Deleting the policy "a" of ` + f.ID() + ` takes its rights from: role "other", token`, "(of the web team)", `Deleting the role "a" of`,
	} {
		if !acctest.Says(says).MatchString(out) {
			t.Errorf("the plan does not say %q:\n%s", says, out)
		}
	}
	if acctest.Says("(ours)").MatchString(out) {
		t.Errorf("the plan warns of a token that it also deletes:\n%s", out)
	}
	cli.Write("main.tf", required) // they are planned in no order
	if out := cli.Must(t.Context(), "plan", "-no-color"); acctest.Says("(ours)").MatchString(out) ||
		!acctest.Says("(of the web team)").MatchString(out) {
		t.Errorf("a plan without them names a token that it also deletes, or not the one that stays:\n%s", out)
	}
	cli.Write("main.tf", required+strings.ReplaceAll(objects, f.ID(), f.Namespace+"/other"))
	out = cli.Must(t.Context(), "plan", "-no-color")
	for _, says := range []string{
		`Deleting the policy "a" of ` + f.ID() + ` takes its rights from: role`,
		`Deleting the role "a" of ` + f.ID() + ` takes its rights from: token`,
	} {
		if !acctest.Says(says).MatchString(out) {
			t.Errorf("the plan for another cluster does not say %q:\n%s", says, out)
		}
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}

// The plan of an import that matches the configuration changes nothing, even if the configuration links by ID what
// Consul lists by name.
func TestAccACLObjects_importFollowedByPlanIsEmpty(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	ids := map[string]string{}
	f.do(func(acl *api.ACL) error {
		p, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "a", Rules: `operator = "read"`}, nil)
		if err != nil {
			return err
		}
		link := []*api.ACLLink{{ID: p.ID}}
		byName, _, err := acl.RoleCreate(&api.ACLRole{Name: "by-name", Policies: link}, nil)
		if err != nil {
			return err
		}
		byID, _, err := acl.RoleCreate(&api.ACLRole{Name: "by-id", Policies: link}, nil)
		if err != nil {
			return err
		}
		token, _, err := acl.TokenCreate(&api.ACLToken{Policies: link, Roles: []*api.ACLLink{{ID: byName.ID}, {ID: byID.ID}}}, nil)
		if err == nil {
			ids["consul_k8s_policy.a"], ids["consul_k8s_role.by-name"], ids["consul_k8s_role.by-id"], ids[tokenAddress] = "a", "by-name", byID.ID, token.AccessorID
		}
		return err
	})
	hcl := f.policy("a", "name = \"a\"\nrules = \"operator = \\\"read\\\"\"") +
		f.role("by-name", "name = \"by-name\"\npolicies = [consul_k8s_policy.a.id]") +
		f.role("by-id", "name = \"by-id\"\npolicies = [consul_k8s_policy.a.id]") +
		f.tokenHCL("a", "policies = [consul_k8s_policy.a.id]\nroles = [consul_k8s_role.by-name.id, consul_k8s_role.by-id.name]")
	imports := ""
	var noChange []plancheck.PlanCheck
	for to, id := range ids {
		imports += fmt.Sprintf("import {\n  to = %s\n  id = \"%s/%s\"\n}\n", to, f.ID(), id)
		noChange = append(noChange, plancheck.ExpectResourceAction(to, plancheck.ResourceActionNoop))
	}
	changed := strings.Replace(hcl, `name = "by-id"`, "name = \"by-id\"\ndescription = \"changed\"", 1)
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: imports + hcl, ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: noChange}},
		{Config: hcl, PlanOnly: true},
		{
			Config: changed,
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectResourceAction("consul_k8s_role.by-id", plancheck.ResourceActionUpdate),
				plancheck.ExpectResourceAction("consul_k8s_role.by-name", plancheck.ResourceActionNoop),
				plancheck.ExpectResourceAction(tokenAddress, plancheck.ResourceActionNoop),
			}},
		},
		{Config: changed, PlanOnly: true},
	}})
}

// Import by resource identity requires Terraform or OpenTofu 1.12.
func TestAccACLObjects_importByIdentity(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	hcl := f.policy(
		"a",
		"name = \"a\"\nrules = \"operator = \\\"read\\\"\"",
	) + f.role(
		"a",
		`name = "a"`,
	) + f.tokenHCL(
		"a",
		`policies = [consul_k8s_policy.a.name]`,
	)
	steps := []resource.TestStep{{Config: hcl}}
	for _, address := range []string{"consul_k8s_policy.a", "consul_k8s_role.a", tokenAddress} {
		steps = append(
			steps,
			resource.TestStep{ResourceName: address, ImportState: true, ImportStateKind: resource.ImportBlockWithResourceIdentity},
		)
	}
	test(t, resource.TestCase{
		TerraformVersionChecks: []tfversion.TerraformVersionCheck{tfversion.SkipBelow(tfversion.Version1_12_0)},
		Steps:                  steps,
	})
}

// A resource that moves to another address without a moved block, or that is created before it is destroyed, is
// created and destroyed in one apply. Its object exists afterwards.
func TestAccACLObjects_surviveTheirFormerAddress(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	const first = "\nlifecycle { create_before_destroy = true }"
	objects := func(name string) string {
		return f.policy(name, "name = \"same\"\nrules = \"operator = \\\"read\\\"\""+first) + f.role(name, `name = "same"`+first)
	}
	there := f.check(func(acl *api.ACL) error {
		p, _, err := acl.PolicyReadByName("same", nil)
		if err != nil {
			return err
		}
		r, _, err := acl.RoleReadByName("same", nil)
		if err == nil && (p == nil || r == nil) {
			err = fmt.Errorf("the policy is %v, the role %v", p, r)
		}
		return err
	})
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: objects("a"), Check: there},
		{Config: objects("b"), Check: there},
		{Config: objects("b"), PlanOnly: true},
		{Taint: []string{"consul_k8s_policy.b", "consul_k8s_role.b"}, Config: objects("b"), Check: there},
		{Config: objects("b"), PlanOnly: true},
	}})
}
