package acl

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
)

var _ objectResource = &PolicyResource{}

// PolicyResource is consul_k8s_policy.
type PolicyResource struct {
	envelope[policyModel, *policyModel]
}

// NewPolicyResource returns the resource consul_k8s_policy.
func NewPolicyResource() resource.Resource {
	r := &PolicyResource{}
	r.object, r.own = object{kind: "policy", typeName: "consul_k8s_policy", importKey: "name or ID"}, r
	return r
}

type policyModel struct {
	objectModel
	Name        types.String    `tfsdk:"name"`
	Rules       attr.RulesValue `tfsdk:"rules"`
	Datacenters types.Set       `tfsdk:"datacenters"`
}

func (m *policyModel) serial() types.String { return m.Name }

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
		Attributes: objectAttributes(ctx, "policy", map[string]schema.Attribute{
			"name": schema.StringAttribute{
				Required:   true,
				Validators: []validator.String{policyName},
				MarkdownDescription: "Name of the policy. Must be unique in the cluster, with up to 128 letters, digits, `-`, `_`, and `/`. Must " +
					"not begin with `builtin/`.",
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

func (*PolicyResource) isReplaced(plan, state policyModel) bool {
	return !plan.Cluster.Equal(state.Cluster)
}

func (r *PolicyResource) plan(_ context.Context, p *planning[policyModel]) (done bool) {
	p.replaces = r.claimName(p.plan.Cluster, p.plan.Name, p.state.ID, p.req.Config, p.diags)
	return false
}

// check reports a policy that already has the planned name.
func (r *PolicyResource) check(ctx context.Context, a *consulacl.ACL, p *planning[policyModel]) {
	plan, same := p.plan, false
	if plan.Name.IsUnknown() || plan.Name.Equal(p.state.Name) {
		return
	}
	entry, err := policyNamed(ctx, a, plan.Name.ValueString())
	if err != nil || entry.ID == p.state.ID.ValueString() || entry.ID == p.replaces {
		return // the name is free, or the apply reports the error
	}
	if !p.exists && !plan.Description.IsUnknown() && !plan.Rules.IsUnknown() && !plan.Datacenters.IsUnknown() {
		existing, err := a.Policies.Read(ctx, entry.ID)
		if err != nil { // it was deleted since, as under its former address in the same apply, or the apply reports the error
			return
		}
		same = consulacl.SamePolicy(plan.toAPI(ctx, p.diags), *existing)
	}
	r.nameTaken(plan.Cluster, plan.Name, same, p.diags)
}

func policyNamed(ctx context.Context, a *consulacl.ACL, name string) (*api.ACLPolicyListEntry, error) {
	return named(ctx, a, a.Policies, "policy", name, func(p *api.ACLPolicyListEntry) string { return p.Name })
}

// planDestroy names the tokens and roles that lose the rights of the policy, except
// those that are planned to be destroyed too. It cannot warn about a replacement by
// -replace or replace_triggered_by: the provider learns of it only in a second plan,
// and Terraform does not show the warnings of that plan.
func (r *PolicyResource) planDestroy(ctx context.Context, state policyModel, diags *diag.Diagnostics) {
	a, tokens, ok := r.forDestroy(ctx, state.Cluster)
	if !ok {
		return
	}
	roles, err := a.Roles.List(ctx)
	if err != nil {
		return
	}
	r.warnInUse(ctx, state.Cluster, state.Name, diags, func() (users []string) {
		for _, role := range roles {
			if links(role.Policies, state.ID.ValueString()) && !r.leaves("role", state.Cluster, role.ID) {
				users = append(users, fmt.Sprintf("role %q", role.Name))
			}
		}
		return append(users, r.tokensThatStay(state.Cluster, tokens, func(t *api.ACLTokenListEntry) bool {
			return links(t.Policies, state.ID.ValueString())
		})...)
	})
}

func (*PolicyResource) write(ctx context.Context, c *change[policyModel]) error {
	c.importAs = c.plan.Name.ValueString()
	written, err := put(ctx, c, c.acl.Policies, c.plan.toAPI(ctx, c.diags))
	if err != nil {
		return err
	}
	c.plan.fromAPI(ctx, *written, c.diags)
	saveAs(ctx, c.private, hashKey, hashText(written.Hash), c.diags)
	return nil
}

// read reads the list, which does not contain the rules, but whose hash shows whether they are those in the state.
func (*PolicyResource) read(ctx context.Context, r *refresh[policyModel]) error {
	id := r.model.ID.ValueString()
	if r.imported {
		if p, err := policyNamed(ctx, r.acl, id); err == nil {
			id = p.ID
		}
	}
	entry, err := r.acl.Policies.Get(ctx, id)
	if err != nil {
		return err
	}
	if r.imported && consulacl.IsBuiltInPolicy(entry.ID, entry.Name) {
		r.diags.AddError(
			"Cannot import the policy",
			fmt.Sprintf("The policy %q is built into Consul, and cannot be changed or deleted. Refer to it by its name.", entry.Name),
		)
		return errReported
	}
	current := &api.ACLPolicy{
		ID: entry.ID, Name: entry.Name, Description: entry.Description, Datacenters: entry.Datacenters, Rules: r.model.Rules.ValueString(),
		Hash: entry.Hash,
	}
	if known := saved[string](ctx, r.private, hashKey, r.diags); r.imported || known == "" || known != hashText(entry.Hash) {
		if current, err = r.acl.Policies.Read(ctx, entry.ID); err != nil {
			return err
		}
	}
	r.acl.Policies.Own(current.ID)
	r.model.fromAPI(ctx, *current, r.diags)
	saveAs(ctx, r.private, hashKey, hashText(current.Hash), r.diags)
	return nil
}

func (*PolicyResource) delete(ctx context.Context, a *consulacl.ACL, m policyModel, _ *diag.Diagnostics) error {
	return a.Policies.Delete(ctx, m.ID.ValueString())
}

// hashKey is where the private state keeps the content hash of the object in the
// state.
const hashKey = "hash"

func hashText(hash []byte) string { return fmt.Sprintf("%x", hash) }

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
