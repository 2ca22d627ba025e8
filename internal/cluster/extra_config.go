package cluster

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func extraConfigAttribute() schema.Attribute {
	return schema.StringAttribute{
		Optional: true, Validators: []validator.String{extraConfigValidator{}},
		PlanModifiers: []planmodifier.String{attr.KeepSameJSON()},
		MarkdownDescription: "JSON object of [agent configuration](https://developer.hashicorp.com/consul/docs/reference/agent/configuration-file) for settings that have no attribute. It is merged last. " +
			"The plan refuses keys that the provider sets, even under their deprecated names. It also refuses secrets, because the text is " +
			"stored in the state and in a ConfigMap. " +
			"Consul checks a changed configuration before any server gets it, and the apply quotes what Consul refuses. A change restarts the " +
			"servers in place, unless all changed keys can be reloaded. See [Changes without an outage](../guides/changes.md).",
	}
}

type extraConfigValidator struct{}

func (extraConfigValidator) Description(context.Context) string {
	return "a JSON object without keys that the provider sets"
}
func (v extraConfigValidator) MarkdownDescription(ctx context.Context) string {
	return v.Description(ctx)
}

func (extraConfigValidator) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := server.CheckExtraConfig(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.Append(attr.Error(req.Path, "Invalid extra_config", err.Error()+"."))
	}
}
