package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// The four steps from no ACLs to "deny".
const (
	stepOff   = ""
	stepAllow = "  acl = { enabled = true, default_policy = \"allow\" }\n"
	stepDeny  = "  acl = { enabled = true, default_policy = \"deny\" }\n"
)

func bootstrapHCL(more string) string {
	return "resource \"consul_k8s_acl_bootstrap\" \"test\" {\n  cluster = consul_k8s_cluster.test.id\n" + more + "}\n"
}

// clientHCL creates the token of the writer, and delivers it to the Secret that the pod of the writer mounts.
func clientHCL(namespace string) string {
	return fmt.Sprintf(`
resource "consul_k8s_policy" "client" {
  cluster = consul_k8s_acl_bootstrap.test.cluster
  name    = "client"
  rules   = %q
}

resource "consul_k8s_token" "client" {
  cluster  = consul_k8s_acl_bootstrap.test.cluster
  policies = [consul_k8s_policy.client.name]
  secret   = { namespace = %q, name = "client-token", key = "token" }
}
`, acctest.WriterRules, namespace)
}

// A client that writes all the time, without a token until it has one, is never refused, and loses no write, while
// its cluster goes from no ACLs to "deny".
func TestAccACL_migrationRefusesNoWrite(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	var client *acctest.Writer
	write := func(*terraform.State) error {
		client.More(20)
		return nil
	}
	config := func(acl string) string { return hclVersion(namespace, acctest.ConsulVersion, acl) }
	withClient := func(acl string) string { return config(acl) + bootstrapHCL("") + clientHCL(namespace) }
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config(stepOff), Check: func(*terraform.State) error {
				client = acctest.StartWriter(t, namespace, "client-token")
				client.More(20)
				return nil
			}},
			{Config: config(stepAllow), Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), write)},
			{Config: withClient(stepAllow), Check: func(*terraform.State) error {
				client.HasToken(1) // the kubelet delivers it after a minute or more
				client.More(20)
				return nil
			}},
			{Config: withClient(stepDeny), Check: resource.ComposeTestCheckFunc(write, func(*terraform.State) error {
				if err := putKey(t, namespace, "written/by-nobody", ""); !consul.IsForbidden(err) {
					return fmt.Errorf("a write without a token was answered with %w", errors.Join(err, errors.New("and not with 403")))
				}
				return client.Verify(managementToken(t, namespace))
			})},
			{Config: withClient(stepDeny), PlanOnly: true},
			{PreConfig: func() { client.Stop() }, Config: withClient(stepDeny)},
		},
	})
}

