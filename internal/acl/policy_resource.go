package acl

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
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
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

var (
	_ resource.ResourceWithConfigure   = &PolicyResource{}
	_ resource.ResourceWithModifyPlan  = &PolicyResource{}
	_ resource.ResourceWithImportState = &PolicyResource{}
	_ resource.ResourceWithIdentity    = &PolicyResource{}
)

// PolicyResource is consul_k8s_policy.
type PolicyResource struct{ object }

// NewPolicyResource returns the resource consul_k8s_policy.
func NewPolicyResource() resource.Resource {
	return &PolicyResource{object{kind: "policy", typeName: "consul_k8s_policy"}}
}

type policyModel struct {
	ID          types.String    `tfsdk:"id"`
	Cluster     types.String    `tfsdk:"cluster"`
	Name        types.String    `tfsdk:"name"`
	Description types.String    `tfsdk:"description"`
	Rules       attr.RulesValue `tfsdk:"rules"`
	Datacenters types.Set       `tfsdk:"datacenters"`
	Timeouts    timeouts.Value  `tfsdk:"timeouts"`
}

// madeAnew describes replacements whose effect a plan cannot show.
const madeAnew = "A replacement by `-replace` or `replace_triggered_by` also takes these rights away, and then the plan cannot name " +
	"what is affected, because Terraform deletes first. A second apply gives the rights back to what this configuration manages. " +
	"With `lifecycle { create_before_destroy = true }`, a replacement without any other change leaves the object as it is, with its ID, " +
	"and takes nothing away."

// Schema implements resource.Resource.
func (*PolicyResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages an ACL policy: a named set of rules that tokens and roles refer to.\n\n" +
			"Renaming a policy keeps its ID and what refers to it. Destroying a policy that is in use takes its rights from the tokens and roles " +
			"that use it. The plan names these tokens and roles.\n\n" +
			madeAnew,
		Attributes: objectAttributes(ctx, map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "ID of the policy, a UUID that Consul chooses.",
			},
			"name": schema.StringAttribute{
				Required:   true,
				Validators: []validator.String{policyName},
				MarkdownDescription: "Name of the policy. Must be unique in the cluster, with up to 128 letters, digits, `-`, `_`, and `/`. Must " +
					"not begin with `builtin/`.",
			},
			"description": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(""),
				MarkdownDescription: "Description of the policy.",
			},
			"rules": schema.StringAttribute{
				Required: true, CustomType: attr.RulesType{}, PlanModifiers: []planmodifier.String{attr.KeepSameRules()},
				MarkdownDescription: "[Rules](https://developer.hashicorp.com/consul/docs/reference/acl/rule) in HCL or JSON. The plan checks the " +
					"syntax, the names of resources, and the dispositions. " +
					"A different notation of the same rules is not a change. The function `policy_rules` creates rules from an object.",
			},
			"datacenters": schema.SetAttribute{
				Optional: true, ElementType: types.StringType,
				Validators:          []validator.Set{attr.NotEmpty{}, setvalidator.ValueStringsAre(attr.NotEmpty{})},
				MarkdownDescription: "Datacenters in which the policy is valid. Defaults to all datacenters.",
			},
		}),
	}
}

