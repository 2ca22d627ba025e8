// Package rollout carries a change of the servers out, one server at a time,
// without losing the quorum. What to do next is decided by a pure function of
// what is seen; Run looks, decides and acts until nothing is left to do.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// TLSDrift begins what Drift says of certificates.
const TLSDrift = "TLS: "

// World is what a decision is made from. It is read anew before each.
type World struct {
	// Desired is the number of servers that there shall be.
	Desired int
	// Replicas is the number that the StatefulSet asks for now.
	Replicas int
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
	// CanTransfer says that there is a token which may move the leadership.
	CanTransfer bool
	// Grow is the size to which volumes shall grow that have not been told to yet, ""
	// if there are none.
	Grow string
	// Unsettled says what keeps the cluster from being Replicas healthy voters
	// with one leader, "" if nothing does.
	Unsettled string
	// Former are Raft peers that failed, and that no pod belongs to any more.
	Former []string
	// Peers is the number of Raft peers in the configuration of a server while there is no leader, Away the number of them beyond
	// the replicas of the StatefulSet, and Kept the number of servers up to the last peer with a volume. All are 0 unless a
	// server beyond the replicas has a volume.
	Peers int `json:",omitempty"`
	Away  int `json:",omitempty"`
	Kept  int `json:",omitempty"`
	// Autopilot says what of autopilot's stored configuration is not as declared.
	Autopilot []string
	// Gossip says what of the gossip keys is not as it shall be, and GossipStage how far
	// gossip is encrypted.
	Gossip      []string     `json:",omitempty"`
	GossipStage server.Stage `json:",omitempty"`
	// Certificates and TLSStage are the same of TLS.
	Certificates []string     `json:",omitempty"`
	TLSStage     server.Stage `json:",omitempty"`
	// ByOthers says that outdated servers are restarted by somebody else.
	ByOthers bool
	// PauseAt is the number of servers that run the current template at which the
	// roll pauses while others do not; 0 is never.
	PauseAt int
	// Takeover is nil unless the servers take over from others.
	Takeover *Takeover `json:",omitempty"`
	// Pending is State.Pending, for a plan.
	Pending []string `json:",omitempty"`
}

// Server is one server pod.
type Server struct {
	Name string
	// UID is that of the pod: what is done to the server is done to this pod and no later one.
	UID types.UID `json:"-"`
	// Outdated says that the pod does not run the StatefulSet's current template.
	Outdated bool
	// Stopped says that Consul does not run in the pod: it is pending, cannot
	// pull its image, or waits to be restarted after a crash.
	Stopped bool
	// Peer says that it is, or may be, a Raft peer.
	Peer bool
	// Template is the digest of the template that it was made from (server.TemplateHash).
	Template string
	// Leaving says that its pod is on its way out: neither to be counted nor to be
	// hurried.
	Leaving bool
	// Sick says that it is not ready, or no healthy voter.
	Sick bool
	// Voting says that Raft counts it as a healthy voter, whether its pod is ready or not.
	Voting bool `json:",omitempty"`
	// Volume says what of its volume takes a restart, "" for nothing. Such a server
	// is restarted as an outdated one is.
	Volume string
	// Rebuild says that it shall come back with a new, empty volume.
	Rebuild bool
	// Growing says how far its volume has grown, "" if it need not grow.
	Growing string
	// Stale says that its agent has not loaded the current configuration. That of an
	// outdated server does not count.
	Stale bool
	// LastIndex is the last Raft log index, 0 if unknown.
	LastIndex uint64
}

// settled reports whether its pod serves: removing it waits for the disruption budget.
func (s Server) settled() bool { return !s.Stopped && !s.Sick }

// named is the server of a name.
func (w World) named(name string) Server {
	if i := slices.IndexFunc(w.Servers, func(s Server) bool { return s.Name == name }); i >= 0 {
		return w.Servers[i]
	}
	return Server{Name: name}
}

// due reports whether a server is to be restarted.
func (s Server) due() bool { return s.Outdated || s.Volume != "" }

