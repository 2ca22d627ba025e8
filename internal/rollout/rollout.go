// Package rollout decides what to do next with the servers of a cluster, so that the quorum is never lost. Every decision is a pure
// function of what was observed. The package does not know how the servers are observed or acted on: see package lifecycle.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// World is the state from which a decision is made. It is read again before each decision.
type World struct {
	// Desired is the desired number of servers.
	Desired int
	// Replicas is the number that the StatefulSet asks for now.
	Replicas int
	// StatefulSet is its name, from which those of pods follow that do not exist yet.
	StatefulSet string `json:",omitempty"`
	// Observed says that the StatefulSet controller has seen the latest change.
	Observed bool
	// Servers by ordinal.
	Servers []Server
	// Leader is the name of the leader's pod, "" if unknown.
	Leader string
	// Unelected says that all servers run, and that none of them has ever known a leader.
	Unelected bool `json:",omitempty"`
	// Leaderless says that there has been no leader for longer than Patience, which is longer
	// than elections take. Only Run knows it.
	Leaderless bool          `json:"-"`
	Patience   time.Duration `json:"-"`
	// CanTransfer says that there is a token that may move the leadership.
	CanTransfer bool
	// Grow is the size to which volumes are to grow that have not been resized yet, "" if there are none.
	Grow string
	// Unsettled says what keeps the cluster from being Replicas healthy voters
	// with one leader, "" if nothing does.
	Unsettled string
	// Former are Raft peers that failed, and that no longer have a pod.
	Former []string
	// Peers is the number of Raft peers in the configuration of a server while there is no leader, Away the number of them beyond
	// the replicas of the StatefulSet, and Kept the number of servers up to the last peer with a volume. All are 0 unless a
	// server beyond the replicas has a volume.
	Peers int `json:",omitempty"`
	Away  int `json:",omitempty"`
	Kept  int `json:",omitempty"`
	// Autopilot lists what in the stored configuration of autopilot is not as declared.
	Autopilot []string
	// Gossip lists what is wrong with the gossip keys, and GossipStage is how far gossip is encrypted.
	Gossip      []string     `json:",omitempty"`
	GossipStage server.Stage `json:",omitempty"`
	// Certificates and TLSStage are the same for TLS.
	Certificates []string     `json:",omitempty"`
	TLSStage     server.Stage `json:",omitempty"`
	// ByOthers says that another tool or person restarts outdated servers.
	ByOthers bool
	// PauseAt is the number of servers that run the current template at which the rollout pauses if there are
	// others; 0 is never.
	PauseAt int
	// Takeover is nil unless the cluster adopts servers.
	Takeover *Takeover `json:",omitempty"`
	// Pending are the entries of the drift that are the rest of a change that was applied, for a plan.
	Pending []string `json:",omitempty"`
}

// Server is one server pod.
type Server struct {
	Name string
	// UID is that of the pod: an action on the server affects this pod and no later one.
	UID string `json:"-"`
	// Outdated says that the pod does not run the StatefulSet's current template, and InPlace that it can, without a new pod.
	Outdated bool
	InPlace  bool `json:",omitempty"`
	// Restarting says that it was asked to restart in place to the current template, and Restarted that it has, and serves.
	Restarting bool `json:",omitempty"`
	Restarted  bool `json:",omitempty"`
	// Unrouted says that it is ready, and that clients are not routed to it.
	Unrouted bool `json:",omitempty"`
	// Why says in a few words why it is outdated, "" if it is not.
	Why string `json:",omitempty"`
	// Stopped says that Consul does not run in the pod: it is pending, cannot
	// pull its image, or waits to be restarted after a crash.
	Stopped bool
	// Peer says that it is, or may be, a Raft peer.
	Peer bool
	// Template is the digest of the template that it was made from (server.TemplateHash), and Pod that of what cannot change without a
	// new pod (server.PodHash), "" if nothing can.
	Template string
	Pod      string `json:",omitempty"`
	// Leaving says that its pod is being deleted: it neither counts nor is deleted again.
	Leaving bool
	// Sick says that it is not ready, or not a healthy voter.
	Sick bool
	// Voting says that Raft counts it as a healthy voter, whether its pod is ready or not.
	Voting bool `json:",omitempty"`
	// Volume says what about its volume requires a restart, "" for nothing. Such a server is restarted like an
	// outdated one.
	Volume string
	// Rebuild says that it is to come back with a new, empty volume.
	Rebuild bool
	// Growing says how far its volume has grown, "" if it need not grow.
	Growing string
	// Stale says that its agent has not loaded the current configuration. For an outdated server, this does not
	// count.
	Stale bool
	// LastIndex is the last Raft log index, 0 if unknown.
	LastIndex uint64
}

