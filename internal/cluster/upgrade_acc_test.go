package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The plan refuses a version that Consul cannot change to, and names the upgrade path. A version that never ran
// because its image does not exist does not prevent an older one.
func TestAccCluster_refusesIllegalUpgrades(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	version := func(v string) string {
		return hclVersion(namespace, v, "  replicas = 1\n  timeouts = { update = \"30s\" }\n  update = { snapshot_before = false }\n")
	}
	image := func(v string) string {
		return strings.Replace(
			version(acctest.ConsulVersion),
			fmt.Sprintf("version = %q", acctest.ConsulVersion),
			fmt.Sprintf("image = \"mirror.example/consul:%s\"", v),
			1,
		)
	}
	patient := hclVersion(namespace, acctest.ConsulVersion, "  replicas = 1\n  update = { snapshot_before = false }\n")
	refused := func(config, want string) resource.TestStep {
		return resource.TestStep{Config: config, PlanOnly: true, ExpectError: acctest.Says(want)}
	}
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: version(acctest.OlderVersion), Check: voters(t, namespace, 1)},
			refused(
				version("1.25.0"),
				"version: The servers of "+namespace+"/consul run 1.21.0: one upgrade of Consul may span at most two release lines, "+
					"and from 1.21.0 to 1.25.0 there are more. Apply these versions one after the other: 1.21.0 -> 1.23.x -> 1.25.0.",
			),
			refused(version("2.1.0"), "1.21.0 -> 2.0.x -> 2.1.0. For x, use the latest release of the line"),
			refused(image("2.1.0"), "image: The servers of "+namespace+"/consul run 1.21.0: one upgrade"),
			refused(version("1.20.6"), "1.20.6 is older than 1.21.0, and Consul does not support downgrades"),
			{Config: version("1.22.77"), ExpectError: acctest.Says("The change is not complete")}, // there is no image of it
			refused(version(acctest.OlderVersion+"-rc1"), "is older than 1.21.0"),
			{
				Config: patient, Check: voters(t, namespace, 1),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(address, tfjsonpath.New("running_version"), knownvalue.StringExact(acctest.ConsulVersion)),
				},
			},
			refused(version(acctest.OlderVersion), "1.21.0 is older than 1.22.7, and Consul does not support downgrades"),
			refused(version("1.22.6"), "create a second cluster with 1.22.6, and restore the snapshot from before the upgrade into it"),
			{Config: patient, PlanOnly: true},
		},
	})
}

// An upgrade that stopped half-way can be reverted to what the other servers run, and to nothing else. Writes from in
// between are kept.
func TestAccLong_revertsAnUnfinishedUpgrade(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(version string) string {
		return required + hclVersion(namespace, version, "  create_namespace = true\n")
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config(acctest.OlderVersion)})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	versions := func(ctx context.Context) map[string]int { // of the servers that are ready
		pods, err := acctest.Consul(t, namespace, "consul").Pods(ctx)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]int{}
		for i := range pods {
			if consul.PodReady(&pods[i]) {
				out[pods[i].Labels[server.LabelVersion]]++
			}
		}
		return out
	}
	cli.Write("main.tf", config(acctest.ConsulVersion))
	killed, out := cli.RunAndKill(t.Context(), "apply", func(ctx context.Context) bool { return versions(ctx)[acctest.ConsulVersion] > 0 })
	if !killed {
		t.Fatalf("the apply ended before it could be killed:\n%s", out)
	}
	acctest.Wait(t, "three voters", func(context.Context) (string, error) {
		if err := voters(t, namespace, 3)(nil); err != nil {
			return err.Error(), nil
		}
		return "", nil
	})
	if v := versions(t.Context()); v[acctest.ConsulVersion] == 0 || v[acctest.OlderVersion] == 0 {
		t.Fatalf("the upgrade was not stopped half-way: %v", v)
	}
	if err := putKey(t, namespace, "greeting", "hello"); err != nil {
		t.Fatal(err)
	}

	cli.Write("main.tf", config("1.21.5"))
	out, code := cli.Run(t.Context(), "plan", "-no-color", "-lock=false")
	if code == 0 || !acctest.Says("revert it to 1.21.0, which servers still run").MatchString(unframed(out)) {
		t.Errorf("a version that no server runs is not refused (exit code %d):\n%s", code, out)
	}
	cli.Write("main.tf", config(acctest.OlderVersion))
	if out, code = cli.Run(t.Context(), "plan", "-no-color", "-lock=false", "-detailed-exitcode"); code != 2 ||
		!strings.Contains(out, "An upgrade is reverted") {
		t.Errorf("the plan does not say what it does (exit code %d):\n%s", code, out)
	}
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
	if err := errors.Join(voters(t, namespace, 3)(nil), hasKey(t, namespace, "greeting", "hello")); err != nil {
		t.Error(err)
	}
	if v := versions(t.Context()); v[acctest.OlderVersion] != 3 {
		t.Errorf("the servers run %v", v)
	}
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode", "-lock=false"); code != 0 ||
		strings.Contains(out, "is reverted") {
		t.Errorf("the plan after that is not empty (exit code %d):\n%s", code, out)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color", "-lock=false")
	namespaceGone(t, namespace)
}

