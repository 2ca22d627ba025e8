package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

func deletionProtectionAttribute() schema.Attribute {
	return boolAttribute(
		"deletion_protection",
		"Whether the provider refuses to delete or replace the cluster. The plan refuses, except with `-replace`, "+
			"which only the apply refuses. Defaults to {default}. Before you destroy the cluster, set it to `false` and apply.",
	)
}
