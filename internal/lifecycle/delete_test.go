package lifecycle

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A delete does this in this order, and whatever it does when it is killed, the next one ends in the same way.
func TestDelete_oneThatIsKilledIsResumed(t *testing.T) {
	t.Parallel()
	stopped := []string{"stop all", "delete the Jobs"}
	marked := append([]string{"mark the data"}, stopped...)
	objects := []string{
		"delete ServiceAccount", "delete ConfigMap", "delete Service", "delete Service", "delete PodDisruptionBudget", "delete the CA",
		"list the data",
	}
	const data = "data-consul-server-0"
	for name, tt := range map[string]struct {
		spec   func(*server.Spec)
		change func(*world)
		want   []string
		kept   []string
	}{
		"data that is deleted": {
			spec: func(s *server.Spec) { s.Storage.WhenDeleted = server.Delete },
			want: slices.Concat([]string{"lease"}, stopped, []string{"delete the data"}, objects, []string{"delete the Lease", "delete StatefulSet"}),
		},
		"data that is kept": {
			want: slices.Concat([]string{"lease"}, marked, objects, []string{"delete the Lease", "delete StatefulSet"}),
			kept: []string{"volume claims " + data},
		},
		"a namespace": {
			spec: func(s *server.Spec) { s.CreateNamespace, s.Storage.WhenDeleted = true, server.Delete },
			want: slices.Concat(
				[]string{"lease"}, stopped, []string{"delete the data"}, objects,
				[]string{"delete the Lease", "list the contents", "delete the namespace"},
			),
		},
		"a namespace that contains more": {
			spec: func(s *server.Spec) { s.CreateNamespace = true },
			want: slices.Concat([]string{"lease"}, marked, objects, []string{"delete the Lease", "list the contents", "delete StatefulSet"}),
			kept: []string{"volume claims " + data, "namespace prod, which still contains " + data},
		},
		"a namespace that is being deleted": {
			spec:   func(s *server.Spec) { s.CreateNamespace, s.Storage.WhenDeleted = true, server.Delete },
			change: func(w *world) { w.live.Namespace.DeletionTimestamp = new(metav1.Now()) },
			want: slices.Concat(
				stopped, []string{"delete the data"}, objects, []string{"delete the Lease", "list the contents", "delete the namespace"},
			),
		},
		"servers without their StatefulSet": {
			change: func(w *world) { w.live.StatefulSet = nil },
			want:   slices.Concat([]string{"lease", "attach"}, marked, objects, []string{"delete the Lease", "delete StatefulSet"}),
			kept:   []string{"volume claims " + data},
		},
		"an adoption that is not complete": {
			spec: func(s *server.Spec) {
				s.Adopt, s.Takeover = &server.Adopt{StatefulSet: "old"}, &server.Takeover{Replicas: 3}
			},
			want: slices.Concat([]string{"lease", "revert"}, marked, objects, []string{"delete the Lease", "delete StatefulSet"}),
			kept: []string{"volume claims " + data},
		},
		"nothing": {change: func(w *world) { w.live, w.data = server.Set{}, nil }},
	} {
		spec := operationSpec()
		if tt.spec != nil {
			tt.spec(&spec)
		}
		begin := func(failAt int) *world {
			w := runningWorld(spec)
			w.deleting, w.data, w.failAt = true, []string{data}, failAt
			if tt.change != nil {
				tt.change(w)
			}
			return w
		}
		destroy := func(w *world) ([]string, error) {
			op := &deleteOperation{ports: w.ports(), spec: spec}
			err := op.delete(t.Context())
			return op.kept, err
		}
		check := func(when string, w *world, kept []string) {
			for _, o := range w.live.All() {
				if kind := o.GetObjectKind().GroupVersionKind().Kind; kind != "Namespace" {
					t.Errorf("%s, %s: the %s still exists", name, when, kind)
				}
			}
			if !slices.Equal(kept, tt.kept) || w.leased || len(w.data) > 0 != (len(tt.kept) > 0) {
				t.Errorf("%s, %s: kept %q, want %q; the Lease exists: %v; data: %q", name, when, kept, tt.kept, w.leased, w.data)
			}
		}
		whole := begin(0)
		kept, err := destroy(whole)
		if err != nil || !slices.Equal(whole.log, tt.want) {
			t.Fatalf("%s: %v; did %q, want %q", name, err, whole.log, tt.want)
		}
		check("not killed", whole, kept)
		for failAt := 1; failAt <= len(whole.log); failAt++ {
			w := begin(failAt)
			if _, err := destroy(w); err == nil {
				t.Fatalf("%s: %s fails, and the delete does not", name, whole.log[failAt-1])
			}
			w.failAt = 0
			kept, err := destroy(w)
			if err != nil {
				t.Fatalf("%s: killed in %q, and resumed: %v", name, whole.log[failAt-1], err)
			}
			check("killed in "+whole.log[failAt-1], w, kept)
		}
	}
}
