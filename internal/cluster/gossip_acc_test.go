package cluster_test

import (
	"context"
	_ "embed" // stranger.sh
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

const (
	gossipSecret = "consul-gossip"
	broughtKey   = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
)

// gossipKeys are the keys in the Secret, the primary one first.
func gossipKeys(t *testing.T, namespace string) (keys []string, err error) {
	t.Helper()
	s, err := acctest.Kube(t).CoreV1().Secrets(namespace).Get(t.Context(), gossipSecret, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(s.Data[server.KeyringKey], &keys); err != nil {
		return nil, err
	}
	if string(s.Data[server.PrimaryKey]) != keys[0] {
		return nil, errors.New("the primary key is not the first of the keyring")
	}
	return keys, nil
}

// encrypted checks that all agents have the key of the Secret and no other, that n servers vote, and that the key is
// only in Secrets and on the disks of the servers. key receives the key.
func encrypted(t *testing.T, namespace string, n int, key *string) resource.TestCheckFunc {
	t.Helper()
	return resource.ComposeTestCheckFunc(voters(t, namespace, n), func(state *terraform.State) error {
		keys, err := gossipKeys(t, namespace)
		if err != nil {
			return err
		}
		if *key = keys[0]; len(keys) != 1 {
			return fmt.Errorf("%d keys are in the Secret", len(keys))
		}
		var rings []*api.KeyringResponse
		call(t, acctest.Consul(t, namespace, "consul"), "", func(client *api.Client) (err error) {
			rings, err = client.Operator().KeyringList(nil)
			return err
		})
		if len(rings) != 1 || rings[0].NumNodes != n || len(rings[0].Keys) != 1 || rings[0].Keys[*key] != n || rings[0].PrimaryKeys[*key] != n {
			return fmt.Errorf("not all of %d agents have exactly the key of the Secret", n)
		}
		return keyIsNowhere(t, namespace, *key, fmt.Sprint(state))
	})
}

func keyIsNowhere(t *testing.T, namespace, key, state string) error {
	t.Helper()
	k := acctest.Kube(t)
	places := map[string]string{"the state": state}
	cm, err := k.CoreV1().ConfigMaps(namespace).Get(t.Context(), "consul-server", metav1.GetOptions{})
	if err != nil {
		return err
	}
	places["the ConfigMap"] = fmt.Sprint(cm.Data)
	pods, err := acctest.Consul(t, namespace, "consul").Pods(t.Context())
	if err != nil {
		return err
	}
	for i := range pods {
		out, err := k.Exec(
			t.Context(),
			namespace,
			pods[i].Name,
			server.ContainerName,
			nil,
			"/bin/sh",
			"-c",
			"cat /proc/[0-9]*/cmdline 2>/dev/null; cat /proc/$(cat /tmp/pid)/environ", // a process may end meanwhile
		)
		if err != nil {
			return fmt.Errorf("reading the arguments in %s: %w", pods[i].Name, err)
		}
		if !strings.Contains(out, "agent") {
			return fmt.Errorf("no arguments of an agent in %s: %q", pods[i].Name, out)
		}
		places["the arguments in "+pods[i].Name] = out
	}
	for place, text := range places {
		if strings.Contains(text, key) {
			return fmt.Errorf("the key is in %s", place)
		}
	}
	return nil
}

// strangerScript starts an agent in the pod of a server.
//
//go:embed testdata/stranger.sh
var strangerScript string

// joins reports whether the others accept an agent that starts in the pod of a server, without a key or with those of
// the servers.
func joins(t *testing.T, namespace string, withKey bool) (bool, error) {
	t.Helper()
	pods, err := acctest.Consul(t, namespace, "consul").Pods(t.Context())
	if err != nil {
		return false, err
	}
	command := []string{"/bin/sh", "-c", strangerScript, "stranger", pods[len(pods)-1].Status.PodIP}
	if withKey {
		command = append(command, "/consul/gossip/keyring")
	}
	out, err := acctest.Kube(t).Exec(t.Context(), namespace, pods[0].Name, server.ContainerName, nil, command...)
	if err != nil {
		return false, err
	}
	return strings.TrimSpace(out) != "0", nil
}

func strangersAreRefused(t *testing.T, namespace string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		for _, withKey := range []bool{false, true} {
			joined, err := joins(t, namespace, withKey)
			if err != nil {
				return err
			}
			if joined != withKey {
				return fmt.Errorf("with the key %v: an agent joined: %v", withKey, joined)
			}
		}
		return nil
	}
}

// A cluster is created with encryption: the key is created, delivered as a file, and replaced by a trigger without a
// restart. A server that is added meanwhile or later has it.
func TestAccCluster_gossipIsEncryptedAndItsKeyRotates(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	k := acctest.Kube(t)
	var before map[string]types.UID
	var first, second, third string
	config := func(replicas int, gossip string) string {
		return hclVersion(
			namespace,
			acctest.ConsulVersion,
			fmt.Sprintf("  replicas = %d\n  gossip = {\n    enabled = true\n%s  }\n", replicas, gossip),
		)
	}
	trigger := func(text string) string {
		return fmt.Sprintf("    rotation = { trigger = %q, after = \"2160h\" }\n", text)
	}
	brought := "    key_secret = { name = \"my-key\", key = \"gossip\" }\n"
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{
				Config: config(1, trigger("1")),
				Check:  resource.ComposeTestCheckFunc(encrypted(t, namespace, 1, &first), strangersAreRefused(t, namespace)),
			},
			{Config: config(1, trigger("1")), PlanOnly: true},
			{ResourceName: address, ImportState: true, ImportStateId: namespace + "/consul", ImportStateVerify: true},
			{
				Config: config(3, trigger("1")),
				Check: resource.ComposeTestCheckFunc(encrypted(t, namespace, 3, &second), func(*terraform.State) error {
					if before = runs(t, namespace); first != second {
						return errors.New("scaling replaced the key")
					}
					return nil
				}),
			},
			{
				Config: config(3, trigger("2")),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("changes"), knownvalue.ListExact([]knownvalue.Check{
						knownvalue.StringExact("gossip.rotation.trigger: 1 -> 2 (rotate)"),
					})),
					plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("steps"), knownvalue.ListSizeExact(0)),
				}},
				Check: resource.ComposeTestCheckFunc(
					encrypted(t, namespace, 3, &second),
					notRestarted(t, namespace, &before),
					func(*terraform.State) error {
						if first == second {
							return errors.New("the key was not replaced")
						}
						return nil
					},
				),
			},
			{Config: config(3, trigger("2")), PlanOnly: true},
			{Config: config(3, trigger("2")+"  }\n  update = {\n    strategy = \"on_delete\"\n"), Check: notRestarted(t, namespace, &before)},
			{ // each roll must be complete before the next
				Config: strings.Replace(
					config(3, trigger("2")+"  }\n  update = {\n    strategy = \"on_delete\"\n"),
					"enabled = true",
					"enabled = false",
					1,
				),
				PlanOnly: true, ExpectError: acctest.Says("The provider must restart the servers"),
			},
			{ // by age; a server that restarts in its pod uses the key that it has
				PreConfig: func() {
					acctest.Crash(t, namespace, "consul-server-0")
					whole(t, namespace)
					patch := `{"metadata":{"annotations":{"terraform-provider-consul-k8s/key-made":"2020-01-01T00:00:00Z"}}}`
					if _, err := k.CoreV1().Secrets(namespace).Patch(
						t.Context(), gossipSecret, types.MergePatchType, []byte(patch), metav1.PatchOptions{},
					); err != nil {
						t.Fatal(err)
					}
				},
				Config: config(3, trigger("2")),
				Check: resource.ComposeTestCheckFunc(
					encrypted(t, namespace, 3, &third),
					notRestarted(t, namespace, &before),
					func(*terraform.State) error {
						if second == third {
							return errors.New("the key was not replaced")
						}
						return nil
					},
				),
			},
			{ // changes of others to the keyring and to the Secret
				PreConfig: func() {
					call(t, acctest.Consul(t, namespace, "consul"), "", func(client *api.Client) error {
						return client.Operator().KeyringInstall(broughtKey, nil)
					})
					if err := k.CoreV1().Secrets(namespace).Delete(t.Context(), gossipSecret, metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				RefreshState: true, ExpectNonEmptyPlan: true,
				RefreshPlanChecks: resource.RefreshPlanChecks{
					PostRefresh: []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate)},
				},
			},
			{
				Config: config(3, trigger("2")),
				Check: resource.ComposeTestCheckFunc(
					encrypted(t, namespace, 3, &first),
					notRestarted(t, namespace, &before),
					func(*terraform.State) error {
						if first != third {
							return errors.New("the Secret was not made from the servers' keys")
						}
						return nil
					},
				),
			},
			{Config: config(3, brought), ExpectError: acctest.Says("reading key gossip of Secret")},
			{
				PreConfig: func() { putSecret(t, namespace, "my-key", "gossip", "not-a-key") },
				Config:    config(3, brought), ExpectError: acctest.Says("the gossip key is not base64"),
			},
			{
				PreConfig: func() { putSecret(t, namespace, "my-key", "gossip", broughtKey) },
				Config:    config(3, brought),
				Check: resource.ComposeTestCheckFunc(
					encrypted(t, namespace, 3, &third),
					notRestarted(t, namespace, &before),
					func(*terraform.State) error {
						if third != broughtKey {
							return errors.New("the key is not the one that was brought")
						}
						return nil
					},
				),
			},
			{Config: config(3, brought), PlanOnly: true},
			{
				PreConfig: func() {
					if err := k.CoreV1().Secrets(namespace).Delete(t.Context(), "my-key", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config: config(3, trigger("2")), Check: encrypted(t, namespace, 3, &third),
			},
		},
	})
}

