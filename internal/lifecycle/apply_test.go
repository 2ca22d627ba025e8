package lifecycle

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul/consultest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The leader is the first that is told a larger number of servers, and the last that is told a smaller one.
func TestTellServers_theLeaderKnowsTheLargerNumber(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		leader           string
		former, declared int32
		want             []string
	}{
		"fewer":            {`"10.0.0.1:8300"`, 3, 1, []string{"consul-server-1", "consul-server-2", "consul-server-0"}},
		"more":             {`"10.0.0.2:8300"`, 1, 3, []string{"consul-server-1", "consul-server-0", "consul-server-2"}},
		"without a leader": {`""`, 3, 1, []string{"consul-server-0", "consul-server-1", "consul-server-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pods := runningPods(3)
			set := fake.NewClientset(pods[0], pods[1], pods[2])
			k := consultest.Serve(t, set, consultest.Answers{
				"GET /v1/status/leader": {http.StatusOK, tt.leader}, "GET /v1/status/peers": {http.StatusOK, "[]"},
			})
			d := Deployment{Kube: k, Consul: consul.NewConnector(k).Cluster("ns", "consul")}
			if err := (objects{d}).tellServers(context.Background(), tt.former, tt.declared); err != nil {
				t.Fatal(err)
			}
			var told []string
			for _, a := range set.Actions() {
				if patch, ok := a.(clienttesting.PatchAction); ok {
					told = append(told, patch.GetName())
				}
			}
			if !slices.Equal(told, tt.want) {
				t.Errorf("told %q, want %q", told, tt.want)
			}
		})
	}
}

// Only servers that run are asked for the leader, ready ones first.
func TestTellServers_asksServersThatAnswer(t *testing.T) {
	t.Parallel()
	pods := runningPods(4)
	pods[0].DeletionTimestamp = new(metav1.Now())
	pods[1].Status.ContainerStatuses = nil
	pods[3].Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	k := consultest.Serve(t, fake.NewClientset(pods[0], pods[1], pods[2], pods[3]), consultest.Answers{
		"GET /v1/status/leader": {http.StatusOK, `""`}, "GET /v1/status/peers": {http.StatusOK, "[]"},
	})
	var mutex sync.Mutex
	var asked []string
	dial := k.Dial
	k.Dial = func(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
		mutex.Lock()
		defer mutex.Unlock()
		asked = append(asked, pod)
		return dial(ctx, namespace, pod, port)
	}
	d := Deployment{Kube: k, Consul: consul.NewConnector(k).Cluster("ns", "consul")}
	if err := (objects{d}).tellServers(t.Context(), 3, 1); err != nil {
		t.Fatal(err)
	}
	if want := []string{"consul-server-3", "consul-server-2"}; !slices.Equal(slices.Compact(asked), want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

// runningPods are the pods of n servers that run, and are not ready.
func runningPods(n int) (pods []*corev1.Pod) {
	for i := range n {
		p := consultest.ServerPod(i)
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: server.ContainerName, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}
		pods = append(pods, p)
	}
	return pods
}
