package rollout

import (
	"slices"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Plan is what a change will do, as far as this is known before it runs.
type Plan struct {
	Changes []server.Change
	// Steps are the actions of the rollout in their order, or only a snapshot if the servers were not seen. The
	// servers may change meanwhile: each step is decided again when it is due.
	Steps []Action
	// Restarts is how many servers restart, in the largest of the Rolls.
	Restarts int
	// Rolls is the number of rollouts, one after the other (server.Stages).
	Rolls int
	// Alone says that a server restarts while it is the only one.
	Alone bool
}

// NewPlan says what a change from one spec to another does to the servers of a world; w is nil if they were not
// seen. It asks Next, as Run does, and assumes that every action succeeds.
func NewPlan(w *World, before, after server.Spec) Plan {
	p := Plan{Changes: server.Changes(before, after)}
	if w != nil {
		before.Gossip.Stage, before.TLS.Stage = w.GossipStage, w.TLSStage // which may be half-way
	}
	stages := server.Stages(before, after)
	has := func(e server.Effect) bool {
		return slices.ContainsFunc(p.Changes, func(c server.Change) bool { return c.Effect == e })
	}
	all, reload, rebuild := has(server.Restart), has(server.Reload), has(server.Rebuild)
	if TakesSnapshot(before, after) {
		p.Steps = []Action{{Verb: Snapshot}}
	}
	if w == nil {
		if (all || rebuild) && after.Update.Strategy != server.OnDelete {
			p.Restarts, p.Rolls = int(before.Replicas), 1
			for i := range stages[1:] {
				if RestartsBetween(stages[i], stages[i+1]) {
					p.Rolls++
				}
			}
			if after.Update.PauseAfter > 0 {
				p.Restarts, p.Rolls = min(p.Restarts, int(after.Update.PauseAfter)), 1
			}
			p.Alone = before.Replicas == 1 && after.Replicas == 1
		}
		return p
	}
	if w.Takeover != nil {
		next := *w
		next.Desired = int(after.Replicas)
		p.Steps = previewTakeover(next)
		return p
	}
	next := *w
	next.Servers = slices.Clone(w.Servers)
	next.Desired = int(after.Replicas)
	next.ByOthers = after.Update.Strategy == server.OnDelete
	for i := range next.Servers {
		if all { // except those that already run it, for example if a change is reverted
			next.Servers[i].Outdated = next.Servers[i].Template != server.TemplateHash(stages[0])
			next.Servers[i].Why = server.RestartReasonOf(before, stages[0])
		}
		next.Servers[i].Stale = next.Servers[i].Stale || reload
	}
	planVolumes(&next, after.Storage, has(server.Resize), rebuild)
	next.PauseAt = PauseAt(next, after.Update)
	p.Alone = len(w.Servers) == 1 // until servers are added
	for i := range stages {
		if i > 0 { // the next stage affects every server
			restarts := RestartsBetween(stages[i-1], stages[i])
			for j := range next.Servers {
				next.Servers[j].Outdated, next.Servers[j].Stale = restarts, !restarts
				next.Servers[j].Why = server.RestartReasonOf(stages[i-1], stages[i])
			}
			next.PauseAt = PauseAt(next, after.Update)
		}
		var steps []Action
		steps, next = preview(next)
		p.Steps = append(p.Steps, steps...)
		if n := countRestarts(steps); n > 0 {
			p.Restarts = max(p.Restarts, n)
			p.Rolls++
		}
		if slices.ContainsFunc(steps, func(a Action) bool { return a.Verb == Pause }) {
			break
		}
	}
	first := slices.IndexFunc(p.Steps, func(a Action) bool { return a.Verb == Scale && a.Count > 1 || a.Verb == Restart || a.Verb == Rebuild })
	p.Alone = p.Alone && first >= 0 && p.Steps[first].Verb != Scale
	return p
}

// RestartsBetween reports whether going from one spec to another restarts servers.
func RestartsBetween(before, after server.Spec) bool {
	return server.TemplateHash(before) != server.TemplateHash(after)
}

// countRestarts is how many servers restart.
func countRestarts(steps []Action) (n int) {
	for _, a := range steps {
		if a.Verb == Restart || a.Verb == Rebuild {
			n++
		}
	}
	return n
}

// preview is what Run would do from a world on, and the world after it.
func preview(w World) ([]Action, World) {
	steps := []Action{}
	for len(steps) < maxSteps {
		a := Next(w)
		switch {
		case a.Verb == Pause:
			return append(steps, a), w
		case a.Verb == Done, a.Verb == Wait && w.Unsettled == "" && w.Observed && growing(w) == "":
			return steps, w
		case a.Verb == Wait && w.Observed && w.Unsettled != "" && w.Leader == "" && !w.Leaderless:
			w.Leaderless = true // as it will be, unless the servers elect a leader
			if next := Next(w); next.Verb != Wait {
				steps = append(steps, a)
			}
		default:
			steps, w = append(steps, a), w.after(a)
		}
	}
	return steps, w
}

// maxSteps is more than any plan has.
const maxSteps = 200

// after is the world after an action that succeeds. The lists of the world before stay as they are.
func (w World) after(a Action) World {
	w.Servers = slices.Clone(w.Servers)
	on := slices.IndexFunc(w.Servers, func(s Server) bool { return s.Name == a.On })
	switch a.Verb {
	case Wait:
		w.Unsettled, w.Observed, w.Unelected = "", true, false
		if w.Leader == "" && len(w.Servers) > 0 {
			w.Leader = w.Servers[0].Name
		}
		for i := range w.Servers {
			w.Servers[i].Growing, w.Servers[i].Sick = "", false
		}
	case Restart, Rebuild:
		w.Servers[on] = Server{Name: a.On, Peer: true, LastIndex: w.Servers[on].LastIndex}
	case Grow:
		w.Grow = ""
	case Reload:
		w.Servers[on].Stale = false
	case Remove:
		w.Former = slices.DeleteFunc(slices.Clone(w.Former), func(p string) bool { return p == a.On })
	case Transfer:
		w.Leader = a.On
	case Scale:
		if a.Count > w.Replicas {
			for i := len(w.Servers); i < a.Count; i++ {
				w.Servers = append(w.Servers, Server{Name: podOf(w.StatefulSet, i), Peer: true})
			}
		}
		w.Servers, w.Replicas = w.Servers[:min(a.Count, len(w.Servers))], a.Count
	case Add, Retire, Switch:
		t := w.Takeover.after(a)
		w.Takeover = &t
		if a.Verb == Add && !t.Back {
			w.Servers = append(w.Servers, Server{Name: a.On, Peer: true})
		} else if a.Verb == Retire && on >= 0 {
			w.Servers = slices.Delete(w.Servers, on, on+1)
		}
		w.Replicas = len(w.Servers)
	default:
	}
	return w
}

// PauseAt is World.PauseAt of a rollout that starts. A rollout that has already got that far continues to its
// end.
func PauseAt(w World, u server.Update) int {
	current := 0
	for _, s := range w.Servers {
		if !s.due() {
			current++
		}
	}
	if u.Strategy == server.OnDelete || current >= int(u.PauseAfter) {
		return 0
	}
	return int(u.PauseAfter)
}

// TakesSnapshot reports whether a change from one spec to another starts with a snapshot: another version may
// write what the former one cannot read. A rollout that resumes finds the version already in place, and takes
// no second snapshot.
func TakesSnapshot(before, after server.Spec) bool {
	return after.Update.SnapshotBefore && before.Version != after.Version
}

// planVolumes turns a world that was seen into the one that a change of storage will find: resize and rebuild
// say what the change does.
func planVolumes(w *World, s server.Storage, resize, rebuild bool) {
	switch {
	case resize:
		w.Grow = s.Size.String()
	case s.OnChange == server.RebuildServers:
		w.Grow = ""
		for i := range w.Servers {
			if t := &w.Servers[i]; rebuild || t.Growing != "" {
				t.Volume, t.Rebuild, t.Growing = "its volume is not as declared", true, ""
			}
		}
	}
}
