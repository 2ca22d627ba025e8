package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// denyTimeout limits how long a plan waits for Consul.
const denyTimeout = 30 * time.Second

// defaultPolicy is the path of the attribute that these checks are about.
func defaultPolicy() path.Path { return nested("acl", "default_policy") }

// checkACL checks a change of acl on a running cluster. It warns of what turning
// ACLs on does to clients, whatever the default policy is. It refuses a change of
// the default policy to "deny" if that would cut off all clients, and warns of the
// nodes, services, and sessions that the change may cut off. No other plan makes
// requests for this check.
func (r *Resource) checkACL(ctx context.Context, state, plan model, diags *diag.Diagnostics) {
	if r.clients == nil || !plan.Name.Equal(state.Name) || !plan.Namespace.Equal(state.Namespace) { // another cluster
		return
	}
	before, after, ok := aclChange(ctx, state, plan, diags)
	id := state.ID.ValueString()
	switch {
	case !ok:
		return
	case !before.Enabled && after.Enabled && !after.Denies():
		diags.AddAttributeWarning(nested("acl", "enabled"), "Unknown tokens will be refused", fmt.Sprintf(
			"After this change, %s refuses a token that it does not know, even with default_policy = \"allow\". It also refuses a snapshot "+
				"without a token that allows acl:write. "+
				"Until now, neither mattered. Remove left-over tokens from the clients, and expect backup jobs to fail until they have a token.",
			id,
		))
		return
	case before.Denies() || !after.Denies():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, denyTimeout)
	defer cancel()
	c, err := r.clients.Consul(ctx, state.Namespace.ValueString(), state.Name.ValueString())
	var facts consulacl.DenyFacts
	if err == nil {
		facts, err = consulacl.ReadDenyFacts(ctx, c, before.Enabled)
	}
	if err != nil { // the apply decides
		diags.AddAttributeWarning(
			defaultPolicy(),
			"Could not check which clients would be cut off",
			fmt.Sprintf(
				"The provider could not query Consul: %s. The apply restarts no server unless all servers have accepted their agent tokens.",
				err,
			),
		)
		return
	}
	refusals, warnings := judgeDeny(id, before, facts)
	for _, f := range refusals {
		diags.Append(attr.Error(defaultPolicy(), f.summary, f.detail))
	}
	for _, f := range warnings {
		diags.AddAttributeWarning(defaultPolicy(), f.summary, f.detail)
	}
}

// aclChange returns acl before and after a change, and whether both are known. The
// apply checks again what is not known yet.
func aclChange(ctx context.Context, state, plan model, diags *diag.Diagnostics) (before, after server.ACL, known bool) {
	if plan.ACL.IsUnknown() || plan.ACL.IsNull() || state.ACL.IsNull() {
		return before, after, false
	}
	var old, wanted aclModel
	diags.Append(state.ACL.As(ctx, &old, basetypes.ObjectAsOptions{})...)
	diags.Append(plan.ACL.As(ctx, &wanted, basetypes.ObjectAsOptions{})...)
	before = server.ACL{Enabled: old.Enabled.ValueBool(), DefaultPolicy: old.DefaultPolicy.ValueString()}
	after = server.ACL{Enabled: wanted.Enabled.ValueBool(), DefaultPolicy: wanted.DefaultPolicy.ValueString()}
	return before, after, !wanted.Enabled.IsUnknown() && !wanted.DefaultPolicy.IsUnknown()
}

// finding is one reason not to change to "deny".
type finding struct{ summary, detail string }

