package acl

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
)

var (
	_ resource.ResourceWithConfigure   = &RoleResource{}
	_ resource.ResourceWithModifyPlan  = &RoleResource{}
	_ resource.ResourceWithImportState = &RoleResource{}
	_ resource.ResourceWithIdentity    = &RoleResource{}
)

// RoleResource is consul_k8s_role.
type RoleResource struct{ object }

// NewRoleResource returns the resource consul_k8s_role.
func NewRoleResource() resource.Resource {
	return &RoleResource{object{kind: "role", typeName: "consul_k8s_role"}}
}

type roleModel struct {
	ID          types.String `tfsdk:"id"`
	Cluster     types.String `tfsdk:"cluster"`
	Name        types.String `tfsdk:"name"`
	Description types.String `tfsdk:"description"`
	grantsModel
	Timeouts timeouts.Value `tfsdk:"timeouts"`
}

// Schema implements resource.Resource.
func (*RoleResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages an ACL role: a named set of policies and identities that tokens and binding rules refer to. Renaming a " +
			"role keeps its ID and what refers to it.\n\n" +
			"Destroying a role that is in use takes its rights from the tokens that use it. The plan names these tokens.\n\n" +
			madeAnew,
		Attributes: objectAttributes(ctx, withGrants("role", map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "ID of the role, a UUID that Consul chooses.",
			},
			"name": schema.StringAttribute{
				Required:            true,
				Validators:          []validator.String{roleName},
				MarkdownDescription: "Name of the role. Must be unique in the cluster, with up to 256 letters, digits, `-`, and `_`.",
			},
			"description": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(""),
				MarkdownDescription: "Description of the role.",
			},
		})),
	}
}

// ModifyPlan implements resource.ResourceWithModifyPlan.
func (r *RoleResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	var plan, state roleModel
	if !req.State.Raw.IsNull() {
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	}
	if req.Plan.Raw.IsNull() {
		r.leave(state.Cluster, state.ID)
		r.warnInUse(ctx, r.forDestroy(ctx, state.Cluster), state, &resp.Diagnostics)
		return
	}
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	defer r.warnOnce(state.Cluster, state.ID, &resp.Diagnostics)
	if !req.State.Raw.IsNull() && !plan.Cluster.Equal(state.Cluster) {
		r.leave(state.Cluster, state.ID)
		r.warnInUse(ctx, r.forDestroy(ctx, state.Cluster), state, &resp.Diagnostics)
		return // it is replaced, and planned again as a new one
	}
	replaces := r.claimName(plan.Cluster, plan.Name, state.ID, req.Config, &resp.Diagnostics)
	if !req.State.Raw.IsNull() {
		same, unchanged := plan, resp.Plan
		same.Policies = r.keepLinks(ctx, plan.Cluster, plan.Policies, state.Policies, policyRefs)
		resp.Diagnostics.Append(unchanged.Set(ctx, &same)...)
		if unchanged.Raw.Equal(req.State.Raw) {
			resp.Plan = unchanged
			return
		}
	}
	a := r.forPlan(ctx, plan.Cluster)
	if !r.mayWrite(ctx, a, &resp.Diagnostics) {
		return
	}
	if !plan.Policies.Equal(state.Policies) {
		r.checkPolicies(ctx, a, plan.Cluster, plan.Policies, declaredLinks(ctx, req.Private, &resp.Diagnostics), &resp.Diagnostics)
	}
	r.checkName(ctx, a, plan, state, replaces, &resp.Diagnostics)
}

// checkName reports a role that already has the planned name. It is only a warning
// if the content is the same, as an interrupted create leaves it.
func (r *RoleResource) checkName(ctx context.Context, a *consulacl.ACL, plan, state roleModel, replaces string, diags *diag.Diagnostics) {
	if plan.Name.IsUnknown() || plan.Name.Equal(state.Name) {
		return
	}
	list, err := a.Roles.List(ctx)
	if err != nil {
		return // the apply reports it
	}
	i := slices.IndexFunc(list, func(p *api.ACLRole) bool { return p.Name == plan.Name.ValueString() })
	if i < 0 || list[i].ID == state.ID.ValueString() || list[i].ID == replaces {
		return
	}
	if state.ID.IsNull() && consulacl.SameRole(plan.toAPI(ctx, diags), *list[i]) {
		diags.AddAttributeWarning(path.Root("name"), "The role already exists", fmt.Sprintf(
			"Cluster %s already has a role %q with the same content, for example from an interrupted apply. The apply adopts it.",
			plan.Cluster.ValueString(),
			plan.Name.ValueString(),
		))
		return
	}
	diags.Append(attr.Error(path.Root("name"), "The role already exists", fmt.Sprintf(
		"cluster %s already has a role %q. Choose another name, or import it: %s",
		plan.Cluster.ValueString(),
		plan.Name.ValueString(),
		r.importCommand(plan.Cluster.ValueString(), plan.Name.ValueString()),
	)))
}

