package rollout

import "github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"

// Kinds of phases of a delete, beside AttachPods and StopServers.
const (
	// RevertAdoption gives the former servers back what an adoption that is not complete took from them.
	RevertAdoption Kind = "revert the adoption"
	// MarkData records on the volumes that are kept which version of Consul has data on them: the servers answer for the last time.
	MarkData Kind = "mark the data"
	// DeleteJobs deletes the Jobs that interrupted operations left. They may use a volume.
	DeleteJobs Kind = "delete the Jobs"
	// DeleteData deletes the volumes, and the Secrets, which are useless without them.
	DeleteData Kind = "delete the data"
	// DeleteObjects deletes what a spec renders, except the namespace and the StatefulSet.
	DeleteObjects Kind = "delete the objects"
	// DeletePublishedCA deletes the certificate authority that clients read.
	DeletePublishedCA Kind = "delete the published certificate authority"
	// ListKept lists the data that is kept.
	ListKept Kind = "list what is kept"

	// DeleteLease deletes the Lease.
	DeleteLease Kind = "delete the Lease"
	// DeleteNamespace deletes the namespace with the StatefulSet, unless it contains anything else.
	DeleteNamespace Kind = "delete the namespace"
	// DeleteStatefulSet deletes the StatefulSet.
	DeleteStatefulSet Kind = "delete the StatefulSet"
)

// Doomed is what a delete finds of a cluster, and decides from.
type Doomed struct {
	// Running is what pods without a StatefulSet run.
	Running server.Spec
	// Applied says that there is a StatefulSet, and Orphaned that the cluster exists without one.
	Applied, Orphaned bool
	// Adopting says that an adoption is not complete.
	Adopting bool
	// KeepsData says that the volumes outlive the cluster.
	KeepsData bool
	// OwnsNamespace says that the namespace was created for the cluster.
	OwnsNamespace bool
}

// DeletePhases lists the phases of a delete while no other apply changes the cluster. FinalPhases are the rest.
func DeletePhases(o Doomed) []Phase {
	var out []Phase
	add := func(due bool, k Kind) {
		if due && (o.Applied || o.Orphaned) {
			out = append(out, Phase{Kind: k, Spec: o.Running})
		}
	}
	add(o.Adopting, RevertAdoption)
	add(o.Orphaned, AttachPods)
	add(o.KeepsData, MarkData)
	add(true, StopServers)
	add(true, DeleteJobs)
	add(!o.KeepsData, DeleteData)
	add(true, DeleteObjects)
	add(true, DeletePublishedCA)
	add(true, ListKept)
	return out
}

// FinalPhases lists the last phases of a delete. They delete the Lease, so nobody holds it. The StatefulSet is deleted last: while it
// exists, the next delete resumes an interrupted one.
func FinalPhases(o Doomed) []Phase {
	var out []Phase
	add := func(due bool, k Kind) {
		if due && o.Applied {
			out = append(out, Phase{Kind: k})
		}
	}
	add(true, DeleteLease)
	add(o.OwnsNamespace, DeleteNamespace)
	add(true, DeleteStatefulSet)
	return out
}
