package cluster

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The private state may be that of an earlier version of the provider.
func TestSeen_whatAnEarlierVersionSaw(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Replicas: 3, Record: server.Record{Established: true}}
	w := seen([]byte(strings.ReplaceAll(`{"Desired":7,"Replicas":3,"Observed":true,"Servers":[`+
		`{"Name":"consul-server-0","Outdated":false,"Stopped":false,"Peer":true,"Template":"a","Leaving":false,"Sick":false,"Volume":"","Rebuild":false,"Growing":"","Stale":false,"LastIndex":0},`+
		`{"Name":"consul-server-1","Outdated":true,"Stopped":false,"Peer":true,"Template":"b","Leaving":false,"Sick":false,"Volume":"","Rebuild":false,"Growing":"","Stale":false,"LastIndex":1},`+
		`{"Name":"consul-server-2","Outdated":false,"Stopped":false,"Peer":true,"Template":"a","Leaving":false,"Sick":false,"Volume":"","Rebuild":false,"Growing":"","Stale":true,"LastIndex":1}],`+
		`"Leader":"consul-server-0","CanTransfer":true,"Grow":"","Unsettled":"","Former":null,"Autopilot":null,"ByOthers":false,"PauseAt":0}`, `"a"`, strconv.Quote(server.TemplateHash(spec)))))
	if w == nil {
		t.Fatal("nothing was seen")
	}
	got := texts(rollout.NewPlan(rollout.Observed{Running: spec, Applied: true, World: w}, rollout.Wanted{Spec: spec}).Steps())
	if want := []string{"restart consul-server-1 with a new pod (settings of the pod)", "reload consul-server-2"}; !slices.Equal(got, want) {
		t.Errorf("the plan is %q, want %q", got, want)
	}
	if seen([]byte("null")) != nil || seen(nil) != nil {
		t.Error("the plan has servers that were never observed")
	}
}
