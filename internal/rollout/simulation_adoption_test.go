package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// simFormer are the servers that another tool made, in the last places of the arrays: "old-0" is the very last one.
type simFormer struct {
	total, replicas int
	seen            int          // the tick at which their controller sees a change
	spec            *server.Spec // what their pods run
	keys, certs     int
	switched        [2]bool // which of simServices route to the cluster
	updated         bool    // an update has resumed the adoption: there is a state of the cluster
}

// simServices are the Services of the former servers. The first becomes the client Service of the cluster.
func simServices() []string { return []string{server.ClientServiceName("consul"), "another"} }

// isFormer reports whether a place in the arrays is that of a former server, and isRetired whether that is retired.
func (s *simCluster) isFormer(i int) bool { return i >= len(s.pods)-s.former.total }
func (s *simCluster) isRetired(i int) bool {
	return s.isFormer(i) && len(s.pods)-1-i >= s.former.replicas
}

// nameOf is the name of the pod in a place.
func (s *simCluster) nameOf(i int) string {
	if s.isFormer(i) {
		return podOf("old", len(s.pods)-1-i)
	}
	return podName(i)
}

// placeOf is the inverse of nameOf.
func (s *simCluster) placeOf(pod string) int {
	for i := range s.pods {
		if s.nameOf(i) == pod {
			return i
		}
	}
	return -1
}

// makeFormer makes servers that run what a spec declares, in an older version.
func (s *simCluster) makeFormer(n int, spec server.Spec) {
	spec.Version, spec.Image = "1.21.0", "consul:1.21.0"
	s.former = simFormer{total: n, replicas: n, spec: &spec}
	if spec.Gossip.Stage != server.StagePlain {
		s.former.keys = s.id()
	}
	if spec.TLS.Stage != server.StagePlain {
		s.former.certs = s.id()
	}
	var group ordinals
	for i := range s.pods {
		if s.isFormer(i) {
			group = group.with(i)
		}
	}
	s.controlFormer()
	s.clusters, s.autopilot, s.prune = 1, n, true
	for i := range s.pods {
		if c := &s.claims[i]; s.isFormer(i) {
			c.data, c.token, c.cluster, c.peers, c.voters = true, true, 1, group, group
		}
	}
	s.ticks(ticksToSoak)
}

// controlFormer is the StatefulSet controller of the former servers.
func (s *simCluster) controlFormer() {
	if s.former.seen > s.now {
		return
	}
	for i := range s.pods {
		switch {
		case !s.isFormer(i):
		case s.isRetired(i):
			s.delete(i)
		case !s.pods[i].exists:
			s.claims[i].exists = true
			s.pods[i] = simPod{exists: true, uid: s.id(), spec: s.former.spec, made: s.now, follows: -1}
		}
	}
}

// startFormer starts a former server, if it can start.
func (s *simCluster) startFormer(i int) {
	p := &s.pods[i]
	if s.now < p.made+ticksToStart || s.now < p.down || p.away > s.now {
		return
	}
	p.running, p.since, p.lonely, p.follows = true, s.now, 0, -1
	p.gossip, p.tls, p.keys, p.certs = s.former.spec.Gossip.Stage, s.former.spec.TLS.Stage, s.former.keys, s.former.certs
}

// checkRoutes is what holds for the clients of former servers: no server to which they are routed is being removed.
func (s *simCluster) checkRoutes() {
	for k, switched := range s.former.switched {
		if s.former.total == 0 || s.disturbed {
			return
		}
		ready := false
		for i := range s.pods {
			p := &s.pods[i]
			ready = ready || p.ready && s.isFormer(i) != switched
			if !switched && s.isRetired(i) && p.exists {
				s.breaks("Service %s routes clients to %s, which is being removed", simServices()[k], s.nameOf(i))
			}
		}
		if !ready && s.atLeast > 0 && s.leader() >= 0 {
			s.breaks("Service %s routes clients to no server", simServices()[k])
		}
	}
}

