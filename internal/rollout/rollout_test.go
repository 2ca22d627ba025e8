package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func three(leader string, outdated ...string) World {
	w := World{StatefulSet: "s", Desired: 3, Replicas: 3, Observed: true, Leader: leader, CanTransfer: true}
	for i, name := range []string{"s-0", "s-1", "s-2"} {
		w.Servers = append(w.Servers, Server{Name: name, Outdated: slices.Contains(outdated, name), Peer: true, LastIndex: uint64(100 + i)})
	}
	return w
}

// unready makes every server of a world sick.
func unready(w World) World {
	var all []string
	for i := range w.Servers {
		w.Servers[i].Sick = true
		all = append(all, w.Servers[i].Name)
	}
	w.Unsettled = "not ready: " + strings.Join(all, ", ")
	return w
}

func TestNext(t *testing.T) {
	with := func(w World, change func(*World)) World { change(&w); return w }
	tests := map[string]struct {
		world World
		want  Action
	}{
		"nothing to do": {three("s-0"), Action{Verb: Done}},
		"waits until the StatefulSet controller has seen the change": {
			with(three("s-0"), func(w *World) { w.Observed = false }),
			Action{Verb: Wait, On: "the StatefulSet controller to see the change"},
		},
		"touches nothing while a server is not a voter": {
			with(three("s-0", "s-1", "s-2"), func(w *World) { w.Unsettled = "server s-1 is not yet a voter" }),
			Action{Verb: Wait, On: "server s-1 is not yet a voter"},
		},
		"followers first, the one furthest behind first": {three("s-0", "s-0", "s-1", "s-2"), Action{Verb: Restart, On: "s-1"}},
		"a follower before the leader":                   {three("s-1", "s-1", "s-2"), Action{Verb: Restart, On: "s-2"}},
		"the leadership moves to the updated server furthest ahead": {
			three("s-0", "s-0"), Action{Verb: Transfer, On: "s-2"},
		},
		"the former leader last": {three("s-2", "s-0"), Action{Verb: Restart, On: "s-0"}},
		"a single server is restarted": {
			World{Desired: 1, Replicas: 1, Observed: true, Leader: "s-0", CanTransfer: true, Servers: []Server{{Name: "s-0", Outdated: true}}},
			Action{Verb: Restart, On: "s-0"},
		},
		"without a token, the graceful leave of the leader moves the leadership": {
			with(three("s-0", "s-0"), func(w *World) { w.CanTransfer = false }), Action{Verb: Restart, On: "s-0"},
		},
		"an outdated server in which Consul does not run goes first": {
			with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[2].Stopped = true
				w.Unsettled = "not ready: s-2"
			}),
			Action{Verb: Restart, On: "s-2"},
		},
		"a current server in which Consul does not run stops the rollout": {
			with(three("s-0", "s-0", "s-1"), func(w *World) {
				w.Servers[2].Stopped = true
				w.Unsettled = "not ready: s-2"
			}),
			Action{Verb: Wait, On: "not ready: s-2"},
		},
		"restarts in place what can change in place": {
			with(three("s-0", "s-1", "s-2"), func(w *World) { w.Servers[1].InPlace = true }), Action{Verb: RestartInPlace, On: "s-1"},
		},
		"a server that is not healthy gets a new pod": {
			with(three("s-0", "s-1"), func(w *World) {
				w.Servers[1].InPlace, w.Servers[1].Sick = true, true
				w.Unsettled = "not ready: s-1"
			}),
			Action{Verb: Restart, On: "s-1"},
		},
		"so does one whose volume requires a restart": {
			with(three("s-0", "s-1"), func(w *World) { w.Servers[1].InPlace, w.Servers[1].Volume = true, "its file system grows" }),
			Action{Verb: Restart, On: "s-1", Why: "its file system grows"},
		},
		"waits for a server that restarts in place, whatever autopilot says of it": {
			with(three("s-0", "s-1", "s-2"), func(w *World) { w.Servers[1].InPlace, w.Servers[1].Restarting = true, true }),
			Action{Verb: Wait, On: "s-1 to restart in place"},
		},
		"restarts no second server while one restarts in place, not even one that is not healthy": {
			with(three("s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[1].InPlace, w.Servers[1].Restarting = true, true
				w.Servers[2].Sick, w.Servers[2].Voting = true, true
				w.Unsettled = "not ready: s-2"
			}),
			Action{Verb: Wait, On: "not ready: s-2"},
		},
		"waits for one whose container does not run yet": {
			with(three("s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[1].InPlace, w.Servers[1].Restarting, w.Servers[1].Stopped = true, true, true
				w.Unsettled = "not ready: s-1"
			}),
			Action{Verb: Wait, On: "not ready: s-1"},
		},
		"routes clients to a server that is back, before all are healthy voters": {
			with(three("s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[1].Restarting, w.Servers[1].Restarted = true, true
				w.Unsettled = "server s-1 is not yet a voter"
			}),
			Action{Verb: Route, On: "s-1"},
		},
		"routes clients to a server that a killed provider left unrouted": {
			with(three("s-0", "s-1", "s-2"), func(w *World) { w.Servers[1].InPlace, w.Servers[1].Unrouted = true, true }),
			Action{Verb: Route, On: "s-1"},
		},
		"does not route clients to a server that is about to restart": {
			with(three("s-0", "s-1"), func(w *World) { w.Servers[1].Restarting, w.Servers[1].Unrouted = true, true }),
			Action{Verb: Wait, On: "s-1 to restart in place"},
		},
		"restarts come before scaling": {with(three("s-0", "s-1"), func(w *World) { w.Desired = 5 }), Action{Verb: Restart, On: "s-1"}},
		"scales up by one":             {with(three("s-0"), func(w *World) { w.Desired = 5 }), Action{Verb: Scale, Count: 4}},
		"scales down by one, and removes the peer before the pod": {
			with(three("s-0"), func(w *World) { w.Desired = 1 }), Action{Verb: Scale, Count: 2, Without: "s-2"},
		},
		"scales down if no pod exists": {
			World{Desired: 1, Replicas: 3, Observed: true, CanTransfer: true}, Action{Verb: Scale, Count: 2},
		},
		"removes no peer if the pod of the surplus server is missing": {
			with(three("s-0"), func(w *World) { w.Desired, w.Servers = 1, w.Servers[:2] }), Action{Verb: Scale, Count: 2},
		},
		"the leadership stays unless the last server has it": {
			with(three("s-1"), func(w *World) { w.Desired, w.Servers = 1, w.Servers[:2] }), Action{Verb: Scale, Count: 2},
		},
		"without a token, a surplus server leaves by itself": {
			with(three("s-0"), func(w *World) { w.Desired, w.CanTransfer = 1, false }), Action{Verb: Scale, Count: 2},
		},
		"removes a surplus server that is not a peer at once, as after an interrupted removal": {
			with(three("s-0"), func(w *World) {
				w.Desired, w.Servers[2].Peer, w.Unsettled = 1, false, "server s-2 is not yet a voter"
			}),
			Action{Verb: Scale, Count: 2},
		},
		"brings back servers that were taken away as peers": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Away, w.Kept, w.Unsettled = 5, 2, w.Servers[:2], 5, 3, 5, "not ready: s-0, s-1"
			}),
			Action{Verb: Scale, Count: 5},
		},
		"brings back a surplus peer that died while it left": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Away, w.Kept, w.Unsettled = 1, 1, w.Servers[:1], 2, 1, 2, "not ready: s-0"
			}),
			Action{Verb: Scale, Count: 2},
		},
		"brings back the peer that stayed, which is not the next server": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Away, w.Kept, w.Unsettled = 1, 2, w.Servers[:2], 2, 1, 3, "0 leaders"
			}),
			Action{Verb: Scale, Count: 3},
		},
		"brings back no server while the others may be a quorum": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Away, w.Kept, w.Unsettled = 1, 2, w.Servers[:2], 3, 1, 3, "0 leaders"
			}),
			Action{Verb: Wait, On: "0 leaders"},
		},
		"brings back no server whose volume is gone": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Unsettled = 1, 1, w.Servers[:1], 3, "not ready: s-0"
			}),
			Action{Verb: Wait, On: "not ready: s-0"},
		},
		"brings back no server while a pod is being deleted": {
			with(three(""), func(w *World) {
				w.Desired, w.Replicas, w.Servers, w.Peers, w.Away, w.Kept, w.Unsettled = 1, 1, w.Servers[:2], 2, 1, 2, "2 of 1 pods exist"
			}),
			Action{Verb: Wait, On: "2 of 1 pods exist"},
		},
		"removes a surplus server that never ran, although the cluster is not settled": {
			with(three("s-0"), func(w *World) {
				w.Desired, w.Servers[2].Stopped, w.Servers[2].Peer, w.Unsettled = 1, true, false, "not ready: s-2"
			}),
			Action{Verb: Scale, Count: 2},
		},
		"does not remove a voter that is down while another one is down": {
			with(three("s-0"), func(w *World) {
				w.Desired, w.Servers[2].Stopped, w.Servers[2].Peer, w.Unsettled = 1, true, true, "not ready: s-2"
			}),
			Action{Verb: Wait, On: "not ready: s-2"},
		},
		"a sick server that runs restarts first, which may repair it": {
			with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[2].Sick, w.Unsettled = true, "server s-2 is not yet a voter"
			}),
			Action{Verb: Restart, On: "s-2"},
		},
		"a sick server does not restart while another is away": {
			with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[1].Sick, w.Servers[2].Sick, w.Unsettled = true, true, "not ready: s-1, s-2"
			}),
			Action{Verb: Wait, On: "not ready: s-1, s-2"},
		},
		"a server whose pod is being deleted is left alone": {
			with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[2].Leaving, w.Servers[2].Sick, w.Unsettled = true, true, "not ready: s-2"
			}),
			Action{Verb: Wait, On: "not ready: s-2"},
		},
		"a sick leader is not touched": {
			with(three("s-0", "s-0"), func(w *World) { w.Servers[0].Sick, w.Unsettled = true, "not ready: s-0" }),
			Action{Verb: Wait, On: "not ready: s-0"},
		},
		"without a leader, no server counts as sick": {
			with(three("", "s-0"), func(w *World) { w.Servers[0].Sick, w.Unsettled = true, "0 leaders" }),
			Action{Verb: Wait, On: "0 leaders"},
		},
		"a sick leader transfers the leadership to a healthy server": {
			with(three("s-0", "s-0"), func(w *World) {
				w.Servers[0].Sick, w.Servers[0].Voting, w.Unsettled = true, true, "not ready: s-0"
			}),
			Action{Verb: Transfer, On: "s-2", Why: "s-0 is not healthy"},
		},
		"a sick leader transfers the leadership although no other server is updated": {
			with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) {
				w.Servers[0].Sick, w.Servers[0].Voting, w.Unsettled = true, true, "not ready: s-0"
			}),
			Action{Verb: Transfer, On: "s-2", Why: "s-0 is not healthy"},
		},
		"a sick leader that cannot transfer the leadership leaves": {
			with(three("s-0", "s-0"), func(w *World) {
				w.Servers[0].Sick, w.Servers[0].Voting, w.CanTransfer, w.Unsettled = true, true, false, "not ready: s-0"
			}),
			Action{Verb: Restart, On: "s-0"},
		},
		"no server is ready, but all vote: a follower restarts first": {
			with(unready(three("s-0", "s-0", "s-1", "s-2")), func(w *World) {
				for i := range w.Servers {
					w.Servers[i].Voting = true
				}
			}),
			Action{Verb: Restart, On: "s-1"},
		},
		"no server is ready, and one does not vote: it restarts first": {
			with(unready(three("s-0", "s-0", "s-1", "s-2")), func(w *World) {
				w.Servers[0].Voting, w.Servers[1].Voting = true, true
			}),
			Action{Verb: Restart, On: "s-2"},
		},
		"a single server that is sick restarts": {
			World{
				Desired:   1,
				Replicas:  1,
				Observed:  true,
				Unsettled: "not ready: s-0",
				Servers:   []Server{{Name: "s-0", Outdated: true, Sick: true}},
			},
			Action{Verb: Restart, On: "s-0", Why: "it is the only server, and not healthy"},
		},
		"a single server that is sick restarts although more are declared": {
			World{
				Desired:   3,
				Replicas:  1,
				Observed:  true,
				Unsettled: "not ready: s-0",
				Servers:   []Server{{Name: "s-0", Outdated: true, Sick: true}},
			},
			Action{Verb: Restart, On: "s-0", Why: "it is the only server, and not healthy"},
		},
		"a single server that is sick and current is waited for": {
			World{Desired: 1, Replicas: 1, Observed: true, Unsettled: "not ready: s-0", Servers: []Server{{Name: "s-0", Sick: true}}},
			Action{Verb: Wait, On: "not ready: s-0"},
		},
		"servers that never elected a leader restart": {
			with(unready(three("", "s-0", "s-1", "s-2")), func(w *World) { w.Unelected = true }),
			Action{Verb: Restart, On: "s-0", Why: "no leader was ever elected"},
		},
		"all servers that never elected a leader restart": {
			with(unready(three("", "s-2")), func(w *World) { w.Unelected = true }),
			Action{Verb: Restart, On: "s-2", Why: "no leader was ever elected"},
		},
		"without a leader for a short time, no server restarts": {
			unready(three("", "s-0", "s-1", "s-2")), Action{Verb: Wait, On: "not ready: s-0, s-1, s-2"},
		},
		"without a leader for a long time, one restarts": {
			with(unready(three("", "s-1", "s-2")), func(w *World) { w.Leaderless = true }),
			Action{Verb: Restart, On: "s-1", Why: "there is no leader, and every outdated server is unhealthy"},
		},
		"without a leader for a long time, the next one waits until a restarted one runs": {
			with(unready(three("", "s-1", "s-2")), func(w *World) { w.Leaderless, w.Servers[0].Stopped = true, true }),
			Action{Verb: Wait, On: "not ready: s-0, s-1, s-2"},
		},
		"without a leader for a long time, an outdated server that serves is left alone": {
			with(unready(three("", "s-1", "s-2")), func(w *World) { w.Leaderless, w.Servers[1].Sick = true, false }),
			Action{Verb: Wait, On: "not ready: s-0, s-1, s-2"},
		},
		"without a leader for a long time, no current server restarts": {
			with(unready(three("")), func(w *World) { w.Leaderless = true }), Action{Verb: Wait, On: "not ready: s-0, s-1, s-2"},
		},
		"a server that a reload made sick reloads first": {
			with(three("s-0"), func(w *World) {
				w.Servers[0].Stale, w.Servers[2].Stale, w.Servers[2].Sick, w.Unsettled = true, true, true, "not ready: s-2"
			}),
			Action{Verb: Reload, On: "s-2", Why: "it is not healthy"},
		},
		"a leader that a reload made sick reloads": {
			with(three("s-2"), func(w *World) { w.Servers[2].Stale, w.Servers[2].Sick, w.Unsettled = true, true, "not ready: s-2" }),
			Action{Verb: Reload, On: "s-2", Why: "it is not healthy"},
		},
		"a sick server does not reload while another one is sick": {
			with(three("s-0"), func(w *World) {
				w.Servers[1].Sick, w.Servers[2].Stale, w.Servers[2].Sick, w.Unsettled = true, true, true, "not ready: s-1, s-2"
			}),
			Action{Verb: Wait, On: "not ready: s-1, s-2"},
		},
		"a single server restarts after others were added": {
			World{Desired: 3, Replicas: 1, Observed: true, Leader: "s-0", CanTransfer: true, Servers: []Server{{Name: "s-0", Outdated: true}}},
			Action{Verb: Scale, Count: 2, Why: "the others answer while s-0 restarts"},
		},
		"two servers restart after a third was added": {
			World{
				Desired:     3,
				Replicas:    2,
				Observed:    true,
				Leader:      "s-0",
				CanTransfer: true,
				Servers:     []Server{{Name: "s-0", Outdated: true}, {Name: "s-1"}},
			},
			Action{Verb: Scale, Count: 3, Why: "the others answer while s-0 restarts"},
		},
		"two servers restart before one is removed": {
			World{
				Desired:     1,
				Replicas:    2,
				Observed:    true,
				Leader:      "s-0",
				CanTransfer: true,
				Servers:     []Server{{Name: "s-0"}, {Name: "s-1", Peer: true, Outdated: true}},
			},
			Action{Verb: Restart, On: "s-1"},
		},
		"others restart what is outdated": {with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) { w.ByOthers = true }), Action{Verb: Done}},
		"pauses after the number of servers that may restart": {
			with(three("s-0", "s-0", "s-2"), func(w *World) { w.PauseAt = 1 }), Action{Verb: Pause, On: "s-0, s-2"},
		},
		"does not pause before that number": {
			with(three("s-0", "s-0", "s-1", "s-2"), func(w *World) { w.PauseAt = 1 }),
			Action{Verb: Restart, On: "s-1"},
		},
		"does not pause if nothing is left to do": {with(three("s-0"), func(w *World) { w.PauseAt = 1 }), Action{Verb: Done}},
		"reloads followers first": {
			with(three("s-0"), func(w *World) { w.Servers[0].Stale, w.Servers[2].Stale = true, true }), Action{Verb: Reload, On: "s-2"},
		},
		"reloads no server that others have to restart": {
			with(
				three("s-0", "s-2"),
				func(w *World) { w.ByOthers, w.Servers[1].Stale, w.Servers[2].Stale = true, true, true },
			), Action{Verb: Reload, On: "s-1"},
		},
		"reloads the leader last": {with(three("s-0"), func(w *World) { w.Servers[0].Stale = true }), Action{Verb: Reload, On: "s-0"}},
		"restarts come before reloads": {
			with(three("s-0", "s-1"), func(w *World) { w.Servers[2].Stale = true }), Action{Verb: Restart, On: "s-1"},
		},
		"reloads come before scaling": {
			with(three("s-0"), func(w *World) { w.Desired, w.Servers[2].Stale = 5, true }), Action{Verb: Reload, On: "s-2"},
		},
		"removes the peer that a server left behind": {
			with(
				three("s-0"),
				func(w *World) { w.Former, w.Unsettled = []string{"s-3"}, "autopilot knows 4 of 3 servers" },
			), Action{Verb: Remove, On: "s-3"},
		},
		"leaves a former peer alone while its pod exists": {
			with(three("s-0"), func(w *World) {
				w.Replicas, w.Desired, w.Former, w.Unsettled = 2, 1, []string{"s-2"}, "3 of 2 pods exist"
			}),
			Action{Verb: Wait, On: "3 of 2 pods exist"},
		},
		"brings back servers that were all taken away": {
			World{Desired: 3, Observed: true, Unsettled: "no server is running"}, Action{Verb: Scale, Count: 3},
		},
		"restarts no server while the leader is not known": {three("", "s-0", "s-1"), Action{Verb: Wait, On: "a leader"}},
		"does not remove one that runs while another is unhealthy": {
			with(three("s-0"), func(w *World) {
				w.Desired, w.Servers[1].Stopped, w.Unsettled = 1, true, "not ready: s-1"
			}),
			Action{Verb: Wait, On: "not ready: s-1"},
		},
		"transfers the leadership before the leader is removed": {
			with(three("s-2"), func(w *World) { w.Desired = 1 }), Action{Verb: Transfer, On: "s-0"},
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
	blocked    string
}

