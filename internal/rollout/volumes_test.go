package rollout

import (
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// rebuild marks servers whose volume is not as declared.
func rebuild(w World, names ...string) World {
	for i := range w.Servers {
		if slices.Contains(names, w.Servers[i].Name) {
			w.Servers[i].Volume, w.Servers[i].Rebuild = "its volume has 1Gi of 2Gi", true
		}
	}
	return w
}

func TestNext_volumes(t *testing.T) {
	t.Parallel()
	with := func(w World, change func(*World)) World { change(&w); return w }
	const away = "not ready: s-2"
	tests := map[string]struct {
		world World
		want  Action
	}{
		"volumes grow before anything else": {
			with(three("s-0", "s-1"), func(w *World) { w.Grow, w.Unsettled = "2Gi", away }), Action{Verb: Grow, On: "2Gi"},
		},
		"no server is restarted while volumes grow": {
			with(three("s-0", "s-1"), func(w *World) { w.Servers[2].Growing = "its volume has 1Gi of 2Gi" }),
			Action{Verb: Wait, On: "s-2: its volume has 1Gi of 2Gi"},
		},
		"a change ends only when volumes have grown": {
			with(three("s-0"), func(w *World) { w.Servers[2].Growing = "its volume has 1Gi of 2Gi" }),
			Action{Verb: Wait, On: "s-2: its volume has 1Gi of 2Gi"},
		},
		"a server whose file system has to grow is restarted": {
			with(three("s-0"), func(w *World) { w.Servers[1].Volume = "its file system waits" }), Action{Verb: Restart, On: "s-1"},
		},
		"a server that others restart is not waited for": {
			with(three("s-0"), func(w *World) { w.Servers[1].Volume, w.ByOthers = "its file system waits", true }), Action{Verb: Done},
		},
		"followers get new volumes first": {rebuild(three("s-0"), "s-0", "s-1", "s-2"), Action{Verb: Rebuild, On: "s-1"}},
		"the leader transfers the leadership before it gets one": {
			rebuild(three("s-0"), "s-0"), Action{Verb: Transfer, On: "s-2"},
		},
		"an outdated server restarts only once": {rebuild(three("s-0", "s-1"), "s-1"), Action{Verb: Rebuild, On: "s-1"}},
		"no server loses its volume while another is away": {
			with(rebuild(three("s-0"), "s-0", "s-1"), func(w *World) { w.Servers[2].Sick, w.Unsettled = true, away }), Action{Verb: Wait, On: away},
		},
		"a server that does not run gets its volume first": {
			with(
				rebuild(three("s-0"), "s-0", "s-1", "s-2"),
				func(w *World) { w.Servers[2].Stopped, w.Unsettled = true, away },
			), Action{Verb: Rebuild, On: "s-2"},
		},
		"a server that does not run keeps its volume while another is away": {
			with(rebuild(three("s-0"), "s-2"), func(w *World) {
				w.Servers[1].Sick, w.Servers[2].Stopped, w.Unsettled = true, true, "not ready: s-1, s-2"
			}),
			Action{Verb: Wait, On: "not ready: s-1, s-2"},
		},
		"a restart may repair such a server": {
			with(rebuild(three("s-0", "s-2"), "s-2"), func(w *World) {
				w.Servers[1].Sick, w.Servers[2].Stopped, w.Unsettled = true, true, "not ready: s-1, s-2"
			}),
			Action{Verb: Restart, On: "s-2"},
		},
		"a server whose pod is being deleted is left alone": {
			with(rebuild(three("s-0", "s-2"), "s-2"), func(w *World) {
				w.Servers[2].Leaving, w.Servers[2].Sick, w.Unsettled = true, true, away
			}),
			Action{Verb: Wait, On: away},
		},
		"a single server does not lose its volume": {
			rebuild(World{Desired: 1, Replicas: 1, Observed: true, Leader: "s-0", Servers: []Server{{Name: "s-0"}}}, "s-0"),
			Action{Verb: Wait, On: "a third server: with fewer, no other server would have the data of one that is rebuilt"},
		},
		"a single server gets others first": {
			rebuild(World{Desired: 3, Replicas: 1, Observed: true, Leader: "s-0", Servers: []Server{{Name: "s-0"}}}, "s-0"),
			Action{Verb: Scale, Count: 2},
		},
		"a single server is restarted without losing its volume": {
			rebuild(World{Desired: 1, Replicas: 1, Observed: true, Leader: "s-0", Servers: []Server{{Name: "s-0", Outdated: true}}}, "s-0"),
			Action{Verb: Restart, On: "s-0"},
		},
		"new volumes come before fewer servers": {
			with(rebuild(three("s-0"), "s-1"), func(w *World) { w.Desired = 1 }), Action{Verb: Rebuild, On: "s-1"},
		},
		"pauses after the first": {
			with(rebuild(three("s-0"), "s-0", "s-2"), func(w *World) { w.PauseAt = 1 }), Action{Verb: Pause, On: "s-0, s-2"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := withoutReason(Next(tt.world)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRun_rebuildsOneServerAtATime(t *testing.T) {
	t.Parallel()
	s := &simulated{t: t, world: rebuild(three("s-1"), "s-0", "s-1", "s-2")}
	if err := runFor(t, s, time.Hour, 0); err != nil {
		t.Fatal(err)
	}
	if want := []string{"rebuild s-0", "rebuild s-2", "transfer s-2", "rebuild s-1"}; !slices.Equal(s.actions, want) {
		t.Errorf("did %q, want %q", s.actions, want)
	}
}

// The plan shows what a change of the volumes does; for an interrupted change, it shows only the rest.
func TestNewPlan_volumes(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Image: "consul:1.22.7", Replicas: 3}
	spec.Storage = server.Storage{Size: resource.MustParse("1Gi"), OnChange: server.GrowVolumes}
	with := func(change func(*server.Storage)) server.Spec { s := spec; change(&s.Storage); return s }
	seen, left := three("s-1"), rebuild(three("s-1"), "s-1", "s-2")
	stuck := three("s-1")
	stuck.Servers[0].Growing = "its volume has 1Gi of 2Gi"
	tests := map[string]struct {
		world    *World
		after    server.Spec
		steps    []string
		restarts int
	}{
		"growth": {&seen, with(func(s *server.Storage) { s.Size = resource.MustParse("2Gi") }), []string{"grow the volumes to 2Gi"}, 0},
		"a rebuild": {
			&seen, with(func(s *server.Storage) { s.Size, s.OnChange = resource.MustParse("2Gi"), server.RebuildServers }),
			[]string{"restart s-0 with a new volume", "restart s-2 with a new volume", "transfer the leadership to s-2", "restart s-1 with a new volume"},
			3,
		},
		"a rebuild of servers that were not seen": {
			nil, with(func(s *server.Storage) { s.Class, s.OnChange = "fast", server.RebuildServers }), nil, 3,
		},
		"the rest of a rebuild": {
			&left, with(func(s *server.Storage) { s.OnChange = server.RebuildServers }),
			[]string{"restart s-2 with a new volume", "transfer the leadership to s-2", "restart s-1 with a new volume"}, 2,
		},
		"growth that is waited for": {&stuck, spec, []string{"wait: s-0: its volume has 1Gi of 2Gi"}, 0},
		"growth that does not end, and is replaced by a rebuild": {
			&stuck, with(func(s *server.Storage) { s.OnChange = server.RebuildServers }), []string{"restart s-0 with a new volume"}, 1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := planOf(tt.world, spec, tt.after)
			var steps []string
			for _, a := range p.Steps() {
				steps = append(steps, withoutReason(a).String())
			}
			if !slices.Equal(steps, tt.steps) || p.Restarts != tt.restarts {
				t.Errorf("got %q and %d restarts, want %q and %d", steps, p.Restarts, tt.steps, tt.restarts)
			}
		})
	}
}

func TestWorld_Drift_namesVolumes(t *testing.T) {
	t.Parallel()
	w := rebuild(three("s-1"), "s-0")
	w.Servers[1].Volume = "its file system grows when its volume is mounted again"
	w.Servers[2].Growing = "its volume has 1Gi of 2Gi"
	want := []string{
		"Server s-0: its volume has 1Gi of 2Gi, will restart with a new volume",
		"Server s-1: its file system grows when its volume is mounted again, will restart",
		"Server s-2: its volume has 1Gi of 2Gi",
	}
	if got := w.Drift(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
