package acl_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
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
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

const methodAddress, ruleAddress = "consul_k8s_auth_method.pods", "consul_k8s_binding_rule.app"

func (f fixture) authMethod(name, more string) string {
	return fmt.Sprintf("resource \"consul_k8s_auth_method\" %q {\n  cluster = %q\n  name = %q\n  %s\n}\n", name, f.ID(), name, more)
}

func (f fixture) bindingRule(name, more string) string {
	return fmt.Sprintf("resource \"consul_k8s_binding_rule\" %q {\n  cluster = %q\n  %s\n}\n", name, f.ID(), more)
}

// reviewer is the token reviewer of the auth method "pods".
func (f fixture) reviewer() server.TokenReviewer {
	return server.TokenReviewer{Namespace: f.Namespace, Cluster: f.Name, AuthMethod: "pods"}
}

// cleanUp removes what a failed test leaves outside its namespace.
func (f fixture) cleanUp() {
	k, ctx, role := acctest.Kube(f.t), context.WithoutCancel(f.t.Context()), f.reviewer().RoleName()
	f.t.Cleanup(func() {
		_ = k.RbacV1().ClusterRoleBindings().Delete(ctx, role, metav1.DeleteOptions{})
		_ = k.RbacV1().ClusterRoles().Delete(ctx, role, metav1.DeleteOptions{})
	})
}