func (s *simulated) Look(context.Context) (World, error) {
	s.looks++
	if s.lookErr != nil {
		return World{}, s.lookErr
	}
	if s.away != "" && s.looks%3 == 0 { // a server votes again after a few looks
		s.away, s.world.Unsettled = "", ""
	}
	return s.world, nil
}

func (s *simulated) Do(_ context.Context, _ World, a Action) error {
	if a.Verb == Wait {
		if s.blocked != "" {
			return &StuckError{Missing: s.blocked}
		}
		return nil
	}
	if a.Without != "" {
		s.actions = append(s.actions, "remove "+a.Without)
	}
	s.actions = append(s.actions, words[a.Verb]+a.On)
	switch a.Verb {
	case Restart, Rebuild:
		return s.restart(a.On)
	case Grow:
		s.world.Grow = ""
	case Transfer:
		s.world.Leader = a.On
	case Reload:
		return s.reload(a.On)
	case Remove:
		s.world.Former, s.world.Unsettled = nil, ""
	case Scale:
		if n := a.Count - s.world.Replicas; n != 1 && n != -1 {
			s.t.Errorf("scaled from %d to %d at once", s.world.Replicas, a.Count)
		}
		s.world.Replicas = a.Count
	default: // of an adoption: takingOver
	}
	return nil
}

