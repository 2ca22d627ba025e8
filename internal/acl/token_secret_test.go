package acl

import (
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// The error about a refused secret ID does not show it.
func TestUUIDValidator_doesNotEchoAValue(t *testing.T) {
	for value, refused := range map[string]bool{
		"8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55":  false,
		"00000000-0000-0000-0000-000000000002":  false,
		"8F8B1E3A-5D1C-4F0E-9C64-3F1D2A7B9E55":  true,
		"8f8b1e3a5d1c4f0e9c643f1d2a7b9e55":      true,
		"urn:uuid:8f8b1e3a-5d1c-4f0e-9c64-3f1d": true,
		"a password":                            true,
		"00000000-0000-0000-0000-0000000000aa":  true,
	} {
		var resp validator.StringResponse
		uuidValidator{}.ValidateString(
			t.Context(),
			validator.StringRequest{Path: path.Root("secret_id_wo"), ConfigValue: types.StringValue(value)},
			&resp,
		)
		if resp.Diagnostics.HasError() != refused {
			t.Errorf("%q: %v", value, resp.Diagnostics)
		}
		for _, d := range resp.Diagnostics {
			if strings.Contains(d.Summary()+d.Detail(), value) {
				t.Errorf("the value is in %q", d.Detail())
			}
		}
	}
}
