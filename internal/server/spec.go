// Package server turns the description of a Consul cluster into what runs: the
// agent configuration and the Kubernetes objects of its servers, and back.
//
// It is pure: it does no I/O and does not know about Terraform. Objects(spec) renders, Parse(objects) reads the
// same Spec back, and Drift names what in a live cluster differs from what was rendered.
package server

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// MaxReplicas is the largest supported number of servers. Consul's
// documentation recommends three or five; seven is the practical limit of Raft
// write latency (developer.hashicorp.com/consul/docs/architecture/consensus).
const MaxReplicas = 7

// Ports of a Consul server, as in Consul's default configuration.
const (
	PortHTTP    = 8500
	PortServer  = 8300
	PortSerfLAN = 8301
	PortDNS     = 8600

	portGRPC = 8503 // over TLS, which servers serve by themselves
)

// Ports are those that every server listens on.
func Ports() []int64 { return []int64{PortHTTP, PortServer, PortSerfLAN, PortDNS, portGRPC} }

// Spec describes one cluster of Consul servers in plain Go: defaults applied,
// valid by construction. It is the only input of Objects.
type Spec struct {
	// Name and Namespace identify the cluster: its ID is "<namespace>/<name>".
	Name      string
	Namespace string
	// CreateNamespace renders the Namespace too.
	CreateNamespace bool

	// Version is the Consul version that Image holds.
	Version string
	// Image is the full image reference of the servers.
	Image string

	// Replicas is the number of servers: 1, 3, 5 or 7.
	Replicas int32
	// Declared is the number of servers with which a server that stops compares the Raft peers that it would
	// leave; 0 means Replicas. While servers are added or removed one by one, it is the smaller of the former
	// number and the number after the change.
	Declared int32
	// Adopt names the servers that the cluster adopts or has adopted, nil if it was created.
	Adopt *Adopt
	// DeletionProtection refuses to delete the cluster.
	DeletionProtection bool

	Datacenter string
	Domain     string

	Storage     Storage
	Resources   Resources
	Placement   Placement
	Performance Performance
	Telemetry   Telemetry
	Autopilot   Autopilot
	Service     Service
	ACL         ACL
	Gossip      Gossip
	TLS         TLS
	UI          bool

	// Pod is what the pods of servers and of Jobs have in common, and ServiceAccountAnnotations are those of the account that
	// they run as.
	Pod                       Pod
	ServiceAccountAnnotations map[string]string

	// Update says how changes are carried out. It is not a setting of the servers.
	Update Update
	// Jobs says how the pods of Jobs are made. It is not a setting of the servers.
	Jobs JobSettings

	// ExtraConfig is a JSON object of agent configuration, merged last; "" is none.
	ExtraConfig string

	// Labels are put on every object that is made for the cluster, Annotations on those that Objects renders, PodLabels and
	// PodAnnotations on the pods alone (a change to those restarts servers), and NamespaceLabels and NamespaceAnnotations on
	// the Namespace that CreateNamespace renders.
	Labels               map[string]string
	Annotations          map[string]string
	PodLabels            map[string]string
	PodAnnotations       map[string]string
	NamespaceLabels      map[string]string
	NamespaceAnnotations map[string]string

	// Record is what has happened to the cluster. No configuration declares it.
	Record
}

// Record is what has happened to a cluster, as its objects show it.
type Record struct {
	// Established says that the cluster has elected its first leader. From then on, no server is told to expect
	// a bootstrap: a server without data joins, and never starts a second, empty cluster.
	Established bool
	// Creating says that the apply which creates the cluster is not known to have ended.
	Creating bool
	// UpgradeSnapshot is the snapshot that was taken before the latest upgrade, nil if none was. Like
	// Established, it is only known from the live cluster.
	UpgradeSnapshot *Snapshot
	// Origin is the snapshot that the cluster starts from, nil if it starts empty. Only the live cluster shows
	// what of it is done.
	Origin *Origin
	// Restored names the latest restore into the running cluster, "" if there was none. It is only known from the live
	// cluster, and no apply changes it.
	Restored string
	// FormerConfig is the configuration of servers that have not been restarted since it
	// changed, by its keys in the ConfigMap; nil if all have.
	FormerConfig map[string]string
	// Resizing says that a change of the volumes is not known to have ended.
	Resizing bool
	// Takeover is the adoption in progress, nil if no adoption is in progress.
	Takeover *Takeover
}

