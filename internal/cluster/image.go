package cluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func imageAttribute() schema.Attribute {
	return schema.StringAttribute{
		Optional: true, Computed: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
		MarkdownDescription: "Image of the servers, by tag, by digest (`docker.io/hashicorp/consul:1.22.7@sha256:…`), or by both. If it has " +
			"both, the digest decides. If the tag is not a Consul version, `version` is required, and no plan can check that the two agree, so " +
			"prefer tag and digest together. Defaults to `" + server.DefaultRepository + ":<version>`. A change restarts the servers in place, " +
			"one at a time. " +
			"In addition to `consul`, the image needs a shell (`sh`) with `cat`, `cp`, `date`, `grep`, `ls`, `mkdir`, `mv`, `rm`, `sed`, " +
			"`sleep`, `sort`, `timeout`, `touch`, and `tr`, and either `wget` or `curl`. With `tls.enabled`, it needs `curl`. " +
			"When a server starts, the container `await-peer-removal` logs what is missing. Snapshots before upgrades and backups also use " +
			"`cut`, `head`, `sha256sum`, `sync`, `tail`, and `wc`.",
	}
}

// versionAndImage fills in whichever of the two is "".
func versionAndImage(v, image string) (string, string, error) {
	switch {
	case v == "" && image == "":
		return "", "", errors.New("set version, such as \"1.22.7\", or image")
	case image == "":
		return v, server.DefaultRepository + ":" + v, nil
	}
	parsed, err := server.ParseImage(image)
	if err != nil {
		return "", "", fmt.Errorf("image: %w", err)
	}
	tag := parsed.Tag
	if v == "" {
		if err := checkVersion(tag); err != nil {
			return "", "", fmt.Errorf(
				"the image %q does not have a Consul version as its tag: set version to the Consul version in the image",
				image,
			)
		}
		return tag, image, nil
	}
	if t, err := version.NewSemver(tag); err == nil && strings.Count(tag, ".") == 2 && t.String() != v && !strings.HasPrefix(tag, v+"-") {
		return "", "", fmt.Errorf("version is %q but the tag of image says %q: make them agree, or leave version out", v, tag)
	}
	return v, image, nil
}
