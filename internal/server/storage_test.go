package server

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// No class differs from the default class: it is rendered, read back, and is a change.
func TestStorage_noClass(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		storage Storage
		want    *string
	}{
		"default class": {Storage{}, nil},
		"a class":       {Storage{Class: "fast"}, new("fast")},
		"no class":      {Storage{NoClass: true}, new("")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := minimal()
			s.Storage.Class, s.Storage.NoClass = tt.storage.Class, tt.storage.NoClass
			set := Objects(s)
			for _, c := range []*corev1.PersistentVolumeClaim{&set.StatefulSet.Spec.VolumeClaimTemplates[0], SnapshotClaim(s)} {
				if got := c.Spec.StorageClassName; (got == nil) != (tt.want == nil) || (got != nil && *got != *tt.want) {
					t.Errorf("the claim %q has the class %v", c.Name, got)
				}
			}
			parsed, err := Parse(set, Spec{})
			if err != nil || parsed.Storage.Class != tt.storage.Class || parsed.Storage.NoClass != tt.storage.NoClass {
				t.Errorf("read back: %+v, %v", parsed.Storage, err)
			}
			isDefault := tt.want == nil
			if same := SameVolumes(set.StatefulSet, Objects(minimal()).StatefulSet); same != isDefault {
				t.Errorf("the same volumes as by default: %v", same)
			}
			if changes := Changes(minimal(), s); (len(changes) == 0) != isDefault {
				t.Errorf("changes: %v", changes)
			}
		})
	}
}
