package consulacl

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul/consultest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// A restored catalog has the server of another cluster with the same name. While it exists, Consul accepts no agent
// with this name, so it is removed before the wait for the agent.
func TestHeal_makesRoomForTheAgents(t *testing.T) {
	t.Parallel()
	for name, ready := range map[string]time.Duration{
		"a server that was restarted a moment ago": time.Second, "one that runs for an hour": time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			healMakesRoom(t, ready)
		})
	}
}

// healMakesRoom heals a cluster whose server has been ready for some time.
func healMakesRoom(t *testing.T, ready time.Duration) {
	t.Helper()
	own := AgentTokenAccessor((&consul.Cluster{Namespace: "ns", Name: "consul"}), 0)
	node := func(id, lan string) any {
		return map[string]any{
			"Node": map[string]any{"Node": "consul-server-0", "ID": id, "Address": lan, "TaggedAddresses": map[string]string{"lan": lan}},
		}
	}
	const catalog, deregister, give = "GET /v1/catalog/node/consul-server-0", "PUT /v1/catalog/deregister", "PUT /v1/agent/token/agent"
	known := consultest.Answers{
		"GET /v1/acl/token/self": {
			200,
			map[string]any{"AccessorID": "m", "Policies": []map[string]string{{"ID": GlobalManagementID}}},
		},
		"GET /v1/acl/token/" + own: {200, map[string]string{"AccessorID": own, "SecretID": "agent"}},
		"GET /v1/agent/self":       {200, map[string]any{"Config": map[string]string{"NodeName": "consul-server-0", "NodeID": "own"}}},
		give:                       {200, nil},
		deregister:                 {200, true},
		catalog:                    {200, node("another", "10.9.9.9")},
		"GET /v1/operator/raft/configuration": {
			200,
			map[string]any{
				"Servers": []map[string]any{{"ID": "own", "Node": "consul-server-0", "Address": "10.0.0.1:8300", "Leader": true, "Voter": true}},
			},
		},
		"GET /v1/operator/autopilot/health": {200, map[string]any{"Healthy": true, "Servers": []map[string]any{{
			"ID": "own", "Name": "consul-server-0", "Address": "10.0.0.1:8300", "SerfStatus": "alive", "Healthy": true, "Voter": true,
			"Leader": true,
		}}}},
	}
	var done []string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case deregister:
			done = append(done, "deregister")
			known.With(consultest.Answers{}).ServeHTTP(w, r)
			known[catalog] = consultest.Answers{catalog: {200, nil}}[catalog]
			return
		case give:
			done = append(done, "give")
			if slices.Contains(done, "deregister") {
				known[catalog] = consultest.Answers{catalog: {200, node("own", "10.0.0.1")}}[catalog]
			}
		}
		known.ServeHTTP(w, r)
	})
	k := fake.NewClientset(consultest.BootstrappedCluster(1)...)
	pod, err := k.CoreV1().Pods("ns").Get(t.Context(), "consul-server-0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Now().Add(-ready))},
	}
	if _, err := k.CoreV1().Pods("ns").UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c := consul.NewConnector(consultest.Serve(t, k, handler)).Cluster("ns", "consul")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := Heal(ctx, c, true); err != nil {
		t.Fatal(err)
	}
	// Set by the bootstrap; then removed and set again, so that the agent checks at once.
	if want := []string{"give", "deregister", "give", "give"}; !slices.Equal(done, want) {
		t.Errorf("it did %q, want %q", done, want)
	}
}
