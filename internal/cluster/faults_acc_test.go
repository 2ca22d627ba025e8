package cluster_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// Evictions follow each other as soon as the disruption budget allows, as when "kubectl drain" drains one node after
// the other. A server counts as away until it votes again, so two voters are left at any moment, and no write is
// lost.
func TestAccLong_evictionsOneAfterTheOtherLeaveTwoVoters(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	k := acctest.Kube(t)
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{{
			Config: hclVersion(namespace, acctest.ConsulVersion, ""),
			Check: func(*terraform.State) error {
				before := runs(t, namespace)
				client := acctest.StartWriter(t, namespace, "no-token")
				client.More(5)
				watch := acctest.WatchRaft(t, namespace, "consul", "")
				for name, uid := range before {
					eviction := &policyv1.Eviction{
						ObjectMeta:    metav1.ObjectMeta{Name: name, Namespace: namespace},
						DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(uid))},
					}
					acctest.Wait(t, "the disruption budget to allow the eviction of "+name, func(ctx context.Context) (string, error) {
						err := k.PolicyV1().Evictions(namespace).Evict(ctx, eviction)
						if apierrors.IsTooManyRequests(err) {
							return err.Error(), nil
						}
						return "", err
					})
				}
				acctest.Wait(t, "all servers to vote again", func(ctx context.Context) (string, error) {
					if left := len(before) - len(restarted(before, runs(t, namespace))); left > 0 {
						return fmt.Sprintf("%d were not evicted", left), nil
					}
					return consul.Missing(ctx, acctest.Consul(t, namespace, "consul"), "", 3, 0)
				})
				client.More(5)
				defer client.Stop()
				if raft := watch.Stop(); raft.FewestVoters < 2 {
					return fmt.Errorf("there were only %d voters: %+v", raft.FewestVoters, raft)
				}
				return client.VerifyNoneLost("")
			},
		}},
	})
}