// Updated is the record that an update of the cluster starts with. The create has ended if there was a leader. fromOrigin says that the
// update restores the snapshot that the cluster starts from, if that is pending. Otherwise, the cluster starts empty.
func (r Record) Updated(fromOrigin bool) Record {
	r.Creating = r.Creating && !r.Established
	if r.Origin.Pending() && !fromOrigin {
		r.Origin = nil
	}
	return r
}

// Created is the record that a create of the cluster starts with, or is resumed with, from the record of what runs. declared is the record
// of the declaration, with the snapshot that the cluster starts from.
func (r Record) Created(declared Record) Record {
	declared.Creating, declared.Established = true, r.Established
	if declared.Origin != nil && r.Origin != nil {
		declared.Origin = r.Origin
	}
	return declared
}

// Retention of volumes, in the words of the StatefulSet.
const (
	Retain = "Retain"
	Delete = "Delete"
)

// What a change of the size of volumes, or of their class, does.
const (
	// GrowVolumes makes them grow in place. Their class cannot be changed.
	GrowVolumes = "grow"
	// RebuildServers gives each server a new, empty volume, which it fills from the
	// leader.
	RebuildServers = "rebuild"
)

// Storage is the volume of each server.
type Storage struct {
	// Size of each volume.
	Size resource.Quantity
	// Class is the storage class, "" for the default class of the Kubernetes cluster.
	Class string
	// NoClass says that the claims have no class, and are bound to volumes that were created by hand. Class is
	// "".
	NoClass bool
	// OnChange is GrowVolumes or RebuildServers; "" is GrowVolumes.
	OnChange string
	// WhenDeleted and WhenScaled are the StatefulSet's
	// persistentVolumeClaimRetentionPolicy: Retain or Delete.
	WhenDeleted string
	WhenScaled  string
}

// ClassName is the storageClassName of the claims, nil for the default class.
func (s Storage) ClassName() *string {
	if s.Class == "" && !s.NoClass {
		return nil
	}
	return &s.Class
}

// Resources are the compute resources of each server, by resource name.
type Resources struct {
	Requests map[string]resource.Quantity `json:"requests,omitempty"`
	Limits   map[string]resource.Quantity `json:"limits,omitempty"`
}

// Requirements are the resources as Kubernetes takes them.
func (r Resources) Requirements() corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: resourceList(r.Requests), Limits: resourceList(r.Limits)}
}

// Anti-affinity between the servers of a cluster.
const (
	// AntiAffinityRequired never puts two servers on one node.
	AntiAffinityRequired = "required"
	// AntiAffinityPreferred avoids this if possible.
	AntiAffinityPreferred = "preferred"
)

// Placement says on which nodes servers run.
type Placement struct {
	AntiAffinity   string
	TopologySpread []TopologySpread
	NodeSelector   map[string]string
	Tolerations    []corev1.Toleration
	PriorityClass  string
}

// TopologySpread is one topology spread constraint over the servers.
type TopologySpread struct {
	TopologyKey       string
	MaxSkew           int32
	WhenUnsatisfiable string
}

// DefaultTopologySpread has the defaults of a constraint, which has no default key.
var DefaultTopologySpread = TopologySpread{MaxSkew: 1, WhenUnsatisfiable: string(corev1.DoNotSchedule)}

// Performance is Consul's performance block.
type Performance struct {
	// RaftMultiplier scales Raft's heartbeat and election timeouts: 1 (production) to 10.
	RaftMultiplier int64
	// LeaveDrainTime is how long a leaving server still answers requests.
	LeaveDrainTime time.Duration
	// RPCHoldTimeout is how long a request is held while there is no leader.
	RPCHoldTimeout time.Duration
}

// Telemetry is Consul's telemetry block.
type Telemetry struct {
	// PrometheusRetentionTime is how long metrics are kept for Prometheus; 0 turns the endpoint off.
	PrometheusRetentionTime time.Duration
}

// Autopilot is the declared part of Consul's stored autopilot configuration. How many voters must stay is
// derived from the number of servers. It is set through the API, which is the only way once a cluster has had
// its first leader.
type Autopilot struct {
	// CleanupDeadServers removes a failed server from the Raft peers.
	CleanupDeadServers bool `json:"cleanup_dead_servers"`
	// LastContactThreshold is how long a healthy server may be without contact to the leader.
	LastContactThreshold time.Duration `json:"last_contact_threshold"`
	// MaxTrailingLogs is how many Raft log entries a healthy server may be behind.
	MaxTrailingLogs uint64 `json:"max_trailing_logs"`
	// ServerStabilizationTime is how long a server that joins must be healthy
	// before autopilot gives it a vote.
	ServerStabilizationTime time.Duration `json:"server_stabilization_time"`
}

