package lifecycle

import (
	"testing"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The snapshot before an upgrade is known even if somebody deletes the StatefulSet, or has deleted the ConfigMap.
func TestRecordSnapshot(t *testing.T) {
	t.Parallel()
	older, newer := &server.Snapshot{Version: "1.21.0"}, server.Snapshot{Version: "1.22.7"}
	for name, tt := range map[string]struct {
		config bool
		want   string
	}{"with a ConfigMap": {true, "1.22.7"}, "without a ConfigMap": {false, "1.21.0"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := operationSpec()
			spec.Established = true
			rendered := server.Objects(spec)
			set := fake.NewClientset(rendered.StatefulSet)
			if tt.config {
				set = fake.NewClientset(rendered.StatefulSet, rendered.Config)
			}
			k := &kube.Client{Interface: set}
			d := Deployment{Kube: k, Consul: consul.NewConnector(k).Cluster(spec.Namespace, spec.Name)}
			if err := (snapshots{d}).recordSnapshot(t.Context(), newer); err != nil {
				t.Fatal(err)
			}
			live, err := ReadObjects(t.Context(), k, spec.Namespace, spec.Name)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := server.Parse(live, spec); err != nil || s.UpgradeSnapshot == nil || *s.UpgradeSnapshot != newer {
				t.Errorf("the StatefulSet records %v (%v)", s.UpgradeSnapshot, err)
			}
			if drift := server.Drift(server.Set{Config: rendered.Config}, live); tt.config && len(drift) > 0 {
				t.Errorf("the copy is drift: %q", drift)
			}
			live.StatefulSet = nil
			known := spec
			known.UpgradeSnapshot = older
			state, err := observer{d}.readOrphaned(t.Context(), known, live)
			if err != nil || state.Spec.UpgradeSnapshot == nil || state.Spec.UpgradeSnapshot.Version != tt.want {
				t.Errorf("without the StatefulSet, the snapshot is %v (%v), want that of %s", state.Spec.UpgradeSnapshot, err, tt.want)
			}
		})
	}
}
