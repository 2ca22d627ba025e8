package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

type aclModel struct {
	Enabled       types.Bool   `tfsdk:"enabled"`
	DefaultPolicy types.String `tfsdk:"default_policy"`
}

var aclTypes = attributeTypes(aclAttribute())

func aclAttribute() schema.Attribute {
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "ACL system of the cluster. Bootstrap it with `consul_k8s_acl_bootstrap`. A change restarts the servers one at " +
			"a time, in place if there is a management token. " +
			"A running cluster goes from no ACLs to `deny` in steps, through `allow`. See the guide [Turn ACLs on](../guides/acl.md).",
		Attributes: map[string]schema.Attribute{
			"enabled": boolAttribute(
				"acl.enabled",
				"Whether Consul checks the rights of each request. Defaults to {default}: every client may do everything.",
			),
			"default_policy": textAttribute(
				"acl.default_policy",
				"What happens to a request that no policy covers: `allow` or `deny`. Defaults to {default}. Has no effect while "+
					"`enabled` is false. "+
					"A running cluster can change to `deny` only from `allow`, after ACLs are bootstrapped and every server has its agent token. The "+
					"plan warns of nodes, services, and sessions that may be cut off.",
				oneOf("allow", "deny"),
			),
		},
	})
}

// mayHaveACLs reports whether acl.enabled is true, or not known yet.
func (m model) mayHaveACLs() bool {
	enabled, ok := m.ACL.Attributes()["enabled"].(types.Bool)
	return m.ACL.IsUnknown() || (ok && (enabled.IsUnknown() || enabled.ValueBool()))
}
