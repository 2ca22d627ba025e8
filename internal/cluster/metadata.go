package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
)

func labelsAttribute() schema.Attribute {
	return metadataAttribute(
		"Labels of every object that is created for the cluster: its StatefulSet, ServiceAccount, PodDisruptionBudget, Services, Secrets, "+
			"ConfigMaps, volume claims, Leases, CronJobs of backup schedules, Jobs and their pods, and a namespace that the cluster creates. "+
			"Server pods have `pod_labels` instead, so a change restarts nothing. The Secrets of `consul_k8s_token` have labels of their own.",
		attr.Labels(),
	)
}

func annotationsAttribute() schema.Attribute {
	return metadataAttribute(
		"Annotations of the StatefulSet, the Services, the ConfigMap with the configuration, the ServiceAccount, the PodDisruptionBudget, "+
			"and a namespace that the cluster creates. Pods do not get these annotations.",
		attr.Annotations(),
	)
}

func podLabelsAttribute() schema.Attribute {
	return metadataAttribute("Labels of the server pods. A change gives each server a new pod.", attr.Labels())
}

func podAnnotationsAttribute() schema.Attribute {
	return metadataAttribute("Annotations of the server pods. A change gives each server a new pod.", attr.Annotations())
}

func metadataAttribute(description string, v validator.Map) schema.Attribute {
	return schema.MapAttribute{Optional: true, ElementType: types.StringType, Validators: []validator.Map{v}, MarkdownDescription: description}
}
