package server

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An image that somebody changes in a pod is drift. One that a webhook writes into each pod is not.
func TestChangedImages(t *testing.T) {
	t.Parallel()
	entry := func(manager, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{
			Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
			FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:containers":{"k:{\"name\":\"consul\"}":{` + fields + `}}}}`),
		}
	}
	all := entry("kube-controller-manager", `".":{},"f:image":{},"f:name":{}`)
	rest := entry("kube-controller-manager", `".":{},"f:name":{}`)
	kubelet := entry("kubelet", `"f:image":{}`)
	kubelet.Subresource = "status"
	tests := map[string]struct {
		image  string
		fields []metav1.ManagedFieldsEntry
		want   string
	}{
		"as the template says": {"consul:1.22.7", []metav1.ManagedFieldsEntry{all}, ""},
		"changed by somebody": {
			"consul:1.21.0",
			[]metav1.ManagedFieldsEntry{rest, entry("kubectl-set", `"f:image":{}`)},
			"consul has the image consul:1.21.0 instead of consul:1.22.7 (changed by kubectl-set)",
		},
		"of a restart in place": {"consul:1.21.0", []metav1.ManagedFieldsEntry{rest, entry(ManagedBy, `"f:image":{}`)}, ""},
		"written by a webhook":  {"mirror/consul:1.22.7", []metav1.ManagedFieldsEntry{all}, ""},
		"of a status":           {"mirror/consul:1.22.7", []metav1.ManagedFieldsEntry{all, kubelet}, ""},
		"without a record":      {"mirror/consul:1.22.7", nil, ""},
		"changed, and reverted": {"consul:1.22.7", []metav1.ManagedFieldsEntry{rest, entry("kubectl-set", `"f:image":{}`)}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "consul", Image: "consul:1.22.7"}}}}
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{ManagedFields: tt.fields},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "sidecar", Image: "injected"}, {Name: "consul", Image: tt.image}}},
			}
			if got := strings.Join(ChangedImages(template, pod), ", "); !strings.HasSuffix(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
