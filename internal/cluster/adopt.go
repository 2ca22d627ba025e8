package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

type adoptModel struct {
	StatefulSet types.String `tfsdk:"stateful_set"`
	Services    types.List   `tfsdk:"services"`
	TokenSecret types.Object `tfsdk:"token_secret"`
}

type secretKeyModel struct {
	Name types.String `tfsdk:"name"`
	Key  types.String `tfsdk:"key"`
}

var (
	secretKeyTypes = map[string]tfattr.Type{"name": types.StringType, "key": types.StringType}
	adoptTypes     = map[string]tfattr.Type{
		"stateful_set": types.StringType, "services": types.ListType{ElemType: types.StringType},
		"token_secret": types.ObjectType{AttrTypes: secretKeyTypes},
	}
)

func adoptAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true, PlanModifiers: []planmodifier.Object{keepAdopt{}},
		MarkdownDescription: "Servers to adopt, which were created by hand or by the Helm chart. The new servers join the old servers and get " +
			"their data, leadership, and Services. Then the old servers are retired " +
			"one at a time. See the guide [Adopt a running cluster](../guides/adopt.md). The attribute counts only when the cluster is created. " +
			"Later, you may keep it or remove it, and neither changes anything. " +
			"The old servers must be in the same namespace and datacenter, have the ACL and encryption settings that are declared here, and run " +
			"`version` or an older version.",
		Attributes: map[string]schema.Attribute{
			"stateful_set": schema.StringAttribute{
				Required: true, Validators: []validator.String{attr.DNSLabel(63, false)},
				MarkdownDescription: "Name of the StatefulSet of the old servers. The StatefulSet is scaled to 0 and kept, with its volumes.",
			},
			"services": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				Validators: []validator.List{listvalidator.UniqueValues(), listvalidator.ValueStringsAre(attr.DNSLabel(63, false))},
				MarkdownDescription: "Services of the old servers that clients continue to use. They route clients to the new servers before any " +
					"old server is retired, and otherwise stay unchanged. " +
					"A Service that has the name of the cluster becomes the cluster's own client Service, if it is not headless.",
			},
			"token_secret": schema.SingleNestedAttribute{
				Optional: true,
				MarkdownDescription: "Secret with a management token of the old servers, in the namespace of the cluster. Required if the old " +
					"servers have ACLs. " +
					"The token is copied into the Secret `<name>-bootstrap-token`, where `consul_k8s_acl_bootstrap` finds it.",
				Attributes: map[string]schema.Attribute{
					"name": schema.StringAttribute{
						Required: true, Validators: []validator.String{attr.DNSLabel(63, false)},
						MarkdownDescription: "Name of the Secret. The Helm chart uses `<release>-consul-bootstrap-acl-token`.",
					},
					"key": schema.StringAttribute{
						Required:            true,
						MarkdownDescription: "Key of the token in the Secret. The Helm chart uses `token`.",
					},
				},
			},
		},
	}
}

// keepAdopt keeps the adoption that is in the state when the configuration no
// longer has it: removing it is not a change.
type keepAdopt struct{}

func (keepAdopt) Description(context.Context) string {
	return "keeps its value when it is removed from the configuration"
}
func (k keepAdopt) MarkdownDescription(ctx context.Context) string { return k.Description(ctx) }

func (keepAdopt) PlanModifyObject(_ context.Context, req planmodifier.ObjectRequest, resp *planmodifier.ObjectResponse) {
	switch {
	case !req.ConfigValue.IsNull():
	case req.State.Raw.IsNull():
		resp.PlanValue = types.ObjectNull(adoptTypes)
	default:
		resp.PlanValue = req.StateValue
	}
}

// toAdopt returns the servers to adopt, or nil if there are none.
func (m model) toAdopt(ctx context.Context, diags *diag.Diagnostics) *server.Adopt {
	if m.Adopt.IsNull() || m.Adopt.IsUnknown() {
		return nil
	}
	var a adoptModel
	diags.Append(m.Adopt.As(ctx, &a, basetypes.ObjectAsOptions{})...)
	out := &server.Adopt{StatefulSet: a.StatefulSet.ValueString()}
	out.Services = attr.Texts(a.Services)
	if !a.TokenSecret.IsNull() {
		var t secretKeyModel
		diags.Append(a.TokenSecret.As(ctx, &t, basetypes.ObjectAsOptions{})...)
		out.TokenSecret = &server.SecretKey{Name: t.Name.ValueString(), Key: t.Key.ValueString()}
	}
	return out
}

