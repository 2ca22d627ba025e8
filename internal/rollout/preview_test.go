package rollout

import (
	"slices"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// planOf is the plan of an update.
func planOf(w *World, before, after server.Spec) Plan {
	return NewPlan(Observed{Running: before, Applied: true, World: w}, Wanted{Spec: after})
}

func TestNewPlan(t *testing.T) {
	t.Parallel()
	spec := server.Spec{
		Name:      "consul",
		Namespace: "prod",
		Version:   "1.22.7",
		Image:     "consul:1.22.7",
		Replicas:  3,
		Record:    server.Record{Established: true},
	}
	with := func(change func(*server.Spec)) server.Spec { s := spec; change(&s); return s }
	seen := three("s-1")
	for i := range seen.Servers {
		seen.Servers[i].Pod = "another"
	}
	sick := three("s-1", "s-2")
	sick.Servers[2].Stopped, sick.Unsettled = true, "not ready: s-2"
	away := three("s-1")
	away.Unsettled = "server s-0 is not yet a voter"
	single := World{
		StatefulSet: "consul-server",
		Desired:     1,
		Replicas:    1,
		Observed:    true,
		Leader:      "consul-server-0",
		CanTransfer: true,
		Servers:     []Server{{Name: "consul-server-0"}},
	}
	ui := func(s *server.Spec) { s.UI = true }
	tests := map[string]struct {
		world    *World
		after    server.Spec
		steps    []string
		restarts int
	}{
		"nothing": {&seen, spec, nil, 0},
		"an upgrade": {
			&seen, with(func(s *server.Spec) { s.Version, s.Update.SnapshotBefore = "1.22.8", true }),
			[]string{"take a snapshot", "restart s-0 with a new pod", "restart s-2 with a new pod", "transfer the leadership to s-2", "restart s-1 with a new pod"}, 3,
		},
		"an upgrade without a snapshot": {
			&seen, with(func(s *server.Spec) { s.Version = "1.22.8" }),
			[]string{"restart s-0 with a new pod", "restart s-2 with a new pod", "transfer the leadership to s-2", "restart s-1 with a new pod"}, 3,
		},
		"an image of the same version": {
			&seen, with(func(s *server.Spec) { s.Image, s.Update.SnapshotBefore = "mirror/consul:1.22.7", true }),
			[]string{"restart s-0 with a new pod", "restart s-2 with a new pod", "transfer the leadership to s-2", "restart s-1 with a new pod"}, 3,
		},
		"an upgrade of servers that were not seen": {
			nil, with(func(s *server.Spec) { s.Version, s.Update.SnapshotBefore = "1.22.8", true }), []string{"take a snapshot"}, 3,
		},
		"what touches no server": {
			&seen, with(func(s *server.Spec) { s.Labels = map[string]string{"a": "b"} }), nil, 0,
		},
		"a restart, the leader last": {
			&seen, with(func(s *server.Spec) { s.UI = true }),
			[]string{"restart s-0 with a new pod", "restart s-2 with a new pod", "transfer the leadership to s-2", "restart s-1 with a new pod"}, 3,
		},
		"a pause among servers that were not seen": {
			nil, with(func(s *server.Spec) { s.UI, s.Update.PauseAfter = true, 1 }), nil, 1,
		},
		"a pause after the first": {
			&seen, with(func(s *server.Spec) { s.UI, s.Update.PauseAfter = true, 1 }), []string{"restart s-0 with a new pod", "pause before s-1, s-2"}, 1,
		},
		"gossip that is encrypted, in three rolls": {
			&seen, with(func(s *server.Spec) { s.Gossip.Stage = server.StageEncrypted }),
			[]string{
				"create the gossip keys",
				"restart s-0 with a new pod", "restart s-2 with a new pod", "transfer the leadership to s-2", "restart s-1 with a new pod",
				"restart s-0 in place", "restart s-1 in place", "transfer the leadership to s-1",
				"restart s-2 in place",
				"restart s-0 in place", "restart s-2 in place", "transfer the leadership to s-2",
				"restart s-1 in place",
			}, 3,
		},
		"TLS, in two rolls with a reload between them": {
			&seen, with(func(s *server.Spec) { s.TLS.Stage = server.StageEncrypted }),
			[]string{
				"create the certificates",
				"restart s-0 with a new pod", "restart s-2 with a new pod", "transfer the leadership to s-2", "restart s-1 with a new pod",
				"reload s-0", "reload s-1", "reload s-2",
				"restart s-0 in place", "restart s-1 in place", "transfer the leadership to s-1",
				"restart s-2 in place",
			}, 3,
		},
		"TLS that is half-way turned off": {
			func() *World { w := three("s-1"); w.TLSStage = server.StageSend; return &w }(), spec,
			[]string{
				"reload s-0", "reload s-2", "reload s-1",
				"restart s-0 with a new pod", "restart s-2 with a new pod", "transfer the leadership to s-2", "restart s-1 with a new pod",
				"delete the certificates",
			}, 3,
		},
		"gossip that is encrypted, with a pause": {
			&seen, with(func(s *server.Spec) { s.Gossip.Stage, s.Update.PauseAfter = server.StageEncrypted, 1 }),
			[]string{"create the gossip keys", "restart s-0 with a new pod", "pause before s-1, s-2"}, 1,
		},
		"encryption that is half-way turned off": {
			func() *World { w := three("s-1"); w.GossipStage = server.StageSend; return &w }(), spec,
			[]string{
				"restart s-0 with a new pod", "restart s-2 with a new pod", "transfer the leadership to s-2", "restart s-1 with a new pod",
				"restart s-0 with a new pod", "restart s-1 with a new pod", "transfer the leadership to s-1", "restart s-2 with a new pod",
				"delete the gossip keys",
			}, 3,
		},
		"restarts by others": {&seen, with(func(s *server.Spec) { s.UI, s.Update.Strategy = true, server.OnDelete }), nil, 0},
		"a reload, the leader last": {
			&seen, with(func(s *server.Spec) { s.ExtraConfig = `{"log_level":"debug"}` }),
			[]string{"reload s-0", "reload s-2", "reload s-1"}, 0,
		},
		"a change that is reverted half-way": {
			func() *World {
				w := three("s-1")
				w.Servers[0].Stopped, w.Unsettled = true, "not ready: s-0"
				w.Servers[1].Template, w.Servers[2].Template = server.TemplateHash(with(ui)), server.TemplateHash(with(ui))
				return &w
			}(), with(ui), []string{"restart s-0 with a new pod", "wait: not ready: s-0"}, 1,
		},
		"servers that somebody takes away": {
			func() *World { w := three("s-1"); w.Replicas, w.Unsettled = 1, "3 of 1 pods exist"; return &w }(), spec,
			[]string{"wait: 3 of 1 pods exist", "scale to 2 servers", "scale to 3 servers"}, 0,
		},
		"a single server, and two more": {
			&single, with(func(s *server.Spec) { s.Version, s.Replicas = "1.22.8", 3 }),
			[]string{
				"scale to 2 servers (the others answer while consul-server-0 restarts)",
				"scale to 3 servers (the others answer while consul-server-0 restarts)",
				"transfer the leadership to consul-server-1", "restart consul-server-0 with a new pod",
			}, 1,
		},
		"a single server that is sick, and two more": {
			func() *World {
				w := single
				w.Servers = []Server{{Name: "consul-server-0", Sick: true}}
				w.Unsettled = "not ready"
				return &w
			}(),
			with(func(s *server.Spec) { s.Version, s.Replicas = "1.22.8", 3 }),
			[]string{
				"restart consul-server-0 with a new pod (it is the only server, and not healthy)",
				"wait: not ready",
				"scale to 2 servers",
				"scale to 3 servers",
			}, 1,
		},
		"servers that never elected a leader": {
			func() *World { w := unready(three("")); w.Unelected = true; return &w }(), with(ui),
			[]string{
				"restart s-0 with a new pod (no leader was ever elected)", "restart s-1 with a new pod (no leader was ever elected)", "restart s-2 with a new pod (no leader was ever elected)",
				"wait: not ready: s-0, s-1, s-2",
			}, 3,
		},
		"servers without a leader": {
			func() *World { w := unready(three("")); return &w }(), with(ui),
			[]string{
				"wait: not ready: s-0, s-1, s-2",
				"restart s-0 with a new pod (there is no leader, and every outdated server is unhealthy)",
				"restart s-1 with a new pod (there is no leader, and every outdated server is unhealthy)",
				"restart s-2 with a new pod (there is no leader, and every outdated server is unhealthy)",
				"wait: not ready: s-0, s-1, s-2",
			}, 3,
		},
		"servers that were not seen": {nil, with(func(s *server.Spec) { s.UI = true }), nil, 3},
		"one that was left outdated": {&sick, spec, []string{"restart s-2 with a new pod", "wait: not ready: s-2"}, 1},
		"servers that have to settle first": {
			&away, with(func(s *server.Spec) { s.Replicas = 5 }),
			[]string{"wait: server s-0 is not yet a voter", "scale to 4 servers", "scale to 5 servers"}, 0,
		},
		"fewer servers, without the leader": {
			func() *World { w := three("s-2"); return &w }(), with(func(s *server.Spec) { s.Replicas = 1 }),
			[]string{"transfer the leadership to s-0", "scale to 2 servers", "scale to 1 servers"}, 0,
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
			if tt.world != nil && slices.ContainsFunc(tt.world.Servers, func(s Server) bool { return s.Outdated }) && tt.world != &sick {
				t.Error("the world that was seen is changed")
			}
		})
	}
}

