package attr

import (
	"maps"
	"slices"
	"testing"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// A null element counts as not set, and is kept when the value is read back.
func TestConvert_nullIsNotSet(t *testing.T) {
	t.Parallel()
	m := types.MapValueMust(
		types.StringType,
		map[string]tfattr.Value{"a": types.StringValue("b"), "c": types.StringNull(), "d": types.StringUnknown()},
	)
	if got := ToStrings(m); !maps.Equal(got, map[string]string{"a": "b"}) {
		t.Errorf("the map is read as %v", got)
	}
	none := types.MapValueMust(types.StringType, map[string]tfattr.Value{"c": types.StringNull()})
	if got := ToStrings(none); got != nil {
		t.Errorf("a map of null is read as %v", got)
	}
	for _, prior := range []types.Map{
		m, none, types.MapNull(types.StringType), types.MapValueMust(types.StringType, map[string]tfattr.Value{}),
	} {
		if got := FromStrings(prior, ToStrings(prior)); !got.Equal(prior) {
			t.Errorf("%s is written back as %s", prior, got)
		}
	}
	if got := FromStrings(none, map[string]string{"a": "b"}); len(got.Elements()) != 1 || got.Elements()["a"] == nil {
		t.Errorf("another map is written back as %s", got)
	}
	list := types.ListValueMust(types.StringType, []tfattr.Value{types.StringNull(), types.StringValue("a")})
	if got := Texts(list); !slices.Equal(got, []string{"a"}) || !FromTexts(list, got).Equal(list) {
		t.Errorf("the list is read as %v", got)
	}
	if got := FromTexts(list, nil); !got.IsNull() {
		t.Errorf("no elements are written back as %s", got)
	}
	var diags diag.Diagnostics
	toleration := types.ObjectType{AttrTypes: TolerationTypes}
	p := Placement{NodeSelector: none, Tolerations: types.ListValueMust(toleration, []tfattr.Value{types.ObjectNull(TolerationTypes)})}
	if got := p.ToTolerations(t.Context(), &diags); len(got) > 0 || diags.HasError() {
		t.Errorf("a toleration that is null is read as %v: %v", got, diags)
	}
	if got := p.From(t.Context(), nil, nil, "", &diags); !got.Tolerations.Equal(p.Tolerations) || !got.NodeSelector.Equal(none) {
		t.Errorf("a placement of null is written back as %v", got)
	}
}
