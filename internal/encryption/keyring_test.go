package encryption

import (
	"slices"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func TestNextRingStep(t *testing.T) {
	t.Parallel()
	type m = map[string]int
	tests := map[string]struct {
		keys []string
		ring ring
		want ringStep
	}{
		"nothing to do": {[]string{"a"}, ring{nodes: 3, keys: m{"a": 3}, primary: m{"a": 3}}, ringStep{}},
		"a server is missing": {
			[]string{"a"},
			ring{nodes: 2, keys: m{"a": 2}, primary: m{"a": 2}},
			ringStep{wait: "2 of 3 servers answer"},
		},
		"an agent does not answer": {
			[]string{"a"},
			ring{nodes: 3, keys: m{"a": 3}, primary: m{"a": 3}, problems: []string{"x"}},
			ringStep{wait: "x"},
		},
		"a key that no agent has": {[]string{"a", "b"}, ring{nodes: 3, keys: m{"a": 3}, primary: m{"a": 3}}, ringStep{install: "b"}},
		"a key that some have": {
			[]string{"b", "a"},
			ring{nodes: 3, keys: m{"a": 3, "b": 2}, primary: m{"a": 3}},
			ringStep{install: "b"},
		},
		"all have it, none uses it": {[]string{"b", "a"}, ring{nodes: 3, keys: m{"a": 3, "b": 3}, primary: m{"a": 3}}, ringStep{use: "b"}},
		"some do not use it": {
			[]string{"b"},
			ring{nodes: 3, keys: m{"a": 3, "b": 3}, primary: m{"a": 1, "b": 2}},
			ringStep{use: "b"},
		},
		"a surplus key":                  {[]string{"b"}, ring{nodes: 3, keys: m{"a": 1, "b": 3}, primary: m{"b": 3}}, ringStep{remove: "a"}},
		"client agents count":            {[]string{"a"}, ring{nodes: 5, keys: m{"a": 4}, primary: m{"a": 4}}, ringStep{install: "a"}},
		"two keys while one is replaced": {[]string{"a", "b"}, ring{nodes: 3, keys: m{"a": 3, "b": 3}, primary: m{"a": 3}}, ringStep{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := nextRingStep(tt.keys, tt.ring, 3); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestKeyring_rotation: at all times, an agent that starts with the Secret has every key that another one encrypts
// with, and encrypts with one that all have.
func TestKeyring_rotation(t *testing.T) {
	t.Parallel()
	now := time.Now()
	g := server.Gossip{Rotation: server.KeyRotation{Trigger: "2"}}
	k := keyring{keys: []string{"old"}, trigger: "1", made: now.Add(-time.Hour)}
	var states [][]string
	for len(states) < 10 {
		next, ok := k.next(g, "", now)
		if !ok {
			break
		}
		k = next
		states = append(states, k.keys)
	}
	if len(states) != 3 || k.phase != "" || k.trigger != "2" || !k.made.Equal(now) || CheckGossipKey(k.keys[0]) != nil {
		t.Fatalf("the states are %q, the last %+v", states, k)
	}
	fresh := k.keys[0]
	for i, want := range [][]string{{"old", fresh}, {fresh, "old"}, {fresh}} {
		if !slices.Equal(states[i], want) {
			t.Errorf("state %d is %q, want %q", i, states[i], want)
		}
	}
}

func TestKeyring_due(t *testing.T) {
	t.Parallel()
	now := time.Now()
	k := keyring{keys: []string{"a"}, trigger: "1", made: now.Add(-3 * time.Hour)}
	rotation := func(trigger string, after time.Duration) server.Gossip {
		return server.Gossip{Rotation: server.KeyRotation{Trigger: trigger, After: after}}
	}
	tests := map[string]struct {
		keyring keyring
		gossip  server.Gossip
		brought string
		want    string
	}{
		"nothing is declared":     {keyring: k},
		"the same trigger":        {keyring: k, gossip: rotation("1", 0)},
		"another trigger":         {keyring: k, gossip: rotation("2", 0), want: "the trigger changed"},
		"the first trigger":       {keyring: keyring{keys: []string{"a"}}, gossip: rotation("2", 0)},
		"not old enough":          {keyring: k, gossip: rotation("1", 4*time.Hour)},
		"too old":                 {keyring: k, gossip: rotation("1", 2*time.Hour), want: "the key is older than 2h0m0s"},
		"a brought key, the same": {keyring: k, gossip: server.Gossip{KeySecret: &server.SecretKey{Name: "s"}}, brought: "a"},
		"a brought key, another": {
			keyring: k,
			gossip:  server.Gossip{KeySecret: &server.SecretKey{Name: "s"}},
			brought: "b",
			want:    "Secret s has another key",
		},
		"one that is being replaced": {keyring: keyring{keys: []string{"a", "b"}, phase: phaseInstall, trigger: "1"}, gossip: rotation("2", 0)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.keyring.due(tt.gossip, tt.brought, now); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckGossipKey(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		newGossipKey():             "",
		"AAAAAAAAAAAAAAAAAAAAAA==": "",
		"AAAA":                     "the gossip key has 3 bytes: it must have 16, 24, or 32 bytes, such as a key that \"consul keygen\" prints",
		"secret!":                  "the gossip key is not base64: create one with \"consul keygen\"",
	} {
		got := ""
		if err := CheckGossipKey(key); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}
