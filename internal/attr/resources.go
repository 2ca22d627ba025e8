package attr

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Resources is the attribute resources of everything that runs in pods.
type Resources struct {
	Requests types.Map `tfsdk:"requests"`
	Limits   types.Map `tfsdk:"limits"`
}

// ResourcesTypes are the types of Resources.
var ResourcesTypes = map[string]tfattr.Type{
	"requests": types.MapType{ElemType: types.StringType},
	"limits":   types.MapType{ElemType: types.StringType},
}

// Quantities validates the values of requests and of limits.
func Quantities() []validator.Map {
	return []validator.Map{mapvalidator.ValueStringsAre(PositiveQuantity())}
}

// Spec converts what is known of them.
func (r Resources) Spec() server.Resources {
	return server.Resources{Requests: toQuantities(r.Requests), Limits: toQuantities(r.Limits)}
}

// From is the inverse of Spec. A value that is written in another way but means the same stays as it is.
func (r Resources) From(s server.Resources) Resources {
	return Resources{Requests: fromQuantities(r.Requests, s.Requests), Limits: fromQuantities(r.Limits, s.Limits)}
}

// Validate refuses requests above their limits, which Kubernetes would refuse at apply. at is the path of the attribute.
func (r Resources) Validate(at path.Path, diags *diag.Diagnostics) {
	for k, l := range r.Limits.Elements() {
		limit, ok := l.(types.String)
		request, found := r.Requests.Elements()[k].(types.String)
		if !ok || !found || !isSet(limit) || !isSet(request) {
			continue
		}
		a, b := ToQuantity(request), ToQuantity(limit)
		if a.Cmp(b) > 0 && b.Sign() > 0 {
			diags.Append(Error(
				at.AtName("limits").AtMapKey(k),
				"Limit below request",
				fmt.Sprintf(
					"The limit of %s is %s, which is less than the request of %s: raise the limit or lower the request.",
					k,
					b.String(),
					a.String(),
				),
			))
		}
	}
}
