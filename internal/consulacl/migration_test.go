package consulacl

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

func TestDenyAnswers(t *testing.T) {
	now := time.Now()
	past, future := now.Add(-time.Second), now.Add(time.Hour)
	node := func(name string) []*api.ACLNodeIdentity { return []*api.ACLNodeIdentity{{NodeName: name}} }
	service := func(name string) []*api.ACLServiceIdentity { return []*api.ACLServiceIdentity{{ServiceName: name}} }
	templated := func(template, name string) []*api.ACLTemplatedPolicy {
		return []*api.ACLTemplatedPolicy{{TemplateName: template, TemplateVariables: &api.ACLTemplatedPolicyVariables{Name: name}}}
	}
	a := denyAnswers{
		tokens: []*api.ACLTokenListEntry{
			{AccessorID: "agent", NodeIdentities: node("n-direct")},
			{AccessorID: "stale", NodeIdentities: node("n-expired"), ExpirationTime: &past},
			{AccessorID: "brief", ServiceIdentities: service("s-direct"), ExpirationTime: &future},
			{AccessorID: "linked", Roles: []*api.ACLTokenRoleLink{{ID: "r1", Name: "used"}}},
			{AccessorID: "t1", TemplatedPolicies: templated("builtin/node", "n-template")},
			{AccessorID: "t2", TemplatedPolicies: templated("builtin/service", "s-template")},
			{AccessorID: "t3", TemplatedPolicies: templated("builtin/api-gateway", "s-gateway")},
			{AccessorID: "t4", TemplatedPolicies: templated("builtin/nomad-client", "ignored")},
			{
				AccessorID: AnonymousAccessorID, Policies: []*api.ACLTokenPolicyLink{{ID: "p", Name: "dns"}},
				Roles: []*api.ACLTokenRoleLink{{ID: "r1", Name: "used"}}, TemplatedPolicies: []*api.ACLTemplatedPolicy{{TemplateName: "builtin/dns"}},
			},
		},
		roles: []*api.ACLRole{
			{ID: "r1", NodeIdentities: node("n-role"), ServiceIdentities: service("s-role")},
			{ID: "r2", NodeIdentities: node("n-unused")},
		},
		members: []*api.AgentMember{
			{Name: "s-0", Tags: map[string]string{"acls": "1"}}, {Name: "s-1", Tags: map[string]string{"acls": "0"}}, {Name: "s-2"},
		},
		nodes:    []*api.Node{{Node: "s-0"}, {Node: "z"}, {Node: "a"}},
		services: map[string][]string{"consul": nil, "web": nil, "api": {"v1"}},
		sessions: []*api.SessionEntry{{Node: "a"}, {Node: "s-0"}, {Node: "a"}},
	}

	nodes, services := a.identities(now)
	if got, want := slices.Sorted(maps.Keys(nodes)), []string{"n-direct", "n-role", "n-template"}; !slices.Equal(got, want) {
		t.Errorf("identities of nodes %q, want %q", got, want)
	}
	if got, want := slices.Sorted(maps.Keys(services)), []string{
		"s-direct", "s-direct-sidecar-proxy", "s-gateway", "s-role", "s-role-sidecar-proxy", "s-template", "s-template-sidecar-proxy",
	}; !slices.Equal(
		got,
		want,
	) {
		t.Errorf("identities of services %q, want %q", got, want)
	}
	if got, want := a.rights(AnonymousAccessorID), []string{"policy dns", "role used", "templated policy builtin/dns"}; !slices.Equal(
		got,
		want,
	) {
		t.Errorf("rights of the anonymous token %q, want %q", got, want)
	}
	for accessor, want := range map[string]bool{"agent": true, "stale": false, "brief": true, "none": false} {
		if got := a.hasToken(accessor, now); got != want {
			t.Errorf("token %s: %v, want %v", accessor, got, want)
		}
	}
	for name, want := range map[string]bool{"s-0": true, "s-1": false, "s-2": false, "s-3": false} {
		if got := a.runsACLs(name); got != want {
			t.Errorf("server %s with ACLs: %v, want %v", name, got, want)
		}
	}
	f := DenyFacts{Servers: []DenyServer{{Name: "s-0"}}}
	a.addCatalog(&f)
	if !slices.Equal(f.Nodes, []string{"a", "z"}) || !slices.Equal(f.Services, []string{"api", "web"}) ||
		!maps.Equal(f.Sessions, map[string]int{"a": 2, "s-0": 1}) {
		t.Errorf("catalog: %+v", f)
	}
}
