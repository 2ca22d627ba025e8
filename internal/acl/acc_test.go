package acl_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

func TestMain(m *testing.M) { acctest.Main(m) }

const address = "consul_k8s_acl_bootstrap.test"

func clusterHCL(namespace, more string) string {
	return fmt.Sprintf(`
resource "consul_k8s_cluster" "test" {
  name      = "consul"
  namespace = %q
  version   = %q
  storage   = { size = "1Gi", retention = { when_deleted = "Delete" } }
%s%s
}
`, namespace, acctest.ConsulVersion, acctest.Small, more)
}

func hcl(namespace, more string) string {
	return clusterHCL(namespace, "  acl = { enabled = true }\n") +
		fmt.Sprintf("resource \"consul_k8s_acl_bootstrap\" \"test\" {\n  cluster = consul_k8s_cluster.test.id\n%s\n}\n", more)
}

func test(t *testing.T, c resource.TestCase) {
	t.Helper()
	acctest.PreCheck(t)
	c.ProtoV6ProviderFactories = acctest.Factories()
	resource.Test(t, c)
}

// token reads the management token as a user does.
func token(t *testing.T, namespace string) string {
	t.Helper()
	s, err := acctest.Kube(t).CoreV1().Secrets(namespace).Get(t.Context(), "consul-bootstrap-token", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return string(s.Data["token"])
}

func deniesAnonymousWrites(t *testing.T, namespace string) resource.TestCheckFunc {
	return func(*terraform.State) error {
		c := acctest.Consul(t, namespace, "consul")
		put := func(token string) error {
			return c.Any(t.Context(), token, func(client *api.Client) error {
				_, err := client.KV().Put(&api.KVPair{Key: "k", Value: []byte("v")}, nil)
				return err
			})
		}
		if err := put(""); !consul.IsForbidden(err) {
			return fmt.Errorf("an anonymous write was answered with %w", errors.Join(err, errors.New("and not with 403")))
		}
		return put(token(t, namespace))
	}
}

// hasAgentTokens checks that every server has its own token, with exactly the rights of its node, and registers
// itself with it.
func hasAgentTokens(t *testing.T, namespace string) resource.TestCheckFunc {
	return func(*terraform.State) error {
		c, management := acctest.Consul(t, namespace, "consul"), token(t, namespace)
		seen := map[string]bool{}
		for i := range 3 {
			var agent *api.ACLToken
			err := c.Any(t.Context(), management, func(client *api.Client) (err error) {
				agent, _, err = client.ACL().TokenRead(consulacl.AgentTokenAccessor(c, i), nil)
				return err
			})
			if err != nil {
				return err
			}
			if len(agent.NodeIdentities) != 1 || agent.NodeIdentities[0].NodeName != fmt.Sprintf("consul-server-%d", i) ||
				len(agent.Policies)+len(agent.Roles)+len(agent.ServiceIdentities) > 0 {
				return fmt.Errorf("server %d has a token with other rights than its node identity: %+v", i, agent)
			}
			if seen[agent.SecretID] {
				return fmt.Errorf("server %d shares its token", i)
			}
			seen[agent.SecretID] = true
			persisted, err := acctest.Kube(
				t,
			).Exec(
				t.Context(),
				namespace,
				fmt.Sprintf("consul-server-%d", i),
				"consul",
				nil,
				"cat",
				"/consul/data/acl-tokens.json",
			)
			if err != nil {
				return err
			}
			if !strings.Contains(persisted, agent.SecretID) {
				return fmt.Errorf("server %d has not persisted its token", i)
			}
		}
		return nil
	}
}

func noSecretInState(t *testing.T, namespace string) resource.TestCheckFunc {
	return func(s *terraform.State) error {
		if secret := token(t, namespace); len(secret) != 36 || strings.Contains(s.String(), secret) {
			return fmt.Errorf("the state holds the management token (of %d characters)", len(secret))
		}
		return nil
	}
}

func TestAccACLBootstrap_lifecycle(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	k := acctest.Kube(t)
	lost := ""
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{
				Config: hcl(namespace, ""),
				Check:  resource.ComposeTestCheckFunc(deniesAnonymousWrites(t, namespace), hasAgentTokens(t, namespace), noSecretInState(t, namespace)),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(address, tfjsonpath.New("id"), knownvalue.StringExact(namespace+"/consul")),
					statecheck.ExpectKnownValue(address, tfjsonpath.New("secret"), knownvalue.ObjectExact(map[string]knownvalue.Check{
						"namespace": knownvalue.StringExact(namespace),
						"name":      knownvalue.StringExact("consul-bootstrap-token"), "key": knownvalue.StringExact("token"),
					})),
				},
			},
			{Config: hcl(namespace, ""), PlanOnly: true},
			{ResourceName: address, ImportState: true, ImportStateId: namespace + "/consul", ImportStateVerify: true},
			{ // a new pod has its agent token from its volume
				PreConfig: func() {
					c := acctest.Consul(t, namespace, "consul")
					if err := k.CoreV1().Pods(namespace).Delete(t.Context(), "consul-server-0", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
					acctest.Wait(t, "the server to come back", func(ctx context.Context) (string, error) {
						return consul.Missing(ctx, c, token(t, namespace), 3, 0)
					})
				},
				Config: hcl(namespace, ""), PlanOnly: true,
			},
			{ // a pod whose disk is lost has none, but votes: the refresh sees that, and the apply fixes it
				PreConfig: func() {
					c := acctest.Consul(t, namespace, "consul")
					if _, err := k.Exec(t.Context(), namespace, "consul-server-1", "consul", nil, "rm", "/consul/data/acl-tokens.json"); err != nil {
						t.Fatal(err)
					}
					if err := k.CoreV1().Pods(namespace).Delete(t.Context(), "consul-server-1", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
					acctest.Wait(t, "the server to come back, without its token", func(ctx context.Context) (string, error) {
						if missing, err := consul.Missing(ctx, c, token(t, namespace), 3, 0); missing != "" || err != nil {
							return missing, err
						}
						drift, err := consulacl.AgentTokenDrift(ctx, c, token(t, namespace))
						if err == nil && len(drift) == 0 {
							return "nothing is wrong with its entry in the catalog", nil
						}
						return "", err
					})
				},
				Config: hcl(namespace, ""),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction("consul_k8s_cluster.test", plancheck.ResourceActionUpdate),
				}},
				Check: resource.ComposeTestCheckFunc(hasAgentTokens(t, namespace), func(*terraform.State) error {
					return acctest.Consul(t, namespace, "consul").Any(t.Context(), token(t, namespace), func(client *api.Client) error {
						node, _, err := client.Catalog().Node("consul-server-1", nil)
						if err == nil && (node == nil || node.Node.TaggedAddresses["lan"] != node.Node.Address) {
							err = fmt.Errorf("the entry in the catalog is %+v", node)
						}
						return err
					})
				}),
			},
			{Config: hcl(namespace, ""), PlanOnly: true},
			{ // the Secret is lost: the plan only reports it
				PreConfig: func() {
					lost = token(t, namespace)
					if err := k.CoreV1().Secrets(namespace).Delete(t.Context(), "consul-bootstrap-token", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config: hcl(namespace, ""), PlanOnly: true,
			},
			{ // a reset recovers it
				Config: hcl(namespace, `  reset = "once"`),
				Check: resource.ComposeTestCheckFunc(deniesAnonymousWrites(t, namespace), noSecretInState(t, namespace), func(*terraform.State) error {
					if _, err := consulacl.VerifyToken(t.Context(), acctest.Consul(t, namespace, "consul"), lost); !errors.Is(
						err,
						consulacl.ErrSecretLost,
					) {
						return fmt.Errorf("the lost token still works: %w", errors.Join(err, errors.New("it was not deleted")))
					}
					return nil
				}),
			},
			{Config: hcl(namespace, `  reset = "once"`), PlanOnly: true},
		},
	})
}