// Settled reports whether its pod serves: its removal waits for the disruption budget.
func (s Server) Settled() bool { return !s.Stopped && !s.Sick }

// Named is the server of a name.
func (w World) Named(name string) Server {
	if i := slices.IndexFunc(w.Servers, func(s Server) bool { return s.Name == name }); i >= 0 {
		return w.Servers[i]
	}
	return Server{Name: name}
}

// due reports whether a server has to be restarted.
func (s Server) due() bool { return s.Outdated && !s.Restarting || s.Volume != "" }

// runsChange reports whether a server runs, or may run, the current template of the StatefulSet.
func (s Server) runsChange() bool { return !s.Outdated || s.Restarting }

// Drift lists what in Consul is not as declared, and what will happen to it.
func (w World) Drift() []string {
	var out []string
	if n := w.takenAway(); n > 0 {
		out = append(
			out,
			fmt.Sprintf(
				"Servers: %d of %d Raft peers have a pod, which is not a quorum; those with volumes will be brought back",
				w.Peers-w.Away,
				w.Peers,
			),
		)
	}
	for _, s := range w.Servers {
		if s.Unrouted {
			out = append(out, "Server "+s.Name+": is out of the client Service, clients will be routed to it again")
		}
		if s.Stale && !s.Outdated {
			out = append(out, "Server "+s.Name+": has not loaded the current configuration, will reload")
		}
		switch {
		case s.Rebuild:
			out = append(out, "Server "+s.Name+": "+s.Volume+", will restart with a new volume")
		case s.Volume != "":
			out = append(out, "Server "+s.Name+": "+s.Volume+", will restart")
		case s.Growing != "":
			out = append(out, "Server "+s.Name+": "+s.Growing)
		}
	}
	for _, a := range w.Autopilot {
		out = append(out, "Autopilot: "+a)
	}
	for _, g := range w.Gossip {
		out = append(out, "Gossip: "+g)
	}
	for _, c := range w.Certificates {
		out = append(out, "TLS: "+c)
	}
	return out
}

// Action is the next thing to do.
type Action struct {
	Verb Verb
	// On is what the action affects, as its Verb says.
	On string
	// Count is the number of servers to ask for (Scale).
	Count int
	// Without is the Raft peer that is removed before its pod, if the action removes the pod (Scale, Retire).
	Without string
	// Why is the reason that people see, if the rule alone does not tell it.
	Why string
}

// Verb is what an action does, in the word that is the reason of its Event.
type Verb string

