package attr

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"k8s.io/apimachinery/pkg/util/validation"
)

// SecretName accepts the name of a Kubernetes Secret.
func SecretName() validator.String { return secretName{} }

type secretName struct{}

func (secretName) Description(context.Context) string               { return "the name of a Secret" }
func (v secretName) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (secretName) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if p := validation.IsDNS1123Subdomain(req.ConfigValue.ValueString()); len(p) > 0 {
		resp.Diagnostics.Append(
			Error(req.Path, "Invalid name", fmt.Sprintf("Kubernetes would refuse %q: %s.", req.ConfigValue.ValueString(), p[0])),
		)
	}
}
