package lifecycle

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A server is out of the Service before it restarts. What Kubernetes refuses is found out before that, and the budget is asked again
// right before the restart.
func TestInPlace_restartsOnlyWhatKubernetesAllows(t *testing.T) {
	t.Parallel()
	const evict, image, unroute, ask = "try an eviction", "image", "unroute", "ask"
	for name, tt := range map[string]struct {
		version string
		refused int // the number of the write that is refused, 0 for none
		want    []string
	}{
		"another configuration":                  {"1.22.7", 0, []string{evict, unroute, evict, ask}},
		"another image":                          {"1.22.8", 0, []string{"try " + image, evict, unroute, ask, evict, image}},
		"a policy that refuses the image":        {"1.22.8", 1, []string{"try " + image}},
		"another server is away":                 {"1.22.7", 1, []string{evict}},
		"another server is taken away meanwhile": {"1.22.7", 3, []string{evict, unroute, evict}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := func(version string) server.Spec {
				return server.Spec{Name: "consul", Namespace: "prod", Version: version, Image: "consul:" + version, Replicas: 3}
			}
			former, after := server.Objects(spec("1.22.7")).StatefulSet.Spec.Template, spec(tt.version)
			after.UI = true
			pod := corev1.Pod{ObjectMeta: *former.ObjectMeta.DeepCopy(), Spec: former.Spec}
			pod.Namespace, pod.Name, pod.UID = "prod", "consul-server-1", "uid-1"
			var did []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				body, _ := io.ReadAll(r.Body)
				switch text := string(body); {
				case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "statefulsets"):
					_ = json.NewEncoder(w).Encode(server.Objects(after).StatefulSet)
					return
				case r.Method == http.MethodGet:
					_ = json.NewEncoder(w).Encode(pod)
					return
				case strings.HasSuffix(r.URL.Path, "/eviction"):
					did = append(did, evict)
				case strings.Contains(text, `"containers"`) && r.URL.Query().Get("dryRun") != "":
					did = append(did, "try "+image)
				case strings.Contains(text, `"containers"`):
					did = append(did, image)
				case strings.Contains(text, server.AnnotationRestart):
					did = append(did, ask)
				default:
					did = append(did, unroute)
				}
				if len(did) == tt.refused {
					w.WriteHeader(http.StatusForbidden)
					_ = json.NewEncoder(w).Encode(metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: 403})
					return
				}
				_ = json.NewEncoder(w).Encode(pod)
			}))
			t.Cleanup(s.Close)
			k, err := kube.NewClient(&rest.Config{Host: s.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}, server.ManagedBy)
			if err != nil {
				t.Fatal(err)
			}
			l := inPlace{Live{Kube: k, Consul: consul.NewConnector(k).Cluster("prod", "consul")}}
			err = l.restart(t.Context(), rollout.Server{Name: pod.Name, UID: string(pod.UID)})
			if err != nil != (tt.refused > 0) || !slices.Equal(did, tt.want) {
				t.Errorf("did %q, want %q: %v", did, tt.want, err)
			}
		})
	}
}
