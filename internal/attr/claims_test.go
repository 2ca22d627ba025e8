package attr_test

import (
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
)

func TestClaims_aThingHasOneOwner(t *testing.T) {
	var c attr.Claims
	for i, step := range []struct {
		thing, owner, config string
		replaces             string
		ok                   bool
	}{
		{"policy a", "1", "x", "", true},
		{"policy a", "1", "x", "", true}, // planned twice
		{"policy a", "2", "x", "", false},
		{"policy a", attr.NewOwner, "y", "", false},
		{"policy a", attr.NewOwner, "x", "1", true}, // it is replaced
		{"policy a", attr.NewOwner, "x", "", false},
		{"policy b", attr.NewOwner, "x", "", true},
		{"policy b", attr.NewOwner, "x", "", false}, // two resources that do not exist yet
		{"policy b", "3", "x", "", false},
	} {
		if replaces, ok := c.Claim(step.thing, step.owner, step.config); ok != step.ok || replaces != step.replaces {
			t.Errorf("step %d: it is %t and replaces %q", i, ok, replaces)
		}
	}
	if !c.Claimed("policy b") || c.Claimed("policy c") {
		t.Error("Claimed does not know what was claimed")
	}
}

func TestClaims_knowPlannedClusters(t *testing.T) {
	var c attr.Claims
	if _, planned := c.PlannedCluster("a/b"); planned {
		t.Error("a cluster that nobody planned is planned")
	}
	all := map[string]attr.PlannedCluster{"a/b": {ACLs: true, Version: "1.22.7"}, "a/c": {}}
	for id, cluster := range all {
		c.PlanCluster(id, cluster)
	}
	for id, want := range all {
		if cluster, planned := c.PlannedCluster(id); !planned || cluster != want {
			t.Errorf("%s: planned %t, as %+v", id, planned, cluster)
		}
	}
}