// The plan refuses unsafe steps to "deny", and warns, with names, about clients that would be cut off. The apply then
// restores the agent token of a server that has lost it.
func TestAccACL_denyIsRefusedUntilTheServersAreReady(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	c := acctest.Consul(t, namespace, "consul")
	config := func(acl, more string) string {
		return required + hclVersion(namespace, acctest.ConsulVersion, "  create_namespace = true\n  replicas = 1\n"+acl) + more
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config(stepOff, "")})
	apply := func(config string) {
		t.Helper()
		cli.Write("main.tf", config)
		cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	}
	plan := func(config string, code int, texts ...string) {
		t.Helper()
		cli.Write("main.tf", config)
		out, got := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode")
		if got != code {
			t.Errorf("the exit code is %d, want %d", got, code)
		}
		for _, text := range texts {
			if !acctest.Says(text).MatchString(out) {
				t.Errorf("the plan does not say %q", text)
			}
		}
		if t.Failed() {
			t.Fatal(out)
		}
	}
	const refused, changed = 1, 2

	apply(config(stepOff, ""))
	plan(config(stepDeny, ""), refused, "acl.default_policy:", `Go through "allow"`)
	plan(config("  acl = { enabled = true }\n", ""), refused, `Go through "allow"`) // the default
	plan(config(stepAllow, ""), changed, "refuses a token that it does not know", "a snapshot without a token")
	apply(config(stepAllow, ""))
	if err := c.Any(t.Context(), "", saveSnapshot); !consul.IsForbidden(err) {
		t.Errorf("a snapshot without a token was answered with %v and not with 403", err)
	}
	plan(
		config(stepDeny, bootstrapHCL("")),
		refused,
		"is not bootstrapped, or its management token is lost: no Secret contains it",
		"add a consul_k8s_acl_bootstrap",
	)
	apply(config(stepAllow, bootstrapHCL("")))
	management := managementToken(t, namespace)
	call(t, c, management, func(c *api.Client) error {
		_, err := c.ACL().TokenDelete(consulacl.AgentTokenAccessor(acctest.Consul(t, namespace, "consul"), 0), nil)
		return err
	})
	plan(config(stepDeny, bootstrapHCL("")), refused, "have no valid agent token: consul-server-0.")
	again := bootstrapHCL("  reset = \"again\"\n") // as the refusal advises
	apply(config(stepAllow, again))
	plan(config(stepDeny, again), changed)

	call(t, c, management, func(c *api.Client) error {
		register := &api.CatalogRegistration{Node: "legacy-vm", Address: "192.0.2.1", Service: &api.AgentService{Service: "billing"}}
		if _, err := c.Catalog().Register(register, nil); err != nil {
			return err
		}
		if _, _, err := c.Session().CreateNoChecks(&api.SessionEntry{Node: "legacy-vm", TTL: "24h"}, nil); err != nil {
			return err
		}
		// The agent loses its token, as with its disk; Consul still knows the token.
		_, err := c.Agent().UpdateAgentACLToken("", nil)
		return err
	})
	plan(config(stepDeny, again), changed,
		"identity of these nodes, which are registered in "+namespace+"/consul: legacy-vm.",
		"identity of these services, which are registered in "+namespace+"/consul: billing.",
		"DNS may find no services", "on the nodes legacy-vm.")
	call(t, c, management, func(c *api.Client) error {
		policy, _, err := c.ACL().PolicyCreate(&api.ACLPolicy{Name: "dns-lookups", Rules: `service_prefix "" { policy = "read" }`}, nil)
		if err == nil {
			_, _, err = c.ACL().TokenUpdate(
				&api.ACLToken{AccessorID: consulacl.AnonymousAccessorID, Policies: []*api.ACLTokenPolicyLink{{ID: policy.ID}}},
				nil,
			)
		}
		return err
	})
	plan(config(stepDeny, again), changed, "keep these rights in "+namespace+"/consul: policy dns-lookups.")

	scale(t, namespace, 0)
	plan(config(stepDeny, again), changed, "Could not check which clients would be cut off")
	apply(config(stepDeny, again)) // starts the server as it was, renews its token, and only then changes the policy
	if err := putKey(t, namespace, "by-nobody", ""); !consul.IsForbidden(err) {
		t.Errorf("a write without a token was answered with %v and not with 403", err)
	}
	persisted, err := acctest.Kube(t).Exec(t.Context(), namespace, "consul-server-0", "consul", nil, "cat", "/consul/data/acl-tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	call(t, c, management, func(client *api.Client) error {
		agent, _, err := client.ACL().TokenRead(consulacl.AgentTokenAccessor(c, 0), nil)
		if err == nil && !strings.Contains(persisted, agent.SecretID) {
			err = errors.New("the server has not taken its agent token back")
		}
		return err
	})
	plan(config(stepDeny, again), 0)

	// A cluster that already runs with "deny" is imported unchanged.
	cli.Must(t.Context(), "state", "rm", address)
	imported := fmt.Sprintf("import {\n  to = %s\n  id = \"%s/consul\"\n}\n", address, namespace)
	plan(config(stepDeny, again)+imported, changed, "1 to import, 0 to add, 0 to change, 0 to destroy")
	apply(config(stepDeny, again) + imported)
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}

func saveSnapshot(client *api.Client) error {
	snapshot, _, err := client.Snapshot().Save(nil)
	if err != nil {
		return err
	}
	return snapshot.Close()
}

// call calls a function with a client of one server.
func call(t *testing.T, c *consul.Cluster, token string, do func(*api.Client) error) {
	t.Helper()
	if err := c.Any(t.Context(), token, do); err != nil {
		t.Fatal(err)
	}
}

// scale changes the number of servers by hand, and waits until the surplus ones are gone.
func scale(t *testing.T, namespace string, replicas int) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if _, err := acctest.Kube(t).AppsV1().StatefulSets(namespace).Patch(
		t.Context(), "consul-server", types.MergePatchType, patch, metav1.PatchOptions{},
	); err != nil {
		t.Fatal(err)
	}
	acctest.Wait(t, "servers to be removed", func(ctx context.Context) (string, error) {
		pods, err := acctest.Consul(t, namespace, "consul").Pods(ctx)
		if err == nil && len(pods) > replicas {
			return fmt.Sprintf("%d are there", len(pods)), nil
		}
		return "", err
	})
}