// Each of these is what a process leaves behind that dies between two steps. The next apply resumes from it.
func TestAccLong_resumesFromAnyStep(t *testing.T) {
	acctest.PreCheck(t)
	tests := map[string]func(t *testing.T, c *consul.Cluster, ref consulacl.SecretRef) error{
		"the Secret is stored": func(t *testing.T, c *consul.Cluster, ref consulacl.SecretRef) error {
			t.Helper()
			_, err := consulacl.PrepareSecret(t.Context(), c, ref, false)
			return err
		},
		"the Secret is stored elsewhere, provisionally": func(t *testing.T, c *consul.Cluster, _ consulacl.SecretRef) error {
			t.Helper()
			_, err := consulacl.PrepareSecret(t.Context(), c, consulacl.SecretRef{Name: "elsewhere", Key: "token"}, true)
			return err
		},
		"the token has another key, provisionally": func(t *testing.T, c *consul.Cluster, ref consulacl.SecretRef) error {
			t.Helper()
			_, err := consulacl.PrepareSecret(t.Context(), c, consulacl.SecretRef{Name: ref.Name, Key: "other"}, true)
			return err
		},
		"Consul is bootstrapped": func(t *testing.T, c *consul.Cluster, ref consulacl.SecretRef) error {
			t.Helper()
			secret, err := consulacl.PrepareSecret(t.Context(), c, ref, false)
			if err != nil {
				return err
			}
			return c.Any(t.Context(), "", func(client *api.Client) error {
				_, _, err := client.ACL().BootstrapWithToken(secret)
				return err
			})
		},
	}
	for name, interrupted := range tests {
		t.Run(name, func(t *testing.T) {
			namespace := acctest.Namespace(t)
			test(t, resource.TestCase{
				CheckDestroy: acctest.NothingLeft(t, namespace),
				Steps: []resource.TestStep{
					{Config: clusterHCL(namespace, "  acl = { enabled = true }\n  replicas = 1\n")},
					{
						PreConfig: func() {
							if err := interrupted(
								t, acctest.Consul(t, namespace, "consul"), consulacl.SecretRef{Name: "consul-bootstrap-token", Key: "token"},
							); err != nil {
								t.Fatal(err)
							}
						},
						Config: strings.Replace(hcl(namespace, ""), "acl =", "replicas = 1\n  acl =", 1),
						Check:  deniesAnonymousWrites(t, namespace),
					},
				},
			})
		})
	}
}