// pod starts a pod that runs as a service account, like an application, and returns a function that runs a command in
// it.
func (f fixture) pod(account string) func(command string) (output string, err error) {
	f.t.Helper()
	k, ctx := acctest.Kube(f.t), f.t.Context()
	if _, err := k.CoreV1().ServiceAccounts(f.Namespace).Create(
		ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{},
	); err != nil {
		f.t.Fatal(err)
	}
	_, err := k.CoreV1().Pods(f.Namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, TerminationGracePeriodSeconds: new(int64(0)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot:   new(true),
				RunAsUser:      new(int64(100)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "app", Image: "docker.io/hashicorp/consul:" + acctest.ConsulVersion, ImagePullPolicy: corev1.PullIfNotPresent,
				Command: []string{"sleep", "3600"},
				Env:     []corev1.EnvVar{{Name: "CONSUL_HTTP_ADDR", Value: "http://" + f.Name + ":8500"}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	acctest.Wait(f.t, "the pod "+account, func(ctx context.Context) (string, error) {
		p, err := k.CoreV1().Pods(f.Namespace).Get(ctx, account, metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning {
			return string(p.Status.Phase), nil
		}
		return "", err
	})
	return func(command string) (string, error) {
		const failed = "failed\n"
		out, err := k.Exec(f.t.Context(), f.Namespace, account, "app", nil, "sh", "-c", "{ "+command+"; } 2>&1 || echo "+failed)
		if out, ok := strings.CutSuffix(out, failed); ok {
			return out, fmt.Errorf("%s failed: %s", command, out)
		}
		return out, err
	}
}

const login = "consul login -method=pods -bearer-token-file=/var/run/secrets/kubernetes.io/serviceaccount/token -token-sink-file=/tmp/token"

// canWrite checks that a pod can log in, write the key that its role allows, write no other key, and log out.
func canWrite(run func(string) (string, error)) resource.TestCheckFunc {
	return func(*terraform.State) error {
		const as = "CONSUL_HTTP_TOKEN_FILE=/tmp/token consul "
		if _, err := run("rm -f /tmp/token; " + login + " && " + as + "kv put app/key value"); err != nil {
			return err
		}
		if out, err := run(as + "kv put other/key value"); err == nil || !strings.Contains(out, "Permission denied") {
			return fmt.Errorf("a key of somebody else could be written: %s", out)
		}
		_, err := run(as + "logout")
		return err
	}
}

// cannotLogIn checks that the login of a pod is refused.
func cannotLogIn(run func(string) (string, error)) resource.TestCheckFunc {
	return func(*terraform.State) error {
		if out, err := run("rm -f /tmp/token; " + login); err == nil || !strings.Contains(out, "403") {
			return fmt.Errorf("the pod could log in: %s", out)
		}
		return nil
	}
}

// absent fails if a plan or the state contains a text.
type absent struct {
	what   string
	secret func() string
}

func (a absent) find(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if secret := a.secret(); len(secret) < 100 || strings.Contains(string(text), secret) {
		return fmt.Errorf("%s is in it (%d characters)", a.what, len(secret))
	}
	return nil
}

// CheckPlan implements plancheck.PlanCheck.
func (a absent) CheckPlan(_ context.Context, req plancheck.CheckPlanRequest, resp *plancheck.CheckPlanResponse) {
	resp.Error = a.find(req.Plan)
}

// CheckState implements statecheck.StateCheck.
func (a absent) CheckState(_ context.Context, req statecheck.CheckStateRequest, resp *statecheck.CheckStateResponse) {
	resp.Error = a.find(req.State)
}

func TestAccAuthMethod_podLogsIn(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	f.cleanUp()
	k := acctest.Kube(t)
	account, role := f.reviewer().AccountName(), f.reviewer().RoleName()
	app, other := f.pod("app"), f.pod("other")
	bound := f.policy("app", "name = \"app\"\n  rules = \"key_prefix \\\"app/\\\" { policy = \\\"write\\\" }\"") +
		f.role("app", "name = \"app\"\n  policies = [consul_k8s_policy.app.name]") +
		f.bindingRule("app", fmt.Sprintf(`auth_method = consul_k8s_auth_method.pods.name
  selector    = "serviceaccount.namespace == \"%s\" and serviceaccount.name == \"app\""
  bind_type   = "role"
  bind_name   = consul_k8s_role.app.name`, f.Namespace))
	hcl := f.authMethod("pods", "type = \"kubernetes\"\n  max_token_ttl = \"60m\"") + bound
	jwt := absent{what: "the service account's token", secret: func() string { return f.secret(account, "token") }}
	withoutJWT := []statecheck.StateCheck{jwt}
	id := statecheck.CompareValue(compare.ValuesSame())
	// repairs is a step that changes something, expects the drift in the plan, and the repair after the apply.
	repairs := func(change func() error, drift ...string) resource.TestStep {
		var want []any
		for _, d := range drift {
			want = append(want, d)
		}
		return resource.TestStep{
			PreConfig: func() {
				if err := change(); err != nil {
					t.Fatal(err)
				}
			},
			Config: hcl,
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectResourceAction(methodAddress, plancheck.ResourceActionUpdate), driftIs{methodAddress, want}, jwtOnceThere{jwt},
			}},
			ConfigStateChecks: append([]statecheck.StateCheck{
				statecheck.ExpectKnownValue(
					methodAddress,
					tfjsonpath.New("drift"),
					knownvalue.ListSizeExact(0),
				), id.AddStateValue(ruleAddress, tfjsonpath.New("id")),
			}, withoutJWT...),
			Check: resource.ComposeTestCheckFunc(canWrite(app), cannotLogIn(other)),
		}
	}
	changed := func(change func(map[string]any)) func() error {
		return func() error {
			return f.Any(t.Context(), f.token, func(client *api.Client) error {
				m, _, err := client.ACL().AuthMethodRead("pods", nil)
				if err != nil {
					return err
				}
				change(m.Config)
				_, _, err = client.ACL().AuthMethodUpdate(m, nil)
				return err
			})
		}
	}
	test(t, resource.TestCase{
		CheckDestroy: resource.ComposeTestCheckFunc(f.noReviewer(), f.check(func(acl *api.ACL) error {
			methods, _, err := acl.AuthMethodList(nil)
			if err != nil {
				return err
			}
			rules, _, err := acl.BindingRuleList("", nil)
			if len(methods)+len(rules) > 0 {
				return fmt.Errorf("the destroy left %d auth methods and %d binding rules", len(methods), len(rules))
			}
			return err
		})),
		Steps: []resource.TestStep{
			{
				Config: hcl,
				Check:  resource.ComposeTestCheckFunc(canWrite(app), cannotLogIn(other), f.leastRights()),
				ConfigStateChecks: append([]statecheck.StateCheck{
					statecheck.ExpectKnownValue(methodAddress, tfjsonpath.New("id"), knownvalue.StringExact("pods")),
					statecheck.ExpectKnownValue(methodAddress, tfjsonpath.New("token_reviewer"), knownvalue.ObjectExact(map[string]knownvalue.Check{
						"namespace": knownvalue.StringExact(f.Namespace), "service_account": knownvalue.StringExact("consul-auth-pods"),
						"secret": knownvalue.StringExact("consul-auth-pods"), "cluster_role": knownvalue.StringExact(role),
					})),
					id.AddStateValue(ruleAddress, tfjsonpath.New("id")),
				}, withoutJWT...),
			},
			{Config: hcl, PlanOnly: true},
			{Config: strings.Replace(hcl, "60m", "1h", 1), PlanOnly: true},
			{
				ResourceName:            methodAddress,
				ImportState:             true,
				ImportStateId:           f.ID() + "/pods",
				ImportStateVerify:       true,
				ImportStateVerifyIgnore: []string{"max_token_ttl"},
			},
			{ResourceName: ruleAddress, ImportState: true, ImportStateVerify: true, ImportStateIdFunc: func(s *terraform.State) (string, error) {
				return f.ID() + "/" + s.RootModule().Resources[ruleAddress].Primary.ID, nil
			}},
			repairs(func() error {
				return k.CoreV1().ServiceAccounts(f.Namespace).Delete(t.Context(), account, metav1.DeleteOptions{})
			}, "ServiceAccount consul-auth-pods: missing"),
			repairs(func() error {
				return k.CoreV1().Secrets(f.Namespace).Delete(t.Context(), account, metav1.DeleteOptions{})
			}, "Secret consul-auth-pods: missing"),
			repairs(
				func() error { return k.RbacV1().ClusterRoles().Delete(t.Context(), role, metav1.DeleteOptions{}) },
				"ClusterRole "+role+": missing",
			),
			repairs(func() error {
				_, err := k.RbacV1().ClusterRoleBindings().Patch(
					t.Context(),
					role,
					types.JSONPatchType,
					[]byte(`[{"op":"remove","path":"/subjects"}]`),
					metav1.PatchOptions{},
				)
				return err
			}, "ClusterRoleBinding "+role+": subjects"),
			repairs(func() error { // created again, with more rights
				b, err := k.RbacV1().ClusterRoleBindings().Get(t.Context(), role, metav1.GetOptions{})
				if err == nil {
					err = k.RbacV1().ClusterRoleBindings().Delete(t.Context(), role, metav1.DeleteOptions{})
				}
				if err == nil {
					_, err = k.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
						ObjectMeta: metav1.ObjectMeta{Name: b.Name, Labels: b.Labels, Annotations: b.Annotations},
						RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"}, Subjects: b.Subjects,
					}, metav1.CreateOptions{})
				}
				return err
			}, "ClusterRoleBinding "+role+": roleRef"),
			repairs(changed(func(config map[string]any) { config["Host"] = "https://elsewhere" }), "auth method: Config.Host"),
			repairs(
				changed(func(config map[string]any) { config["ServiceAccountJWT"] = "eyJhbGciOiJub25lIn0.e30.c2ln" }),
				"auth method: Config.ServiceAccountJWT",
			),
			{ // changed in place by both; the rule is kept
				Config: strings.Replace(
					strings.ReplaceAll(hcl, "60m", "2h"),
					"bind_type   = \"role\"",
					"description = \"changed\"\n  bind_type   = \"role\"",
					1,
				),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(
						methodAddress,
						plancheck.ResourceActionUpdate,
					), plancheck.ExpectResourceAction(ruleAddress, plancheck.ResourceActionUpdate),
				}},
				ConfigStateChecks: []statecheck.StateCheck{id.AddStateValue(ruleAddress, tfjsonpath.New("id"))},
				Check:             canWrite(app),
			},
			{ // deleted by somebody else, with its rules, and created again
				PreConfig: f.before(func(acl *api.ACL) error { _, err := acl.AuthMethodDelete("pods", nil); return err }),
				Config:    hcl, ExpectNonEmptyPlan: false,
				Check: resource.ComposeTestCheckFunc(canWrite(app), cannotLogIn(other)),
			},
		},
	})
}

