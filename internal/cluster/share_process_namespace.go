package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

func shareProcessNamespaceAttribute() schema.Attribute {
	return boolAttribute(
		"share_process_namespace",
		"Whether the containers of a server pod share a process namespace. Defaults to {default}. Set it to `false` if a "+
			"policy refuses a shared process namespace. Containers of `extra_pod` and debug containers then cannot see the processes of Consul. "+
			"A change gives each server a new pod.",
	)
}
