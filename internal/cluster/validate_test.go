package cluster

import (
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
)

// A version comes from the tag of an image, also beside a digest; an image by digest alone needs one.
func TestVersionAndImage(t *testing.T) {
	t.Parallel()
	digest := "@sha256:" + strings.Repeat("0a", 32)
	for _, tt := range []struct{ version, image, wantVersion, wantImage, says string }{
		{"1.22.7", "", "1.22.7", "docker.io/hashicorp/consul:1.22.7", ""},
		{"", "mirror/consul:1.22.7", "1.22.7", "mirror/consul:1.22.7", ""},
		{"", "mirror:5000/consul:1.22.7" + digest, "1.22.7", "mirror:5000/consul:1.22.7" + digest, ""},
		{"1.22.7", "mirror/consul" + digest, "1.22.7", "mirror/consul" + digest, ""},
		{"1.22.7", "mirror/consul:prod" + digest, "1.22.7", "mirror/consul:prod" + digest, ""},
		{"", "mirror/consul" + digest, "", "", "set version to the Consul version in the image"},
		{"1.22.7", "mirror/consul:1.21.0" + digest, "", "", "make them agree"},
		{"1.22.7", "mirror/consul@sha256:0a", "", "", "is not a digest"},
		{"1.22.7", "mirror/Consul", "", "", "is not an image reference"},
		{"", "", "", "", "set version"},
	} {
		v, image, err := versionAndImage(tt.version, tt.image)
		if v != tt.wantVersion || image != tt.wantImage || !wanted.Error(err, tt.says) {
			t.Errorf("%q, %q: %q, %q, %v", tt.version, tt.image, v, image, err)
		}
	}
}
