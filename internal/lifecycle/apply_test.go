package lifecycle

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul/consultest"
)

// The leader never knows the smaller number of servers alone.
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
			set := fake.NewClientset(consultest.BootstrappedCluster(3)...)
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
