package acl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-bexpr"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
)

var (
	_ objectResource                      = &BindingRuleResource{}
	_ resource.ResourceWithValidateConfig = &BindingRuleResource{}
)

// BindingRuleResource is consul_k8s_binding_rule.
type BindingRuleResource struct {
	envelope[bindingRuleModel, *bindingRuleModel]
}

// NewBindingRuleResource returns the resource consul_k8s_binding_rule.
func NewBindingRuleResource() resource.Resource {
	r := &BindingRuleResource{}
	r.object, r.own = object{kind: "binding rule", typeName: "consul_k8s_binding_rule", importKey: "ID"}, r
	return r
}

type bindingRuleModel struct {
	objectModel
	AuthMethod types.String `tfsdk:"auth_method"`
	Selector   types.String `tfsdk:"selector"`
	BindType   types.String `tfsdk:"bind_type"`
	BindName   types.String `tfsdk:"bind_name"`
	BindVars   types.Object `tfsdk:"bind_vars"`
}

func (m *bindingRuleModel) serial() types.String { return m.AuthMethod }

type bindVarsModel struct {
	Name types.String `tfsdk:"name"`
}

var bindVarsTypes = map[string]tfattr.Type{"name": types.StringType}

// Schema implements resource.Resource.
func (*BindingRuleResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages a binding rule, which determines what a client that logs in through an auth method gets. The token has " +
			"the rights of all rules whose selector matches. If no rule matches, the login is refused.\n\n" +
			"`bind_name` and `bind_vars` may refer to the identity that logs in. In HCL, double the dollar sign of such a reference: " +
			"`\"$${serviceaccount.name}\"`. " +
			"With the type `kubernetes`, the references are `serviceaccount.namespace`, `serviceaccount.name`, and `serviceaccount.uid`. With " +
			"`jwt`, they are the mapped claims, as `value.<name>`.",
		Attributes: objectAttributes(ctx, "binding rule", map[string]schema.Attribute{
			"auth_method": schema.StringAttribute{
				Required: true, Validators: []validator.String{authMethodName},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
				MarkdownDescription: "Name of the auth method. Refer to `consul_k8s_auth_method.<name>.name`, so that the auth method is created " +
					"first. A change replaces the rule.",
			},
			"selector": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(""), Validators: []validator.String{selector()},
				MarkdownDescription: "Logins that the rule applies to, as a [boolean " +
					"expression](https://developer.hashicorp.com/consul/api-docs/acl/binding-rules) such as " +
					"`serviceaccount.namespace == \"shop\" and serviceaccount.name != \"default\"`. The plan checks the expression. Defaults to every " +
					"login through the auth method.",
			},
			"bind_type": schema.StringAttribute{
				Required: true, Validators: []validator.String{stringvalidator.OneOf(bindTypes()...)},
				MarkdownDescription: "What the token gets: `role` or `policy` for the role or policy with the name in `bind_name`, `service` or " +
					"`node` for the identity of that name, or `templated-policy` for the template of that name, such as `builtin/dns`.",
			},
			"bind_name": schema.StringAttribute{
				Required: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
				MarkdownDescription: "Name of the role, policy, service, node, or template. For a role or policy, refer to the `name` of its " +
					"resource, so that it is created first.",
			},
			"bind_vars": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Variables of the template, for `bind_type = \"templated-policy\"`.",
				Attributes: map[string]schema.Attribute{
					"name": schema.StringAttribute{Required: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
						MarkdownDescription: "Variable `name` of `builtin/service`, `builtin/node`, and `builtin/api-gateway`."},
				},
			},
		}),
	}
}

func bindTypes() []string {
	return []string{
		string(api.BindingRuleBindTypeRole), string(api.BindingRuleBindTypePolicy), string(api.BindingRuleBindTypeService),
		string(api.BindingRuleBindTypeNode), string(api.BindingRuleBindTypeTemplatedPolicy),
	}
}

