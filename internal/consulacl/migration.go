package consulacl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// DenyFacts are what can be known about a running cluster before it refuses what no policy allows (default
// policy "deny").
type DenyFacts struct {
	// Established says that the cluster has had a leader. A cluster that has not has no clients, and is not
	// asked for anything else.
	Established bool
	// Disabled says that ACLs are off according to the leader.
	Disabled bool
	// Credential says why the management token cannot be used, as before the bootstrap; "" if it can. The
	// fields below are known only if it can.
	Credential string
	// Servers are the server pods, by ordinal.
	Servers []DenyServer
	// Nodes and Services are what the catalog holds besides the servers and the
	// service "consul", by name.
	Nodes    []string
	Services []string
	// NodeTokens and ServiceTokens are the nodes and services that a valid token names in an identity, either
	// its own or that of a role.
	NodeTokens    map[string]bool
	ServiceTokens map[string]bool
	// Sessions is the number of sessions by the node that holds them.
	Sessions map[string]int
	// AnonymousRights names the policies, roles and identities of the anonymous token.
	AnonymousRights []string
}

// DenyServer is one server of DenyFacts.
type DenyServer struct {
	Name string
	// ACLs says that the server runs with ACLs, as its gossip tag says.
	ACLs bool
	// AgentToken says that its agent token (AgentTokenAccessor) exists and has not expired. No endpoint shows
	// which token an agent uses: /v1/agent/self hides all tokens, set or not, and with "allow", an agent
	// without a token can do everything that one with a token can. So this is half of the proof, and
	// RenewAgentTokens, which runs before the first server refuses anything, is the other half.
	AgentToken bool
}

// ReadDenyFacts collects the facts. acls says whether the cluster was declared to run with ACLs so far: a cluster
// without ACLs is not asked. It changes nothing, and sends at most six requests to a server.
func ReadDenyFacts(ctx context.Context, c *consul.Cluster, acls bool) (DenyFacts, error) {
	f, err := readDenyFacts(ctx, c, acls)
	if err != nil {
		return DenyFacts{}, fmt.Errorf("finding out which clients %s would refuse: %w", c.ID(), err)
	}
	return f, nil
}

func readDenyFacts(ctx context.Context, c *consul.Cluster, acls bool) (f DenyFacts, err error) {
	if f.Established, err = c.Established(ctx); err != nil || !f.Established || !acls {
		return f, err
	}
	token, ref, err := ManagementToken(ctx, c)
	if err != nil {
		return f, err
	}
	if token == "" {
		f.Credential = "no Secret contains it"
		return f, nil
	}
	pods, err := c.Pods(ctx)
	if err != nil {
		return f, err
	}
	a, err := readDenyAnswers(ctx, c, token)
	switch {
	case consul.IsACLDisabled(err):
		f.Disabled = true
		return f, nil
	case consul.IsForbidden(err):
		f.Credential = fmt.Sprintf("Consul does not accept the one in Secret %s/%s", c.Namespace, ref.Name)
		return f, nil
	case err != nil:
		return f, err
	}
	for i := range pods {
		ordinal, _ := server.Ordinal(c.Name, pods[i].Name)
		f.Servers = append(f.Servers, DenyServer{
			Name:       pods[i].Name,
			ACLs:       a.runsACLs(pods[i].Name),
			AgentToken: a.hasToken(AgentTokenAccessor(c, ordinal), time.Now()),
		})
	}
	a.addCatalog(&f)
	f.NodeTokens, f.ServiceTokens = a.identities(time.Now())
	f.AnonymousRights = a.rights(AnonymousAccessorID)
	return f, nil
}

// denyAnswers is what Consul answers to the requests of DenyFacts.
type denyAnswers struct {
	tokens   []*api.ACLTokenListEntry
	roles    []*api.ACLRole
	members  []*api.AgentMember
	nodes    []*api.Node
	services map[string][]string
	sessions []*api.SessionEntry
}

func readDenyAnswers(ctx context.Context, c *consul.Cluster, token string) (a denyAnswers, err error) {
	err = c.Any(ctx, token, func(client *api.Client) (err error) {
		q := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
		if a.tokens, _, err = client.ACL().TokenList(q); err != nil {
			return err
		}
		if a.roles, _, err = client.ACL().RoleList(q); err != nil {
			return err
		}
		if _, err = client.Raw().Query("/v1/agent/members", &a.members, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
			return err
		}
		if a.nodes, _, err = client.Catalog().Nodes(q); err != nil {
			return err
		}
		if a.services, _, err = client.Catalog().Services(q); err != nil {
			return err
		}
		a.sessions, _, err = client.Session().List(q)
		return err
	})
	return a, err
}

// runsACLs reports whether the gossip tag of a server says that it runs with ACLs. A member that left says
// nothing.
func (a denyAnswers) runsACLs(name string) bool {
	return slices.ContainsFunc(a.members, func(m *api.AgentMember) bool {
		return m.Name == name && m.ACLMode() == api.ACLModeEnabled
	})
}

