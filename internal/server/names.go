package server

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Labels and annotations that every object of a cluster has. The pair of managed-by and instance proves
// ownership: an object without it is never changed.
const (
	LabelName      = "app.kubernetes.io/name"
	LabelInstance  = "app.kubernetes.io/instance"
	LabelComponent = "app.kubernetes.io/component"
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// LabelVersion is the Consul version of a pod.
	LabelVersion = "app.kubernetes.io/version"

	// LabelServing is on the pods to which clients are routed. A server that restarts in place is without it meanwhile.
	LabelServing = ManagedBy + "/serving"

	// labelRestored is in the selector of the client Service of a cluster that is not restored yet.
	labelRestored = ManagedBy + "/restored"

	// ManagedBy is the value of LabelManagedBy, and the name of the field
	// manager of every server-side apply.
	ManagedBy = "terraform-provider-consul-k8s"

	// AnnotationConfigHash on the pod template changes with every setting that requires a restart. On a pod, it names the
	// configuration that the next start uses.
	AnnotationConfigHash = ManagedBy + "/config-hash"
	// AnnotationTemplateHash on the pod template is a digest of the rest of it: it shows whether a pod is what
	// a change would make of it.
	AnnotationTemplateHash = ManagedBy + "/template-hash"
	// AnnotationPodHash on the pod template is a digest of what cannot change in a running pod.
	AnnotationPodHash = ManagedBy + "/pod-hash"
	// AnnotationImage on the pod template is the image of Consul. A pod whose container has another one got it from an admission webhook or
	// from somebody.
	AnnotationImage = ManagedBy + "/image"
	// AnnotationRestart on a pod asks for a restart in place (supervise.sh). The provider removes it when the server is back.
	AnnotationRestart = ManagedBy + "/restart"
	// AnnotationFormerContainer on a pod that restarts in place with another image is the container that is replaced.
	AnnotationFormerContainer = ManagedBy + "/former-container"
	// AnnotationConfigVersion on a pod is the ConfigVersion that its agent was last
	// told to load.
	AnnotationConfigVersion = ManagedBy + "/config-version"
	// AnnotationServers on a pod is the number of declared servers of which it was last notified: a pod that
	// changes gets its ConfigMap at once.
	AnnotationServers = ManagedBy + "/servers"
	// AnnotationCreating on the StatefulSet says that the apply which creates the cluster is not known to have
	// ended: an interrupted create may be resumed, but a complete cluster is never claimed by another create.
	AnnotationCreating = ManagedBy + "/creating"
	// AnnotationRecovering on the StatefulSet has the recovery from a loss of all data that is in progress.
	AnnotationRecovering = ManagedBy + "/recovering"
	// AnnotationDeletionProtection on the StatefulSet is "true" or "false".
	AnnotationDeletionProtection = ManagedBy + "/deletion-protection"
	// AnnotationUpdate and AnnotationAutopilot on the StatefulSet hold Spec.Update and
	// Spec.Autopilot as JSON.
	AnnotationUpdate    = ManagedBy + "/update"
	AnnotationAutopilot = ManagedBy + "/autopilot"
	// AnnotationJobs on the StatefulSet holds Spec.Jobs as JSON, if anything is declared.
	AnnotationJobs = ManagedBy + "/jobs"
	// AnnotationGossip on the StatefulSet holds the settings of Spec.Gossip that no agent reads, as JSON, if
	// there are any.
	AnnotationGossip = ManagedBy + "/gossip"
	// AnnotationTLS on the StatefulSet holds TLSSettings as JSON, unless they are
	// DefaultTLS.
	AnnotationTLS = ManagedBy + "/tls"
	// AnnotationExtraPod on the StatefulSet holds Pod.Extra, if there is any.
	AnnotationExtraPod = ManagedBy + "/extra-pod"
	// AnnotationOrigin on the StatefulSet holds Spec.Origin as JSON.
	AnnotationOrigin = ManagedBy + "/origin"
	// AnnotationRestored on the StatefulSet has Spec.Restored.
	AnnotationRestored = ManagedBy + "/restored"
	// AnnotationUpgradeSnapshot on the StatefulSet holds Spec.UpgradeSnapshot as JSON. The ConfigMap has a copy, in case somebody deletes
	// the StatefulSet.
	AnnotationUpgradeSnapshot = ManagedBy + "/upgrade-snapshot"
	// AnnotationResizing on the StatefulSet says that a change of the volumes is not known to have ended: the
	// claims have to be checked.
	AnnotationResizing = ManagedBy + "/resizing"
	// AnnotationOnStorageChange on the StatefulSet is Storage.OnChange, unless that is
	// GrowVolumes.
	AnnotationOnStorageChange = ManagedBy + "/on-storage-change"
	// AnnotationDatacenter on the StatefulSet is the datacenter that the data
	// belongs to. It never changes, whatever somebody does to the ConfigMap.
	AnnotationDatacenter = ManagedBy + "/datacenter"
	// AnnotationAdopt on the StatefulSet holds Spec.Adopt as JSON, AnnotationTakeover
	// holds Spec.Takeover.
	AnnotationAdopt    = ManagedBy + "/adopt"
	AnnotationTakeover = ManagedBy + "/takeover"
	// AnnotationDataVersion on a server's volume claim says that the volume has data, and which version of
	// Consul wrote it: the newest version since a server was last healthy with it.
	AnnotationDataVersion = ManagedBy + "/data-version"
	// AnnotationFormer on a Service holds what it was before it was routed to the cluster.
	AnnotationFormer = ManagedBy + "/former"
	// AnnotationNamespaceOf on a Namespace names the cluster that created it.
	AnnotationNamespaceOf = ManagedBy + "/namespace-of"
)