// ValidateConfig implements resource.ResourceWithValidateConfig.
func (*BindingRuleResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m bindingRuleModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || m.BindType.IsUnknown() {
		return
	}
	templated := m.BindType.ValueString() == string(api.BindingRuleBindTypeTemplatedPolicy)
	if !templated && !m.BindVars.IsNull() {
		resp.Diagnostics.Append(attr.Error(path.Root("bind_vars"), "Variables without a template",
			"only bind_type = \"templated-policy\" has variables."))
	}
	if m.BindName.IsUnknown() {
		return
	}
	if err := checkBindName(m.BindType.ValueString(), m.BindName.ValueString()); err != nil {
		resp.Diagnostics.Append(attr.Error(path.Root("bind_name"), "Invalid name", err.Error()+"."))
		return
	}
	m.checkReferences(ctx, "", &resp.Diagnostics)
	if templated && m.BindVars.IsNull() && needsName(m.BindName.ValueString()) {
		resp.Diagnostics.Append(attr.Errorf(path.Root("bind_vars"), "Missing variable",
			"the template %s needs bind_vars = { name = … }.", m.BindName.ValueString()))
	}
}

// reference matches a reference to the identity that logs in.
var reference = regexp.MustCompile(`\$\{\s*([^{}]*?)\s*\}`)

// checkBindName returns an error if Consul would refuse a name, now or at a
// login. A reference stands for any name.
func checkBindName(bindType, name string) error {
	name = reference.ReplaceAllString(name, "x")
	if strings.Contains(name, "${") {
		return errors.New("a reference is not closed: \"}\" is missing")
	}
	valid := func(n objectName) error {
		if !n.allows(name) {
			return fmt.Errorf("the name would be refused: use at most %d %s, and references such as $${serviceaccount.name}", n.limit, n.allowed)
		}
		return nil
	}
	switch api.BindingRuleBindType(bindType) {
	case api.BindingRuleBindTypeService, api.BindingRuleBindTypeNode:
		return valid(identityName)
	case api.BindingRuleBindTypeRole:
		return valid(roleName)
	case api.BindingRuleBindTypePolicy:
		// The name of a policy may contain a slash, but then Consul refuses the login
		// (agent/consul/auth/binder.go).
		if strings.Contains(name, "/") {
			return errors.New("no login can get a policy with \"/\" in its name: bind a role that has the policy")
		}
		return valid(roleName)
	case api.BindingRuleBindTypeTemplatedPolicy:
		return checkTemplate(name)
	}
	return nil
}

func (*BindingRuleResource) isReplaced(plan, state bindingRuleModel) bool {
	return !plan.Cluster.Equal(state.Cluster) || !plan.AuthMethod.Equal(state.AuthMethod)
}

func (r *BindingRuleResource) plan(ctx context.Context, p *planning[bindingRuleModel]) (done bool) {
	if p.exists && r.clients != nil && r.leaves(authMethodKind, p.plan.Cluster, p.plan.AuthMethod.ValueString()) {
		// Consul deletes the rule with the auth method, which is created again.
		p.plan.ID = types.StringUnknown()
		p.set(ctx)
		p.resp.RequiresReplace.Append(path.Root("id"))
		return true
	}
	r.claimContent(ctx, p.plan, p.state, p.diags)
	return false
}

func (r *BindingRuleResource) check(ctx context.Context, a *consulacl.ACL, p *planning[bindingRuleModel]) {
	r.checkAuthMethod(ctx, a, p.plan, p.diags)
	r.checkBound(ctx, a, p.plan, p.diags)
	if !p.exists {
		r.warnTakeOver(ctx, a, p.plan, p.diags)
	}
}

// planDestroy warns about nothing: a rule is used only while somebody logs in.
func (*BindingRuleResource) planDestroy(context.Context, bindingRuleModel, *diag.Diagnostics) {}

// claimContent refuses two resources with the same content. Nothing else
// distinguishes their rules, so one resource could mistake the rule of the other
// for a rule that its own interrupted create left behind. The content before this
// apply counts too, because the rule has it until then.
func (r *BindingRuleResource) claimContent(ctx context.Context, plan, state bindingRuleModel, diags *diag.Diagnostics) {
	if r.clients == nil {
		return
	}
	for i, m := range []bindingRuleModel{plan, state} {
		if i > 0 && (state.ID.IsNull() || state.sameContent(plan)) || !m.isKnown() {
			continue
		}
		rule := m.toAPI(ctx, diags)
		rule.ID = ""
		content, _ := json.Marshal(rule) //nolint:errchkjson // a struct of texts
		if _, ok := r.clients.Claims.Claim(
			claimOf(r.kind, m.Cluster.ValueString(), string(content)), state.ID.ValueString(), state.ID.ValueString(),
		); !ok {
			diags.AddError(
				"Duplicate binding rule",
				fmt.Sprintf("Another %s has exactly the same content in cluster %s, or has it until this apply (bind_type %q, bind_name %q). "+
					"Remove one of the two, or give them different descriptions.",
					r.typeName, m.Cluster.ValueString(), m.BindType.ValueString(), m.BindName.ValueString()),
			)
			return
		}
	}
}