// judgeDeny decides whether the cluster id may change to a default policy of
// "deny", and names what the change would cut off.
//
//   - A cluster that never had a leader may change: it has no clients.
//   - A cluster without ACLs may not: its clients have no tokens, and the token that
//     could repair it does not exist. It must go through "allow".
//   - A cluster may not if one of its servers still runs without ACLs, or if it has
//     no valid management token: tokens could no longer be created, or not be used.
//   - Every server needs its agent token. Without the token, a server can no longer
//     keep its own node in the catalog up to date.
//   - Nodes and services without a token that has their identity, and holders of
//     sessions on such nodes, may have other tokens. Consul does not say whose those
//     are, so this is only a warning.
//   - Rights of the anonymous token stay in force. This is a warning too.
//
// While the servers change one at a time, clients with a token are refused nothing
// (TestAccLong_inAMixedClusterTheLeaderDecides).
func judgeDeny(id string, before server.ACL, f consulacl.DenyFacts) (refusals, warnings []finding) {
	refuse := func(summary, format string, args ...any) {
		refusals = append(refusals, finding{summary, fmt.Sprintf(format, args...)})
	}
	warn := func(summary, format string, args ...any) {
		warnings = append(warnings, finding{summary, fmt.Sprintf(format, args...)})
	}
	switch {
	case !f.Established:
		return nil, nil
	case !before.Enabled:
		refuse(
			"The clients would be cut off",
			"The servers of %s run without ACLs. With \"deny\", they would refuse every client that has no token. "+
				"Go through \"allow\": set acl = { enabled = true, default_policy = \"allow\" } and apply. Then add consul_k8s_acl_bootstrap and "+
				"the tokens of the clients, and apply. "+
				"When every client uses its token, set \"deny\".",
			id,
		)
		return refusals, nil
	case f.Disabled:
		refuse(
			"Servers run without ACLs",
			"The change of %s to default_policy = \"allow\" is not complete: its leader still runs without ACLs. Apply that change first.",
			id,
		)
		return refusals, nil
	case f.Credential != "":
		refuse(
			"There is no valid management token",
			"The ACL system of %s is not bootstrapped, or its management token is lost: %s. With \"deny\", nobody could do anything any more. "+
				"Keep default_policy = \"allow\", add a consul_k8s_acl_bootstrap for this cluster (or, if there is one, set its reset to a new "+
				"value), and apply. Then set \"deny\".",
			id,
			f.Credential,
		)
		return refusals, nil
	}
	var without, lacking []string
	for _, s := range f.Servers {
		if !s.ACLs {
			without = append(without, s.Name)
		}
		if !s.AgentToken {
			lacking = append(lacking, s.Name)
		}
	}
	if len(without) > 0 {
		refuse(
			"Servers run without ACLs",
			"The change of %s to default_policy = \"allow\" is not complete: these servers still run without ACLs, or are missing: %s. Apply "+
				"that change first.",
			id,
			list(without),
		)
	}
	if len(lacking) > 0 {
		refuse(
			"Servers have no agent token",
			"These servers of %s have no valid agent token: %s. With \"deny\", they could not keep their own entries in the catalog up to date. "+
				"Keep default_policy = \"allow\", add a consul_k8s_acl_bootstrap for this cluster (or, if there is one, set its reset to a new "+
				"value), and apply. Then set \"deny\".",
			id,
			list(lacking),
		)
	}
	if nodes := slices.DeleteFunc(slices.Clone(f.Nodes), func(n string) bool { return f.NodeTokens[n] }); len(nodes) > 0 {
		warn("Nodes may be cut off", "No token has the identity of these nodes, which are registered in %s: %s. "+
			"An agent whose token does not allow node:write on its node can no longer keep the node up to date. Ignore this warning for agents "+
			"whose token has a policy that allows it.", id, list(nodes))
	}
	if services := slices.DeleteFunc(slices.Clone(f.Services), func(s string) bool { return f.ServiceTokens[s] }); len(services) > 0 {
		warn("Services may be cut off", "No token has the identity of these services, which are registered in %s: %s. "+
			"Consul refuses clients that register such a service without a token that allows service:write on it. Ignore this warning for "+
			"clients whose token has a policy that allows it.", id, list(services))
	}
	if len(f.Services) > 0 && len(f.AnonymousRights) == 0 {
		warn(
			"DNS may find no services",
			"The servers of %s answer DNS queries with the rights of the anonymous token, which has none. With \"deny\", DNS queries find no "+
				"service and no node. "+
				"If clients use the DNS of Consul, give the anonymous token a policy that reads service_prefix \"\" and node_prefix \"\". Ignore "+
				"this warning if the servers have a token for DNS.",
			id,
		)
	}
	if nodes, total := sessionsWithout(f); total > 0 {
		warn(
			"Sessions may expire",
			"Sessions in %s: %d, on the nodes %s. A client that holds a session without a token that allows session:write on the node can no "+
				"longer renew the session, and loses its locks.",
			id,
			total,
			list(nodes),
		)
	}
	if len(f.AnonymousRights) > 0 {
		warn(
			"The anonymous token has rights",
			"Requests without a token keep these rights in %s: %s. \"deny\" does not take them away.",
			id,
			list(f.AnonymousRights),
		)
	}
	return refusals, warnings
}

// sessionsWithout returns the nodes that hold sessions and have no token of their
// own, and the number of these sessions. The servers are always included: a session
// on a server belongs to a client that uses the server directly, not to the agent.
func sessionsWithout(f consulacl.DenyFacts) (nodes []string, sessions int) {
	for _, node := range slices.Sorted(maps.Keys(f.Sessions)) {
		isServer := slices.ContainsFunc(f.Servers, func(s consulacl.DenyServer) bool { return s.Name == node })
		if isServer || !f.NodeTokens[node] {
			nodes, sessions = append(nodes, node), sessions+f.Sessions[node]
		}
	}
	return nodes, sessions
}

// list joins names. If there are many, it lists only the first ones.
func list(names []string) string {
	const most = 20
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// agentTokensError explains why a change of the default policy to "deny" was refused.
func agentTokensError(id string, e *lifecycle.AgentTokensError) diag.Diagnostic {
	if errors.Is(e, consulacl.ErrSecretLost) || errors.Is(e, consulacl.ErrACLDisabled) {
		return attr.Error(defaultPolicy(), "The servers have no agent tokens", fmt.Sprintf(
			"Nothing was changed in %s: %s. Keep default_policy = \"allow\", add a consul_k8s_acl_bootstrap for this cluster, and apply. Then "+
				"set \"deny\".",
			id,
			e,
		))
	}
	if errors.Is(e, context.Canceled) {
		return attr.Interrupted(
			"The apply stopped waiting for the agent tokens of "+id+" before the change to \"deny\", and the servers run what they ran before", e)
	}
	detail := fmt.Sprintf("Nothing was changed in %s: %s.", id, e)
	if e.Explanation != "" {
		detail += "\n\n" + e.Explanation
	}
	return attr.Error(defaultPolicy(), "The servers did not accept their agent tokens",
		detail+"\nFix that, or keep default_policy = \"allow\" until the servers answer.")
}
