package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// interval between two looks at the world.
const interval = 500 * time.Millisecond

// Live is a cluster in Kubernetes.
type Live struct {
	Kube   *kube.Client
	Consul *consul.Cluster
	// Desired is the desired number of servers.
	Desired int
	// Token may ask autopilot and move the leadership; "" if ACLs are off or not bootstrapped yet.
	Token string
	// ACLs says that ACLs are on.
	ACLs bool
	// Version is the configuration that agents must have loaded (server.ConfigVersion); if it is
	// "", no agent is asked.
	Version string
	// Storage describes the desired volumes; if it is nil, the volumes are not looked at.
	Storage *server.Storage
	// Established says that the cluster has had a leader: servers that were taken away since then are looked
	// for.
	Established bool
	// ByOthers and PauseAt are those of the World.
	ByOthers bool
	PauseAt  int
	// NewPods says that servers restart with new pods only.
	NewPods bool
	// Began is when the operation began.
	Began time.Time
	// Soak is how long a server must have been ready if there is no token to ask whether it votes
	// (consul.Cluster.Missing).
	Soak time.Duration
	// Patience is that of the World.
	Patience time.Duration
	// Declare makes servers that stop compare with the desired number; nil if they already do. It is called before
	// the last server is added: if the rollout is killed after that, nothing else shows that the number has to be
	// corrected.
	Declare func(context.Context) error
}

var _ rollout.Cluster = Live{}

// rollable is what l describes, in Kubernetes.
func (d observer) rollable(l Live) rollout.Cluster {
	l.Kube, l.Consul, l.Began = d.Kube, d.Consul, d.Began
	return l
}

// Look implements rollout.Cluster.
func (l Live) Look(ctx context.Context) (rollout.World, error) {
	w, err := l.look(ctx)
	return w, final(err)
}

// Do implements rollout.Cluster.
func (l Live) Do(ctx context.Context, w rollout.World, a rollout.Action) error {
	return final(l.act(ctx, w, a))
}

// final marks errors that do not go away when the cluster is looked at again. A pod that is not found is being
// replaced; a StatefulSet that is not found does not come back.
func final(err error) error {
	if errors.Is(err, server.ErrNoStatefulSet) || (kube.Permanent(err) && !apierrors.IsNotFound(err)) {
		return &rollout.FinalError{Err: err}
	}
	return err
}

// loop is how a rollout waits for the servers.
func loop(c Clock, limit time.Duration, report func(rollout.Action)) rollout.Loop {
	return rollout.Loop{
		Wait: func(ctx context.Context, check func(context.Context) (string, error)) error {
			return c.wait(ctx, "the servers", check)
		},
		Now: c.now, Limit: limit, Report: report,
	}
}

func (l Live) look(ctx context.Context) (rollout.World, error) {
	sts, err := l.Consul.RequireStatefulSet(ctx)
	if err != nil {
		return rollout.World{}, err
	}
	pods, err := l.Consul.Pods(ctx)
	if err != nil {
		return rollout.World{}, err
	}
	w := rollout.World{
		Desired:     l.Desired,
		StatefulSet: sts.Name,
		Replicas:    int(*sts.Spec.Replicas),
		Observed:    sts.Status.ObservedGeneration >= sts.Generation,
		CanTransfer: l.Token != "" || !l.ACLs,
		ByOthers:    l.ByOthers,
		PauseAt:     l.PauseAt,
		Patience:    l.Patience,
	}
	var ready, running []corev1.Pod
	for i := range pods {
		isReady, reason := consul.PodReady(&pods[i]), why(sts, &pods[i])
		w.Servers = append(w.Servers, rollout.Server{
			Name: pods[i].Name, UID: string(pods[i].UID), Outdated: reason != "", Why: reason, Leaving: pods[i].DeletionTimestamp != nil,
			Template: pods[i].Annotations[server.AnnotationTemplateHash],
			Pod:      server.PodHashOf(&pods[i]),
			InPlace:  reason != "" && !l.NewPods && server.ChangesInPlace(sts.Spec.Template, &pods[i]),
			Stopped:  stopped(&pods[i]), Sick: !isReady, Peer: true,
			Unrouted: isReady && server.IsUnrouted(&pods[i]), Restarting: server.IsRestarting(sts.Spec.Template, &pods[i]),
		})
		if isReady {
			ready = append(ready, pods[i])
		}
		if pods[i].DeletionTimestamp == nil && consul.PodRuns(&pods[i]) {
			running = append(running, pods[i])
		}
	}
	if l.Storage != nil {
		if err := l.addVolumes(ctx, &w, sts, pods); err != nil {
			return rollout.World{}, err
		}
	}
	if w.Unsettled, err = consul.Missing(ctx, l.Consul, l.Token, w.Replicas, l.Soak); err != nil {
		return rollout.World{}, err
	}
	l.addRaft(ctx, &w, ready, running)
	if w.Leader == "" && l.Established {
		if err := l.addKept(ctx, &w, pods); err != nil {
			return rollout.World{}, err
		}
	}
	if !w.CanTransfer { // then no agent says whether it has restarted: servers get new pods
		for i := range w.Servers {
			w.Servers[i].InPlace, w.Servers[i].Restarting = false, false
		}
		return w, nil
	}
	l.addRestarted(ctx, &w, pods)
	if l.Version != "" {
		err = l.addConfig(ctx, &w, pods)
	}
	return w, err
}

