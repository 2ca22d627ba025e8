package cluster

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func jobsAttribute() schema.Attribute {
	all := attr.JobsAttributes(nil)
	set := func(name, description string) {
		switch a := all[name].(type) {
		case schema.SingleNestedAttribute:
			a.MarkdownDescription = description
			all[name] = a
		case schema.MapAttribute:
			a.MarkdownDescription = description
			all[name] = a
		}
	}
	set("resources", "Compute resources of each container. Defaults to those of a server. A LimitRange or a quota may require other values.")
	set(
		"pod_labels",
		"Labels of the pods, in addition to `labels`. By default, the pods also have the labels and annotations that keep the service meshes "+
			"Istio, Kuma, Linkerd, Consul, App Mesh, and Open Service Mesh from injecting a sidecar, which would keep a Job running. "+
			"A label or an annotation that you set here takes precedence.",
	)
	set("pod_annotations", "Annotations of the pods.")
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "Settings for the pods of the Jobs that run for the cluster. These Jobs take snapshots before upgrades and " +
			"restore `restore_from`. The settings also apply to the Jobs of backup schedules, snapshots, restores, and backup lookups, unless " +
			"those have settings of their own. " +
			"The pods do not have the `pod_labels` and `pod_annotations` of the cluster, so nothing that selects servers selects them. A change " +
			"touches no server.",
		Attributes: all,
	}
}

// jobs returns the attribute jobs, without settings if it is null or unknown.
func (m model) jobs(ctx context.Context, diags *diag.Diagnostics) (j attr.Jobs) {
	j = attr.Jobs{
		Resources:      types.ObjectNull(attr.ResourcesTypes),
		PodLabels:      types.MapNull(types.StringType),
		PodAnnotations: types.MapNull(types.StringType),
	}
	if !m.Jobs.IsNull() && !m.Jobs.IsUnknown() {
		diags.Append(m.Jobs.As(ctx, &j, basetypes.ObjectAsOptions{})...)
	}
	return j
}

// fromJobs sets the attribute jobs. Without settings, null and an empty object mean the same, and the model's own value stays.
func (m *model) fromJobs(ctx context.Context, s server.JobSettings, diags *diag.Diagnostics) {
	none := s.Resources == nil && len(s.PodLabels) == 0 && len(s.PodAnnotations) == 0
	if none && (m.Jobs.IsNull() || m.Jobs.IsUnknown()) {
		m.Jobs = types.ObjectNull(attr.JobsTypes)
		return
	}
	m.Jobs = attr.Object(ctx, attr.JobsTypes, m.jobs(ctx, diags).From(ctx, s, diags), diags)
}
