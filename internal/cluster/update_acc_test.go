package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// debugConfig is the part of the running configuration that an agent reports.
type debugConfig struct {
	Version                   string
	HTTPMaxConnsPerClient     int
	ConsulRaftElectionTimeout string
	Logging                   struct{ LogLevel string }
	NodeMeta                  map[string]string
}

func agents(t *testing.T, namespace string) map[string]debugConfig {
	t.Helper()
	c := acctest.Consul(t, namespace, "consul")
	pods, err := c.Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]debugConfig{}
	for i := range pods {
		client, err := c.Server(&pods[i], "")
		if err != nil {
			t.Fatal(err)
		}
		var self struct{ DebugConfig debugConfig }
		if _, err := client.Raw().Query("/v1/agent/self", &self, nil); err != nil {
			t.Fatal(err)
		}
		out[pods[i].Name] = self.DebugConfig
	}
	return out
}

// Agents reload what they can load while they run, one at a time. If an agent refuses a configuration, the change
// stops there, and the next apply fixes it.
func TestAccCluster_reloadsWhatAgentsCanLoad(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	var before map[string]types.UID
	config := func(extra string) string {
		return hclVersion(namespace, acctest.ConsulVersion, "  update = { server_timeout = \"10s\" }\n  extra_config = jsonencode("+extra+")\n")
	}
	debug := `{ log_level = "debug", limits = { http_max_conns_per_client = 321 } }`
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config(`{}`), Check: func(*terraform.State) error {
				before = runs(t, namespace)
				return nil
			}},
			{
				Config: config(debug),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("changes"), knownvalue.ListExact([]knownvalue.Check{
						knownvalue.StringExact("extra_config.limits.http_max_conns_per_client: (none) -> 321 (reload)"),
						knownvalue.StringExact(`extra_config.log_level: (none) -> "debug" (reload)`),
					})),
					plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("steps"), knownvalue.ListSizeExact(3)),
				}},
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), notRestarted(t, namespace, &before), func(*terraform.State) error {
					for name, a := range agents(t, namespace) {
						if !strings.EqualFold(a.Logging.LogLevel, "debug") || a.HTTPMaxConnsPerClient != 321 {
							return fmt.Errorf("%s runs with %+v", name, a)
						}
					}
					return nil
				}),
			},
			{Config: config(debug), PlanOnly: true},
			{RefreshState: true, Check: resource.ComposeTestCheckFunc( // nothing is pending
				resource.TestCheckResourceAttr(address, "rollout.changes.#", "0"), resource.TestCheckResourceAttr(address, "rollout.steps.#", "0"),
				resource.TestCheckResourceAttr(address, "drift.#", "0"),
			)},
			// What Consul refuses is refused before anything is written: keys, types, and what an agent or Raft
			// checks only at the start.
			{Config: config(`{ no_such_key = true }`), ExpectError: acctest.Says("invalid config key no_such_key")},
			{Config: config(`{ raft_snapshot_interval = "1ms" }`), ExpectError: acctest.Says("SnapshotInterval is too low")},
			// A reload that one agent refuses stops there.
			{PreConfig: func() {
				if err := resource.ComposeTestCheckFunc(notRestarted(t, namespace, &before), configIs(t, namespace, "debug"))(nil); err != nil {
					t.Error(err)
				}
				breakReload(t, namespace)
			}, Config: config(`{ log_level = "info" }`), ExpectError: acctest.Says("reload consul-server-")},
			{
				PreConfig: func() { repairReload(t, namespace) },
				Config:    config(`{ log_level = "info" }`),
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), notRestarted(t, namespace, &before), func(*terraform.State) error {
					for name, a := range agents(t, namespace) {
						if !strings.EqualFold(a.Logging.LogLevel, "info") {
							return fmt.Errorf("%s runs with %+v", name, a)
						}
					}
					return nil
				}),
			},
			{Config: config(`{ log_level = "info" }`), PlanOnly: true},
		},
	})
}

// breakReload makes all agents refuse every configuration, and repairReload reverts that.
func breakReload(t *testing.T, namespace string) {
	t.Helper()
	inServers(t, namespace, "cp /tmp/token.json /tmp/token.keep && echo '{\"no_such_key\": 1}' >/tmp/token.json")
}

