package rollout

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func three(leader string, outdated ...string) World {
	w := World{Desired: 3, Replicas: 3, Observed: true, Leader: leader, CanTransfer: true}
	for i, name := range []string{"s-0", "s-1", "s-2"} {
		w.Servers = append(w.Servers, Server{Name: name, Outdated: slices.Contains(outdated, name), Peer: true, LastIndex: uint64(100 + i)})
	}
	return w
}

func TestNext(t *testing.T) {
	with := func(w World, change func(*World)) World { change(&w); return w }
	tests := map[string]struct {
		world World
		want  Action
	}{
		"nothing to do": {three("s-0"), Action{Done: true}},
		"waits until the controller has seen the change": {
			with(three("s-0"), func(w *World) { w.Observed = false }),
			Action{Wait: "the StatefulSet controller to see the change"},
		},
		"touches nothing while a server is not a voter": {
			with(three("s-0", "s-1", "s-2"), func(w *World) { w.Unsettled = "server s-1 is not yet a voter" }),
			Action{Wait: "server s-1 is not yet a voter"},
		},
		"followers first, the one furthest behind first": {three("s-0", "s-0", "s-1", "s-2"), Action{Restart: "s-1"}},
		"a follower before the leader":                   {three("s-1", "s-1", "s-2"), Action{Restart: "s-2"}},
		"the leader hands over to the updated server furthest ahead": {
			three("s-0", "s-0"), Action{Transfer: "s-2"},
		},
		"the old leader last": {three("s-2", "s-0"), Action{Restart: "s-0"}},
		"a single server is restarted": {
			World{Desired: 1, Replicas: 1, Observed: true, Leader: "s-0", CanTransfer: true, Servers: []Server{{Name: "s-0", Outdated: true}}},
			Action{Restart: "s-0"},
		},
		"without a token the leader's graceful leave hands over": {
			with(three("s-0", "s-0"), func(w *World) { w.CanTransfer = false }), Action{Restart: "s-0"},
		},
		"an outdated server in which Consul does not run goes first": {
			with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[2].Stopped = true
				w.Unsettled = "not ready: s-2"
			}),
			Action{Restart: "s-2"},
		},
		"an up-to-date server in which Consul does not run holds the roll": {
			with(three("s-0", "s-0", "s-1"), func(w *World) {
				w.Servers[2].Stopped = true
				w.Unsettled = "not ready: s-2"
			}),
			Action{Wait: "not ready: s-2"},
		},
		"restarts come before scaling": {with(three("s-0", "s-1"), func(w *World) { w.Desired = 5 }), Action{Restart: "s-1"}},
		"scales up by one":             {with(three("s-0"), func(w *World) { w.Desired = 5 }), Action{Scale: 4}},
		"scales down by one, and removes the peer before the pod": {
			with(three("s-0"), func(w *World) { w.Desired = 1 }), Action{Scale: 2, Without: "s-2"},
		},
		"without a token a server that goes leaves by itself": {
			with(three("s-0"), func(w *World) { w.Desired, w.CanTransfer = 1, false }), Action{Scale: 2},
		},
		"a server too many that is no peer goes at once, as after a removal that was interrupted": {
			with(three("s-0"), func(w *World) {
				w.Desired, w.Servers[2].Peer, w.Unsettled = 1, false, "server s-2 is not yet a voter"
			}),
			Action{Scale: 2},
		},
		"brings back servers that were taken away as peers": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Kept, w.Unsettled = 5, 2, w.Servers[:2], 5, 5, "not ready: s-0, s-1"
			}),
			Action{Scale: 5},
		},
		"brings back a peer that died on its way out, though it is one too many": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Kept, w.Unsettled = 1, 1, w.Servers[:1], 2, 3, "not ready: s-0"
			}),
			Action{Scale: 2},
		},
		"brings back nobody while the others may be a quorum": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Kept, w.Unsettled = 1, 2, w.Servers[:2], 3, 3, "0 leaders"
			}),
			Action{Wait: "0 leaders"},
		},
		"brings back nobody whose volume is gone": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Unsettled = 1, 1, w.Servers[:1], 3, "not ready: s-0"
			}),
			Action{Wait: "not ready: s-0"},
		},
		"brings back nobody while a pod is on its way out": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Kept, w.Unsettled = 1, 1, w.Servers[:2], 2, 2, "2 of 1 pods exist"
			}),
			Action{Wait: "2 of 1 pods exist"},
		},
		"removes a server too many that never ran, though all are not well": {
			with(three("s-0"), func(w *World) {
				w.Desired, w.Servers[2].Stopped, w.Servers[2].Peer, w.Unsettled = 1, true, false, "not ready: s-2"
			}),
			Action{Scale: 2},
		},
		"does not remove a voter that is down while another is": {
			with(three("s-0"), func(w *World) {
				w.Desired, w.Servers[2].Stopped, w.Servers[2].Peer, w.Unsettled = 1, true, true, "not ready: s-2"
			}),
			Action{Wait: "not ready: s-2"},
		},
		"a sick server that runs goes first, and may be repaired": {
			with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[2].Sick, w.Unsettled = true, "server s-2 is not yet a voter"
			}),
			Action{Restart: "s-2"},
		},
		"a sick server does not go while another is away": {
			with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[1].Sick, w.Servers[2].Sick, w.Unsettled = true, true, "not ready: s-1, s-2"
			}),
			Action{Wait: "not ready: s-1, s-2"},
		},
		"a server that is on its way out is not hurried": {
			with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[2].Leaving, w.Servers[2].Sick, w.Unsettled = true, true, "not ready: s-2"
			}),
			Action{Wait: "not ready: s-2"},
		},
		"a sick leader is not touched": {
			with(three("s-0", "s-0"), func(w *World) { w.Servers[0].Sick, w.Unsettled = true, "not ready: s-0" }),
			Action{Wait: "not ready: s-0"},
		},
		"without a leader nobody counts as sick": {
			with(three("", "s-0"), func(w *World) { w.Servers[0].Sick, w.Unsettled = true, "0 leaders" }),
			Action{Wait: "0 leaders"},
		},
		"others restart what is outdated": {with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) { w.ByOthers = true }), Action{Done: true}},
		"pauses before the first server too many": {
			with(three("s-0", "s-0", "s-2"), func(w *World) { w.PauseAt = 1 }), Action{Pause: "s-0, s-2"},
		},
		"does not pause before":            {with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) { w.PauseAt = 1 }), Action{Restart: "s-1"}},
		"does not pause where all is done": {with(three("s-0"), func(w *World) { w.PauseAt = 1 }), Action{Done: true}},
		"reloads followers first": {
			with(three("s-0"), func(w *World) { w.Servers[0].Stale, w.Servers[2].Stale = true, true }), Action{Reload: "s-2"},
		},
		"reloads no server that others shall restart": {
			with(three("s-0", "s-2"), func(w *World) { w.ByOthers, w.Servers[1].Stale, w.Servers[2].Stale = true, true, true }), Action{Reload: "s-1"},
		},
		"reloads the leader last": {with(three("s-0"), func(w *World) { w.Servers[0].Stale = true }), Action{Reload: "s-0"}},
		"restarts come before reloads": {
			with(three("s-0", "s-1"), func(w *World) { w.Servers[2].Stale = true }), Action{Restart: "s-1"},
		},
		"reloads come before scaling": {
			with(three("s-0"), func(w *World) { w.Desired, w.Servers[2].Stale = 5, true }), Action{Reload: "s-2"},
		},
		"removes the peer that a server left behind": {
			with(three("s-0"), func(w *World) { w.Former, w.Unsettled = []string{"s-3"}, "autopilot knows 4 of 3 servers" }), Action{Remove: "s-3"},
		},
		"leaves a former peer alone while its pod is there": {
			with(three("s-0"), func(w *World) {
				w.Replicas, w.Desired, w.Former, w.Unsettled = 2, 1, []string{"s-2"}, "3 of 2 pods exist"
			}),
			Action{Wait: "3 of 2 pods exist"},
		},
		"brings back servers that were all taken away": {
			World{Desired: 3, Observed: true, Unsettled: "no server is running"}, Action{Scale: 3},
		},
		"restarts nobody while the leader is not known": {three("", "s-0", "s-1"), Action{Wait: "a leader"}},
		"does not remove one that runs while another is not well": {
			with(three("s-0"), func(w *World) {
				w.Desired, w.Servers[1].Stopped, w.Unsettled = 1, true, "not ready: s-1"
			}),
			Action{Wait: "not ready: s-1"},
		},
		"moves the leadership off the server that goes": {
			with(three("s-2"), func(w *World) { w.Desired = 1 }), Action{Transfer: "s-0"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Next(tt.world); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// simulated is a cluster that does what is asked, and fails the test when two
// servers would be away at once.
type simulated struct {
	t       *testing.T
	world   World
	away    string
	looks   int
	actions []string
	lookErr error
	// reloadErr is what a reload ends with, and reloadErrs what the next ones do before.
	reloadErr  error
	reloadErrs []error
}

func (s *simulated) Look(context.Context) (World, error) {
	s.looks++
	if s.lookErr != nil {
		return World{}, s.lookErr
	}
	if s.away != "" && s.looks%3 == 0 { // it takes a few looks until a server votes again
		s.away, s.world.Unsettled = "", ""
	}
	return s.world, nil
}

func (s *simulated) Restart(_ context.Context, p Server) error { return s.restart("restart", p.Name) }

func (s *simulated) Rebuild(_ context.Context, p Server) error { return s.restart("rebuild", p.Name) }

func (s *simulated) Grow(context.Context) error {
	s.actions = append(s.actions, "grow")
	s.world.Grow = ""
	return nil
}

func (s *simulated) restart(action, pod string) error {
	s.actions = append(s.actions, action+" "+pod)
	if s.away != "" {
		s.t.Errorf("%s is restarted while %s is away", pod, s.away)
	}
	if pod == s.world.Leader {
		s.t.Errorf("the leader %s is restarted", pod)
	}
	for i := range s.world.Servers {
		if s.world.Servers[i].Name == pod {
			s.world.Servers[i].Outdated, s.world.Servers[i].Volume, s.world.Servers[i].Rebuild = false, "", false
		}
	}
	s.away, s.world.Unsettled = pod, "server "+pod+" is not yet a voter"
	return nil
}

func (s *simulated) Transfer(_ context.Context, pod string) error {
	s.actions = append(s.actions, "transfer "+pod)
	s.world.Leader = pod
	return nil
}

func (s *simulated) Reload(_ context.Context, pod string) error {
	s.actions = append(s.actions, "reload "+pod)
	if len(s.reloadErrs) > 0 {
		err := s.reloadErrs[0]
		s.reloadErrs = s.reloadErrs[1:]
		return err
	}
	for i := range s.world.Servers {
		if s.world.Servers[i].Name == pod && s.reloadErr == nil {
			s.world.Servers[i].Stale = false
		}
	}
	return s.reloadErr
}

func (s *simulated) Remove(_ context.Context, peer string) error {
	s.actions = append(s.actions, "remove "+peer)
	s.world.Former, s.world.Unsettled = nil, ""
	return nil
}

func (s *simulated) Scale(_ context.Context, n int) error {
	s.actions = append(s.actions, "scale")
	if n-s.world.Replicas != 1 && n-s.world.Replicas != -1 {
		s.t.Errorf("scaled from %d to %d at once", s.world.Replicas, n)
	}
	s.world.Replicas = n
	return nil
}

func TestRun_restartsOneAtATimeAndTheLeaderLast(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: three("s-1", "s-0", "s-1", "s-2")}
	if err := Run(t.Context(), s, 0, func(Action) {}); err != nil {
		t.Fatal(err)
	}
	want := []string{"restart s-0", "restart s-2", "transfer s-2", "restart s-1"}
	if !slices.Equal(s.actions, want) {
		t.Errorf("got %q, want %q", s.actions, want)
	}
}

func TestRun_touchesNothingThatItCannotSee(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: three("s-1", "s-0"), lookErr: errors.New("connection refused")}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := Run(ctx, s, 0, func(Action) {})
	var timeout *kube.TimeoutError
	if !errors.As(err, &timeout) || !strings.Contains(timeout.Missing, "connection refused") {
		t.Errorf("got %v, want a timeout that says why", err)
	}
	if len(s.actions) > 0 {
		t.Errorf("did %q", s.actions)
	}
}