const (
	// Done says that nothing is left to do.
	Done Verb = "RolloutDone"
	// CreateGossipKeys creates the gossip keys. Plans show it, as the next three.
	CreateGossipKeys Verb = "GossipKeysCreated"
	// DeleteGossipKeys deletes the gossip keys.
	DeleteGossipKeys Verb = "GossipKeysDeleted"
	// CreateCertificates creates the certificates.
	CreateCertificates Verb = "CertificatesCreated"
	// RemoveCertificates deletes the certificates.
	RemoveCertificates Verb = "CertificatesDeleted"
	// Snapshot takes a snapshot before an upgrade.
	Snapshot Verb = "SnapshotTaken"
	// Restore replaces all that the servers have by the snapshot On.
	Restore Verb = "SnapshotRestored"
	// Recover recovers the quorum from On.
	Recover Verb = "QuorumRecovering"
	// Restart restarts the server On with a new pod.
	Restart Verb = "ServerRestarting"
	// RestartInPlace restarts the server On in its pod.
	RestartInPlace Verb = "ServerRestartingInPlace"
	// Route routes clients to the server On again. If it has restarted in place, this ends the restart.
	Route Verb = "ServerRouted"
	// Rebuild restarts the server On with a new pod and a new, empty volume.
	Rebuild Verb = "ServerRebuilding"
	// Grow lets the volumes grow to the size On.
	Grow Verb = "VolumesGrowing"
	// Transfer makes the server On the leader.
	Transfer Verb = "LeadershipTransferred"
	// Reload makes the agent of the server On reload its configuration.
	Reload Verb = "ServerReloaded"
	// Remove removes the Raft peer On.
	Remove Verb = "RaftPeerRemoved"
	// Scale asks for Count servers.
	Scale Verb = "Scaling"
	// Add adds the server On, in an adoption.
	Add Verb = "ServerAdded"
	// Retire removes the server On, in an adoption.
	Retire Verb = "ServerRetiring"
	// Switch routes the Service On to the servers that stay, in an adoption.
	Switch Verb = "ServiceSwitched"
	// Pause leaves the servers On for the next apply.
	Pause Verb = "RolloutPaused"
	// Wait waits for On.
	Wait Verb = "Waiting"
)

// phrases say what a Verb does to On.
var phrases = map[Verb]string{
	Done: "done",

	CreateGossipKeys:   "create the gossip keys",
	DeleteGossipKeys:   "delete the gossip keys",
	CreateCertificates: "create the certificates",
	RemoveCertificates: "delete the certificates",

	Snapshot:       "take a snapshot",
	Restore:        "restore the snapshot %s",
	Recover:        "recover the quorum from %s",
	Restart:        "restart %s with a new pod",
	RestartInPlace: "restart %s in place",
	Route:          "route clients to %s",
	Rebuild:        "restart %s with a new volume",
	Grow:           "grow the volumes to %s",
	Transfer:       "transfer the leadership to %s",
	Reload:         "reload %s",
	Remove:         "remove the Raft peer %s",
	Scale:          "scale to %s servers",
	Add:            "add %s",
	Retire:         "retire %s",
	Switch:         "switch Service %s",
	Pause:          "pause before %s",
	Wait:           "wait: %s",
}

// String says what an action does, and why.
func (a Action) String() string {
	on := a.On
	if a.Verb == Scale {
		on = strconv.Itoa(a.Count)
	}
	text := strings.ReplaceAll(phrases[a.Verb], "%s", on)
	if a.Why != "" {
		text += " (" + a.Why + ")"
	}
	return text
}

