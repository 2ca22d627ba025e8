package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func driftAttribute() schema.Attribute {
	return schema.ListAttribute{
		Computed: true, ElementType: types.StringType,
		MarkdownDescription: "Differences from what is declared: fields of the cluster's objects that others changed or added and that no " +
			"attribute shows, such as `Service consul: spec.ports[name=http].port`; pods that were not created from the current template or " +
			"that have another image; and the pending rest of a change that was interrupted. Empty when nothing is pending. " +
			"The next apply reverts what others changed and completes what is pending. Labels and annotations that others add belong to them " +
			"and are not listed.",
	}
}