// fromAdopt sets the attribute adopt. It keeps the way in which "no Services" was written.
func (m *model) fromAdopt(ctx context.Context, a *server.Adopt, diags *diag.Diagnostics) {
	if a == nil {
		m.Adopt = types.ObjectNull(adoptTypes)
		return
	}
	var prior adoptModel
	if !m.Adopt.IsNull() && !m.Adopt.IsUnknown() {
		diags.Append(m.Adopt.As(ctx, &prior, basetypes.ObjectAsOptions{})...)
	}
	secret := types.ObjectNull(secretKeyTypes)
	if a.TokenSecret != nil {
		secret = attr.Object(
			ctx,
			secretKeyTypes,
			secretKeyModel{types.StringValue(a.TokenSecret.Name), types.StringValue(a.TokenSecret.Key)},
			diags,
		)
	}
	m.Adopt = attr.Object(ctx, adoptTypes, adoptModel{
		StatefulSet: types.StringValue(a.StatefulSet),
		Services:    attr.FromTexts(prior.Services, a.Services),
		TokenSecret: secret,
	}, diags)
}

// validateAdopt refuses an adoption that is impossible whatever runs.
func validateAdopt(ctx context.Context, m model, diags *diag.Diagnostics) {
	if m.Adopt.IsNull() || m.Adopt.IsUnknown() {
		return
	}
	var a adoptModel
	diags.Append(m.Adopt.As(ctx, &a, basetypes.ObjectAsOptions{})...)
	if m.CreateNamespace.ValueBool() {
		diags.Append(attr.Error(path.Root("create_namespace"), "The namespace already exists",
			"The servers to adopt are in the namespace of the cluster: leave create_namespace false."))
	}
	if name := m.Name.ValueString(); !m.Name.IsUnknown() && !a.StatefulSet.IsUnknown() &&
		a.StatefulSet.ValueString() == server.StatefulSetName(name) {
		diags.Append(attr.Error(path.Root("name"), "The name is taken", fmt.Sprintf(
			"The StatefulSet of a cluster %s would be %s, which is the StatefulSet of the servers to adopt. Choose another name, such as %q.",
			name, server.StatefulSetName(name), name+"-main")))
	}
}

// adoptPlanTimeout limits how long a plan may look at the old servers.
const adoptPlanTimeout = 30 * time.Second

// planAdopt makes a plan say whether an adoption can start, and what it will do.
func (r *Resource) planAdopt(ctx context.Context, plan *model, diags *diag.Diagnostics) {
	if plan.Adopt.IsNull() {
		return
	}
	plan.Rollout = types.ObjectUnknown(rolloutTypes)
	if r.clients == nil || r.clients.Unknown || !plan.isAdoptKnown(ctx) {
		return
	}
	spec, d := plan.toSpec(ctx)
	if d.HasError() {
		return
	}
	deployment, err := r.deployment(ctx, spec.Namespace, spec.Name)
	if err != nil {
		return // the apply reports this
	}
	ctx, cancel := context.WithTimeout(ctx, adoptPlanTimeout)
	defer cancel()
	former, err := deployment.CheckAdopt(ctx, spec)
	var refused *lifecycle.RefusedError
	var foreign *lifecycle.ForeignError
	switch {
	case errors.As(err, &refused), errors.As(err, &foreign):
		diags.Append(createError(spec, err))
	case err != nil: // a plan may have fewer rights than an apply
		tflog.Debug(ctx, "could not look at the servers to adopt: "+err.Error())
	case former > 0:
		m := rolloutModel{
			Changes: []string{fmt.Sprintf("adopt the servers of the StatefulSet %s", spec.Adopt.StatefulSet)},
			Steps:   texts(rollout.TakeoverSteps(spec, former)),
		}
		plan.Rollout = attr.Object(ctx, rolloutTypes, m, diags)
	}
}

// keepDoneAdopt keeps a complete adoption as the state has it, and warns if another
// one is declared.
func keepDoneAdopt(state model, plan *model, diags *diag.Diagnostics) {
	if plan.Adopt.Equal(state.Adopt) || plan.Adopt.IsUnknown() || !state.Ready.ValueBool() {
		return
	}
	diags.AddAttributeWarning(
		path.Root("adopt"),
		"Nothing is adopted",
		fmt.Sprintf(
			"Cluster %s exists, and adopt counts only when a cluster is created. Remove adopt from the configuration.",
			state.ID.ValueString(),
		),
	)
	if !state.Adopt.IsNull() {
		plan.Adopt = state.Adopt
	}
}