// addRestarted adds which servers that restart in place are back. One that does not answer is not.
func (l Live) addRestarted(ctx context.Context, w *rollout.World, pods []corev1.Pod) {
	ctx, cancel := context.WithTimeout(ctx, unwellTimeout)
	defer cancel()
	for i := range w.Servers {
		if s := &w.Servers[i]; s.Restarting && !s.Leaving && consul.PodReady(&pods[i]) && server.HasAskedContainer(&pods[i]) {
			s.Restarted = consul.Restarted(ctx, l.Consul, l.Token, &pods[i])
		}
	}
}

// act is Do without the marks.
func (l Live) act(ctx context.Context, w rollout.World, a rollout.Action) error {
	switch a.Verb {
	case rollout.Wait:
		return l.blocked(ctx)
	case rollout.Restart:
		return l.restart(ctx, w.Named(a.On))
	case rollout.RestartInPlace:
		return inPlace{l}.restart(ctx, w.Named(a.On))
	case rollout.Route:
		return inPlace{l}.route(ctx, w.Named(a.On))
	case rollout.Rebuild:
		return l.rebuild(ctx, w.Named(a.On))
	case rollout.Grow:
		return l.growVolumes(ctx)
	case rollout.Transfer:
		return consul.TransferLeadership(ctx, l.Consul, l.Token, a.On)
	case rollout.Reload:
		return l.reload(ctx, a.On)
	case rollout.Remove:
		return consul.RemovePeer(ctx, l.Consul, l.Token, a.On)
	case rollout.Scale:
		if a.Without != "" {
			if err := consul.RemovePeer(ctx, l.Consul, l.Token, a.Without); err != nil {
				return fmt.Errorf("removing the Raft peer %s: %w", a.Without, err)
			}
		}
		return l.scale(ctx, a.Count)
	default:
		return fmt.Errorf("a rollout does not %s", a)
	}
}

// blocked returns a *StuckError if waiting for the servers cannot succeed.
func (l Live) blocked(ctx context.Context) error {
	if why := l.Kube.Blocked(ctx, awaitedServers(l.Consul, l.Began)); why != "" {
		return &rollout.StuckError{Missing: why}
	}
	return nil
}

// awaitedServers are the pods of a cluster's servers.
func awaitedServers(c *consul.Cluster, began time.Time) kube.Awaited {
	return kube.Awaited{Namespace: c.Namespace, Owner: server.StatefulSetName(c.Name), Selector: server.SelectorLabels(c.Name), Since: began}
}

// unwellTimeout bounds requests to servers that may not answer because they are not ready.
const unwellTimeout = 5 * time.Second

// addConfig adds which agents have not loaded the current configuration. While the cluster is not
// settled, only unhealthy servers that run are asked, and those that do not answer remain unknown.
func (l Live) addConfig(ctx context.Context, w *rollout.World, pods []corev1.Pod) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range pods {
		if s := &w.Servers[i]; w.Unsettled != "" {
			if s.Sick && !s.Stopped && !s.Leaving {
				g.Go(func() error {
					ctx, cancel := context.WithTimeout(ctx, unwellTimeout)
					defer cancel()
					version, err := consul.ConfigVersion(ctx, l.Consul, l.Token, &pods[i])
					s.Stale = err == nil && version != l.Version
					return nil
				})
			}
			continue
		}
		g.Go(func() error {
			version, err := consul.ConfigVersion(ctx, l.Consul, l.Token, &pods[i])
			w.Servers[i].Stale = version != l.Version
			return err
		})
	}
	return g.Wait()
}