// Next decides.
//
//   - Volumes grow before anything else: that restarts no server, and a full volume may be what the change
//     repairs.
//   - A server that was restarted in place is routed to as soon as it serves, and so is one that a killed provider left unrouted.
//   - An outdated server in which Consul does not run is restarted at once: that does not affect the quorum,
//     and may be what repairs it.
//   - A server restarts in place if the change allows it and the server is healthy, and otherwise with a new pod.
//   - An outdated server that runs and is not healthy is restarted first as well, if every other server is a
//     healthy voter, ready or not: it may be what the change repairs, and while two servers are away, a third
//     one must not be restarted. If it is the leader, the leadership is transferred before.
//   - So is one of several outdated servers that run and do not vote, if the others are a quorum without them: each may be what the
//     change repairs, and none of them counts.
//   - An outdated server that is not healthy and the only one is restarted: no other server answers.
//   - If no leader was ever elected, there is no quorum to keep: an outdated server that is not healthy is
//     restarted.
//   - If there has been no leader for a long time, and every outdated server is unhealthy, one is restarted,
//     and the next one when that one runs and there is still no leader. There is no quorum that this could
//     lose.
//   - An unhealthy server that runs the current template but not the current configuration reloads first, if
//     every other one is healthy: a reload may have made it unhealthy.
//   - A surplus server that is not a Raft peer, such as one that no node has room for, is removed at once for
//     the same reason.
//   - A server gets a new volume only if every other one is a healthy voter, and if there are at least two of
//     those: they have the data.
//   - If all servers were taken away, they are brought back together. So are servers that were taken away while
//     they were Raft peers, if the others cannot be a quorum without them and their volumes were kept: nothing
//     is lost.
//   - A Raft peer that is left of a server that was taken away, and that did not leave by itself, is removed:
//     autopilot does not remove it if fewer voters would be left than it must keep.
//   - Otherwise nothing is touched until every server is a healthy voter.
//   - If there are one or two servers and more are declared, they are restarted only after others have been
//     added: the others answer meanwhile, and have the data.
//   - While volumes grow, no server is restarted: a server may have to be restarted for its file system to
//     grow, and one restart is enough.
//   - Then one outdated server at a time: followers before the leader, the one
//     furthest behind first.
//   - The leader transfers the leadership to an updated voter and is restarted last.
//   - A rollout that is to pause does so before the server after the last one that may be restarted.
//   - Settings that a running agent can load are loaded by a reload, one server at a time and the leader last:
//     a configuration that an agent refuses stops at one follower.
//   - Only then is the number of servers changed, by one at a time, so that Raft never adds or removes two
//     peers at once. The highest ordinal is removed first; if it is the leader, the leadership is transferred
//     before. It is removed from the peers before its pod is deleted: if one of two peers died while it leaves,
//     the quorum would be lost.
func Next(w World) Action {
	if w.Takeover != nil {
		return nextTakeover(w)
	}
	if !w.Observed {
		return Action{Verb: Wait, On: "the StatefulSet controller to see the change"}
	}
	if w.Grow != "" {
		return Action{Verb: Grow, On: w.Grow}
	}
	var outdated []Server
	for _, s := range w.Servers {
		if s.Rebuild && len(w.Servers) < minRebuild {
			s.Volume, s.Rebuild = "", false
		}
		if s.due() && !w.ByOthers {
			outdated = append(outdated, s)
		}
	}
	for _, s := range w.Servers {
		if s.Restarted || s.Unrouted && !s.Restarting {
			return Action{Verb: Route, On: s.Name}
		}
	}
	for _, s := range outdated {
		if a, now := restartNow(w, s); now {
			return a
		}
	}
	if s := w.Named(w.Leader); s.Sick && s.Voting && s.due() && !w.ByOthers && othersWell(w, s) {
		if to := nextLeader(w); to != "" {
			return Action{Verb: Transfer, On: to, Why: s.Name + " is not healthy"}
		}
		return s.restart() // its graceful leave transfers the leadership
	}
	if s := stranded(w, outdated); s != "" {
		return Action{Verb: Restart, On: s, Why: "there is no leader, and every outdated server is unhealthy"}
	}
	for _, s := range w.Servers {
		if s.Stale && s.Sick && !s.Outdated && !s.Stopped && !s.Leaving && othersWell(w, s) {
			return Action{Verb: Reload, On: s.Name, Why: "it is not healthy"}
		}
	}
	if w.Replicas == 0 {
		return Action{Verb: Scale, Count: w.Desired} // their volumes have the data
	}
	if last := len(w.Servers) - 1; w.Replicas > w.Desired && len(w.Servers) == w.Replicas && !w.Servers[last].Peer {
		return Action{Verb: Scale, Count: w.Replicas - 1}
	}
	if n := w.takenAway(); n > 0 {
		return Action{Verb: Scale, Count: n}
	}
	if len(w.Former) > 0 && len(w.Servers) == w.Replicas {
		return Action{Verb: Remove, On: w.Former[0]}
	}
	if w.Unsettled != "" {
		return Action{Verb: Wait, On: w.Unsettled}
	}
	if i := slices.IndexFunc(w.Servers, func(s Server) bool { return s.Restarting }); i >= 0 {
		return Action{Verb: Wait, On: w.Servers[i].Name + " to restart in place"}
	}
	if m := growing(w); m != "" {
		return Action{Verb: Wait, On: m}
	}
	if len(outdated) > 0 && w.Replicas < min(w.Desired, minRebuild) {
		return Action{Verb: Scale, Count: w.Replicas + 1, Why: "the others answer while " + outdated[0].Name + " restarts"}
	}
	if len(outdated) > 0 && w.PauseAt > 0 && len(w.Servers)-len(outdated) >= w.PauseAt {
		return Action{Verb: Pause, On: names(outdated)}
	}
	if len(outdated) > 0 && w.Leader == "" {
		return Action{Verb: Wait, On: "a leader"} // the leader goes last, so it must be known
	}
	if len(outdated) > 0 {
		slices.SortStableFunc(outdated, func(a, b Server) int { return cmp.Compare(a.LastIndex, b.LastIndex) })
		if i := slices.IndexFunc(outdated, func(s Server) bool { return s.Name != w.Leader }); i >= 0 {
			return outdated[i].restart()
		}
		if to := nextLeader(w); to != "" {
			return Action{Verb: Transfer, On: to}
		}
		// A single server, or the leadership cannot be transferred: a leader that gets a new pod does that as it leaves.
		return outdated[0].restart()
	}
	if s := stale(w); s != "" {
		return Action{Verb: Reload, On: s}
	}
	switch {
	case w.Replicas < w.Desired:
		return Action{Verb: Scale, Count: w.Replicas + 1}
	case w.Replicas > w.Desired:
		last := len(w.Servers) - 1
		if last < 0 || len(w.Servers) != w.Replicas { // the last pod is not that of the server to remove
			return Action{Verb: Scale, Count: w.Replicas - 1}
		}
		if w.CanTransfer && last > 0 && w.Servers[last].Name == w.Leader {
			return Action{Verb: Transfer, On: w.Servers[0].Name}
		}
		return Action{Verb: Scale, Count: w.Replicas - 1, Without: w.without(w.Servers[last])}
	}
	if !w.ByOthers && slices.ContainsFunc(w.Servers, func(s Server) bool { return s.Rebuild }) {
		return Action{Verb: Wait, On: "a third server: with fewer, no other server would have the data of one that is rebuilt"}
	}
	return Action{Verb: Done}
}

