package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// serveConsul lets a handler answer what is asked of the servers of a cluster.
func serveConsul(t *testing.T, k *fake.Clientset, handler http.Handler) *Cluster {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return NewConnector(&kube.Client{Interface: k, Dial: func(ctx context.Context, _, _ string, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}}).Cluster("ns", "consul")
}

// answers are the answers of Consul by "<method> <path>": a status and a body, which is JSON unless it is a text.
type answers map[string]struct {
	status int
	body   any
}

func (a answers) with(more answers) answers {
	all := maps.Clone(a)
	maps.Copy(all, more)
	return all
}

// ServeHTTP implements http.Handler. What it does not know is an unknown path.
func (a answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	known, ok := a[r.Method+" "+r.URL.Path]
	switch text, isText := known.body.(string); {
	case !ok:
		http.Error(w, "unknown path "+r.Method+" "+r.URL.Path, http.StatusBadRequest)
	case isText:
		w.WriteHeader(known.status)
		_, _ = w.Write([]byte(text))
	default:
		w.WriteHeader(known.status)
		_ = json.NewEncoder(w).Encode(known.body)
	}
}

// serverPod is a server that runs.
func serverPod(ordinal int) *corev1.Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.Labels = "ns", server.PodName("consul", ordinal), server.SelectorLabels("consul")
	p.UID = types.UID(p.Name)
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.0.0.%d", 1+ordinal)}
	return p
}

// bootstrappedCluster is what Kubernetes has of a cluster of n servers with ACLs.
func bootstrappedCluster(n int) []runtime.Object {
	sts := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: server.StatefulSetName("consul")}}
	sts.Spec.Replicas = new(int32(n)) //nolint:gosec // a handful
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "token", Labels: server.OwnerLabels("consul"), Annotations: map[string]string{annotationKey: "token"}}}
	secret.Labels[server.LabelComponent] = ComponentBootstrap
	secret.Data = map[string][]byte{"token": []byte("management")}
	all := []runtime.Object{sts, secret}
	for i := range n {
		all = append(all, serverPod(i))
	}
	return all
}
