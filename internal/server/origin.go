package server

import (
	"fmt"
	"time"
)

// Origin is the snapshot of a backup repository that a cluster begins with. Until that is restored, the
// client Service leads nowhere: who uses it never meets an empty cluster.
type Origin struct {
	// Snapshot is its ID in the repository, Version that of Consul, and Taken when it was taken; zero
	// until it is restored.
	Snapshot string    `json:"snapshot,omitempty"`
	Version  string    `json:"version,omitempty"`
	Taken    time.Time `json:"taken,omitzero"`
	// Restored is when it was restored, zero until then.
	Restored time.Time `json:"restored,omitzero"`
}

// Pending reports whether the snapshot is still to be restored.
func (o *Origin) Pending() bool { return o != nil && o.Restored.IsZero() }

// ParseOrigin reads Spec.Origin from the annotations of a StatefulSet.
func ParseOrigin(annotations map[string]string) *Origin {
	return annotated[*Origin](annotations[AnnotationOrigin], nil)
}

// OriginPatch is a merge patch of the StatefulSet that records what was restored.
func OriginPatch(o Origin) []byte {
	return fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, AnnotationOrigin, compactJSON(o))
}

// clientSelector selects the servers that the client Service leads to.
func clientSelector(s Spec) map[string]string {
	if !s.Origin.Pending() {
		return SelectorLabels(s.Name)
	}
	return merged(SelectorLabels(s.Name), map[string]string{labelRestored: "true"}) // no server has it
}