// isAdoptKnown reports whether everything that an adoption depends on is known.
func (m model) isAdoptKnown(ctx context.Context) bool {
	for _, v := range []tfattr.Value{
		m.Name, m.Namespace, m.Version, m.Replicas, m.Datacenter, m.Domain, m.ACL, m.Service, m.Gossip, m.TLS, m.Adopt,
	} {
		if t, err := v.ToTerraformValue(ctx); err != nil || !t.IsFullyKnown() {
			return false
		}
	}
	return true
}

// refusedError explains why an adoption does not start.
func refusedError(spec server.Spec, err *lifecycle.RefusedError) diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(path.Root("adopt"), "The servers cannot be adopted", fmt.Sprintf(
		"Nothing was changed. Cluster %s cannot adopt the servers of the StatefulSet %s:\n\n  - %s",
		spec.ID(),
		err.From,
		strings.Join(err.Reasons, "\n  - "),
	))
}

// foreignHint says what to do if a cluster that adopts servers finds that its names
// are taken.
func foreignHint(spec server.Spec) string {
	if spec.Adopt == nil {
		return ""
	}
	hint := fmt.Sprintf(
		" To adopt the servers of %s, choose a name that no object uses, such as %q. Clients keep the Services that adopt.services lists.",
		spec.Adopt.StatefulSet,
		spec.Name+"-main",
	)
	if !slices.Contains(spec.Adopt.Services, server.ClientServiceName(spec.Name)) {
		hint += fmt.Sprintf(
			" A Service %s of the old servers becomes the cluster's own if adopt.services lists it and it is not headless.",
			server.ClientServiceName(spec.Name),
		)
	}
	return hint
}

// leftoverWarning says what an adoption leaves, and how to remove it.
func leftoverWarning(spec server.Spec, l lifecycle.Leftover) (summary, detail string) {
	summary = "The old servers are retired"
	var b strings.Builder
	fmt.Fprintf(
		&b,
		"Cluster %s has adopted the servers of the StatefulSet %s, which is now scaled to 0. The StatefulSet and its volumes are kept, but "+
			"nothing uses them. "+
			"Do not scale it up again: its servers would join with old data.\n",
		spec.ID(),
		l.StatefulSet,
	)
	if len(l.Unserved) > 0 {
		fmt.Fprintf(
			&b,
			"\nNo server listens on these ports of Services: %s. To serve gRPC, set extra_config = jsonencode({ ports = { grpc = 8502 } }).\n",
			strings.Join(l.Unserved, ", "),
		)
	}
	if l.HelmRelease != "" {
		fmt.Fprintf(
			&b,
			"\nThe Helm release %s still owns the StatefulSet and its Services. An upgrade of the release would start the old servers again. "+
				"If clients use a Service of the release, keep that Service:\n\n",
			l.HelmRelease,
		)
		for _, s := range spec.Adopt.Services {
			fmt.Fprintf(&b, "  kubectl --namespace %s annotate service %s helm.sh/resource-policy=keep\n", spec.Namespace, s)
		}
		fmt.Fprintf(
			&b,
			"\nThen, when you are sure that you will not revert the adoption, delete what is left:\n\n  helm --namespace %s uninstall %s\n",
			spec.Namespace,
			l.HelmRelease,
		)
	} else {
		fmt.Fprintf(&b, "\nWhen you are sure that you will not revert the adoption, delete what is left:\n\n  kubectl --namespace %s delete "+
			"statefulset %s\n", spec.Namespace, l.StatefulSet)
	}
	if len(l.Claims) > 0 {
		fmt.Fprintf(&b, "  kubectl --namespace %s delete persistentvolumeclaim %s\n", spec.Namespace, strings.Join(l.Claims, " "))
	}
	return summary, b.String()
}

// warnLeftover adds the warning if an adoption has just ended.
func warnLeftover(ctx context.Context, d lifecycle.Deployment, spec server.Spec, diags *diag.Diagnostics) {
	if spec.Adopt == nil {
		return
	}
	l, err := d.Leftover(ctx, spec)
	if err != nil {
		tflog.Debug(ctx, "could not look for what the adoption left: "+err.Error())
		return
	}
	if l.StatefulSet != "" {
		diags.AddWarning(leftoverWarning(spec, l))
	}
}
