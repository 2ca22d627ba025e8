package attr

import (
	"strings"
	"testing"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Labels and annotations are validated as in Kubernetes, and those that the provider sets are refused.
func TestMetadata(t *testing.T) {
	t.Parallel()
	secret := LabelsBeside(map[string]string{server.LabelManagedBy: ""})
	for name, tt := range map[string]struct {
		v     validator.Map
		key   string
		value tfattr.Value
		want  string
	}{
		"a label":                         {Labels(), "a.example/b", types.StringValue("c"), ""},
		"an empty label":                  {Labels(), "a", types.StringValue(""), ""},
		"a label that is long":            {Labels(), "a", types.StringValue(strings.Repeat("a", 64)), "no more than 63"},
		"a key in upper case":             {Labels(), "a.example/B", types.StringValue("c"), ""},
		"a prefix in upper case":          {Labels(), "A.example/b", types.StringValue("c"), "Kubernetes would refuse the key"},
		"a label of the provider":         {Labels(), server.LabelManagedBy, types.StringValue("me"), "The provider sets"},
		"another one of the provider":     {Labels(), server.ManagedBy + "/x", types.StringValue("me"), "The provider sets"},
		"not set":                         {Labels(), server.LabelManagedBy, types.StringNull(), ""},
		"not known":                       {Labels(), "a", types.StringUnknown(), ""},
		"a label of a Secret":             {secret, server.LabelVersion, types.StringValue("1"), ""},
		"a value of a Secret":             {secret, "a", types.StringValue("not a label"), "Kubernetes would refuse"},
		"a key of a Secret":               {secret, "not a key", types.StringValue("a"), "Kubernetes would refuse the key"},
		"the provider's of a Secret":      {secret, server.LabelManagedBy, types.StringUnknown(), "The provider sets"},
		"an annotation":                   {Annotations(), "a.example/b", types.StringValue("any text: ä\n"), ""},
		"an annotation in upper case":     {Annotations(), "A.Example/B", types.StringValue("c"), ""},
		"an invalid key":                  {Annotations(), "a b", types.StringValue("c"), "Kubernetes would refuse the key"},
		"an annotation of the provider":   {Annotations(), server.ManagedBy + "/spec", types.StringValue("c"), "The provider sets"},
		"an annotation as labels can be":  {Annotations(), server.LabelManagedBy, types.StringValue("c"), ""},
		"an annotation that is very long": {Annotations(), "a", types.StringValue(strings.Repeat("a", 256*1024)), "larger than limit"},
	} {
		var resp validator.MapResponse
		m := types.MapValueMust(types.StringType, map[string]tfattr.Value{tt.key: tt.value})
		tt.v.ValidateMap(t.Context(), validator.MapRequest{Path: path.Root("labels"), ConfigValue: m}, &resp)
		text := ""
		for _, d := range resp.Diagnostics {
			text += d.Detail()
		}
		if (tt.want == "") != (text == "") || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %q, want %q", name, text, tt.want)
		}
	}
}