// duringRoll changes three servers with an apply, and acts as soon as the first of them was restarted. The apply
// completes all the same.
func duringRoll(t *testing.T, do func(namespace string, before map[string]types.UID)) {
	t.Helper()
	namespace, cli, client := changedUnderAClient(t)
	before := runs(t, namespace)
	type result struct {
		out  string
		code int
	}
	done := make(chan result, 1)
	go func() {
		out, code := cli.Run(t.Context(), "apply", "-auto-approve", "-no-color")
		done <- result{out, code}
	}()
	acctest.Wait(t, "the first server to be restarted", func(context.Context) (string, error) {
		if len(done) > 0 {
			return "", fmt.Errorf("the apply has ended: %s", (<-done).out)
		}
		if len(restarted(before, runs(t, namespace))) == 0 {
			return "none is", nil
		}
		return "", nil
	})
	do(namespace, before)
	if r := <-done; r.code != 0 {
		t.Fatalf("exit code %d:\n%s", r.code, r.out)
	}
	if all := restarted(before, runs(t, namespace)); len(all) != 3 {
		t.Errorf("restarted in the end: %q", all)
	}
	if err := voters(t, namespace, 3)(nil); err != nil {
		t.Error(err)
	}
	client.More(5)
	if err := client.VerifyNoneLost(""); err != nil {
		t.Error(err)
	}
	client.Stop()
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// leader is the pod of the leader, according to the servers.
func leader(t *testing.T, namespace string) string {
	t.Helper()
	name := ""
	acctest.Wait(t, "a leader", func(ctx context.Context) (string, error) {
		c := acctest.Consul(t, namespace, "consul")
		pods, err := c.Pods(ctx)
		if err != nil {
			return "", err
		}
		pod, err := consul.LeaderPod(ctx, c, pods)
		if err != nil {
			return err.Error(), nil
		}
		name = pod.Name
		return "", nil
	})
	return name
}

// The leader dies without leaving while another server is away: the roll waits until all are back, and no
// acknowledged write is lost.
func TestAccLong_aLeaderThatDiesInTheMiddleOfARoll(t *testing.T) {
	acctest.PreCheck(t)
	duringRoll(t, func(namespace string, _ map[string]types.UID) {
		now := int64(0)
		err := acctest.Kube(t).CoreV1().Pods(namespace).Delete(t.Context(), leader(t, namespace), metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// A node is cut off in the middle of a roll: the roll waits, restarts no other server, and continues when the node is
// back. Nodes are shared, so this test does not run beside others.
func TestAccLong_aRollWaitsForANodeThatIsCutOff(t *testing.T) {
	acctest.PreCheck(t)
	nodes := acctest.LocalCluster(t)
	duringRoll(t, func(namespace string, before map[string]types.UID) {
		whole(t, namespace) // the first server votes again
		done := restarted(before, runs(t, namespace))
		pods, err := acctest.Consul(t, namespace, "consul").Pods(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lead := leader(t, namespace)
		i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name != lead && !slices.Contains(done, p.Name) })
		if i < 0 {
			i = slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name != lead })
		}
		node := pods[i].Spec.NodeName
		if err := nodes.CutNode(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		touched := runs(t, namespace)
		seen := time.Now().Add(30 * time.Second)
		acctest.Wait(t, "what does not happen", func(context.Context) (string, error) {
			if time.Now().Before(seen) {
				return "it takes time to see", nil
			}
			return "", nil
		})
		now := restarted(touched, runs(t, namespace))
		if err := nodes.HealNode(context.WithoutCancel(t.Context()), node); err != nil {
			t.Fatal(err)
		}
		if now = slices.DeleteFunc(now, func(name string) bool { return name == pods[i].Name }); len(now) > 0 {
			t.Errorf("%s were restarted while %s was cut off", strings.Join(now, ", "), node)
		}
	})
}

// Each request of a rollout to Kubernetes takes half a second, while every server that is ready may be evicted, ten
// times a second: two voters are left at any moment, the rollout completes, and no acknowledged write is lost.
func TestAccLong_rollsAmongEvictionsWithTwoVoters(t *testing.T) {
	acctest.PreCheck(t)
	namespace, cli, client := changedUnderAClient(t)
	before := runs(t, namespace)
	watch := acctest.WatchRaft(t, namespace, "consul", "")
	proxy := acctest.NewKubeProxy(t)
	proxy.SetDelay(500 * time.Millisecond)
	cli.Setenv("KUBE_CONFIG_PATH", proxy.Kubeconfig)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	evictions := make(chan int)
	go func() { evictions <- evictServers(ctx, t, namespace) }()
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	stop()
	if n := <-evictions; n == 0 {
		t.Error("nothing was evicted")
	} else {
		t.Logf("%d servers were evicted by others", n)
	}
	if all := restarted(before, runs(t, namespace)); len(all) != 3 {
		t.Errorf("restarted in the end: %q", all)
	}
	if raft := watch.Stop(); raft.FewestVoters < 2 {
		t.Errorf("there were only %d voters: %+v", raft.FewestVoters, raft)
	}
	client.More(5)
	if err := client.VerifyNoneLost(""); err != nil {
		t.Error(err)
	}
	client.Stop()
	cli.Setenv("KUBE_CONFIG_PATH", os.Getenv("KUBE_CONFIG_PATH"))
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// evictServers evicts any server that is ready, every 100 ms, from the change of the pod template until every server
// runs it, and returns the number of evictions.
func evictServers(ctx context.Context, t *testing.T, namespace string) (n int) {
	t.Helper()
	k, c := acctest.Kube(t), acctest.Consul(t, namespace, "consul")
	former := ""
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return n
		case <-tick.C:
		}
		sts, err := k.AppsV1().StatefulSets(namespace).Get(ctx, "consul-server", metav1.GetOptions{})
		if err != nil {
			continue
		}
		former = cmp.Or(former, sts.Status.UpdateRevision)
		pods, err := c.Pods(ctx)
		if err != nil || sts.Status.UpdateRevision == former {
			continue
		}
		if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return lifecycle.Outdated(sts, &p) }) {
			return n
		}
		for _, i := range rand.Perm(len(pods)) { // in the order of names, it would evict the first one again and again
			if consul.PodReady(&pods[i]) && k.Evict(ctx, namespace, pods[i].Name, *metav1.NewPreconditionDeleteOptions(string(pods[i].UID))) == nil {
				n++
			}
		}
	}
}