func TestAccACLBootstrap_refusals(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	cluster := clusterHCL(namespace, "  replicas = 1\n")
	bootstrap := func(attributes string) string {
		return cluster + "resource \"consul_k8s_acl_bootstrap\" \"test\" {\n" + attributes + "\n}\n"
	}
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{
			Config:             bootstrap(`cluster = "consul"`),
			PlanOnly:           true,
			ExpectNonEmptyPlan: true,
			ExpectError:        acctest.Says(`cluster: "consul" is not of the form "<namespace>/<name>"`),
		},
		{
			Config:             bootstrap("cluster = \"a/b\"\n secret = { key = \"a/b\" }"),
			PlanOnly:           true,
			ExpectNonEmptyPlan: true,
			ExpectError:        acctest.Says(`secret.key: Kubernetes would refuse "a/b"`),
		},
		{
			Config:             bootstrap("cluster = \"a/b\"\n secret = { name = \"A\" }"),
			PlanOnly:           true,
			ExpectNonEmptyPlan: true,
			ExpectError:        acctest.Says(`secret.name: Kubernetes would refuse "A"`),
		},
		{
			Config:      bootstrap(fmt.Sprintf("cluster = \"%s/other\"", namespace)),
			ExpectError: acctest.Says("There is no cluster " + namespace + "/other"),
		},
		{Config: cluster},
		{
			Config:      bootstrap(fmt.Sprintf("cluster = \"%s/consul\"", namespace)),
			ExpectError: acctest.Says(`set acl = { enabled = true, default_policy = "allow" }`),
		},
		{Config: cluster, Check: func(*terraform.State) error {
			// A refused bootstrap leaves no Secret behind.
			secrets, err := acctest.Kube(t).CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{})
			if err == nil && len(secrets.Items) > 0 {
				err = fmt.Errorf("there is Secret %s", secrets.Items[0].Name)
			}
			return err
		}},
	}})
}
