package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
)

// maxNameLength leaves room for "-server-<ordinal>" and the revision hash that
// StatefulSet pods carry as a label of at most 63 characters.
const maxNameLength = 45

func idAttribute() schema.Attribute {
	return schema.StringAttribute{
		Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
		MarkdownDescription: "ID of the cluster, `<namespace>/<name>`. Other resources take it as `cluster`.",
	}
}

func nameAttribute() schema.Attribute {
	return schema.StringAttribute{
		Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
		Validators: []validator.String{attr.DNSLabel(maxNameLength, true)},
		MarkdownDescription: "Name of the cluster. The client Service has this name. The StatefulSet, and everything else that belongs to " +
			"the servers, has this name with the suffix `-server`. " +
			"Must start with a letter and have at most 45 characters. A change replaces the cluster.",
	}
}
