package attr

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
)

// Check returns a validator for a text. what describes a valid text, and f returns an error that says why a text is not valid.
func Check(what string, f func(string) error) validator.String { return CheckAs(what, "Not "+what, f) }

// CheckAs is Check with another title of the error.
func CheckAs(what, title string, f func(string) error) validator.String { return check{what, title, f} }

type check struct {
	what, title string
	f           func(string) error
}

// Description implements validator.String.
func (c check) Description(context.Context) string { return c.what }

// MarkdownDescription implements validator.String.
func (c check) MarkdownDescription(ctx context.Context) string { return c.Description(ctx) }

// ValidateString implements validator.String.
func (c check) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := c.f(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.Append(Error(req.Path, c.title, err.Error()+"."))
	}
}
