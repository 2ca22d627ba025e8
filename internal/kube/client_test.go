package kube

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"
)

func TestClient_UpdateManagedFields(t *testing.T) {
	stored := &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{
			Name: "a", Namespace: "ns", ResourceVersion: "7",
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "other"}},
		},
	}
	tests := map[string]struct {
		name    string // the name of the object
		decided []metav1.ManagedFieldsEntry
		patches int // the number of patches; the first one has a conflict
	}{
		"decides again after a conflict": {"a", []metav1.ManagedFieldsEntry{{Manager: "mine"}}, 2},
		"changes nothing without need":   {"a", nil, 0},
		"ignores an object that is gone": {"b", []metav1.ManagedFieldsEntry{{Manager: "mine"}}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dyn := fake.NewSimpleDynamicClient(scheme.Scheme, stored.DeepCopy())
			var patches []clienttesting.PatchAction
			dyn.PrependReactor("patch", "configmaps", func(a clienttesting.Action) (bool, runtime.Object, error) {
				p := a.(clienttesting.PatchAction) //nolint:forcetypeassert // it reacts to patches
				if patches = append(patches, p); len(patches) == 1 {
					return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "configmaps"}, "a", nil)
				}
				return false, nil, nil
			})
			decisions := 0
			c := &Client{dynamic: dyn, fieldManager: "mine"}
			err := c.UpdateManagedFields(t.Context(), corev1.SchemeGroupVersion.WithKind("ConfigMap"), "ns", tt.name,
				func(got []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, error) {
					if decisions++; len(got) != 1 || got[0].Manager != "other" {
						t.Errorf("it was asked about %v", got)
					}
					return tt.decided, nil
				})
			if err != nil || len(patches) != tt.patches || decisions < tt.patches {
				t.Fatalf("%d patches after %d decisions, want %d; %v", len(patches), decisions, tt.patches, err)
			}
			for _, p := range patches {
				var body struct{ Metadata metav1.ObjectMeta }
				if err := json.Unmarshal(p.GetPatch(), &body); err != nil {
					t.Fatal(err)
				}
				if body.Metadata.ResourceVersion != "7" || body.Metadata.ManagedFields[0].Manager != "mine" {
					t.Errorf("the patch is %s", p.GetPatch())
				}
			}
		})
	}
}
