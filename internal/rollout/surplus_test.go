package rollout

import (
	"fmt"
	"testing"
	"time"
)

// Volumes of servers that are not asked for are named, with their age. Those of other clusters are not.
func TestSurplus(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	bound := map[string]time.Time{"data-c-server-0": made, "data-c-server-1": made, "data-c-server-2": made, "data-d-server-5": made, "consul-snapshots": made}
	for replicas, want := range map[int]string{
		1: "[data-c-server-1 (of 2026-01-02) data-c-server-2 (of 2026-01-02)]",
		3: "[]",
	} {
		if got := fmt.Sprint(surplus("c", bound, replicas)); got != want {
			t.Errorf("%d servers: %s, want %s", replicas, got, want)
		}
	}
	if got := surplus("c", nil, 1); len(got) != 0 {
		t.Errorf("where claims may not be listed: %v", got)
	}
}