// driftIs checks the attribute drift that a plan has read.
type driftIs struct {
	address string
	want    []any
}

// CheckPlan implements plancheck.PlanCheck.
func (d driftIs) CheckPlan(_ context.Context, req plancheck.CheckPlanRequest, resp *plancheck.CheckPlanResponse) {
	for _, c := range req.Plan.ResourceChanges {
		if c.Address != d.address {
			continue
		}
		before, _ := c.Change.Before.(map[string]any)
		for _, w := range d.want {
			if !strings.Contains(fmt.Sprint(before["drift"]), fmt.Sprint(w)) {
				resp.Error = fmt.Errorf("drift is %q and lacks %q", before["drift"], w)
			}
		}
		return
	}
	resp.Error = fmt.Errorf("no change of %s is planned", d.address)
}

// jwtOnceThere is absent, if there is a secret to search for.
type jwtOnceThere struct{ absent }

// CheckPlan implements plancheck.PlanCheck.
func (j jwtOnceThere) CheckPlan(ctx context.Context, req plancheck.CheckPlanRequest, resp *plancheck.CheckPlanResponse) {
	if j.secret() != "" {
		j.absent.CheckPlan(ctx, req, resp)
	}
}

// noReviewer checks that nothing of the token reviewer is left.
func (f fixture) noReviewer() resource.TestCheckFunc {
	return func(*terraform.State) error {
		k, ctx := acctest.Kube(f.t), context.Background()
		account, role := f.reviewer().AccountName(), f.reviewer().RoleName()
		_, errAccount := k.CoreV1().ServiceAccounts(f.Namespace).Get(ctx, account, metav1.GetOptions{})
		_, errSecret := k.CoreV1().Secrets(f.Namespace).Get(ctx, account, metav1.GetOptions{})
		_, errRole := k.RbacV1().ClusterRoles().Get(ctx, role, metav1.GetOptions{})
		_, errBinding := k.RbacV1().ClusterRoleBindings().Get(ctx, role, metav1.GetOptions{})
		for what, err := range map[string]error{
			"ServiceAccount": errAccount, "Secret": errSecret, "ClusterRole": errRole, "ClusterRoleBinding": errBinding,
		} {
			if !apierrors.IsNotFound(err) {
				return fmt.Errorf("a %s still exists (%w)", what, err)
			}
		}
		return nil
	}
}

