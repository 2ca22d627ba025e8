package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

func runningVersionAttribute() schema.Attribute {
	return schema.StringAttribute{
		Computed:            true,
		MarkdownDescription: "Consul version that the servers run. While they run different versions, this is the oldest one.",
	}
}

func readyAttribute() schema.Attribute {
	return schema.BoolAttribute{
		Computed: true,
		MarkdownDescription: "Whether the last apply saw every server run what is declared, as a healthy voter. " +
			"While `ready` is false, each plan shows an update that resumes where the last one stopped. This is not a health check: use " +
			"`consul_k8s_members` for that. " +
			"To make an apply that timed out fail, check `ready` in a `postcondition`.",
	}
}
