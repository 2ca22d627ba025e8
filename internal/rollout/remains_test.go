package rollout

import (
	"fmt"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A loss is only what no returning server can undo, and an empty cluster may only replace one that has no data left.
func TestRemains_lossAndRecovery(t *testing.T) {
	t.Parallel()
	pods := func(n int) []string { return make([]string, n) }
	for name, tt := range map[string]struct {
		remains                 Remains
		lost, survivor, nothing bool
	}{
		"a leader":                            {remains: Remains{Leader: true}},
		"an election":                         {remains: Remains{Data: pods(3)}},
		"one lost":                            {remains: Remains{Data: pods(2), Empty: pods(1)}},
		"two lost":                            {Remains{Data: pods(1), Empty: pods(2)}, true, true, false},
		"two lost, but one may be elected":    {remains: Remains{Data: pods(1), Empty: pods(2), electable: true}},
		"two may come back":                   {remains: Remains{Data: pods(1), Unknown: pods(2)}},
		"two have volumes":                    {remains: Remains{Data: pods(1), Unknown: pods(2), Kept: pods(2)}},
		"one lost, one may come back":         {remains: Remains{Data: pods(1), Empty: pods(1), Unknown: pods(1)}},
		"two lost, one may come back":         {Remains{Empty: pods(2), Unknown: pods(1)}, true, false, false},
		"all lost":                            {Remains{Empty: pods(3)}, true, false, true},
		"three of five":                       {Remains{Data: pods(2), Empty: pods(3)}, true, true, false},
		"the only one":                        {Remains{Empty: pods(1)}, true, false, true},
		"no pods: nothing is known":           {},
		"an empty start that was interrupted": {Remains{Unknown: pods(3), Recovering: FromNothing}, false, false, true},
		"two lost, in an adoption":            {Remains{Data: pods(1), Empty: pods(2), Adopting: true}, true, false, false},
		"all lost, in an adoption":            {Remains{Empty: pods(3), Adopting: true, Recovering: FromNothing}, true, false, false},
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
		// A plan recommends only what an apply accepts.
		if from := tt.remains.Recovery(); from != "" && (!tt.lost || tt.remains.Check(from) != "") {
			t.Errorf("%s: a plan recommends %q, which an apply refuses", name, from)
		}
	}
}

// What is left counts Raft peers or declared pods, whichever are more.
func TestJudge(t *testing.T) {
	t.Parallel()
	const namespace, cluster = "ns", "c"
	pod := func(ordinal int) string { return server.PodName(cluster, ordinal) }
	peers := func(ordinals ...int) (list []server.RaftPeer) {
		for _, o := range ordinals {
			list = append(list, server.RaftPeer{ID: server.NodeID(namespace, cluster, o), Address: fmt.Sprintf("10.0.0.%d:8300", o), Voter: true})
		}
		return list
	}
	addresses := func(list []server.RaftPeer) []server.RaftPeer {
		for i := range list {
			list[i].ID = ""
		}
		return list
	}
	data := func(ordinal int, index uint64, known []server.RaftPeer) PodSight {
		return PodSight{
			Name: pod(ordinal), IP: fmt.Sprintf("10.0.0.%d", ordinal), State: StateData,
			Raft: server.RaftState{Peers: known, Log: server.LogEnd{Term: 2, Index: index}},
		}
	}
	empty := func(ordinal int) PodSight { return PodSight{Name: pod(ordinal), IP: "10.0.1.9", State: StateEmpty} }
	unknown := func(ordinal int) PodSight { return PodSight{Name: pod(ordinal)} }
	volumes := func(ordinals ...int) map[string]bool {
		m := map[string]bool{}
		for o := range server.MaxReplicas {
			m[pod(o)] = false
		}
		for _, o := range ordinals {
			m[pod(o)] = true
		}
		return m
	}
	former := append(
		peers(0),
		server.RaftPeer{ID: "f0", Address: "10.9.0.1:8300", Voter: true},
		server.RaftPeer{ID: "f1", Address: "10.9.0.2:8300", Voter: true},
	)
	for name, tt := range map[string]struct {
		asked   int
		pods    []PodSight
		volumes map[string]bool
		want    string
		kept    string
		// recovery is what a plan recommends.
		recovery string
	}{
		"two of three lost": {
			3, []PodSight{empty(0), data(1, 9, peers(0, 1, 2)), empty(2)}, volumes(0, 1, 2),
			"with data: c-server-1; without data: c-server-0, c-server-2", "", FromSurvivor,
		},
		"two of three lost, without a token": {
			3, []PodSight{empty(0), data(1, 9, addresses(peers(0, 1, 2))), empty(2)}, volumes(0, 1, 2),
			"with data: c-server-1; without data: c-server-0, c-server-2", "", FromSurvivor,
		},
		"former servers are away in an adoption": {
			1, []PodSight{data(0, 9, former)}, volumes(0),
			"with data: c-server-0; in an unknown state: 10.9.0.1:8300, 10.9.0.2:8300", "", "",
		},
		"five were scaled to two by hand": {
			2, []PodSight{data(0, 9, peers(0, 1, 2, 3, 4)), data(1, 9, peers(0, 1, 2, 3, 4))}, volumes(0, 1, 2, 3, 4),
			"with data: c-server-0, c-server-1; in an unknown state: c-server-2, c-server-3, c-server-4", "c-server-2, c-server-3, c-server-4", "",
		},
		"five were scaled to two by hand, without a token": {
			2, []PodSight{data(0, 9, addresses(peers(0, 1, 2, 3, 4))), data(1, 9, addresses(peers(0, 1, 2, 3, 4)))}, volumes(0, 1, 2, 3, 4),
			"with data: c-server-0, c-server-1; in an unknown state: c-server-2, c-server-3, c-server-4", "c-server-2, c-server-3, c-server-4", "",
		},
		"five were scaled to two by hand, and the volumes of three are gone": {
			2, []PodSight{data(0, 9, peers(0, 1, 2, 3, 4)), data(1, 9, peers(0, 1, 2, 3, 4))}, volumes(0, 1),
			"with data: c-server-0, c-server-1; without data: c-server-2, c-server-3, c-server-4", "", FromSurvivor,
		},
		"five were scaled to two by hand, and the volumes of three are gone, without a token": {
			2, []PodSight{data(0, 9, addresses(peers(0, 1, 2, 3, 4))), data(1, 9, addresses(peers(0, 1, 2, 3, 4)))}, volumes(0, 1),
			"with data: c-server-0, c-server-1; without data: 10.0.0.2:8300, 10.0.0.3:8300, 10.0.0.4:8300", "", FromSurvivor,
		},
		"five were scaled to two by hand, and claims may not be listed": {
			2, []PodSight{data(0, 9, peers(0, 1, 2, 3, 4)), data(1, 9, peers(0, 1, 2, 3, 4))}, nil,
			"with data: c-server-0, c-server-1; in an unknown state: c-server-2, c-server-3, c-server-4", "", "",
		},
		"five were scaled to two by hand, whose volumes are lost": {
			2, []PodSight{empty(0), empty(1)}, volumes(0, 1, 2, 3, 4),
			"without data: c-server-0, c-server-1; in an unknown state: c-server-2, c-server-3, c-server-4", "c-server-2, c-server-3, c-server-4",
			"",
		},
		"the leaving server died while it was a peer, and has its volume": {
			1, []PodSight{data(0, 9, peers(0, 1))}, volumes(0, 1),
			"with data: c-server-0; in an unknown state: c-server-1", "c-server-1", "",
		},
		"the leaving server died while it was a peer, with its volume": {
			1, []PodSight{data(0, 9, peers(0, 1))}, volumes(0),
			"with data: c-server-0; without data: c-server-1", "", FromSurvivor,
		},
		"two empty servers, and one of which nothing is known": {
			3, []PodSight{empty(0), empty(1), unknown(2)}, volumes(0, 1, 2),
			"without data: c-server-0, c-server-1; in an unknown state: c-server-2", "", "",
		},
		"a pod is missing, and its claim too": {
			3, []PodSight{empty(0), empty(1)}, volumes(0, 1),
			"without data: c-server-0, c-server-1, c-server-2", "", FromNothing,
		},
		"four are asked for, and two of three peers are left": {
			4, []PodSight{data(0, 9, peers(0, 1, 2)), data(1, 9, peers(0, 1, 2)), empty(2), empty(3)}, volumes(0, 1, 2, 3),
			"with data: c-server-0, c-server-1; without data: c-server-2, c-server-3", "", "",
		},
		"one that lags behind cannot be elected, though it knows of three peers": {
			5, []PodSight{data(0, 9, peers(0, 1, 2, 3, 4)), data(1, 5, peers(0, 1, 2)), empty(2), empty(3), empty(4)}, volumes(0, 1, 2, 3, 4),
			"with data: c-server-0, c-server-1; without data: c-server-2, c-server-3, c-server-4", "", FromSurvivor,
		},
		"an old volume of a server that left in good order": {
			3, []PodSight{empty(0), data(1, 9, peers(0, 1, 2)), empty(2)}, volumes(0, 1, 2, 3, 4),
			"with data: c-server-1; without data: c-server-0, c-server-2", "", FromSurvivor,
		},
		"three volumes were kept, and one server is asked for": {
			1, []PodSight{data(0, 9, peers(0, 1, 2))}, volumes(0, 1, 2),
			"with data: c-server-0; in an unknown state: c-server-1, c-server-2", "c-server-1, c-server-2", "",
		},
	} {
		r := Judge(namespace, cluster, tt.asked, tt.pods, tt.volumes)
		if got := r.String(); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tt.want)
		}
		if got := strings.Join(r.Kept, ", "); got != tt.kept {
			t.Errorf("%s: kept %s, want %s", name, got, tt.kept)
		}
		if got := r.Recovery(); got != tt.recovery {
			t.Errorf("%s: recommends %q, want %q", name, got, tt.recovery)
		}
	}
}

