package acl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
)

// grantsModel contains the attributes that give rights to a role or a token.
type grantsModel struct {
	Policies          types.Set `tfsdk:"policies"`
	ServiceIdentities types.Set `tfsdk:"service_identities"`
	NodeIdentities    types.Set `tfsdk:"node_identities"`
	TemplatedPolicies types.Set `tfsdk:"templated_policies"`
}

type serviceIdentityModel struct {
	ServiceName types.String `tfsdk:"service_name"`
	Datacenters types.Set    `tfsdk:"datacenters"`
}

type nodeIdentityModel struct {
	NodeName   types.String `tfsdk:"node_name"`
	Datacenter types.String `tfsdk:"datacenter"`
}

type templatedPolicyModel struct {
	TemplateName types.String `tfsdk:"template_name"`
	Name         types.String `tfsdk:"name"`
	Datacenters  types.Set    `tfsdk:"datacenters"`
}

var (
	serviceIdentityType = types.ObjectType{
		AttrTypes: map[string]tfattr.Type{"service_name": types.StringType, "datacenters": types.SetType{ElemType: types.StringType}},
	}
	nodeIdentityType    = types.ObjectType{AttrTypes: map[string]tfattr.Type{"node_name": types.StringType, "datacenter": types.StringType}}
	templatedPolicyType = types.ObjectType{
		AttrTypes: map[string]tfattr.Type{
			"template_name": types.StringType,
			"name":          types.StringType,
			"datacenters":   types.SetType{ElemType: types.StringType},
		},
	}
)

// grantsAttributes are the schema of a grantsModel, for a role or a token.
func grantsAttributes(what string) map[string]schema.Attribute {
	datacenters := schema.SetAttribute{
		Optional: true, ElementType: types.StringType, Validators: []validator.Set{attr.NotEmpty{}},
		MarkdownDescription: "Datacenters in which the rights are valid. Defaults to all datacenters.",
	}
	return map[string]schema.Attribute{
		"policies": schema.SetAttribute{
			Optional: true, ElementType: types.StringType,
			Validators: []validator.Set{attr.NotEmpty{}, setvalidator.ValueStringsAre(attr.NotEmpty{})},
			MarkdownDescription: "Policies of the " + what + ", each by name or by ID. Refer to `consul_k8s_policy.<name>.name`, so that the " +
				"policy is created first.",
		},
		"service_identities": schema.SetNestedAttribute{
			Optional: true, Validators: []validator.Set{attr.NotEmpty{}},
			MarkdownDescription: "Services that the " + what + " may register and discover (`service:write` on the service and its proxy, " +
				"`service:read` and `node:read` on all).",
			NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
				"service_name": schema.StringAttribute{
					Required:            true,
					Validators:          []validator.String{identityName},
					MarkdownDescription: "Name of the service.",
				},
				"datacenters": datacenters,
			}},
		},
		"node_identities": schema.SetNestedAttribute{
			Optional: true, Validators: []validator.Set{attr.NotEmpty{}},
			MarkdownDescription: "Nodes that the " + what + " may register, as an agent does (`node:write` on the node, `service:read` on all).",
			NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
				"node_name": schema.StringAttribute{
					Required:            true,
					Validators:          []validator.String{identityName},
					MarkdownDescription: "Name of the node.",
				},
				"datacenter": schema.StringAttribute{
					Required:            true,
					Validators:          []validator.String{attr.NotEmpty{}},
					MarkdownDescription: "Datacenter of the node.",
				},
			}},
		},
		"templated_policies": schema.SetNestedAttribute{
			Optional: true, Validators: []validator.Set{attr.NotEmpty{}},
			MarkdownDescription: "[Templated policies](https://developer.hashicorp.com/consul/docs/reference/acl/templated-policy) of the " +
				what + ", such as `builtin/dns`.",
			NestedObject: schema.NestedAttributeObject{Validators: []validator.Object{templatedPolicy{}}, Attributes: map[string]schema.Attribute{
				"template_name": schema.StringAttribute{
					Required: true,
					MarkdownDescription: "Name of the template: `builtin/service`, `builtin/node`, `builtin/api-gateway`, `builtin/dns`, " +
						"`builtin/nomad-server`, or `builtin/nomad-client`.",
				},
				"name": schema.StringAttribute{
					Optional:            true,
					Validators:          []validator.String{attr.NotEmpty{}},
					MarkdownDescription: "Variable `name`, which `builtin/service`, `builtin/node`, and `builtin/api-gateway` require.",
				},
				"datacenters": datacenters,
			}},
		},
	}
}

