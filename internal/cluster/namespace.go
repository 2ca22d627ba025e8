package cluster

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
)

func namespaceAttribute() schema.Attribute {
	return schema.StringAttribute{
		Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
		Validators:          []validator.String{attr.DNSLabel(63, false)},
		MarkdownDescription: "Namespace of the servers. A change replaces the cluster.",
	}
}

func createNamespaceAttribute() schema.Attribute {
	return boolAttribute(
		"create_namespace",
		"Whether the cluster creates its namespace. Defaults to {default}. If `true`, the namespace must not exist, "+
			"unless an earlier cluster of the same name created it. The namespace is deleted with the cluster if it is empty. If the cluster "+
			"needs a Secret that you bring, such as the one of `tls.ca_secret`, `gossip.key_secret`, `restore_from`, or `image_pull_secrets`, "+
			"create the namespace and the Secret outside of this resource.",
	)
}

func namespaceLabelsAttribute() schema.Attribute {
	return metadataAttribute(
		"Labels of the namespace, in addition to `labels`, such as `pod-security.kubernetes.io/enforce`. Requires `create_namespace = "+
			"true`. A change restarts nothing.",
		attr.Labels(),
	)
}

func namespaceAnnotationsAttribute() schema.Attribute {
	return metadataAttribute(
		"Annotations of the namespace, in addition to `annotations`. Requires `create_namespace = true`. A change restarts nothing.",
		attr.Annotations(),
	)
}

// validateNamespace refuses labels and annotations of a namespace that the cluster does not create.
func validateNamespace(m model, diags *diag.Diagnostics) {
	if m.CreateNamespace.IsUnknown() || m.CreateNamespace.ValueBool() {
		return
	}
	for name, declared := range map[string]types.Map{"namespace_labels": m.NamespaceLabels, "namespace_annotations": m.NamespaceAnnotations} {
		if len(declared.Elements()) > 0 {
			diags.Append(attr.Error(
				path.Root(name),
				"The namespace does not belong to the cluster",
				fmt.Sprintf(
					"The cluster does not create its namespace, so it does not change the namespace. Remove %s, or set create_namespace = true for a "+
						"namespace that does not exist yet.",
					name,
				),
			))
		}
	}
}
