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

// Labels validates labels of Kubernetes objects: keys, values, and that none is one that the provider sets.
func Labels() validator.Map {
	reserved := server.OwnerLabels("")
	reserved[server.LabelVersion] = ""
	return metadata{labels: true, reserved: reserved, prefix: server.ManagedBy + "/"}
}

// LabelsBeside is Labels for an object on which the provider sets only the reserved ones.
func LabelsBeside(reserved map[string]string) validator.Map {
	return metadata{labels: true, reserved: reserved}
}

// Annotations validates the keys and the size of annotations of Kubernetes objects, and that none is one that the provider sets.
func Annotations() validator.Map { return metadata{prefix: server.ManagedBy + "/"} }

type metadata struct {
	labels bool
	// reserved are keys that the provider sets, and prefix, unless "", is what others begin with.
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
		if !v.labels { // as Kubernetes judges keys of annotations
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
		resp.Diagnostics.Append(Error(req.Path, "Annotations too long", fmt.Sprintf("Kubernetes would refuse them: %s.", err)))
	}
}