// withGrants adds the attributes of a grantsModel to others.
func withGrants(what string, attributes map[string]schema.Attribute) map[string]schema.Attribute {
	maps.Copy(attributes, grantsAttributes(what))
	return attributes
}

// templates are the templated policies that Consul has, and whether each needs
// the variable name (GET /v1/acl/templated-policies, the same in 1.21 and 1.22).
func templates() map[string]bool {
	return map[string]bool{
		api.ACLTemplatedPolicyServiceName: true, api.ACLTemplatedPolicyNodeName: true, api.ACLTemplatedPolicyAPIGatewayName: true,
		api.ACLTemplatedPolicyDNSName: false, api.ACLTemplatedPolicyNomadServerName: false, api.ACLTemplatedPolicyNomadClientName: false,
	}
}

func needsName(template string) bool { return templates()[template] }

// checkTemplate returns an error unless Consul has a template.
func checkTemplate(name string) error {
	if _, ok := templates()[name]; !ok {
		return fmt.Errorf("there is no template %q: use one of %s", name, strings.Join(slices.Sorted(maps.Keys(templates())), ", "))
	}
	return nil
}

// templatedPolicy validates an element of templated_policies.
type templatedPolicy struct{}

// Description implements validator.Object.
func (templatedPolicy) Description(context.Context) string {
	return "a template of Consul, with the variables that it needs"
}

// MarkdownDescription implements validator.Object.
func (v templatedPolicy) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

// ValidateObject implements validator.Object.
func (templatedPolicy) ValidateObject(ctx context.Context, req validator.ObjectRequest, resp *validator.ObjectResponse) {
	var m templatedPolicyModel
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	resp.Diagnostics.Append(req.ConfigValue.As(ctx, &m, basetypes.ObjectAsOptions{})...)
	if resp.Diagnostics.HasError() || m.TemplateName.IsUnknown() {
		return
	}
	// An element of a set has no path that distinguishes it from the others.
	at, template := req.Path.ParentPath(), m.TemplateName.ValueString()
	if err := checkTemplate(template); err != nil {
		resp.Diagnostics.Append(attr.Error(at, "Unknown template", err.Error()+"."))
		return
	}
	switch name := m.Name.ValueString(); {
	case m.Name.IsUnknown():
	case m.Name.IsNull() && needsName(template):
		resp.Diagnostics.Append(attr.Errorf(at, "Missing variable", "the template %s needs the attribute name.", template))
	case (template == api.ACLTemplatedPolicyServiceName || template == api.ACLTemplatedPolicyNodeName) &&
		name != "" && !identityName.allows(name):
		resp.Diagnostics.Append(attr.Errorf(at, "Invalid name",
			"Consul would refuse the name %q for the template %s. Use %s.", name, template, identityName.Description(ctx)))
	}
}

// grants are a grantsModel in Consul's types.
type grants struct {
	policies          []*api.ACLLink
	serviceIdentities []*api.ACLServiceIdentity
	nodeIdentities    []*api.ACLNodeIdentity
	templatedPolicies []*api.ACLTemplatedPolicy
}

