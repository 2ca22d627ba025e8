package attr

import (
	"testing"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func TestText_isWhatAUserWrites(t *testing.T) {
	t.Parallel()
	identity := types.ObjectValueMust(
		map[string]tfattr.Type{"datacenter": types.StringType},
		map[string]tfattr.Value{"datacenter": types.StringValue("")},
	)
	for want, at := range map[string]path.Path{
		"":                               path.Empty(),
		"labels":                         path.Root("labels"),
		`labels["a/b"]`:                  path.Root("labels").AtMapKey("a/b"),
		"placement.tolerations[0].value": path.Root("placement").AtName("tolerations").AtListIndex(0).AtName("value"),
		"policies":                       path.Root("policies").AtSetValue(types.StringValue("a")),
		"node_identities.datacenter":     path.Root("node_identities").AtSetValue(identity).AtName("datacenter"),
	} {
		if got := Text(at); got != want {
			t.Errorf("%s: got %q, want %q", at, got, want)
		}
	}
}