// checkAdoption is CheckAdoption.
func (o *simOperator) checkAdoption(after server.Spec) error {
	s := o.simCluster
	if s.sts.exists {
		if !server.SameStages(s.applied(), after) {
			return fmt.Errorf("%w: the encryption stays as it is until the adoption is complete", errSimRefused)
		}
		return nil
	}
	r := &simRollout{simCluster: s, spec: &after}
	if err := s.await(10, func() bool { return r.missing(s.leader(), s.former.replicas) == "" }); err != nil {
		return fmt.Errorf("%w: the former servers are not all healthy voters", errSimRefused)
	}
	return nil
}

// adopt is AdoptServers.
func (o *simOperator) adopt(ctx context.Context, spec *server.Spec, desired int) error {
	return Run(ctx, &simAdoption{simRollout{simCluster: o.simCluster, spec: spec, desired: desired}}, o.loop(spec.Update.ServerTimeout))
}

// simAdoption looks and acts as lifecycle.liveTakeover does.
type simAdoption struct{ simRollout }

// Look implements Cluster.
func (r *simAdoption) Look(context.Context) (World, error) {
	s := r.simCluster
	switch {
	case !s.sts.exists:
		return World{}, &FinalError{errors.New("there is no StatefulSet")}
	case s.broken != "":
		return World{}, &FinalError{errors.New(s.broken)}
	}
	t := &Takeover{From: "old", To: "consul-server", Total: s.former.total, Replicas: s.former.replicas}
	w := World{
		Desired: r.desired, Replicas: s.sts.replicas, Observed: s.sts.seen <= s.now && s.former.seen <= s.now, CanTransfer: true, Takeover: t,
	}
	l := s.sees()
	w.Unsettled = r.missing(l, w.Replicas+t.Replicas)
	if l >= 0 {
		w.Leader = s.nameOf(l)
	}
	template := s.digests.of(s.sts.spec).template
	for i := range s.pods {
		p := &s.pods[i]
		seen := Server{Name: s.nameOf(i), UID: fmt.Sprint(p.uid), Stopped: !p.leaving && !p.running, Peer: true}
		if l >= 0 {
			seen.Peer, seen.LastIndex = s.claims[l].peers.has(i), s.claims[i].log.Index
		}
		switch {
		case !p.exists && l >= 0 && seen.Peer && !s.reaches(l, i):
			w.Former = append(w.Former, seen.Name)
		case !p.exists:
		case s.isFormer(i):
			t.Servers = append([]Server{seen}, t.Servers...) // by ordinal
		default:
			seen.Outdated = s.digests.of(p.spec).template != template
			w.Servers = append(w.Servers, seen)
		}
	}
	for k, name := range simServices() {
		if !s.former.switched[k] {
			t.Services = append(t.Services, name)
		}
	}
	return w, nil
}

// Do implements Cluster.
func (r *simAdoption) Do(_ context.Context, w World, a Action) error { return r.do(w, a, r.adopt) }

// adopt carries out an action.
func (r *simAdoption) adopt(w World, a Action) error {
	s := r.simCluster
	switch a.Verb {
	case Add:
		s.sts.replicas, s.sts.seen = s.sts.replicas+1, s.now+ticksToSee
	case Retire:
		if a.Without != "" {
			if err := s.remove(s.placeOf(a.Without)); err != nil {
				return err
			}
			s.killable()
		}
		if i := s.placeOf(a.On); s.isFormer(i) {
			s.former.replicas, s.former.seen = s.former.replicas-1, s.now+ticksToSee
		} else {
			s.sts.replicas, s.sts.seen = i, s.now+ticksToSee
		}
	case Switch:
		for k, name := range simServices() {
			s.former.switched[k] = s.former.switched[k] || name == a.On
		}
		s.routed = s.former.switched[0]
		s.killable()
		s.ticks(ticksToSee)
	default:
		return r.act(w, a)
	}
	return nil
}