// restartNow decides whether an outdated server is restarted before every server is a healthy voter.
func restartNow(w World, s Server) (a Action, now bool) {
	switch {
	case s.Leaving:
		return Action{}, false
	case (s.Stopped || s.Sick) && w.Leader != "" && w.Leader != s.Name && othersWell(w, s):
		return s.restart(), true
	case s.Stopped && (s.Outdated || !s.Rebuild), // its volume is kept for now
		s.Sick && !s.Voting && w.Leader != "" && w.Leader != s.Name && quorumWell(w, s):
		return Action{Verb: Restart, On: s.Name, Why: s.why()}, true
	case s.Sick && w.Replicas == 1 && len(w.Servers) == 1:
		return Action{Verb: Restart, On: s.Name, Why: "it is the only server, and not healthy"}, true
	case s.Sick && s.Outdated && w.Unelected:
		return Action{Verb: Restart, On: s.Name, Why: "no leader was ever elected"}, true
	default:
		return Action{}, false
	}
}

// takenAway is the number of servers to ask for so that servers come back that were taken away while they were Raft peers, if
// the others cannot be a quorum without them; 0 if there are none.
func (w World) takenAway() int {
	if w.Leader != "" || len(w.Servers) != w.Replicas || w.Peers-w.Away >= w.Peers/2+1 || w.Kept <= w.Replicas {
		return 0
	}
	return w.Kept
}

// without is the name of a server as a Raft peer, if the peer can be removed before the pod is deleted.
func (w World) without(s Server) string {
	if !w.CanTransfer || !s.Peer || s.Name == w.Leader {
		return ""
	}
	return s.Name
}

