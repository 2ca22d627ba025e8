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
