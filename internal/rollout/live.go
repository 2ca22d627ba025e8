package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Live is a cluster in Kubernetes.
type Live struct {
	Kube   *kube.Client
	Consul *consul.Cluster
	// Desired is the number of servers that there shall be.
	Desired int
	// Token may ask autopilot and move the leadership; "" where ACLs are off or
	// not bootstrapped yet.
	Token string
	// ACLs says that ACLs are on.
	ACLs bool
	// Soak is how long a server must have been ready where nobody may ask
	// whether it votes (consul.Cluster.Missing).
	Soak time.Duration
}

var _ Cluster = Live{}

// Look implements Cluster.
func (l Live) Look(ctx context.Context) (World, error) {
	sts, err := l.Kube.AppsV1().StatefulSets(l.Consul.Namespace).Get(ctx, server.StatefulSetName(l.Consul.Name), metav1.GetOptions{})
	if err != nil {
		return World{}, fmt.Errorf("reading the StatefulSet of %s: %w", l.Consul.ID(), err)
	}
	pods, err := l.Consul.Pods(ctx)
	if err != nil {
		return World{}, err
	}
	w := World{
		Desired:     l.Desired,
		Replicas:    int(*sts.Spec.Replicas),
		Observed:    sts.Status.ObservedGeneration >= sts.Generation,
		CanTransfer: l.Token != "" || !l.ACLs,
	}
	for i := range pods {
		w.Servers = append(w.Servers, Server{Name: pods[i].Name, Outdated: Outdated(sts, &pods[i]), Stopped: stopped(&pods[i]), Peer: true})
	}
	if w.Unsettled, err = l.Consul.Missing(ctx, l.Token, w.Replicas, l.Soak); err != nil {
		return World{}, err
	}
	// Nothing else is decided by Raft (Next). A server that starts is left alone: it
	// refuses the request, or keeps it for seconds because there is no leader.
	if w.Unsettled == "" || w.Replicas > w.Desired {
		l.addRaft(ctx, &w, pods)
	}
	return w, nil
}

// addRaft adds what Consul knows: who leads, who is a peer, and how far each
// server is. It is left out where no server tells, which Unsettled then says. The
// leader is the one that the servers follow: autopilot hears of a new one seconds
// later.
func (l Live) addRaft(ctx context.Context, w *World, pods []corev1.Pod) {
	if leader, err := l.Consul.LeaderPod(ctx, pods); err == nil {
		w.Leader = leader.Name
	}
	h, err := l.Consul.Health(ctx, l.Token)
	if consul.IsForbidden(err) {
		w.CanTransfer = false // the token is not good
	}
	if err != nil {
		return
	}
	for i := range w.Servers {
		w.Servers[i].Peer = false
		if j := slices.IndexFunc(h.Servers, func(s consul.ServerHealth) bool { return s.Name == w.Servers[i].Name }); j >= 0 {
			w.Servers[i].Peer, w.Servers[i].LastIndex = true, h.Servers[j].LastIndex
		}
	}
}

// Outdated reports whether a pod was made from another template than the
// StatefulSet's current one. Under OnDelete the revision to compare with is
// status.updateRevision.
func Outdated(sts *appsv1.StatefulSet, pod *corev1.Pod) bool {
	return pod.Labels[appsv1.StatefulSetRevisionLabel] != sts.Status.UpdateRevision
}

// stopped reports whether Consul does not run in a pod.
func stopped(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false // on its way out: neither to be counted nor to be hurried
	}
	return !slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.State.Running != nil })
}

// hasStarted reports whether Consul runs in a pod, or has run in it.
func hasStarted(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.Name == server.ContainerName && (s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil)
	})
}

// Restart implements Cluster. It deletes rather than evicts: an eviction waits
// for a disruption budget that a sick server exhausts.
func (l Live) Restart(ctx context.Context, pod string) error {
	p, err := l.Kube.CoreV1().Pods(l.Consul.Namespace).Get(ctx, pod, metav1.GetOptions{})
	if found, err := kube.Found(err); err != nil || !found {
		return err // one that is gone is being replaced already
	}
	return l.Kube.CoreV1().Pods(l.Consul.Namespace).Delete(ctx, pod, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
}

// Transfer implements Cluster (POST /v1/operator/raft/transfer-leader, Consul
// 1.15 and later).
func (l Live) Transfer(ctx context.Context, pod string) error {
	h, err := l.Consul.Health(ctx, l.Token)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(h.Servers, func(s consul.ServerHealth) bool { return s.Name == pod })
	if i < 0 {
		return fmt.Errorf("autopilot does not know the server %s", pod)
	}
	return l.Consul.Any(ctx, l.Token, func(client *api.Client) error {
		reply, err := client.Operator().RaftLeaderTransfer(h.Servers[i].ID, (&api.QueryOptions{}).WithContext(ctx))
		if err == nil && !reply.Success {
			err = errors.New("the leader refused")
		}
		return err
	})
}

// Scale implements Cluster.
func (l Live) Scale(ctx context.Context, replicas int) error {
	patch := fmt.Appendf(nil, `{"apiVersion":"apps/v1","kind":"StatefulSet","spec":{"replicas":%d}}`, replicas)
	_, err := l.Kube.AppsV1().StatefulSets(l.Consul.Namespace).Patch(ctx, server.StatefulSetName(l.Consul.Name), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: server.ManagedBy})
	return err
}