// A plan says that no server answers only if that is true.
func TestNewPlan_saysWhetherTheOnlyServerRestarts(t *testing.T) {
	t.Parallel()
	before := server.Spec{
		Name:      "consul",
		Namespace: "prod",
		Version:   "1.22.7",
		Image:     "consul:1.22.7",
		Replicas:  1,
		Record:    server.Record{Established: true},
	}
	world := &World{Desired: 1, Replicas: 1, Observed: true, Leader: "s-0", CanTransfer: true, Servers: []Server{{Name: "s-0"}}}
	for name, tt := range map[string]struct {
		world    *World
		replicas int32
		alone    bool
	}{
		"one server":                       {world, 1, true},
		"one server that was not seen":     {nil, 1, true},
		"others are added":                 {world, 3, false},
		"others are added to one not seen": {nil, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := before
			after.UI, after.Replicas = true, tt.replicas
			if p := planOf(tt.world, before, after); p.Alone != tt.alone {
				t.Errorf("got %t", p.Alone)
			}
		})
	}
}

// withoutReason is an action without the reason for which a server restarts (TestNewPlan_saysWhyServersRestart), unless a rule gives
// another reason.
func withoutReason(a Action) Action {
	for _, rule := range []string{"it is", "no leader", "there is no leader"} {
		if strings.HasPrefix(a.Why, rule) {
			return a
		}
	}
	if a.restarts() {
		a.Why = ""
	}
	return a
}

