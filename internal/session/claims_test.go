package session_test

import (
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

func TestClaims_aThingHasOneOwner(t *testing.T) {
	var c session.Claims
	for i, step := range []struct {
		thing, owner, config string
		replaces             string
		ok                   bool
	}{
		{"policy a", "1", "x", "", true},
		{"policy a", "1", "x", "", true}, // planned twice
		{"policy a", "2", "x", "", false},
		{"policy a", session.NewOwner, "y", "", false},
		{"policy a", session.NewOwner, "x", "1", true}, // it is replaced
		{"policy a", session.NewOwner, "x", "", false},
		{"policy b", session.NewOwner, "x", "", true},
		{"policy b", session.NewOwner, "x", "", false}, // two resources that do not exist yet
		{"policy b", "3", "x", "", false},
	} {
		if replaces, ok := c.Claim(step.thing, step.owner, step.config); ok != step.ok || replaces != step.replaces {
			t.Errorf("step %d: it is %t and replaces %q", i, ok, replaces)
		}
	}
	if !c.Claimed("policy b") || c.Claimed("policy c") {
		t.Error("Claimed does not return what was claimed")
	}
}

func TestClaims_knowPlannedClusters(t *testing.T) {
	var c session.Claims
	if _, planned := c.PlannedCluster("a/b"); planned {
		t.Error("a cluster without a plan is planned")
	}
	all := map[string]session.PlannedCluster{"a/b": {ACLs: true, Version: "1.22.7"}, "a/c": {}}
	for id, cluster := range all {
		c.PlanCluster(id, cluster)
	}
	for id, want := range all {
		if cluster, planned := c.PlannedCluster(id); !planned || cluster != want {
			t.Errorf("%s: planned %t, as %+v", id, planned, cluster)
		}
	}
}
