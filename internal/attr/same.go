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

// KeepSameQuantity plans no change if a quantity is only written in another way.
// Terraform compares planned values as texts, even if their type defines another
// equality.
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

// KeepFormerResticImage keeps the image of restic that was the default of an earlier version of the provider.
func KeepFormerResticImage() planmodifier.String { return keepFormerImage{} }

type keepFormerImage struct{}

// Description implements planmodifier.String.
func (keepFormerImage) Description(context.Context) string {
	return "Keeps the default of an earlier version of the provider."
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
	return "Writing the same " + m.what + " in another way is not a change."
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
