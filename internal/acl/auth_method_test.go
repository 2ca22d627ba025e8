package acl

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// The validator of the attribute type reports an unknown type. What the type would require is not a second error.
func TestAuthMethod_ofUnknownTypeIsOneError(t *testing.T) {
	r := &AuthMethodResource{}
	var s resource.SchemaResponse
	r.Schema(t.Context(), resource.SchemaRequest{}, &s)
	all, _ := s.Schema.Type().TerraformType(t.Context()).(tftypes.Object)
	for kind, want := range map[string]int{"oidc": 0, "other": 0, "jwt": 1} {
		values := map[string]tftypes.Value{}
		for name, of := range all.AttributeTypes {
			values[name] = tftypes.NewValue(of, nil)
		}
		values["type"] = tftypes.NewValue(tftypes.String, kind)
		var resp resource.ValidateConfigResponse
		r.ValidateConfig(
			t.Context(),
			resource.ValidateConfigRequest{Config: tfsdk.Config{Schema: s.Schema, Raw: tftypes.NewValue(all, values)}},
			&resp,
		)
		if len(resp.Diagnostics) != want {
			t.Errorf("%s: %v, want %d", kind, resp.Diagnostics, want)
		}
	}
}
