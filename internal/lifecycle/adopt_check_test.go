package lifecycle

import (
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	spec := func(change func(*server.Spec)) server.Spec {
		s := server.Spec{
			Version:    "1.22.7",
			Datacenter: "dc1",
			Domain:     "consul",
			ACL:        server.ACL{DefaultPolicy: "deny"},
			Adopt:      &server.Adopt{StatefulSet: "old"},
		}
		change(&s)
		return s
	}
	acls := func(s *server.Spec) {
		s.ACL.Enabled, s.Adopt.TokenSecret = true, &server.SecretKey{Name: "a", Key: "b"}
	}
	nothing := func(*server.Spec) {}
	encrypted := func(s *server.Spec) {
		s.Gossip.Stage, s.TLS.Stage, s.TLS.CASecret = server.StageEncrypted, server.StageEncrypted, "ca"
	}
	speaksTLS := func(f *consul.AgentFacts) { f.VerifiesIncoming, f.VerifiesOutgoing = true, true }
	tests := map[string]struct {
		spec  server.Spec
		facts func(*consul.AgentFacts)
		want  []string
	}{
		"nothing to refuse": {spec(nothing), func(*consul.AgentFacts) {}, nil},
		"gossip encryption": {
			spec(nothing),
			func(f *consul.AgentFacts) { f.Encrypted = true },
			[]string{"declare gossip = { enabled = true }"},
		},
		"gossip in plain text": {
			spec(encrypted),
			func(*consul.AgentFacts) {},
			[]string{"the servers do not encrypt gossip", "do not use TLS"},
		},
		"TLS":                  {spec(nothing), speaksTLS, []string{"declare tls = { enabled = true }"}},
		"TLS in one direction": {spec(nothing), func(f *consul.AgentFacts) { f.VerifiesOutgoing = true }, []string{"only one of"}},
		"TLS of the former authority": {
			spec(func(s *server.Spec) { encrypted(s); s.Gossip.Stage, s.TLS.CASecret = server.StagePlain, "" }),
			speaksTLS,
			[]string{"name the certificate authority"},
		},
		"encryption as declared": {spec(encrypted), func(f *consul.AgentFacts) { f.Encrypted = true; speaksTLS(f) }, nil},
		"another datacenter": {
			spec(nothing),
			func(f *consul.AgentFacts) { f.Datacenter = "lan" },
			[]string{`declare datacenter = "lan"`},
		},
		"another domain": {
			spec(nothing),
			func(f *consul.AgentFacts) { f.Domain = "cluster.local" },
			[]string{`declare domain = "cluster.local"`},
		},
		"a downgrade": {spec(func(s *server.Spec) { s.Version = "1.21.0" }), func(*consul.AgentFacts) {}, []string{"downgrade"}},
		"a node name other than the pod's": {
			spec(nothing),
			func(f *consul.AgentFacts) { f.Node = "node" },
			[]string{"has the node name node", "has the node name node"},
		},
		"the loopback address": {spec(nothing), func(f *consul.AgentFacts) { f.Local = true }, []string{"client_addr"}},
		"ACLs that are not declared": {
			spec(nothing),
			func(f *consul.AgentFacts) { f.ACLs = true },
			[]string{"declare acl = { enabled = true }"},
		},
		"ACLs that are off": {spec(acls), func(*consul.AgentFacts) {}, []string{"declare acl = { enabled = false }"}},
		"ACLs without a token": {
			spec(func(s *server.Spec) { s.ACL.Enabled = true }),
			func(f *consul.AgentFacts) { f.ACLs = true },
			[]string{"set token_secret"},
		},
		"a token without ACLs": {
			spec(func(s *server.Spec) { acls(s); s.ACL.Enabled = false }),
			func(*consul.AgentFacts) {},
			[]string{"remove token_secret"},
		},
		"another default policy": {
			spec(acls),
			func(f *consul.AgentFacts) { f.ACLs, f.DefaultPolicy = true, "allow" },
			[]string{`default_policy = "allow"`},
		},
		"ACLs as declared": {spec(acls), func(f *consul.AgentFacts) { f.ACLs = true }, nil},
		"several reasons, all of them": {
			spec(nothing),
			func(f *consul.AgentFacts) { f.Encrypted = true; speaksTLS(f) },
			[]string{"gossip", "TLS"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var facts []consul.AgentFacts
			for _, pod := range []string{"old-0", "old-1"} {
				f := consul.AgentFacts{Pod: pod, Node: pod, Version: "1.22.7", Datacenter: "dc1", Domain: "consul", DefaultPolicy: "deny"}
				tt.facts(&f)
				facts = append(facts, f)
			}
			got := refusals(tt.spec, facts)
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.Contains(got[i], tt.want[i]) {
					t.Errorf("got %q, want %q", got[i], tt.want[i])
				}
			}
		})
	}
}
