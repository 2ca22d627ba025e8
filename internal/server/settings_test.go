package server

import (
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
)

// Each setting is in the table once, and is read back from the objects with the value that was set.
func TestSettings(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, setting := range Settings() {
		if seen[setting.Name] {
			t.Errorf("%s is in the table twice", setting.Name)
		}
		seen[setting.Name] = true
		if setting.effect == Reload && !isReloadable(setting.key) {
			t.Errorf("%s: agents do not reload %s", setting.Name, setting.key)
		}
		s := full()
		want := another(setting.Get(s))
		if setting.Set(&s, want); setting.Get(s) != want {
			t.Errorf("%s: set to %v, got %v", setting.Name, want, setting.Get(s))
		}
		if !setting.isRead() {
			continue
		}
		if live, err := Parse(Objects(s), full()); err != nil || setting.Get(live) != want {
			t.Errorf("%s: rendered from %v, read as %v, %v", setting.Name, want, setting.Get(live), err)
		}
	}
}

// Values that a configuration lacks, or that have the wrong type, are not guessed.
func TestReadSettings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                                       "not valid",
		`{} {}`:                                  "not valid",
		`[]`:                                     "decoding",
		`{"domain": 1}`:                          "domain is 1, which is not of the type string",
		`{"ui_config": {"enabled": "yes"}}`:      "ui_config.enabled is yes, which is not of the type bool",
		`{"performance":{"raft_multiplier":""}}`: "performance.raft_multiplier is , which is not of the type int64",
		`{"Performance":[{"raft_multiplier":3}],"telemetry":null}`: "",
	} {
		var s Spec
		if err := s.readSettings(text); !wanted.Error(err, want) {
			t.Errorf("%s: got %v, want something about %q", text, err, want)
		} else if want == "" && s.Performance.RaftMultiplier != 3 {
			t.Errorf("%s: got %+v", text, s.Performance)
		}
	}
}

// another is a different value.
func another(v any) any {
	switch v := v.(type) {
	case bool:
		return !v
	case int64:
		return v + 2
	case time.Duration:
		return v + time.Hour
	default:
		return "another"
	}
}
