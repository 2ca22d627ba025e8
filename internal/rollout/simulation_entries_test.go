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

// deleteAll deletes all pods.
func (s *simCluster) deleteAll() {
	for i := range s.pods {
		s.delete(i)
	}
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
		{name: volumeLost, simFault: simFault{keeps: true, do: func(s *simCluster) {
			i := s.follower()
			s.lose(i)
			s.claims[i] = simClaim{}
		}}},
		{name: "a volume is being deleted", simFault: simFault{keeps: true, do: func(s *simCluster) { s.claims[s.follower()].deleting = true }}},
		{name: allDeleted, simFault: simFault{do: (*simCluster).deleteAll}},
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
		{name: "an agent lacks its token", simFault: simFault{keeps: true, do: func(s *simCluster) { s.claims[s.follower()].token = false }}},
		{name: "somebody scales to one fewer", simFault: simFault{do: func(s *simCluster) { s.byHand(s.sts.replicas - 1) }}},
		{name: "somebody scales to none", simFault: simFault{do: func(s *simCluster) { s.byHand(0) }}},
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
		{lasts: true, silent: true, name: "no server reaches another one until it restarts", simFault: simFault{do: func(s *simCluster) {
			s.deaf = s.digests.of(s.sts.spec).template
			for i := range s.pods {
				s.pods[i].mute = true
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
	return slices.Concat(
		simChanges(), simFaulty(), simInterrupted(), simEncrypted(), x.simHalfWay(), x.simCreates(), simTakenAway(), simRecoveries(),
		x.simUnelected(), simWithoutToken(), simRefused(), simOthers(), x.simAdoptions(),
	)
}

// changed is a spec after changes.
func changed(before server.Spec, changes ...specChange) server.Spec {
	for _, c := range changes {
		c(&before)
	}
	return before
}

// entry is the change of a cluster.
func entry(name string, before server.Spec, changes ...specChange) simEntry {
	e := simEntry{name: name, before: &before, after: changed(before, changes...)}
	switch {
	case before.Replicas >= 3 && e.after.Replicas >= 3:
		e.atLeast = 2
	case before.Replicas >= 3:
		e.atLeast = 1
	}
	return e
}

// with is an entry with a fault, and some more applies.
func (e simEntry) with(f simFault) simEntry {
	e.faults, e.applies = append(slices.Clone(e.faults), f), 3
	return e
}

// prepared is an entry that begins with another cluster. What the cluster was before is no promise.
func (e simEntry) prepared(f func(*simCluster)) simEntry {
	e.prepare, e.atLeast, e.applies = f, 0, 3
	return e
}

// simChanges are all changes without a fault.
func simChanges() (out []simEntry) {
	for _, n := range []int32{1, 3, 5} {
		for _, c := range slices.Concat(restarting(), quiet(), more()) {
			if n == 1 && strings.Contains(c.name, "new volumes") {
				continue // the plan refuses it: no other server would have the data
			}
			out = append(out, entry(fmt.Sprintf("%d servers, %s", n, c.name), simSpec(n), c.change))
		}
	}
	out = append(out,
		entry("seven servers, another setting", simSpec(7), setUI),
		entry("seven servers to three", simSpec(7), scale(3)),
		entry("seven servers to one, and an upgrade", simSpec(7), scale(1), upgrade),
		entry("ACLs on", simSpec(3, noACLs), withACLs),
		entry("five servers to three, which deletes volumes", simSpec(5, discards), scale(3)),
		entry("three servers to five and back, which deletes volumes", simSpec(3, discards), scale(5)),
		entry("a change in two stages, with volumes that grow", simSpec(3), gossip, grow, setUI),
	)
	return out
}

// simFaulty are changes after a fault.
func simFaulty() (out []simEntry) {
	for _, f := range slices.Concat(passing(), lasting()) {
		changes := restarting()
		if !f.lasts {
			changes = append(changes, quiet()...)
		}
		for _, c := range changes {
			e := entry(f.name+", then "+c.name, simSpec(3), c.change).with(f.simFault)
			e.loose = f.silent && (c.name == "deny" || strings.HasPrefix(c.name, "an upgrade"))
			out = append(out, e)
		}
	}
	return out
}

// Faults that cost the quorum for good if they meet a server that leaves. No acknowledged write is lost, and a recovery brings the
// cluster back: a volume is lost while another of three servers leaves, which leaves the lost one and one more as peers (leave.sh counts a
// peer that has failed, or is about to). So does a server whose pod is deleted with that of a server that gets a new volume.
const (
	allDeleted = "all pods are deleted"
	volumeLost = "a volume is lost"
)

// simInterrupted are changes with a fault after their first or second action.
func simInterrupted() (out []simEntry) {
	for _, f := range passing() {
		for _, c := range []namedChange{
			{"another setting", setUI}, {"an upgrade", upgrade}, {"gossip on", gossip}, {"to five", scale(5)},
			{"to one", scale(1)}, {"new volumes", rebuilds},
		} {
			last := 2
			if c.name == "to one" { // all three servers are told
				last = 5
			}
			for after := 1; after <= last; after++ {
				fault := f.simFault
				fault.after, fault.keeps = after, false
				e := entry(fmt.Sprintf("%s after action %d of %s", f.name, after, c.name), simSpec(3), c.change).with(fault)
				e.loose = f.name == volumeLost || f.name == allDeleted && c.name == "new volumes"
				out = append(out, e)
			}
		}
	}
	return out
}

// simEncrypted are clusters that encrypt.
func simEncrypted() (out []simEntry) {
	faults := []namedFault{
		{name: "nothing", simFault: simFault{keeps: true, do: func(*simCluster) {}}},
		{name: "the keys are deleted", simFault: simFault{keeps: true, do: func(s *simCluster) { s.keys = 0 }}},
		{name: "the certificates are deleted", simFault: simFault{keeps: true, do: func(s *simCluster) { s.certs = 0 }}},
		{name: "all Secrets are deleted, and a pod", simFault: simFault{keeps: true, do: func(s *simCluster) {
			s.keys, s.certs = 0, 0
			s.delete(s.follower())
		}}},
		{name: "the StatefulSet is deleted without its pods", simFault: simFault{keeps: true, do: orphan}},
		{name: "the StatefulSet and the ConfigMap are deleted", simFault: simFault{keeps: true, do: func(s *simCluster) {
			s.sts, s.config = simSet{}, simConfig{}
		}}},
	}
	for _, f := range faults {
		for _, c := range []namedChange{
			{"no change", unchanged}, {"gossip off", plain}, {"TLS off", plainTLS}, {"both off", all(plain, plainTLS)}, {"an upgrade", upgrade},
			{"gossip off and to five", all(plain, scale(5))}, {"another setting", setUI},
		} {
			out = append(out, entry("encrypted, "+f.name+", then "+c.name, simSpec(3, gossip, tls), c.change).with(f.simFault))
		}
	}
	return append(out,
		entry("gossip off and TLS on", simSpec(3, gossip), plain, tls),
		entry("TLS off and gossip on", simSpec(3, tls), plainTLS, gossip),
		entry("five servers encrypt no more", simSpec(5, gossip, tls), plain, plainTLS),
		entry("one server encrypts no more", simSpec(1, gossip, tls), plain, plainTLS),
	)
}

// halfWay leaves a cluster as a provider does that is killed at a point of another operation.
func (x *simulation) halfWay(other simEntry, at int) func(*simCluster) {
	return func(s *simCluster) {
		var killed *simCluster
		points := 0
		var last simState
		s.point = func(s *simCluster) {
			if s.simState == last {
				return
			}
			last = s.simState
			if points++; points == at {
				c := *s
				killed = &c
			}
		}
		_ = s.apply(other, other.before == nil)
		if s.point = nil; killed != nil {
			*s = *killed
			s.point = nil
		}
		s.ticks(at % 4 * 3)
	}
}

// simHalfWay are changes that follow another one that was killed.
func (x *simulation) simHalfWay() (out []simEntry) {
	gossipTLS := all(gossip, tls)
	for _, c := range []struct {
		name         string
		before       server.Spec
		first, after specChange
	}{
		{"gossip on, reverted", simSpec(3), gossip, plain},
		{"gossip on, then another setting", simSpec(3), gossip, all(gossip, setUI)},
		{"gossip on, then TLS instead", simSpec(3), gossip, all(plain, tls)},
		{"TLS on, reverted", simSpec(3), tls, plainTLS},
		{"gossip and TLS on, reverted", simSpec(3), gossipTLS, all(plain, plainTLS)},
		{"gossip and TLS off, reverted", simSpec(3, gossip, tls), all(plain, plainTLS), gossipTLS},
		{"gossip off, then an upgrade", simSpec(3, gossip), plain, upgrade},
		{"an upgrade, reverted", simSpec(3), upgrade, unchanged},
		{"an upgrade, then another setting", simSpec(3), upgrade, all(upgrade, setUI)},
		{"to five, reverted", simSpec(3), scale(5), scale(3)},
		{"to five, then to one", simSpec(3), scale(5), scale(1)},
		{"to one, reverted", simSpec(3), scale(1), scale(3)},
		{"five to one, then to three", simSpec(5), scale(1), scale(3)},
		{"another setting, reverted", simSpec(3), setUI, unchanged},
		{"another setting, then another pod", simSpec(3), setUI, setPod},
		{"larger volumes, then another setting", simSpec(3), grow, all(grow, setUI)},
		{"larger volumes, reverted", simSpec(3), grow, unchanged},
		{"new volumes, reverted", simSpec(3), rebuilds, unchanged},
		{"new volumes, then larger ones", simSpec(3), rebuilds, grow},
		{"labels, reverted", simSpec(3), relabel, unchanged},
		{"deny, reverted", simSpec(3), deny, unchanged},
	} {
		for _, at := range []int{2, 5, 9, 14, 20, 27} {
			e := entry(fmt.Sprintf("%s at point %d", c.name, at), c.before, c.after)
			first := entry("", c.before, c.first)
			e = e.prepared(x.halfWay(first, at))
			e.own = true // how far volumes have grown, and snapshots, stay
			// A complete upgrade is not reverted, and the moment of the kill decides which of two sizes a new volume gets.
			e.loose = c.name == "an upgrade, reverted" || c.name == "new volumes, reverted"
			out = append(out, e)
		}
	}
	return out
}

// simCreates are creates, also those that resume another one.
func (x *simulation) simCreates() (out []simEntry) {
	for _, n := range []int32{1, 3, 5, 7} {
		for _, c := range []namedChange{
			{"nothing else", unchanged}, {"gossip", gossip}, {"TLS", tls}, {"both", all(gossip, tls)}, {"deny", deny}, {"no ACLs", noACLs},
			{"a backup", fromBackup}, {"a backup and gossip", all(fromBackup, gossip)},
		} {
			e := simEntry{name: fmt.Sprintf("create %d servers with %s", n, c.name), after: simSpec(n, c.change)}
			e.restore = e.after.Origin != nil
			out = append(out, e)
		}
		out = append(out, simEntry{name: fmt.Sprintf("create %d servers with the volumes of an earlier cluster", n), after: simSpec(n), own: true,
			prepare: x.deleted(simSpec(n))})
	}
	for _, c := range []struct {
		name         string
		first, after server.Spec
	}{
		{"7 servers and then 1", simSpec(7), simSpec(1)}, {"1 server and then 7", simSpec(1), simSpec(7)},
		{"3 servers and then 5", simSpec(3), simSpec(5)}, {"5 servers and then 3", simSpec(5), simSpec(3)},
		{"3 servers and then with gossip", simSpec(3), simSpec(3, gossip)}, {"3 servers and then with another setting", simSpec(3), simSpec(3, setUI)},
		{"3 servers with volumes that are deleted, and then 1", simSpec(3, discards), simSpec(1, discards)},
	} {
		for at := 1; at <= 12; at++ {
			e := simEntry{name: fmt.Sprintf("create %s at point %d", c.name, at), after: c.after, loose: true}
			out = append(out, e.prepared(x.halfWay(simEntry{after: c.first}, at)))
		}
	}
	backup, none := simSpec(3, fromBackup), simSpec(3)
	for at := 1; at <= 40; at += 3 {
		create := simEntry{after: backup, restore: true}
		resumed := entry(fmt.Sprintf("a create from a backup that was killed at point %d is resumed by an update", at), backup)
		resumed.restore, resumed.own = true, true
		canceled := entry(fmt.Sprintf("a create from a backup that was killed at point %d, and is to start empty", at), none)
		canceled.own = true
		for _, e := range []simEntry{resumed, canceled} {
			out = append(out, e.prepared(func(s *simCluster) {
				*s = *x.empty()
				x.halfWay(create, at)(s)
				if !s.config.exists { // nothing that an update could find
					_ = s.apply(create, true)
				}
			}))
		}
	}
	return out
}

// deleted leaves the volumes of a cluster that was deleted.
func (x *simulation) deleted(spec server.Spec) func(*simCluster) {
	return func(s *simCluster) {
		was, _ := x.created(&spec)
		*s = *was
		_ = s.destroy(spec)
	}
}

// simTakenAway are servers that somebody took away or added.
func simTakenAway() (out []simEntry) {
	for _, c := range []struct {
		before  int32
		to      int
		changes []namedChange
	}{
		{5, 1, []namedChange{{"no change", unchanged}, {"to three", scale(3)}, {"to one", scale(1)}, {"another setting", setUI}}},
		{5, 2, []namedChange{{"no change", unchanged}, {"to three", scale(3)}, {"to one", scale(1)}, {"gossip on", gossip}}},
		{5, 3, []namedChange{{"no change", unchanged}, {"to three", scale(3)}, {"to seven", scale(7)}}},
		{5, 0, []namedChange{{"no change", unchanged}, {"to three", scale(3)}, {"to seven", scale(7)}}},
		{3, 1, []namedChange{{"no change", unchanged}, {"to one", scale(1)}, {"another setting", setUI}, {"to five", scale(5)}}},
		{3, 2, []namedChange{{"to one", scale(1)}, {"to five", scale(5)}, {"gossip on", gossip}}},
		{3, 4, []namedChange{{"no change", unchanged}, {"to one", scale(1)}, {"another setting", setUI}}},
		{3, 0, []namedChange{{"an upgrade to one", all(upgrade, scale(1))}, {"deny to seven", all(deny, scale(7))}, {"deny and an upgrade", all(deny, upgrade)}}},
		{1, 0, []namedChange{{"no change", unchanged}, {"to three", scale(3)}, {"another setting", setUI}, {"an upgrade", upgrade}}},
		{1, 3, []namedChange{{"no change", unchanged}, {"another setting", setUI}}},
	} {
		for _, change := range c.changes {
			out = append(out, entry(fmt.Sprintf("somebody scales %d servers to %d, then %s", c.before, c.to, change.name), simSpec(c.before), change.change).
				with(simFault{do: func(s *simCluster) { s.byHand(c.to) }}))
		}
	}
	return out
}

// loses takes servers with their volumes.
func loses(servers ...int) simFault {
	return simFault{do: func(s *simCluster) {
		for _, i := range servers {
			s.lose(i)
			s.claims[i] = simClaim{}
		}
		s.ticks(30)
	}}
}

// simRecoveries are clusters that have lost their quorum, or seem to have.
func simRecoveries() (out []simEntry) {
	recovery := func(e simEntry, from string, f simFault) {
		e = e.with(f)
		e.recover, e.name = from, e.name+", recovery from "+from
		out = append(out, e)
	}
	for _, c := range []namedChange{
		{"no change", unchanged}, {"another setting", setUI}, {"an upgrade", upgrade}, {"to five", scale(5)}, {"to one", scale(1)}, {"labels", relabel},
		{"gossip on", gossip},
	} {
		recovery(entry("two of three servers lose their volumes, "+c.name, simSpec(3), c.change), FromSurvivor, loses(0, 1))
		recovery(entry("all servers lose their volumes, "+c.name, simSpec(3), c.change), FromNothing, loses(0, 1, 2))
	}
	recovery(entry("three of five servers lose their volumes", simSpec(5)), FromSurvivor, loses(0, 2, 4))
	recovery(entry("four of five servers lose their volumes", simSpec(5)), FromSurvivor, loses(0, 1, 2, 3))
	recovery(entry("the only server loses its volume", simSpec(1)), FromNothing, loses(0))
	recovery(entry("encrypted servers lose their volumes", simSpec(3, gossip, tls)), FromNothing, loses(0, 1, 2))
	recovery(entry("two of three encrypted servers lose their volumes", simSpec(3, gossip, tls)), FromSurvivor, loses(1, 2))
	recovery(entry("nothing is lost", simSpec(3), setUI), FromSurvivor, simFault{do: func(*simCluster) {}})
	recovery(entry("nothing is lost", simSpec(3), setUI), FromNothing, simFault{do: func(*simCluster) {}})
	recovery(entry("all servers crash, and come back", simSpec(3), setUI), FromSurvivor, simFault{do: func(s *simCluster) {
		for i := range 3 {
			s.crashes(i, 10)
		}
	}})
	refuse := func(name, from string, f simFault) {
		recovery(entry(name, simSpec(3)), from, f)
		out[len(out)-1].refused = true
	}
	refuse("two of three servers lose their volumes", FromNothing, loses(0, 1))
	refuse("all servers lose their volumes", FromSurvivor, loses(0, 1, 2))
	refuse("two nodes are away", FromSurvivor, simFault{do: func(s *simCluster) { s.pods[0].away, s.pods[1].away = forever, forever }})
	refuse("two nodes are away", FromNothing, simFault{do: func(s *simCluster) { s.pods[0].away, s.pods[1].away = forever, forever }})
	return out
}

// simUnelected are updates of a cluster whose create elected no leader.
func (x *simulation) simUnelected() (out []simEntry) {
	for _, n := range []int32{1, 3, 5} {
		for _, c := range []namedChange{
			{"another setting", setUI}, {"to one", scale(1)}, {"to three", scale(3)}, {"to five", scale(5)}, {"gossip on", gossip}, {"TLS on", tls},
			{"another setting to seven", all(setUI, scale(7))}, {"an upgrade", upgrade}, {"another setting and larger volumes", all(setUI, grow)},
		} {
			before := simSpec(n)
			e := entry(fmt.Sprintf("%d servers elected no leader, then %s", n, c.name), before, c.change)
			e.own = true
			out = append(out, e.prepared(func(s *simCluster) {
				*s = *x.empty()
				s.crash = s.digests.of(&before).template // no server starts
				_ = s.apply(simEntry{after: before}, true)
				s.crash = ""
				template := s.digests.of(&before).template
				switch {
				case c.name == "an upgrade": // they do start, and cannot reach each other
					s.deaf = template
					s.ticks(1)
				case s.digests.of(&e.after) == s.digests.of(&before): // somebody makes room for some
					for i := range s.pods {
						s.pods[i].down = s.now + 6*i
					}
				default:
					s.crash = template
				}
			}))
		}
	}
	return out
}

// simWithoutToken are clusters whose management token is lost.
func simWithoutToken() (out []simEntry) {
	for _, c := range []namedChange{
		{"no change", unchanged}, {"another setting", setUI}, {"an upgrade", upgrade}, {"to five", scale(5)}, {"to one", scale(1)}, {"gossip on", gossip},
		{"new volumes", rebuilds}, {"larger volumes", grow},
	} {
		e := entry("the management token is lost, "+c.name, simSpec(3), c.change)
		e.own = true
		out = append(out, e.with(simFault{keeps: true, do: func(s *simCluster) { s.lostToken = true }}))
	}
	return out
}

// simRefused are changes that are refused.
func simRefused() (out []simEntry) {
	for _, e := range []simEntry{
		entry("a downgrade", simSpec(3, upgrade), func(s *server.Spec) { s.Version, s.Image = "1.21.0", "consul:1.21.0" }),
		entry("a jump over release lines", simSpec(3), func(s *server.Spec) { s.Version, s.Image = "2.1.0", "consul:2.1.0" }),
		entry("gossip on, by others", simSpec(3), gossip, onDelete),
		entry("TLS off, by others", simSpec(3, tls), plainTLS, onDelete),
	} {
		e.refused = true
		out = append(out, e)
	}
	return out
}

// simOthers are faults of their own.
func simOthers() (out []simEntry) {
	offline := func(e simEntry) simEntry {
		return e.prepared(func(s *simCluster) { s.offline = true })
	}
	harsh := func(e simEntry) {
		e.name, e.atLeast = "servers end without leaving, "+e.name, 1
		e.prepare = func(s *simCluster) { s.harsh = true }
		out = append(out, e)
	}
	for _, c := range slices.Concat(restarting(), quiet()) {
		harsh(entry(c.name, simSpec(3), c.change))
	}
	harsh(entry("five to one", simSpec(5), scale(1)))
	harsh(entry("five to three", simSpec(5), scale(3)))
	harsh(entry("seven to three", simSpec(7), scale(3)))
	cutOff := func(servers ...int) simFault {
		return simFault{do: func(s *simCluster) {
			for _, i := range servers {
				s.pods[i].mute, s.leads[i] = true, false
			}
			s.ticks(5)
		}}
	}
	out = append(out,
		entry("two of five servers are cut off until they restart", simSpec(5), setUI).with(cutOff(1, 2)),
		entry("no server of five reaches another one until it restarts", simSpec(5), setUI).with(lasting()[5].simFault),
	)
	retained := entry("volumes of former servers are smaller than what is declared now", simSpec(3), grow, scale(5))
	retained.prepare = func(s *simCluster) {
		for i := 3; i < 5; i++ {
			s.claims[i] = simClaim{exists: true, size: 1 << 30, asked: 1 << 30}
		}
	}
	out = append(out, retained)
	for after := 1; after <= 5; after++ {
		out = append(out, entry(fmt.Sprintf("%s after action %d of one to three", allDeleted, after), simSpec(1), scale(3)).
			with(simFault{after: after, do: (*simCluster).deleteAll}))
	}
	grown := entry("servers that know how many there are now stay peers", simSpec(1), scale(3))
	out = append(out, grown.with(simFault{after: 4, do: func(s *simCluster) { // two are told, and the third starts
		told := s.pods[0].declared == 3 && s.pods[1].declared == 3 // an apply that was killed told them another number before
		s.deleteAll()
		s.ticks(ticksToStop)
		if peers := s.claims[0].peers & s.claims[1].peers; told && peers != first(2) {
			s.breaks("all pods are deleted, and the peers are %s", peers)
		}
	}}))
	deny3 := entry("an agent lacks its token when servers are to deny", simSpec(3), deny)
	return append(out,
		offline(entry("file systems grow only when they are mounted again", simSpec(3), grow)),
		offline(entry("file systems grow only when they are mounted again, and a server restarts anyway", simSpec(3), grow, setUI)),
		offline(entry("one file system grows only when it is mounted again", simSpec(1), grow)),
		deny3.with(simFault{keeps: true, do: func(s *simCluster) { s.claims[2].token = false }}),
		entry("two faults: a server is not ready, and a peer is left over", simSpec(3), setUI).
			with(lasting()[0].simFault).with(passing()[10].simFault),
		entry("two faults: a volume is lost, and the StatefulSet", simSpec(3), setUI).
			with(passing()[6].simFault).with(simFault{keeps: true, do: orphan}),
		entry("the image of a pod was changed by hand", simSpec(3)).with(simFault{keeps: true, do: func(s *simCluster) {
			other := changed(*s.pods[1].spec, func(s *server.Spec) { s.Image = "other:1.21.0" })
			s.pods[1].spec = &other
		}}),
		entry("server pods are without a StatefulSet and a ConfigMap", simSpec(3), setUI).with(simFault{keeps: true, do: func(s *simCluster) {
			s.sts, s.config = simSet{}, simConfig{}
		}}),
		entry("the StatefulSet is gone, and the servers are to encrypt", simSpec(3), gossip).with(simFault{keeps: true, do: orphan}),
		entry("the StatefulSet is gone, and so is the record of the leader", simSpec(3), setUI).with(simFault{keeps: true, do: func(s *simCluster) {
			s.config.established = false
			s.sts = simSet{}
		}}),
	)
}

// unsolved is an entry that does not end as it should.
type unsolved struct {
	simEntry
	why string
}

// simUnsolved are the faults that an operation does not overcome today. No acknowledged write is lost in any of them.
func simUnsolved() (out []unsolved) {
	add := func(e simEntry, why string, faults ...simFault) {
		for _, f := range faults {
			e = e.with(f)
		}
		out = append(out, unsolved{e, why})
	}
	add(entry("a server does not run, and deny is declared", simSpec(3), deny),
		"RenewAgentTokens refuses it with the name of the server, and only a deleted pod or another change restarts that one",
		simFault{do: func(s *simCluster) { s.crashes(s.follower(), forever) }})
	// A server that leaves counts a peer that has failed as one that stays (leave.sh).
	lost := entry("a volume is lost while another server leaves", simSpec(3))
	lost.recover = FromSurvivor
	add(lost, "no server can be elected, and Remains.Lost counts a server that is no peer as one that may vote",
		simFault{do: func(s *simCluster) {
			s.delete((s.leader() + 1) % 3)
			other := (s.leader() + 2) % 3
			s.lose(other)
			s.claims[other] = simClaim{}
			s.ticks(30)
		}})
	add(adoption("three servers, and the StatefulSet is deleted", 3, simSpec(3)),
		"only its annotations say which servers are adopted; this is also the moment in which other labels or volumes create it again",
		simFault{after: 2, do: orphan})
	return out
}
