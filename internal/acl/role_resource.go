package acl

import (
	"context"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
)

var _ objectResource = &RoleResource{}

// RoleResource is consul_k8s_role.
type RoleResource struct {
	envelope[roleModel, *roleModel]
}

// NewRoleResource returns the resource consul_k8s_role.
func NewRoleResource() resource.Resource {
	r := &RoleResource{}
	r.object, r.own = object{kind: "role", typeName: "consul_k8s_role", importKey: "name or ID"}, r
	return r
}

type roleModel struct {
	objectModel
	Name types.String `tfsdk:"name"`
	grantsModel
}

func (m *roleModel) serial() types.String { return m.Name }

// Schema implements resource.Resource.
func (*RoleResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages an ACL role: a named set of policies and identities that tokens and binding rules refer to. Renaming a " +
			"role keeps its ID and what refers to it.\n\n" +
			"Destroying a role that is in use takes its rights from the tokens that use it. The plan names these tokens.\n\n" +
			madeAnew,
		Attributes: objectAttributes(ctx, "role", withGrants("role", map[string]schema.Attribute{
			"name": schema.StringAttribute{
				Required:            true,
				Validators:          []validator.String{roleName},
				MarkdownDescription: "Name of the role. Must be unique in the cluster, with up to 256 letters, digits, `-`, and `_`.",
			},
		})),
	}
}

func (*RoleResource) isReplaced(plan, state roleModel) bool {
	return !plan.Cluster.Equal(state.Cluster)
}

func (r *RoleResource) plan(ctx context.Context, p *planning[roleModel]) (done bool) {
	p.replaces = r.claimName(p.plan.Cluster, p.plan.Name, p.state.ID, p.req.Config, p.diags)
	if p.exists {
		rewritten := p.plan
		rewritten.Policies = r.keepLinks(ctx, p.plan.Cluster, policyLinks(p.plan.Policies, p.state.Policies))
		p.keep(ctx, rewritten)
	}
	return false
}

// check reports policies that do not exist, and a role that already has the planned name.
func (r *RoleResource) check(ctx context.Context, a *consulacl.ACL, p *planning[roleModel]) {
	plan, state := p.plan, p.state
	r.checkChanged(ctx, a, plan.Cluster, p.req.Private, p.diags, policyLinks(plan.Policies, state.Policies))
	if plan.Name.IsUnknown() || plan.Name.Equal(state.Name) {
		return
	}
	existing, err := roleNamed(ctx, a, plan.Name.ValueString())
	if err != nil || existing.ID == state.ID.ValueString() || existing.ID == p.replaces {
		return // the name is free, or the apply reports the error
	}
	r.nameTaken(plan.Cluster, plan.Name, !p.exists && consulacl.SameRole(plan.toAPI(ctx, p.diags), *existing), p.diags)
}

func roleNamed(ctx context.Context, a *consulacl.ACL, name string) (*api.ACLRole, error) {
	return named(ctx, a, a.Roles, "role", name, func(r *api.ACLRole) string { return r.Name })
}

// planDestroy names the tokens that lose the rights of the role.
func (r *RoleResource) planDestroy(ctx context.Context, state roleModel, diags *diag.Diagnostics) {
	_, tokens, ok := r.forDestroy(ctx, state.Cluster)
	if !ok {
		return
	}
	r.warnInUse(ctx, state.Cluster, state.Name, diags, func() []string {
		return r.tokensThatStay(state.Cluster, tokens, func(t *api.ACLTokenListEntry) bool { return links(t.Roles, state.ID.ValueString()) })
	})
}

func (*RoleResource) write(ctx context.Context, c *change[roleModel]) error {
	c.importAs = c.plan.Name.ValueString()
	written, err := put(ctx, c, c.acl.Roles, c.plan.toAPI(ctx, c.diags))
	if err != nil {
		return err
	}
	saveLinks(ctx, c.private, c.diags, c.plan.Policies)
	c.plan.fromAPI(ctx, *written, c.diags)
	return nil
}

func (*RoleResource) read(ctx context.Context, r *refresh[roleModel]) error {
	id := r.model.ID.ValueString()
	if r.imported {
		if role, err := roleNamed(ctx, r.acl, id); err == nil {
			id = role.ID
		}
	}
	role, err := r.acl.Roles.Get(ctx, id)
	if err != nil {
		return err
	}
	r.acl.Roles.Own(role.ID)
	r.model.fromAPI(ctx, *role, r.diags)
	return nil
}

func (*RoleResource) delete(ctx context.Context, a *consulacl.ACL, m roleModel, _ *diag.Diagnostics) error {
	return a.Roles.Delete(ctx, m.ID.ValueString())
}

func (m *roleModel) fromAPI(ctx context.Context, role api.ACLRole, diags *diag.Diagnostics) {
	m.ID, m.Name, m.Description = types.StringValue(role.ID), types.StringValue(role.Name), types.StringValue(role.Description)
	m.grantsModel.fromAPI(ctx, grants{
		policies: role.Policies, serviceIdentities: role.ServiceIdentities, nodeIdentities: role.NodeIdentities,
		templatedPolicies: role.TemplatedPolicies,
	}, diags)
}

func (m roleModel) toAPI(ctx context.Context, diags *diag.Diagnostics) api.ACLRole {
	g := m.grantsModel.toAPI(ctx, diags)
	return api.ACLRole{
		ID: m.ID.ValueString(), Name: m.Name.ValueString(), Description: m.Description.ValueString(),
		Policies: g.policies, ServiceIdentities: g.serviceIdentities, NodeIdentities: g.nodeIdentities, TemplatedPolicies: g.templatedPolicies,
	}
}