// words are what tests call the actions of a simulated cluster.
var words = map[Verb]string{
	Restart: "restart ", Rebuild: "rebuild ", Grow: "grow ", Transfer: "transfer ", Reload: "reload ", Remove: "remove ", Scale: "scale",
	Add: "add ", Retire: "retire ", Switch: "switch ",
}

func (s *simulated) restart(pod string) error {
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

func (s *simulated) reload(pod string) error {
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

// loop is how tests run a rollout. Time passes only while it waits.
func loop(limit time.Duration) Loop {
	return Loop{
		Wait: func(ctx context.Context, check func(context.Context) (string, error)) error {
			for {
				missing, err := check(ctx)
				if err != nil || missing == "" {
					return err
				}
				select {
				case <-ctx.Done():
					return fmt.Errorf("%s: %w", missing, ctx.Err())
				case <-time.After(time.Second):
				}
			}
		},
		Now: time.Now, Limit: limit, Report: func(Action) {},
	}
}

// runFor runs a rollout with its own clock.
func runFor(t *testing.T, c Cluster, timeout, limit time.Duration) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		err = Run(ctx, c, loop(limit))
	})
	return err
}

func TestRun_restartsOneAtATimeAndTheLeaderLast(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: three("s-1", "s-0", "s-1", "s-2")}
	if err := runFor(t, s, time.Hour, 0); err != nil {
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
	err := runFor(t, s, time.Minute, 0)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v, want a timeout that says why", err)
	}
	if len(s.actions) > 0 {
		t.Errorf("did %q", s.actions)
	}
}

