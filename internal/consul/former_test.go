package consul

import (
	"encoding/json"
	"testing"
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