func (m grantsModel) toAPI(ctx context.Context, diags *diag.Diagnostics) grants {
	g := grants{policies: toLinks(ctx, m.Policies, diags)}
	var services []serviceIdentityModel
	diags.Append(objectsOf(ctx, m.ServiceIdentities, &services)...)
	for _, s := range services {
		i := &api.ACLServiceIdentity{ServiceName: s.ServiceName.ValueString(), Datacenters: texts(ctx, s.Datacenters, diags)}
		g.serviceIdentities = append(g.serviceIdentities, i)
	}
	var nodes []nodeIdentityModel
	diags.Append(objectsOf(ctx, m.NodeIdentities, &nodes)...)
	for _, n := range nodes {
		g.nodeIdentities = append(
			g.nodeIdentities,
			&api.ACLNodeIdentity{NodeName: n.NodeName.ValueString(), Datacenter: n.Datacenter.ValueString()},
		)
	}
	var templated []templatedPolicyModel
	diags.Append(objectsOf(ctx, m.TemplatedPolicies, &templated)...)
	for _, t := range templated {
		p := &api.ACLTemplatedPolicy{TemplateName: t.TemplateName.ValueString()}
		if !t.Name.IsNull() {
			p.TemplateVariables = &api.ACLTemplatedPolicyVariables{Name: t.Name.ValueString()}
		}
		p.Datacenters = texts(ctx, t.Datacenters, diags)
		g.templatedPolicies = append(g.templatedPolicies, p)
	}
	return g
}

// fromAPI keeps, for each policy, whether it was written by name or by ID.
func (m *grantsModel) fromAPI(ctx context.Context, g grants, diags *diag.Diagnostics) {
	m.Policies = fromLinks(ctx, m.Policies, g.policies, diags)
	var services []serviceIdentityModel
	for _, s := range g.serviceIdentities {
		services = append(
			services,
			serviceIdentityModel{ServiceName: types.StringValue(s.ServiceName), Datacenters: setOf(ctx, s.Datacenters, diags)},
		)
	}
	m.ServiceIdentities = keepSet(ctx, m.ServiceIdentities, nestedSet(ctx, serviceIdentityType, services, diags))
	var nodes []nodeIdentityModel
	for _, n := range g.nodeIdentities {
		nodes = append(nodes, nodeIdentityModel{NodeName: types.StringValue(n.NodeName), Datacenter: types.StringValue(n.Datacenter)})
	}
	m.NodeIdentities = keepSet(ctx, m.NodeIdentities, nestedSet(ctx, nodeIdentityType, nodes, diags))
	var templated []templatedPolicyModel
	for _, t := range g.templatedPolicies {
		p := templatedPolicyModel{TemplateName: types.StringValue(t.TemplateName), Datacenters: setOf(ctx, t.Datacenters, diags)}
		if t.TemplateVariables != nil && t.TemplateVariables.Name != "" {
			p.Name = types.StringValue(t.TemplateVariables.Name)
		}
		templated = append(templated, p)
	}
	m.TemplatedPolicies = keepSet(ctx, m.TemplatedPolicies, nestedSet(ctx, templatedPolicyType, templated, diags))
}

// keepSet returns the set that was read, or the prior set if that differs only by null elements, of the set or of sets in it.
func keepSet(ctx context.Context, prior, read types.Set) types.Set {
	if prior.IsNull() || prior.IsUnknown() {
		return read
	}
	set := withoutNulls(ctx, prior).(types.Set).Elements() //nolint:forcetypeassert // of its argument
	for _, e := range read.Elements() {
		if !slices.ContainsFunc(set, e.Equal) {
			return read
		}
	}
	if len(set) != len(read.Elements()) {
		return read
	}
	return prior
}

