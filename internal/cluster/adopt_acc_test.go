package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/pki"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// oldServers are servers that another tool made.
type oldServers struct {
	t           *testing.T
	namespace   string
	statefulSet string
	*consul.Cluster
}

// startOld applies a manifest of testdata/adopt, with words replaced, and waits for three voters.
func startOld(t *testing.T, namespace, manifest, statefulSet, token string, replace ...string) oldServers {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "adopt", manifest+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	replaced := strings.NewReplacer(append(replace, "NAMESPACE", namespace)...).Replace(string(text))
	for _, document := range strings.Split(replaced, "\n---\n") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatal(err)
		}
		if err := unstructured.SetNestedField(o, namespace, "metadata", "namespace"); err != nil {
			t.Fatal(err)
		}
		if err := acctest.Kube(t).Apply(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	old := oldServers{t, namespace, statefulSet, acctest.Consul(t, namespace, "consul").Former(statefulSet)}
	acctest.Wait(t, "the former servers", func(ctx context.Context) (string, error) { return consul.Missing(ctx, old.Cluster, token, 3, 0) })
	return old
}

// put writes keys below "kept/".
func (o oldServers) put(token string, n int) {
	o.t.Helper()
	err := o.Any(o.t.Context(), token, func(c *api.Client) error {
		for i := range n {
			if _, err := c.KV().Put(&api.KVPair{Key: fmt.Sprintf("kept/%d", i), Value: fmt.Append(nil, i)}, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

// taken checks that the cluster has the keys, that the former StatefulSet is scaled to 0, and that no agent lists its
// servers as members.
func (o oldServers) taken(token string, n int) resource.TestCheckFunc {
	return func(*terraform.State) error {
		sts, err := acctest.Kube(o.t).AppsV1().StatefulSets(o.namespace).Get(o.t.Context(), o.statefulSet, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if *sts.Spec.Replicas != 0 {
			return fmt.Errorf("the former StatefulSet asks for %d servers", *sts.Spec.Replicas)
		}
		return acctest.Consul(o.t, o.namespace, "consul").Any(o.t.Context(), token, func(c *api.Client) error {
			keys, _, err := c.KV().Keys("kept/", "", &api.QueryOptions{RequireConsistent: true})
			if err != nil {
				return err
			}
			if len(keys) != n {
				return fmt.Errorf("%d of %d keys are there", len(keys), n)
			}
			members, err := c.Agent().Members(false)
			for _, m := range members {
				if m.Status == 4 { // failed (serf.StatusFailed)
					err = fmt.Errorf("the member %s is still listed as failed", m.Name)
				}
			}
			return err
		})
	}
}

// leftAlone checks that a namespace has the same objects as before, except pods, including the Services and volumes
// of the former servers.
func leftAlone(t *testing.T, namespace string, before *[]string, but ...string) func(*terraform.State) error {
	return func(*terraform.State) error {
		after := contents(t, namespace)
		want := slices.DeleteFunc(slices.Clone(*before), func(o string) bool { return slices.Contains(but, o) })
		if !slices.Equal(after, want) {
			return fmt.Errorf("the destroy left %q, before the adoption there was %q", after, want)
		}
		return nil
	}
}

func contents(t *testing.T, namespace string) []string {
	t.Helper()
	all, err := acctest.Kube(t).NamespaceContents(context.WithoutCancel(t.Context()), namespace)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(o string) bool { return o == "pod/writer" })
}

// Handmade servers, as in many tutorials, are adopted while a client writes through their Service. No write fails
// except one that arrives while the leadership moves, and no acknowledged write is lost.
func TestAccLong_adoptsHandMadeServers(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	old := startOld(t, namespace, "handmade", "consul", "", "VERSION", acctest.ConsulVersion)
	old.put("", 200)
	before := contents(t, namespace)
	writer := acctest.StartWriter(t, namespace, "none")
	writer.More(20)
	const adopt = "  adopt = { stateful_set = \"consul\", services = [\"consul\"] }\n"
	config := hclVersion(namespace, acctest.ConsulVersion, adopt)
	without := hclVersion(namespace, acctest.ConsulVersion, "")

	test(t, resource.TestCase{
		CheckDestroy: leftAlone(t, namespace, &before, "service/consul"), // it became the cluster's own
		Steps: []resource.TestStep{
			{
				Config: config,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("steps"), knownvalue.ListExact([]knownvalue.Check{
						knownvalue.StringExact("add consul-server-0"),
						knownvalue.StringExact("add consul-server-1"), knownvalue.StringExact("add consul-server-2"),
						knownvalue.StringExact("transfer the leadership to consul-server-0"), knownvalue.StringExact("switch Service consul"),
						knownvalue.StringExact("retire consul-2"), knownvalue.StringExact("retire consul-1"), knownvalue.StringExact("retire consul-0"),
					})),
				}},
				ConfigStateChecks: []statecheck.StateCheck{statecheck.ExpectKnownValue(address, tfjsonpath.New("ready"), knownvalue.Bool(true))},
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), old.taken("", 200), func(*terraform.State) error {
					writer.More(20)
					return writer.VerifyWith(acctest.Consul(t, namespace, "consul"), "")
				}),
			},
			{Config: config, PlanOnly: true},
			{Config: without, PlanOnly: true},
			{
				ResourceName:            address,
				ImportState:             true,
				ImportStateId:           namespace + "/consul",
				ImportStateVerify:       true,
				ImportStateVerifyIgnore: []string{"rollout"},
			},
		},
	})
}

