package acl

import (
	"strings"
	"testing"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// All errors are reported at once, and unknown values hide none of them.
func TestRulesReader_reportsAllErrors(t *testing.T) {
	object := func(values map[string]tfattr.Value) types.Object {
		of := map[string]tfattr.Type{}
		for name, v := range values {
			of[name] = v.Type(t.Context())
		}
		return types.ObjectValueMust(of, values)
	}
	var r rulesReader
	r.read(types.DynamicValue(object(map[string]tfattr.Value{
		"acl": types.StringUnknown(),
		"key": object(map[string]tfattr.Value{
			"a": types.StringValue("raed"),
			"b": object(
				map[string]tfattr.Value{"intentions": types.BoolValue(true), "policy": types.BoolValue(true), "polcy": types.StringValue("read")},
			),
			"c": types.StringValue("read"),
		}),
		"key_prefx": object(nil),
		"node":      types.StringValue("read"),
		"operator":  types.StringValue("list"),
	})))
	want := []string{
		`rules.key["a"]: key "a": policy cannot be "raed"`,
		`rules.key["b"].intentions: expected a disposition`,
		`rules.key["b"].polcy: there is no such attribute`,
		`rules.key["b"].policy: expected a disposition`,
		`rules.key_prefx: there is no resource key_prefx`,
		`rules.node: expected a map from segments to dispositions`,
		`rules.operator: operator: policy cannot be "list"`,
	}
	if len(r.problems) != len(want) || !r.unknown || len(r.rules) != 1 {
		t.Fatalf("unknown %t, rules %v, problems:\n%s", r.unknown, r.rules, strings.Join(r.problems, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(r.problems[i], want[i]) {
			t.Errorf("%q, want %q", r.problems[i], want[i])
		}
	}
}