// withoutNulls returns a value whose sets have no null elements. A set that has no others is null.
func withoutNulls(ctx context.Context, v tfattr.Value) tfattr.Value {
	if v.IsNull() || v.IsUnknown() {
		return v
	}
	switch v := v.(type) {
	case types.Set:
		var elements []tfattr.Value
		for _, e := range v.Elements() {
			if !e.IsNull() {
				elements = append(elements, withoutNulls(ctx, e))
			}
		}
		if len(elements) == 0 {
			return types.SetNull(v.ElementType(ctx))
		}
		return types.SetValueMust(v.ElementType(ctx), elements)
	case types.Object:
		attributes := v.Attributes()
		for name, a := range attributes {
			attributes[name] = withoutNulls(ctx, a)
		}
		return types.ObjectValueMust(v.AttributeTypes(ctx), attributes)
	}
	return v
}

// nestedSet returns a set of objects, or null if there are none.
func nestedSet[T any](ctx context.Context, of types.ObjectType, values []T, diags *diag.Diagnostics) types.Set {
	if len(values) == 0 {
		return types.SetNull(of)
	}
	set, d := types.SetValueFrom(ctx, of, values)
	diags.Append(d...)
	return set
}

// toLinks treats everything that looks like an ID as an ID. Consul allows names
// that look like one, but nobody uses them.
func toLinks(ctx context.Context, set types.Set, diags *diag.Diagnostics) []*api.ACLLink {
	var links []*api.ACLLink
	for _, ref := range texts(ctx, set, diags) {
		if isUUID(ref) {
			links = append(links, &api.ACLLink{ID: ref})
		} else {
			links = append(links, &api.ACLLink{Name: ref})
		}
	}
	return links
}

func fromLinks(ctx context.Context, before types.Set, links []*api.ACLLink, diags *diag.Diagnostics) types.Set {
	written := texts(ctx, before, diags)
	var refs []string
	for _, l := range links {
		if slices.Contains(written, l.ID) {
			refs = append(refs, l.ID)
		} else {
			refs = append(refs, l.Name)
		}
	}
	return keepSet(ctx, before, setOf(ctx, refs, diags))
}

// objectsOf reads a set of objects. It reads none from a set that is not wholly known, and skips null elements.
func objectsOf[T any](ctx context.Context, set types.Set, into *[]T) diag.Diagnostics {
	known := slices.DeleteFunc(set.Elements(), func(v tfattr.Value) bool { return v.IsUnknown() })
	if set.IsUnknown() || set.IsNull() || len(known) < len(set.Elements()) {
		return nil
	}
	var diags diag.Diagnostics
	*into = attr.Objects[T](ctx, set, &diags)
	return diags
}

// texts returns the known elements of a set, without those that are null.
func texts(ctx context.Context, set types.Set, diags *diag.Diagnostics) []string {
	var elements []types.String
	if !set.IsUnknown() && !set.IsNull() {
		diags.Append(set.ElementsAs(ctx, &elements, false)...)
	}
	var out []string
	for _, e := range elements {
		if !e.IsNull() && !e.IsUnknown() {
			out = append(out, e.ValueString())
		}
	}
	return out
}

// linked are the policies or the roles that an object names in an attribute.
type linked struct {
	kind, attribute string
	// refs returns the IDs of all that exist, by ID and by name.
	refs        func(context.Context, *consulacl.ACL) (map[string]string, error)
	plan, state types.Set
}

func policyLinks(plan, state types.Set) linked {
	return linked{"policy", "policies", policyRefs, plan, state}
}

func roleLinks(plan, state types.Set) linked { return linked{"role", "roles", roleRefs, plan, state} }

// checkChanged is checkLinks for the attributes that change.
func (o *object) checkChanged(
	ctx context.Context,
	a *consulacl.ACL,
	cluster types.String,
	private private,
	diags *diag.Diagnostics,
	all ...linked,
) {
	declared := saved[[]string](ctx, private, linksKey, diags)
	for _, l := range all {
		if l.plan.Equal(l.state) {
			continue
		}
		if known, err := l.refs(ctx, a); err == nil { // otherwise, the apply reports it
			o.checkLinks(ctx, l.kind, l.attribute, known, cluster, l.plan, declared, diags)
		}
	}
}