// DefaultAutopilot has the default settings.
var DefaultAutopilot = Default().Autopilot

// Strategies of a rollout.
const (
	// Rolling restarts the servers one at a time.
	Rolling = "rolling"
	// NewPods gives each server a new pod, also for what can be changed in place.
	NewPods = "new_pods"
	// OnDelete restarts no server: a server loads a change when somebody deletes its pod.
	OnDelete = "on_delete"
)

// What a rollout does if a server does not come back.
const (
	// Hold leaves the servers that were not reached as they are.
	Hold = "hold"
	// RollBack brings back what ran before.
	RollBack = "roll_back"
)

// Update says how changes are carried out.
type Update struct {
	// Strategy is Rolling, NewPods, or OnDelete.
	Strategy string `json:"strategy"`
	// PauseAfter is the number of servers after which a rollout waits for the next apply; 0 is never.
	PauseAfter int64 `json:"pause_after"`
	// OnFailure is Hold or RollBack.
	OnFailure string `json:"on_failure"`
	// SnapshotBefore takes a snapshot before the first server gets another version.
	SnapshotBefore bool `json:"snapshot_before"`
	// SnapshotTo is the backup repository in which it is stored; the zero value is the volume of SnapshotClaim.
	SnapshotTo SnapshotTo `json:"snapshot_to,omitzero"`
	// ServerTimeout is how long one server may take until it votes again.
	ServerTimeout time.Duration `json:"server_timeout"`
}

// SnapshotTo is a backup repository (restic.Repository), and how Jobs use it. Either URL or Claim is set.
type SnapshotTo struct {
	URL    string `json:"url,omitempty"`
	Claim  string `json:"claim,omitempty"`
	Secret string `json:"secret"`
	// Image of restic.
	Image string `json:"image"`
	// ServiceAccount that the Job runs as, "" for that of the servers, and TokenAudience of its token, "" for no token.
	ServiceAccount string `json:"service_account,omitempty"`
	TokenAudience  string `json:"token_audience,omitempty"`
	// Options of restic as a JSON object, "" for none.
	Options string `json:"options,omitempty"`
}

// DefaultUpdate is how changes are carried out by default.
var DefaultUpdate = Default().Update

// Service exposes the client Service (HTTP and DNS).
type Service struct {
	// Type is ClusterIP, NodePort or LoadBalancer.
	Type string
	// Annotations are put on the client Service alone.
	Annotations map[string]string
	// LoadBalancerClass and LoadBalancerSourceRanges apply to a LoadBalancer.
	LoadBalancerClass        string
	LoadBalancerSourceRanges []string
	// ClusterIP is the desired address of the Service, "" for one that Kubernetes chooses.
	ClusterIP string
	// IPFamilies and IPFamilyPolicy are those of the Service, nothing for what Kubernetes chooses.
	IPFamilies     []string
	IPFamilyPolicy string
	// ExternalTrafficPolicy and NodePorts apply to a NodePort and a LoadBalancer.
	ExternalTrafficPolicy string
	NodePorts             NodePorts
}

// NodePorts are the ports on every node; Kubernetes chooses those that are 0.
type NodePorts struct{ HTTP, HTTPS, DNS int32 }

// usesIPv6 reports whether clients may reach the servers over IPv6.
func (s Service) usesIPv6() bool {
	dual := s.IPFamilyPolicy == string(corev1.IPFamilyPolicyPreferDualStack) ||
		s.IPFamilyPolicy == string(corev1.IPFamilyPolicyRequireDualStack)
	return dual || slices.Contains(s.IPFamilies, string(corev1.IPv6Protocol))
}

// ACL is the part of the ACL system that the servers' configuration holds.
type ACL struct {
	Enabled bool
	// DefaultPolicy is "allow" or "deny".
	DefaultPolicy string
}

// Denies reports whether servers with these ACLs refuse what no policy allows.
func (a ACL) Denies() bool { return a.Enabled && a.DefaultPolicy == "deny" }

// ID returns "<namespace>/<name>".
func (s Spec) ID() string { return s.Namespace + "/" + s.Name }