// leastRights checks that the token reviewer has exactly the rights that a login needs.
func (f fixture) leastRights() resource.TestCheckFunc {
	return func(*terraform.State) error {
		role, err := acctest.Kube(f.t).RbacV1().ClusterRoles().Get(context.Background(), f.reviewer().RoleName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		return same(fmt.Sprint(role.Rules), fmt.Sprint([]rbacv1.PolicyRule{
			{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
			{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, Verbs: []string{"get"}},
		}))
	}
}

// The type jwt, on the oldest version: a client with a token that one of the configured keys signed gets the service
// identity of its subject. The type can be changed, and then the rules, which Consul deletes with the auth method,
// come back.
func TestAccAuthMethod_jwtLogsIn(t *testing.T) {
	t.Parallel()
	c, management := acctest.Bootstrapped(t, acctest.OlderVersion)
	f := fixture{Cluster: c, t: t, token: management}
	f.cleanUp()
	key, public := signingKey(t)
	config := func(more string) string {
		return fmt.Sprintf(`type = "jwt"
  config_json = jsonencode({
    JWTValidationPubKeys = [%q]
    JWTSupportedAlgs     = ["ES256"]
    ClaimMappings        = { sub = "user" }
    ListClaimMappings    = { groups = "groups" }
    BoundAudiences       = ["consul"]
    %s
  })`, public, more)
	}
	rule := f.bindingRule("app", `auth_method = consul_k8s_auth_method.pods.name
  selector  = "value.user != \"mallory\" and \"web\" in list.groups"
  bind_type = "service"
  bind_name = "web-$${value.user}"`)
	logsIn := func(user, want string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			var token *api.ACLToken
			err := f.Any(t.Context(), "", func(client *api.Client) (err error) {
				token, _, err = client.ACL().Login(&api.ACLLoginParams{AuthMethod: "pods", BearerToken: sign(t, key, user)}, nil)
				return err
			})
			switch {
			case want == "" && !consul.IsForbidden(err):
				return fmt.Errorf("%s could log in, %w", user, err)
			case want == "":
				return nil
			case err != nil:
				return err
			case len(token.ServiceIdentities) != 1:
				return fmt.Errorf("%s got %d service identities", user, len(token.ServiceIdentities))
			}
			return same(token.ServiceIdentities[0].ServiceName, want)
		}
	}
	hcl := f.authMethod("pods", config("")+"\n  token_locality = \"global\"\n  display_name = \"People\"") + rule
	rewritten := strings.Replace(hcl, "JWTSupportedAlgs     = [\"ES256\"]", "", 1)
	rewritten = strings.Replace(
		rewritten,
		"BoundAudiences       = [\"consul\"]",
		"JWTSupportedAlgs = [\"ES256\"]\n BoundAudiences = [\"consul\"]",
		1,
	)
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: hcl, Check: resource.ComposeTestCheckFunc(logsIn("alice", "web-alice"), logsIn("mallory", ""))},
		{Config: hcl, PlanOnly: true},
		{Config: rewritten, PlanOnly: true},
		{ResourceName: methodAddress, ImportState: true, ImportStateId: f.ID() + "/pods", ImportStateVerify: true},
		{ // changed by somebody else, and reverted
			PreConfig: f.before(func(acl *api.ACL) error {
				m, _, err := acl.AuthMethodRead("pods", nil)
				if err == nil {
					m.Config["BoundAudiences"] = []string{"vault"}
					_, _, err = acl.AuthMethodUpdate(m, nil)
				}
				return err
			}),
			Config: hcl,
			ConfigPlanChecks: resource.ConfigPlanChecks{
				PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(methodAddress, plancheck.ResourceActionUpdate)},
			},
			Check: logsIn("alice", "web-alice"),
		},
		{
			Config: f.authMethod("pods", config("ClockSkewLeeway = 30000000000")+"\n  display_name = \"Others\"") + rule,
			Check: resource.ComposeTestCheckFunc(logsIn("alice", "web-alice"), f.check(func(acl *api.ACL) error {
				m, _, err := acl.AuthMethodRead("pods", nil)
				if err != nil {
					return err
				}
				return same(m.DisplayName+" "+m.TokenLocality, "Others local")
			})),
		},
		{
			Config: f.authMethod(
				"pods",
				"type = \"aws-iam\"\n  config_json = jsonencode({ BoundIAMPrincipalARNs = [\"arn:aws:iam::123456789012:role/r\"] })",
			) +
				f.bindingRule(
					"app",
					"auth_method = consul_k8s_auth_method.pods.name\n  selector = \"account_id == \\\"123456789012\\\"\"\n  bind_type = "+
						"\"templated-policy\"\n  bind_name = \"builtin/service\"\n  bind_vars = { name = \"$${entity_name}\" }",
				),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectResourceAction(
					methodAddress,
					plancheck.ResourceActionDestroyBeforeCreate,
				), plancheck.ExpectResourceAction(ruleAddress, plancheck.ResourceActionDestroyBeforeCreate),
			}},
		},
		{ResourceName: ruleAddress, ImportState: true, ImportStateVerify: true, ImportStateIdFunc: func(s *terraform.State) (string, error) {
			return f.ID() + "/" + s.RootModule().Resources[ruleAddress].Primary.ID, nil
		}},
		{
			Config: f.authMethod(
				"pods",
				"type = \"kubernetes\"",
			) + f.bindingRule(
				"app",
				"auth_method = consul_k8s_auth_method.pods.name\n  bind_type = \"node\"\n  bind_name = \"k8s-$${serviceaccount.name}\"",
			),
		},
		{
			Config: f.authMethod(
				"pods",
				"type = \"kubernetes\"",
			) + f.bindingRule(
				"app",
				"auth_method = consul_k8s_auth_method.pods.name\n  bind_type = \"node\"\n  bind_name = \"k8s-$${serviceaccount.name}\"",
			),
			PlanOnly: true,
		},
		{Config: hcl, Check: resource.ComposeTestCheckFunc(logsIn("alice", "web-alice"), f.noReviewer())},
	}})
}

