package attr

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
)

// DurationBetween validates a Go duration between two bounds.
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
	text := req.ConfigValue.ValueString()
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		resp.Diagnostics.Append(
			Error(
				req.Path,
				"Not a duration",
				fmt.Sprintf(
					"%q is not a duration. Write numbers with units, such as \"500ms\", \"10s\", or \"1m30s\". Write days in hours, such as \"2160h\" "+
						"for 90 days.",
					text,
				),
			),
		)
	case d < v.low || d > v.high:
		resp.Diagnostics.Append(Error(req.Path, "Duration out of range", fmt.Sprintf("%q must be %s.", text, v.Description(ctx))))
	}
}

// ShortDuration formats a duration as people write it: "10s", "1m", not "1m0s".
func ShortDuration(d time.Duration) string {
	switch {
	case d == 0:
		return "0s"
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return d.String()
	}
}