// Drift names what Consul has otherwise than declared, and what becomes of it.
func (w World) Drift() []string {
	var out []string
	if n := w.takenAway(); n > 0 {
		out = append(out, fmt.Sprintf("Servers: %d of %d Raft peers have a pod, which is no quorum; those with volumes will be brought back", w.Peers-w.Away, w.Peers))
	}
	for _, s := range w.Servers {
		if s.Stale && !s.Outdated {
			out = append(out, "Server "+s.Name+": has not loaded the present configuration, will reload")
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
		out = append(out, TLSDrift+c)
	}
	return out
}

// Action is the next thing to do. Exactly one field is set, besides Why, and Without beside Scale or Retire.
type Action struct {
	// Why is the reason, where the rule alone does not say it.
	Why string
	// Done says that nothing is left to do.
	Done bool
	// Snapshot says that a snapshot is taken, before anything else.
	Snapshot bool
	// Restore is the snapshot that has replaced all that the servers had.
	Restore string
	// Recover is the way back from the loss of the quorum.
	Recover string
	// Wait says what to wait for.
	Wait string
	// Restart is the pod to restart.
	Restart string
	// Rebuild is the pod to restart with a new, empty volume.
	Rebuild string
	// Grow is the size to which volumes shall grow.
	Grow string
	// Transfer is the pod that shall become the leader.
	Transfer string
	// Reload is the pod whose agent shall load its configuration anew.
	Reload string
	// Remove is the Raft peer to remove.
	Remove string
	// Scale is the number of servers to ask for.
	Scale int
	// Without is the Raft peer that is removed before the pod of it goes, where Scale or Retire takes it away.
	Without string
	// Add is the server to add, Retire the one to take away, and Switch the Service to
	// lead to the servers that stay, in a take-over.
	Add, Retire, Switch string
	// Pause says that the rest waits for the next apply: the servers that do.
	Pause string
}

// String says what an action does.
func (a Action) String() string {
	_, text := a.words()
	if a.Why != "" {
		text += " (" + a.Why + ")"
	}
	return text
}

// words are an action in one word, as Events have it, and in several.
func (a Action) words() (reason, text string) {
	switch {
	case a.Done:
		return "RolloutDone", "done"
	case a.Snapshot:
		return "SnapshotTaken", "take a snapshot"
	case a.Restore != "":
		return "SnapshotRestored", "restore the snapshot " + a.Restore
	case a.Recover != "":
		return "QuorumRecovering", "recover the quorum from " + a.Recover
	case a.Restart != "":
		return "ServerRestarting", "restart " + a.Restart
	case a.Rebuild != "":
		return "ServerRebuilding", "restart " + a.Rebuild + " with a new volume"
	case a.Grow != "":
		return "VolumesGrowing", "grow the volumes to " + a.Grow
	case a.Transfer != "":
		return "LeadershipTransferred", "transfer the leadership to " + a.Transfer
	case a.Reload != "":
		return "ServerReloaded", "reload " + a.Reload
	case a.Remove != "":
		return "RaftPeerRemoved", "remove the Raft peer " + a.Remove
	case a.Scale != 0:
		return "Scaling", fmt.Sprintf("scale to %d servers", a.Scale)
	case a.Add != "":
		return "ServerAdded", "add " + a.Add
	case a.Retire != "":
		return "ServerRetiring", "retire " + a.Retire
	case a.Switch != "":
		return "ServiceSwitched", "switch Service " + a.Switch
	case a.Pause != "":
		return "RolloutPaused", "pause before " + a.Pause
	default:
		return "Waiting", "wait: " + a.Wait
	}
}

// Next decides.
//
//   - Volumes that shall grow are told to before anything else: that restarts nobody,
//     and a full one may be what the change repairs.
//   - An outdated server in which Consul does not run is restarted at once: that
//     takes nothing from the quorum, and may be what repairs it.
//   - An outdated server that runs and is sick goes first as well, if every other
//     one is a healthy voter, ready or not: it may be what the change repairs, and
//     while two are away a third must not go. If it leads, the leadership moves off
//     it before.
//   - An outdated server that is sick and the only one restarts: nobody else answers.
//   - Where no leader was ever elected there is no quorum to keep: an outdated server
//     that is sick restarts.
//   - Where there has been no leader for a long time, and every outdated server is
//     sick, one restarts, and the next one when it runs and that has not helped. Raft
//     keeps nothing alive that this could take away.
//   - A sick server that runs the current template but not the current configuration
//     reloads first, if every other one is well: a reload may have made it sick.
//   - A server too many that is no Raft peer, such as one that no node has room for,
//     is removed at once for the same reason.
//   - A server is given a new volume only where every other one is a healthy voter,
//     and where there are at least two of those: they have the data.
//   - Servers that were all taken away are brought back together. So are those that
//     were taken away while they were Raft peers, if the others cannot be a quorum
//     without them and their volumes were kept: nothing is lost.
//   - A Raft peer that is left of a server which was taken away, and did not leave
//     by itself, is removed: autopilot does not where that would leave fewer voters
//     than it was told to keep.
//   - Otherwise nothing is touched until every server is a healthy voter.
//   - One server, or two, restart only after more have been added, if more are declared:
//     then others answer meanwhile, and they have the data.
//   - While volumes grow nobody is restarted: it may turn out that a server has to be
//     for its file system to grow, and once is enough.
//   - Then one outdated server at a time: followers before the leader, the one
//     furthest behind first.
//   - The leader hands over to an updated voter and goes last.
//   - A roll that shall pause does so before the first server too many.
//   - What a running agent can load it loads by a reload, one at a time and the
//     leader last: a configuration that an agent refuses stops at one follower.
//   - Only then is the number of servers changed, by one at a time, so that Raft
//     never adds or removes two peers at once. The highest ordinal goes first; if
//     it leads, the leadership moves off it before. It is removed from the peers
//     before its pod goes: of two peers, one that dies on its way out would take the
//     quorum with it.
func Next(w World) Action {
	if w.Takeover != nil {
		return nextTakeover(w)
	}
	if !w.Observed {
		return Action{Wait: "the StatefulSet controller to see the change"}
	}
	if w.Grow != "" {
		return Action{Grow: w.Grow}
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
	for _, s := range outdated {
		switch {
		case s.Leaving:
		case (s.Stopped || s.Sick) && w.Leader != "" && w.Leader != s.Name && othersWell(w, s):
			return s.restart()
		case s.Stopped && (s.Outdated || !s.Rebuild): // its volume stays for now
			return Action{Restart: s.Name}
		case s.Sick && w.Replicas == 1 && len(w.Servers) == 1:
			return Action{Restart: s.Name, Why: "it is the only server, and not healthy"}
		case s.Sick && s.Outdated && w.Unelected:
			return Action{Restart: s.Name, Why: "no leader was ever elected"}
		}
	}
	if s := w.named(w.Leader); s.Sick && s.Voting && s.due() && !w.ByOthers && othersWell(w, s) {
		if to := heir(w); to != "" {
			return Action{Transfer: to, Why: s.Name + " is not healthy"}
		}
		return s.restart() // its graceful leave moves the leadership
	}
	if s := stranded(w, outdated); s != "" {
		return Action{Restart: s, Why: "there is no leader, and every outdated server is unhealthy"}
	}
	for _, s := range w.Servers {
		if s.Stale && s.Sick && !s.Outdated && !s.Stopped && !s.Leaving && othersWell(w, s) {
			return Action{Reload: s.Name, Why: "it is not healthy"}
		}
	}
	if w.Replicas == 0 {
		return Action{Scale: w.Desired} // their volumes have the data
	}
	if last := len(w.Servers) - 1; w.Replicas > w.Desired && len(w.Servers) == w.Replicas && !w.Servers[last].Peer {
		return Action{Scale: w.Replicas - 1}
	}
	if n := w.takenAway(); n > 0 {
		return Action{Scale: n}
	}
	if len(w.Former) > 0 && len(w.Servers) == w.Replicas {
		return Action{Remove: w.Former[0]}
	}
	if w.Unsettled != "" {
		return Action{Wait: w.Unsettled}
	}
	if m := growing(w); m != "" {
		return Action{Wait: m}
	}
	if len(outdated) > 0 && w.Replicas < min(w.Desired, minRebuild) {
		return Action{Scale: w.Replicas + 1, Why: "the others answer while " + outdated[0].Name + " restarts"}
	}
	if len(outdated) > 0 && w.PauseAt > 0 && len(w.Servers)-len(outdated) >= w.PauseAt {
		return Action{Pause: names(outdated)}
	}
	if len(outdated) > 0 && w.Leader == "" {
		return Action{Wait: "a leader"} // the leader goes last, so it must be known
	}
	if len(outdated) > 0 {
		slices.SortStableFunc(outdated, func(a, b Server) int { return cmp.Compare(a.LastIndex, b.LastIndex) })
		if i := slices.IndexFunc(outdated, func(s Server) bool { return s.Name != w.Leader }); i >= 0 {
			return outdated[i].restart()
		}
		if to := heir(w); to != "" {
			return Action{Transfer: to}
		}
		// A single server, or leadership cannot be moved: its graceful leave does.
		return outdated[0].restart()
	}
	if s := stale(w); s != "" {
		return Action{Reload: s}
	}
	switch {
	case w.Replicas < w.Desired:
		return Action{Scale: w.Replicas + 1}
	case w.Replicas > w.Desired:
		last := len(w.Servers) - 1
		if last < 0 || len(w.Servers) != w.Replicas { // the last pod is not that of the server that goes
			return Action{Scale: w.Replicas - 1}
		}
		if w.CanTransfer && last > 0 && w.Servers[last].Name == w.Leader {
			return Action{Transfer: w.Servers[0].Name}
		}
		return Action{Scale: w.Replicas - 1, Without: w.without(w.Servers[last])}
	}
	if !w.ByOthers && slices.ContainsFunc(w.Servers, func(s Server) bool { return s.Rebuild }) {
		return Action{Wait: "a third server: fewer cannot be rebuilt, because nobody else would have their data"}
	}
	return Action{Done: true}
}

// takenAway is the number of servers to ask for so that those come back which were taken away while they were Raft peers, if the
// others cannot be a quorum without them; 0 if there are none.
func (w World) takenAway() int {
	if w.Leader != "" || len(w.Servers) != w.Replicas || w.Peers-w.Away >= w.Peers/2+1 || w.Kept <= w.Replicas {
		return 0
	}
	return w.Kept
}

// without is the Raft peer that a server is, if it can be removed before the pod goes.
func (w World) without(s Server) string {
	if !w.CanTransfer || !s.Peer || s.Name == w.Leader {
		return ""
	}
	return s.Name
}

// minRebuild is how many servers there must be for one to lose its volume: the
// others are a quorum of all, and have what was acknowledged.
const minRebuild = 3

// restart is how a server is restarted.
func (s Server) restart() Action {
	if s.Rebuild {
		return Action{Rebuild: s.Name}
	}
	return Action{Restart: s.Name}
}

// growing says which volumes have not grown yet, "" if all have.
func growing(w World) string {
	var all []string
	for _, s := range w.Servers {
		if s.Growing != "" {
			all = append(all, s.Name+": "+s.Growing)
		}
	}
	return strings.Join(all, ", ")
}

// othersWell reports whether every server but one is a healthy voter, ready or not, and there
// are all of them.
func othersWell(w World, but Server) bool {
	return len(w.Servers) == w.Replicas &&
		!slices.ContainsFunc(w.Servers, func(s Server) bool { return s.Name != but.Name && !s.well() })
}

// well reports whether a server does its part in Raft.
func (s Server) well() bool { return !s.Stopped && !s.Leaving && (!s.Sick || s.Voting) }

// stranded is the outdated server to restart where there has been no leader for a long time, ""
// if there is none: every server runs, so that the one before has had its chance, and no
// outdated one serves.
func stranded(w World, outdated []Server) string {
	if !w.Leaderless || w.Leader != "" || len(w.Servers) != w.Replicas {
		return ""
	}
	if slices.ContainsFunc(w.Servers, func(s Server) bool { return s.Stopped || s.Leaving || (s.due() && !s.Sick) }) {
		return ""
	}
	if i := slices.IndexFunc(outdated, func(s Server) bool { return s.Outdated }); i >= 0 {
		return outdated[i].Name
	}
	return ""
}

// stale is the next server whose agent loads its configuration anew, "" if none
// has to.
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

// heir is the server to which the leadership moves before the leader restarts: the updated one
// that is furthest ahead, or any other where none is updated yet because the leader is sick.
func heir(w World) string {
	others := slices.DeleteFunc(slices.Clone(w.Servers), func(s Server) bool { return !s.well() || s.Name == w.Leader })
	updated := slices.DeleteFunc(slices.Clone(others), Server.due)
	if len(updated) == 0 && w.named(w.Leader).Sick {
		updated = others
	}
	if len(updated) == 0 || !w.CanTransfer {
		return ""
	}
	return slices.MaxFunc(updated, func(a, b Server) int {
		return cmp.Or(cmp.Compare(a.LastIndex, b.LastIndex), -strings.Compare(a.Name, b.Name))
	}).Name
}