func TestRun_resumesAfterAPause(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: three("s-1", "s-0", "s-1", "s-2")}
	u := server.Update{PauseAfter: 1}
	s.world.PauseAt = PauseAt(s.world, u)
	var paused *PausedError
	if err := runFor(t, s, time.Hour, 0); !errors.As(err, &paused) || paused.Left != "s-1, s-2" {
		t.Fatalf("got %v, want a pause before s-1 and s-2", err)
	}
	if !slices.Equal(s.actions, []string{"restart s-0"}) {
		t.Errorf("did %q before the pause", s.actions)
	}
	s.world.PauseAt = PauseAt(s.world, u)
	if err := runFor(t, s, time.Hour, 0); err != nil {
		t.Fatal(err)
	}
	if want := []string{"restart s-0", "restart s-2", "transfer s-2", "restart s-1"}; !slices.Equal(s.actions, want) {
		t.Errorf("did %q, want %q", s.actions, want)
	}
}

// If an agent refuses a configuration, the rollout stops at the first server.
func TestRun_aRefusedReloadTouchesNoOther(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: three("s-1"), reloadErr: errors.New("invalid configuration")}
	for i := range s.world.Servers {
		s.world.Servers[i].Stale = true
	}
	var stuck *StuckError
	if err := runFor(t, s, time.Hour, time.Minute); !errors.As(err, &stuck) || !strings.Contains(stuck.Missing, "invalid configuration") {
		t.Errorf("got %v, want the refusal", err)
	}
	if slices.ContainsFunc(s.actions, func(a string) bool { return a != "reload s-0" }) {
		t.Errorf("did %q", s.actions)
	}
}