// adoption is a create that adopts servers.
func adoption(name string, former int, after server.Spec) simEntry {
	after.Adopt = &server.Adopt{StatefulSet: "old", Services: simServices()}
	e := simEntry{name: "adopt " + name, former: former, after: after, atLeast: 1}
	if former >= 3 && after.Replicas >= 3 {
		e.atLeast = 2
	}
	return e
}

// simAdoptions are adoptions, also those that resume another one with other settings.
func (x *simulation) simAdoptions() (out []simEntry) {
	for _, c := range []struct {
		former, n int32
		changes   []namedChange
	}{
		{3, 3, []namedChange{
			{"nothing else", unchanged}, {"an upgrade", upgrade}, {"gossip", gossip}, {"TLS", tls}, {"both", all(gossip, tls)}, {"no ACLs", noACLs},
			{"a pause", pauses},
		}},
		{3, 1, []namedChange{{"nothing else", unchanged}}},
		{1, 3, []namedChange{{"nothing else", unchanged}, {"both", all(gossip, tls)}}},
		{1, 1, []namedChange{{"nothing else", unchanged}}},
		{2, 5, []namedChange{{"nothing else", unchanged}}},
	} {
		for _, change := range c.changes {
			out = append(out, adoption(fmt.Sprintf("%d servers by %d with %s", c.former, c.n, change.name), int(c.former), simSpec(c.n, change.change)))
		}
	}
	for _, f := range adoptionFaults() {
		for _, after := range []int{1, 3, 4, 5, 6, 7, 8, 9} { // to add three, to transfer, to switch two, to retire three
			fault := f.simFault
			fault.after = after
			out = append(out, adoption(fmt.Sprintf("three servers, and %s after action %d", f.name, after), 3, simSpec(3)).with(fault))
		}
	}
	for _, c := range []namedChange{
		{"another setting", setUI}, {"one server", scale(1)}, {"one server, and all end without leaving", scale(1)}, {"a reload", reloads},
		{"deny", deny},
	} {
		for _, at := range []int{2, 6, 9, 12, 16, 20, 25, 30} {
			e := adoption(fmt.Sprintf("three servers, killed at point %d, then with %s", at, c.name), 3, simSpec(3, c.change))
			first := adoption("", 3, simSpec(3))
			atLeast := e.atLeast
			e = e.prepared(func(s *simCluster) {
				s.harsh = strings.Contains(e.name, "without leaving")
				x.halfWay(first, at)(s)
				s.former.updated = s.sts.exists // from here on, it is an update
			})
			e.atLeast = atLeast
			out = append(out, e)
		}
	}
	return out
}

// adoptionFaults are faults of one server of either side, and one that a person causes.
func adoptionFaults() []namedFault {
	last := func(s *simCluster, former bool) int { // the last one of a side
		for i := range s.pods {
			i = len(s.pods) - 1 - i
			if s.pods[i].exists && s.isFormer(i) == former {
				return i
			}
		}
		return s.leader()
	}
	return []namedFault{
		{name: "the leader crashes", simFault: simFault{keeps: true, do: func(s *simCluster) { s.crashes(max(0, s.leader()), 8) }}},
		{name: "the leader's node is away", simFault: simFault{keeps: true, do: func(s *simCluster) { s.pods[max(0, s.leader())].away = s.now + 40 }}},
		{name: "a new server crashes", simFault: simFault{keeps: true, do: func(s *simCluster) { s.crashes(last(s, false), 8) }}},
		{name: "a new pod is deleted", simFault: simFault{keeps: true, do: func(s *simCluster) { s.delete(last(s, false)) }}},
		{name: "a former server crashes", simFault: simFault{keeps: true, do: func(s *simCluster) { s.crashes(last(s, true), 8) }}},
		{name: "a former pod is deleted", simFault: simFault{keeps: true, do: func(s *simCluster) { s.delete(last(s, true)) }}},
		{name: "servers end without leaving", simFault: simFault{keeps: true, do: func(s *simCluster) { s.harsh = true }}},
		{name: "somebody routes a Service back", simFault: simFault{do: func(s *simCluster) { s.former.switched[1] = false }}},
	}
}
