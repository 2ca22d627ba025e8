package rollout

import "testing"

// Only what no server can undo by coming back is a loss, and only where no data is left may a cluster begin anew.
func TestRemains(t *testing.T) {
	t.Parallel()
	pods := func(n int) []string { return make([]string, n) }
	for name, tt := range map[string]struct {
		remains                 Remains
		lost, survivor, nothing bool
	}{
		"a leader":                     {remains: Remains{Leader: true}},
		"an election":                  {Remains{Data: pods(3)}, false, true, false},
		"one lost":                     {Remains{Data: pods(2), Empty: pods(1)}, false, true, false},
		"two lost":                     {Remains{Data: pods(1), Empty: pods(2)}, true, true, false},
		"two may come back":            {Remains{Data: pods(1), Unknown: pods(2)}, false, true, false},
		"one lost, one may come back":  {Remains{Data: pods(1), Empty: pods(1), Unknown: pods(1)}, false, true, false},
		"two lost, one may come back":  {Remains{Empty: pods(2), Unknown: pods(1)}, true, false, false},
		"all lost":                     {Remains{Empty: pods(3)}, true, false, true},
		"three of five":                {Remains{Data: pods(2), Empty: pods(3)}, true, true, false},
		"the only one":                 {Remains{Empty: pods(1)}, true, false, true},
		"no pods: nothing can be told": {},
	} {
		if got := tt.remains.Lost(); got != tt.lost {
			t.Errorf("%s: lost %v", name, got)
		}
		if tt.remains.Leader {
			continue
		}
		if got := tt.remains.Check(FromSurvivor) == ""; got != tt.survivor {
			t.Errorf("%s: from a survivor %v", name, got)
		}
		if got := tt.remains.Check(FromNothing) == ""; got != tt.nothing {
			t.Errorf("%s: from nothing %v", name, got)
		}
	}
}