func (m bindingRuleModel) values() []tfattr.Value {
	return []tfattr.Value{m.Cluster, m.AuthMethod, m.Description, m.Selector, m.BindType, m.BindName, m.BindVars}
}

func (m bindingRuleModel) isKnown() bool {
	return !slices.ContainsFunc(m.values(), tfattr.Value.IsUnknown) && (m.BindVars.IsNull() || !m.BindVars.Attributes()["name"].IsUnknown())
}

func (m bindingRuleModel) sameContent(o bindingRuleModel) bool {
	return slices.EqualFunc(m.values(), o.values(), tfattr.Value.Equal)
}

// checkAuthMethod reports an auth method that does not exist and that no
// resource planned so far creates. It also reports fields that its type lacks.
func (r *BindingRuleResource) checkAuthMethod(ctx context.Context, a *consulacl.ACL, plan bindingRuleModel, diags *diag.Diagnostics) {
	if plan.AuthMethod.IsUnknown() {
		return
	}
	name, cluster := plan.AuthMethod.ValueString(), plan.Cluster.ValueString()
	methodType := ""
	for _, t := range []string{consulacl.AuthMethodKubernetes, consulacl.AuthMethodJWT, consulacl.AuthMethodAWS} {
		if r.clients.Claims.Claimed(claimOf(t+" "+authMethodKind, cluster, name)) {
			methodType = t
		}
	}
	if methodType == "" && !r.clients.Claims.Claimed(claimOf(authMethodKind, cluster, name)) {
		entry, err := a.AuthMethods.Get(ctx, name)
		if errors.Is(err, consulacl.ErrNotFound) {
			// Consul deletes the binding rules with their auth method, and Terraform then plans new ones. This must not block
			// the plan of other resources.
			diags.AddAttributeWarning(path.Root("auth_method"), "Unknown auth method", fmt.Sprintf(
				"auth_method: cluster %s has no auth method %q. If a resource creates the auth method, refer to the attribute of that resource "+
					"instead of writing the name, so that the auth method is created first. "+
					"Otherwise, the apply of this binding rule fails.",
				cluster,
				name,
			))
		}
		if err != nil {
			return // the apply reports it
		}
		methodType = entry.Type
	}
	if err := checkSelector(methodType, plan.Selector.ValueString()); err != nil {
		diags.Append(attr.Error(path.Root("selector"), "Invalid selector", err.Error()+"."))
	}
	plan.checkReferences(ctx, methodType, diags)
}

func (m bindingRuleModel) checkReferences(ctx context.Context, methodType string, diags *diag.Diagnostics) {
	var vars bindVarsModel
	if !m.BindVars.IsNull() && !m.BindVars.IsUnknown() {
		diags.Append(m.BindVars.As(ctx, &vars, basetypes.ObjectAsOptions{})...)
	}
	for at, text := range map[string]types.String{"bind_name": m.BindName, "bind_vars": vars.Name} {
		if err := checkReferences(methodType, text.ValueString()); err != nil {
			diags.Append(attr.Error(path.Root(at), "Unknown reference", err.Error()+"."))
		}
	}
}

// checkBound reports a role or policy that does not exist and that no resource
// planned so far creates. Consul would ignore the rule.
func (r *BindingRuleResource) checkBound(ctx context.Context, a *consulacl.ACL, plan bindingRuleModel, diags *diag.Diagnostics) {
	if plan.BindName.IsUnknown() || plan.BindType.IsUnknown() || reference.MatchString(plan.BindName.ValueString()) {
		return
	}
	cluster, kind, name := plan.Cluster.ValueString(), plan.BindType.ValueString(), plan.BindName.ValueString()
	var err error
	switch api.BindingRuleBindType(kind) {
	case api.BindingRuleBindTypeRole:
		_, err = roleNamed(ctx, a, name)
	case api.BindingRuleBindTypePolicy:
		_, err = policyNamed(ctx, a, name)
	default:
		return
	}
	if errors.Is(err, consulacl.ErrNotFound) && !r.clients.Claims.Claimed(claimOf(kind, cluster, name)) { // the apply reports others
		diags.Append(attr.Errorf(path.Root("bind_name"), "Unknown "+kind,
			"cluster %s has no %s with the name %q. If a resource creates it, refer to the attribute of that resource instead of writing the "+
				"name, so that it is created first.", cluster, kind, name))
	}
}

