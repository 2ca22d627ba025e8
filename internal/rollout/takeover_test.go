package rollout

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// halfway is an adoption of three servers that has added n new ones.
func halfway(n int, leader string) World {
	w := World{
		Desired: 3, Replicas: n, Observed: true, Leader: leader, CanTransfer: true,
		Takeover: &Takeover{From: "old", To: "s", Total: 3, Replicas: 3, Services: []string{"a", "b"}},
	}
	for i := range n {
		w.Servers = append(w.Servers, Server{Name: podOf("s", i), Peer: true, LastIndex: uint64(100 + i)})
	}
	for i := range 3 {
		w.Takeover.Servers = append(w.Takeover.Servers, Server{Name: podOf("old", i), Peer: true, LastIndex: uint64(200 - i)})
	}
	return w
}

func TestNext_takeover(t *testing.T) {
	t.Parallel()
	with := func(w World, change func(*World)) World { change(&w); return w }
	switched := func(w *World) { w.Takeover.Services = nil }
	retired := func(left int) func(*World) {
		return func(w *World) {
			w.Takeover.Services = nil
			w.Takeover.Replicas, w.Takeover.Servers = left, w.Takeover.Servers[:left]
		}
	}
	back := func(change func(*World)) func(*World) {
		return func(w *World) { change(w); w.Takeover.Back, w.Desired = true, 0 }
	}
	tests := map[string]struct {
		world World
		want  Action
	}{
		"the first server joins":               {halfway(0, "old-1"), Action{Verb: Add, On: "s-0"}},
		"one server after another":             {halfway(1, "old-1"), Action{Verb: Add, On: "s-1"}},
		"the leadership moves to a new server": {halfway(3, "old-1"), Action{Verb: Transfer, On: "s-2"}},
		"then the Services":                    {halfway(3, "s-2"), Action{Verb: Switch, On: "a"}},
		"then the former servers are retired, the last one first": {
			with(halfway(3, "s-2"), switched),
			Action{Verb: Retire, On: "old-2", Without: "old-2"},
		},
		"until none is left": {
			with(halfway(3, "s-2"), retired(1)),
			Action{Verb: Retire, On: "old-0", Without: "old-0"},
		},
		"all is done": {with(halfway(3, "s-2"), retired(0)), Action{Verb: Done}},
		"the leadership moves again after it came back": {with(halfway(3, "old-0"), retired(2)), Action{Verb: Transfer, On: "s-2"}},
		"no server is added while another is not a voter": {
			with(
				halfway(2, "old-1"),
				func(w *World) { w.Unsettled = "server s-1 is not yet a voter" },
			), Action{Verb: Wait, On: "server s-1 is not yet a voter"},
		},
		"no server is retired while another is unhealthy": {
			with(halfway(3, "s-2"), func(w *World) { switched(w); w.Unsettled = "not ready: s-0" }), Action{Verb: Wait, On: "not ready: s-0"},
		},
		"no Service is switched while a server is unhealthy": {
			with(halfway(3, "s-2"), func(w *World) { w.Unsettled = "not ready: s-0" }), Action{Verb: Wait, On: "not ready: s-0"},
		},
		"no server is retired while the leader is not known": {with(halfway(3, ""), switched), Action{Verb: Wait, On: "a leader"}},
		"waits until the controllers have seen the change": {
			with(halfway(3, "s-2"), func(w *World) { w.Observed = false }), Action{Verb: Wait, On: "the StatefulSet controller to see the change"},
		},
		"removes the peer that a retired server left behind": {
			with(
				halfway(3, "s-2"),
				func(w *World) { retired(2)(w); w.Former, w.Unsettled = []string{"old-2"}, "server old-2 is failed" },
			), Action{Verb: Remove, On: "old-2"},
		},
		"leaves a peer alone while its pod is being deleted": {
			with(halfway(3, "s-2"), func(w *World) {
				switched(w)
				w.Takeover.Replicas = 2
				w.Former, w.Unsettled = []string{"old-2"}, "6 of 5 pods exist"
			}),
			Action{Verb: Wait, On: "6 of 5 pods exist"},
		},
		"restarts an outdated new server that never ran": {
			with(halfway(2, "old-1"), func(w *World) {
				w.Servers[1] = Server{Name: "s-1", Outdated: true, Stopped: true}
				w.Unsettled = "not ready: s-1"
			}),
			Action{Verb: Restart, On: "s-1"},
		},
		"does not touch an outdated one that votes": {
			with(halfway(2, "old-1"), func(w *World) { w.Servers[1].Outdated = true }), Action{Verb: Add, On: "s-2"},
		},
		"retires a surplus new server that no node has room for": {
			with(halfway(3, "old-1"), func(w *World) {
				w.Desired, w.Servers[2].Stopped, w.Servers[2].Peer, w.Unsettled = 1, true, false, "not ready: s-2"
			}),
			Action{Verb: Retire, On: "s-2"},
		},

		"back: former servers return first":  {with(halfway(3, "s-2"), back(retired(1))), Action{Verb: Add, On: "old-1"}},
		"back: then the leadership":          {with(halfway(3, "s-2"), back(switched)), Action{Verb: Transfer, On: "old-0"}},
		"back: then the Services":            {with(halfway(3, "old-0"), back(func(*World) {})), Action{Verb: Switch, On: "a"}},
		"back: then new servers are retired": {with(halfway(3, "old-0"), back(switched)), Action{Verb: Retire, On: "s-2", Without: "s-2"}},
		"back: all is as it was":             {with(halfway(0, "old-0"), back(switched)), Action{Verb: Done}},
		"back: no server is retired while one is unhealthy": {
			with(halfway(3, "old-0"), back(func(w *World) { w.Unsettled = "x" })),
			Action{Verb: Wait, On: "x"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Next(tt.world); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTakeoverSteps(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Replicas: 3, Adopt: &server.Adopt{StatefulSet: "old", Services: []string{"consul"}}}
	want := []string{
		"add consul-server-0", "add consul-server-1", "add consul-server-2", "transfer the leadership to consul-server-0",
		"switch Service consul", "retire old-1", "retire old-0",
	}
	var got []string
	for _, a := range TakeoverSteps(spec, 2) {
		got = append(got, a.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A plan shows the remaining steps, wherever the adoption was interrupted.
func TestNewPlan_showsTheRestOfATakeover(t *testing.T) {
	t.Parallel()
	w := halfway(2, "s-0")
	w.Unsettled, w.Observed = "server s-1 is not yet a voter", false
	p := planOf(&w, server.Spec{Replicas: 2}, server.Spec{Replicas: 3, UI: true}) // which servers restart depends on when they are added
	var got []string
	for _, a := range p.Steps() {
		got = append(got, a.String())
	}
	want := []string{"add s-2", "switch Service a", "switch Service b", "retire old-2", "retire old-1", "retire old-0"}
	if !slices.Equal(got, want) || p.Restarts != 0 {
		t.Errorf("got  %q and %d restarts\nwant %q", got, p.Restarts, want)
	}
	if len(w.Servers) != 2 || len(w.Takeover.Servers) != 3 || len(w.Takeover.Services) != 2 {
		t.Errorf("the preview changed what was seen: %+v", w)
	}
}

// takingOver is an adoption that does what is asked, and fails the test if the leader, or a server to which a Service
// routes, is retired.
type takingOver struct {
	simulated
}

func (s *takingOver) Do(ctx context.Context, w World, a Action) error {
	if err := s.simulated.Do(ctx, w, a); err != nil {
		return err
	}
	switch a.Verb {
	case Add:
		s.world.Replicas++
		s.world.Servers = append(s.world.Servers, Server{Name: a.On, Peer: true})
		s.away, s.world.Unsettled = a.On, "server "+a.On+" is not yet a voter"
	case Retire:
		switch {
		case s.away != "":
			s.t.Errorf("%s is retired while %s is away", a.On, s.away)
		case s.world.Leader == a.On:
			s.t.Errorf("the leader %s is retired", a.On)
		case len(s.world.Takeover.Services) > 0:
			s.t.Errorf("%s is retired while Services route to it", a.On)
		}
		s.world.Takeover.Replicas--
		s.world.Takeover.Servers = s.world.Takeover.Servers[:s.world.Takeover.Replicas]
		s.world.Former, s.world.Unsettled = []string{a.On}, "server "+a.On+" is failed"
	case Switch:
		s.world.Takeover.Services = s.world.Takeover.Services[1:]
	default:
	}
	return nil
}

func TestRun_adopts(t *testing.T) {
	t.Parallel()
	s := &takingOver{simulated{t: t, world: halfway(0, "old-2")}}
	if err := runFor(t, s, time.Hour, 0); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"add s-0", "add s-1", "add s-2", "transfer s-0", "switch a", "switch b",
		"remove old-2", "retire old-2", "remove old-2", "remove old-1", "retire old-1", "remove old-1", "remove old-0", "retire old-0",
		"remove old-0",
	}
	if !slices.Equal(s.actions, want) {
		t.Errorf("did  %q\nwant %q", s.actions, want)
	}
}

// A former server that agents still list is removed once all of them see it as failed, and is waited for until then.
// Members that are not servers of the adoption, and servers with a pod, are left alone.
func TestWorld_addMembers(t *testing.T) {
	t.Parallel()
	pods := []string{"new-0", "old-0"}
	for name, tt := range map[string]struct {
		failed    map[string]bool
		former    []string
		unsettled string
	}{
		"all have a pod": {map[string]bool{"new-0": false, "old-0": true}, []string{"old-3"}, ""},
		"one has failed": {map[string]bool{"old-2": true}, []string{"old-3", "old-2"}, ""},
		"one is alive for an agent": {map[string]bool{"old-1": false, "old-2": true}, []string{"old-3", "old-2"}, "server old-1, which has no " +
			"pod, is still a member for some agents"},
		"one is known":           {map[string]bool{"old-3": true}, []string{"old-3"}, ""},
		"one of the new servers": {map[string]bool{"new-2": true}, []string{"old-3", "new-2"}, ""},
		"others":                 {map[string]bool{"older-1": true, "old-x": true, "old": true}, []string{"old-3"}, ""},
	} {
		w := World{Former: []string{"old-3"}, Takeover: &Takeover{From: "old", To: "new"}}
		w.AddMembers(tt.failed, pods)
		if !slices.Equal(w.Former, tt.former) || w.Unsettled != tt.unsettled {
			t.Errorf("%s: remove %q, wait for %q; want %q, %q", name, w.Former, w.Unsettled, tt.former, tt.unsettled)
		}
	}
}
