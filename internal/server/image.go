package server

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// DefaultRepository is the official image of Consul, without a tag.
const DefaultRepository = "docker.io/hashicorp/consul"

// Image is the reference of a container image, in the format of Kubernetes:
// [registry/]repository[:tag][@digest].
type Image struct {
	// Name is the repository, with its registry if there is one.
	Name string
	// Tag and Digest, such as "sha256:…", are "" if they are missing. If there is a digest, Kubernetes pulls by the digest, and the tag
	// only tells people what it is.
	Tag, Digest string
}

// The grammar of references (github.com/distribution/reference). A repository is in lower case, unlike the host of a registry.
var (
	imageName = regexp.MustCompile(`^([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	imageTag  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	imageSum  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// ParseImage reads the reference of an image, and returns an error that says what is wrong with it.
func ParseImage(reference string) (Image, error) {
	var i Image
	name, sum, pinned := strings.Cut(reference, "@")
	if pinned {
		if i.Digest = sum; !imageSum.MatchString(sum) {
			return Image{}, fmt.Errorf("the text after @ in %q is not a digest: write sha256: and 64 hexadecimal digits in lower case", reference)
		}
	}
	i.Name = name
	if at := strings.LastIndex(name, ":"); at > strings.LastIndex(name, "/") {
		if i.Name, i.Tag = name[:at], name[at+1:]; !imageTag.MatchString(i.Tag) {
			return Image{}, fmt.Errorf(
				"the tag %q of %q is not valid: a tag has up to 128 letters, digits, and the characters . _ -, and starts with a letter, a digit, or _",
				i.Tag,
				reference,
			)
		}
	}
	switch {
	case reference == "":
		return Image{}, errors.New("it is empty")
	case !imageName.MatchString(i.Name):
		return Image{}, fmt.Errorf(
			"%q is not an image reference: write [registry/]repository[:tag][@sha256:…], such as \"docker.io/hashicorp/consul:1.22.7\", with the "+
				"repository in lower case",
			reference,
		)
	}
	return i, nil
}