// signingKey creates a key pair. The public key is PEM.
func signingKey(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// sign creates a JSON web token.
func sign(t *testing.T, key *ecdsa.PrivateKey, user string) string {
	t.Helper()
	claims, err := json.Marshal(map[string]any{
		"sub": user, "groups": []string{"web"}, "aud": "consul", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// Another Kubernetes cluster is given by address, certificate, and a token that is in no state, private state, or
// plan. Nothing is created in Kubernetes.
func TestAccAuthMethod_tokenOfAnotherKubernetesIsNotStored(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	f.cleanUp()
	k, ctx := acctest.Kube(t), t.Context()
	first, ca := f.reviewerByHand("theirs")
	second, _ := f.reviewerByHand("theirs-too")
	app := f.pod("app")
	main := func(host, version string) string {
		return fmt.Sprintf(`
terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
variable "jwt" {
  type      = string
  ephemeral = true
}
provider "consul" {
  config_path = %q
}
`, os.Getenv("KUBE_CONFIG_PATH")) + f.authMethod("pods", fmt.Sprintf(`type = "kubernetes"
  kubernetes = {
    host                           = %q
    ca_cert                        = %q
    service_account_jwt_wo         = var.jwt
    service_account_jwt_wo_version = %q
  }`, host, ca, version)) + f.policy("app", "name = \"app\"\n  rules = \"key_prefix \\\"app/\\\" { policy = \\\"write\\\" }\"") +
			f.bindingRule(
				"app",
				"auth_method = consul_k8s_auth_method.pods.name\n  bind_type = \"policy\"\n  bind_name = consul_k8s_policy.app.name",
			)
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": main(server.KubernetesHost, "1")})
	cli.Setenv("TF_VAR_jwt", first)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	isWritten := func(jwt string) {
		t.Helper()
		must(f.check(func(acl *api.ACL) error {
			m, _, err := acl.AuthMethodRead("pods", nil)
			if err == nil && m.Config["ServiceAccountJWT"] != jwt {
				err = errors.New("another token is in Consul")
			}
			return err
		})(nil))
	}
	notStored := func() {
		t.Helper()
		cli.Must(ctx, "plan", "-no-color", "-out=plan")
		shown := cli.Must(ctx, "show", "-json", "plan") + cli.State()
		for _, jwt := range []string{first, second} {
			if strings.Contains(shown, jwt) {
				t.Error("the plan or the state holds the token")
			}
		}
		if !strings.Contains(shown, "service_account_jwt_wo") || !strings.Contains(cli.State(), "private") {
			t.Error("the test looked at the wrong thing")
		}
	}
	out := cli.Must(ctx, "apply", "-auto-approve", "-no-color")
	if strings.Contains(out, "Nobody can log in") {
		t.Errorf("a warning without a reason:\n%s", out)
	}
	must(canWrite(app)(nil))
	must(f.noReviewer()(nil))
	notStored()
	cli.Must(ctx, "plan", "-no-color", "-detailed-exitcode")

	// Another token is written only once its version changes.
	cli.Setenv("TF_VAR_jwt", second)
	cli.Must(ctx, "plan", "-no-color", "-detailed-exitcode")
	isWritten(first)
	cli.Write("main.tf", main(server.KubernetesHost, "2"))
	cli.Must(ctx, "apply", "-auto-approve", "-no-color")
	isWritten(second)
	notStored()

	// A token that somebody else wrote is noticed, and replaced.
	f.do(func(acl *api.ACL) error {
		m, _, err := acl.AuthMethodRead("pods", nil)
		if err == nil {
			m.Config["ServiceAccountJWT"] = first
			_, _, err = acl.AuthMethodUpdate(m, nil)
		}
		return err
	})
	if out, code := cli.Run(ctx, "plan", "-no-color", "-detailed-exitcode"); code != 2 {
		t.Errorf("another token was not noticed (exit code %d):\n%s", code, out)
	}
	cli.Must(ctx, "apply", "-auto-approve", "-no-color")
	isWritten(second)

	// An address that the servers cannot reach is a warning, and no error.
	cli.Write("main.tf", main("https://127.0.0.1:1", "2"))
	if out := cli.Must(ctx, "apply", "-auto-approve", "-no-color"); !strings.Contains(out, "Nobody can log in yet") ||
		!strings.Contains(out, "127.0.0.1:1") {
		t.Errorf("there is no warning:\n%s", out)
	}

	// From another cluster to its own, and back.
	own := strings.ReplaceAll(main(server.KubernetesHost, "2"), "service_account_jwt_wo", "# service_account_jwt_wo")
	cli.Write("main.tf", own)
	cli.Must(ctx, "apply", "-auto-approve", "-no-color")
	must(canWrite(app)(nil))
	must(f.leastRights()(nil))
	cli.Must(ctx, "plan", "-no-color", "-detailed-exitcode")
	cli.Write("main.tf", main(server.KubernetesHost, "3"))
	cli.Must(ctx, "apply", "-auto-approve", "-no-color")
	must(canWrite(app)(nil))
	must(f.noReviewer()(nil))
	notStored()

	// The plan says that the tokens of logins are lost.
	if _, err := app(login); err != nil {
		t.Fatal(err)
	}
	if out := cli.Must(ctx, "plan", "-destroy", "-no-color"); !acctest.Says(
		"the tokens that logins through it created: 1 now",
	).MatchString(
		out,
	) {
		t.Errorf("the plan does not warn:\n%s", out)
	}
	cli.Must(ctx, "destroy", "-auto-approve", "-no-color")
	if _, err := k.CoreV1().Secrets(f.Namespace).Get(ctx, "theirs", metav1.GetOptions{}); err != nil {
		t.Errorf("the destroy deleted a Secret of somebody else: %v", err)
	}
}

// reviewerByHand creates a token reviewer as an administrator does, and returns its token and the certificate
// authority.
func (f fixture) reviewerByHand(name string) (jwt, ca string) {
	f.t.Helper()
	k, ctx := acctest.Kube(f.t), f.t.Context()
	role := f.Namespace + ":" + name
	_, err := k.CoreV1().ServiceAccounts(
		f.Namespace,
	).Create(
		ctx,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}},
		metav1.CreateOptions{},
	)
	if err == nil {
		_, err = k.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: role}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
			{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, Verbs: []string{"get"}},
		}}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = k.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: f.Namespace}},
		}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = k.CoreV1().Secrets(f.Namespace).Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Name:        name,
				Annotations: map[string]string{corev1.ServiceAccountNameKey: name},
			}, Type: corev1.SecretTypeServiceAccountToken,
		}, metav1.CreateOptions{})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		ctx := context.WithoutCancel(f.t.Context())
		_ = k.RbacV1().ClusterRoleBindings().Delete(ctx, role, metav1.DeleteOptions{})
		_ = k.RbacV1().ClusterRoles().Delete(ctx, role, metav1.DeleteOptions{})
	})
	acctest.Wait(f.t, "the token of "+name, func(context.Context) (string, error) {
		if jwt, ca = f.secret(name, "token"), f.secret(name, "ca.crt"); jwt == "" || ca == "" {
			return "not yet", nil
		}
		return "", nil
	})
	return jwt, ca
}

