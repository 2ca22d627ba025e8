package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Running is what the servers of a cluster run now, according to their pods, their volumes, and Consul: the
// StatefulSet only says what was applied last, and like any marker it may be missing.
type Running struct {
	// Pods of the servers by ordinal.
	Pods []corev1.Pod
	// Claims are the volume claims of the servers by ordinal, nil if they may not be read.
	Claims []Retained
	// Established says that the cluster has elected a leader.
	Established bool
	// Gossip and TLS are how far each server encrypts.
	Gossip, TLS []server.Stage
	// Snapshot is the copy of Spec.UpgradeSnapshot in the ConfigMap, nil if that has no copy. It counts if the StatefulSet is missing.
	Snapshot *server.Snapshot
	// Unknown says why the stages of some servers are only those that were applied last, nil if all are known.
	Unknown error
}

// running reads what the servers run now. applied is what was applied last, if that is known.
func (d observer) running(ctx context.Context, live server.Set, applied server.Spec) (Running, error) {
	r := Running{Snapshot: live.SnapshotCopy()}
	var err error
	if r.Pods, err = d.Consul.Pods(ctx); err != nil {
		return r, err
	}
	if r.Claims, err = d.Retained(ctx); ignoreForbidden(err) != nil {
		return r, err
	}
	claims := r.Claims
	if live.StatefulSet == nil { // volumes of servers that are not started do not matter
		claims = within(claims, r.ordinals(applied))
	}
	if r.Established, err = d.established(ctx, live, claims); err != nil {
		return r, err
	}
	unknown := r.readStages(live.Config, applied)
	if len(unknown) == 0 {
		return r, nil
	}
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return r, err
	}
	for _, i := range unknown {
		f, err := consul.Facts(ctx, d.Consul, token, &r.Pods[i])
		if err != nil {
			r.Unknown = fmt.Errorf("the configuration that server %s started with is missing from the ConfigMap, "+
				"and the server does not report how it encrypts: %w", r.Pods[i].Name, err)
			continue
		}
		if r.Gossip[i] != server.StagePlain {
			r.Gossip[i] = server.StageOf(f.GossipVerifiesOutgoing, f.GossipVerifiesIncoming)
		}
		if r.TLS[i] != server.StagePlain {
			r.TLS[i] = server.StageOf(f.VerifiesOutgoing, f.VerifiesIncoming)
		}
	}
	return r, nil
}

// ordinals is how many servers start without a StatefulSet: those that are declared, and those that run.
func (r *Running) ordinals(declared server.Spec) int {
	n := int(declared.Replicas)
	for i := range r.Pods {
		if last, ok := server.Ordinal(declared.Name, r.Pods[i].Name); ok {
			n = max(n, last+1)
		}
	}
	return n
}

// look is like running, but does not ask Consul, and uses the record of the first leader.
func (d observer) look(ctx context.Context, applied server.Spec, live server.Set) (Running, error) {
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return Running{}, err
	}
	r := Running{Pods: pods, Established: live.IsEstablished(), Snapshot: live.SnapshotCopy()}
	r.readStages(live.Config, applied)
	return r, nil
}

// readStages reads the stages from the pods, and returns the indexes of the pods that do not show theirs. For
// these, it uses the stages that were applied last.
func (r *Running) readStages(cm *corev1.ConfigMap, applied server.Spec) (unknown []int) {
	for i := range r.Pods {
		gossip, tls, known := server.PodStages(&r.Pods[i], cm)
		if !known {
			unknown = append(unknown, i)
			if gossip != server.StagePlain {
				gossip = max(gossip, applied.Gossip.Stage)
			}
			if tls != server.StagePlain {
				tls = max(tls, applied.TLS.Stage)
			}
		}
		r.Gossip, r.TLS = append(r.Gossip, gossip), append(r.TLS, tls)
	}
	return unknown
}

// newest is the index of the pod that was created last, -1 without pods: it has the latest template of all
// pods.
func (r *Running) newest() int {
	newest := -1
	for i := range r.Pods {
		if newest < 0 || r.Pods[newest].CreationTimestamp.Before(&r.Pods[i].CreationTimestamp) {
			newest = i
		}
	}
	return newest
}

