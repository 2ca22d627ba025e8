package rollout

import (
	"fmt"
	"slices"
	"strings"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// forever is longer than any operation takes.
const forever = 1 << 20

// A named change.
type namedChange struct {
	name   string
	change specChange
}

// Changes that restart servers, and those that do not.
func restarting() []namedChange {
	return []namedChange{
		{"another setting", setUI},
		{"another pod", setPod},
		{"an upgrade", upgrade},
		{"gossip on", gossip},
		{"TLS on", tls},
		{"gossip and TLS on", all(gossip, tls)},
		{"deny", deny},
		{"an upgrade to five", all(upgrade, scale(5))},
		{"another setting with one", all(setUI, scale(1))},
	}
}

func quiet() []namedChange {
	return []namedChange{
		{"no change", unchanged},
		{"a reload", reloads},
		{"labels", relabel},
		{"larger volumes", grow},
		{"to five", scale(5)},
		{"to one", scale(1)},
	}
}

func more() []namedChange {
	return []namedChange{
		{"an upgrade without a snapshot", all(upgrade, unsaved)},
		{"an upgrade and a reload", all(upgrade, reloads)},
		{"another setting and larger volumes", all(setUI, grow)},
		{"another setting and labels", all(setUI, relabel)},
		{"larger volumes and labels", all(grow, relabel)},
		{"new volumes", rebuilds},
		{"new volumes and another setting", all(rebuilds, setUI)},
		{"a reload to seven", all(reloads, scale(7))},
		{"to three", scale(3)},
		{"to seven", scale(7)},
		{"an upgrade to seven", all(upgrade, scale(7))},
		{"an upgrade to one", all(upgrade, scale(1))},
		{"gossip on to five", all(gossip, scale(5))},
		{"TLS on to one", all(tls, scale(1))},
		{"gossip on and an upgrade", all(gossip, upgrade)},
		{"gossip on and larger volumes", all(gossip, grow)},
		{"another setting, pausing", all(setUI, pauses)},
		{"an upgrade to five, pausing", all(upgrade, scale(5), pauses)},
		{"another setting, by others", all(setUI, onDelete)},
		{"a reload, by others", all(reloads, onDelete)},
		{"to five, by others", all(scale(5), onDelete)},
		{"without ACLs", noACLs},
	}
}

// follower is the first server that does not lead.
func (s *simCluster) follower() int {
	if s.leader() == 0 {
		return 1
	}
	return 0
}

// lose takes a pod away at once.
func (s *simCluster) lose(i int) {
	s.pods[i] = simPod{}
	s.leads[i] = false
}

// crashes stops a server, which stays a peer, for some ticks.
func (s *simCluster) crashes(i, ticks int) {
	s.pods[i].running, s.pods[i].ready, s.pods[i].down = false, false, s.now+ticks
	s.leads[i] = false
}

// byHand changes the number of servers as kubectl does, and waits.
func (s *simCluster) byHand(n int) {
	s.sts.replicas, s.sts.seen = n, s.now+ticksToSee
	s.ticks(8)
}

func orphan(s *simCluster) { s.sts = simSet{} }

type namedFault struct {
	name string
	simFault
	// lasts says that only a restart ends it, and silent that a server does not answer until then. Then agent tokens, or the snapshot
	// before an upgrade, end the apply before anything is changed.
	lasts, silent bool
}

// passing are faults that end by themselves. Each is about one server.
func passing() []namedFault {
	return []namedFault{
		{name: "a follower crashes", simFault: simFault{keeps: true, do: func(s *simCluster) { s.crashes(s.follower(), 8) }}},
		{name: "the leader crashes", simFault: simFault{keeps: true, do: func(s *simCluster) { s.crashes(max(0, s.leader()), 8) }}},
		{name: "a follower's node is away", simFault: simFault{keeps: true, do: func(s *simCluster) { s.pods[s.follower()].away = s.now + 40 }}},
		{name: "the leader's node is away", simFault: simFault{keeps: true, do: func(s *simCluster) { s.pods[max(0, s.leader())].away = s.now + 40 }}},
		{name: "a pod is deleted", simFault: simFault{keeps: true, do: func(s *simCluster) { s.delete(s.follower()) }}},
		{name: "a pod is lost and waits for a node", simFault: simFault{keeps: true, do: func(s *simCluster) {
			i := s.follower()
			s.lose(i)
			s.pods[i] = simPod{exists: true, uid: s.id(), spec: s.sts.spec, made: s.now, follows: -1, down: s.now + 30}
		}}},
		{name: "a volume is lost", simFault: simFault{keeps: true, do: func(s *simCluster) {
			i := s.follower()
			s.lose(i)
			s.claims[i] = simClaim{}
		}}},
		{name: "a volume is being deleted", simFault: simFault{keeps: true, do: func(s *simCluster) { s.claims[s.follower()].deleting = true }}},
		{name: "all pods are deleted", simFault: simFault{do: func(s *simCluster) {
			for i := range s.pods {
				s.delete(i)
			}
		}}},
		{name: "all servers crash", simFault: simFault{do: func(s *simCluster) {
			for i := range s.pods {
				if s.pods[i].exists {
					s.crashes(i, 5+2*i)
				}
			}
		}}},
		{name: "a peer is left over", simFault: simFault{keeps: true, do: func(s *simCluster) {
			if l := s.leader(); l >= 0 {
				s.claims[l].peers = s.claims[l].peers.with(6)
				s.replicate(l)
			}
		}}},
		{name: "a server has another configuration", simFault: simFault{keeps: true, do: func(s *simCluster) { s.pods[s.follower()].loaded = "former" }}},
		{name: "autopilot has another configuration", simFault: simFault{keeps: true, do: func(s *simCluster) { s.autopilot, s.prune = 1, false }}},
		{name: "an agent lacks its token", simFault: simFault{keeps: true, do: func(s *simCluster) { s.pods[s.follower()].token = false }}},
		{name: "somebody scales to one fewer", simFault: simFault{do: func(s *simCluster) { s.byHand(s.sts.replicas - 1) }}},
		{silent: true, name: "somebody scales to none", simFault: simFault{do: func(s *simCluster) { s.byHand(0) }}},
		{name: "somebody scales to five", simFault: simFault{keeps: true, do: func(s *simCluster) { s.byHand(5) }}},
		{name: "the StatefulSet is deleted without its pods", simFault: simFault{keeps: true, do: orphan}},
		{name: "the record of the first leader is lost", simFault: simFault{keeps: true, do: func(s *simCluster) { s.config.established = false }}},
		{name: "the ConfigMap is deleted", simFault: simFault{keeps: true, do: func(s *simCluster) { s.config = simConfig{} }}},
	}
}

// lasting are faults of one server that only a restart ends.
func lasting() []namedFault {
	return []namedFault{
		{lasts: true, name: "a follower is not ready", simFault: simFault{keeps: true, do: func(s *simCluster) { s.pods[s.follower()].sick = true }}},
		{lasts: true, name: "the leader is not ready", simFault: simFault{keeps: true, do: func(s *simCluster) { s.pods[max(0, s.leader())].sick = true }}},
		{lasts: true, silent: true, name: "a follower is cut off until it restarts", simFault: simFault{keeps: true, do: func(s *simCluster) { s.pods[s.follower()].mute = true }}},
		{lasts: true, silent: true, name: "a follower never runs", simFault: simFault{keeps: true, do: func(s *simCluster) { s.crashes(s.follower(), forever) }}},
		{lasts: true, name: "no server is ready", simFault: simFault{do: func(s *simCluster) {
			for i := range s.pods {
				s.pods[i].sick = true
			}
		}}},
		{lasts: true, silent: true, name: "no server starts with what ran before", simFault: simFault{do: func(s *simCluster) {
			s.crash = s.digests.of(s.sts.spec).template
			for i := range s.pods {
				if s.pods[i].exists {
					s.crashes(i, 0)
				}
			}
		}}},
	}
}

// simEntries is the table.
func (x *simulation) simEntries() []simEntry {
	var out []simEntry
	add := func(e simEntry) {
		if e.before != nil && e.before.Replicas >= 3 && e.after.Replicas >= 3 {
			e.atLeast = 2
		} else if e.before != nil && e.before.Replicas >= 3 {
			e.atLeast = 1
		}
		out = append(out, e)
	}
	of := func(n int32, changes ...specChange) *server.Spec { s := simSpec(n, changes...); return &s }
	change := func(before *server.Spec, changes ...specChange) server.Spec {
		s := *before
		for _, c := range changes {
			c(&s)
		}
		return s
	}
	for _, n := range []int32{1, 3, 5} {
		for _, c := range slices.Concat(restarting(), quiet(), more()) {
			if n == 1 && strings.Contains(c.name, "new volumes") {
				continue // the plan refuses it: no other server would have the data
			}
			add(simEntry{name: fmt.Sprintf("%d servers, %s", n, c.name), before: of(n), after: change(of(n), c.change)})
		}
	}
	for _, f := range slices.Concat(passing(), lasting()) {
		changes := restarting()
		if !f.lasts {
			changes = append(changes, quiet()...)
		}
		for _, c := range changes {
			add(simEntry{
				name: f.name + ", then " + c.name, before: of(3), after: change(of(3), c.change), faults: []simFault{f.simFault}, applies: 3,
				loose: f.silent && (c.name == "deny" || strings.HasPrefix(c.name, "an upgrade")),
			})
		}
	}
	return out
}
