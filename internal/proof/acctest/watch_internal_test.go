package acctest

import (
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// view is the answers of a server from one second to another, four times a second.
type view struct {
	server   string
	from, to float64
	voters   []string
	leader   string
}

func (v view) samples(start time.Time) (out []raftSample) {
	for at := v.from; at < v.to; at += 0.25 {
		out = append(out, raftSample{
			at: start.Add(time.Duration(at * float64(time.Second))), server: v.server, voters: v.voters, leader: v.leader,
		})
	}
	return out
}

func TestRaftTimeline(t *testing.T) {
	abc, ab, bc, abd := []string{"a", "b", "c"}, []string{"a", "b"}, []string{"b", "c"}, []string{"a", "b", "d"}
	for name, test := range map[string]struct {
		views []view
		end   float64
		want  RaftTimeline
	}{
		"nothing happens": {
			views: []view{{"a", 0, 10, abc, "a"}, {"b", 0, 10, abc, "a"}, {"c", 0, 10, abc, "a"}},
			end:   10,
			want:  RaftTimeline{FewestVoters: 3, FewestConfigured: 3, Voters: map[int]time.Duration{3: 10 * time.Second}},
		},
		"it begins when all voters were seen": {
			views: []view{{"a", 0, 10, abc, "a"}, {"b", 0.5, 10, abc, "a"}, {"c", 2, 10, abc, "a"}},
			end:   10,
			want:  RaftTimeline{FewestVoters: 3, FewestConfigured: 3, Voters: map[int]time.Duration{3: 8 * time.Second}},
		},
		// c leaves at 2, and does not learn of it while it drains. It comes back as d, which answers from 5 on and
		// votes from 8 on.
		"a follower leaves and comes back": {
			views: []view{
				{"a", 0, 2, abc, "a"}, {"b", 0, 2, abc, "a"}, {"c", 0, 4, abc, "a"},
				{"a", 2, 8, ab, "a"}, {"b", 2, 8, ab, "a"},
				{"d", 5, 8, ab, "a"},
				{"a", 8, 10, abd, "a"}, {"b", 8, 10, abd, "a"}, {"d", 8, 10, abd, "a"},
			},
			end:  10,
			want: RaftTimeline{FewestVoters: 2, FewestConfigured: 2, Voters: map[int]time.Duration{3: 4 * time.Second, 2: 6 * time.Second}},
		},
		"the leader leaves": {
			views: []view{
				{"a", 0, 2, abc, "a"}, {"b", 0, 2, abc, "a"}, {"c", 0, 2, abc, "a"},
				{"a", 2, 3, abc, "b"}, {"b", 2, 3, abc, "b"}, {"c", 2, 3, abc, "b"},
				{"a", 3, 5, abc, ""}, {"b", 3, 10, bc, "b"}, {"c", 3, 10, bc, "b"},
			},
			end: 10,
			want: RaftTimeline{
				FewestVoters: 2, FewestConfigured: 2, Voters: map[int]time.Duration{3: 3 * time.Second, 2: 7 * time.Second}, LeaderChanges: 1,
			},
		},
		// Its last answer is at 3.75.
		"a follower dies": {
			views: []view{{"a", 0, 10, abc, "a"}, {"b", 0, 10, abc, "a"}, {"c", 0, 4, abc, "a"}},
			end:   10,
			want: RaftTimeline{
				FewestVoters: 2, FewestConfigured: 3, Voters: map[int]time.Duration{3: 3750 * time.Millisecond, 2: 6250 * time.Millisecond},
			},
		},
		"a server that is late with an answer lives": {
			views: []view{
				{"a", 0, 10, abc, "a"}, {"b", 0, 10, abc, "a"},
				{"c", 0, 4, abc, "a"}, {"c", 4.5, 10, abc, "a"},
			},
			end:  10,
			want: RaftTimeline{FewestVoters: 3, FewestConfigured: 3, Voters: map[int]time.Duration{3: 10 * time.Second}},
		},
		"the leadership moves": {
			views: []view{
				{"a", 0, 4, abc, "a"}, {"b", 0, 4, abc, "a"}, {"c", 0, 4, abc, "a"},
				{"a", 4, 10, abc, "b"}, {"b", 4, 10, abc, "b"}, {"c", 4, 10, abc, "b"},
			},
			end:  10,
			want: RaftTimeline{FewestVoters: 3, FewestConfigured: 3, Voters: map[int]time.Duration{3: 10 * time.Second}, LeaderChanges: 1},
		},
		"an election takes two seconds and ends as it was": {
			views: []view{
				{"a", 0, 4, abc, "a"}, {"b", 0, 4, abc, "a"}, {"c", 0, 4, abc, "a"},
				{"a", 4, 6, abc, ""}, {"b", 4, 6, abc, ""}, {"c", 4, 6, abc, "c"},
				{"a", 6, 10, abc, "a"}, {"b", 6, 10, abc, "a"}, {"c", 6, 10, abc, "c"},
			},
			end: 10,
			want: RaftTimeline{
				FewestVoters: 3, FewestConfigured: 3, Voters: map[int]time.Duration{3: 10 * time.Second}, LongestWithoutLeader: 2 * time.Second,
			},
		},
		// Two of three are dead after their last answer at 3.75.
		"the quorum is lost": {
			views: []view{{"a", 0, 10, abc, "a"}, {"b", 0, 4, abc, "a"}, {"c", 0, 4, abc, "a"}},
			end:   10,
			want: RaftTimeline{
				FewestVoters: 1, FewestConfigured: 3, Voters: map[int]time.Duration{3: 3750 * time.Millisecond, 1: 6250 * time.Millisecond},
				LongestWithoutLeader: 6250 * time.Millisecond,
			},
		},
		"no server answers": {end: 10, want: RaftTimeline{Voters: map[int]time.Duration{}}},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			var samples []raftSample
			for _, v := range test.views {
				samples = append(samples, v.samples(start)...)
			}
			got := newRaftTimeline(samples, start.Add(time.Duration(test.end*float64(time.Second))))
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestRaftTimeline_belowCountsAllTimesWithFewer(t *testing.T) {
	r := RaftTimeline{Voters: map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second}}
	for n, want := range map[int]time.Duration{1: 0, 2: time.Second, 3: 3 * time.Second, 5: 7 * time.Second} {
		if got := r.Below(n); got != want {
			t.Errorf("below %d: %s, want %s", n, got, want)
		}
	}
}

func TestRaftSample_identifiesServersByTheirIPs(t *testing.T) {
	s := newRaftSample(time.Time{}, "10.0.0.1", &api.RaftConfiguration{Servers: []*api.RaftServer{
		{Address: "10.0.0.1:8300", Voter: true},
		{Address: "10.0.0.2:8300", Voter: true, Leader: true},
		{Address: "[fd00::3]:8300", Voter: false},
	}})
	if s.leader != "10.0.0.2" || len(s.voters) != 2 || s.voters[0] != "10.0.0.1" || s.voters[1] != "10.0.0.2" {
		t.Errorf("got %+v", s)
	}
}