// ModifyPlan implements resource.ResourceWithModifyPlan.
func (r *PolicyResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	var plan, state policyModel
	if !req.State.Raw.IsNull() {
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	}
	if req.Plan.Raw.IsNull() {
		r.warnInUse(ctx, r.forDestroy(ctx, state.Cluster), state, &resp.Diagnostics)
		return
	}
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	defer r.warnOnce(state.Cluster, state.ID, &resp.Diagnostics)
	if !req.State.Raw.IsNull() && !plan.Cluster.Equal(state.Cluster) {
		r.warnInUse(ctx, r.forDestroy(ctx, state.Cluster), state, &resp.Diagnostics)
		return // it is replaced, and planned again as a new one
	}
	replaces := r.claimName(plan.Cluster, plan.Name, state.ID, req.Config, &resp.Diagnostics)
	if req.Plan.Raw.Equal(req.State.Raw) {
		return
	}
	a := r.forPlan(ctx, plan.Cluster)
	if !r.mayWrite(ctx, a, &resp.Diagnostics) || plan.Name.IsUnknown() || plan.Name.Equal(state.Name) {
		return
	}
	list, err := a.Policies.List(ctx)
	if err != nil {
		return // the apply reports it
	}
	i := slices.IndexFunc(list, func(p *api.ACLPolicyListEntry) bool { return p.Name == plan.Name.ValueString() })
	if i < 0 || list[i].ID == state.ID.ValueString() || list[i].ID == replaces {
		return
	}
	// A policy with the same content, as an interrupted create leaves it, is adopted.
	if req.State.Raw.IsNull() && !plan.Description.IsUnknown() && !plan.Rules.IsUnknown() && !plan.Datacenters.IsUnknown() {
		existing, err := a.Policies.Read(ctx, list[i].ID)
		switch {
		case err != nil: // it was deleted since, as under its former address in the same apply, or the apply reports the error
			return
		case consulacl.SamePolicy(plan.toAPI(ctx, &resp.Diagnostics), *existing):
			resp.Diagnostics.AddAttributeWarning(path.Root("name"), "The policy already exists", fmt.Sprintf(
				"Cluster %s already has a policy %q with the same content, for example from an interrupted apply. The apply adopts it.",
				plan.Cluster.ValueString(),
				plan.Name.ValueString(),
			))
			return
		}
	}
	resp.Diagnostics.Append(attr.Error(path.Root("name"), "The policy already exists", fmt.Sprintf(
		"cluster %s already has a policy %q. Choose another name, or import it: %s",
		plan.Cluster.ValueString(),
		plan.Name.ValueString(),
		r.importCommand(plan.Cluster.ValueString(), plan.Name.ValueString()),
	)))
}

// warnInUse names the tokens and roles that lose the rights of the policy, except
// those that are planned to be destroyed too. It cannot warn about a replacement by
// -replace or replace_triggered_by: the provider learns of it only in a second plan,
// and Terraform does not show the warnings of that plan.
func (r *PolicyResource) warnInUse(ctx context.Context, a *consulacl.ACL, state policyModel, diags *diag.Diagnostics) {
	if a == nil {
		return
	}
	tokens, err := a.Tokens.List(ctx)
	if err != nil {
		return
	}
	roles, err := a.Roles.List(ctx)
	if err != nil {
		return
	}
	users := thatStay(ctx, func() []string {
		var users []string
		for _, role := range roles {
			if links(role.Policies, state.ID.ValueString()) && !r.leaves("role", state.Cluster, role.ID) {
				users = append(users, fmt.Sprintf("role %q", role.Name))
			}
		}
		return append(
			users,
			r.tokensThatStay(state.Cluster, tokens, func(t *api.ACLTokenListEntry) bool { return links(t.Policies, state.ID.ValueString()) })...)
	})
	if len(users) > 0 {
		diags.AddWarning(
			"The policy is in use",
			fmt.Sprintf(
				"Deleting the policy %q of %s takes its rights from: %s.",
				state.Name.ValueString(),
				state.Cluster.ValueString(),
				atMost(users, 20),
			),
		)
	}
}

// leaveTimeout is how long the plan of a destroy waits for the plans of what uses the object. Terraform makes these plans at
// the same time and in any order if the configuration is gone, or if nothing in it refers from one to the other.
const leaveTimeout = 1500 * time.Millisecond

// thatStay returns the users of an object that are not planned to be destroyed too. It returns as soon as there are none, or
// after leaveTimeout, which gives the plans of the others time.
func thatStay(ctx context.Context, users func() []string) []string {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	_ = kube.Wait(
		ctx,
		"the plans of its users",
		50*time.Millisecond,
		func(context.Context) (string, error) { // the users that are left are the answer
			return strings.Join(users(), ", "), nil
		},
	)
	return users()
}