func TestRun_endsWithoutProgress(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: three("s-1", "s-0")}
	s.world.Unsettled = "server s-2 is not yet a voter"
	var stuck *StuckError
	if err := runFor(t, s, time.Hour, time.Minute); !errors.As(err, &stuck) || stuck.Missing != s.world.Unsettled {
		t.Errorf("got %v, want what was waited for", err)
	}
	if len(s.actions) > 0 {
		t.Errorf("did %q", s.actions)
	}
}

// Servers without a leader, all of them outdated and sick, restart one after the other, and the
// rollout says so. What led is remembered: it decides whether the change may be rolled back.
func TestRun_restartsServersWithoutALeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &leaderless{simulated{t: t, world: unready(three("", "s-0", "s-1", "s-2"))}}
		s.world.Patience = 20 * time.Second
		began := time.Now()
		if err := Run(t.Context(), s, loop(0)); err != nil {
			t.Fatal(err)
		}
		if want := []string{"restart s-0", "restart s-1", "restart s-2"}; !slices.Equal(s.actions, want) {
			t.Errorf("did %q, want %q", s.actions, want)
		}
		if took := time.Since(began); took < 3*s.world.Patience {
			t.Errorf("a server had no time to elect a leader: all restarted in %s", took)
		}
	})
}

// leaderless is a cluster whose servers elect a leader once the last of them was restarted.
type leaderless struct{ simulated }

