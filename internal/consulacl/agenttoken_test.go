package consulacl

import (
	"slices"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul/consultest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestCluster_IsAgentToken(t *testing.T) {
	c, other := &consul.Cluster{Namespace: "ns", Name: "consul"}, &consul.Cluster{Namespace: "ns", Name: "other"}
	for accessorID, want := range map[string]bool{
		AgentTokenAccessor(c, 0): true, AgentTokenAccessor(c, 6): true,
		AgentTokenAccessor(other, 0): false, AnonymousAccessorID: false, "": false,
	} {
		if got := IsAgentToken(c, accessorID); got != want {
			t.Errorf("%q: %t", accessorID, got)
		}
	}
}

// A server that lost its disk votes and is alive, and its agent token exists. Its entry in the catalog, which the
// leader created and the agent has not completed, shows that its agent does not use the token.
func TestAgentTokenDrift(t *testing.T) {
	t.Parallel()
	token := func(ordinal int) string {
		return "GET /v1/acl/token/" + AgentTokenAccessor((&consul.Cluster{Namespace: "ns", Name: "consul"}), ordinal)
	}
	const path = "GET /v1/catalog/node/consul-server-1"
	node := func(lan string) consultest.Answers {
		addresses := map[string]string{"lan": lan}
		if lan == "" {
			addresses = nil
		}
		return consultest.Answers{
			path: {200, map[string]any{"Node": map[string]any{"Node": "consul-server-1", "Address": "10.0.0.2", "TaggedAddresses": addresses}}},
		}
	}
	well := consultest.Answers{
		token(0): {200, map[string]string{"AccessorID": "a"}}, token(1): {200, map[string]string{"AccessorID": "b"}},
		"GET /v1/catalog/node/consul-server-0": {
			200,
			map[string]any{"Node": map[string]any{"TaggedAddresses": map[string]string{"lan": "10.0.0.1"}}},
		},
	}.With(node("10.0.0.2"))
	for name, tt := range map[string]struct {
		consul consultest.Answers
		ready  time.Duration // how long the pod has been ready
		want   []string
	}{
		"no drift": {well, time.Hour, nil},
		"the agent has not registered": {well.With(node("")), time.Hour, []string{"server consul-server-1: its agent does not use its " +
			"agent token"}},
		"the entry is that of another pod": {well.With(node("10.0.0.9")), time.Hour, []string{"server consul-server-1: its agent does not use " +
			"its agent token"}},
		"there is no entry": {well.With(consultest.Answers{path: {200, nil}}), time.Hour, []string{"server consul-server-1: its agent " +
			"does not use its agent token"}},
		"it has just started": {well.With(node("")), 10 * time.Second, nil},
		"it is not ready":     {well.With(node("")), 0, nil},
		"its token was deleted": {well.With(consultest.Answers{token(1): {403, "token does not exist: ACL not found"}}),
			time.Hour, []string{"server consul-server-1: its agent token does not exist"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := fake.NewClientset(consultest.BootstrappedCluster(2)...)
			c := consul.NewConnector(consultest.Serve(t, k, tt.consul)).Cluster("ns", "consul")
			pods, err := c.Pods(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := range pods {
				age := time.Hour
				if i == 1 {
					age = tt.ready
				}
				if age > 0 {
					pods[i].Status.Conditions = []corev1.PodCondition{
						{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Now().Add(-age))},
					}
					if _, err := k.CoreV1().Pods("ns").UpdateStatus(t.Context(), &pods[i], metav1.UpdateOptions{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			got, err := AgentTokenDrift(t.Context(), c, "management")
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