// tokensThatStay names the tokens that use an object, except those that are planned
// to be destroyed too. Login tokens come and go, so it names only their auth method.
func (o *object) tokensThatStay(
	cluster types.String,
	tokens []*api.ACLTokenListEntry,
	uses func(*api.ACLTokenListEntry) bool,
) (names []string) {
	for _, t := range tokens {
		name := tokenTitle(t)
		switch {
		case !uses(t) || o.leaves("token", cluster, t.AccessorID):
			continue
		case t.AuthMethod != "" && o.leaves(authMethodKind, cluster, t.AuthMethod):
			continue
		case t.AuthMethod != "":
			name = fmt.Sprintf("login tokens of the auth method %q", t.AuthMethod)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func links(l []*api.ACLLink, id string) bool {
	return slices.ContainsFunc(l, func(l *api.ACLLink) bool { return l.ID == id })
}

func tokenTitle(t *api.ACLTokenListEntry) string {
	if t.Description == "" {
		return "token " + t.AccessorID
	}
	return fmt.Sprintf("token %s (%s)", t.AccessorID, t.Description)
}

// atMost joins up to n names, and counts the others.
func atMost(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}

// Create implements resource.Resource.
func (r *PolicyResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m policyModel
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
	made, err := a.Policies.Create(ctx, wanted)
	if err != nil {
		resp.Diagnostics.Append(r.failed("create", r.importCommand(m.Cluster.ValueString(), m.Name.ValueString()), err))
		return
	}
	r.keep(m.Cluster, types.StringValue(made.ID))
	m.fromAPI(ctx, *made, &resp.Diagnostics)
	r.save(ctx, m, made.Hash, &resp.State, resp.Identity, resp.Private, &resp.Diagnostics)
}

// Read implements resource.Resource. The list does not contain the rules, but its
// hash shows whether they are those in the state.
func (r *PolicyResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m policyModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	imported := m.Name.IsNull()
	a := r.reading(ctx, m.Cluster, m.ID, imported, resp)
	if a == nil {
		return
	}
	entry, err := r.find(ctx, a, m.ID.ValueString(), imported)
	if err != nil {
		if r.readFailed(err, imported, &resp.Diagnostics) {
			resp.State.RemoveResource(ctx)
		}
		return
	}
	if imported && consulacl.IsBuiltInPolicy(entry.ID, entry.Name) {
		resp.Diagnostics.AddError(
			"Cannot import the policy",
			fmt.Sprintf("The policy %q is built into Consul, and cannot be changed or deleted. Refer to it by its name.", entry.Name),
		)
		return
	}
	known := savedHash(ctx, req.Private, &resp.Diagnostics)
	current := api.ACLPolicy{
		ID:          entry.ID,
		Name:        entry.Name,
		Description: entry.Description,
		Datacenters: entry.Datacenters,
		Rules:       m.Rules.ValueString(),
	}
	if imported || known == "" || known != hashText(entry.Hash) {
		whole, err := a.Policies.Read(ctx, entry.ID)
		if err != nil {
			if r.readFailed(err, imported, &resp.Diagnostics) {
				resp.State.RemoveResource(ctx)
			}
			return
		}
		current = *whole
		entry.Hash = whole.Hash
	}
	a.Policies.Own(current.ID)
	m.fromAPI(ctx, current, &resp.Diagnostics)
	r.save(ctx, m, entry.Hash, &resp.State, resp.Identity, resp.Private, &resp.Diagnostics)
}

// find finds the policy in the list by its ID, or, for an import, by its ID or name.
func (*PolicyResource) find(ctx context.Context, a *consulacl.ACL, id string, imported bool) (*api.ACLPolicyListEntry, error) {
	if imported {
		list, err := a.Policies.List(ctx)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(list, func(p *api.ACLPolicyListEntry) bool { return p.Name == id }); i >= 0 {
			id = list[i].ID
		}
	}
	entry, err := a.Policies.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	own := *entry // the list is shared
	return &own, nil
}

// Update implements resource.Resource.
func (r *PolicyResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m policyModel
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
	changed, err := a.Policies.Update(ctx, wanted)
	if err != nil {
		resp.Diagnostics.Append(r.failed("change", "", err))
		return
	}
	m.fromAPI(ctx, *changed, &resp.Diagnostics)
	r.save(ctx, m, changed.Hash, &resp.State, resp.Identity, resp.Private, &resp.Diagnostics)
}

// Delete implements resource.Resource.
func (r *PolicyResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m policyModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Delete(ctx, objectTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	r.remove(ctx, m.Cluster, m.Name, m.ID, timeout, &resp.Diagnostics, func(ctx context.Context, a *consulacl.ACL) error {
		return a.Policies.Delete(ctx, m.ID.ValueString())
	})
}

// store is the state of a response.
type store interface {
	Set(ctx context.Context, val any) diag.Diagnostics
}

// privateWriter is the private state of a response.
type privateWriter interface {
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

type privateReader interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
}

// hashKey is where the private state keeps the content hash of the object in the
// state.
const hashKey = "hash"

func hashText(hash []byte) string { return fmt.Sprintf("%x", hash) }

func savedHash(ctx context.Context, private privateReader, diags *diag.Diagnostics) string {
	raw, d := private.GetKey(ctx, hashKey)
	diags.Append(d...)
	var hash string
	if len(raw) > 0 {
		_ = json.Unmarshal(raw, &hash) // anything else is no hash
	}
	return hash
}

func (r *PolicyResource) save(
	ctx context.Context,
	m policyModel,
	hash []byte,
	state, identity store,
	private privateWriter,
	diags *diag.Diagnostics,
) {
	diags.Append(state.Set(ctx, &m)...)
	diags.Append(identity.Set(ctx, objectIdentity{Cluster: m.Cluster, ID: m.ID})...)
	r.clients.Claims.MarkRead(claimOf(r.kind, m.Cluster.ValueString(), m.ID.ValueString()))
	raw, err := json.Marshal(hashText(hash))
	if err == nil {
		diags.Append(private.SetKey(ctx, hashKey, raw)...)
	}
}

func (m policyModel) toAPI(ctx context.Context, diags *diag.Diagnostics) api.ACLPolicy {
	p := api.ACLPolicy{
		ID:          m.ID.ValueString(),
		Name:        m.Name.ValueString(),
		Description: m.Description.ValueString(),
		Rules:       m.Rules.ValueString(),
	}
	p.Datacenters = texts(ctx, m.Datacenters, diags)
	return p
}

// fromAPI keeps the notation of the state for rules that mean the same.
func (m *policyModel) fromAPI(ctx context.Context, p api.ACLPolicy, diags *diag.Diagnostics) {
	m.ID, m.Name, m.Description = types.StringValue(p.ID), types.StringValue(p.Name), types.StringValue(p.Description)
	rules := attr.NewRulesValue(p.Rules)
	if same, d := m.Rules.StringSemanticEquals(ctx, rules); m.Rules.IsNull() || d.HasError() || !same {
		m.Rules = rules
	}
	m.Datacenters = keepSet(ctx, m.Datacenters, setOf(ctx, p.Datacenters, diags))
}

// setOf returns a set of texts, or null if there are none.
func setOf(ctx context.Context, values []string, diags *diag.Diagnostics) types.Set {
	if len(values) == 0 {
		return types.SetNull(types.StringType)
	}
	set, d := types.SetValueFrom(ctx, types.StringType, values)
	diags.Append(d...)
	return set
}