// warnTakeOver warns if a rule with the same content already exists.
func (r *BindingRuleResource) warnTakeOver(ctx context.Context, a *consulacl.ACL, plan bindingRuleModel, diags *diag.Diagnostics) {
	if !plan.isKnown() || r.leaves(authMethodKind, plan.Cluster, plan.AuthMethod.ValueString()) {
		return
	}
	list, err := a.BindingRules.List(ctx)
	if err != nil {
		return
	}
	wanted := plan.toAPI(ctx, diags)
	for _, rule := range list {
		if consulacl.SameBindingRule(wanted, *rule) {
			diags.AddWarning("The binding rule already exists", fmt.Sprintf(
				"Cluster %s already has a binding rule %s with the same content, for example from an interrupted apply. The apply adopts it.",
				plan.Cluster.ValueString(),
				rule.ID,
			))
			return
		}
	}
}

func (*BindingRuleResource) write(ctx context.Context, c *change[bindingRuleModel]) error {
	wanted := c.plan.toAPI(ctx, c.diags)
	if !c.exists {
		if _, err := c.acl.AuthMethods.Read(ctx, wanted.AuthMethod); errors.Is(err, consulacl.ErrNotFound) {
			c.diags.Append(attr.Errorf(path.Root("auth_method"), "Unknown auth method",
				"cluster %s has no auth method %q. Create it first.", c.plan.Cluster.ValueString(), wanted.AuthMethod))
		}
	}
	written, err := put(ctx, c, c.acl.BindingRules, wanted)
	if err != nil {
		return err
	}
	c.plan.fromAPI(ctx, *written, c.diags)
	return nil
}

func (*BindingRuleResource) read(ctx context.Context, r *refresh[bindingRuleModel]) error {
	rule, err := r.acl.BindingRules.Get(ctx, r.model.ID.ValueString())
	if err != nil {
		return err
	}
	r.acl.BindingRules.Own(rule.ID)
	r.model.fromAPI(ctx, *rule, r.diags)
	return nil
}

func (*BindingRuleResource) delete(ctx context.Context, a *consulacl.ACL, m bindingRuleModel, _ *diag.Diagnostics) error {
	return a.BindingRules.Delete(ctx, m.ID.ValueString())
}

func (m *bindingRuleModel) fromAPI(ctx context.Context, rule api.ACLBindingRule, diags *diag.Diagnostics) {
	m.ID, m.AuthMethod, m.Description = types.StringValue(rule.ID), types.StringValue(rule.AuthMethod), types.StringValue(rule.Description)
	m.Selector = types.StringValue(rule.Selector)
	m.BindType, m.BindName = types.StringValue(string(rule.BindType)), types.StringValue(rule.BindName)
	m.BindVars = types.ObjectNull(bindVarsTypes)
	if rule.BindVars != nil && rule.BindVars.Name != "" {
		o, d := types.ObjectValueFrom(ctx, bindVarsTypes, bindVarsModel{Name: types.StringValue(rule.BindVars.Name)})
		diags.Append(d...)
		m.BindVars = o
	}
}

func (m bindingRuleModel) toAPI(ctx context.Context, diags *diag.Diagnostics) api.ACLBindingRule {
	out := api.ACLBindingRule{
		ID: m.ID.ValueString(), AuthMethod: m.AuthMethod.ValueString(), Description: m.Description.ValueString(),
		Selector: m.Selector.ValueString(), BindType: api.BindingRuleBindType(m.BindType.ValueString()), BindName: m.BindName.ValueString(),
	}
	if !m.BindVars.IsNull() && !m.BindVars.IsUnknown() {
		var vars bindVarsModel
		diags.Append(m.BindVars.As(ctx, &vars, basetypes.ObjectAsOptions{})...)
		out.BindVars = &api.ACLTemplatedPolicyVariables{Name: vars.Name.ValueString()}
	}
	return out
}

