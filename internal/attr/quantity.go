package attr

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"k8s.io/apimachinery/pkg/api/resource"
)

// PositiveQuantity validates a Kubernetes quantity, such as "10Gi" or "500m",
// that is more than zero.
func PositiveQuantity() validator.String { return positiveQuantity{} }

type positiveQuantity struct{}

// Description implements validator.String.
func (positiveQuantity) Description(context.Context) string {
	return "a Kubernetes quantity of more than zero"
}

// MarkdownDescription implements validator.String.
func (v positiveQuantity) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

// ValidateString implements validator.String.
func (positiveQuantity) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	text := req.ConfigValue.ValueString()
	q, err := resource.ParseQuantity(text)
	switch {
	case err != nil:
		resp.Diagnostics.Append(
			Error(
				req.Path,
				"Not a quantity",
				fmt.Sprintf("%q is not a Kubernetes quantity. Write a number with a unit, such as \"10Gi\", \"512Mi\", or \"500m\".", text),
			),
		)
	case q.Sign() <= 0:
		resp.Diagnostics.Append(Error(req.Path, "The quantity is not positive", fmt.Sprintf("%q must be more than zero.", text)))
	}
}

// ToQuantity returns the amount, or zero if the value is not set. Validation has made
// sure that it parses.
func ToQuantity(s types.String) resource.Quantity {
	q, err := resource.ParseQuantity(s.ValueString())
	if err != nil {
		return resource.Quantity{}
	}
	return q
}

func toQuantities(m types.Map) map[string]resource.Quantity {
	var out map[string]resource.Quantity
	for k, text := range ToStrings(m) {
		if out == nil {
			out = map[string]resource.Quantity{}
		}
		out[k] = ToQuantity(types.StringValue(text))
	}
	return out
}

func fromQuantities(prior types.Map, m map[string]resource.Quantity) types.Map {
	text := map[string]string{}
	for k, q := range m {
		p, _ := prior.Elements()[k].(types.String)
		text[k] = KeepQuantity(p, q).ValueString()
	}
	return FromStrings(prior, text)
}

// KeepQuantity returns prior if it is the same amount, so that it stays as it was written.
func KeepQuantity(prior types.String, q resource.Quantity) types.String {
	if p, err := resource.ParseQuantity(prior.ValueString()); err == nil && p.Cmp(q) == 0 {
		return prior
	}
	return types.StringValue(q.String())
}