// spec is the spec that a change starts from. applied is what was applied last: what the StatefulSet says, or,
// if the StatefulSet is missing (orphaned), what was declared last. In that case, the pods show how many
// servers there are, which version they run, and how they encrypt.
func (r *Running) spec(applied server.Spec, orphaned bool) server.Spec {
	s := applied
	s.Established = r.Established
	if orphaned {
		s.Creating, s.Replicas, s.UpgradeSnapshot = !r.Established, 0, cmp.Or(r.Snapshot, s.UpgradeSnapshot)
		for i := range r.Pods {
			last, _ := server.Ordinal(s.Name, r.Pods[i].Name)
			s.Replicas = max(s.Replicas, int32(last)+1) //nolint:gosec // at most 7
		}
		if i := r.newest(); i >= 0 {
			s.Version, s.Image = podVersion(&r.Pods[i], applied)
			s.Gossip.Stage, s.TLS.Stage = r.Gossip[i], r.TLS[i]
		}
	}
	s.Gossip.Stage = server.RunningStage(s.Gossip.Stage, r.Gossip)
	s.TLS.Stage = server.RunningStage(s.TLS.Stage, r.TLS)
	return s
}

// podVersion is the version and the image of a server's pod, or the declared ones if the pod does not show
// them.
func podVersion(pod *corev1.Pod, declared server.Spec) (version, image string) {
	i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == server.ContainerName })
	if v := pod.Labels[server.LabelVersion]; v != "" && i >= 0 {
		return v, pod.Spec.Containers[i].Image
	}
	return declared.Version, declared.Image
}

// checkVersion refuses a version to which the running servers must not be changed. If no server has started,
// the data on the volumes decides.
func (r *Running) checkVersion(before server.Spec, version string) error {
	_, started := versions(r.Pods)
	if len(started) == 0 {
		started = DataVersions(within(r.Claims, int(before.Replicas)))
	}
	_, err := server.CheckUpgrade(started, version)
	return err
}

// within are the claims of the first servers.
func within(claims []Retained, replicas int) []Retained {
	return slices.DeleteFunc(slices.Clone(claims), func(c Retained) bool { return c.Ordinal >= replicas })
}

// established finds out whether a cluster has elected a leader. The ConfigMap may not say so although it has:
// the record is written after the election, and may be lost. In that case, the servers are asked, and other
// records count.
//
//   - A server that knows a Raft peer or a leader decides.
//   - In a recovery from the loss of all data, no earlier record counts.
//   - Volumes with data belong to a cluster that had a leader. The record of data on a volume does not count if
//     the server that uses the volume knows no Raft peer: that server has no data.
//   - A create is only recorded as complete once there was a leader.
func (d observer) established(ctx context.Context, live server.Set, claims []Retained) (bool, error) {
	if live.IsEstablished() {
		return true, nil
	}
	elected, empty, err := d.elected(ctx)
	if err != nil || elected {
		return elected, err
	}
	return hadLeader(live.StatefulSet, claims, empty), nil
}

// hadLeader reports whether a cluster has had a leader if no running server knows of one. empty are the pods of
// the servers that answered that they know no Raft peer.
func hadLeader(sts *appsv1.StatefulSet, claims []Retained, empty []corev1.Pod) bool {
	if sts != nil && sts.Annotations[server.AnnotationRecovering] != "" {
		return false
	}
	claims = slices.DeleteFunc(slices.Clone(claims), func(c Retained) bool {
		return slices.ContainsFunc(empty, func(p corev1.Pod) bool { return c.Name == server.ClaimName(p.Name) })
	})
	return len(DataVersions(claims)) > 0 || isCreated(sts)
}

// isCreated reports whether a create has ended, which requires a leader, and no recovery from the loss of all data is
// in progress.
func isCreated(sts *appsv1.StatefulSet) bool {
	return sts != nil && sts.Annotations[server.AnnotationCreating] != "true" && sts.Annotations[server.AnnotationRecovering] == ""
}

