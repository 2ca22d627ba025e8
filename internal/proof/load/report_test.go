package load

import (
	"slices"
	"testing"
	"time"
)

func TestPercentile_isTheNearestRank(t *testing.T) {
	to := func(n int) (values []time.Duration) {
		for i := range n {
			values = append(values, time.Duration(i+1))
		}
		return values
	}
	for _, test := range []struct {
		of   int // 1, 2, … of
		p    float64
		want time.Duration
	}{
		{0, 50, 0},
		{1, 50, 1},
		{1, 99, 1},
		{2, 50, 1},
		{3, 50, 2},
		{100, 50, 50},
		{100, 99, 99},
		{100, 100, 100},
		{101, 99, 100},
		{1000, 99, 990},
		{10, 99, 10},
	} {
		if got := percentile(to(test.of), test.p); got != test.want {
			t.Errorf("the %gth percentile of 1 to %d is %d, want %d", test.p, test.of, got, test.want)
		}
	}
}

func TestRanges_areAsFewAsCanBe(t *testing.T) {
	for _, test := range []struct {
		set  []bool
		want []Range
	}{
		{nil, nil},
		{[]bool{false, false}, nil},
		{[]bool{false, true}, []Range{{1, 1}}},
		{[]bool{true, true, true}, []Range{{0, 2}}},
		{[]bool{false, true, true, false, true, false, false, true}, []Range{{1, 2}, {4, 4}, {7, 7}}},
	} {
		if got := ranges(test.set); !slices.Equal(got, test.want) {
			t.Errorf("the ranges of %v are %v, want %v", test.set, got, test.want)
		}
	}
}

func TestLockRecorder_measuresTheTimeWithoutAHolder(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	type event struct {
		at    int
		event func(*lockRecorder, time.Time)
	}
	acquired, lost := (*lockRecorder).acquire, (*lockRecorder).lose
	stats := func(acquired, lost, without, longest int) LockStats { // times in seconds
		return LockStats{
			Acquired: acquired, Lost: lost,
			Without: time.Duration(without) * time.Second, LongestWithout: time.Duration(longest) * time.Second,
		}
	}
	for name, test := range map[string]struct {
		events []event
		now    int
		want   LockStats
	}{
		"nobody was ever a holder": {now: 5},
		"it is held":               {events: []event{{2, acquired}}, now: 9, want: stats(1, 0, 0, 0)},
		"it was lost": {
			events: []event{{2, acquired}, {4, lost}},
			now:    9,
			want:   stats(1, 1, 5, 5),
		},
		"the longest time is not the last one": {
			events: []event{{2, acquired}, {4, lost}, {19, acquired}, {30, lost}, {32, acquired}},
			now:    40,
			want:   stats(3, 2, 17, 15),
		},
		"it is lost for longer than before": {
			events: []event{{2, acquired}, {4, lost}, {5, acquired}, {30, lost}},
			now:    40,
			want:   stats(2, 2, 11, 10),
		},
		"the next holder is there before the former one notices": {
			events: []event{{2, acquired}, {4, acquired}, {6, lost}},
			now:    9,
			want:   stats(2, 1, 0, 0),
		},
		"and then the next one loses it too": {
			events: []event{{2, acquired}, {4, acquired}, {6, lost}, {8, lost}},
			now:    9,
			want:   stats(2, 2, 1, 1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
			var r lockRecorder
			for _, e := range test.events {
				e.event(&r, at(e.at))
				r.report(at(e.at)) // must not change anything
			}
			if got := *r.report(at(test.now)); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
