package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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

// liveTakeover is an adoption in Kubernetes.
type liveTakeover struct {
	Live
	spec   server.Spec
	former *consul.Cluster
	// both has the servers of both sides.
	both *consul.Cluster
	back bool
}

// adoptable is what an adoption looks at and acts on.
func (d adoption) adoptable(spec server.Spec, token string, desired int) rollout.Cluster {
	return d.liveTakeover(spec, token, desired)
}

func (d adoption) liveTakeover(spec server.Spec, token string, desired int) liveTakeover {
	t := liveTakeover{
		Live:   Live{Kube: d.Kube, Consul: d.Consul, Desired: desired, Token: token, ACLs: spec.ACL.Enabled, Began: d.Began},
		spec:   spec,
		former: d.Consul.Former(spec.Adopt.StatefulSet),
	}
	t.both = d.Consul.With(t.former)
	return t
}

// Look implements rollout.Cluster.
func (t liveTakeover) Look(ctx context.Context) (rollout.World, error) {
	w, err := t.look(ctx)
	return w, final(err)
}

// Do implements rollout.Cluster.
func (t liveTakeover) Do(ctx context.Context, w rollout.World, a rollout.Action) error {
	return final(t.act(ctx, w, a))
}

// act is Do without the marks.
func (t liveTakeover) act(ctx context.Context, w rollout.World, a rollout.Action) error {
	switch a.Verb {
	case rollout.Wait:
		return t.blocked(ctx)
	case rollout.Restart:
		return t.restart(ctx, w.Named(a.On))
	case rollout.Add:
		return t.scale(ctx, a.On, 1)
	case rollout.Retire:
		if a.Without != "" {
			if err := t.remove(ctx, a.Without); err != nil {
				return fmt.Errorf("removing the Raft peer %s: %w", a.Without, err)
			}
		}
		return t.scale(ctx, a.On, 0)
	case rollout.Switch:
		return t.switchService(ctx, a.On)
	case rollout.Transfer:
		return consul.TransferLeadership(ctx, t.both, t.Token, a.On)
	case rollout.Remove:
		return t.remove(ctx, a.On)
	default:
		return fmt.Errorf("an adoption does not %s", a)
	}
}

func (t liveTakeover) look(ctx context.Context) (rollout.World, error) {
	sts, err := t.Consul.RequireStatefulSet(ctx)
	if err != nil {
		return rollout.World{}, err
	}
	old, err := kube.ReadStatefulSet(ctx, t.Kube, t.Consul.Namespace, t.spec.Adopt.StatefulSet)
	if err != nil {
		return rollout.World{}, err
	}
	if old == nil {
		old = &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: new(int32)}}
	}
	pods, err := t.both.Pods(ctx)
	if err != nil {
		return rollout.World{}, err
	}
	seen := &rollout.Takeover{
		From:     t.spec.Adopt.StatefulSet,
		To:       sts.Name,
		Total:    int(t.spec.Takeover.Replicas),
		Replicas: int(replicasOf(old)),
		Back:     t.back,
	}
	w := rollout.World{
		Desired:     t.Desired,
		Replicas:    int(replicasOf(sts)),
		Observed:    sts.Status.ObservedGeneration >= sts.Generation && old.Status.ObservedGeneration >= old.Generation,
		CanTransfer: true,
		Takeover:    seen,
	}
	var running []corev1.Pod
	for i := range pods {
		s := rollout.Server{Name: pods[i].Name, UID: string(pods[i].UID), Stopped: stopped(&pods[i]), Peer: true}
		if metav1.IsControlledBy(&pods[i], sts) {
			s.Why = why(sts, &pods[i])
			s.Outdated = s.Why != ""
			w.Servers = append(w.Servers, s)
		} else {
			seen.Servers = append(seen.Servers, s)
		}
		if consul.PodReady(&pods[i]) {
			running = append(running, pods[i])
		}
	}
	if w.Unsettled, err = consul.Missing(ctx, t.both, t.Token, w.Replicas+seen.Replicas, 0); err != nil {
		return rollout.World{}, err
	}
	if len(running) > 0 {
		if leader, err := consul.LeaderPod(ctx, t.both, running); err == nil {
			w.Leader = leader.Name
		}
		if err := t.addPeers(ctx, &w, pods); err != nil {
			return rollout.World{}, err
		}
	}
	seen.Services, err = t.toSwitch(ctx)
	return w, err
}

func hasPod(pods []corev1.Pod, name string) bool {
	return slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Name == name })
}

