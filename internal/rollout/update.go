package rollout

import (
	"fmt"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// OneByOne is a spec whose servers the rollout adds or removes one by one, starting from the number that is present.
// Servers that stop compare with the smaller number: with the larger number, no server of a growing cluster could leave.
func OneByOne(spec server.Spec, present int32) server.Spec {
	spec.Declared = spec.Replicas
	if present > 0 { // if all servers were taken away, they come back together
		spec.Declared = min(present, spec.Replicas)
	}
	spec.Replicas = present
	return spec
}

// KeepsChange says why a change cannot be rolled back, "" if it can. The older Consul may not be
// able to read what a newer one wrote as the leader. Before it was the leader, it wrote nothing
// that matters, and another configuration of the same version can read what it wrote.
func KeepsChange(w World, before, changed server.Spec, led bool) string {
	switch {
	case before.Version == changed.Version && before.Image == changed.Image:
		return ""
	case led || (w.Leader != "" && w.Named(w.Leader).runsChange()):
		return fmt.Sprintf(
			"a server with Consul %s is or was the leader, and %s may not be able to read what it wrote",
			changed.Version,
			before.Version,
		)
	default:
		return ""
	}
}

// RestartsUnelected reports whether the servers of a cluster that never had a leader have to restart for a
// change: the running servers expect a bootstrap of the former size, or encrypt in another way.
func RestartsUnelected(before, after server.Spec) bool {
	return !after.Established && (before.Replicas != after.Replicas || !server.SameStages(before, after))
}