func repairReload(t *testing.T, namespace string) {
	t.Helper()
	inServers(t, namespace, "cp /tmp/token.keep /tmp/token.json")
}

func inServers(t *testing.T, namespace, script string) {
	t.Helper()
	for name := range runs(t, namespace) {
		if _, err := acctest.Kube(t).Exec(t.Context(), namespace, name, server.ContainerName, nil, "/bin/sh", "-ec", script); err != nil {
			t.Fatal(err)
		}
	}
}

// configIs checks that the ConfigMap of the servers has an extra_config with a text.
func configIs(t *testing.T, namespace, text string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		cm, err := acctest.Kube(t).CoreV1().ConfigMaps(namespace).Get(t.Context(), "consul-server", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for key, config := range cm.Data {
			if strings.HasPrefix(key, "extra-") && !strings.Contains(config, text) {
				return fmt.Errorf("%s is %s", key, config)
			}
		}
		return nil
	}
}

// The stored configuration of autopilot is declared: somebody's changes show and are reverted, and min_quorum follows
// the number of servers.
func TestAccCluster_keepsAutopilotAsDeclared(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	c := acctest.Consul(t, namespace, "consul")
	conf := func() *api.AutopilotConfiguration {
		var conf *api.AutopilotConfiguration
		call(t, c, "", func(client *api.Client) (err error) {
			conf, err = client.Operator().AutopilotGetConfiguration(nil)
			return err
		})
		return conf
	}
	config := func(more string) string {
		return hclVersion(namespace, acctest.ConsulVersion, "  replicas = 1\n"+more)
	}
	declared := config("  autopilot = { max_trailing_logs = 500, server_stabilization_time = \"2s\" }\n")
	check := func(*terraform.State) error {
		if a := conf(); a.MaxTrailingLogs != 500 || a.ServerStabilizationTime.Duration() != 2*time.Second || a.MinQuorum != 1 ||
			!a.CleanupDeadServers {
			return fmt.Errorf("stored is %+v", a)
		}
		return nil
	}
	test(t, resource.TestCase{
		Steps: []resource.TestStep{
			{Config: config("")},
			{Config: declared, Check: check, ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("steps"), knownvalue.ListSizeExact(0)),
			}}},
			{Config: declared, PlanOnly: true},
			{
				PreConfig: func() {
					a := conf()
					a.MinQuorum, a.CleanupDeadServers = 3, false
					call(t, c, "", func(client *api.Client) error { return client.Operator().AutopilotSetConfiguration(a, nil) })
				},
				Config: declared, Check: check,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{expectBefore{"drift", []any{
					"Autopilot: min_quorum is 3, declared is 1", "Autopilot: cleanup_dead_servers is false, declared is true",
				}}}},
			},
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

