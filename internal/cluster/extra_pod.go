package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func extraPodAttribute() schema.Attribute {
	return schema.StringAttribute{
		Optional: true, Validators: []validator.String{attr.Check("a valid addition to the server pods", server.CheckExtraPod)},
		PlanModifiers: []planmodifier.String{attr.KeepSameJSON()},
		MarkdownDescription: "JSON object of the [Kubernetes " +
			"API](https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/) that is added to the server pods, but not " +
			"to Jobs: " +
			"`volumes`, `initContainers` (they run before those of the provider, in this order; with `restartPolicy = \"Always\"` they are " +
			"native sidecars), `containers`, and, for the container in which Consul runs, `env`, `envFrom`, and `volumeMounts`. " +
			"The plan refuses unknown fields and names that the provider uses. Containers run under `security_context`. In a namespace with the " +
			"Pod Security standard `restricted`, they also need a `securityContext` of their own. " +
			"The object is stored in the state and in an annotation, so do not put secrets in it. Refer to secrets with `valueFrom`. A change " +
			"gives each server a new pod.",
	}
}
