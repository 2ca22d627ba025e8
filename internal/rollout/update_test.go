package rollout

import (
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The roll starts from the present number of servers, and a server that stops compares with the smaller number.
func TestOneByOne(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		present, desired int32
		declared         string
	}{
		"three grow to five":                             {3, 5, "3"},
		"that was interrupted at four":                   {4, 5, "4"},
		"five shrink to three":                           {5, 3, "3"},
		"a change from one to three that is rolled back": {3, 1, "1"},
		"a change from three to one that is rolled back": {2, 3, "2"},
		"the number stays":                               {3, 3, "3"},
		"all were taken away and come back together":     {0, 3, "3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := OneByOne(server.Spec{Name: "consul", Namespace: "prod", Replicas: tt.desired}, tt.present)
			set := server.Objects(got)
			if n := *set.StatefulSet.Spec.Replicas; n != tt.present {
				t.Errorf("asks for %d servers at once, want %d", n, tt.present)
			}
			if n := set.Config.Data["servers"]; n != tt.declared {
				t.Errorf("servers that stop compare with %s, want %s", n, tt.declared)
			}
		})
	}
}

// A change can be rolled back if the former version does not have to read data that it may not know.
func TestKeepsChange(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Version: "1.21.0", Image: "consul:1.21.0"}
	upgrade := server.Spec{Version: "1.22.7", Image: "consul:1.22.7"}
	single := func(leader string, outdated bool) World {
		return World{Leader: leader, Servers: []Server{{Name: "s-0", Outdated: outdated, Sick: true}}}
	}
	for name, tt := range map[string]struct {
		world   World
		changed server.Spec
		led     bool
		keeps   bool
	}{
		"an upgrade while a former server leads":          {three("s-0", "s-0", "s-1"), upgrade, false, false},
		"an upgrade while an updated server leads":        {three("s-2", "s-0", "s-1"), upgrade, false, true},
		"an upgrade after an updated server has led":      {three("", "s-0", "s-1"), upgrade, true, true},
		"an upgrade before an updated server has led":     {three("", "s-0", "s-1"), upgrade, false, false},
		"an upgrade of a single server that never led":    {single("", false), upgrade, false, false},
		"an upgrade of a single server that leads":        {single("s-0", false), upgrade, false, true},
		"a configuration while an updated server leads":   {three("s-2", "s-0", "s-1"), spec, true, false},
		"a configuration of a single server that is sick": {single("s-0", false), spec, true, false},
		"a configuration of servers without a leader":     {unready(three("")), spec, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := KeepsChange(tt.world, spec, tt.changed, tt.led); (got != "") != tt.keeps {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Servers without a leader restart only for a change of what they wait for.
func TestRestartsUnelected(t *testing.T) {
	t.Parallel()
	before := server.Spec{Replicas: 5}
	tests := map[string]struct {
		change func(*server.Spec)
		want   bool
	}{
		"nothing":               {func(*server.Spec) {}, false},
		"the number of servers": {func(s *server.Spec) { s.Replicas = 3 }, true},
		"gossip":                {func(s *server.Spec) { s.Gossip.Stage = server.StageEncrypted }, true},
		"TLS":                   {func(s *server.Spec) { s.TLS.Stage = server.StageEncrypted }, true},
		"with a leader":         {func(s *server.Spec) { s.Replicas, s.Established = 3, true }, false},
	}
	for name, tt := range tests {
		after := before
		tt.change(&after)
		if got := RestartsUnelected(before, after); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
