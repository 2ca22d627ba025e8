package server

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// ChangedImages says which containers of a pod run another image than that of the template because somebody
// changed it in the pod: the image is one of the few fields of a pod that Kubernetes allows changing, and the
// pod keeps the revision from which it was made. What an admission webhook wrote when the pod was created is
// not a change: the next pod would have it too.
func ChangedImages(t corev1.PodTemplateSpec, pod *corev1.Pod) []string {
	var out []string
	compare := func(field string, want, got []corev1.Container) {
		for _, c := range got {
			i := slices.IndexFunc(want, func(w corev1.Container) bool { return w.Name == c.Name })
			if i < 0 || want[i].Image == c.Image {
				continue
			}
			if by := imageChangedBy(pod.ManagedFields, field, c.Name); by != "" {
				out = append(out, fmt.Sprintf("container %s has the image %s instead of %s (changed by %s)", c.Name, c.Image, want[i].Image, by))
			}
		}
	}
	compare("initContainers", t.Spec.InitContainers, pod.Spec.InitContainers)
	compare("containers", t.Spec.Containers, pod.Spec.Containers)
	return out
}

// imageChangedBy is the field manager that set the image of a container after the pod was created, "" if the
// creator of the container set it, or the provider in a restart in place.
func imageChangedBy(entries []metav1.ManagedFieldsEntry, field, container string) string {
	of := func(name string) fieldpath.Path {
		return fieldpath.MakePathOrDie("spec", field, fieldpath.KeyByFields("name", container), name)
	}
	by := ""
	for _, e := range entries {
		switch set := fieldSet(e); {
		case e.Subresource != "" || !set.Has(of("image")):
		case set.Has(of("name")):
			return ""
		default:
			by = e.Manager
		}
	}
	if by == ManagedBy {
		return ""
	}
	return by
}
