package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

func uiAttribute() schema.Attribute {
	return boolAttribute(
		"ui",
		"Whether the servers serve the web interface, at `/ui` of the HTTP port. Defaults to {default}. A change restarts "+
			"the servers in place.",
	)
}