// warnInUse names the tokens that lose the rights of the role.
func (r *RoleResource) warnInUse(ctx context.Context, a *consulacl.ACL, state roleModel, diags *diag.Diagnostics) {
	if a == nil {
		return
	}
	tokens, err := a.Tokens.List(ctx)
	if err != nil {
		return
	}
	users := thatStay(ctx, func() []string {
		return r.tokensThatStay(state.Cluster, tokens, func(t *api.ACLTokenListEntry) bool { return links(t.Roles, state.ID.ValueString()) })
	})
	if len(users) > 0 {
		diags.AddWarning(
			"The role is in use",
			fmt.Sprintf(
				"Deleting the role %q of %s takes its rights from: %s.",
				state.Name.ValueString(),
				state.Cluster.ValueString(),
				atMost(users, 20),
			),
		)
	}
}

// Create implements resource.Resource.
func (r *RoleResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m roleModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Create(ctx, objectTimeout)
	resp.Diagnostics.Append(diags...)
	wanted := m.toAPI(ctx, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	release := r.alone(ctx, m.Cluster, m.Name, &resp.Diagnostics)
	if release == nil {
		return
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := r.changing(ctx, m.Cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	made, err := a.Roles.Create(ctx, wanted)
	if err != nil {
		resp.Diagnostics.Append(r.failed("create", r.importCommand(m.Cluster.ValueString(), m.Name.ValueString()), err))
		return
	}
	r.keep(m.Cluster, types.StringValue(made.ID))
	r.save(ctx, m, *made, &resp.State, resp.Identity, &resp.Diagnostics)
	saveLinks(ctx, resp.Private, &resp.Diagnostics, m.Policies)
}

// Read implements resource.Resource.
func (r *RoleResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m roleModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	imported := m.Name.IsNull()
	a := r.reading(ctx, m.Cluster, m.ID, imported, resp)
	if a == nil {
		return
	}
	role, err := r.find(ctx, a, m.ID.ValueString(), imported)
	if err != nil {
		if r.readFailed(err, imported, &resp.Diagnostics) {
			resp.State.RemoveResource(ctx)
		}
		return
	}
	a.Roles.Own(role.ID)
	r.save(ctx, m, *role, &resp.State, resp.Identity, &resp.Diagnostics)
}

// find finds the role in the list by its ID, or, for an import, by its ID or name.
func (*RoleResource) find(ctx context.Context, a *consulacl.ACL, id string, imported bool) (*api.ACLRole, error) {
	if imported {
		list, err := a.Roles.List(ctx)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(list, func(r *api.ACLRole) bool { return r.Name == id }); i >= 0 {
			id = list[i].ID
		}
	}
	return a.Roles.Get(ctx, id)
}

// Update implements resource.Resource.
func (r *RoleResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m roleModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Update(ctx, objectTimeout)
	resp.Diagnostics.Append(diags...)
	wanted := m.toAPI(ctx, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := r.changing(ctx, m.Cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	changed, err := a.Roles.Update(ctx, wanted)
	if err != nil {
		resp.Diagnostics.Append(r.failed("change", "", err))
		return
	}
	r.save(ctx, m, *changed, &resp.State, resp.Identity, &resp.Diagnostics)
	saveLinks(ctx, resp.Private, &resp.Diagnostics, m.Policies)
}

// Delete implements resource.Resource.
func (r *RoleResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m roleModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Delete(ctx, objectTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	r.remove(ctx, m.Cluster, m.Name, m.ID, timeout, &resp.Diagnostics, func(ctx context.Context, a *consulacl.ACL) error {
		return a.Roles.Delete(ctx, m.ID.ValueString())
	})
}

func (r *RoleResource) save(ctx context.Context, m roleModel, role api.ACLRole, state, identity store, diags *diag.Diagnostics) {
	m.ID, m.Name, m.Description = types.StringValue(role.ID), types.StringValue(role.Name), types.StringValue(role.Description)
	m.fromAPI(ctx, grants{
		policies: role.Policies, serviceIdentities: role.ServiceIdentities, nodeIdentities: role.NodeIdentities,
		templatedPolicies: role.TemplatedPolicies,
	}, diags)
	diags.Append(state.Set(ctx, &m)...)
	diags.Append(identity.Set(ctx, objectIdentity{Cluster: m.Cluster, ID: m.ID})...)
	r.clients.Claims.MarkRead(claimOf(r.kind, m.Cluster.ValueString(), m.ID.ValueString()))
}

func (m roleModel) toAPI(ctx context.Context, diags *diag.Diagnostics) api.ACLRole {
	g := m.grantsModel.toAPI(ctx, diags)
	return api.ACLRole{
		ID: m.ID.ValueString(), Name: m.Name.ValueString(), Description: m.Description.ValueString(),
		Policies: g.policies, ServiceIdentities: g.serviceIdentities, NodeIdentities: g.nodeIdentities, TemplatedPolicies: g.templatedPolicies,
	}
}