// addPeers adds which servers are Raft peers, how far the log of each goes, and which peers and
// members are left of retired servers. If no server answers, it adds nothing: Unsettled then says so.
func (t liveTakeover) addPeers(ctx context.Context, w *rollout.World, pods []corev1.Pod) error {
	h, err := consul.ReadHealth(ctx, t.both, t.Token)
	if consul.IsForbidden(err) {
		return fmt.Errorf("the management token is not valid: %w", err)
	}
	if err != nil {
		return nil //nolint:nilerr // Unsettled says so
	}
	for _, list := range [][]rollout.Server{w.Servers, w.Takeover.Servers} {
		for i := range list {
			j := slices.IndexFunc(h.Servers, func(e consul.ServerHealth) bool { return e.Name == list[i].Name })
			if list[i].Peer = j >= 0 && h.Servers[j].Peer; j >= 0 {
				list[i].LastIndex = h.Servers[j].LastIndex
			}
		}
	}
	for _, e := range h.Servers {
		if !hasPod(pods, e.Name) && (e.SerfStatus == "failed" || (e.Peer && e.SerfStatus != "alive")) {
			w.Former = append(w.Former, e.Name)
		}
	}
	members, err := consul.ServerMembers(ctx, t.both, t.Token)
	if err != nil {
		w.Unsettled = cmp.Or(w.Unsettled, err.Error())
		return nil
	}
	names := make([]string, 0, len(pods))
	for i := range pods {
		names = append(names, pods[i].Name)
	}
	w.AddMembers(members, names)
	return nil
}

// toSwitch lists the Services that route to the side that is removed.
func (t liveTakeover) toSwitch(ctx context.Context) ([]string, error) {
	var out []string
	for _, name := range t.spec.Adopt.Services {
		svc, err := t.Kube.CoreV1().Services(t.Consul.Namespace).Get(ctx, name, metav1.GetOptions{})
		found, err := kube.Found(err)
		switch {
		case err != nil:
			return nil, fmt.Errorf("reading Service %s/%s: %w", t.Consul.Namespace, name, err)
		case !found:
		case t.back && server.IsSwitched(svc):
			out = append(out, name)
		case !t.back && !server.LeadsTo(svc, t.spec.Name),
			!t.back && name == server.ClientServiceName(t.spec.Name) && (!server.Owns(t.spec.Name, svc.Labels) || t.hasBridge(ctx, name)):
			out = append(out, name)
		}
	}
	return out, nil
}

