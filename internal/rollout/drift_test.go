package rollout

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The list of drift holds what no attribute shows, and nothing that is as it was
// declared.
func TestDrift_namesOnlyWhatNoAttributeShows(t *testing.T) {
	spec := func() server.Spec {
		return server.Spec{
			Name: "consul", Namespace: "prod", Version: "1.22.7", Image: "consul:1.22.7", Replicas: 3, Established: true,
			Datacenter: "dc1", Domain: "consul", DeletionProtection: true,
			Storage:     server.Storage{Size: resource.MustParse("10Gi"), WhenDeleted: server.Retain, WhenScaled: server.Retain},
			Resources:   server.Resources{Requests: map[string]resource.Quantity{"cpu": resource.MustParse("500m")}},
			Placement:   server.Placement{AntiAffinity: server.AntiAffinityRequired},
			Performance: server.Performance{RaftMultiplier: 1, LeaveDrainTime: time.Second, RPCHoldTimeout: time.Second},
			Service:     server.Service{Type: "ClusterIP"},
			ACL:         server.ACL{DefaultPolicy: "deny"},
			Autopilot:   server.DefaultAutopilot,
			Update:      server.DefaultUpdate,
			Labels:      map[string]string{"team": "platform"},
		}
	}
	tests := map[string]struct {
		change   func(*server.Set)
		want     []string
		template bool
	}{
		"nothing": {func(*server.Set) {}, nil, false},
		"a request of the servers, not of their init containers": {func(s *server.Set) {
			s.StatefulSet.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}, nil, true},
		"a request of the init containers": {func(s *server.Set) {
			s.StatefulSet.Spec.Template.Spec.InitContainers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}, []string{"StatefulSet consul-server: spec.template.spec.initContainers[name=await-peer-removal].resources.requests.cpu"}, true},
		"a label of the StatefulSet, not of the others": {func(s *server.Set) { s.StatefulSet.Labels["team"] = "other" }, nil, false},
		"a label of another object":                     {func(s *server.Set) { s.Config.Labels["team"] = "other" }, []string{"ConfigMap consul-server: metadata.labels.team"}, false},
		"the number of servers":                         {func(s *server.Set) { s.StatefulSet.Spec.Replicas = new(int32(5)) }, nil, false},
		"an object that is gone":                        {func(s *server.Set) { s.DisruptionBudget = nil }, []string{"PodDisruptionBudget consul-server: missing"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			live := server.Objects(spec())
			tt.change(&live)
			known := spec()
			known.Established = false // no attribute: only the live objects say so
			read, err := server.Parse(live, known)
			if err != nil {
				t.Fatal(err)
			}
			got, template := drift(read, known, live)
			if !slices.Equal(got, tt.want) || template != tt.template {
				t.Errorf("got %q and %v, want %q and %v", got, template, tt.want, tt.template)
			}
		})
	}
}
