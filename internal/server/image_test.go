package server

import (
	"strings"
	"testing"
)

func TestParseImage(t *testing.T) {
	t.Parallel()
	sum := "sha256:" + strings.Repeat("0a", 32)
	for reference, want := range map[string]Image{
		"consul":                  {Name: "consul"},
		"hashicorp/consul:1.22.7": {Name: "hashicorp/consul", Tag: "1.22.7"},
		"docker.io/hashicorp/consul:1.22.7@" + sum:            {Name: "docker.io/hashicorp/consul", Tag: "1.22.7", Digest: sum},
		"docker.io/hashicorp/consul@" + sum:                   {Name: "docker.io/hashicorp/consul", Digest: sum},
		"localhost:5000/consul":                               {Name: "localhost:5000/consul"},
		"Registry.Example:5000/a/b-c/d__e.f:v1_2-x":           {Name: "Registry.Example:5000/a/b-c/d__e.f", Tag: "v1_2-x"},
		"registry.example/consul:" + strings.Repeat("t", 128): {Name: "registry.example/consul", Tag: strings.Repeat("t", 128)},
	} {
		if got, err := ParseImage(reference); err != nil || got != want {
			t.Errorf("%s: %+v, %v", reference, got, err)
		}
	}
	for reference, want := range map[string]string{
		"":                                   "it is empty",
		"hashicorp/Consul":                   "is no reference of an image",
		"https://docker.io/hashicorp/consul": "is no reference of an image",
		"consul:":                            "the tag",
		"consul:a b":                         "the tag",
		"consul:" + strings.Repeat("t", 129): "the tag",
		"consul@":                            "no digest",
		"consul@sha256:0a":                   "no digest",
		"consul@sha512:" + strings.Repeat("0a", 64): "no digest",
		"consul@" + strings.ToUpper(sum):            "no digest",
		"consul@" + sum + "@" + sum:                 "no digest",
		" consul":                                   "is no reference of an image",
	} {
		if _, err := ParseImage(reference); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", reference, err, want)
		}
	}
}
