package rollout

import (
	"cmp"
	"slices"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Plan is what an operation will do, as far as this is known before it runs.
type Plan struct {
	Changes []server.Change
	// Phases are those of the operation, up to a pause. If the servers were not seen, those that roll them have no steps.
	Phases []Phase
	// Restarts is how many servers restart, in the largest of the Rolls.
	Restarts int
	// Rolls is the number of rollouts, one after the other (server.Stages).
	Rolls int
	// Alone says that a server restarts while it is the only one.
	Alone bool
}

// Steps are the steps of all phases.
func (p Plan) Steps() []Action {
	var steps []Action
	for i := range p.Phases {
		steps = append(steps, p.Phases[i].Steps...)
	}
	return steps
}

// NewPlan says what an operation does, and what it does to the servers. It asks Next, as Run does, and assumes that every action
// succeeds.
func NewPlan(o Observed, w Wanted) Plan {
	p := Plan{Changes: server.Changes(o.Running, w.Spec)}
	if o.World == nil {
		p.Phases = w.Phases(o)
		p.guess(o.Running, w.Spec)
		p.sayHow(server.PodHash(o.Running) == server.PodHash(w.Spec) && w.Spec.Update.Strategy == server.Rolling)
		return p
	}
	o.Running.Gossip.Stage, o.Running.TLS.Stage = o.World.GossipStage, o.World.TLSStage // which may be half-way
	o.Adopting = o.World.Takeover != nil
	p.Phases = w.Phases(o)
	next := *o.World
	next.Desired = int(w.Spec.Replicas)
	var rolled *server.Spec // the stage before
	for i := range p.Phases {
		phase := &p.Phases[i]
		switch {
		case phase.Kind == StartServers:
			next = next.after(phase.Steps[0]).after(Action{Verb: Wait})
			continue
		case phase.Kind == AdoptServers:
			phase.Steps = previewTakeover(next)
			continue
		case phase.Kind != RollServers, o.Adopting: // what follows an adoption depends on the servers that it adds
			continue
		}
		if rolled == nil {
			next = p.firstStage(next, o.Running, phase.Spec, w.Spec.Storage)
		} else {
			next = nextStage(next, *rolled, phase.Spec)
		}
		next.PauseAt = PauseAt(next, w.Spec.Update)
		phase.Steps, next = preview(next)
		if n := countRestarts(phase.Steps); n > 0 {
			p.Restarts = max(p.Restarts, n)
			p.Rolls++
		}
		if slices.ContainsFunc(phase.Steps, func(a Action) bool { return a.Verb == Pause }) {
			p.Phases = p.Phases[:i+1]
			break
		}
		rolled = &phase.Spec
	}
	p.Alone = len(o.World.Servers) == 1 && restartsBeforeOthers(p.Steps())
	has := func(v Verb) bool { return slices.ContainsFunc(p.Steps(), func(a Action) bool { return a.Verb == v }) }
	p.sayHow(has(RestartInPlace) && !has(Restart) && !has(Rebuild))
	return p
}

// sayHow says of the settings that restart the servers whether that is done in place.
func (p *Plan) sayHow(inPlace bool) {
	how := server.ReplacePods
	if inPlace {
		how = server.RestartInPlace
	}
	for i := range p.Changes {
		if p.Changes[i].Effect == server.Restart {
			p.Changes[i].Effect = how
		}
	}
}

// guess says what happens to servers that were not seen.
func (p *Plan) guess(before, after server.Spec) {
	restarts := func(c server.Change) bool { return c.Effect == server.Restart || c.Effect == server.Rebuild }
	if !slices.ContainsFunc(p.Changes, restarts) || after.Update.Strategy == server.OnDelete {
		return
	}
	p.Restarts, p.Rolls = int(before.Replicas), 1
	stages := server.Stages(before, after)
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

// firstStage is the world once the first stage of a change was applied.
func (p *Plan) firstStage(w World, before, stage server.Spec, storage server.Storage) World {
	has := func(e server.Effect) bool {
		return slices.ContainsFunc(p.Changes, func(c server.Change) bool { return c.Effect == e })
	}
	w.Servers = slices.Clone(w.Servers)
	w.ByOthers = stage.Update.Strategy == server.OnDelete
	if stage.ACL.Enabled && !before.ACL.Enabled { // there is no management token yet
		w.CanTransfer = false
	}
	for i := range w.Servers {
		s := &w.Servers[i]
		// Another version of the provider may have made a pod from another template, although no setting has changed.
		if has(server.Restart) || s.Template != "" && s.Template != server.TemplateHash(stage) {
			s.outdate(before, stage, w.CanTransfer)
		}
		s.Stale = s.Stale || has(server.Reload)
	}
	planVolumes(&w, storage, has(server.Resize), has(server.Rebuild))
	return w
}

// nextStage is the world once the next stage was applied, which affects every server.
func nextStage(w World, before, stage server.Spec) World {
	w.Servers = slices.Clone(w.Servers)
	restarts := RestartsBetween(before, stage)
	for i := range w.Servers {
		s := &w.Servers[i]
		if s.Template = server.TemplateHash(before); s.Pod != "" {
			s.Pod = server.PodHash(before)
		}
		s.outdate(before, stage, w.CanTransfer)
		s.Stale = !restarts
	}
	return w
}

// outdate makes a server run another template than that of a spec, unless it already runs it. Only servers that can be asked restart in
// place. Nobody knows which template a server runs that is asked to restart meanwhile.
func (s *Server) outdate(before, after server.Spec, asks bool) {
	changes := RestartsBetween(before, after)
	s.Outdated = s.Template != server.TemplateHash(after) || s.Restarting
	s.Restarting = s.Restarting && !changes
	s.InPlace = s.Outdated && asks && s.Pod == server.PodHash(after) && after.Update.Strategy != server.NewPods
	switch {
	case !s.Outdated:
		s.Why = ""
	case changes:
		s.Why = server.RestartReasonOf(before, after)
	default:
		s.Why = cmp.Or(s.Why, server.ReasonPod)
	}
}

// restarts reports whether an action restarts a server.
func (a Action) restarts() bool {
	return a.Verb == Restart || a.Verb == RestartInPlace || a.Verb == Rebuild
}

// restartsBeforeOthers reports whether steps restart a server before they add others.
func restartsBeforeOthers(steps []Action) bool {
	i := slices.IndexFunc(steps, func(a Action) bool {
		return a.Verb == Scale && a.Count > 1 || a.restarts()
	})
	return i >= 0 && steps[i].Verb != Scale
}

// RestartsBetween reports whether going from one spec to another restarts servers.
func RestartsBetween(before, after server.Spec) bool {
	return server.TemplateHash(before) != server.TemplateHash(after)
}

// countRestarts is how many servers restart.
func countRestarts(steps []Action) (n int) {
	for _, a := range steps {
		if a.restarts() {
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
		case a.Verb == Done, a.Verb == Wait && w.Unsettled == "" && w.Observed && growing(w) == "" &&
			!slices.ContainsFunc(w.Servers, Server.away):
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
			s := &w.Servers[i]
			s.Growing, s.Sick, s.Restarted = "", false, s.Restarting
		}
	case Route:
		s := &w.Servers[on]
		s.Unrouted, s.Restarting, s.Restarted, s.Outdated = false, false, false, s.Outdated && !s.Restarted
	case Restart, RestartInPlace, Rebuild:
		w.Servers[on] = Server{Name: a.On, Peer: true, LastIndex: w.Servers[on].LastIndex, Pod: w.Servers[on].Pod}
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
		if !s.due() && !s.Restarting {
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
