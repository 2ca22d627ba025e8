package consul

import (
	"net/http"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul/consultest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// answering is a cluster whose servers answer with the handler of their ordinal. A server without a handler does not
// run.
func answering(t *testing.T, handlers []http.HandlerFunc, objects ...runtime.Object) *Cluster {
	t.Helper()
	return NewConnector(consultest.Servers(t, handlers, objects...)).Cluster("prod", "consul")
}

// If the record of the first leader is missing, the servers know.
func TestEstablished(t *testing.T) {
	t.Parallel()
	says := func(peers string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/status/peers" {
				_, _ = w.Write([]byte(peers))
				return
			}
			_, _ = w.Write([]byte(`""`)) // no leader
		}
	}
	elected, alone := says(`["10.0.0.1:8300"]`), says(`[]`)
	fails := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	config := func(marker bool) *corev1.ConfigMap {
		s := server.Spec{Name: "consul", Namespace: "prod", Record: server.Record{Established: marker}}
		return server.Objects(s).Config
	}
	tests := map[string]struct {
		config  *corev1.ConfigMap
		servers []http.HandlerFunc
		want    bool
		fails   bool
	}{
		"recorded":                      {config(true), []http.HandlerFunc{nil}, true, false},
		"not recorded, but elected":     {config(false), []http.HandlerFunc{alone, elected}, true, false},
		"one answers, another does not": {config(false), []http.HandlerFunc{fails, elected}, true, false},
		"never elected":                 {config(false), []http.HandlerFunc{alone, alone}, false, false},
		"one does not answer":           {config(false), []http.HandlerFunc{alone, fails}, false, true},
		"none runs":                     {config(false), []http.HandlerFunc{nil, nil}, false, false},
		"the record is lost":            {nil, []http.HandlerFunc{nil}, true, false},
		"lost, and never elected":       {nil, []http.HandlerFunc{alone}, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var objects []runtime.Object
			if tt.config != nil {
				objects = append(objects, tt.config)
			}
			got, err := answering(t, tt.servers, objects...).Established(t.Context())
			if got != tt.want || (err != nil) != tt.fails {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// A cluster whose StatefulSet somebody deleted exists as long as a server or its ConfigMap does, and is lost only
// without a volume.
func TestExists_withoutItsStatefulSet(t *testing.T) {
	t.Parallel()
	config := server.Objects(server.Spec{Name: "consul", Namespace: "prod"}).Config
	foreign := config.DeepCopy()
	foreign.Labels = nil
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data-consul-server-0", Namespace: "prod", Labels: server.OwnerLabels("consul")},
	}
	tests := map[string]struct {
		objects      []runtime.Object
		servers      []http.HandlerFunc
		exists, gone bool
	}{
		"a server":             {nil, []http.HandlerFunc{nil}, true, false},
		"its ConfigMap":        {[]runtime.Object{config}, nil, true, true},
		"somebody's ConfigMap": {[]runtime.Object{foreign}, nil, false, true},
		"a volume":             {[]runtime.Object{claim}, nil, false, false},
		"nothing":              {nil, nil, false, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := answering(t, tt.servers, tt.objects...)
			if exists, err := c.Exists(t.Context()); exists != tt.exists || err != nil {
				t.Errorf("exists: %v, %v", exists, err)
			}
			if gone, err := c.Gone(t.Context()); gone != tt.gone || err != nil {
				t.Errorf("gone: %v, %v", gone, err)
			}
		})
	}
}
