package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// minVersion is the oldest supported Consul version: the first that accepts a
// chosen bootstrap secret and transfers the leadership on request.
var minVersion = version.Must(version.NewVersion("1.15.0"))

func versionAttribute() schema.Attribute {
	return schema.StringAttribute{
		Optional: true, Computed: true, Validators: []validator.String{versionValidator{}},
		MarkdownDescription: "Consul version, such as `1.22.7`. Must be 1.15 or later. Required unless it is the tag of `image`. A change " +
			"restarts the servers in place, one at a time. " +
			"An upgrade can advance at most two release lines, and a downgrade is refused. If an upgrade would advance more, the plan refuses " +
			"it and names the versions to apply one after the other, as the function `upgrade_path` does.",
	}
}

type versionValidator struct{}

func (versionValidator) Description(context.Context) string {
	return "a Consul version, 1.15 or later"
}
func (v versionValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (versionValidator) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := checkVersion(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.Append(attr.Error(req.Path, "Invalid Consul version", err.Error()))
	}
}

// checkVersion refuses a text that is not a full semantic version, and a version that is too old.
func checkVersion(text string) error {
	v, err := server.ParseVersion(text)
	if err != nil {
		return err
	}
	if v.Core().LessThan(minVersion) {
		return fmt.Errorf(
			"%q is older than %s, the oldest Consul version that can be bootstrapped and restarted safely: use a later version",
			text,
			minVersion,
		)
	}
	return nil
}

// planVersion derives version and image from each other.
func planVersion(config model, plan *model) {
	if config.Version.IsUnknown() || config.Image.IsUnknown() {
		plan.Version, plan.Image = config.Version, config.Image
		if config.Version.IsNull() {
			plan.Version = types.StringUnknown()
		}
		if config.Image.IsNull() {
			plan.Image = types.StringUnknown()
		}
		return
	}
	v, image, err := versionAndImage(config.Version.ValueString(), config.Image.ValueString())
	if err != nil {
		return // ValidateConfig reports this
	}
	plan.Version, plan.Image = types.StringValue(v), types.StringValue(image)
}
