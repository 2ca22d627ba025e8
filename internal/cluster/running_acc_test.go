package cluster_test

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// An apply that finds no StatefulSet, and turns on TLS and gossip encryption with another version, goes through every
// stage and takes a snapshot first: the pods show what the servers run.
func TestAccLong_tlsOnAndOffWithoutItsStatefulSet(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(version, more string) string {
		return required + hclVersion(namespace, version, "  create_namespace = true\n"+more)
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config(acctest.OlderVersion, "")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	client := acctest.StartWriter(t, namespace, "no-token")
	client.More(5)
	watch := acctest.WatchRaft(t, namespace, "consul", "")
	before := runs(t, namespace)
	deleteStatefulSet(t, namespace)

	cli.Write("main.tf", config(acctest.ConsulVersion, "  tls = { enabled = true }\n  gossip = { enabled = true }\n"))
	if out := cli.Must(t.Context(), "plan", "-no-color"); !strings.Contains(out, "3 servers restart, 3 times") ||
		!strings.Contains(out, "StatefulSet consul-server: missing") {
		t.Errorf("the plan does not say that every stage takes a roll:\n%s", out)
	}
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if left := len(before) - len(restarted(before, runs(t, namespace))); left > 0 {
		t.Errorf("%d servers were not restarted", left)
	}
	if state := cli.State(); !strings.Contains(state, "consul-"+acctest.OlderVersion+"-") {
		t.Error("no snapshot was taken before the upgrade")
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")

	deleteStatefulSet(t, namespace)
	cli.Write("main.tf", config(acctest.ConsulVersion, ""))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	if raft := watch.Stop(); raft.FewestVoters < 2 {
		t.Errorf("there were only %d voters", raft.FewestVoters)
	}
	client.More(5)
	if err := client.VerifyNoneLost(""); err != nil {
		t.Error(err)
	}
	client.Stop()
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// deleteStatefulSet deletes the StatefulSet around its pods.
func deleteStatefulSet(t *testing.T, namespace string) {
	t.Helper()
	sets := acctest.Kube(t).AppsV1().StatefulSets(namespace)
	if err := sets.Delete(
		t.Context(), "consul-server", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationOrphan)},
	); err != nil {
		t.Fatal(err)
	}
	acctest.Wait(t, "the StatefulSet to be deleted", func(ctx context.Context) (string, error) {
		if _, err := sets.Get(ctx, "consul-server", metav1.GetOptions{}); err == nil {
			return "it is there", nil
		}
		return "", nil
	})
}

// A create that was killed before there was a leader may be resumed with another number of servers: the running ones
// expect the former number, so they restart.
func TestAccCluster_resumesAKilledCreateWithFewerServers(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	namespace := acctest.NamespaceName(t)
	config := func(more string) string {
		// Another server may meanwhile run on the node that a kept volume is bound to.
		return required + strings.Replace(hclVersion(namespace, acctest.ConsulVersion, "  create_namespace = true\n"+more),
			`when_deleted = "Delete"`, `when_deleted = "Delete", when_scaled = "Delete"`, 1)
	}
	// There are fewer than 7 nodes.
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("  replicas = 7\n")})
	killed, out := cli.RunAndKill(t.Context(), "apply", func(ctx context.Context) bool {
		list, err := acctest.Kube(t).CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		n := 0
		for i := range list.Items {
			if p := &list.Items[i]; p.Status.Phase == corev1.PodRunning && consul.PodRuns(p) {
				n++
			}
		}
		return err == nil && n > 0
	})
	if !killed {
		t.Fatalf("the apply ended before it could be killed:\n%s", out)
	}
	cli.Write("main.tf", config("  replicas = 1\n"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
	if err := voters(t, namespace, 1)(nil); err != nil {
		t.Error(err)
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode", "-lock=false")

	// The record of the first leader is lost. Servers are still added one at a time, as the Events show.
	patch := []byte(`[{"op":"remove","path":"/data/established"}]`)
	if _, err := acctest.Kube(t).CoreV1().ConfigMaps(namespace).Patch(
		t.Context(), "consul-server", "application/json-patch+json", patch, metav1.PatchOptions{},
	); err != nil {
		t.Fatal(err)
	}
	before := runs(t, namespace)
	cli.Write("main.tf", config("  replicas = 3\n"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
	if err := voters(t, namespace, 3)(nil); err != nil {
		t.Error(err)
	}
	if runs(t, namespace)["consul-server-0"] != before["consul-server-0"] {
		t.Error("the server that had elected a leader was restarted")
	}
	list, err := acctest.Kube(
		t,
	).CoreV1().Events(
		namespace,
	).List(
		t.Context(),
		metav1.ListOptions{FieldSelector: "involvedObject.kind=StatefulSet,reason=Scaling"},
	)
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, e := range list.Items {
		if !strings.HasPrefix(e.Message, "scale to 0 servers") { // of the resumed create
			steps = append(steps, e.Message)
		}
	}
	if len(steps) != 2 {
		t.Errorf("the steps from one server to three are %q, want two", steps)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color", "-lock=false")
	namespaceGone(t, namespace)
}