// People see why a server restarts: in the plan, in Events, and in logs.
func TestNewPlan_saysWhyServersRestart(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Replicas: 3, Record: server.Record{Established: true}}
	seen := three("s-1")
	for i := range seen.Servers {
		seen.Servers[i].Template, seen.Servers[i].Pod = server.TemplateHash(spec), server.PodHash(spec)
	}
	pending := three("s-1", "s-2")
	pending.Servers[2].Why = "version 1.21.0 -> 1.22.7"
	volume := rebuild(three("s-1"), "s-2")
	for name, tt := range map[string]struct {
		world  World
		change func(*server.Spec)
		want   string
	}{
		"another version":       {seen, func(s *server.Spec) { s.Version = "1.22.8" }, "restart s-0 in place (version 1.22.7 -> 1.22.8)"},
		"another configuration": {seen, func(s *server.Spec) { s.UI = true }, "restart s-0 in place (configuration)"},
		"both":                  {seen, func(s *server.Spec) { s.UI, s.Version = true, "1.22.8" }, "restart s-0 in place (version 1.22.7 -> 1.22.8)"},
		"another pod":           {seen, func(s *server.Spec) { s.PodLabels = map[string]string{"a": "b"} }, "restart s-0 with a new pod (settings of the pod)"},
		"the rest of a change":  {pending, func(*server.Spec) {}, "restart s-2 with a new pod (version 1.21.0 -> 1.22.7)"},
		"its volume":            {volume, func(*server.Spec) {}, "restart s-2 with a new volume (its volume has 1Gi of 2Gi)"},
	} {
		after := spec
		tt.change(&after)
		if steps := planOf(&tt.world, spec, after).Steps(); len(steps) == 0 || steps[0].String() != tt.want {
			t.Errorf("%s: the plan is %q, want %q first", name, steps, tt.want)
		}
	}
}

