package attr

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

// KeepSameQuantity plans no change where only the way of writing a quantity
// changed. Terraform compares planned values as texts, whatever their type says
// of equality.
func KeepSameQuantity() planmodifier.String {
	return keepSame{what: "quantity", same: func(a, b string) bool {
		x, errX := resource.ParseQuantity(a)
		y, errY := resource.ParseQuantity(b)
		return errX == nil && errY == nil && x.Cmp(y) == 0
	}}
}

// KeepSameDuration is KeepSameQuantity for Go durations.
func KeepSameDuration() planmodifier.String {
	return keepSame{what: "duration", same: func(a, b string) bool {
		x, errX := time.ParseDuration(a)
		y, errY := time.ParseDuration(b)
		return errX == nil && errY == nil && x == y
	}}
}

// KeepSameJSON is KeepSameQuantity for JSON texts.
func KeepSameJSON() planmodifier.String {
	return keepSame{what: "JSON value", same: func(a, b string) bool {
		var x, y any
		return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
	}}
}

// KeepFormerResticImage leaves the image of restic that an earlier version of the provider has set by default as it is.
func KeepFormerResticImage() planmodifier.String { return keepFormerImage{} }

type keepFormerImage struct{}

// Description implements planmodifier.String.
func (keepFormerImage) Description(context.Context) string {
	return "The default of an earlier version of the provider stays."
}

// MarkdownDescription implements planmodifier.String.
func (m keepFormerImage) MarkdownDescription(ctx context.Context) string { return m.Description(ctx) }

// PlanModifyString implements planmodifier.String.
func (keepFormerImage) PlanModifyString(_ context.Context, req planmodifier.StringRequest, resp *planmodifier.StringResponse) {
	if req.ConfigValue.IsNull() && req.StateValue.ValueString() == restic.FormerDefaultImage {
		resp.PlanValue = req.StateValue
	}
}

type keepSame struct {
	what string
	same func(a, b string) bool
}

// Description implements planmodifier.String.
func (m keepSame) Description(context.Context) string {
	return "Another way of writing the same " + m.what + " is no change."
}

// MarkdownDescription implements planmodifier.String.
func (m keepSame) MarkdownDescription(ctx context.Context) string { return m.Description(ctx) }

// PlanModifyString implements planmodifier.String.
func (m keepSame) PlanModifyString(_ context.Context, req planmodifier.StringRequest, resp *planmodifier.StringResponse) {
	if req.StateValue.IsNull() || req.PlanValue.IsNull() || req.PlanValue.IsUnknown() {
		return
	}
	if m.same(req.StateValue.ValueString(), req.PlanValue.ValueString()) {
		resp.PlanValue = req.StateValue
	}
}
