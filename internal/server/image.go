package server

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Image is the reference of a container image, as Kubernetes takes it: [registry/]repository[:tag][@digest].
type Image struct {
	// Name is the repository, with its registry where that is written.
	Name string
	// Tag and Digest, such as "sha256:…", are "" where they are not written. Kubernetes pulls by the digest where there is one, and the tag then
	// only tells people what it is.
	Tag, Digest string
}

// The grammar of references (github.com/distribution/reference). A repository is in lower case, unlike the host of a registry.
var (
	imageName = regexp.MustCompile(`^([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	imageTag  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	imageSum  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// ParseImage reads the reference of an image, and returns an error that says what of it is wrong.
func ParseImage(reference string) (Image, error) {
	var i Image
	name, sum, pinned := strings.Cut(reference, "@")
	if pinned {
		if i.Digest = sum; !imageSum.MatchString(sum) {
			return Image{}, fmt.Errorf("what follows @ in %q is no digest: write sha256: and 64 hexadecimal digits in lower case", reference)
		}
	}
	i.Name = name
	if at := strings.LastIndex(name, ":"); at > strings.LastIndex(name, "/") {
		if i.Name, i.Tag = name[:at], name[at+1:]; !imageTag.MatchString(i.Tag) {
			return Image{}, fmt.Errorf("the tag %q of %q is none: it takes up to 128 letters, digits and . _ -, and begins with a letter, a digit or _", i.Tag, reference)
		}
	}
	switch {
	case reference == "":
		return Image{}, errors.New("it is empty")
	case !imageName.MatchString(i.Name):
		return Image{}, fmt.Errorf("%q is no reference of an image: write [registry/]repository[:tag][@sha256:…], such as \"docker.io/hashicorp/consul:1.22.7\", the repository in lower case", reference)
	}
	return i, nil
}
