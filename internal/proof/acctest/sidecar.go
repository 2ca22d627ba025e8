package acctest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
)

// InjectSidecars adds a sidecar that does not end to every pod of a Job that is created in a namespace from now on,
// as the injector of a service mesh does: a second container, or, if native, an init container that restarts. It
// returns a function that stops that. The test serves the webhook.
func InjectSidecars(t testing.TB, namespace string, native bool) (end func()) {
	t.Helper()
	k := Kube(t)
	// The API server can reach this process at the address from which this process connects to it.
	api, err := url.Parse(k.CoreV1().RESTClient().Get().URL().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", api.Host)
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	_ = conn.Close()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := cert.GenerateSelfSignedCertKey(host, []net.IP{net.ParseIP(host)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { injectSidecar(w, r, native) }))
	s.Listener = listener
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	path := fmt.Sprintf("https://%s/", listener.Addr())
	configs := k.AdmissionregistrationV1().MutatingWebhookConfigurations()
	made, err := configs.Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "sidecar-"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "sidecar.test.example", AdmissionReviewVersions: []string{"v1"}, SideEffects: new(admissionregistrationv1.SideEffectClassNone),
			FailurePolicy: new(admissionregistrationv1.Fail), TimeoutSeconds: new(int32(5)),
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: &path, CABundle: certPEM},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
			ObjectSelector: &metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: batchv1.JobNameLabel, Operator: metav1.LabelSelectorOpExists}},
			},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := configs.Delete(ctx, made.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		s.Close()
	}
	t.Cleanup(end)
	return end
}

// injectSidecar answers a review of a pod.
func injectSidecar(w http.ResponseWriter, r *http.Request, native bool) {
	var review admissionv1.AdmissionReview
	var pod corev1.Pod
	if json.NewDecoder(r.Body).Decode(&review) != nil || review.Request == nil || json.Unmarshal(review.Request.Object.Raw, &pod) != nil {
		http.Error(w, "no review of a pod", http.StatusBadRequest)
		return
	}
	sidecar := corev1.Container{
		Name: "mesh-proxy", Image: pod.Spec.Containers[0].Image, Command: []string{"/bin/sh", "-c", "while :; do sleep 1; done"},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		Resources: pod.Spec.Containers[0].Resources,
	}
	at := "/spec/containers/0" // before the container of the Job
	if native {
		sidecar.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		at = "/spec/initContainers/0"
		if len(pod.Spec.InitContainers) == 0 {
			at = "/spec/initContainers"
		}
	}
	var value any = sidecar
	if at == "/spec/initContainers" {
		value = []corev1.Container{sidecar}
	}
	patch, err := json.Marshal([]map[string]any{{"op": "add", "path": at, "value": value}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	review.Response = &admissionv1.AdmissionResponse{
		UID:       review.Request.UID,
		Allowed:   true,
		Patch:     patch,
		PatchType: new(admissionv1.PatchTypeJSONPatch),
	}
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // the API server reports an answer that it cannot read
}