// No refusal advises to delete what may be the only copy of the data.
func TestRemains_keepsTheOnlyCopy(t *testing.T) {
	t.Parallel()
	r := Remains{Empty: []string{"s-0", "s-1"}, Unknown: []string{"s-2"}}
	if got := r.Check(FromNothing); !strings.Contains(got, "s-2 may have the only copy") || !strings.Contains(got, "keep the claim") {
		t.Error(got)
	}
}

// Node IDs, if they are known, show which peers are beyond the replicas of the StatefulSet.
func TestPeersAway(t *testing.T) {
	t.Parallel()
	peers := func(ordinals ...int) (out []server.RaftPeer) {
		for _, o := range ordinals {
			out = append(out, server.RaftPeer{ID: server.NodeID("ns", "consul", o), Address: fmt.Sprintf("10.0.0.%d:8300", o), Voter: true})
		}
		return out
	}
	anonymous := []server.RaftPeer{{Address: "10.0.0.1:8300"}, {Address: "10.0.0.9:8300"}}
	all := map[int]bool{0: true, 1: true, 2: true}
	for name, tt := range map[string]struct {
		peers      []server.RaftPeer
		replicas   int
		volumes    map[int]bool
		away, kept int
	}{
		"the first two":          {peers(0, 1), 1, all, 1, 2},
		"the first and the last": {peers(0, 2), 1, all, 1, 3},
		"another one has a pod":  {peers(0, 2), 2, all, 1, 3},
		"all":                    {peers(0, 1, 2), 1, all, 2, 3},
		"a volume is gone":       {peers(0, 1, 2), 1, map[int]bool{0: true, 1: true}, 2, 2},
		"they are not named":     {anonymous, 1, all, 1, 2},
		"a former server is one": {append(peers(0, 1), server.RaftPeer{ID: "old", Address: "10.0.0.9:8300"}), 1, all, 1, 2},
		"all of them have a pod": {peers(0, 1), 3, all, 0, 2},
	} {
		if away, kept := PeersAway(tt.peers, "ns", "consul", tt.replicas, tt.volumes); away != tt.away || kept != tt.kept {
			t.Errorf("%s: %d away, kept up to %d, want %d and %d", name, away, kept, tt.away, tt.kept)
		}
	}
}