// linksKey is where the private state keeps the policies and roles that were declared when the resource was last applied.
// The state does not keep them: a refresh removes those that somebody deleted in Consul.
const linksKey = "declared_links"

func saveLinks(ctx context.Context, private private, diags *diag.Diagnostics, sets ...types.Set) {
	refs := []string{}
	for _, set := range sets {
		refs = append(refs, texts(ctx, set, diags)...)
	}
	saveAs(ctx, private, linksKey, refs, diags)
}

func policyRefs(ctx context.Context, a *consulacl.ACL) (map[string]string, error) {
	list, err := a.Policies.List(ctx)
	known := map[string]string{}
	for _, p := range list {
		known[p.ID], known[p.Name] = p.ID, p.ID
	}
	return known, err
}

func roleRefs(ctx context.Context, a *consulacl.ACL) (map[string]string, error) {
	list, err := a.Roles.List(ctx)
	known := map[string]string{}
	for _, r := range list {
		known[r.ID], known[r.Name] = r.ID, r.ID
	}
	return known, err
}

// keepLinks returns the policies or roles of the state if the plan names the same
// ones in another way, such as by ID instead of by name after an import. Otherwise,
// it returns those of the plan.
func (o *object) keepLinks(ctx context.Context, cluster types.String, l linked) types.Set {
	if l.plan.Equal(l.state) || l.plan.IsNull() || l.state.IsNull() || !isWhollyKnown(l.plan) {
		return l.plan
	}
	a := o.forPlan(ctx, cluster)
	if a == nil {
		return l.plan
	}
	if known, err := l.refs(ctx, a); err == nil && sameLinks(ctx, l.plan, l.state, known) {
		return l.state
	}
	return l.plan
}

func isWhollyKnown(set types.Set) bool {
	return !set.IsUnknown() && !slices.ContainsFunc(set.Elements(), func(v tfattr.Value) bool { return v.IsUnknown() })
}

// sameLinks reports whether two sets name the same known objects.
func sameLinks(ctx context.Context, a, b types.Set, known map[string]string) bool {
	resolve := func(set types.Set) (ids []string, ok bool) {
		var diags diag.Diagnostics
		for _, ref := range texts(ctx, set, &diags) {
			if known[ref] == "" {
				return nil, false
			}
			ids = append(ids, known[ref])
		}
		slices.Sort(ids)
		return slices.Compact(ids), !diags.HasError()
	}
	x, okX := resolve(a)
	y, okY := resolve(b)
	return okX && okY && slices.Equal(x, y)
}

// checkLinks reports policies or roles that do not exist and that no resource planned so far creates. If such an object was declared
// before, somebody has deleted it since. This must not block the plan of other resources, so it is only a warning.
func (o *object) checkLinks(
	ctx context.Context,
	kind, attribute string,
	known map[string]string,
	cluster types.String,
	set types.Set,
	declared []string,
	diags *diag.Diagnostics,
) {
	for _, ref := range texts(ctx, set, diags) {
		switch missing := known[ref] == "" && !o.clients.Claims.Claimed(claimOf(kind, cluster.ValueString(), ref)); {
		case missing && slices.Contains(declared, ref):
			diags.AddAttributeWarning(path.Root(attribute), "A "+kind+" is gone", fmt.Sprintf(
				"%s: cluster %s no longer has the %s %q. Until you create it again, or remove it from the configuration, the apply of this %s fails.",
				attribute,
				cluster.ValueString(),
				kind,
				ref,
				o.kind,
			))
		case missing:
			diags.Append(attr.Errorf(path.Root(attribute), "Unknown "+kind,
				"cluster %s has no %s %q. If a resource creates it, refer to the attribute of that resource instead of writing the name, so that it "+
					"is created first.", cluster.ValueString(), kind, ref))
		}
	}
}