// addRaft adds what Consul knows: which server is the leader, which servers are peers and healthy,
// and how far the log of each goes. If no server answers, it adds nothing: Unsettled then says so.
// The leader is the one that the servers follow, because autopilot is notified of a new one seconds
// later. Servers that are not ready say whom they follow too. If they follow no leader, a request
// to the leader would wait for seconds.
func (l Live) addRaft(ctx context.Context, w *rollout.World, ready, running []corev1.Pod) {
	leader, err := consul.LeaderPod(ctx, l.Consul, ready)
	if err != nil && len(running) > 0 {
		short, cancel := context.WithTimeout(ctx, unwellTimeout)
		defer cancel()
		if leader, err = consul.LeaderPod(short, l.Consul, running); err != nil && len(running) == w.Replicas && len(w.Servers) == w.Replicas {
			elected, err := consul.HasBootstrapped(short, l.Consul, running)
			w.Unelected = err == nil && !elected
		}
	}
	if err == nil {
		w.Leader = leader.Name
	} else if len(ready) == 0 {
		return
	}
	h, err := consul.ReadHealth(ctx, l.Consul, l.Token)
	if consul.IsForbidden(err) {
		w.CanTransfer = false // the token is not valid
	}
	if err != nil {
		return
	}
	for i := range w.Servers {
		s := &w.Servers[i]
		s.Peer = false
		if j := slices.IndexFunc(h.Servers, func(e consul.ServerHealth) bool { return e.Name == s.Name }); j >= 0 {
			s.Peer, s.LastIndex = h.Servers[j].Peer, h.Servers[j].LastIndex
			s.Voting = h.Servers[j].Healthy && h.Servers[j].Voter && slices.ContainsFunc(running, func(p corev1.Pod) bool {
				return p.Name == s.Name && h.Servers[j].At(p.Status.PodIP)
			})
			s.Sick = s.Sick || !h.Servers[j].Healthy || !h.Servers[j].Voter
		}
	}
	for _, e := range h.Servers {
		ordinal, ours := server.Ordinal(l.Consul.Name, e.Name)
		if ours && ordinal >= w.Replicas && e.Peer && e.SerfStatus != "alive" {
			w.Former = append(w.Former, e.Name)
		}
	}
}

// addKept sets Peers, Away and Kept, unless no server beyond the replicas of the StatefulSet has a volume.
func (l Live) addKept(ctx context.Context, w *rollout.World, pods []corev1.Pod) error {
	claims, err := l.claims(ctx, server.MaxReplicas)
	if apierrors.IsForbidden(err) {
		return nil // without this right, no server is brought back
	}
	if err != nil {
		return err
	}
	volumes := map[int]bool{}
	more := false
	for pod, c := range claims {
		if ordinal, _ := server.Ordinal(l.Consul.Name, pod); c.Spec.VolumeName != "" && c.DeletionTimestamp == nil {
			volumes[ordinal] = true
			more = more || ordinal >= w.Replicas
		}
	}
	if !more {
		return nil
	}
	for i := range pods {
		if !consul.PodRuns(&pods[i]) {
			continue
		}
		if raft, err := consul.RaftState(ctx, l.Consul, l.Token, &pods[i]); err == nil &&
			len(raft.Peers) > w.Peers { // a server that does not answer names no peers
			w.Peers = len(raft.Peers)
			w.Away, w.Kept = rollout.PeersAway(raft.Peers, l.Consul.Namespace, l.Consul.Name, w.Replicas, volumes)
		}
	}
	return nil
}

// Outdated reports whether a pod was made from another template than the current one of the
// StatefulSet, whether its restart in place has not ended, or whether somebody changed the image of its containers since. With OnDelete,
// the revision to compare with is status.updateRevision.
func Outdated(sts *appsv1.StatefulSet, pod *corev1.Pod) bool {
	return pod.Labels[appsv1.StatefulSetRevisionLabel] != sts.Status.UpdateRevision || server.IsAsked(pod) ||
		len(server.ChangedImages(sts.Spec.Template, pod)) > 0
}

// why says in a few words why a pod is outdated, "" if it is not.
func why(sts *appsv1.StatefulSet, pod *corev1.Pod) string {
	switch {
	case !Outdated(sts, pod):
		return ""
	case len(server.ChangedImages(sts.Spec.Template, pod)) > 0:
		return "image changed by hand"
	case server.IsAsked(pod):
		return "its restart has not ended"
	default:
		return server.RestartReason(pod.ObjectMeta, sts.Spec.Template.ObjectMeta)
	}
}