func TestRun_goesOnWhereItPaused(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: three("s-1", "s-0", "s-1", "s-2")}
	u := server.Update{PauseAfter: 1}
	s.world.PauseAt = pauseAt(s.world, u)
	var paused *PausedError
	if err := Run(t.Context(), s, 0, func(Action) {}); !errors.As(err, &paused) || paused.Left != "s-1, s-2" {
		t.Fatalf("got %v, want a pause before s-1 and s-2", err)
	}
	if !slices.Equal(s.actions, []string{"restart s-0"}) {
		t.Errorf("did %q before the pause", s.actions)
	}
	s.world.PauseAt = pauseAt(s.world, u)
	if err := Run(t.Context(), s, 0, func(Action) {}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"restart s-0", "restart s-2", "transfer s-2", "restart s-1"}; !slices.Equal(s.actions, want) {
		t.Errorf("did %q, want %q", s.actions, want)
	}
}

// A configuration that an agent refuses stops at the first server.
func TestRun_aRefusedReloadTouchesNoOther(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: three("s-1"), reloadErr: errors.New("invalid configuration")}
	for i := range s.world.Servers {
		s.world.Servers[i].Stale = true
	}
	var stuck *StuckError
	if err := Run(t.Context(), s, time.Millisecond, func(Action) {}); !errors.As(err, &stuck) || !strings.Contains(stuck.Missing, "invalid configuration") {
		t.Errorf("got %v, want to hear of the refusal", err)
	}
	if slices.ContainsFunc(s.actions, func(a string) bool { return a != "reload s-0" }) {
		t.Errorf("did %q", s.actions)
	}
}

func TestRun_endsWhereNothingGoesOn(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: three("s-1", "s-0")}
	s.world.Unsettled = "server s-2 is not yet a voter"
	var stuck *StuckError
	if err := Run(t.Context(), s, time.Millisecond, func(Action) {}); !errors.As(err, &stuck) || stuck.Missing != s.world.Unsettled {
		t.Errorf("got %v, want to hear what was waited for", err)
	}
	if len(s.actions) > 0 {
		t.Errorf("did %q", s.actions)
	}
}
