package server

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// DeclaredLabels reads Spec.Labels, those of every object of the cluster, back from its StatefulSet.
func DeclaredLabels(sts *appsv1.StatefulSet) map[string]string {
	return declaredLabels(sts, nil)
}

func declaredLabels(sts *appsv1.StatefulSet, known map[string]string) map[string]string {
	labels := ownedEntries(sts.ManagedFields, sts.Labels, known, "metadata", "labels")
	for k := range OwnerLabels("") {
		delete(labels, k)
	}
	return labels
}

// Labeled returns the labels of an object that has labels of its own: those that are declared for every object, and its
// own.
func (s Spec) Labeled(own map[string]string) map[string]string { return merged(s.Labels, own) }

// RelabelPatch is the merge patch that gives an existing object the labels that are declared for every object, and removes
// those that were declared before. It is nil if nothing changes. Other labels are kept.
func RelabelPatch(live, former, declared map[string]string) []byte {
	patch := map[string]*string{}
	for k := range former {
		if _, has := live[k]; has {
			patch[k] = nil
		}
	}
	for k, v := range declared {
		delete(patch, k)
		if was, has := live[k]; !has || was != v {
			patch[k] = &v
		}
	}
	if len(patch) == 0 {
		return nil
	}
	return []byte(compactJSON(map[string]any{"metadata": map[string]any{"labels": patch}}))
}

// sameClaimLabels reports whether two StatefulSets give their claims the same labels.
func sameClaimLabels(a, b *appsv1.StatefulSet) bool {
	x, y := claimLabels(a.Spec.VolumeClaimTemplates), claimLabels(b.Spec.VolumeClaimTemplates)
	if len(x) != len(y) {
		return false
	}
	for k, v := range x {
		if other, ok := y[k]; !ok || other != v {
			return false
		}
	}
	return true
}

func claimLabels(claims []corev1.PersistentVolumeClaim) map[string]string {
	for _, c := range claims {
		if c.Name == dataVolume {
			return c.Labels
		}
	}
	return nil
}

// SameClaims reports whether two StatefulSets create the same claims. Kubernetes does not allow changing the templates of
// claims.
func SameClaims(a, b *appsv1.StatefulSet) bool { return SameVolumes(a, b) && sameClaimLabels(a, b) }
