package attr

import (
	"cmp"
	"context"
	"fmt"
	"maps"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Placement holds what the placement attributes of all resources have in common: on which nodes pods run, and their
// priority.
type Placement struct {
	NodeSelector  types.Map    `tfsdk:"node_selector"`
	Tolerations   types.List   `tfsdk:"tolerations"`
	PriorityClass types.String `tfsdk:"priority_class"`
}

type tolerationModel struct {
	Key               types.String `tfsdk:"key"`
	Operator          types.String `tfsdk:"operator"`
	Value             types.String `tfsdk:"value"`
	Effect            types.String `tfsdk:"effect"`
	TolerationSeconds types.Int64  `tfsdk:"toleration_seconds"`
}

// TolerationTypes are the types of a toleration.
var TolerationTypes = map[string]tfattr.Type{
	"key": types.StringType, "operator": types.StringType, "value": types.StringType,
	"effect": types.StringType, "toleration_seconds": types.Int64Type,
}

// PlacementTypes returns the types of a Placement, together with others.
func PlacementTypes(others map[string]tfattr.Type) map[string]tfattr.Type {
	all := map[string]tfattr.Type{
		"node_selector":  types.MapType{ElemType: types.StringType},
		"tolerations":    types.ListType{ElemType: types.ObjectType{AttrTypes: TolerationTypes}},
		"priority_class": types.StringType,
	}
	maps.Copy(all, others)
	return all
}

// PlacementAttributes returns the attributes of a Placement, together with others.
func PlacementAttributes(others map[string]schema.Attribute) map[string]schema.Attribute {
	all := map[string]schema.Attribute{
		"node_selector": schema.MapAttribute{
			Optional: true, ElementType: types.StringType,
			Validators:          []validator.Map{mapvalidator.KeysAre(LabelKey()), mapvalidator.ValueStringsAre(labelValue())},
			MarkdownDescription: "Labels that a node must have.",
		},
		"tolerations": schema.ListNestedAttribute{
			Optional:            true,
			MarkdownDescription: "Taints that the pods tolerate.",
			NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
				"key": schema.StringAttribute{
					Optional: true, Validators: []validator.String{LabelKey()},
					MarkdownDescription: "Key of the taint. If the key is not set and the operator is `Exists`, every taint is tolerated.",
				},
				"operator": schema.StringAttribute{
					Optional: true, Computed: true, Default: stringdefault.StaticString(string(corev1.TolerationOpEqual)),
					Validators:          []validator.String{stringvalidator.OneOf(string(corev1.TolerationOpEqual), string(corev1.TolerationOpExists))},
					MarkdownDescription: "How the taint is compared: `Equal` or `Exists`. Defaults to `Equal`.",
				},
				"value": schema.StringAttribute{
					Optional: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
					MarkdownDescription: "Value of the taint, for the operator `Equal`.",
				},
				"effect": schema.StringAttribute{
					Optional: true, Validators: []validator.String{stringvalidator.OneOf("NoSchedule", "PreferNoSchedule", "NoExecute")},
					MarkdownDescription: "Effect of the taint: `NoSchedule`, `PreferNoSchedule`, or `NoExecute`. Defaults to all effects.",
				},
				"toleration_seconds": schema.Int64Attribute{
					Optional: true, Validators: []validator.Int64{int64validator.AtLeast(0)},
					MarkdownDescription: "Number of seconds for which a `NoExecute` taint is tolerated. If not set, the taint is tolerated forever.",
				},
			}},
		},
		"priority_class": schema.StringAttribute{
			Optional: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
			MarkdownDescription: "Name of the PriorityClass of the pods.",
		},
	}
	maps.Copy(all, others)
	return all
}

// LabelKey validates the key of a label, or of a taint.
func LabelKey() validator.String {
	return Check("a label key", func(text string) error {
		return asKubernetes(text, validation.IsQualifiedName(text))
	})
}

func labelValue() validator.String {
	return Check("a label value", func(text string) error {
		return asKubernetes(text, validation.IsValidLabelValue(text))
	})
}

// asKubernetes returns an error with the first problem that Kubernetes finds in a text, or nil if Kubernetes accepts the text.
func asKubernetes(text string, problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%q would be refused by Kubernetes: %s", text, problems[0])
}

// Validate refuses tolerations that contradict themselves. at is the path of the placement.
func (p Placement) Validate(ctx context.Context, at path.Path, diags *diag.Diagnostics) {
	for i, e := range p.Tolerations.Elements() { // empty if they are unknown
		o, ok := e.(types.Object)
		if !ok || o.IsUnknown() || o.IsNull() {
			continue
		}
		var t tolerationModel
		diags.Append(o.As(ctx, &t, basetypes.ObjectAsOptions{})...)
		t.validate(at.AtName("tolerations").AtListIndex(i), diags)
	}
}

func (t tolerationModel) validate(at path.Path, diags *diag.Diagnostics) {
	exists := t.Operator.ValueString() == string(corev1.TolerationOpExists)
	switch {
	case t.Operator.IsUnknown() || t.Key.IsUnknown() || t.Value.IsUnknown() || t.Effect.IsUnknown():
	case exists && !t.Value.IsNull():
		diags.Append(
			Error(
				at.AtName("value"),
				"The placement contradicts itself",
				"Operator Exists tolerates every value: remove value, or use operator Equal.",
			),
		)
	case !exists && t.Key.IsNull():
		diags.Append(
			Error(
				at.AtName("key"),
				"The placement contradicts itself",
				"Operator Equal needs a key: set it, or use operator Exists to tolerate every taint.",
			),
		)
	case !t.TolerationSeconds.IsNull() && t.Effect.ValueString() != string(corev1.TaintEffectNoExecute):
		diags.Append(
			Error(
				at.AtName("toleration_seconds"),
				"The placement contradicts itself",
				"toleration_seconds applies only to effect NoExecute: set that effect, or remove toleration_seconds.",
			),
		)
	}
}

// ToTolerations converts tolerations that are known.
func (p Placement) ToTolerations(ctx context.Context, diags *diag.Diagnostics) (all []corev1.Toleration) {
	for _, t := range Objects[tolerationModel](ctx, p.Tolerations, diags) {
		all = append(all, corev1.Toleration{
			Key: t.Key.ValueString(), Operator: corev1.TolerationOperator(t.Operator.ValueString()), Value: t.Value.ValueString(),
			Effect: corev1.TaintEffect(t.Effect.ValueString()), TolerationSeconds: t.TolerationSeconds.ValueInt64Pointer(),
		})
	}
	return all
}

// From returns the Placement that was read. A value that is written in another way but means the same stays as it is.
func (p Placement) From(
	ctx context.Context,
	nodes map[string]string,
	tolerations []corev1.Toleration,
	priority string,
	diags *diag.Diagnostics,
) Placement {
	var models []tolerationModel
	for _, t := range tolerations {
		models = append(models, tolerationModel{
			Key: OptionalString(t.Key), Operator: types.StringValue(string(cmp.Or(t.Operator, corev1.TolerationOpEqual))),
			Value:  OptionalString(t.Value),
			Effect: OptionalString(string(t.Effect)), TolerationSeconds: types.Int64PointerValue(t.TolerationSeconds),
		})
	}
	return Placement{
		NodeSelector:  FromStrings(p.NodeSelector, nodes),
		Tolerations:   FromList(ctx, p.Tolerations, types.ObjectType{AttrTypes: TolerationTypes}, models, diags),
		PriorityClass: OptionalString(priority),
	}
}
