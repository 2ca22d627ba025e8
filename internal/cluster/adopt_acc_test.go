package cluster_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	"sigs.k8s.io/yaml"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
)

// oldServers are servers that something else made.
type oldServers struct {
	t           *testing.T
	namespace   string
	statefulSet string
	*consul.Cluster
}

// startOld applies a manifest of testdata/adopt, with words replaced, and waits for
// three voters.
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
		o["metadata"].(map[string]any)["namespace"] = namespace
		if err := acctest.Kube(t).Apply(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	old := oldServers{t, namespace, statefulSet, acctest.Consul(t, namespace, "consul").Former(statefulSet)}
	acctest.Wait(t, "the old servers", func(ctx context.Context) (string, error) { return old.Missing(ctx, token, 3, 0) })
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

// taken checks that the cluster has the keys, that the old StatefulSet is at 0, and
// that nobody remembers its servers.
func (o oldServers) taken(token string, n int) resource.TestCheckFunc {
	return func(*terraform.State) error {
		sts, err := acctest.Kube(o.t).AppsV1().StatefulSets(o.namespace).Get(o.t.Context(), o.statefulSet, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if *sts.Spec.Replicas != 0 {
			return fmt.Errorf("the old StatefulSet asks for %d servers", *sts.Spec.Replicas)
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
					err = fmt.Errorf("the member %s is left as failed", m.Name)
				}
			}
			return err
		})
	}
}

// leftAlone checks that a namespace holds what it held before, but for pods, and
// that the old servers' Services and volumes are among it.
func leftAlone(t *testing.T, namespace string, before *[]string, but ...string) func(*terraform.State) error {
	return func(*terraform.State) error {
		after := contents(t, namespace)
		want := slices.DeleteFunc(slices.Clone(*before), func(o string) bool { return slices.Contains(but, o) })
		if !slices.Equal(after, want) {
			return fmt.Errorf("the destroy left %q, before the take-over there was %q", after, want)
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

// Servers made by hand, as in many tutorials, are taken over from while a client
// writes through their Service: no write fails, and every one of them is there.
func TestAccCluster_takesOverFromHandMadeServers(t *testing.T) {
	t.Parallel()
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
						knownvalue.StringExact("add consul-server-0"), knownvalue.StringExact("add consul-server-1"), knownvalue.StringExact("add consul-server-2"),
						knownvalue.StringExact("transfer the leadership to consul-server-0"), knownvalue.StringExact("switch Service consul"),
						knownvalue.StringExact("retire consul-2"), knownvalue.StringExact("retire consul-1"), knownvalue.StringExact("retire consul-0"),
					})),
				}},
				ConfigStateChecks: []statecheck.StateCheck{statecheck.ExpectKnownValue(address, tfjsonpath.New("ready"), knownvalue.Bool(true))},
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), old.taken("", 200), func(*terraform.State) error {
					writer.More(20)
					return writer.Verify("")
				}),
			},
			{Config: config, PlanOnly: true},
			{Config: without, PlanOnly: true},
			{ResourceName: address, ImportState: true, ImportStateId: namespace + "/consul", ImportStateVerify: true},
		},
	})
}
