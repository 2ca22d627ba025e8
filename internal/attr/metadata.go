package attr

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Labels validates labels of Kubernetes objects: keys, values, and that none is one that the provider sets.
func Labels() validator.Map { return metadata{labels: true} }

// Annotations validates the keys of annotations of Kubernetes objects likewise.
func Annotations() validator.Map { return metadata{} }

type metadata struct{ labels bool }

// Description implements validator.Map.
func (v metadata) Description(context.Context) string {
	if v.labels {
		return "Kubernetes labels"
	}
	return "Kubernetes annotations"
}

// MarkdownDescription implements validator.Map.
func (v metadata) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

// ValidateMap implements validator.Map.
func (v metadata) ValidateMap(_ context.Context, req validator.MapRequest, resp *validator.MapResponse) {
	reserved := server.OwnerLabels("")
	reserved[server.LabelVersion] = ""
	for k, e := range req.ConfigValue.Elements() {
		at := req.Path.AtMapKey(k)
		if p := validation.IsQualifiedName(k); len(p) > 0 {
			resp.Diagnostics.Append(Error(at, "Invalid key", fmt.Sprintf("Kubernetes would refuse the key %q: %s.", k, p[0])))
		}
		if _, taken := reserved[k]; (taken && v.labels) || strings.HasPrefix(k, server.ManagedBy+"/") {
			resp.Diagnostics.Append(Error(at, "Reserved key", fmt.Sprintf("The provider sets %q itself: leave it out.", k)))
		}
		s, ok := e.(types.String)
		if !ok || s.IsNull() || s.IsUnknown() || !v.labels {
			continue
		}
		if p := validation.IsValidLabelValue(s.ValueString()); len(p) > 0 {
			resp.Diagnostics.Append(Error(at, "Invalid label value", fmt.Sprintf("Kubernetes would refuse %q: %s.", s.ValueString(), p[0])))
		}
	}
}