// minRebuild is how many servers there must be for one to lose its volume: the others are a quorum of all, and
// have every acknowledged write.
const minRebuild = 3

// restart is how a server is restarted, and why.
func (s Server) restart() Action {
	a := Action{Verb: Restart, On: s.Name, Why: s.why()}
	switch {
	case s.Rebuild:
		a.Verb = Rebuild
	case s.InPlace && s.Settled() && s.Volume == "":
		a.Verb = RestartInPlace
	}
	return a
}

// why lists the reasons for which a server is restarted.
func (s Server) why() string {
	if s.Why != "" && s.Volume != "" {
		return s.Why + ", " + s.Volume
	}
	return s.Why + s.Volume
}

// growing lists the volumes that have not grown yet, "" if all have.
func growing(w World) string {
	var all []string
	for _, s := range w.Servers {
		if s.Growing != "" {
			all = append(all, s.Name+": "+s.Growing)
		}
	}
	return strings.Join(all, ", ")
}

// othersWell reports whether every server except one is a healthy voter, ready or not, and none is missing.
func othersWell(w World, but Server) bool {
	return len(w.Servers) == w.Replicas &&
		!slices.ContainsFunc(w.Servers, func(s Server) bool { return s.Name != but.Name && !s.well() })
}

// quorumWell reports whether a majority of all servers are well without a server. None may be missing, stopped, or leaving: it may come
// back, or has just been restarted.
func quorumWell(w World, but Server) bool {
	well := 0
	for _, s := range w.Servers {
		switch {
		case s.Leaving || s.Stopped || s.away():
			return false
		case s.Name != but.Name && s.well():
			well++
		}
	}
	return len(w.Servers) == w.Replicas && well >= w.Replicas/2+1
}

// well reports whether a server does its part in Raft.
func (s Server) well() bool { return !s.Stopped && !s.Leaving && !s.away() && (!s.Sick || s.Voting) }

// away reports whether a server restarts in place, and is not known to be back. For some seconds, neither its pod nor autopilot shows that.
func (s Server) away() bool { return s.Restarting && !s.Restarted }

// stranded is the outdated server to restart if there has been no leader for a long time, "" if no server is to restart:
// every server must run, so that the server that was restarted before has had its chance, and no outdated
// server may serve.
func stranded(w World, outdated []Server) string {
	if !w.Leaderless || w.Leader != "" || len(w.Servers) != w.Replicas {
		return ""
	}
	if slices.ContainsFunc(w.Servers, func(s Server) bool { return s.Stopped || s.Leaving || s.away() || (s.due() && !s.Sick) }) {
		return ""
	}
	if i := slices.IndexFunc(outdated, func(s Server) bool { return s.Outdated }); i >= 0 {
		return outdated[i].Name
	}
	return ""
}

// stale is the next server whose agent has to reload its configuration, "" if no agent has to.
func stale(w World) string {
	var leader string
	for _, s := range w.Servers {
		switch {
		case !s.Stale, s.Outdated:
		case s.Name == w.Leader:
			leader = s.Name
		default:
			return s.Name
		}
	}
	return leader
}

func names(servers []Server) string {
	var all []string
	for _, s := range servers {
		all = append(all, s.Name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// nextLeader is the server to which the leadership moves before the leader restarts: the updated server whose log
// goes furthest, or any other if none is updated yet because the leader is not healthy.
func nextLeader(w World) string {
	others := slices.DeleteFunc(slices.Clone(w.Servers), func(s Server) bool { return !s.well() || s.Name == w.Leader })
	updated := slices.DeleteFunc(slices.Clone(others), Server.due)
	if len(updated) == 0 && w.Named(w.Leader).Sick {
		updated = others
	}
	if len(updated) == 0 || !w.CanTransfer {
		return ""
	}
	return slices.MaxFunc(updated, func(a, b Server) int {
		return cmp.Or(cmp.Compare(a.LastIndex, b.LastIndex), -strings.Compare(a.Name, b.Name))
	}).Name
}