func TestAccAuthMethod_refusals(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	f.cleanUp()
	k := acctest.Kube(t)
	role := f.reviewer().RoleName()
	f.do(func(acl *api.ACL) error {
		_, public := signingKey(t)
		_, _, err := acl.AuthMethodCreate(
			&api.ACLAuthMethod{Name: "theirs", Type: "jwt", Config: map[string]any{"JWTValidationPubKeys": []string{public}}},
			nil,
		)
		return err
	})
	const kubernetes = `type = "kubernetes"`
	jwt := func(config string) string { return "type = \"jwt\"\n  config_json = " + config }
	rule := func(more string) string { return f.bindingRule("app", more) }
	pods := f.authMethod("pods", kubernetes)
	ofPods := func(more string) string {
		return pods + rule("auth_method = consul_k8s_auth_method.pods.name\n  "+more)
	}
	ca := "-----BEGIN NOTHING-----"
	expectRefusals(t, []refusal{
		{strings.Replace(pods, `name = "pods"`, `name = "p.o"`, 1), `name: Consul would refuse "p.o"`},
		{f.authMethod("pods", `type = "oidc"`), "type: the type oidc requires Consul Enterprise"},
		{f.authMethod("pods", `type = "ldap"`), `type: there is no type "ldap"`},
		{f.authMethod("pods", kubernetes+"\n max_token_ttl = \"30s\""), `max_token_ttl: "30s" must be a duration between 1m0s and 87600h0m0s`},
		{f.authMethod("pods", kubernetes+"\n token_locality = \"both\""), `token_locality value must be one of: ["local" "global"], got: "both"`},
		{f.authMethod("pods", kubernetes+"\n config_json = \"{}\""), "config_json: the type kubernetes uses the attribute kubernetes instead"},
		{f.authMethod("pods", kubernetes+"\n kubernetes = { host = \"http://api\" }"), `kubernetes.host: "http://api" is not an address`},
		{f.authMethod("pods", kubernetes+"\n kubernetes = { ca_cert = \""+ca+"\" }"), "kubernetes.ca_cert: it contains no PEM certificate"},
		{
			f.authMethod(
				"pods",
				kubernetes+"\n kubernetes = { host = \"h\", ca_cert = \"c\", service_account_jwt_wo = \"hidden\", service_account_jwt_wo_version "+
					"= \"1\" }",
			),
			"it is not a JSON web token",
		},
		{f.authMethod("pods", kubernetes+"\n kubernetes = { service_account_jwt_wo = \"e30.e30.e30\" }"), "kubernetes.host"},
		{f.authMethod("pods", kubernetes+"\n namespace_rules = []"), "namespace_rules"},
		{f.authMethod("pods", `type = "jwt"`), "config_json: the type jwt needs to know whom to trust"},
		{f.authMethod("pods", jwt(`"{}"`)+"\n kubernetes = {}"), "kubernetes: the type jwt uses config_json instead"},
		{f.authMethod("pods", jwt(`"[]"`)), "config_json: it is not a JSON object"},
		{f.authMethod("pods", jwt(`"{"`)), "config_json: it is not a JSON object"},
		{f.authMethod("pods", jwt(`"{}"`)), "exactly one of"},
		{
			f.authMethod("pods", jwt(`jsonencode({ JWKSURL = "https://i", OIDCClientSecret = "s" })`)),
			"config_json: OIDCClientSecret requires Consul Enterprise",
		},
		{f.authMethod("theirs", kubernetes), "import it: terraform import consul_k8s_auth_method.<name> '" + f.ID() + "/theirs'"},
		{pods + strings.Replace(pods, `"consul_k8s_auth_method" "pods"`, `"consul_k8s_auth_method" "too"`, 1), `declares the name "pods"`},
		{ofPods("bind_type = \"user\"\n bind_name = \"a\""), `bind_type value must be one of:`},
		{ofPods("bind_type = \"role\"\n bind_name = \"nobody\""), `has no role with the name "nobody"`},
		{ofPods("bind_type = \"policy\"\n bind_name = \"nobody\""), `has no policy with the name "nobody"`},
		{ofPods("bind_type = \"policy\"\n bind_name = \"a/b\""), `no login can get a policy with "/" in its name`},
		{ofPods("bind_type = \"service\"\n bind_name = \"A\""), "bind_name: the name would be refused"},
		{
			ofPods("bind_type = \"service\"\n bind_name = \"$${value.user}\""),
			`bind_name: "${value.user}" refers to something that does not exist: the type kubernetes has serviceaccount.namespace, serviceaccount.name, serviceaccount.uid`,
		},
		{
			ofPods("bind_type = \"service\"\n bind_name = \"a\"\n bind_vars = { name = \"a\" }"),
			`only bind_type = "templated-policy" has variables`,
		},
		{ofPods("bind_type = \"templated-policy\"\n bind_name = \"builtin/service\""), "needs bind_vars"},
		{ofPods("bind_type = \"templated-policy\"\n bind_name = \"builtin/nothing\""), `there is no template "builtin/nothing"`},
		{ofPods("bind_type = \"service\"\n bind_name = \"a\"\n selector = \"serviceaccount.name = \\\"a\\\"\""), "selector:"},
		{
			ofPods("bind_type = \"service\"\n bind_name = \"a\"\n selector = \"serviceaccount.nmae == \\\"a\\\"\""),
			`selector: no type of auth method has all the fields that it uses`,
		},
		{
			rule("auth_method = \"theirs\"\n bind_type = \"service\"\n bind_name = \"a\"\n selector = \"serviceaccount.name == \\\"a\\\"\""),
			`selector: Selector "serviceaccount" is not valid: the type jwt has value.<key>, list.<key>`,
		},
		{
			ofPods(
				"bind_type = \"service\"\n bind_name = \"a\"",
			) + f.bindingRule(
				"too",
				"auth_method = consul_k8s_auth_method.pods.name\n bind_type = \"service\"\n bind_name = \"a\"",
			),
			"has exactly the same content",
		},
	})
	test(t, resource.TestCase{Steps: []resource.TestStep{
		// The rules of an auth method are deleted with it: a plan that creates them again is not refused.
		{Config: rule("auth_method = \"nobody\"\n bind_type = \"service\"\n bind_name = \"a\""), PlanOnly: true, ExpectNonEmptyPlan: true},
		{
			Config:      rule("auth_method = \"nobody\"\n bind_type = \"service\"\n bind_name = \"a\""),
			ExpectError: acctest.Says(`has no auth method "nobody"`),
		},

		{
			Config:        pods,
			ResourceName:  methodAddress,
			ImportState:   true,
			ImportStateId: f.ID() + "/nobody",
			ExpectError:   acctest.Says("nobody of " + f.ID() + ": it does not exist."),
		},
		{
			Config:        pods,
			ResourceName:  methodAddress,
			ImportState:   true,
			ImportStateId: "nobody",
			ExpectError:   acctest.Says(`is not of the form "<namespace>/<cluster>/<name>"`),
		},
		{ // objects of somebody else have the names: refused, and left alone
			PreConfig: func() {
				if _, err := k.RbacV1().ClusterRoles().Create(
					t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: role}}, metav1.CreateOptions{},
				); err != nil {
					t.Fatal(err)
				}
			},
			Config: pods, PlanOnly: true, ExpectNonEmptyPlan: true, ExpectError: acctest.Says("this provider did not create them for this auth " +
				"method: ClusterRole " + role),
		},
	}})
	if r, err := k.RbacV1().ClusterRoles().Get(t.Context(), role, metav1.GetOptions{}); err != nil || len(r.Rules) > 0 {
		t.Errorf("the ClusterRole of somebody else is %v, %v", r, err)
	}
}

