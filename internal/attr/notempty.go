package attr

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
)

// NotEmpty refuses an empty text, set, or map.
type NotEmpty struct{}

var (
	_ validator.String = NotEmpty{}
	_ validator.Set    = NotEmpty{}
	_ validator.Map    = NotEmpty{}
)

const emptyDetail = "The value must not be empty. Set a value, or leave it out."

// Description implements all validators.
func (NotEmpty) Description(context.Context) string { return "not empty" }

// MarkdownDescription implements all validators.
func (v NotEmpty) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

// ValidateString implements validator.String.
func (NotEmpty) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if v := req.ConfigValue; !v.IsNull() && !v.IsUnknown() && v.ValueString() == "" {
		resp.Diagnostics.Append(Error(req.Path, "Empty value", emptyDetail))
	}
}

// ValidateSet implements validator.Set.
func (NotEmpty) ValidateSet(_ context.Context, req validator.SetRequest, resp *validator.SetResponse) {
	if v := req.ConfigValue; !v.IsNull() && !v.IsUnknown() && len(v.Elements()) == 0 {
		resp.Diagnostics.Append(Error(req.Path, "Empty value", emptyDetail))
	}
}

// ValidateMap implements validator.Map.
func (NotEmpty) ValidateMap(_ context.Context, req validator.MapRequest, resp *validator.MapResponse) {
	if v := req.ConfigValue; !v.IsNull() && !v.IsUnknown() && len(v.Elements()) == 0 {
		resp.Diagnostics.Append(Error(req.Path, "Empty value", emptyDetail))
	}
}