// Servers of the Helm chart, with ACLs, are adopted and upgraded in one apply, and consul_k8s_acl_bootstrap continues
// with their management token.
func TestAccLong_adoptsServersOfTheHelmChart(t *testing.T) {
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	const management = "6a4b7d3e-1c1e-4f0a-9d0e-5d1b2f3c4a5b"
	secret := func(name, key, value string) {
		_, err := k.CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{key: value},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	secret("x-consul-bootstrap-acl-token", "token", management)
	secret("client-token", "token", management) // of the writer
	old := startOld(
		t,
		namespace,
		"helm",
		"x-consul-server",
		management,
		"VERSION",
		acctest.OlderVersion,
		"ACL\n",
		fmt.Sprintf(
			`{ "acl": { "enabled": true, "default_policy": "deny", "down_policy": "extend-cache", "enable_token_persistence": true, "tokens": { "initial_management": %q, "agent": %q } } }`+"\n",
			management,
			management,
		),
	)
	old.put(management, 200)
	before := contents(t, namespace)
	writer := acctest.StartWriterTo(t, namespace, "client-token", "x-consul-server")
	writer.More(20)
	config := hclVersion(namespace, acctest.ConsulVersion, `
  adopt = {
    stateful_set = "x-consul-server"
    services     = ["x-consul-server", "x-consul-ui"]
    token_secret = { name = "x-consul-bootstrap-acl-token", key = "token" }
  }
  acl = { enabled = true }
`) + bootstrapHCL("")

	test(t, resource.TestCase{
		CheckDestroy: leftAlone(t, namespace, &before),
		Steps: []resource.TestStep{
			{
				Config:      strings.Replace(config, "acl = { enabled = true }", "", 1),
				ExpectError: acctest.Says("the ACLs of the servers are on: declare acl = { enabled = true }"),
				PlanOnly:    true,
			},
			{
				Config: config,
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(address, tfjsonpath.New("ready"), knownvalue.Bool(true)),
					statecheck.ExpectKnownValue(address, tfjsonpath.New("running_version"), knownvalue.StringExact(acctest.ConsulVersion)),
				},
				Check: resource.ComposeTestCheckFunc(old.taken(management, 200), func(*terraform.State) error {
					writer.More(20)
					h, err := consul.ReadHealth(t.Context(), acctest.Consul(t, namespace, "consul"), management)
					if err != nil {
						return err
					}
					if m := h.MissingVoters(3); m != "" {
						return errors.New(m)
					}
					for _, s := range h.Servers {
						if s.Version != acctest.ConsulVersion {
							return fmt.Errorf("server %s runs %s", s.Name, s.Version)
						}
					}
					return writer.VerifyWith(acctest.Consul(t, namespace, "consul"), management)
				}),
			},
			{Config: config, PlanOnly: true},
		},
	})
}