// During a change, servers without ACLs, with "allow", and with "deny" are in one cluster. The leader decides on
// writes, and on reads in the default and the consistent mode, whichever server is asked. The asked server decides on
// stale reads and on requests to its own agent. So a client without a token is refused nothing on the way to "allow",
// and one with a token nothing on the way to "deny". Servers without ACLs ignore a token that Consul does not know,
// but all others refuse it, also with "allow": a client must not send a token before it exists.
func TestAccLong_inAMixedClusterTheLeaderDecides(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	c := acctest.Consul(t, namespace, "consul")
	const off, allow, deny = "off", "allow", "deny"
	runs := map[string]string{"consul-server-0": off, "consul-server-1": off, "consul-server-2": off}
	management := ""
	tokens := map[string]string{"no token": "", "an unknown token": "11111111-2222-3333-4444-555555555555"}
	answers := func(server, token string) bool { // of a server that decides by itself
		return server == off || token == "a valid token" || (token == "no token" && server == allow)
	}
	compare := func(leader string) {
		t.Helper()
		pods, err := c.Pods(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range pods {
			for token, secret := range tokens {
				client, err := c.Server(&pods[i], secret)
				if err != nil {
					t.Fatal(err)
				}
				_, put := client.KV().Put(&api.KVPair{Key: "written/key", Value: []byte("v")}, nil)
				_, _, get := client.KV().Get("written/key", nil)
				_, _, stale := client.KV().Get("written/key", &api.QueryOptions{AllowStale: true})
				for kind, r := range map[string]struct {
					err  error
					want bool
				}{
					"write": {put, answers(runs[leader], token)},
					"read":  {get, answers(runs[leader], token)}, "stale read": {stale, answers(runs[pods[i].Name], token)},
				} {
					if (r.err == nil) != r.want || (r.err != nil && !consul.IsForbidden(r.err)) {
						t.Errorf("leader %s, server %s, %s: the %s was answered with %v", runs[leader], runs[pods[i].Name], token, kind, r.err)
					}
				}
			}
		}
	}
	voters := func(ctx context.Context) (string, error) { return consul.Missing(ctx, c, management, 3, consul.Soak) }
	restart := func(name, acl string) {
		t.Helper()
		setACL(t, namespace, acl)
		pods := acctest.Kube(t).CoreV1().Pods(namespace)
		before, err := pods.Get(t.Context(), name, metav1.GetOptions{})
		if err == nil {
			err = pods.Delete(t.Context(), name, metav1.DeleteOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		acctest.Wait(t, "the server to restart", func(ctx context.Context) (string, error) {
			p, err := pods.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err.Error(), nil
			}
			if p.UID == before.UID {
				return "it is the former one", nil
			}
			return voters(ctx)
		})
		runs[name] = acl
	}
	lead := func(name string) {
		t.Helper()
		acctest.Wait(t, name+" to lead", func(ctx context.Context) (string, error) {
			h, err := consul.ReadHealth(ctx, c, management)
			if err != nil || h.Leader() == nil {
				return fmt.Sprintf("no leader, %v", err), nil
			}
			if h.Leader().Name == name {
				return voters(ctx)
			}
			i := slices.IndexFunc(h.Servers, func(s consul.ServerHealth) bool { return s.Name == name })
			err = c.Any(ctx, management, func(client *api.Client) error {
				_, err := client.Operator().RaftLeaderTransfer(h.Servers[i].ID, nil)
				return err
			})
			return fmt.Sprintf("asked %s to hand over, %v", h.Leader().Name, err), nil
		})
	}
	test(t, resource.TestCase{Steps: []resource.TestStep{{
		Config: hclVersion(namespace, acctest.ConsulVersion, stepOff),
		Check: func(*terraform.State) error {
			compare("consul-server-0") // whichever server leads
			lead("consul-server-2")
			restart("consul-server-0", allow)
			compare("consul-server-2")
			lead("consul-server-0")
			compare("consul-server-0")
			if _, err := consulacl.EnsureBootstrap(
				t.Context(), c, consulacl.SecretRef{Name: "token", Key: "token"}, consulacl.BootstrapOptions{},
			); err == nil {
				return errors.New("two servers without ACLs have taken an agent token")
			}
			management = managementToken(t, namespace)
			tokens["a valid token"] = clientToken(t, namespace)
			restart("consul-server-1", deny)
			compare("consul-server-0")
			lead("consul-server-1")
			compare("consul-server-1")
			return nil
		},
		ExpectNonEmptyPlan: true, // the servers were changed by hand
	}}})
}

// sharedConfig is the key of the configuration that all servers share, if there is only one.
func sharedConfig(cm *corev1.ConfigMap) string {
	for k := range cm.Data {
		if strings.HasPrefix(k, "server-") {
			return k
		}
	}
	return ""
}

// setACL changes the configuration of servers that start from now on.
func setACL(t *testing.T, namespace, policy string) {
	t.Helper()
	maps := acctest.Kube(t).CoreV1().ConfigMaps(namespace)
	cm, err := maps.Get(t.Context(), "consul-server", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal([]byte(cm.Data[sharedConfig(cm)]), &config); err != nil {
		t.Fatal(err)
	}
	config["acl"] = map[string]any{"enabled": true, "default_policy": policy, "down_policy": "extend-cache", "enable_token_persistence": true}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	cm.Data[sharedConfig(cm)] = string(text)
	if _, err := maps.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func managementToken(t *testing.T, namespace string) string {
	t.Helper()
	token, _, err := consulacl.ManagementToken(t.Context(), acctest.Consul(t, namespace, "consul"))
	if err != nil || token == "" {
		t.Fatalf("no management token: %v", err)
	}
	return token
}

// clientToken creates a token with the rights that the writer needs.
func clientToken(t *testing.T, namespace string) (secret string) {
	t.Helper()
	err := acctest.Consul(t, namespace, "consul").Any(t.Context(), managementToken(t, namespace), func(c *api.Client) error {
		policy, _, err := c.ACL().PolicyCreate(&api.ACLPolicy{Name: "client", Rules: acctest.WriterRules}, nil)
		if err != nil {
			return err
		}
		token, _, err := c.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{ID: policy.ID}}}, nil)
		if err == nil {
			secret = token.SecretID
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}