func (s *leaderless) Do(_ context.Context, _ World, a Action) error {
	if a.Verb == Wait {
		return nil
	}
	s.actions = append(s.actions, words[a.Verb]+a.On)
	i := slices.IndexFunc(s.world.Servers, func(o Server) bool { return o.Name == a.On })
	s.world.Servers[i].Outdated = false
	if !slices.ContainsFunc(s.world.Servers, Server.due) {
		s.world = three("s-0")
	}
	return nil
}

func TestRun_knowsWhetherTheChangeHasLed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		world World
		led   bool
	}{
		"an outdated server leads":      {three("s-1", "s-0", "s-1"), false},
		"no server leads":               {three("", "s-0", "s-1"), false},
		"a server that runs it leads":   {three("s-2", "s-0", "s-1"), true},
		"it is not known yet what runs": {func() World { w := three("s-2"); w.Observed = false; return w }(), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &simulated{t: t, world: tt.world}
			s.world.Unsettled = "server s-2 is not yet a voter"
			var stuck *StuckError
			if err := runFor(t, s, time.Hour, time.Minute); !errors.As(err, &stuck) || stuck.Led != tt.led {
				t.Errorf("got %v, want to know that it has led: %t", err, tt.led)
			}
		})
	}
}

// Servers that were taken away are drift, even if the remaining number is declared: otherwise no apply brings them back.
func TestWorldDrift_namesServersThatWereTakenAway(t *testing.T) {
	t.Parallel()
	w := World{Desired: 1, Replicas: 1, Servers: []Server{{Name: "s-0"}}, Peers: 3, Away: 2, Kept: 3}
	want := "Servers: 1 of 3 Raft peers have a pod, which is not a quorum; those with volumes will be brought back"
	if got := w.Drift(); len(got) != 1 || got[0] != want {
		t.Errorf("got %q", got)
	}
	if w.Leader = "s-0"; len(w.Drift()) > 0 {
		t.Errorf("with a leader: %q", w.Drift())
	}
}

