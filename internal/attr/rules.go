package attr

import (
	"context"
	"fmt"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/attr/xattr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/aclrules"
)

var (
	_ basetypes.StringTypable                    = RulesType{}
	_ basetypes.StringValuableWithSemanticEquals = RulesValue{}
	_ xattr.ValidateableAttribute                = RulesValue{}
)

// RulesType is the type of an attribute that holds the rules of an ACL policy in
// HCL or JSON. The plan refuses rules that Consul would refuse or ignore, and two
// ways of writing the same rules are equal.
type RulesType struct{ basetypes.StringType }

// RulesValue is a value of RulesType.
type RulesValue struct{ basetypes.StringValue }

// NewRulesValue returns rules that are known.
func NewRulesValue(text string) RulesValue {
	return RulesValue{basetypes.NewStringValue(text)}
}

// Equal implements attr.Type.
func (t RulesType) Equal(o tfattr.Type) bool {
	other, ok := o.(RulesType)
	return ok && t.StringType.Equal(other.StringType)
}

// String implements attr.Type.
func (RulesType) String() string { return "attr.RulesType" }

// ValueType implements attr.Type.
func (RulesType) ValueType(context.Context) tfattr.Value { return RulesValue{} }

// ValueFromString implements basetypes.StringTypable.
func (RulesType) ValueFromString(_ context.Context, in basetypes.StringValue) (basetypes.StringValuable, diag.Diagnostics) {
	return RulesValue{in}, nil
}

// ValueFromTerraform implements attr.Type.
func (t RulesType) ValueFromTerraform(ctx context.Context, in tftypes.Value) (tfattr.Value, error) {
	v, err := t.StringType.ValueFromTerraform(ctx, in)
	if err != nil {
		return nil, err
	}
	s, ok := v.(basetypes.StringValue)
	if !ok {
		return nil, fmt.Errorf("expected a string, got %T", v)
	}
	return RulesValue{s}, nil
}

// Equal implements attr.Value: it compares texts.
func (v RulesValue) Equal(o tfattr.Value) bool {
	other, ok := o.(RulesValue)
	return ok && v.StringValue.Equal(other.StringValue)
}

// Type implements attr.Value.
func (RulesValue) Type(context.Context) tfattr.Type { return RulesType{} }

// StringSemanticEquals implements basetypes.StringValuableWithSemanticEquals.
func (v RulesValue) StringSemanticEquals(ctx context.Context, o basetypes.StringValuable) (bool, diag.Diagnostics) {
	other, diags := o.ToStringValue(ctx)
	if diags.HasError() {
		return false, diags
	}
	return sameRules(v.ValueString(), other.ValueString()), nil
}

// ValidateAttribute implements xattr.ValidateableAttribute.
func (v RulesValue) ValidateAttribute(_ context.Context, req xattr.ValidateAttributeRequest, resp *xattr.ValidateAttributeResponse) {
	if v.IsNull() || v.IsUnknown() {
		return
	}
	if _, err := aclrules.ParseRules(v.ValueString()); err != nil {
		resp.Diagnostics.Append(Error(req.Path, "Invalid ACL rules", err.Error()))
	}
}

// KeepSameRules is KeepSameQuantity for the rules of an ACL policy.
func KeepSameRules() planmodifier.String {
	return keepSame{what: "rules", same: sameRules}
}

// sameRules compares rules by meaning. Rules that cannot be read, which somebody
// may have written into Consul by hand, differ from all other rules.
func sameRules(a, b string) bool {
	x, errX := aclrules.ParseRules(a)
	y, errY := aclrules.ParseRules(b)
	return errX == nil && errY == nil && x.Equal(y)
}
