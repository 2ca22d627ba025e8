package attr

import (
	"context"
	"maps"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Jobs holds the attributes that every resource which runs Jobs has: the settings for their pods.
type Jobs struct {
	Resources      types.Object `tfsdk:"resources"`
	PodLabels      types.Map    `tfsdk:"pod_labels"`
	PodAnnotations types.Map    `tfsdk:"pod_annotations"`
}

// JobsTypes are the types of Jobs.
var JobsTypes = map[string]tfattr.Type{
	"resources": types.ObjectType{
		AttrTypes: ResourcesTypes,
	}, "pod_labels": types.MapType{ElemType: types.StringType}, "pod_annotations": types.MapType{ElemType: types.StringType},
}

// Descriptions of the attributes of Jobs.
const (
	JobQuantitiesDescription = "Quantities by resource name."
	JobResourcesDescription  = "Compute resources of each container of the Jobs. Defaults to those in `jobs` of the cluster, or, if these " +
		"are not set, to those of a server."
	JobPodLabelsDescription = "Labels of the pods of the Jobs, in addition to those in `jobs` of the cluster. The pods do not have the " +
		"labels of the server pods. " +
		"By default, the pods have the labels and annotations that keep the service meshes Istio, Kuma, Linkerd, Consul, App Mesh, and Open " +
		"Service Mesh from injecting a sidecar. A label or an annotation that you set here takes precedence."
	JobPodAnnotationsDescription = "Annotations of the pods of the Jobs, in addition to those in `jobs` of the cluster."
)

// JobsAttributes returns the attributes of Jobs, together with others.
func JobsAttributes(others map[string]schema.Attribute) map[string]schema.Attribute {
	quantities := schema.MapAttribute{
		Optional:            true,
		ElementType:         types.StringType,
		Validators:          Quantities(),
		MarkdownDescription: JobQuantitiesDescription,
	}
	all := map[string]schema.Attribute{
		"resources": schema.SingleNestedAttribute{
			Optional: true, MarkdownDescription: JobResourcesDescription,
			Attributes: map[string]schema.Attribute{"requests": quantities, "limits": quantities},
		},
		"pod_labels": schema.MapAttribute{
			Optional:            true,
			ElementType:         types.StringType,
			Validators:          []validator.Map{Labels()},
			MarkdownDescription: JobPodLabelsDescription,
		},
		"pod_annotations": schema.MapAttribute{
			Optional:            true,
			ElementType:         types.StringType,
			Validators:          []validator.Map{Annotations()},
			MarkdownDescription: JobPodAnnotationsDescription,
		},
	}
	maps.Copy(all, others)
	return all
}

// resources returns the attribute resources, or its zero value if it is not known.
func (j Jobs) resources(ctx context.Context, diags *diag.Diagnostics) (r Resources) {
	if !j.Resources.IsNull() && !j.Resources.IsUnknown() {
		diags.Append(j.Resources.As(ctx, &r, basetypes.ObjectAsOptions{})...)
	}
	return r
}

// Validate refuses requests above their limits. at is the path of the object that has the attributes.
func (j Jobs) Validate(ctx context.Context, at path.Path, diags *diag.Diagnostics) {
	j.resources(ctx, diags).Validate(at.AtName("resources"), diags)
}

// IsKnown reports whether all of them are known.
func (j Jobs) IsKnown(ctx context.Context) bool {
	for _, v := range []tfattr.Value{j.Resources, j.PodLabels, j.PodAnnotations} {
		t, err := v.ToTerraformValue(ctx)
		if err != nil || !t.IsFullyKnown() {
			return false
		}
	}
	return true
}

// Spec converts what is known of them.
func (j Jobs) Spec(ctx context.Context, diags *diag.Diagnostics) server.JobSettings {
	s := server.JobSettings{PodLabels: ToStrings(j.PodLabels), PodAnnotations: ToStrings(j.PodAnnotations)}
	if !j.Resources.IsNull() && !j.Resources.IsUnknown() {
		s.Resources = new(j.resources(ctx, diags).Spec())
	}
	return s
}

// From is the inverse of Spec. A value that is written in another way but means the same stays as it is.
func (j Jobs) From(ctx context.Context, s server.JobSettings, diags *diag.Diagnostics) Jobs {
	out := Jobs{
		Resources:      types.ObjectNull(ResourcesTypes),
		PodLabels:      FromStrings(j.PodLabels, s.PodLabels),
		PodAnnotations: FromStrings(j.PodAnnotations, s.PodAnnotations),
	}
	if s.Resources != nil {
		out.Resources = Object(ctx, ResourcesTypes, j.resources(ctx, diags).From(*s.Resources), diags)
	}
	return out
}
