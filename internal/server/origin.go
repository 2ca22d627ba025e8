package server

import (
	"fmt"
	"time"
)

// Origin is the snapshot in a backup repository that a cluster starts from. Until it is restored, the client
// Service selects no server, so that clients never see an empty cluster.
type Origin struct {
	// Snapshot is its ID in the repository, Version is that of Consul, and Taken is when it was taken; zero
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

// RestoredMark names the latest restore of the cluster, "" if there was none: what was restored, and when. If the Raft index of
// the snapshots in a repository falls, it shows that the cluster has not started empty.
func (s Spec) RestoredMark() string {
	switch {
	case s.Restored != "":
		return s.Restored
	case s.Origin != nil && !s.Origin.Pending():
		return restoredMark(s.Origin.Snapshot, s.Origin.Restored)
	}
	return ""
}

func restoredMark(snapshot string, at time.Time) string {
	return fmt.Sprintf("%.8s.%d", snapshot, at.Unix())
}

// RestoredManager is the field manager of RestoredPatch: the provider's applies do not change what it has
// written.
const RestoredManager = ManagedBy + "-restore"

// RestoredPatch is a merge patch of the StatefulSet that records a restore into the running cluster (Spec.Restored).
func RestoredPatch(snapshot string, at time.Time) []byte {
	return fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, AnnotationRestored, restoredMark(snapshot, at))
}

// OriginPatch is a merge patch of the StatefulSet that records what was restored.
func OriginPatch(o Origin) []byte {
	return fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, AnnotationOrigin, compactJSON(o))
}

// clientSelector selects the servers to which the client Service routes.
func clientSelector(s Spec) map[string]string {
	if !s.Origin.Pending() {
		return ServingLabels(s.Name)
	}
	return merged(SelectorLabels(s.Name), map[string]string{labelRestored: "true"}) // no server has it
}
