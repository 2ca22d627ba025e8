package attr

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
)

// DurationBetween validates that a Go duration lies between two bounds.
// Durations that do not parse are left to the attribute's type.
func DurationBetween(low, high time.Duration) validator.String {
	return durationBetween{low: low, high: high}
}

type durationBetween struct{ low, high time.Duration }

// Description implements validator.String.
func (v durationBetween) Description(context.Context) string {
	return fmt.Sprintf("a duration between %s and %s", v.low, v.high)
}

// MarkdownDescription implements validator.String.
func (v durationBetween) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

// ValidateString implements validator.String.
func (v durationBetween) ValidateString(ctx context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	d, err := time.ParseDuration(req.ConfigValue.ValueString())
	if err == nil && (d < v.low || d > v.high) {
		resp.Diagnostics.AddAttributeError(req.Path, "Duration out of range",
			fmt.Sprintf("%q must be %s.", req.ConfigValue.ValueString(), v.Description(ctx)))
	}
}
