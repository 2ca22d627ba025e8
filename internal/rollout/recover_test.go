package rollout

import "testing"

// Only what no server can undo by coming back is a loss, and only where no data is left may a cluster begin anew.
func TestRemains_lossAndWayBack(t *testing.T) {
	t.Parallel()
	pods := func(n int) []string { return make([]string, n) }
	for name, tt := range map[string]struct {
		remains                 Remains
		lost, survivor, nothing bool
	}{
		"a leader":                     {remains: Remains{Leader: true}},
		"an election":                  {remains: Remains{Data: pods(3)}},
		"one lost":                     {remains: Remains{Data: pods(2), Empty: pods(1)}},
		"two lost":                     {Remains{Data: pods(1), Empty: pods(2)}, true, true, false},
		"two may come back":            {remains: Remains{Data: pods(1), Unknown: pods(2)}},
		"one lost, one may come back":  {remains: Remains{Data: pods(1), Empty: pods(1), Unknown: pods(1)}},
		"two lost, one may come back":  {Remains{Empty: pods(2), Unknown: pods(1)}, true, false, false},
		"all lost":                     {Remains{Empty: pods(3)}, true, false, true},
		"three of five":                {Remains{Data: pods(2), Empty: pods(3)}, true, true, false},
		"the only one":                 {Remains{Empty: pods(1)}, true, false, true},
		"no pods: nothing can be told": {},
		"it has begun anew half-way":   {Remains{Unknown: pods(3), Recovering: FromNothing}, false, false, true},
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

// A log that ends in a later term goes further than a longer one of an earlier term, which was never agreed on.
func TestLogEnd(t *testing.T) {
	t.Parallel()
	end, err := parseLogEnd("agent:\n\tcheck_monitors = 0\nraft:\n\tlast_log_index = 812\n\tlast_log_term = 7\n\tlast_snapshot_index = 0\n")
	if err != nil || (end != logEnd{term: 7, index: 812}) {
		t.Errorf("got %+v, %v", end, err)
	}
	if end, err := parseLogEnd("\tlast_log_index = 0\n\tlast_log_term = 0\n\tlast_snapshot_index = 700\n\tlast_snapshot_term = 7\n"); err != nil || (end != logEnd{term: 7, index: 700}) {
		t.Errorf("after a snapshot: %+v, %v", end, err)
	}
	if _, err := parseLogEnd("Error querying agent: 403"); err == nil {
		t.Error("what says nothing was read")
	}
	if longer := (logEnd{term: 6, index: 900}); !longer.less(end) || end.less(longer) || end.less(end) {
		t.Error("a longer log of an earlier term goes further")
	}
	if further := (logEnd{term: 7, index: 813}); !end.less(further) {
		t.Error("a longer log of the same term does not go further")
	}
}