// The next apply adopts whatever a killed apply left behind. Two resources of one configuration never adopt each
// other's objects.
func TestAccAuthMethod_resumesAnInterruptedCreate(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	f.cleanUp()
	app := f.pod("app")
	hcl := f.authMethod(
		"pods",
		`type = "kubernetes"`,
	) + f.policy(
		"app",
		"name = \"app\"\n  rules = \"key_prefix \\\"app/\\\" { policy = \\\"write\\\" }\"",
	) +
		f.bindingRule(
			"app",
			"auth_method = consul_k8s_auth_method.pods.name\n  bind_type = \"policy\"\n  bind_name = consul_k8s_policy.app.name",
		)
	rule := ""
	renamed := strings.ReplaceAll(
		strings.ReplaceAll(strings.ReplaceAll(hcl, `method" "pods"`, `method" "renamed"`), `rule" "app"`, `rule" "renamed"`),
		"method.pods.",
		"method.renamed.",
	)
	test(t, resource.TestCase{
		CheckDestroy: f.noReviewer(),
		Steps: []resource.TestStep{
			{ // only the token reviewer exists
				PreConfig: func() {
					if _, err := consulacl.NewTokenReviewer(f.Cluster, "pods").Ensure(t.Context()); err != nil {
						t.Fatal(err)
					}
				},
				Config: hcl, Check: canWrite(app),
			},
			{ // everything exists except the state
				Config: `removed {
  from = consul_k8s_auth_method.pods
  lifecycle { destroy = false }
}
removed {
  from = consul_k8s_binding_rule.app
  lifecycle { destroy = false }
}
` + f.policy("app", "name = \"app\"\n  rules = \"key_prefix \\\"app/\\\" { policy = \\\"write\\\" }\""),
				Check: f.check(func(acl *api.ACL) error {
					rules, _, err := acl.BindingRuleList("pods", nil)
					if err == nil && len(rules) != 1 {
						return fmt.Errorf("there are %d binding rules", len(rules))
					}
					rule = rules[0].ID
					return err
				}),
			},
			{
				Config: hcl, Check: canWrite(app),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(ruleAddress, tfjsonpath.New("id"), knownvalue.StringFunc(func(id string) error { return same(id, rule) })),
				},
			},
			{Config: hcl, PlanOnly: true},
			{Config: renamed, Check: canWrite(app)}, // without a block "moved"
			{Config: renamed, PlanOnly: true},
			{ // the new one is created, which adopts the objects, before the old one is destroyed
				Taint: []string{"consul_k8s_auth_method.renamed", "consul_k8s_binding_rule.renamed"},
				Config: strings.ReplaceAll(
					renamed,
					"consul_k8s_policy.app.name\n}",
					"consul_k8s_policy.app.name\n  lifecycle {\n    create_before_destroy = true\n  }\n}",
				),
				Check: canWrite(app),
			},
			{Config: renamed, PlanOnly: true},
		},
	})
}

// Auth methods that move to another address without a block "moved" are destroyed and created at the same time, in no
// order. Afterwards, each exists with its token reviewer.
func TestAccLong_moveToAnotherAddress(t *testing.T) {
	f := bootstrapped(t)
	f.cleanUp()
	const n = 8
	config := func(prefix string) (hcl string) {
		for i := range n {
			hcl += strings.Replace(f.authMethod(fmt.Sprintf("m%d", i), `type = "kubernetes"`), `method" "m`, `method" "`+prefix, 1)
		}
		return hcl
	}
	there := f.check(func(acl *api.ACL) error {
		list, _, err := acl.AuthMethodList(nil)
		if err != nil || len(list) != n {
			return fmt.Errorf("there are %d auth methods: %w", len(list), err)
		}
		for _, m := range list {
			s, err := consulacl.NewTokenReviewer(f.Cluster, m.Name).Read(t.Context())
			if err != nil || len(s.Drift) > 0 {
				return fmt.Errorf("the token reviewer of %s is not whole: %v, %w", m.Name, s.Drift, err)
			}
		}
		return nil
	})
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: config("a"), Check: there},
		{Config: config("b"), Check: there},
		{Config: config("b"), PlanOnly: true},
		{Config: config("c"), Check: there},
	}})
}