// A plan ends whatever was observed: servers without a pod, or servers that Next waits for.
func TestNewPlan_withoutPods(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Replicas: 3, Record: server.Record{Established: true}}
	for name, tt := range map[string]struct {
		replicas int
		declared int32
		want     []string
	}{
		"all were taken away":           {0, 3, []string{"scale to 3 servers"}},
		"no pod exists yet":             {3, 3, nil},
		"no pod exists, and fewer stay": {5, 3, []string{"scale to 4 servers", "scale to 3 servers"}},
		"no pod exists, and more come":  {3, 5, []string{"scale to 4 servers", "scale to 5 servers"}},
	} {
		after := spec
		after.Replicas = tt.declared
		w := World{StatefulSet: "consul-server", Replicas: tt.replicas, Observed: true, CanTransfer: true}
		var steps []string
		for _, a := range planOf(&w, spec, after).Steps() {
			steps = append(steps, a.String())
		}
		if !slices.Equal(steps, tt.want) {
			t.Errorf("%s: the plan is %q, want %q", name, steps, tt.want)
		}
	}
	none, upgraded := spec, spec
	none.Replicas, none.Declared, upgraded.Version, upgraded.Update.SnapshotBefore, upgraded.Replicas = 0, 3, "1.22.8", true, 1
	var steps []string
	for _, a := range planOf(&World{StatefulSet: "s", Observed: true, CanTransfer: true, Unsettled: "no pods"}, none, upgraded).Steps() {
		a.Why = ""
		steps = append(steps, a.String())
	}
	if want := []string{
		"scale to 3 servers", "take a snapshot", "restart s-1 with a new pod", "restart s-2 with a new pod", "transfer the leadership to s-1", "restart s-0 with a new pod",
		"scale to 2 servers", "transfer the leadership to s-0", "scale to 1 servers",
	}; !slices.Equal(steps, want) {
		t.Errorf("servers that were taken away, and an upgrade: the plan is %q, want %q", steps, want)
	}
	sick := rebuild(three("s-0"), "s-0")
	sick.Servers, sick.Replicas, sick.Unsettled = sick.Servers[:2], 2, "not ready: s-0"
	sick.Servers[0].Sick, sick.Servers[0].Voting = true, true
	after := spec
	after.Replicas, after.Storage.OnChange = 1, server.RebuildServers
	if steps := planOf(&sick, spec, after).Steps(); len(steps) >= maxSteps {
		t.Errorf("the plan does not end: %q", steps[:10])
	}
}
