package attr

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/attr/xattr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"k8s.io/apimachinery/pkg/api/resource"
)

var (
	_ basetypes.StringTypable                    = QuantityType{}
	_ basetypes.StringValuableWithSemanticEquals = Quantity{}
	_ xattr.ValidateableAttribute                = Quantity{}
)

// QuantityType is the type of a Kubernetes quantity such as "10Gi" or "500m".
// Two texts of the same amount ("1Gi", "1024Mi") are equal.
type QuantityType struct{ basetypes.StringType }

// Equal implements attr.Type.
func (t QuantityType) Equal(o attr.Type) bool {
	_, ok := o.(QuantityType)
	return ok
}

// String implements attr.Type.
func (QuantityType) String() string { return "attr.QuantityType" }

// ValueFromString implements basetypes.StringTypable.
func (QuantityType) ValueFromString(_ context.Context, v basetypes.StringValue) (basetypes.StringValuable, diag.Diagnostics) {
	return Quantity{StringValue: v}, nil
}

// ValueFromTerraform implements attr.Type.
func (t QuantityType) ValueFromTerraform(ctx context.Context, v tftypes.Value) (attr.Value, error) {
	a, err := t.StringType.ValueFromTerraform(ctx, v)
	if err != nil {
		return nil, err
	}
	s, ok := a.(basetypes.StringValue)
	if !ok {
		return nil, fmt.Errorf("unexpected value type %T", a)
	}
	return Quantity{StringValue: s}, nil
}

// ValueType implements attr.Type.
func (QuantityType) ValueType(context.Context) attr.Value { return Quantity{} }

// Quantity is the value of a QuantityType.
type Quantity struct{ basetypes.StringValue }

// NewQuantity returns a known quantity.
func NewQuantity(q resource.Quantity) Quantity {
	return Quantity{StringValue: basetypes.NewStringValue(q.String())}
}

// Type implements attr.Value.
func (Quantity) Type(context.Context) attr.Type { return QuantityType{} }

// Equal implements attr.Value.
func (q Quantity) Equal(o attr.Value) bool {
	other, ok := o.(Quantity)
	return ok && q.StringValue.Equal(other.StringValue)
}

// StringSemanticEquals implements basetypes.StringValuableWithSemanticEquals.
func (q Quantity) StringSemanticEquals(_ context.Context, o basetypes.StringValuable) (bool, diag.Diagnostics) {
	other, ok := o.(Quantity)
	if !ok {
		return false, nil
	}
	a, err := resource.ParseQuantity(q.ValueString())
	if err != nil {
		return false, nil //nolint:nilerr // what cannot be parsed equals nothing; validation reports it
	}
	b, err := resource.ParseQuantity(other.ValueString())
	return err == nil && a.Cmp(b) == 0, nil
}

// ValidateAttribute implements xattr.ValidateableAttribute.
func (q Quantity) ValidateAttribute(_ context.Context, req xattr.ValidateAttributeRequest, resp *xattr.ValidateAttributeResponse) {
	if q.IsNull() || q.IsUnknown() {
		return
	}
	v, err := resource.ParseQuantity(q.ValueString())
	switch {
	case err != nil:
		resp.Diagnostics.AddAttributeError(req.Path, "Not a quantity",
			fmt.Sprintf("%q is not a Kubernetes quantity. Write a number with a unit, such as \"10Gi\", \"512Mi\" or \"500m\".", q.ValueString()))
	case v.Sign() <= 0:
		resp.Diagnostics.AddAttributeError(req.Path, "Quantity not positive", fmt.Sprintf("%q must be more than zero.", q.ValueString()))
	}
}

// Resource returns the amount, zero where it is null, unknown or invalid.
func (q Quantity) Resource() resource.Quantity {
	v, err := resource.ParseQuantity(q.ValueString())
	if err != nil {
		return resource.Quantity{}
	}
	return v
}
