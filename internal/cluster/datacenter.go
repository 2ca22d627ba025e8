package cluster

import (
	"regexp"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

func datacenterAttribute() schema.Attribute {
	return textAttribute(
		"datacenter",
		"Name of the Consul datacenter. Defaults to {default}. Cannot be changed, because servers of another datacenter "+
			"refuse the existing data.",
		stringvalidator.RegexMatches(regexp.MustCompile(`^[a-z0-9_-]{1,63}$`),
			"must have only lower-case letters, digits, hyphens, and underscores, and at most 63 of them"),
	)
}
