package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// bootstrapped are the facts of three servers. Every client and server has a token.
func bootstrapped() consulacl.DenyFacts {
	f := consulacl.DenyFacts{
		Established: true,
		Nodes:       []string{"client-1"}, NodeTokens: map[string]bool{"client-1": true},
		Services: []string{"web"}, ServiceTokens: map[string]bool{"web": true},
	}
	for i := range 3 {
		f.Servers = append(f.Servers, consulacl.DenyServer{Name: fmt.Sprintf("consul-server-%d", i), ACLs: true, AgentToken: true})
	}
	return f
}

func TestJudgeDeny(t *testing.T) {
	allow, off := server.ACL{Enabled: true, DefaultPolicy: "allow"}, server.ACL{DefaultPolicy: "deny"}
	const dns = "answer DNS queries with the rights of the anonymous token"
	tests := map[string]struct {
		before   server.ACL
		change   func(*consulacl.DenyFacts)
		refusals []string // part of each
		warnings []string
	}{
		"all have a token":      {before: allow, change: func(f *consulacl.DenyFacts) { f.Services = nil }},
		"it never had a leader": {before: off, change: func(f *consulacl.DenyFacts) { *f = consulacl.DenyFacts{} }},
		"it never had a leader or a bootstrap": {before: allow, change: func(f *consulacl.DenyFacts) {
			*f = consulacl.DenyFacts{Credential: "no Secret contains it"}
		}},
		"directly from no ACLs": {
			before: off, change: func(f *consulacl.DenyFacts) { *f = consulacl.DenyFacts{Established: true} },
			refusals: []string{`Go through "allow"`},
		},
		"the leader is without ACLs": {
			before: allow, change: func(f *consulacl.DenyFacts) { *f = consulacl.DenyFacts{Established: true, Disabled: true} },
			refusals: []string{"its leader still runs without ACLs"},
		},
		"not bootstrapped": {
			before: allow, change: func(f *consulacl.DenyFacts) {
				*f = consulacl.DenyFacts{Established: true, Credential: "no Secret contains it"}
			},
			refusals: []string{"is not bootstrapped, or its management token is lost: no Secret contains it"},
		},
		"a server is without ACLs": {
			before: allow, change: func(f *consulacl.DenyFacts) { f.Servers[1].ACLs = false; f.Services = nil },
			refusals: []string{"still run without ACLs, or are missing: consul-server-1."},
		},
		"two servers lack their agent tokens": {
			before: allow, change: func(f *consulacl.DenyFacts) {
				f.Servers[0].AgentToken, f.Servers[2].AgentToken, f.Services = false, false, nil
			},
			refusals: []string{"have no valid agent token: consul-server-0, consul-server-2."},
		},
		"a refusal does not hide another, nor a warning": {
			before: allow, change: func(f *consulacl.DenyFacts) {
				f.Servers[0].AgentToken, f.Servers[2].ACLs = false, false
				f.Nodes = []string{"client-1", "client-2"}
				f.Services = nil
			},
			refusals: []string{"still run without ACLs", "no valid agent token: consul-server-0."}, warnings: []string{": client-2."},
		},
		"services, and no rights for DNS": {before: allow, change: func(*consulacl.DenyFacts) {}, warnings: []string{dns}},
		"services without a token, and no DNS": {
			before:   allow,
			change:   func(f *consulacl.DenyFacts) { f.ServiceTokens = nil },
			warnings: []string{"these services, which are registered in consul/consul: web.", dns},
		},
		"rights of the anonymous token": {
			before: allow, change: func(f *consulacl.DenyFacts) { f.AnonymousRights = []string{"policy dns", "role reader"} },
			warnings: []string{"keep these rights in consul/consul: policy dns, role reader."},
		},
		"sessions": {
			before: allow, change: func(f *consulacl.DenyFacts) { f.Services = nil; f.Sessions = map[string]int{"b": 2, "a": 1} },
			warnings: []string{"Sessions in consul/consul: 3, on the nodes a, b."},
		},
		"sessions of a node with a token, and of one that a server keeps for a client": {
			before: allow, change: func(f *consulacl.DenyFacts) {
				f.Services = nil
				f.Sessions = map[string]int{"client-1": 5, "consul-server-1": 1}
				f.NodeTokens["consul-server-1"] = true
			},
			warnings: []string{"Sessions in consul/consul: 1, on the nodes consul-server-1."},
		},
		"sessions of a node with a token alone": {
			before: allow, change: func(f *consulacl.DenyFacts) { f.Services = nil; f.Sessions = map[string]int{"client-1": 5} },
		},
		"many nodes": {
			before: allow, change: func(f *consulacl.DenyFacts) {
				f.Services, f.Nodes = nil, nil
				for i := range 23 {
					f.Nodes = append(f.Nodes, fmt.Sprintf("node-%02d", i))
				}
			},
			warnings: []string{"node-18, node-19 and 3 more."},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := bootstrapped()
			tt.change(&f)
			refusals, warnings := judgeDeny("consul/consul", tt.before, f)
			compareFindings(t, "refusal", refusals, tt.refusals)
			compareFindings(t, "warning", warnings, tt.warnings)
		})
	}
}

