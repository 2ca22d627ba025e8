package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapdefault"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// defaultRequests are the resource requests of a server by default.
func defaultRequests() types.Map { return attr.Resources{}.From(server.Default().Resources).Requests }

func resourcesAttribute() schema.Attribute {
	requests := defaultRequests()
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "Compute resources of each server, as quantities by resource name. A change gives each server a new pod.",
		Attributes: map[string]schema.Attribute{
			"requests": schema.MapAttribute{
				Optional: true, Computed: true, ElementType: types.StringType, Validators: attr.Quantities(),
				Default: mapdefault.StaticValue(requests),
				MarkdownDescription: fmt.Sprintf(
					"Resource requests. Defaults to `{ cpu = %s, memory = %s }`.", requests.Elements()["cpu"], requests.Elements()["memory"],
				),
			},
			"limits": schema.MapAttribute{
				Optional: true, ElementType: types.StringType, Validators: attr.Quantities(),
				MarkdownDescription: "Resource limits. Not set by default. A CPU limit throttles Raft and causes elections.",
			},
		},
	})
}

func (m model) toResources(ctx context.Context, diags *diag.Diagnostics) server.Resources {
	var resources attr.Resources
	diags.Append(m.Resources.As(ctx, &resources, basetypes.ObjectAsOptions{})...)
	return resources.Spec()
}

func (m *model) fromResources(ctx context.Context, s server.Resources, diags *diag.Diagnostics) {
	var resources attr.Resources
	prior(ctx, m.Resources, &resources, diags)
	m.Resources = attr.Object(ctx, attr.ResourcesTypes, resources.From(s), diags)
}

// validateResources refuses requests above their limits, including the default requests.
func validateResources(ctx context.Context, m model, diags *diag.Diagnostics) {
	var r attr.Resources
	if m.Resources.IsNull() || m.Resources.IsUnknown() {
		return
	}
	diags.Append(m.Resources.As(ctx, &r, basetypes.ObjectAsOptions{})...)
	if r.Requests.IsNull() {
		r.Requests = defaultRequests()
	}
	r.Validate(path.Root("resources"), diags)
}
