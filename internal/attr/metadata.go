package attr

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Labels validates labels of Kubernetes objects: their keys, their values, and that the provider does not set them itself.
func Labels() validator.Map {
	reserved := server.OwnerLabels("")
	reserved[server.LabelVersion] = ""
	return metadata{labels: true, reserved: reserved, prefix: server.ManagedBy + "/"}
}

// LabelsBeside is Labels for an object on which the provider sets only the labels in reserved.
func LabelsBeside(reserved map[string]string) validator.Map {
	return metadata{labels: true, reserved: reserved}
}

// Annotations validates the keys and the size of annotations of Kubernetes objects, and that the provider does not set them itself.
func Annotations() validator.Map { return metadata{prefix: server.ManagedBy + "/"} }

type metadata struct {
	labels bool
	// reserved holds keys that the provider sets. prefix, unless "", is the prefix of more such keys.
	reserved map[string]string
	prefix   string
}

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
	values := map[string]string{}
	for k, e := range req.ConfigValue.Elements() {
		if e.IsNull() { // it is not set
			continue
		}
		at, key := req.Path.AtMapKey(k), k
		if !v.labels { // Kubernetes validates keys of annotations in lower case
			key = strings.ToLower(k)
		}
		if p := validation.IsQualifiedName(key); len(p) > 0 {
			resp.Diagnostics.Append(Error(at, "Invalid key", fmt.Sprintf("Kubernetes would refuse the key %q: %s.", k, p[0])))
		}
		if _, taken := v.reserved[k]; taken || (v.prefix != "" && strings.HasPrefix(k, v.prefix)) {
			resp.Diagnostics.Append(Error(at, "Reserved key", fmt.Sprintf("The provider sets %q itself: leave it out.", k)))
		}
		s, ok := e.(types.String)
		if !ok || s.IsUnknown() {
			continue
		}
		values[k] = s.ValueString()
		if !v.labels {
			continue
		}
		if p := validation.IsValidLabelValue(s.ValueString()); len(p) > 0 {
			resp.Diagnostics.Append(Error(at, "Invalid label value", fmt.Sprintf("Kubernetes would refuse %q: %s.", s.ValueString(), p[0])))
		}
	}
	if err := apivalidation.ValidateAnnotationsSize(values); err != nil && !v.labels {
		resp.Diagnostics.Append(Error(req.Path, "Annotations are too long", fmt.Sprintf("Kubernetes would refuse the annotations: %s.", err)))
	}
}