// putSecret writes one key of a Secret.
func putSecret(t *testing.T, namespace, name, key, value string) {
	t.Helper()
	secrets := acctest.Kube(t).CoreV1().Secrets(namespace)
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{key: value}}
	_, err := secrets.Create(t.Context(), s, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = secrets.Update(t.Context(), s, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Encryption is turned on and off on a running cluster, in three rolls each, and no write fails. After a kill in the
// middle of the second roll, the next apply resumes it.
func TestAccLong_gossipOnAndOffRefusesNoWrite(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(gossip string) string {
		return required + hclVersion(namespace, acctest.ConsulVersion, "  create_namespace = true\n"+gossip)
	}
	on := "  gossip = { enabled = true }\n"
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	client := acctest.StartWriter(t, namespace, "no-token")
	client.More(5)
	watch := acctest.WatchRaft(t, namespace, "consul", "")
	if joined, err := joins(t, namespace, false); err != nil || !joined {
		t.Fatalf("an agent without a key joined: %v, %v", joined, err)
	}

	cli.Write("main.tf", config(on))
	if out := cli.Must(t.Context(), "plan", "-no-color"); !strings.Contains(out, "3 servers restart, 3 times") ||
		strings.Count(out, "transfer the leadership") < 3 {
		t.Errorf("the plan does not show three rolls:\n%s", out)
	}
	cli.Write("main.tf", config(on+"  update = { pause_after = 1 }\n"))
	before := runs(t, namespace)
	if out := cli.Must(t.Context(), "apply", "-auto-approve", "-no-color"); !strings.Contains(out, "The rollout is paused") ||
		len(restarted(before, runs(t, namespace))) != 1 {
		t.Errorf("not paused after one server:\n%s", out)
	}

	cli.Write("main.tf", config(on))
	var first map[string]types.UID
	killed, out := cli.RunAndKill(t.Context(), "apply", func(ctx context.Context) bool {
		if first == nil && stages(ctx, t, namespace).Gossip.Stage == server.StageSend { // the first roll is complete
			first = runs(t, namespace)
		}
		return first != nil && len(restarted(first, runs(t, namespace))) > 0
	})
	if !killed {
		t.Fatalf("the apply ended before it could be killed:\n%s", out)
	}
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	var key string
	for _, check := range []resource.TestCheckFunc{encrypted(t, namespace, 3, &key), strangersAreRefused(t, namespace)} {
		if err := check(nil); err != nil {
			t.Error(err)
		}
	}
	if strings.Contains(cli.State(), key) {
		t.Error("the key is in the state")
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")

	cli.Write("main.tf", config(""))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if joined, err := joins(t, namespace, false); err != nil || !joined {
		t.Errorf("an agent without a key joined afterwards: %v, %v", joined, err)
	}
	if _, err := gossipKeys(t, namespace); !apierrors.IsNotFound(err) {
		t.Errorf("the Secret: %v", err)
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	if raft := watch.Stop(); raft.FewestVoters < 2 {
		t.Errorf("there were only %d voters", raft.FewestVoters)
	}
	client.More(5)
	if err := client.Verify(""); err != nil {
		t.Error(err)
	}
	client.Stop()
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// stages is the spec of the current rollout, as far as it shows what is encrypted.
func stages(ctx context.Context, t *testing.T, namespace string) (spec server.Spec) {
	t.Helper()
	k := acctest.Kube(t)
	sts, err := k.AppsV1().StatefulSets(namespace).Get(ctx, "consul-server", metav1.GetOptions{})
	if err != nil {
		return spec
	}
	sts.APIVersion, sts.Kind = "apps/v1", "StatefulSet"
	cm, err := k.CoreV1().ConfigMaps(namespace).Get(ctx, "consul-server", metav1.GetOptions{})
	if err != nil {
		return spec
	}
	read, err := server.Parse(server.Set{StatefulSet: sts, Config: cm}, spec)
	if err != nil {
		return spec
	}
	return read
}
