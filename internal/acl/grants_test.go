package acl

import (
	"strings"
	"testing"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func TestTemplatedPolicy_isCheckedAtPlan(t *testing.T) {
	text, null, unknown := types.StringValue, types.StringNull(), types.StringUnknown()
	for _, c := range []struct {
		template, name types.String
		want           string // "" if it is accepted
	}{
		{text("builtin/dns"), null, ""},
		{text("builtin/service"), text("web"), ""},
		{text("builtin/service"), unknown, ""},
		{unknown, null, ""},
		{text("builtin/api-gateway"), text("Upper"), ""}, // Consul accepts it
		{text("builtin/dnss"), null, `templated_policies: there is no template "builtin/dnss": use one of builtin/api-gateway, builtin/dns,`},
		{text(""), null, `there is no template ""`},
		{text("builtin/workload-identity"), text("a"), "there is no template"}, // Consul 1.21 and 1.22 refuse it
		{text("builtin/service"), null, "templated_policies: the template builtin/service needs the attribute name."},
		{text("builtin/node"), null, "needs the attribute name"},
		{text("builtin/api-gateway"), null, "needs the attribute name"},
		{
			text("builtin/service"), text("Upper"),
			`Consul would refuse the name "Upper" for the template builtin/service. Use at most 256 lower-case`,
		},
		{text("builtin/node"), text("a b"), "Consul would refuse the name"},
	} {
		o := types.ObjectValueMust(templatedPolicyType.AttrTypes, map[string]tfattr.Value{
			"template_name": c.template, "name": c.name, "datacenters": types.SetNull(types.StringType),
		})
		resp := validator.ObjectResponse{}
		templatedPolicy{}.ValidateObject(
			t.Context(),
			validator.ObjectRequest{Path: path.Root("templated_policies").AtSetValue(o), ConfigValue: o},
			&resp,
		)
		got := ""
		for _, d := range resp.Diagnostics {
			got += d.Detail()
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s %s: %q, want %q", c.template, c.name, got, c.want)
		}
	}
}

func TestSameLinks(t *testing.T) {
	known := map[string]string{"a": "1", "1": "1", "b": "2", "2": "2"}
	set := func(refs ...string) types.Set {
		var diags diag.Diagnostics
		return setOf(t.Context(), refs, &diags)
	}
	for name, test := range map[string]struct {
		a, b types.Set
		want bool
	}{
		"by name and by ID":        {set("a", "2"), set("1", "b"), true},
		"the same one twice":       {set("a", "1"), set("a"), true},
		"one more":                 {set("a", "b"), set("a"), false},
		"another one":              {set("a"), set("b"), false},
		"one that does not exist":  {set("c"), set("c", "a"), false},
		"none of those that exist": {set("c"), set("c"), false},
	} {
		if got := sameLinks(t.Context(), test.a, test.b, known); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// A null in the datacenters of an identity counts as not set: it is not a difference from what Consul has.
func TestKeepSet_nullsInNestedSets(t *testing.T) {
	t.Parallel()
	identity := func(datacenters ...tfattr.Value) types.Set {
		set := types.SetNull(types.StringType)
		if len(datacenters) > 0 {
			set = types.SetValueMust(types.StringType, datacenters)
		}
		object := types.ObjectValueMust(
			serviceIdentityType.AttrTypes,
			map[string]tfattr.Value{"service_name": types.StringValue("web"), "datacenters": set},
		)
		return types.SetValueMust(serviceIdentityType, []tfattr.Value{object})
	}
	null, one, two := types.StringNull(), types.StringValue("dc1"), types.StringValue("dc2")
	for name, tt := range map[string]struct{ prior, read, want types.Set }{
		"a null beside a value": {identity(null, one), identity(one), identity(null, one)},
		"nothing but a null":    {identity(null), identity(), identity(null)},
		"another datacenter":    {identity(null, one), identity(two), identity(two)},
		"no null":               {identity(one), identity(one), identity(one)},
	} {
		if got := keepSet(t.Context(), tt.prior, tt.read); !got.Equal(tt.want) {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}