// Servers that encrypt gossip and use TLS between each other are adopted with their keys and the authority of their
// certificates: everything stays encrypted at all times, and an authority of the provider can follow.
func TestAccLong_adoptsEncryptedServers(t *testing.T) {
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	ca := newTestCA(t)
	putCA(t, namespace, "their-ca", ca, nil)
	putCA(t, namespace, "another-ca", newTestCA(t), nil)
	p, err := pki.NewServer(ca, "RSA-2048", "server.dc1.cluster.local", []string{"server.dc1.cluster.local"}, nil, 12*time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := p.PEM()
	if err != nil {
		t.Fatal(err)
	}
	const gossipKey = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
	_, err = k.CoreV1().Secrets(
		namespace,
	).Create(
		t.Context(),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Data: map[string][]byte{
			"ca.pem": pki.EncodeCertificates(ca.Chain), "consul.pem": certificate, "consul-key.pem": key, "gossip-encryption-key": []byte(gossipKey),
		}},
		metav1.CreateOptions{},
	)
	if err != nil {
		t.Fatal(err)
	}
	old := startOld(t, namespace, "encrypted", "old", "", "VERSION", acctest.OlderVersion)
	old.put("", 200)
	before := contents(t, namespace)
	writer := acctest.StartWriterTo(t, namespace, "none", "old")
	writer.More(20)
	config := func(tls, gossip string) string {
		return hclVersion(namespace, acctest.ConsulVersion, fmt.Sprintf(`
  domain = "cluster.local"
  tls    = { %s }
  gossip = { enabled = %s }
  adopt  = { stateful_set = "old", services = ["old"] }
`, tls, gossip)+plainGRPC)
	}
	const theirs = `enabled = true, ca_secret = "their-ca", https_port = 8443`
	refused := func(tls, gossip, says string) resource.TestStep {
		return resource.TestStep{Config: config(tls, gossip), PlanOnly: true, ExpectError: acctest.Says(says)}
	}

	test(t, resource.TestCase{
		CheckDestroy: leftAlone(t, namespace, &before),
		Steps: []resource.TestStep{
			refused("enabled = false", "true", "declare tls = { enabled = true }"),
			refused("enabled = true", "true", "name the certificate authority of their certificates in tls.ca_secret"),
			refused(`enabled = true, ca_secret = "another-ca"`, "true", "would refuse each other with the declared certificate authority"),
			refused(theirs, "false", "declare gossip = { enabled = true }, and the cluster keeps their gossip keys"),
			{
				Config: config(theirs, "true"),
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), old.taken("", 200), func(*terraform.State) error {
					writer.More(20)
					if err := writer.VerifyWith(acctest.Consul(t, namespace, "consul"), ""); err != nil {
						return err
					}
					s, err := k.CoreV1().Secrets(namespace).Get(t.Context(), server.GossipSecretName("consul"), metav1.GetOptions{})
					if err != nil {
						return err
					}
					if string(s.Data[server.PrimaryKey]) != gossipKey {
						return errors.New("the gossip key is not that of the old servers")
					}
					if plain, err := takesPlainRPC(t, namespace, "consul-server-0"); err != nil || plain {
						return fmt.Errorf("the new servers accept plain RPC: %t, %w", plain, err)
					}
					return nil
				}),
			},
			{Config: config(theirs, "true"), PlanOnly: true},
			{Config: config("enabled = true, https_port = 8443", "true"), Check: func(*terraform.State) error {
				trusted, err := publishedCA(t, namespace)
				if err != nil {
					return err
				}
				if len(trusted) != 1 || trusted[0].Equal(ca.Certificate()) {
					return errors.New("the authority is not the provider's own alone")
				}
				writer.More(20)
				return writer.VerifyWith(acctest.Consul(t, namespace, "consul"), "")
			}},
		},
	})
}

// takeoverCLI is a real CLI with a configuration that adopts the handmade servers. within sets its timeout.
func takeoverCLI(t *testing.T, namespace string) (cli *acctest.CLI, within func(string)) {
	t.Helper()
	config := func(more string) string {
		return required + hclVersion(namespace, acctest.ConsulVersion, "  adopt = { stateful_set = \"consul\", services = [\"consul\"] }\n"+more)
	}
	cli = acctest.NewCLI(t, map[string]string{"main.tf": config("")})
	return cli, func(limit string) {
		cli.Write("main.tf", config(fmt.Sprintf("  timeouts = { create = %q, update = \"30m\" }\n", limit)))
	}
}

// replicas is how many servers a StatefulSet asks for, -1 if it does not exist.
func replicas(ctx context.Context, t *testing.T, namespace, name string) int32 {
	t.Helper()
	sts, err := acctest.Kube(t).AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return -1
	}
	return *sts.Spec.Replicas
}