// elected asks the running servers whether the cluster has had a leader. It waits until all of them answer,
// unless one knows of a leader: what is done if there was none would take a leader away. empty are the pods of
// the servers that answered, if none knows of a leader.
func (d observer) elected(ctx context.Context) (elected bool, empty []corev1.Pod, err error) {
	err = kube.Wait(ctx, "the servers to report whether they had a leader", interval, func(ctx context.Context) (missing string, err error) {
		pods, err := d.Consul.Pods(ctx)
		if err != nil {
			return "", err
		}
		empty = thatRun(pods)
		if elected, err = consul.HasBootstrapped(ctx, d.Consul, empty); err != nil {
			missing = err.Error()
		}
		return missing, nil
	})
	if err != nil || elected {
		empty = nil
	}
	return elected, empty, err
}

// thatRun are the pods in which Consul runs, so that it can be asked.
func thatRun(pods []corev1.Pod) []corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return !consul.PodRuns(&p) })
}

// isOrphaned reports whether a cluster exists without its StatefulSet: somebody deleted the StatefulSet, or it
// was about to be replaced. A delete removes the StatefulSet last. What is left of the cluster is its
// ConfigMap, or servers that run.
func (d objects) isOrphaned(ctx context.Context, live server.Set, cluster string) (bool, error) {
	if live.StatefulSet != nil || cluster == "" {
		return false, nil
	}
	if live.Config != nil && server.Owns(cluster, live.Config.Labels) {
		return true, nil
	}
	pods, err := d.Consul.Pods(ctx)
	return slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.DeletionTimestamp == nil && server.Owns(cluster, p.Labels) }), err
}

// readOrphaned is Read if only the StatefulSet is missing: it returns what was declared last, except for what
// the pods run, and the next update creates the StatefulSet for these pods.
func (d observer) readOrphaned(ctx context.Context, known server.Spec, live server.Set) (State, error) {
	r, err := d.look(ctx, known, live)
	if err != nil {
		return State{}, err
	}
	spec := r.spec(known, true)
	spec.Replicas, spec.Creating = known.Replicas, known.Creating
	spec.FormerConfig = server.FormerConfig(spec, live.Config, r.Pods)
	running, started := versions(r.Pods)
	drift := server.Drift(server.Objects(spec), live)
	return State{Spec: spec, Elected: r.Established, Drift: drift, RunningVersion: running, Started: started}, nil
}

// attach creates the StatefulSet of orphaned pods from a spec that says what they run, so that no pod restarts
// and the StatefulSet owns what belongs to it. It returns the objects after that.
func (d objects) attach(ctx context.Context, spec server.Spec, live server.Set) (server.Set, error) {
	var err error
	if spec.FormerConfig, err = d.formerConfig(ctx, spec, live); err != nil {
		return live, err
	}
	objects := server.Objects(spec)
	if _, err := applyObjects(ctx, d.Kube, server.Set{Config: objects.Config, StatefulSet: objects.StatefulSet}, live); err != nil {
		return live, err
	}
	err = kube.Wait(ctx, "the StatefulSet to adopt what belongs to it", interval, func(ctx context.Context) (string, error) {
		live, err = ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
		if err != nil || live.StatefulSet == nil || live.StatefulSet.Status.ObservedGeneration < live.StatefulSet.Generation {
			return "its controller has not seen it yet", err
		}
		return "", nil
	})
	return live, err
}

// lookStages is RunningStage of gossip and TCP connections for a preview. applied is what the
// StatefulSet says.
func (d observer) lookStages(ctx context.Context, applied server.Spec) (gossip, tls server.Stage, err error) {
	var r Running
	if r.Pods, err = d.Consul.Pods(ctx); err != nil {
		return 0, 0, err
	}
	cm, err := d.Kube.CoreV1().ConfigMaps(d.Consul.Namespace).Get(ctx, server.StatefulSetName(d.Consul.Name), metav1.GetOptions{})
	found, err := kube.Found(err)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the ConfigMap of %s: %w", d.Consul.ID(), err)
	}
	if !found {
		cm = nil
	}
	r.readStages(cm, applied)
	return server.RunningStage(applied.Gossip.Stage, r.Gossip), server.RunningStage(applied.TLS.Stage, r.TLS), nil
}
