package backup

import (
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

// The text names the kinds of records that became fewer, but only those that clients and operators create.
func TestFewer(t *testing.T) {
	t.Parallel()
	before := map[string]int64{"KVS": 10, "ACLToken": 3, "Register": 9, "Index": 20}
	for name, tt := range map[string]struct {
		after map[string]int64
		want  string
	}{
		"the same":       {before, ""},
		"more":           {map[string]int64{"KVS": 11, "ACLToken": 4}, ""},
		"fewer keys":     {map[string]int64{"KVS": 9, "ACLToken": 3}, "9 of 10 KVS"},
		"nothing at all": {nil, "0 of 10 KVS, 0 of 3 ACLToken"},
		"fewer nodes":    {map[string]int64{"KVS": 10, "ACLToken": 3, "Register": 1}, ""},
	} {
		if got := fewer(before, tt.after); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestWants(t *testing.T) {
	t.Parallel()
	s := restic.Stored{Cluster: "ns/consul", Schedule: "hourly", Version: "1.22.7", Time: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}
	text := types.StringValue
	for name, tt := range map[string]struct {
		m    backupsModel
		want bool
	}{
		"its cluster":       {backupsModel{Cluster: text("ns/consul")}, true},
		"another cluster":   {backupsModel{Cluster: text("ns/other")}, false},
		"from":              {backupsModel{Cluster: text("ns/other"), FromCluster: text("ns/consul")}, true},
		"all clusters":      {backupsModel{Cluster: text("ns/other"), FromCluster: text("*")}, true},
		"its schedule":      {backupsModel{Cluster: text("ns/consul"), Schedule: text("hourly")}, true},
		"another schedule":  {backupsModel{Cluster: text("ns/consul"), Schedule: text("daily")}, false},
		"another version":   {backupsModel{Cluster: text("ns/consul"), Version: text("1.21.0")}, false},
		"since then":        {backupsModel{Cluster: text("ns/consul"), Since: text("2026-11-26T12:00:00Z")}, true},
		"since a bit later": {backupsModel{Cluster: text("ns/consul"), Since: text("2026-11-26T13:00:01+01:00")}, false},
	} {
		if got := tt.m.wants(s); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
