package rollout

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Remains is what is left of the servers of a cluster. The servers are those that the StatefulSet asks for, those that
// have a pod, and the Raft peers of any server with data.
type Remains struct {
	// Leader says that there is one: nothing is lost.
	Leader bool
	// Adopting says that an adoption is in progress: former servers, which may come back, are peers too.
	Adopting bool
	// Data are the servers that run and have their data.
	Data []string
	// Empty are the servers that wait because they have no data, or that have no volume.
	Empty []string
	// Unknown are the servers in an unknown state: they are starting, cannot be scheduled, do not answer, or are Raft
	// peers without a pod.
	Unknown []string
	// Kept are those of Unknown that have a volume and no pod.
	Kept []string
	// Recovering is the recovery that began and did not end, "" for none.
	Recovering string

	// electable says that a server with data can win an election by the Raft configuration that it has.
	electable bool
}

// Lost reports whether a quorum is impossible, whatever happens to the servers in an unknown state.
func (r Remains) Lost() bool {
	n := len(r.Data) + len(r.Empty) + len(r.Unknown)
	return !r.Leader && !r.electable && n > 0 && len(r.Data)+len(r.Unknown) < n/2+1
}

// String says what is left.
func (r Remains) String() string {
	var parts []string
	for _, p := range []struct {
		pods []string
		what string
	}{{r.Data, "with data"}, {r.Empty, "without data"}, {r.Unknown, "in an unknown state"}} {
		if len(p.pods) > 0 {
			parts = append(parts, p.what+": "+strings.Join(p.pods, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// Recovery is the recovery that an apply would accept, "" if it would refuse all of them.
func (r Remains) Recovery() string {
	for _, from := range []string{FromSurvivor, FromNothing} {
		if r.Lost() && r.Check(from) == "" {
			return from
		}
	}
	return ""
}

// Check returns why a recovery is refused, "" if it is not.
func (r Remains) Check(from string) string {
	switch {
	case r.Adopting:
		return "an adoption is in progress, and the former servers may still have a quorum (" + r.String() + "): bring their pods back, and the adoption continues"
	case r.Recovering == from:
		return ""
	case from == FromSurvivor && len(r.Data) == 0:
		return "no running server has its data (" + r.String() + ")"
	case from == FromSurvivor && len(r.Kept) > 0 && !r.Lost():
		return "servers without a pod have volumes, and may be needed for a quorum (" + r.String() + "). Apply without recovery: that starts " +
			strings.Join(r.Kept, ", ") + " again. If the data on such a volume is certainly lost, delete its claim"
	case from == FromSurvivor && !r.Lost():
		return "there may still be a quorum (" + r.String() + "): find out why the servers elect no leader, or bring back those in an unknown state. " +
			"If the volume of such a server is certainly lost, delete its pod and its claim"
	case from == FromNothing && len(r.Data) > 0:
		return "there is data left (" + r.String() + "), which an empty cluster would replace: recover from a survivor as soon as that is possible"
	case from == FromNothing && len(r.Unknown) > 0:
		return "there may be data left (" + r.String() + "), and an empty cluster would replace it. " + strings.Join(r.Unknown, ", ") +
			" may have the only copy: bring the pod back with its volume, and keep the claim. Only if that volume is certainly lost, delete the pod and the claim"
	case from == FromNothing && len(r.Empty) == 0:
		return "no server was found"
	}
	return ""
}

// podSight is what was seen of a server's pod.
type podSight struct {
	name, ip string
	// state is what the pod has.
	state podState
	// raft is what a server with data says.
	raft consul.RaftState
}

type podState int

const (
	stateUnknown podState = iota
	stateData
	stateEmpty
)

// judge determines what is left of the servers of a cluster, whose StatefulSet asks for this number of servers. volumes
// are the servers whose claims have a volume; it is nil if this is not known.
//
//   - A server without a pod has lost its data only if it is known that it has no volume.
//   - A Raft peer counts, whether the StatefulSet asks for it or not.
//   - If no server names its peers, each volume counts as one.
//   - A server with data can become the leader if a majority of the voters in its own configuration may vote for it: those
//     in an unknown state, and those whose log does not go further.
func judge(namespace, cluster string, asked int, pods []podSight, volumes map[string]bool) Remains {
	members := map[string]podState{}
	var kept []string
	absent := func(name string) {
		if _, ok := members[name]; ok {
			return
		}
		members[name] = stateUnknown
		switch {
		case volumes[name]:
			kept = append(kept, name)
		case volumes != nil:
			members[name] = stateEmpty
		}
	}
	ordinals := map[string]string{} // by node ID
	for ordinal := range server.MaxReplicas {
		ordinals[server.NodeID(namespace, cluster, ordinal)] = server.PodName(cluster, ordinal)
	}
	logs := map[string]consul.LogEnd{}
	for _, p := range pods {
		members[p.name] = p.state
		logs[p.name] = p.raft.Log
	}
	for ordinal := range asked {
		absent(server.PodName(cluster, ordinal))
	}
	var hasData []podSight
	for _, p := range pods {
		if p.state == stateData {
			hasData = append(hasData, p)
		}
		for _, peer := range p.raft.Peers {
			switch name, ours := ordinals[peer.ID]; {
			case ours:
				absent(name)
			case peer.ID != "": // a former server, or one of another cluster
				members[peer.Address] = stateUnknown
			}
		}
	}
	if len(hasData) == 0 {
		for name := range volumes {
			if volumes[name] {
				absent(name)
			}
		}
	}
	for _, p := range hasData { // only addresses: pods may have had others, so only the number of peers counts
		if !named(p.raft.Peers) {
			addAnonymous(members, p.raft.Peers, pods, volumes, absent)
		}
	}
	r := Remains{}
	for name, state := range members {
		switch state {
		case stateData:
			r.Data = append(r.Data, name)
		case stateEmpty:
			r.Empty = append(r.Empty, name)
		default:
			r.Unknown = append(r.Unknown, name)
		}
	}
	r.Kept = kept
	for _, list := range [][]string{r.Data, r.Empty, r.Unknown, r.Kept} {
		slices.Sort(list)
	}
	for _, p := range hasData {
		votes, voters := 0, 0
		for _, peer := range p.raft.Peers {
			name, ours := ordinals[peer.ID]
			if !peer.Voter {
				continue
			}
			voters++
			if !ours || members[name] == stateUnknown || (members[name] == stateData && !p.raft.Log.Less(logs[name])) {
				votes++
			}
		}
		if !named(p.raft.Peers) {
			votes = min(voters, len(r.Data)+len(r.Unknown))
		}
		r.electable = r.electable || votes >= voters/2+1
	}
	return r
}

// named reports whether the peers of a configuration are known by their IDs.
func named(peers []consul.RaftPeer) bool {
	return !slices.ContainsFunc(peers, func(p consul.RaftPeer) bool { return p.ID == "" })
}

// addAnonymous adds a server for each peer in excess of the members: first servers that have a volume, and then
// addresses that do not belong to a pod.
func addAnonymous(members map[string]podState, peers []consul.RaftPeer, pods []podSight, volumes map[string]bool, absent func(string)) {
	var candidates []string
	for name, has := range volumes {
		if _, ok := members[name]; has && !ok {
			candidates = append(candidates, name)
		}
	}
	slices.Sort(candidates)
	for _, peer := range peers {
		host, _, _ := net.SplitHostPort(peer.Address)
		if _, ok := members[peer.Address]; !ok && !slices.ContainsFunc(pods, func(p podSight) bool { return p.ip == host }) {
			candidates = append(candidates, peer.Address)
		}
	}
	for _, name := range candidates[:min(len(candidates), max(0, len(peers)-len(members)))] {
		absent(name)
	}
}

// Remains looks what is left of a cluster.
func (d Deployment) Remains(ctx context.Context) (Remains, error) {
	sts, err := d.Kube.AppsV1().StatefulSets(d.Consul.Namespace).Get(ctx, server.StatefulSetName(d.Consul.Name), metav1.GetOptions{})
	if err != nil {
		return Remains{}, fmt.Errorf("reading the StatefulSet of %s: %w", d.Consul.ID(), err)
	}
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return Remains{}, err
	}
	claims, err := d.boundClaims(ctx)
	if err != nil {
		return Remains{}, err
	}
	token, _, err := d.Consul.ManagementToken(ctx)
	if err != nil {
		token = "" // the servers answer what matters without a token
	}
	seen := make([]podSight, len(pods))
	leader := make([]bool, len(pods))
	var g errgroup.Group
	for i := range pods {
		g.Go(func() error {
			seen[i] = d.sight(ctx, token, &pods[i], claims)
			leader[i] = seen[i].raft.Leader != ""
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
	r := judge(d.Consul.Namespace, d.Consul.Name, int(replicasOf(sts)), seen, volumes)
	r.Recovering = sts.Annotations[server.AnnotationRecovering]
	r.Adopting = server.Set{StatefulSet: sts}.IsTakeover()
	r.Leader = slices.Contains(leader, true)
	return r, nil
}

// sight looks at one pod.
func (d Deployment) sight(ctx context.Context, token string, p *corev1.Pod, claims map[string]time.Time) podSight {
	s := podSight{name: p.Name, ip: p.Status.PodIP}
	if consul.PodRuns(p) {
		raft, err := d.Consul.RaftState(ctx, token, p)
		if err == nil && (len(raft.Peers) > 0 || raft.Leader != "") {
			s.raft = raft
			if p.DeletionTimestamp == nil { // a server that is being stopped is not a survivor
				s.state = stateData
			}
		}
		return s
	}
	if (claims != nil && hasNoVolume(p, claims)) || d.waitsWithoutData(ctx, p) {
		s.state = stateEmpty
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
func (d Deployment) boundClaims(ctx context.Context) (map[string]time.Time, error) {
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
func (d Deployment) waitsWithoutData(ctx context.Context, p *corev1.Pod) bool {
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
	out, err := d.Kube.Exec(ctx, p.Namespace, p.Name, server.WaitContainerName, nil, "/bin/sh", "-c", "[ -d "+server.RaftDir+" ] || echo empty")
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