// scale makes a pod the last one of its StatefulSet (more is 1), or the first one that is removed
// (0). The volumes of former servers are kept, whatever their StatefulSet says.
func (t liveTakeover) scale(ctx context.Context, pod string, more int32) error {
	dash := strings.LastIndex(pod, "-")
	ordinal, err := strconv.Atoi(pod[dash+1:])
	if err != nil || dash < 0 {
		return fmt.Errorf("%q is not a pod of a StatefulSet", pod)
	}
	name := pod[:dash]
	sets := t.Kube.AppsV1().StatefulSets(t.Consul.Namespace)
	sts, err := sets.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	start := int32(0)
	if o := sts.Spec.Ordinals; o != nil {
		start = o.Start
	}
	replicas := int32(ordinal) - start + more //nolint:gosec // an ordinal
	if replicas-replicasOf(sts) != 2*more-1 {
		return fmt.Errorf("another tool or person scaled the StatefulSet %s to %d", name, replicasOf(sts))
	}
	patch := fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q},"spec":{"replicas":%d}}`, sts.ResourceVersion, replicas)
	if p := sts.Spec.PersistentVolumeClaimRetentionPolicy; name == t.spec.Adopt.StatefulSet && p != nil &&
		p.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		patch = fmt.Appendf(
			nil,
			`{"metadata":{"resourceVersion":%q},"spec":{"replicas":%d,"persistentVolumeClaimRetentionPolicy":{"whenScaled":"Retain"}}}`,
			sts.ResourceVersion,
			replicas,
		)
	}
	_, err = sets.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: server.ManagedBy})
	return err
}

// remove removes a server from the Raft peers, and, if its pod is gone, from the members of every agent.
func (t liveTakeover) remove(ctx context.Context, name string) error {
	if err := consul.RemovePeer(ctx, t.both, t.Token, name); err != nil {
		return err
	}
	pods, err := t.both.Pods(ctx)
	if err != nil || slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Name == name }) {
		return err // a server with a pod leaves by itself
	}
	return consul.ForceLeave(ctx, t.both, t.Token, name)
}

// switchService routes a Service to the side that stays. It returns when new connections arrive there.
func (t liveTakeover) switchService(ctx context.Context, name string) (err error) {
	services := t.Kube.CoreV1().Services(t.Consul.Namespace)
	svc, err := services.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	patch := func(patch []byte, manager string) error {
		_, err := services.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: manager})
		return err
	}
	defer func() { err = errors.Join(err, t.removeBridge(context.WithoutCancel(ctx), name)) }()
	if t.back {
		restored, restore, err := server.RestoreService(svc)
		if err == nil {
			err = t.bridge(ctx, restored, t.former)
		}
		if err == nil {
			err = patch(restore, server.ManagedBy)
		}
		if err != nil {
			return err
		}
		return pause(ctx, drain(svc))
	}
	if !server.IsSwitched(svc) {
		// With a separate field manager: the next apply of the provider would remove what an
		// earlier apply set.
		if err := patch(server.RecordFormer(svc), server.ManagedBy+"-adopt"); err != nil {
			return err
		}
	}
	if name == server.ClientServiceName(t.spec.Name) {
		wanted := server.Objects(t.spec).ClientService
		if err := t.bridge(ctx, wanted, t.Consul); err != nil {
			return err
		}
		svc.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Service"))
		_, err = applyObjects(ctx, t.Kube, server.Set{ClientService: wanted}, server.Set{ClientService: svc})
	} else {
		var former *appsv1.StatefulSet
		if former, err = t.Kube.AppsV1().StatefulSets(t.Consul.Namespace).Get(ctx, t.spec.Adopt.StatefulSet, metav1.GetOptions{}); err == nil {
			err = patch(server.SwitchService(svc, former.Spec.Template.Spec, t.spec.Name), server.ManagedBy)
		}
	}
	if err != nil {
		return err
	}
	return pause(ctx, drain(svc))
}

// bridge routes a Service, as desired, to servers before its ports are renamed. A credential
// that may not write EndpointSlices does without it.
func (t liveTakeover) bridge(ctx context.Context, svc *corev1.Service, servers *consul.Cluster) error {
	pods, err := servers.Pods(ctx)
	if err != nil {
		return err
	}
	if pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !consul.PodReady(&p) }); len(pods) == 0 {
		return nil
	}
	if err := t.removeBridge(ctx, svc.Name); err != nil { // of one that was killed
		return err
	}
	_, err = t.Kube.DiscoveryV1().EndpointSlices(
		svc.Namespace,
	).Create(
		ctx,
		server.Bridge(svc, pods, t.spec.Labels),
		metav1.CreateOptions{FieldManager: server.ManagedBy},
	)
	if apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("routing Service %s/%s to %s: %w", svc.Namespace, svc.Name, servers.ID(), err)
	}
	return pause(ctx, bridgeLag)
}

// bridgeLag is the time within which every kube-proxy has been notified of an EndpointSlice.
const bridgeLag = 3 * time.Second

func (t liveTakeover) removeBridge(ctx context.Context, service string) error {
	_, err := kube.Found(
		t.Kube.DiscoveryV1().EndpointSlices(t.Consul.Namespace).Delete(ctx, server.BridgeName(service), metav1.DeleteOptions{}),
	)
	if apierrors.IsForbidden(err) { // then it was never created
		return nil
	}
	return err
}

// hasBridge reports whether an interrupted adoption has left one behind.
func (t liveTakeover) hasBridge(ctx context.Context, service string) bool {
	_, err := t.Kube.DiscoveryV1().EndpointSlices(t.Consul.Namespace).Get(ctx, server.BridgeName(service), metav1.GetOptions{})
	return err == nil
}

// drain is how long new connections may still arrive at the former servers of a Service that was
// switched: until kube-proxy has been notified, and until cached DNS names of a headless Service
// have expired.
func drain(svc *corev1.Service) time.Duration {
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return 30 * time.Second
	}
	return 15 * time.Second
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look is Look during an adoption.
func (d adoption) look(ctx context.Context, spec server.Spec, token string) (rollout.World, error) {
	w, err := d.liveTakeover(spec, token, server.MaxReplicas).Look(ctx)
	if err != nil {
		return rollout.World{}, err
	}
	for _, list := range [][]rollout.Server{w.Servers, w.Takeover.Servers} {
		for i := range list {
			list[i].LastIndex = 0
		}
	}
	return w, nil
}

func replicasOf(sts *appsv1.StatefulSet) int32 {
	if sts.Spec.Replicas == nil {
		return 1 // as Kubernetes fills in
	}
	return *sts.Spec.Replicas
}