// The provider may be killed at any time: the next apply resumes, and a destroy leaves nothing.
func TestAccLong_resumesAKilledApply(t *testing.T) {
	f := bootstrapped(t)
	f.cleanUp()
	k, account := acctest.Kube(t), f.reviewer().AccountName()
	main := `
terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
` + f.authMethod("pods", `type = "kubernetes"`) +
		f.bindingRule("app", "auth_method = consul_k8s_auth_method.pods.name\n  bind_type = \"service\"\n  bind_name = \"app\"")
	for name, when := range map[string]func(ctx context.Context) bool{
		"the ServiceAccount is there": func(ctx context.Context) bool {
			_, err := k.CoreV1().ServiceAccounts(f.Namespace).Get(ctx, account, metav1.GetOptions{})
			return err == nil
		},
		"the auth method is there": func(context.Context) bool {
			var m *api.ACLAuthMethod
			f.do(func(acl *api.ACL) (err error) { m, _, err = acl.AuthMethodRead("pods", nil); return err })
			return m != nil
		},
		"the binding rule is there": func(context.Context) bool {
			var rules []*api.ACLBindingRule
			f.do(func(acl *api.ACL) (err error) { rules, _, err = acl.BindingRuleList("pods", nil); return err })
			return len(rules) > 0
		},
	} {
		cli := acctest.NewCLI(t, map[string]string{"main.tf": main})
		killed, out := cli.RunAndKill(t.Context(), "apply", when)
		t.Logf("%s: killed is %t", name, killed)
		if !killed && !strings.Contains(out, "Apply complete") {
			t.Errorf("%s: %s", name, out)
		}
		cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
		cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode", "-lock=false")
		if err := f.check(func(acl *api.ACL) error {
			rules, _, err := acl.BindingRuleList("pods", nil)
			if err == nil && len(rules) != 1 {
				err = fmt.Errorf("%s: there are %d binding rules", name, len(rules))
			}
			return err
		})(nil); err != nil {
			t.Error(err)
		}
		cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color", "-lock=false")
		if err := f.noReviewer()(nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The cluster was deleted by hand, and the auth method with it. What was created for it in Kubernetes is not
// forgotten.
func TestAccAuthMethod_destroyCleansUpAfterTheCluster(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	f.cleanUp()
	k := acctest.Kube(t)
	hcl := f.authMethod(
		"pods",
		`type = "kubernetes"`,
	) + f.bindingRule(
		"app",
		"auth_method = consul_k8s_auth_method.pods.name\n  bind_type = \"service\"\n  bind_name = \"app\"",
	)
	test(t, resource.TestCase{
		CheckDestroy: f.noReviewer(),
		Steps: []resource.TestStep{
			{Config: hcl},
			{
				PreConfig: func() {
					if err := k.AppsV1().StatefulSets(f.Namespace).Delete(
						t.Context(), server.StatefulSetName(f.Name), metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)},
					); err != nil {
						t.Fatal(err)
					}
					acctest.Wait(t, "the server to be deleted", func(ctx context.Context) (string, error) {
						pods, err := f.Pods(ctx)
						if len(pods) > 0 {
							return "it is there", err
						}
						return "", err
					})
				},
				Config: hcl, Destroy: true,
			},
		},
	})
}

// Import by resource identity requires Terraform or OpenTofu 1.12.
func TestAccAuthMethod_importByIdentity(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	f.cleanUp()
	test(t, resource.TestCase{
		TerraformVersionChecks: []tfversion.TerraformVersionCheck{tfversion.SkipBelow(tfversion.Version1_12_0)},
		Steps: []resource.TestStep{
			{
				Config: f.authMethod(
					"pods",
					`type = "kubernetes"`,
				) + f.bindingRule(
					"app",
					"auth_method = consul_k8s_auth_method.pods.name\n  bind_type = \"service\"\n  bind_name = \"app\"",
				),
			},
			{ResourceName: methodAddress, ImportState: true, ImportStateKind: resource.ImportBlockWithResourceIdentity},
			{ResourceName: ruleAddress, ImportState: true, ImportStateKind: resource.ImportBlockWithResourceIdentity},
		},
	})
}

func TestAccAuthMethod_dataSourceShowsNoSecret(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	f.cleanUp()
	jwt := absent{what: "the service account's token", secret: func() string { return f.secret(f.reviewer().AccountName(), "token") }}
	source := func(name string) string {
		return fmt.Sprintf("data \"consul_k8s_auth_method\" \"a\" {\n  cluster = %q\n  name = %s\n}\n", f.ID(), name)
	}
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: source(`"nobody"`), ExpectError: acctest.Says("auth method nobody of " + f.ID() + ": it does not exist")},
		{
			Config: f.authMethod(
				"pods",
				"type = \"kubernetes\"\n  description = \"for pods\"\n  max_token_ttl = \"1h\"",
			) + source(
				"consul_k8s_auth_method.pods.name",
			),
			ConfigStateChecks: []statecheck.StateCheck{
				jwt,
				statecheck.ExpectKnownValue("data.consul_k8s_auth_method.a", tfjsonpath.New("type"), knownvalue.StringExact("kubernetes")),
				statecheck.ExpectKnownValue("data.consul_k8s_auth_method.a", tfjsonpath.New("max_token_ttl"), knownvalue.StringExact("1h0m0s")),
				statecheck.ExpectKnownValue(
					"data.consul_k8s_auth_method.a",
					tfjsonpath.New("config_json"),
					knownvalue.StringFunc(func(text string) error {
						var config map[string]string
						if err := json.Unmarshal([]byte(text), &config); err != nil {
							return err
						}
						if config["Host"] != server.KubernetesHost || !strings.Contains(config["CACert"], "BEGIN CERTIFICATE") || len(config) != 2 {
							return fmt.Errorf("the configuration has other keys than Host and CACert, or other values: %d", len(config))
						}
						return nil
					}),
				),
			},
		},
	}})
}
