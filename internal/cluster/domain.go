package cluster

import (
	"regexp"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

func domainAttribute() schema.Attribute {
	return textAttribute(
		"domain",
		"DNS domain that Consul answers for. Defaults to {default}. A change restarts the servers in place, and is refused while "+
			"`tls.enabled` is true.",
		stringvalidator.RegexMatches(regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`),
			"must be a DNS domain in lower case, without a dot at the end"),
	)
}
