package attr

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

// An upgrade of the provider does not change a default image that was set before; the configuration can change any
// image.
func TestKeepFormerResticImage(t *testing.T) {
	t.Parallel()
	now, former := types.StringValue(restic.DefaultImage), types.StringValue(restic.FormerDefaultImage)
	own := types.StringValue("mirror.example/restic:0.18.0")
	for name, tt := range map[string]struct{ config, state, plan, want types.String }{
		"created":           {types.StringNull(), types.StringNull(), now, now},
		"former default":    {types.StringNull(), former, now, former},
		"same default":      {types.StringNull(), now, now, now},
		"no longer set":     {types.StringNull(), own, now, now},
		"set":               {own, former, own, own},
		"set to the former": {former, now, former, former},
		"set to the new":    {now, former, now, now},
		"not known":         {types.StringUnknown(), former, types.StringUnknown(), types.StringUnknown()},
	} {
		resp := planmodifier.StringResponse{PlanValue: tt.plan}
		KeepFormerResticImage().PlanModifyString(
			t.Context(),
			planmodifier.StringRequest{ConfigValue: tt.config, StateValue: tt.state, PlanValue: tt.plan},
			&resp,
		)
		if !resp.PlanValue.Equal(tt.want) {
			t.Errorf("%s: %s is planned, want %s", name, resp.PlanValue, tt.want)
		}
	}
}
