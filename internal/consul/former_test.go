package consul

import (
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/kubernetes/fake"
)

// What /v1/agent/self says of itself is read as it is written.
func TestAgentSelf_facts(t *testing.T) {
	t.Parallel()
	plain := AgentFacts{
		Pod: "a-0", Node: "node", Version: "1.22.7", Datacenter: "dc1", Domain: "consul", DefaultPolicy: "allow", SerfPort: 8301,
	}
	with := func(change func(*AgentFacts)) AgentFacts { f := plain; change(&f); return f }
	tests := map[string]struct {
		debug, encrypted string
		want             AgentFacts
	}{
		"nothing special":    {`"ClientAddrs":["0.0.0.0"]`, "false", plain},
		"encrypted gossip":   {`"ClientAddrs":["0.0.0.0"]`, "true", with(func(f *AgentFacts) { f.Encrypted = true })},
		"no client address":  {`"ACLsEnabled":false`, "false", plain},
		"the loopback alone": {`"ClientAddrs":["127.0.0.1","::1"]`, "false", with(func(f *AgentFacts) { f.Local = true })},
		"TLS that is required": {
			`"TLS":{"InternalRPC":{"VerifyIncoming":true,"VerifyOutgoing":false}}`, "false", with(func(f *AgentFacts) { f.VerifiesIncoming = true }),
		},
		"TLS that is spoken": {
			`"TLS":{"InternalRPC":{"VerifyIncoming":false,"VerifyOutgoing":true}}`, "false", with(func(f *AgentFacts) { f.VerifiesOutgoing = true }),
		},
		"ACLs": {`"ACLsEnabled":true`, "false", with(func(f *AgentFacts) { f.ACLs = true })},
	}
	for name, tt := range tests {
		text := `{"Config":{"Datacenter":"dc1","NodeName":"node","Version":"1.22.7","Server":true},
			"DebugConfig":{"ACLResolverSettings":{"ACLDefaultPolicy":"allow"},"DNSDomain":"consul.","SerfPortLAN":8301,` + tt.debug + `},
			"Stats":{"serf_lan":{"encrypted":"` + tt.encrypted + `"}}}`
		var self agentSelf
		if err := json.Unmarshal([]byte(text), &self); err != nil {
			t.Fatal(err)
		}
		if got := self.facts("a-0"); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}

// A failed member is removed at each agent: a message between agents may be lost. That one has heard of it already is no error.
func TestForceLeave_asksEachAgent(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	heard := func(w http.ResponseWriter, r *http.Request) {
		if r.Method+" "+r.URL.Path != "PUT /v1/agent/force-leave/old-1" || r.URL.Query().Get("token") != "" {
			t.Errorf("got %s %s", r.Method, r.URL)
		}
		if asked.Add(1) > 1 {
			http.Error(w, "agent: No node found with name 'old-1'", http.StatusInternalServerError)
		}
	}
	k := fake.NewClientset(bootstrappedCluster(3)...)
	if err := serveConsul(t, k, http.HandlerFunc(heard)).ForceLeave(t.Context(), "management", "old-1"); err != nil || asked.Load() != 3 {
		t.Errorf("%d of 3 agents were asked: %v", asked.Load(), err)
	}
	refuses := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Permission denied", http.StatusForbidden) }
	if err := serveConsul(t, k, http.HandlerFunc(refuses)).ForceLeave(t.Context(), "management", "old-1"); !IsForbidden(err) {
		t.Errorf("got %v", err)
	}
	if err := serveConsul(t, fake.NewClientset(), http.HandlerFunc(refuses)).ForceLeave(t.Context(), "management", "old-1"); !errors.Is(err, ErrNoServer) {
		t.Errorf("got %v", err)
	}
}
