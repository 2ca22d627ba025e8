package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// loseVolumes deletes servers and their volumes at once, like the loss of nodes with local disks, and waits until the
// new servers report that they have no data.
func loseVolumes(t *testing.T, namespace string, pods ...string) {
	t.Helper()
	k := acctest.Kube(t)
	g, ctx := errgroup.WithContext(t.Context())
	for _, pod := range pods {
		g.Go(func() error {
			// The agent must not leave, as it would if Kubernetes stopped it.
			if _, err := k.Exec(ctx, namespace, pod, server.ContainerName, nil, "/bin/sh", "-c", "kill -STOP $(cat /tmp/pid)"); err != nil {
				return err
			}
			claim := "data-" + pod
			if err := k.CoreV1().PersistentVolumeClaims(namespace).Delete(ctx, claim, metav1.DeleteOptions{}); err != nil {
				return err
			}
			return k.CoreV1().Pods(namespace).Delete(ctx, pod, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	// Meanwhile they have a volume and have reported nothing yet: their state is unknown.
	acctest.Wait(t, "the servers to report that they have no data", func(ctx context.Context) (string, error) {
		for _, pod := range pods {
			p, err := k.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
			if found, err := kube.Found(err); err != nil || !found {
				return pod + " is not there", err
			}
			if i := slices.IndexFunc(p.Status.InitContainerStatuses, func(s corev1.ContainerStatus) bool {
				ended := s.LastTerminationState.Terminated
				return s.State.Running != nil && ended != nil && ended.Message == server.NoDataReport
			}); i < 0 {
				return pod + " does not wait", nil
			}
		}
		return "", nil
	})
}

// A cluster that has lost its quorum reports it, and never starts empty by itself: it recovers from the survivor,
// with the data of that server, or from nothing, and only if that is declared.
func TestAccCluster_recoversFromTheLossOfItsQuorum(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(more string) string {
		return required + hclVersion(
			namespace,
			acctest.ConsulVersion,
			"  create_namespace = true\n  acl = { enabled = true, default_policy = \"deny\" }\n  tls = { enabled = true }\n"+more,
		) + `
resource "consul_k8s_acl_bootstrap" "test" {
  cluster = consul_k8s_cluster.test.id
}
`
	}
	recovery := func(from, trigger string) string {
		return fmt.Sprintf("  recovery = { from = %q, trigger = %q }\n", from, trigger)
	}
	token := func() string {
		t.Helper()
		token, _, err := consulacl.ManagementToken(t.Context(), acctest.Consul(t, namespace, "consul"))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	manage := func(do func(*api.Client) error) {
		t.Helper()
		if err := acctest.Consul(t, namespace, "consul").Any(t.Context(), token(), do); err != nil {
			t.Fatal(err)
		}
	}
	keys := func() (n int) {
		t.Helper()
		manage(func(client *api.Client) error {
			list, _, err := client.KV().Keys("kept/", "", &api.QueryOptions{RequireConsistent: true})
			n = len(list)
			return err
		})
		return n
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	for i := range 20 {
		manage(func(client *api.Client) error {
			_, err := client.KV().Put(&api.KVPair{Key: fmt.Sprintf("kept/%d", i), Value: []byte("x")}, nil)
			return err
		})
	}
	only := []string{"-target=consul_k8s_cluster.test", "-no-color"}
	apply := func(more string) (string, int) {
		cli.Write("main.tf", config(more))
		return cli.Run(t.Context(), append([]string{"apply", "-auto-approve"}, only...)...)
	}
	whole := func(want int) {
		t.Helper()
		if missing, err := consul.Missing(t.Context(), acctest.Consul(t, namespace, "consul"), token(), 3, 0); err != nil || missing != "" {
			t.Errorf("the servers are not all healthy voters: %s, %v", missing, err)
		}
		if n := keys(); n != want {
			t.Errorf("%d of 20 keys are there, want %d", n, want)
		}
		cli.Must(t.Context(), "apply", "-auto-approve", "-no-color") // the tokens of new servers
		cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	}

	before := runs(t, namespace)
	if out, code := apply(recovery("survivor", "0")); code != 0 || !acctest.Says("There is nothing to recover").MatchString(out) {
		t.Errorf("with a leader: exit code %d\n%s", code, out)
	}
	if gone := restarted(before, runs(t, namespace)); len(gone) > 0 {
		t.Errorf("with a leader, %q were restarted", gone)
	}

	// Two of three.
	loseVolumes(t, namespace, server.PodName("consul", 0), server.PodName("consul", 2))
	out, _ := cli.Run(t.Context(), append([]string{"plan"}, only...)...)
	for _, says := range []string{"The quorum is lost", "with data: consul-server-1; without data: consul-server-0, " +
		"consul-server-2", `recovery = \{ from = "survivor"`} {
		if !acctest.Says(says).MatchString(out) && !strings.Contains(out, strings.ReplaceAll(says, `\`, "")) {
			t.Errorf("the plan does not say %q:\n%s", says, out)
		}
	}
	if out, code := apply(recovery("nothing", "1")); code != 1 || !acctest.Says("there is data left").MatchString(out) {
		t.Errorf("from nothing, with a survivor: exit code %d\n%s", code, out)
	}
	// A KILL without effect leaves nothing behind.
	survivor := server.PodName("consul", 1)
	run := func(pod, command string) string {
		t.Helper()
		out, err := acctest.Kube(t).Exec(t.Context(), namespace, pod, server.ContainerName, nil, "/bin/sh", "-c", command)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run(survivor, "cp /tmp/pid /tmp/pid.real; sleep 600 >/dev/null 2>&1 & echo $! >/tmp/pid")
	if out, code := apply(recovery("survivor", "0.1")); code != 1 || !acctest.Says("the agent still runs").MatchString(out) {
		t.Errorf("from a survivor that is not killed: exit code %d\n%s", code, out)
	}
	if left := run(
		survivor, "ls "+server.RaftDir+"/peers.json "+server.RaftDir+"/peers.new "+server.RecoveryFile+" 2>/dev/null; :",
	); left != "" {
		t.Errorf("the attempt left files behind:\n%s", left)
	}
	run(survivor, "mv /tmp/pid.real /tmp/pid")
	if out, code := apply(recovery("survivor", "1")); code != 0 {
		t.Fatalf("from a survivor: exit code %d\n%s", code, out)
	}
	whole(20)

	// A peers.json that an earlier recovery left behind makes no server a cluster of its own.
	alone := server.PodName("consul", 0)
	run(
		alone,
		`printf '[{"id":"%s","address":"%s:8300","non_voter":false}]' "`+server.NodeID(
			namespace,
			"consul",
			0,
		)+`" "$POD_IP" >`+server.RaftDir+`/peers.json`,
	)
	_, _ = acctest.Kube(
		t,
	).Exec(
		t.Context(),
		namespace,
		alone,
		server.ContainerName,
		nil,
		"/bin/sh",
		"-c",
		`kill -KILL "$(cat /tmp/pid)"`,
	) // ends with the container
	acctest.Wait(t, "the server to start again", func(ctx context.Context) (string, error) {
		p, err := acctest.Kube(t).CoreV1().Pods(namespace).Get(ctx, alone, metav1.GetOptions{})
		if err != nil || p.Status.ContainerStatuses[0].RestartCount == 0 {
			return "it was not restarted", err
		}
		return consul.Missing(ctx, acctest.Consul(t, namespace, "consul"), token(), 3, 0)
	})
	if left := run(alone, "ls "+server.RaftDir); !strings.Contains(left, "peers.json.ignored") {
		t.Errorf("the file was used: %s", left)
	}

	// All three.
	loseVolumes(t, namespace, server.PodName("consul", 0), server.PodName("consul", 1), server.PodName("consul", 2))
	if out, code := apply(recovery("survivor", "2")); code != 1 || !acctest.Says("no running server has its data").MatchString(out) {
		t.Errorf("from a survivor, without one: exit code %d\n%s", code, out)
	}
	before = runs(t, namespace)
	cli.Write("main.tf", config(recovery("nothing", "2")))
	killed, out := cli.RunAndKill(
		t.Context(),
		"apply",
		func(context.Context) bool { return len(restarted(before, runs(t, namespace))) > 0 },
		only[0],
	)
	if !killed {
		t.Fatalf("the apply ended before it could be killed:\n%s", out)
	}
	if out, code := apply(recovery("nothing", "2")); code != 0 {
		t.Fatalf("from nothing, after a kill: exit code %d\n%s", code, out)
	}
	if a := statefulSet(t, namespace).Annotations; a[server.AnnotationRecovering] != "" {
		t.Errorf("the annotations are %v", a)
	}
	whole(0)
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// Servers that somebody scales away while they are Raft peers come back with their volumes, and are then removed in
// order: first the peer, then its pod.
func TestAccLong_bringsBackServersThatWereTakenAway(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(replicas int) string {
		return required + hclVersion(namespace, acctest.ConsulVersion, fmt.Sprintf("  create_namespace = true\n  replicas = %d\n", replicas))
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config(3)})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	c, k := acctest.Consul(t, namespace, "consul"), acctest.Kube(t)
	if err := putKey(t, namespace, "kept", "x"); err != nil {
		t.Fatal(err)
	}
	// They do not leave, as if their nodes died.
	for _, ordinal := range []int{1, 2} {
		if _, err := k.Exec(
			t.Context(), namespace, server.PodName("consul", ordinal), server.ContainerName, nil, "/bin/sh", "-c", "kill -STOP $(cat /tmp/pid)",
		); err != nil {
			t.Fatal(err)
		}
	}
	patch := []byte(`{"spec":{"replicas":1}}`)
	if _, err := k.AppsV1().StatefulSets(namespace).Patch(
		t.Context(), "consul-server", types.MergePatchType, patch, metav1.PatchOptions{},
	); err != nil {
		t.Fatal(err)
	}
	for _, ordinal := range []int{1, 2} {
		err := k.CoreV1().Pods(
			namespace,
		).Delete(
			t.Context(),
			server.PodName("consul", ordinal),
			metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))},
		)
		if _, err := kube.Found(err); err != nil {
			t.Fatal(err)
		}
	}
	cli.Write("main.tf", config(1))
	out, _ := cli.Run(t.Context(), "plan", "-no-color")
	if !acctest.Says("Servers without a pod are Raft peers").MatchString(out) ||
		!acctest.Says("consul-server-1, consul-server-2 have a volume and no pod").MatchString(out) ||
		strings.Contains(out, "recovery =") {
		t.Errorf("the plan says:\n%s", out)
	}
	cli.Write(
		"main.tf",
		strings.Replace(config(1), "  replicas = 1\n", "  replicas = 1\n  recovery = { from = \"survivor\", trigger = \"1\" }\n", 1),
	)
	if out, code := cli.Run(t.Context(), "plan", "-no-color"); code != 1 ||
		!acctest.Says("servers without a pod have volumes").MatchString(out) {
		t.Errorf("a recovery is not refused: exit code %d\n%s", code, out)
	}
	cli.Write("main.tf", config(1))

	// A server that leaves is no longer a Raft peer.
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan []string)
	go func() {
		var early []string
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			early = append(early, leavingPeers(ctx, c)...)
			<-tick.C
		}
		watched <- early
	}()
	out, code := cli.Run(t.Context(), "apply", "-auto-approve", "-no-color")
	stop()
	if early := <-watched; len(early) > 0 {
		t.Errorf("pods were deleted while they were Raft peers: %q", early)
	}
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	if missing, err := consul.Missing(t.Context(), c, "", 1, 0); err != nil || missing != "" {
		t.Errorf("the server is not healthy: %s, %v", missing, err)
	}
	if _, err := getKey(t, namespace, "kept"); err != nil {
		t.Error(err)
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// leavingPeers are the pods that are being deleted while they are Raft peers.
func leavingPeers(ctx context.Context, c *consul.Cluster) (early []string) {
	pods, err := c.Pods(ctx)
	if err != nil {
		return nil
	}
	h, err := consul.ReadHealth(ctx, c, "")
	if err != nil {
		return nil
	}
	for i := range pods {
		if pods[i].DeletionTimestamp != nil &&
			slices.ContainsFunc(h.Servers, func(s consul.ServerHealth) bool { return s.Name == pods[i].Name && s.Peer }) {
			early = append(early, pods[i].Name)
		}
	}
	return early
}

// Three of five servers are lost with their volumes. The data of the two survivors differs: everything that one of
// them has comes back.
func TestAccLong_recoversFromTwoSurvivorsOfFive(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(more string) string {
		return required + hclVersion(
			namespace,
			acctest.ConsulVersion,
			"  create_namespace = true\n  replicas = 5\n  placement = { anti_affinity = \"preferred\" }\n"+more,
		)
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	c, k := acctest.Consul(t, namespace, "consul"), acctest.Kube(t)
	signal := func(pod, name string) {
		t.Helper()
		if _, err := k.Exec(
			t.Context(), namespace, pod, server.ContainerName, nil, "/bin/sh", "-c", "kill -"+name+" $(cat /tmp/pid)",
		); err != nil {
			t.Fatal(err)
		}
	}
	put := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := putKey(t, namespace, fmt.Sprintf("kept/%d", i), "x"); err != nil {
				t.Fatal(err)
			}
		}
	}
	pods, err := c.Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leader, err := consul.LeaderPod(t.Context(), c, pods)
	if err != nil {
		t.Fatal(err)
	}
	var followers []string
	for i := range pods {
		if pods[i].Name != leader.Name {
			followers = append(followers, pods[i].Name)
		}
	}
	survivors, lost := followers[:2], slices.Concat(followers[2:], []string{leader.Name})
	put(0, 20)
	signal(survivors[0], "STOP") // it receives none of the next writes
	put(20, 30)
	for _, pod := range lost {
		signal(pod, "STOP")
	}
	signal(survivors[0], "CONT")
	loseVolumes(t, namespace, lost...)

	out, _ := cli.Run(t.Context(), "plan", "-no-color")
	if says := "with data: " + strings.Join(survivors, ", "); !acctest.Says("The quorum is lost").MatchString(out) ||
		!acctest.Says(says).MatchString(out) {
		t.Errorf("the plan does not say %q:\n%s", says, out)
	}
	cli.Write("main.tf", config("  recovery = { from = \"survivor\", trigger = \"1\" }\n"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if missing, err := consul.Missing(t.Context(), c, "", 5, 0); err != nil || missing != "" {
		t.Errorf("the servers are not all healthy voters: %s, %v", missing, err)
	}
	for i := range 30 {
		if _, err := getKey(t, namespace, fmt.Sprintf("kept/%d", i)); err != nil {
			t.Error(err)
		}
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}
