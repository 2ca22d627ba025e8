package acctest_test

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A proof that no request fails must be able to see requests fail: the only server of a cluster restarts. Earlier
// acknowledged writes survive.
func TestAccLoad_seesAnOutage(t *testing.T) {
	t.Parallel()
	c, token := acctest.Bootstrapped(t, acctest.ConsulVersion)
	load := acctest.StartLoad(t, c.Namespace, acctest.LoadOptions{Secret: "consul-bootstrap-token"})
	watch := acctest.WatchRaft(t, c.Namespace, c.Name, token)
	load.HasToken(1)
	load.More(100)
	pods := acctest.Kube(t).CoreV1().Pods(c.Namespace)
	pod, err := pods.Get(t.Context(), server.PodName(c.Name, 0), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	acctest.Wait(t, "another server", func(ctx context.Context) (string, error) {
		now, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil || now.UID == pod.UID {
			return "the pod is not replaced", nil //nolint:nilerr // it is not there, for a moment
		}
		return consul.Missing(ctx, c, token, 1, 0)
	})
	load.More(100)
	watch.HasLeader()
	raft, report := watch.Stop(), load.Stop()
	t.Logf("%+v", raft)
	if raft.FewestVoters != 0 || raft.Below(1) == 0 || raft.LongestWithoutLeader == 0 || raft.LeaderChanges != 1 {
		t.Errorf("the watch saw %+v during a restart of the only server", raft)
	}
	if report.Failed == 0 || report.Failed == report.Requests {
		t.Errorf("%d of %d requests failed", report.Failed, report.Requests)
	}
	if err := load.Verify(token, 0); err == nil || !strings.Contains(err.Error(), "requests failed") {
		t.Errorf("the verification returned %v", err)
	}
	if lost, err := load.Lost(token); err != nil || len(lost) > 0 {
		t.Errorf("lost are %q, %v", lost, err)
	}
}