// An error does not end a rollout unless it is final.
func TestRun_looksAgainAfterAnError(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: three("s-0"), reloadErrs: []error{errors.New(`pods "s-1" not found`)}}
	s.world.Servers[1].Stale = true
	if err := runFor(t, s, time.Hour, 0); err != nil {
		t.Fatal(err)
	}
	if want := []string{"reload s-1", "reload s-1"}; !slices.Equal(s.actions, want) {
		t.Errorf("did %q, want %q", s.actions, want)
	}
	s = &simulated{t: t, world: three("s-0"), lookErr: &FinalError{Err: server.ErrNoStatefulSet}}
	if err := runFor(t, s, time.Hour, 0); !errors.Is(err, server.ErrNoStatefulSet) {
		t.Errorf("got %v", err)
	}
}

// Another server is evicted between each observation and its decision: the disruption budget refuses, and no two
// servers are away at once.
func TestRun_amongEvictions(t *testing.T) {
	t.Parallel()
	s := &evicting{simulated: simulated{t: t, world: three("s-1", "s-0", "s-1", "s-2")}}
	if err := runFor(t, s, time.Hour, 0); err != nil {
		t.Fatal(err)
	}
	if s.refused < 2 {
		t.Errorf("the budget refused %d times", s.refused)
	}
	if want := []string{"restart s-2", "transfer s-2", "restart s-1"}; !slices.Equal(s.actions, want) {
		t.Errorf("did %q, want %q", s.actions, want)
	}
}

// evicting is a cluster in which somebody else evicts s-0 at the first restart, and s-2 at the second.
type evicting struct {
	simulated
	refused int
}

func (s *evicting) Do(ctx context.Context, w World, a Action) error {
	if a.Verb != Restart {
		return s.simulated.Do(ctx, w, a)
	}
	if s.away == "" && s.refused < 2 {
		s.away = []string{"s-0", "s-2"}[s.refused]
		s.world.Unsettled = "server " + s.away + " is not yet a voter"
		i := slices.IndexFunc(s.world.Servers, func(o Server) bool { return o.Name == s.away })
		s.world.Servers[i].Outdated = s.world.Servers[i].Outdated && i > 0 // this makes s-0 run the change
	}
	if s.away != "" {
		s.refused++
		return errors.New("cannot evict pod as it would violate the pod's disruption budget")
	}
	return s.simulated.Do(ctx, w, a)
}