func compareFindings(t *testing.T, kind string, got []finding, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d %ss, want %d: %+v", len(got), kind, len(want), got)
	}
	for i := range got {
		if !strings.Contains(got[i].detail, want[i]) {
			t.Errorf("the %s is %q, want %q in it", kind, got[i].detail, want[i])
		}
	}
}

// The error of a change to "deny" says why the servers have no agent tokens, and that nothing failed if the apply was interrupted.
func TestAgentTokensError(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err           error
		summary, want string
	}{
		"interrupted":         {&kube.TimeoutError{What: "the servers", Err: context.Canceled}, "The operation was interrupted", "apply again"},
		"a lost secret":       {consulacl.ErrSecretLost, "The servers have no agent tokens", "add a consul_k8s_acl_bootstrap"},
		"a server that hangs": {errors.New("no answer"), "The servers did not accept their agent tokens", "no answer.\n\nPod: Failed\nFix that"},
	} {
		d := agentTokensError("consul/consul", &lifecycle.AgentTokensError{Err: fmt.Errorf("a server: %w", tt.err), Explanation: "Pod: Failed"})
		if d.Summary() != tt.summary || !strings.Contains(d.Detail(), tt.want) {
			t.Errorf("%s: %s: %s", name, d.Summary(), d.Detail())
		}
	}
}

func TestACLChange(t *testing.T) {
	acl := func(enabled bool, policy string) types.Object {
		return types.ObjectValueMust(
			aclTypes,
			map[string]tfattr.Value{"enabled": types.BoolValue(enabled), "default_policy": types.StringValue(policy)},
		)
	}
	tests := map[string]struct {
		before, after types.Object
		known, toDeny bool
	}{
		"allow to deny":           {acl(true, "allow"), acl(true, "deny"), true, true},
		"off to deny":             {acl(false, "deny"), acl(true, "deny"), true, true},
		"off to allow":            {acl(false, "deny"), acl(true, "allow"), true, false},
		"deny, unchanged":         {acl(true, "deny"), acl(true, "deny"), true, false},
		"deny to off":             {acl(true, "deny"), acl(false, "deny"), true, false},
		"deny to allow":           {acl(true, "deny"), acl(true, "allow"), true, false},
		"deny without effect":     {acl(false, "allow"), acl(false, "deny"), true, false},
		"to what is not known":    {acl(true, "allow"), types.ObjectUnknown(aclTypes), false, false},
		"from what was never set": {types.ObjectNull(aclTypes), acl(true, "deny"), false, false},
		"to a policy that is not known": {before: acl(true, "allow"), after: types.ObjectValueMust(aclTypes, map[string]tfattr.Value{
			"enabled": types.BoolValue(true), "default_policy": types.StringUnknown(),
		})},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var diags diag.Diagnostics
			before, after, known := aclChange(t.Context(), model{ACL: tt.before}, model{ACL: tt.after}, &diags)
			toDeny := known && after.Denies() && !before.Denies()
			if known != tt.known || toDeny != tt.toDeny || diags.HasError() {
				t.Errorf("known %v, to deny %v, want %v, %v: %v", known, toDeny, tt.known, tt.toDeny, diags)
			}
		})
	}
}
