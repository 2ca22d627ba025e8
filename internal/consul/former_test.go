package consul

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul/consultest"

	"k8s.io/client-go/kubernetes/fake"
)

// The answer of /v1/agent/self is read as written.
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
		"TLS that is offered": {
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

// A failed member is removed at each agent: a message between agents may be lost. An agent that already knows is not
// an error, and one that refuses is.
func TestForceLeave_asksEachAgent(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	heard := func(w http.ResponseWriter, r *http.Request) {
		if r.Method+" "+r.URL.Path != "PUT /v1/agent/force-leave/old-1" {
			t.Errorf("got %s %s", r.Method, r.URL)
		}
		if asked.Add(1) > 1 {
			http.Error(w, "agent: No node found with name 'old-1'", http.StatusInternalServerError)
		}
	}
	k := fake.NewClientset(consultest.BootstrappedCluster(3)...)
	if err := ForceLeave(t.Context(), NewConnector(
		consultest.Serve(t, k, http.HandlerFunc(heard)),
	).Cluster("ns", "consul"), "management", "old-1"); err != nil ||
		asked.Load() != 3 {
		t.Errorf("%d of 3 agents were asked: %v", asked.Load(), err)
	}
	refuses := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Permission denied", http.StatusForbidden) }
	if err := ForceLeave(t.Context(), NewConnector(
		consultest.Serve(t, k, http.HandlerFunc(refuses)),
	).Cluster("ns", "consul"), "management", "old-1"); !IsForbidden(
		err,
	) {
		t.Errorf("got %v", err)
	}
	if err := ForceLeave(t.Context(), NewConnector(
		consultest.Serve(t, fake.NewClientset(), http.HandlerFunc(refuses)),
	).Cluster("ns", "consul"), "management", "old-1"); !errors.Is(
		err,
		ErrNoServer,
	) {
		t.Errorf("got %v", err)
	}
}

// A server has failed when every agent that lists it says so.
func TestServerMembers(t *testing.T) {
	t.Parallel()
	server := func(name string, status int) map[string]any {
		return map[string]any{"Name": name, "Status": status, "Tags": map[string]string{"role": "consul"}}
	}
	views := [][]map[string]any{ // by agent
		{server("new-0", 1), server("old-0", 4), server("old-1", 1), server("old-2", 4), server("old-3", 3)},
		{
			server("new-0", 1),
			server("old-0", 4),
			server("old-1", 4),
			server("old-2", 3),
			{"Name": "client", "Status": 4, "Tags": map[string]string{"role": "node"}},
		},
		{server("new-0", 1), server("old-0", 4), server("old-1", 4)},
	}
	var asked atomic.Int32
	c := NewConnector(
		consultest.Serve(
			t,
			fake.NewClientset(consultest.BootstrappedCluster(3)...),
			http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(views[asked.Add(1)-1])
			}),
		),
	).Cluster(
		"ns",
		"consul",
	)
	got, err := ServerMembers(t.Context(), c, "management")
	if want := map[string]bool{"new-0": false, "old-0": true, "old-1": false, "old-2": true}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}
