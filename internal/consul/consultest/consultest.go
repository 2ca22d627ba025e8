// Package consultest lets tests answer for Consul servers, and for what Kubernetes has of them.
package consultest

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

// Serve returns Kubernetes with servers for which a handler answers.
func Serve(t *testing.T, k *fake.Clientset, handler http.Handler) *kube.Client {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return &kube.Client{Interface: k, Dial: func(ctx context.Context, _, _ string, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}}
}

// Servers returns Kubernetes with servers that answer what a handler says of their ordinal. One without a handler does not run.
func Servers(t *testing.T, handlers []http.HandlerFunc, objects ...runtime.Object) *kube.Client {
	t.Helper()
	addresses := map[string]string{} // by the name of the pod
	for i, handler := range handlers {
		pod := ServerPod(i)
		pod.Namespace, pod.Labels = "prod", server.OwnerLabels("consul")
		state := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
		if handler != nil {
			state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
			s := httptest.NewServer(handler)
			t.Cleanup(s.Close)
			addresses[pod.Name] = s.Listener.Addr().String()
		}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: server.ContainerName, State: state}}
		objects = append(objects, pod)
	}
	return &kube.Client{Interface: fake.NewClientset(objects...), Dial: func(ctx context.Context, _, pod string, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addresses[pod])
	}}
}

// Answers are the answers of Consul by "<method> <path>": a status and a body, which is JSON unless it is a text.
type Answers map[string]struct {
	Status int
	Body   any
}

// With returns the answers, with others added or replaced.
func (a Answers) With(more Answers) Answers {
	all := maps.Clone(a)
	maps.Copy(all, more)
	return all
}

// ServeHTTP implements http.Handler. What it does not know is an unknown path.
func (a Answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	known, ok := a[r.Method+" "+r.URL.Path]
	switch text, isText := known.Body.(string); {
	case !ok:
		http.Error(w, "unknown path "+r.Method+" "+r.URL.Path, http.StatusBadRequest)
	case isText:
		w.WriteHeader(known.Status)
		_, _ = w.Write([]byte(text))
	default:
		w.WriteHeader(known.Status)
		_ = json.NewEncoder(w).Encode(known.Body)
	}
}

// ServerPod is the pod of a server that runs.
func ServerPod(ordinal int) *corev1.Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.Labels = "ns", server.PodName("consul", ordinal), server.SelectorLabels("consul")
	p.UID = types.UID(p.Name)
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.0.0.%d", 1+ordinal)}
	return p
}

// BootstrappedCluster is what Kubernetes has of a cluster of n servers with ACLs.
func BootstrappedCluster(n int) []runtime.Object {
	sts := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: server.StatefulSetName("consul")}}
	sts.Spec.Replicas = new(int32(n)) //nolint:gosec // a handful
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   "ns",
			Name:        "token",
			Labels:      server.OwnerLabels("consul"),
			Annotations: map[string]string{server.ManagedBy + "/token-key": "token"},
		},
	}
	secret.Labels[server.LabelComponent] = "acl-bootstrap"
	secret.Data = map[string][]byte{"token": []byte("management")}
	all := []runtime.Object{sts, secret}
	for i := range n {
		all = append(all, ServerPod(i))
	}
	return all
}
