package rollout

import (
	"net"
	"slices"
	"strings"

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
		return "an adoption is in progress, and the former servers may still have a quorum (" + r.String() + "): bring their pods back, and " +
			"the adoption continues"
	case r.Recovering == from:
		return ""
	case from == FromSurvivor && len(r.Data) == 0:
		return "no running server has its data (" + r.String() + ")"
	case from == FromSurvivor && len(r.Kept) > 0 && !r.Lost():
		return "servers without a pod have volumes, and may be needed for a quorum (" + r.String() + "). Apply without recovery: that starts " +
			strings.Join(r.Kept, ", ") + " again. If the data on such a volume is certainly lost, delete its claim"
	case from == FromSurvivor && !r.Lost():
		return "there may still be a quorum (" + r.String() + "): find out why the servers elect no leader, or bring back those in an " +
			"unknown state. " +
			"If the volume of such a server is certainly lost, delete its pod and its claim"
	case from == FromNothing && len(r.Data) > 0:
		return "there is data left (" + r.String() + "), which an empty cluster would replace: recover from a survivor as soon as that is " +
			"possible"
	case from == FromNothing && len(r.Unknown) > 0:
		return "there may be data left (" + r.String() + "), and an empty cluster would replace it. " + strings.Join(r.Unknown, ", ") +
			" may have the only copy: bring the pod back with its volume, and keep the claim. Only if that volume is certainly lost, delete the " +
			"pod and the claim"
	case from == FromNothing && len(r.Empty) == 0:
		return "no server was found"
	}
	return ""
}

// PodSight is what was seen of a server's pod.
type PodSight struct {
	Name, IP string
	// State is what the pod has.
	State PodState
	// Raft is what a server with data says.
	Raft server.RaftState
}

// PodState is what is known of the data of a server.
type PodState int

const (
	// StateUnknown says that it may have data.
	StateUnknown PodState = iota
	// StateData says that it runs and has its data.
	StateData
	// StateEmpty says that it has no data.
	StateEmpty
)

// Judge determines what is left of the servers of a cluster, whose StatefulSet asks for this number of servers. volumes
// are the servers whose claims have a volume; it is nil if this is not known.
//
//   - A server without a pod has lost its data only if it is known that it has no volume.
//   - A Raft peer counts, whether the StatefulSet asks for it or not.
//   - If no server names its peers, each volume counts as one.
//   - A server with data can become the leader if a majority of the voters in its own configuration may vote for it: those
//     in an unknown state, and those whose log does not go further.
func Judge(namespace, cluster string, asked int, pods []PodSight, volumes map[string]bool) Remains {
	members := map[string]PodState{}
	var kept []string
	absent := func(name string) {
		if _, ok := members[name]; ok {
			return
		}
		members[name] = StateUnknown
		switch {
		case volumes[name]:
			kept = append(kept, name)
		case volumes != nil:
			members[name] = StateEmpty
		}
	}
	ordinals := map[string]string{} // by node ID
	for ordinal := range server.MaxReplicas {
		ordinals[server.NodeID(namespace, cluster, ordinal)] = server.PodName(cluster, ordinal)
	}
	logs := map[string]server.LogEnd{}
	for _, p := range pods {
		members[p.Name] = p.State
		logs[p.Name] = p.Raft.Log
	}
	for ordinal := range asked {
		absent(server.PodName(cluster, ordinal))
	}
	var hasData []PodSight
	for _, p := range pods {
		if p.State == StateData {
			hasData = append(hasData, p)
		}
		for _, peer := range p.Raft.Peers {
			switch name, ours := ordinals[peer.ID]; {
			case ours:
				absent(name)
			case peer.ID != "": // a former server, or one of another cluster
				members[peer.Address] = StateUnknown
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
		if !named(p.Raft.Peers) {
			addAnonymous(members, p.Raft.Peers, pods, volumes, absent)
		}
	}
	r := Remains{}
	for name, state := range members {
		switch state {
		case StateData:
			r.Data = append(r.Data, name)
		case StateEmpty:
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
		for _, peer := range p.Raft.Peers {
			name, ours := ordinals[peer.ID]
			if !peer.Voter {
				continue
			}
			voters++
			if !ours || members[name] == StateUnknown || (members[name] == StateData && !p.Raft.Log.Less(logs[name])) {
				votes++
			}
		}
		if !named(p.Raft.Peers) {
			votes = min(voters, len(r.Data)+len(r.Unknown))
		}
		r.electable = r.electable || votes >= voters/2+1
	}
	return r
}

// named reports whether the peers of a configuration are known by their IDs.
func named(peers []server.RaftPeer) bool {
	return !slices.ContainsFunc(peers, func(p server.RaftPeer) bool { return p.ID == "" })
}

// addAnonymous adds a server for each peer in excess of the members: first servers that have a volume, and then
// addresses that do not belong to a pod.
func addAnonymous(members map[string]PodState, peers []server.RaftPeer, pods []PodSight, volumes map[string]bool, absent func(string)) {
	var candidates []string
	for name, has := range volumes {
		if _, ok := members[name]; has && !ok {
			candidates = append(candidates, name)
		}
	}
	slices.Sort(candidates)
	for _, peer := range peers {
		host, _, _ := net.SplitHostPort(peer.Address)
		if _, ok := members[peer.Address]; !ok && !slices.ContainsFunc(pods, func(p PodSight) bool { return p.IP == host }) {
			candidates = append(candidates, peer.Address)
		}
	}
	for _, name := range candidates[:min(len(candidates), max(0, len(peers)-len(members)))] {
		absent(name)
	}
}

// PeersAway returns World.Away and World.Kept of a StatefulSet with that many replicas. volumes has the ordinals of the servers with
// a volume. Peers without an ID count as the first servers.
func PeersAway(peers []server.RaftPeer, namespace, cluster string, replicas int, volumes map[int]bool) (away, kept int) {
	for ordinal := range server.MaxReplicas {
		is := func(p server.RaftPeer) bool { return p.ID == server.NodeID(namespace, cluster, ordinal) }
		if !slices.ContainsFunc(peers, is) && (named(peers) || ordinal >= len(peers)) {
			continue
		}
		if ordinal >= replicas {
			away++
		}
		if volumes[ordinal] {
			kept = ordinal + 1
		}
	}
	return away, kept
}

// Recoveries of a cluster that has lost its quorum.
const (
	// FromSurvivor makes a server that still has its data the only voter. The others join it.
	FromSurvivor = "survivor"
	// FromNothing lets servers start as an empty cluster if none of them has data.
	FromNothing = "nothing"
)
