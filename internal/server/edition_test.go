package server

import (
	"strings"
	"testing"
)

// Consul Enterprise is refused as a version and as an image, and nothing else is.
func TestEnterpriseIsRefused(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.22.7-ent", "1.22.7+ent", "1.22.7+ent.fips1402", "1.22.7-ent-ubi", "1.22.7-rc1-ent"} {
		if _, err := ParseVersion(version); err == nil || !strings.Contains(err.Error(), `is Consul Enterprise`) ||
			!strings.Contains(err.Error(), `such as "1.22.7"`) {
			t.Errorf("version %s: %v", version, err)
		}
	}
	for _, version := range []string{"1.22.7", "1.22.7-rc1", "1.22.7-ubi", "1.22.7-entitled"} {
		if _, err := ParseVersion(version); err != nil {
			t.Errorf("version %s: %v", version, err)
		}
	}
	for image, refused := range map[string]bool{
		"hashicorp/consul-enterprise:1.22.7-ent":                      true,
		"mirror.example/consul-enterprise-fips:1.22":                  true,
		"mirror.example:5000/x/Consul-Enterprise@sha256:0123":         true,
		"mirror.example/consul:1.22.7-ent":                            true,
		"mirror.example/consul-ent:1.22.7":                            true,
		"docker.io/hashicorp/consul:1.22.7":                           false,
		"enterprise.example/team-ent/consul:1.22.7":                   false,
		"enterprise.example:5000/consul:1.22.7-entitled@sha256:01ent": false,
	} {
		if err := CheckImage(image); (err != nil) != refused {
			t.Errorf("image %s: %v", image, err)
		}
	}
}
