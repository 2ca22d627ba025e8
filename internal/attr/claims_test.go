package attr_test

import (
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
)

func TestClaims_aThingHasOneOwner(t *testing.T) {
	var c attr.Claims
	for _, step := range []struct {
		thing, owner string
		want         bool
	}{
		{"policy a", "1", true},
		{"policy a", "1", true}, // planned twice
		{"policy a", "2", false},
		{"policy a", attr.NewOwner, false},
		{"policy b", attr.NewOwner, true},
		{"policy b", attr.NewOwner, false}, // two resources that do not exist yet
		{"policy b", "3", false},
	} {
		if got := c.Claim(step.thing, step.owner); got != step.want {
			t.Errorf("Claim(%q, %q) is %t", step.thing, step.owner, got)
		}
	}
	if !c.Claimed("policy b") || c.Claimed("policy c") {
		t.Error("Claimed does not know what was claimed")
	}
}
