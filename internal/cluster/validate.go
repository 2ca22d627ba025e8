package cluster

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// oneOf returns a validator whose message says which values are possible.
func oneOf(values ...string) validator.String { return oneOfValidator{values: values} }

type oneOfValidator struct{ values []string }

func (v oneOfValidator) Description(context.Context) string {
	return `"` + strings.Join(v.values, `" or "`) + `"`
}
func (v oneOfValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (v oneOfValidator) ValidateString(ctx context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() || slices.Contains(v.values, req.ConfigValue.ValueString()) {
		return
	}
	resp.Diagnostics.Append(
		attr.Error(req.Path, "Invalid value", fmt.Sprintf("%q is not possible: use %s.", req.ConfigValue.ValueString(), v.Description(ctx))),
	)
}

// ipValidator accepts an IP address.
type ipValidator struct{}

func (ipValidator) Description(context.Context) string               { return "an IP address" }
func (v ipValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (ipValidator) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if net.ParseIP(req.ConfigValue.ValueString()) == nil {
		resp.Diagnostics.Append(attr.Error(req.Path, "Not an IP address", fmt.Sprintf("%q is not an IP address.", req.ConfigValue.ValueString())))
	}
}

// ValidateConfig implements resource.ResourceWithValidateConfig. It checks what the
// validators of single attributes cannot check. The plan checks unknown values.
func (r *Resource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := server.CheckImage(m.Image.ValueString()); err != nil {
		resp.Diagnostics.Append(attr.Error(path.Root("image"), "Consul Enterprise is not supported", err.Error()+"."))
	} else if !m.Version.IsUnknown() && !m.Image.IsUnknown() {
		if _, _, err := versionAndImage(m.Version.ValueString(), m.Image.ValueString()); err != nil {
			resp.Diagnostics.Append(attr.Error(path.Root("version"), "No usable Consul version", err.Error()))
		}
	}
	validateNamespace(m, &resp.Diagnostics)
	validatePlacement(ctx, m, &resp.Diagnostics)
	validateService(ctx, m, &resp.Diagnostics)
	validateAdopt(ctx, m, &resp.Diagnostics)
	validateResources(ctx, m, &resp.Diagnostics)
	validateRestoreFrom(ctx, m, &resp.Diagnostics)
	validateSnapshotTo(ctx, m, &resp.Diagnostics)
	m.jobs(ctx, &resp.Diagnostics).Validate(ctx, path.Root("jobs"), &resp.Diagnostics)
	validateGossip(ctx, m, &resp.Diagnostics)
	validateTLS(ctx, m, &resp.Diagnostics)
}