// An upgrade that also changes the configuration, and a change of the configuration alone, restart servers in their
// pods. A client that holds a lock through the Service, as Vault does, keeps it: the servers remain voters, and their
// sessions exist. Only writes during the transfer of the leadership may fail, and a request that is in progress on a kept
// connection when its server is killed. The test runs alone: a server that takes seconds longer to start loses its sessions.
func TestAccCluster_restartsInPlaceKeepALock(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(version, more string) string {
		return required + hclVersion(namespace, version, "  create_namespace = true\n"+more)
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config(acctest.OlderVersion, "")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	before := podUIDs(t, namespace)
	samePods := func() (err error) {
		if after := podUIDs(t, namespace); !maps.Equal(before, after) {
			err = fmt.Errorf("there are new pods: %v instead of %v", after, before)
		}
		return err
	}
	for _, change := range []struct{ what, to string }{
		{"the upgrade", config(acctest.ConsulVersion, "  performance = { raft_multiplier = 2 }\n")},
		{"the change of the configuration", config(acctest.ConsulVersion, "  performance = { raft_multiplier = 3 }\n")},
	} {
		client := acctest.StartLoad(t, namespace, acctest.LoadOptions{Lock: true})
		client.HoldsLock()
		watch := acctest.WatchRaft(t, namespace, "consul", "")
		client.More(200)
		cli.Write("main.tf", change.to)
		cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
		client.More(500) // late failures count too
		raft := watch.Stop()
		if err := client.Verify("", 10); err != nil {
			t.Errorf("during %s: %v", change.what, err)
		}
		if raft.FewestConfigured < 3 || raft.FewestVoters < 2 {
			t.Errorf("during %s, there were too few voters: %+v", change.what, raft)
		}
		if err := errors.Join(voters(t, namespace, 3)(nil), samePods(), allServe(t, namespace)); err != nil {
			t.Errorf("after %s: %v", change.what, err)
		}
		cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	}
	for name, a := range agents(t, namespace) {
		if a.Version != acctest.ConsulVersion || a.ConsulRaftElectionTimeout != "3s" { // one second for each
			t.Errorf("%s runs with %+v", name, a)
		}
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// allServe checks that clients are routed to every server.
func allServe(t *testing.T, namespace string) error {
	t.Helper()
	pods, err := acctest.Consul(t, namespace, "consul").Pods(t.Context())
	for i := range pods {
		if !server.IsServing(&pods[i]) {
			err = errors.Join(err, fmt.Errorf("%s is without the label %s", pods[i].Name, server.LabelServing))
		}
	}
	return err
}

// unframed removes the bar that Terraform draws beside a diagnostic.
func unframed(out string) string { return strings.ReplaceAll(out, "│", "") }

func hasKey(t *testing.T, namespace, key, want string) error {
	t.Helper()
	got, err := getKey(t, namespace, key)
	if err == nil && got != want {
		err = fmt.Errorf("the key %q is %q, want %q", key, got, want)
	}
	return err
}