// whyOutdated says why a pod is outdated, and whether the reason is the rest of a change that was
// applied. edited says that somebody changed the template of the StatefulSet.
func whyOutdated(sts *appsv1.StatefulSet, pod *corev1.Pod, edited bool) (why string, pending bool) {
	images := server.ChangedImages(sts.Spec.Template, pod)
	switch reason := server.RestartReason(pod.ObjectMeta, sts.Spec.Template.ObjectMeta); {
	case len(images) > 0:
		return strings.Join(images, ", ") + ", will restart", false
	case server.IsAsked(pod):
		return "its restart in place has not ended, will restart", true
	case edited:
		return "made from another template than the StatefulSet's, will restart unless it runs what is declared", false
	case reason == server.ReasonTemplate:
		return "made from another template than the StatefulSet's, will restart", false
	case reason == server.ReasonConfig:
		return "runs the former configuration, and a change of it is pending, will restart", true
	case reason == server.ReasonPod:
		return "runs with the former settings of its pod, and a change of them is pending, will restart", true
	default:
		return fmt.Sprintf("runs Consul %s, and the change to %s is pending, will restart",
			pod.Labels[server.LabelVersion], sts.Spec.Template.Labels[server.LabelVersion]), true
	}
}

// stopped reports whether Consul does not run in a pod.
func stopped(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && !consul.PodRuns(pod)
}

// hasStarted reports whether Consul of the version of a pod runs in it, has run in it, or starts at this moment, when its container is
// replaced.
func hasStarted(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		ended := s.State.Terminated != nil || s.LastTerminationState.Terminated != nil
		return s.Name == server.ContainerName && (s.State.Running != nil || ended && server.HasAskedContainer(pod))
	})
}

// restart removes the pod of a server as it was observed; the StatefulSet creates a new one. A settled server is
// evicted: Kubernetes then refuses (429) while a drain, an autoscaler, or another client takes another server away,
// which an observation that is seconds old does not show. A server that is stopped or unhealthy is deleted: an eviction
// would wait for the disruption budget that the server itself exhausts.
func (l Live) restart(ctx context.Context, s rollout.Server) error {
	if s.Settled() {
		return l.evict(ctx, s, metav1.DeleteOptions{})
	}
	return l.remove(ctx, s)
}

// remove deletes the pod of a server. A pod that no longer exists is already being replaced.
func (l Live) remove(ctx context.Context, s rollout.Server) error {
	err := l.Kube.CoreV1().Pods(l.Consul.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(s.UID)})
	_, err = kube.Found(err)
	return err
}

// evict evicts the pod of a server (policy/v1). A pod that no longer exists is already being
// replaced.
func (l Live) evict(ctx context.Context, s rollout.Server, opts metav1.DeleteOptions) error {
	opts.Preconditions = metav1.NewUIDPreconditions(s.UID)
	_, err := kube.Found(l.Kube.Evict(ctx, l.Consul.Namespace, s.Name, opts))
	return err
}

// reload makes the agent in a pod reload its configuration (PUT /v1/agent/reload), and returns when the agent reports
// that it has. The configuration is in a volume that the kubelet updates within a minute or two, and at once when the
// pod changes (kubernetes.io/docs/concepts/configuration/configmap). So the pod gets an annotation, and the agent is
// told to reload until it reports the desired configuration.
func (l Live) reload(ctx context.Context, pod string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, server.AnnotationConfigVersion, l.Version)
	p, err := l.Kube.CoreV1().Pods(
		l.Consul.Namespace,
	).Patch(
		ctx,
		pod,
		types.MergePatchType,
		patch,
		metav1.PatchOptions{FieldManager: server.ManagedBy},
	)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	return kube.Wait(ctx, "the configuration to reach the agent", interval, func(ctx context.Context) (string, error) {
		if err := consul.Reload(ctx, l.Consul, l.Token, p); err != nil {
			return "", err
		}
		version, err := consul.ConfigVersion(ctx, l.Consul, l.Token, p)
		if err == nil && version != l.Version {
			return fmt.Sprintf("it has loaded %s instead of %s", version, l.Version), nil
		}
		return "", err
	})
}

// reloadTimeout is longer than a kubelet takes to update a volume.
const reloadTimeout = 3 * time.Minute

// scale changes the number of servers.
func (l Live) scale(ctx context.Context, replicas int) error {
	if l.Declare != nil && replicas >= l.Desired {
		if err := l.Declare(ctx); err != nil {
			return err
		}
	}
	return patchStatefulSet(ctx, l.Kube, l.Consul, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
}

// patchStatefulSet changes a cluster's StatefulSet by a merge patch.
func patchStatefulSet(ctx context.Context, k *kube.Client, c *consul.Cluster, patch []byte) error {
	_, err := k.AppsV1().StatefulSets(
		c.Namespace,
	).Patch(
		ctx,
		server.StatefulSetName(c.Name),
		types.MergePatchType,
		patch,
		metav1.PatchOptions{FieldManager: server.ManagedBy},
	)
	return err
}

// removeAnnotation removes an annotation from a cluster's StatefulSet.
func removeAnnotation(ctx context.Context, k *kube.Client, c *consul.Cluster, name string) error {
	return patchStatefulSet(ctx, k, c, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, name))
}
