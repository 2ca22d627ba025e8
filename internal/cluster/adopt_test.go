package cluster

import (
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func adoptOf(t *testing.T, a *server.Adopt) types.Object {
	t.Helper()
	var m model
	var diags diag.Diagnostics
	if m.fromAdopt(t.Context(), a, &diags); diags.HasError() {
		t.Fatal(diags)
	}
	return m.Adopt
}

func TestValidateAdopt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*model)
		says   string
	}{
		"a name that is free":            {func(*model) {}, ""},
		"no adoption":                    {func(m *model) { m.Adopt, m.CreateNamespace = types.ObjectNull(adoptTypes), types.BoolValue(true) }, ""},
		"not known yet":                  {func(m *model) { m.Adopt = types.ObjectUnknown(adoptTypes) }, ""},
		"a namespace to be created":      {func(m *model) { m.CreateNamespace = types.BoolValue(true) }, "leave create_namespace false"},
		"the name of the former servers": {func(m *model) { m.Name = types.StringValue("old") }, `such as "old-main"`},
		"a name that is not known yet":   {func(m *model) { m.Name = types.StringUnknown() }, ""},
	}
	for name, tt := range tests {
		m := model{Name: types.StringValue("new"), Adopt: adoptOf(t, &server.Adopt{StatefulSet: "old-server"})}
		tt.change(&m)
		var diags diag.Diagnostics
		validateAdopt(t.Context(), m, &diags)
		says := ""
		for _, d := range diags {
			says += d.Detail()
		}
		if (tt.says == "") != (says == "") || !strings.Contains(says, tt.says) {
			t.Errorf("%s: got %q, want %q", name, says, tt.says)
		}
	}
}

// A change of adopt after the create has no effect, and the plan says so.
func TestKeepDoneAdopt(t *testing.T) {
	t.Parallel()
	a, b := adoptOf(t, &server.Adopt{StatefulSet: "a"}), adoptOf(t, &server.Adopt{StatefulSet: "b", Services: []string{"c"}})
	none := types.ObjectNull(adoptTypes)
	tests := map[string]struct {
		state, plan, want types.Object
		ready, warns      bool
	}{
		"the same":                 {a, a, a, true, false},
		"another one":              {a, b, a, true, true},
		"one where there was none": {none, b, b, true, true}, // a plan cannot change it back
		"another one before the adoption is complete": {a, b, b, false, false},
		"none":                      {none, none, none, true, false},
		"one that is not known yet": {a, types.ObjectUnknown(adoptTypes), types.ObjectUnknown(adoptTypes), true, false},
	}
	for name, tt := range tests {
		plan := model{Adopt: tt.plan}
		var diags diag.Diagnostics
		keepDoneAdopt(model{Adopt: tt.state, Ready: types.BoolValue(tt.ready)}, &plan, &diags)
		if !plan.Adopt.Equal(tt.want) || (diags.WarningsCount() > 0) != tt.warns {
			t.Errorf("%s: planned %s with %q", name, plan.Adopt, diags)
		}
	}
}

// What is written is read back unchanged.
func TestModel_adoptRoundTrip(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]*server.Adopt{
		"none":       nil,
		"the least":  {StatefulSet: "a"},
		"everything": {StatefulSet: "a", Services: []string{"b", "c"}, TokenSecret: &server.SecretKey{Name: "d", Key: "e"}},
	} {
		m := model{Adopt: adoptOf(t, a)}
		var diags diag.Diagnostics
		got := m.toAdopt(t.Context(), &diags)
		if diags.HasError() || !adoptOf(t, got).Equal(m.Adopt) || (got == nil) != (a == nil) {
			t.Errorf("%s: got %+v, %v", name, got, diags)
		}
	}
}

func TestLeftoverWarning(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "main", Namespace: "prod", Adopt: &server.Adopt{StatefulSet: "old", Services: []string{"api"}}}
	by := lifecycle.Leftover{StatefulSet: "old", Claims: []string{"data-old-0", "data-old-1"}}
	chart := by
	chart.HelmRelease, chart.Unserved = "x", []string{"api: grpc"}
	tests := map[string]struct {
		left      lifecycle.Leftover
		says, not []string
	}{
		"by hand": {
			by,
			[]string{
				"kubectl --namespace prod delete statefulset old\n",
				"kubectl --namespace prod delete persistentvolumeclaim data-old-0 data-old-1",
			},
			[]string{"helm", "gRPC"},
		},
		"by Helm": {
			chart,
			[]string{"annotate service api helm.sh/resource-policy=keep", "helm --namespace prod uninstall x", "api: grpc"},
			[]string{"delete statefulset"},
		},
	}
	for name, tt := range tests {
		_, detail := leftoverWarning(spec, tt.left)
		for _, s := range tt.says {
			if !strings.Contains(detail, s) {
				t.Errorf("%s: %q is missing:\n%s", name, s, detail)
			}
		}
		for _, s := range tt.not {
			if strings.Contains(detail, s) {
				t.Errorf("%s: %q is in the text:\n%s", name, s, detail)
			}
		}
	}
}