// What Kubernetes allows for names, apart from the 253 characters of most objects.
const (
	// MaxLabel is the longest value of a label, and the longest name of a Service, a pod with a host name of its own, and a Job,
	// whose pods have its name as a label.
	MaxLabel = 63
	// MaxCronJob is the longest name of a CronJob: its Jobs append eleven characters to it.
	MaxCronJob = 52
)

// Shorten returns a name with a limited number of characters: the name itself if it fits, otherwise its beginning with a hash
// of the whole name, so that two names stay different.
func Shorten(name string, longest int) string {
	if len(name) <= longest {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	hash := hex.EncodeToString(sum[:4])
	return strings.TrimRight(name[:longest-len(hash)-1], "-.") + "-" + hash
}

// Names of a cluster's objects. The name of a cluster has at most 45 characters, so that that of the StatefulSet has at most 52: its
// pods have a label with it and the hash of a revision (controller-revision-hash). Other derived names are shortened if Kubernetes
// requires it.

// StatefulSetName is also the name of the headless Service, the ConfigMap, the
// ServiceAccount and the PodDisruptionBudget.
func StatefulSetName(cluster string) string { return cluster + "-server" }

// LeaseName is the Lease that is held while servers are changed.
func LeaseName(cluster string) string { return StatefulSetName(cluster) + "-rollout" }

// ClientServiceName is the Service that clients use.
func ClientServiceName(cluster string) string { return cluster }

// PodName is the pod, and the Consul node name, of one server.
func PodName(cluster string, ordinal int) string {
	return StatefulSetName(cluster) + "-" + strconv.Itoa(ordinal)
}

// ClaimName is the claim of the volume of one server's pod.
func ClaimName(pod string) string { return dataVolume + "-" + pod }

// ClaimPrefix is what the names of the servers' volume claims start with, up to the
// ordinal.
func ClaimPrefix(cluster string) string { return dataVolume + "-" + StatefulSetName(cluster) + "-" }

// Ordinal returns the ordinal of a pod of the cluster, and false for any other pod.
func Ordinal(cluster, pod string) (int, bool) {
	s, ok := strings.CutPrefix(pod, StatefulSetName(cluster)+"-")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0
}

// ParseID splits "<namespace>/<name>".
func ParseID(id string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(id, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", fmt.Errorf("%q is not of the form \"<namespace>/<name>\", for example \"consul/consul\"", id)
	}
	return namespace, name, nil
}

// SelectorLabels select the pods of a cluster. Anti-affinity, Services, the
// PodDisruptionBudget and the StatefulSet all use this one set.
func SelectorLabels(cluster string) map[string]string {
	return map[string]string{
		LabelName:      "consul",
		LabelInstance:  cluster,
		LabelComponent: "server",
	}
}

// ServingLabels select the pods to which clients are routed.
func ServingLabels(cluster string) map[string]string {
	return merged(SelectorLabels(cluster), map[string]string{LabelServing: "true"})
}

// OwnerLabels are on every object that belongs to a cluster.
func OwnerLabels(cluster string) map[string]string {
	l := SelectorLabels(cluster)
	l[LabelManagedBy] = ManagedBy
	return l
}

// Owns reports whether an object with these labels belongs to the cluster.
func Owns(cluster string, labels map[string]string) bool {
	return labels[LabelManagedBy] == ManagedBy && labels[LabelInstance] == cluster
}

// nodeIDs is the UUID name space of node IDs.
var nodeIDs = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/consul-k8s/terraform-provider-consul-k8s#node-id"))

// NodeID is the Consul node ID of one server. It is derived only from the cluster's ID and the ordinal, so that
// a snapshot restored onto fresh volumes finds the node IDs that its catalog names ("Node name … is reserved by
// node …").
func NodeID(namespace, cluster string, ordinal int) string {
	return uuid.NewSHA1(nodeIDs, fmt.Appendf(nil, "%s/%s/%d", namespace, cluster, ordinal)).String()
}

// RPCAddress is where other servers reach a server with an IP, in the format of Raft.
func RPCAddress(ip string) string { return net.JoinHostPort(ip, strconv.Itoa(PortServer)) }

func merged[V any](m ...map[string]V) map[string]V {
	out := map[string]V{}
	for _, x := range m {
		maps.Copy(out, x)
	}
	return out
}