// restarted names the servers whose pods were replaced.
func restarted(before, after map[string]types.UID) (names []string) {
	for name, uid := range after {
		if before[name] != uid {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// A rollout with a pause stops after the first follower, and the next apply completes it. With on_delete, servers
// restart only by hand.
func TestAccCluster_pausesAndLeavesRestartsToOthers(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(ui bool, update string) string {
		return required + hclVersion(
			namespace,
			acctest.ConsulVersion,
			fmt.Sprintf("  create_namespace = true\n  ui = %v\n  update = { %s }\n", ui, update),
		)
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config(true, "pause_after = 1")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	before := runs(t, namespace)
	says := func(out, text string) {
		t.Helper()
		if !acctest.Says(text).MatchString(out) {
			t.Fatalf("it does not say %q:\n%s", text, out)
		}
	}

	cli.Write("main.tf", config(false, "pause_after = 1"))
	says(cli.Must(t.Context(), "plan", "-no-color"), "1 server restarts")
	says(cli.Must(t.Context(), "apply", "-auto-approve", "-no-color"), "The rollout is paused")
	canary := restarted(before, runs(t, namespace))
	if len(canary) != 1 {
		t.Fatalf("restarted before the pause: %q", canary)
	}
	restartInPlace(t, namespace, slices.Collect(maps.Keys(before)), canary[0])
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 2 ||
		!acctest.Says("2 servers restart").MatchString(out) ||
		!acctest.Says("pending: Pod consul-server-").MatchString(out) {
		t.Fatalf("the plan does not resume the rollout (exit code %d):\n%s", code, out)
	}
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if all := restarted(before, runs(t, namespace)); len(all) != 3 {
		t.Errorf("restarted in the end: %q", all)
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")

	before = runs(t, namespace)
	cli.Write("main.tf", config(true, `strategy = "on_delete"`))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode") // empty: nothing is left to do
	if all := restarted(before, runs(t, namespace)); len(all) != 0 {
		t.Errorf("restarted with on_delete: %q", all)
	}
	cli.Write("main.tf", config(true, ""))
	says(cli.Must(t.Context(), "plan", "-no-color"), "3 servers restart")
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if all := restarted(before, runs(t, namespace)); len(all) != 3 {
		t.Errorf("restarted in the end: %q", all)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// whole waits until three servers are healthy voters.
func whole(t *testing.T, namespace string) {
	t.Helper()
	acctest.Wait(t, "all servers to vote", func(ctx context.Context) (string, error) {
		return consul.Missing(ctx, acctest.Consul(t, namespace, "consul"), "", 3, 0)
	})
}

// restartInPlace kills Consul in the container of a server that a roll has not reached: it starts again with its
// former configuration, without the change.
func restartInPlace(t *testing.T, namespace string, servers []string, canary string) {
	t.Helper()
	i := slices.IndexFunc(servers, func(s string) bool { return s != canary })
	pod, before := servers[i], agents(t, namespace)
	if before[pod].NodeMeta[server.MetaConfigVersion] == before[canary].NodeMeta[server.MetaConfigVersion] {
		t.Fatalf("%s already runs the change", pod)
	}
	acctest.Crash(t, namespace, pod)
	whole(t, namespace)
	if now := agents(t, namespace); now[pod].NodeMeta[server.MetaConfigVersion] != before[pod].NodeMeta[server.MetaConfigVersion] {
		t.Errorf("%s started again with a configuration of a later pod", pod)
	}
}

// A change that no server can run stops at the first one: the quorum is kept, the error explains why, no write is
// refused, and an apply with the fix resumes.
func TestAccCluster_badChangesStopAtOneServer(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(more string) string {
		return required + hclVersion(
			namespace,
			acctest.ConsulVersion,
			"  create_namespace = true\n  update = { server_timeout = \"75s\" }\n"+more,
		)
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	client := acctest.StartWriter(t, namespace, "no-token")
	client.More(5)
	for name, bad := range map[string]struct{ change, says string }{
		"image": {"  image = \"docker.io/hashicorp/consul:no-such-tag\"\n", "no-such-tag"},
		// The check of the configuration ignores files: servers may have volumes that the check does not have.
		"configuration": {"  extra_config = jsonencode({ log_file = \"/nowhere/consul.log\" })\n", "exit code 1"},
	} {
		before := runs(t, namespace)
		cli.Write("main.tf", config(bad.change))
		out, code := cli.Run(t.Context(), "apply", "-auto-approve", "-no-color")
		gone := restarted(before, runs(t, namespace))
		if code != 1 || len(gone) != 1 || !acctest.Says(bad.says).MatchString(out) || !strings.Contains(out, gone[0]) {
			t.Fatalf("%s: exit code %d, restarted %q:\n%s", name, code, gone, out)
		}
		client.More(5)
		cli.Write("main.tf", config(""))
		if out := cli.Must(t.Context(), "apply", "-auto-approve", "-no-color"); !acctest.Says("1 server restarts").MatchString(out) {
			t.Errorf("%s: the plan of the fix does not say that it restarts one server:\n%s", name, out)
		}
		if err := voters(t, namespace, 3)(nil); err != nil {
			t.Fatal(err)
		}
		if now := restarted(before, runs(t, namespace)); !slices.Equal(now, gone) {
			t.Errorf("%s: the fix restarted %q, and the change %q", name, now, gone)
		}
		cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	}
	client.More(5)
	if err := client.Verify(""); err != nil {
		t.Error(err)
	}
	client.Stop()

	// With roll_back, the servers run their former configuration again.
	before := runs(t, namespace)
	bad := "  image = \"docker.io/hashicorp/consul:no-such-tag\"\n"
	roll := func(more string) string {
		return strings.Replace(config(more), "update = {", "update = { on_failure = \"roll_back\", ", 1)
	}
	cli.Write("main.tf", roll(""))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	cli.Write("main.tf", roll(bad))
	out, code := cli.Run(t.Context(), "apply", "-auto-approve", "-no-color")
	if code != 1 || !acctest.Says("The change was rolled back").MatchString(out) || !strings.Contains(out, "no-such-tag") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if err := voters(t, namespace, 3)(nil); err != nil {
		t.Error(err)
	}
	if gone := restarted(before, runs(t, namespace)); len(gone) != 1 {
		t.Errorf("restarted %q", gone)
	}
	// The same holds for a configuration that an agent refuses to load.
	breakReload(t, namespace)
	cli.Write("main.tf", roll("  extra_config = jsonencode({ log_level = \"debug\" })\n"))
	out, code = cli.Run(t.Context(), "apply", "-auto-approve", "-no-color")
	if code != 1 || !acctest.Says("The change was rolled back").MatchString(out) || !acctest.Says("reload consul-server-").MatchString(out) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	repairReload(t, namespace)
	cli.Write("main.tf", roll(""))
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// changedUnderAClient creates three servers and a client that writes, and changes the configuration of the servers so
// that the next apply restarts all of them.
func changedUnderAClient(t *testing.T) (namespace string, cli *acctest.CLI, client *acctest.Writer) {
	t.Helper()
	namespace = acctest.NamespaceName(t)
	config := func(ui bool) string {
		return required + hclVersion(namespace, acctest.ConsulVersion, fmt.Sprintf("  create_namespace = true\n  ui = %v\n", ui))
	}
	cli = acctest.NewCLI(t, map[string]string{"main.tf": config(true)})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	client = acctest.StartWriter(t, namespace, "no-token")
	client.More(5)
	cli.Write("main.tf", config(false))
	return namespace, cli, client
}

// The apply is killed after each step of a roll. Each time the next one resumes it, every server restarts once, and
// no write is refused.
func TestAccLong_killedAfterEveryStepOfARoll(t *testing.T) {
	acctest.PreCheck(t)
	namespace, cli, client := changedUnderAClient(t)
	before := runs(t, namespace)
	asked := map[string]map[types.UID]bool{}
	kills := 0
	for ; ; kills++ {
		steps := rolloutEvents(t, namespace)
		killed, out := cli.RunAndKill(t.Context(), "apply", func(context.Context) bool { return rolloutEvents(t, namespace) > steps })
		requests := byPod(t, namespace, func(p corev1.Pod) types.UID { return types.UID(p.Annotations[server.AnnotationRestart]) })
		for name, request := range requests {
			if request != "" {
				if asked[name] == nil {
					asked[name] = map[types.UID]bool{}
				}
				asked[name][request] = true
			}
		}
		if !killed {
			if !strings.Contains(out, "Apply complete") {
				t.Fatalf("the apply after %d kills failed:\n%s", kills, out)
			}
			break
		}
		if kills > 10 {
			t.Fatalf("the rollout does not end:\n%s", out)
		}
	}
	if kills < 4 { // three restarts and a transfer
		t.Errorf("it could be killed only %d times", kills)
	}
	for name, requests := range asked {
		if len(requests) > 1 {
			t.Errorf("%s was asked to restart %d times", name, len(requests))
		}
	}
	if all := restarted(before, runs(t, namespace)); len(all) != 3 {
		t.Errorf("restarted in the end: %q", all)
	}
	if err := voters(t, namespace, 3)(nil); err != nil {
		t.Error(err)
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	client.More(5)
	if err := client.Verify(""); err != nil {
		t.Error(err)
	}
	client.Stop()
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}

// rolloutEvents counts the steps in the Events of the StatefulSet.
func rolloutEvents(t *testing.T, namespace string) int {
	t.Helper()
	list, err := acctest.Kube(
		t,
	).CoreV1().Events(
		namespace,
	).List(
		t.Context(),
		metav1.ListOptions{FieldSelector: "involvedObject.kind=StatefulSet"},
	)
	if err != nil {
		t.Fatal(err)
	}
	return len(slices.DeleteFunc(list.Items, func(e corev1.Event) bool { return e.Source.Component != server.ManagedBy }))
}

// Two applies at once, from two workspaces that do not know each other, wait for each other: no two servers are away
// at the same time.
func TestAccLong_twoAppliesAtOnceWaitForEachOther(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	config := func(label string) string {
		return required + hclVersion(namespace, acctest.ConsulVersion, fmt.Sprintf("  pod_labels = { by = %q }\n", label))
	}
	one := acctest.NewCLI(t, map[string]string{"main.tf": config("none")})
	one.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	two := acctest.NewCLI(t, map[string]string{"main.tf": config("none")})
	two.Must(t.Context(), "import", "-no-color", address, namespace+"/consul")
	client := acctest.StartWriter(t, namespace, "no-token")
	client.More(5)
	type result struct {
		out  string
		code int
	}
	results := make(chan result, 2)
	for label, cli := range map[string]*acctest.CLI{"one": one, "two": two} {
		cli.Write("main.tf", config(label))
		go func() {
			out, code := cli.Run(t.Context(), "apply", "-auto-approve", "-no-color")
			results <- result{out, code}
		}()
	}
	for range 2 {
		if r := <-results; r.code != 0 {
			t.Errorf("exit code %d:\n%s", r.code, r.out)
		}
	}
	if err := voters(t, namespace, 3)(nil); err != nil {
		t.Error(err)
	}
	client.More(5)
	if err := client.Verify(""); err != nil {
		t.Error(err)
	}
	client.Stop()
	one.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}

// A server whose volume was kept when it was removed catches up with the others when it returns, however long it was
// away.
func TestAccLong_returnsWithAStaleVolume(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	size := func(n int) string {
		return hclVersion(namespace, acctest.ConsulVersion, fmt.Sprintf("  replicas = %d\n", n))
	}
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: size(3), Check: func(*terraform.State) error { return putKey(t, namespace, "before", "1") }},
			{Config: size(1), Check: func(*terraform.State) error {
				// As if it had been away for a month.
				old := fmt.Sprintf(`{"last_seen_unix":%d}`, time.Now().Add(-30*24*time.Hour).Unix())
				runOnVolume(t, namespace, "data-consul-server-2", "echo '"+old+"' >/data/server_metadata.json")
				return putKey(t, namespace, "meanwhile", "2")
			}},
			{Config: size(3), Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), func(*terraform.State) error {
				c := acctest.Consul(t, namespace, "consul")
				pods, err := c.Pods(t.Context())
				if err != nil {
					return err
				}
				client, err := c.Server(&pods[2], "")
				if err != nil {
					return err
				}
				pair, _, err := client.KV().Get("meanwhile", &api.QueryOptions{AllowStale: true}) // from its own data
				if err == nil && (pair == nil || string(pair.Value) != "2") {
					err = fmt.Errorf("it has %v", pair)
				}
				return err
			})},
		},
	})
}

// runOnVolume runs a shell command in a pod that has a claim mounted at /data.
func runOnVolume(t *testing.T, namespace, claim, command string) {
	t.Helper()
	pods := acctest.Kube(t).CoreV1().Pods(namespace)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "volume-"},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(100)), FSGroup: new(int64(1000)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "shell", Image: "docker.io/hashicorp/consul:" + acctest.ConsulVersion, Command: []string{"/bin/sh", "-ec", command},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
			}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
			}}},
		},
	}
	pod, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	acctest.Wait(t, command, func(ctx context.Context) (string, error) {
		p, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		switch {
		case err != nil:
			return "", err
		case p.Status.Phase == corev1.PodFailed:
			return "", fmt.Errorf("it failed: %+v", p.Status.ContainerStatuses)
		case p.Status.Phase != corev1.PodSucceeded:
			return string(p.Status.Phase), nil
		}
		return "", nil
	})
	if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// The largest value that Consul accepts is two entries of the Raft log, the second of which begins with a byte that
// must not be mistaken (newRaftLogStore in package server). Otherwise the leader steps down for as long as the client
// retries.
func TestAccCluster_takesTheLargestValue(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	test(t, resource.TestCase{Steps: []resource.TestStep{{
		Config: hclVersion(namespace, acctest.ConsulVersion, "  replicas = 1\n"),
		Check: func(*terraform.State) error {
			for _, mistaken := range []string{"\x29", "\xa9"} {
				value := strings.Repeat(mistaken, 512<<10)
				if err := putKey(t, namespace, "large", value); err != nil {
					return err
				}
				if got, err := getKey(t, namespace, "large"); err != nil || got != value {
					return fmt.Errorf("%d bytes were read: %w", len(got), err)
				}
			}
			return nil
		},
	}}})
}