// The next apply resumes an adoption that was killed or timed out, wherever it was, and no acknowledged write is
// lost.
func TestAccLong_resumesAKilledAdoption(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	old := startOld(t, namespace, "handmade", "consul", "", "VERSION", acctest.ConsulVersion)
	old.put("", 50)
	writer := acctest.StartWriter(t, namespace, "none")
	writer.More(20)
	cli, within := takeoverCLI(t, namespace)
	killed := func(moment string, when func(context.Context) bool) {
		t.Helper()
		if killed, out := cli.RunAndKill(t.Context(), "apply", when); !killed {
			t.Fatalf("the apply ended before it could be killed when %s:\n%s", moment, out)
		}
	}
	killed("the second server joins", func(ctx context.Context) bool { return replicas(ctx, t, namespace, "consul-server") >= 2 })
	// The create times out: from here on, it is an update.
	within("1s")
	if out := cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false"); !strings.Contains(
		out,
		"The cluster is not up yet",
	) {
		t.Errorf("the apply does not say that it timed out:\n%s", out)
	}
	out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode", "-lock=false")
	if code != 2 || !strings.Contains(out, "add consul-server-2") || !strings.Contains(out, "the adoption is not complete") {
		t.Errorf("the plan does not show what is left (exit code %d):\n%s", code, out)
	}
	killed("the Service is switched", func(ctx context.Context) bool {
		svc, err := acctest.Kube(t).CoreV1().Services(namespace).Get(ctx, "consul", metav1.GetOptions{})
		return err == nil && server.LeadsTo(svc, "consul")
	})
	killed("the first former server is retired", func(ctx context.Context) bool { return replicas(ctx, t, namespace, "consul") <= 2 })
	killed("the last former server is retired", func(ctx context.Context) bool { return replicas(ctx, t, namespace, "consul") == 0 })
	out = cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
	if !strings.Contains(out, "0 destroyed") || !strings.Contains(out, "kubectl --namespace "+namespace+" delete statefulset consul") {
		t.Errorf("the last apply destroyed something, or does not say what is left:\n%s", out)
	}
	writer.More(20)
	for _, err := range []error{voters(t, namespace, 3)(nil), old.taken("", 50)(nil),
		writer.VerifyWith(acctest.Consul(t, namespace, "consul"), "")} {
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := acctest.Kube(t).DiscoveryV1().EndpointSlices(namespace).Get(
		t.Context(), server.BridgeName("consul"), metav1.GetOptions{},
	); !apierrors.IsNotFound(
		err,
	) {
		t.Errorf("the EndpointSlice that routed to the new servers still exists: %v", err)
	}
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode", "-lock=false"); code != 0 {
		t.Errorf("the plan after that is not empty:\n%s", out)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color", "-lock=false")
}

// As long as a former server exists, a destroy reverts the adoption: there are three former servers again, which
// lead, and have their Service and every write.
func TestAccLong_destroyRevertsAnAdoption(t *testing.T) {
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	old := startOld(t, namespace, "handmade", "consul", "", "VERSION", acctest.ConsulVersion)
	old.put("", 50)
	writer := acctest.StartWriter(t, namespace, "none")
	writer.More(20)
	before := contents(t, namespace)
	was, err := k.CoreV1().Services(namespace).Get(t.Context(), "consul", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cli, within := takeoverCLI(t, namespace)
	if killed, out := cli.RunAndKill(
		t.Context(), "apply", func(ctx context.Context) bool { return replicas(ctx, t, namespace, "consul") <= 2 },
	); !killed {
		t.Fatalf("the apply ended before it could be killed:\n%s", out)
	}
	within("1s")
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false") // for the state
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color", "-lock=false")
	if err := leftAlone(t, namespace, &before)(nil); err != nil {
		t.Error(err)
	}
	if missing, err := consul.Missing(t.Context(), old.Cluster, "", 3, 0); missing != "" || err != nil {
		t.Errorf("the former servers are not three voters: %s, %v", missing, err)
	}
	is, err := k.CoreV1().Services(namespace).Get(t.Context(), "consul", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(was.Spec.Selector, is.Spec.Selector) || !slices.Equal(was.Spec.Ports, is.Spec.Ports) ||
		!maps.Equal(was.Labels, is.Labels) ||
		len(is.Annotations) > 0 {
		t.Errorf("the Service is\n%+v\nand was\n%+v", is, was)
	}
	writer.More(20)
	if err := writer.VerifyWith(old.Cluster, ""); err != nil {
		t.Error(err)
	}
}
