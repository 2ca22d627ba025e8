package attr

import (
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/attr/xattr"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

const (
	someRules  = "key \"a\" {\n  policy = \"read\"\n}\n"
	sameText   = `{"key": {"a": {"policy": "read"}}}`
	otherRules = `key "a" { policy = "write" }`
	badRules   = `key "a" { policy = "raed" }`
)

func TestRulesValue_ValidateAttribute(t *testing.T) {
	tests := map[string]struct {
		value RulesValue
		want  string // the detail, "" for no error
	}{
		"good":    {NewRulesValue(someRules), ""},
		"empty":   {NewRulesValue(""), ""},
		"null":    {RulesValue{basetypes.NewStringNull()}, ""},
		"unknown": {RulesValue{basetypes.NewStringUnknown()}, ""},
		"bad":     {NewRulesValue(badRules), `rules: line 1, column 5: key "a": policy cannot be "raed"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var resp xattr.ValidateAttributeResponse
			tt.value.ValidateAttribute(t.Context(), xattr.ValidateAttributeRequest{Path: path.Root("rules")}, &resp)
			got := ""
			if len(resp.Diagnostics) > 0 {
				got = resp.Diagnostics[0].Detail()
			}
			if (tt.want == "") != (got == "") || !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRulesValue_equalByMeaning(t *testing.T) {
	tests := map[string]struct {
		other string
		want  bool
	}{
		"the same text":    {someRules, true},
		"the same meaning": {sameText, true},
		"another meaning":  {otherRules, false},
		"bad rules":        {badRules, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, diags := NewRulesValue(someRules).StringSemanticEquals(t.Context(), NewRulesValue(tt.other))
			if got != tt.want || diags.HasError() {
				t.Errorf("got %v, %v", got, diags)
			}
		})
	}
	if NewRulesValue(someRules).Equal(NewRulesValue(sameText)) {
		t.Error("two texts are one value")
	}
	if NewRulesValue(someRules).Equal(types.StringValue(someRules)) {
		t.Error("a string is rules")
	}
}

func TestRulesType(t *testing.T) {
	for name, v := range map[string]tftypes.Value{
		"known": tftypes.NewValue(tftypes.String, someRules), "null": tftypes.NewValue(tftypes.String, nil),
		"unknown": tftypes.NewValue(tftypes.String, tftypes.UnknownValue),
	} {
		got, err := RulesType{}.ValueFromTerraform(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		back, err := got.ToTerraformValue(t.Context())
		if err != nil || !back.Equal(v) || !got.Type(t.Context()).Equal(RulesType{}) {
			t.Errorf("%s: got %#v (%v)", name, got, err)
		}
	}
	if _, err := (RulesType{}).ValueFromTerraform(t.Context(), tftypes.NewValue(tftypes.Bool, true)); err == nil {
		t.Error("a bool was accepted as rules")
	}
	if (RulesType{}).Equal(types.StringType) {
		t.Error("the type equals that of any string")
	}
}

func TestKeepSameRules(t *testing.T) {
	tests := map[string]struct {
		state, plan, want types.String
	}{
		"another text":     {types.StringValue(someRules), types.StringValue(sameText), types.StringValue(someRules)},
		"another meaning":  {types.StringValue(someRules), types.StringValue(otherRules), types.StringValue(otherRules)},
		"bad in the state": {types.StringValue(badRules), types.StringValue(someRules), types.StringValue(someRules)},
		"a create":         {types.StringNull(), types.StringValue(sameText), types.StringValue(sameText)},
		"not known yet":    {types.StringValue(someRules), types.StringUnknown(), types.StringUnknown()},
		"no longer set":    {types.StringValue(""), types.StringNull(), types.StringNull()},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			resp := planmodifier.StringResponse{PlanValue: tt.plan}
			KeepSameRules().PlanModifyString(t.Context(), planmodifier.StringRequest{StateValue: tt.state, PlanValue: tt.plan}, &resp)
			if !resp.PlanValue.Equal(tt.want) {
				t.Errorf("got %s, want %s", resp.PlanValue, tt.want)
			}
		})
	}
}
