package acl

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
)

// Names that Consul accepts (acl/validation.go of Consul 1.22).
var (
	policyName = objectName{
		pattern:  regexp.MustCompile(`^[A-Za-z0-9\-_]+/?[A-Za-z0-9\-_]*$`),
		limit:    128,
		allowed:  "letters, digits, \"-\", \"_\", and a single \"/\"",
		reserved: "builtin/",
	}
	roleName       = objectName{pattern: regexp.MustCompile(`^[A-Za-z0-9\-_]+$`), limit: 256, allowed: "letters, digits, \"-\", and \"_\""}
	authMethodName = objectName{pattern: regexp.MustCompile(`^[A-Za-z0-9\-_]+$`), limit: 128, allowed: "letters, digits, \"-\", and \"_\""}
	identityName   = objectName{
		pattern: regexp.MustCompile(`^[a-z0-9]([a-z0-9\-_]*[a-z0-9])?$`),
		limit:   256,
		allowed: "lower-case letters, digits, \"-\", and \"_\", with a letter or digit at both ends",
	}
)

// objectName validates the name of something in the ACL system.
type objectName struct {
	pattern  *regexp.Regexp
	limit    int
	allowed  string
	reserved string // a prefix that only Consul uses
}

func (v objectName) allows(name string) bool {
	return len(name) <= v.limit && v.pattern.MatchString(name)
}

// Description implements validator.String.
func (v objectName) Description(context.Context) string {
	return fmt.Sprintf("at most %d %s", v.limit, v.allowed)
}

// MarkdownDescription implements validator.String.
func (v objectName) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

// ValidateString implements validator.String.
func (v objectName) ValidateString(ctx context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	name := req.ConfigValue.ValueString()
	switch {
	case v.reserved != "" && strings.HasPrefix(name, v.reserved):
		resp.Diagnostics.Append(attr.Errorf(req.Path, "Reserved name", "names that begin with %q are reserved for Consul.", v.reserved))
	case name == "global-management" && v.reserved != "":
		resp.Diagnostics.Append(attr.Error(req.Path, "Reserved name",
			"the policy global-management is built into Consul. Refer to it by its name; it needs no resource."))
	case !v.allows(name):
		resp.Diagnostics.Append(attr.Errorf(req.Path, "Invalid name", "Consul would refuse %q. Use %s.", name, v.Description(ctx)))
	}
}