// Fields of the identity that logs in, for each type of auth method
// (agent/consul/authmethod of Consul 1.22).
type (
	kubernetesIdentity struct {
		ServiceAccount struct {
			Namespace string `bexpr:"namespace"`
			Name      string `bexpr:"name"`
			UID       string `bexpr:"uid"`
		} `bexpr:"serviceaccount"`
	}
	jwtIdentity struct {
		Values map[string]string   `bexpr:"value"`
		Lists  map[string][]string `bexpr:"list"`
	}
	awsIdentity struct {
		EntityName string            `bexpr:"entity_name"`
		EntityID   string            `bexpr:"entity_id"`
		AccountID  string            `bexpr:"account_id"`
		EntityPath string            `bexpr:"entity_path"`
		EntityTags map[string]string `bexpr:"entity_tags"`
	}
)

// identityOf returns the identity that logs in through a type of auth method, and
// the names of its fields in selectors and in references. Names with <key> are maps.
func identityOf(methodType string) (identity any, fields, references []string) {
	switch methodType {
	case consulacl.AuthMethodKubernetes:
		fields = []string{"serviceaccount.namespace", "serviceaccount.name", "serviceaccount.uid"}
		return &kubernetesIdentity{}, fields, fields
	case consulacl.AuthMethodJWT:
		return &jwtIdentity{}, []string{"value.<key>", "list.<key>"}, []string{"value.<key>"}
	case consulacl.AuthMethodAWS:
		fields = []string{"entity_name", "entity_id", "account_id", "entity_path", "entity_tags.<key>"}
		return &awsIdentity{}, fields, fields
	}
	return nil, nil, nil
}

// methodTypes returns a type of auth method, or all types if it is "", which is not known yet.
func methodTypes(methodType string) []string {
	if methodType == "" {
		return []string{consulacl.AuthMethodKubernetes, consulacl.AuthMethodJWT, consulacl.AuthMethodAWS}
	}
	return []string{methodType}
}

// checkSelector returns an error unless a selector can be evaluated for a type of
// auth method; "" stands for any type. It uses the same library as Consul.
func checkSelector(methodType, text string) error {
	if text == "" {
		return nil
	}
	if _, err := bexpr.CreateEvaluatorForType(text, nil, nil); err != nil {
		return fmt.Errorf("it is not an expression such as serviceaccount.namespace == \"shop\" and serviceaccount.name != \"default\": %w", err)
	}
	var known []string
	var errs []error
	for _, t := range methodTypes(methodType) {
		identity, fields, _ := identityOf(t)
		if identity == nil {
			return nil // a type that this provider does not know
		}
		_, err := bexpr.CreateEvaluatorForType(text, nil, identity)
		if err == nil {
			return nil
		}
		known, errs = append(known, knownTo(t, fields)), append(errs, err)
	}
	if len(errs) > 1 {
		return fmt.Errorf("no type of auth method has all the fields that it uses: %s", strings.Join(known, "; "))
	}
	return fmt.Errorf("%w: %s", errs[0], strings.Join(known, "; "))
}

// checkReferences returns an error if a name refers to a field that a type of
// auth method does not have; "" stands for any type.
func checkReferences(methodType, name string) error {
	var known []string
	for _, t := range methodTypes(methodType) {
		identity, _, references := identityOf(t)
		if identity == nil || !slices.ContainsFunc(reference.FindAllStringSubmatch(name, -1), func(m []string) bool {
			return !slices.ContainsFunc(references, func(r string) bool { return isNamed(r, m[1]) })
		}) {
			return nil
		}
		known = append(known, knownTo(t, references))
	}
	return fmt.Errorf("%q refers to something that does not exist: %s", name, strings.Join(known, "; "))
}

func knownTo(methodType string, fields []string) string {
	return fmt.Sprintf("the type %s has %s", methodType, strings.Join(fields, ", "))
}

// isNamed reports whether a name is the name of a field.
func isNamed(field, name string) bool {
	prefix, isMap := strings.CutSuffix(field, "<key>")
	key, has := strings.CutPrefix(name, prefix)
	return has && isMap == (key != "")
}

// selector validates the syntax of a selector.
func selector() validator.String {
	return attr.CheckAs("a boolean expression", "Invalid selector", func(text string) error { return checkSelector("", text) })
}
