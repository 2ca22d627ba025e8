package server

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

var (
	// enterprisePart matches the suffix of versions, tags, and images of Consul Enterprise, such as "1.22.7-ent"
	// and "1.22.7+ent.fips1402".
	enterprisePart = regexp.MustCompile(`(?i)[-+._]ent(?:$|[^a-z])`)
	numbers        = regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+`)
)

// CheckImage returns an error that says why servers cannot run an image: Consul Enterprise does not start without
// a license, and no attribute accepts one.
func CheckImage(image string) error {
	name, _, _ := strings.Cut(image, "@")
	name, tag, _ := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	if !strings.Contains(strings.ToLower(name), "enterprise") && !enterprisePart.MatchString(name) && !enterprisePart.MatchString(tag) {
		return nil
	}
	return enterpriseError(image, DefaultRepository+":"+cmp.Or(numbers.FindString(tag), "1.22.7"))
}

func enterpriseError(text, instead string) error {
	return fmt.Errorf(
		"%q is Consul Enterprise, which does not start without a license, and this provider does not support licenses: use the community "+
			"edition, such as %q",
		text,
		instead,
	)
}
