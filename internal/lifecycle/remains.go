package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Remains looks what is left of a cluster.
func (d Deployment) Remains(ctx context.Context) (rollout.Remains, error) {
	sts, err := d.Consul.RequireStatefulSet(ctx)
	if err != nil {
		return rollout.Remains{}, err
	}
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return rollout.Remains{}, err
	}
	claims, err := volumes{d}.boundClaims(ctx)
	if err != nil {
		return rollout.Remains{}, err
	}
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		token = "" // the servers answer what matters without a token
	}
	seen := make([]rollout.PodSight, len(pods))
	leader := make([]bool, len(pods))
	var g errgroup.Group
	for i := range pods {
		g.Go(func() error {
			seen[i] = recovery{d}.sight(ctx, token, &pods[i], claims)
			leader[i] = seen[i].Raft.Leader != ""
			return nil
		})
	}
	_ = g.Wait() // a server that does not answer is unknown
	var volumes map[string]bool
	if claims != nil {
		volumes = map[string]bool{}
		for ordinal := range server.MaxReplicas {
			name := server.PodName(d.Consul.Name, ordinal)
			_, bound := claims[server.ClaimName(name)]
			volumes[name] = bound
		}
	}
	r := rollout.Judge(d.Consul.Namespace, d.Consul.Name, int(replicasOf(sts)), seen, volumes)
	r.Recovering = sts.Annotations[server.AnnotationRecovering]
	r.Adopting = server.Set{StatefulSet: sts}.IsTakeover()
	r.Leader = slices.Contains(leader, true)
	return r, nil
}

// sight looks at one pod.
func (d recovery) sight(ctx context.Context, token string, p *corev1.Pod, claims map[string]time.Time) rollout.PodSight {
	s := rollout.PodSight{Name: p.Name, IP: p.Status.PodIP}
	if consul.PodRuns(p) {
		raft, err := consul.RaftState(ctx, d.Consul, token, p)
		if err == nil && (len(raft.Peers) > 0 || raft.Leader != "") {
			s.Raft = raft
			if p.DeletionTimestamp == nil { // a server that is being stopped is not a survivor
				s.State = rollout.StateData
			}
		}
		return s
	}
	if (claims != nil && hasNoVolume(p, claims)) || d.waitsWithoutData(ctx, p) {
		s.State = rollout.StateEmpty
	}
	return s
}

// hasNoVolume reports whether a server has not been started yet, and has no volume, or a volume that was created with the
// pod and never mounted.
func hasNoVolume(p *corev1.Pod, bound map[string]time.Time) bool {
	made := bound[server.ClaimName(p.Name)]
	return stopped(p) && (made.IsZero() || (p.Spec.NodeName == "" && made.After(p.CreationTimestamp.Add(-5*time.Second))))
}

// boundClaims returns when the claims that have a volume were created, nil if they may not be listed.
func (d volumes) boundClaims(ctx context.Context) (map[string]time.Time, error) {
	list, err := d.Kube.CoreV1().PersistentVolumeClaims(d.Consul.Namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		return nil, nil //nolint:nilnil // as documented
	}
	if err != nil {
		return nil, fmt.Errorf("listing the volume claims of %s: %w", d.Consul.ID(), err)
	}
	bound := map[string]time.Time{}
	for _, c := range list.Items {
		if c.Spec.VolumeName != "" {
			bound[c.Name] = c.CreationTimestamp.Time
		}
	}
	return bound, nil
}

// waitsWithoutData reports whether the container before the server waits because it has found no data. The container
// reports this in its termination message, for which it restarts once. If it does not report it, as with the script of an
// earlier version of this provider, a command in the container finds out, which requires the right to exec.
func (d recovery) waitsWithoutData(ctx context.Context, p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil {
		return false
	}
	i := slices.IndexFunc(p.Status.InitContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == server.WaitContainerName })
	if i < 0 {
		return false
	}
	s := p.Status.InitContainerStatuses[i]
	if saysNoData(s) {
		return true
	}
	if s.State.Running == nil || time.Since(s.State.Running.StartedAt.Time) < noDataGrace {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	out, err := d.Kube.Exec(
		ctx,
		p.Namespace,
		p.Name,
		server.WaitContainerName,
		nil,
		"/bin/sh",
		"-c",
		"[ -d "+server.RaftDir+" ] || echo empty",
	)
	return err == nil && strings.TrimSpace(out) == "empty"
}

// saysNoData reports whether the container has reported that there is no data, and has not succeeded since.
func saysNoData(s corev1.ContainerStatus) bool {
	report := func(t *corev1.ContainerStateTerminated) bool {
		return t != nil && strings.HasPrefix(t.Message, server.NoDataReport)
	}
	return report(s.State.Terminated) || (s.State.Terminated == nil && report(s.LastTerminationState.Terminated))
}

const (
	// noDataGrace is how long the container may run before a command is run in it: it may be about to report, or
	// to end.
	noDataGrace = 5 * time.Second
	// execTimeout bounds one command in a pod.
	execTimeout = 10 * time.Second
)