func (a denyAnswers) hasToken(accessor string, now time.Time) bool {
	return slices.ContainsFunc(a.tokens, func(t *api.ACLTokenListEntry) bool {
		return t.AccessorID == accessor && !expired(t, now)
	})
}

func expired(t *api.ACLTokenListEntry, now time.Time) bool {
	return t.ExpirationTime != nil && !t.ExpirationTime.After(now)
}

// addCatalog adds what the catalog holds. The servers must be known.
func (a denyAnswers) addCatalog(f *DenyFacts) {
	for _, n := range a.nodes {
		if !slices.ContainsFunc(f.Servers, func(s DenyServer) bool { return s.Name == n.Node }) {
			f.Nodes = append(f.Nodes, n.Node)
		}
	}
	slices.Sort(f.Nodes)
	f.Services = slices.DeleteFunc(slices.Sorted(maps.Keys(a.services)), func(s string) bool { return s == "consul" })
	f.Sessions = map[string]int{}
	for _, s := range a.sessions {
		f.Sessions[s.Node]++
	}
}

// sidecarSuffix is the suffix of the service that an identity allows in addition to its own
// (agent/structs/acltemplatedpolicy/policies/ce/service.hcl of Consul).
const sidecarSuffix = "-sidecar-proxy"

// identities returns the nodes and services that tokens have identities of.
func (a denyAnswers) identities(now time.Time) (nodes, services map[string]bool) {
	nodes, services = map[string]bool{}, map[string]bool{}
	add := func(n []*api.ACLNodeIdentity, s []*api.ACLServiceIdentity, templated []*api.ACLTemplatedPolicy) {
		for _, i := range n {
			nodes[i.NodeName] = true
		}
		for _, i := range s {
			services[i.ServiceName], services[i.ServiceName+sidecarSuffix] = true, true
		}
		for _, p := range templated {
			switch {
			case p.TemplateVariables == nil:
			case p.TemplateName == api.ACLTemplatedPolicyNodeName:
				nodes[p.TemplateVariables.Name] = true
			case p.TemplateName == api.ACLTemplatedPolicyServiceName:
				services[p.TemplateVariables.Name], services[p.TemplateVariables.Name+sidecarSuffix] = true, true
			case p.TemplateName == api.ACLTemplatedPolicyAPIGatewayName:
				services[p.TemplateVariables.Name] = true
			}
		}
	}
	linked := map[string]bool{}
	for _, t := range a.tokens {
		if expired(t, now) {
			continue
		}
		add(t.NodeIdentities, t.ServiceIdentities, t.TemplatedPolicies)
		for _, r := range t.Roles {
			linked[r.ID] = true
		}
	}
	for _, r := range a.roles {
		if linked[r.ID] {
			add(r.NodeIdentities, r.ServiceIdentities, r.TemplatedPolicies)
		}
	}
	return nodes, services
}

// rights names what a token has.
func (a denyAnswers) rights(accessor string) []string {
	var out []string
	for _, t := range a.tokens {
		if t.AccessorID != accessor {
			continue
		}
		for _, p := range t.Policies {
			out = append(out, "policy "+p.Name)
		}
		for _, r := range t.Roles {
			out = append(out, "role "+r.Name)
		}
		for _, i := range t.ServiceIdentities {
			out = append(out, "identity of service "+i.ServiceName)
		}
		for _, i := range t.NodeIdentities {
			out = append(out, "identity of node "+i.NodeName)
		}
		for _, p := range t.TemplatedPolicies {
			out = append(out, "templated policy "+strings.TrimSpace(p.TemplateName+" "+templateVariable(p)))
		}
	}
	return out
}

func templateVariable(p *api.ACLTemplatedPolicy) string {
	if p.TemplateVariables == nil {
		return ""
	}
	return p.TemplateVariables.Name
}

// RenewAgentTokens makes sure that each server has an agent token and uses it, by setting it again, before
// servers start to refuse what no policy allows. An agent may have lost the token that Consul still knows,
// together with its volume. While a server does not answer, it tries again until the context ends. A cluster
// that is not established has nothing to ask and nothing to lose.
func RenewAgentTokens(ctx context.Context, c *consul.Cluster) error {
	established, err := c.Established(ctx)
	if err != nil || !established {
		return err
	}
	return kube.Wait(ctx, "the servers to take their agent tokens", time.Second, func(ctx context.Context) (string, error) {
		token, _, err := ManagementToken(ctx, c)
		if err == nil {
			_, err = VerifyToken(ctx, c, token)
		}
		if err == nil {
			err = SetAgentTokens(ctx, c, token)
		}
		if isTransient(err) {
			return err.Error(), nil
		}
		return "", err
	})
}
