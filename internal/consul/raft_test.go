package consul

import (
	"slices"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A log that ends in a later term goes further than a longer one of an earlier term, whose end was never committed.
func TestLogEnd(t *testing.T) {
	t.Parallel()
	end, err := ParseLogEnd("agent:\n\tcheck_monitors = 0\nraft:\n\tlast_log_index = 812\n\tlast_log_term = 7\n\tlast_snapshot_index = 0\n")
	if err != nil || (end != server.LogEnd{Term: 7, Index: 812}) {
		t.Errorf("got %+v, %v", end, err)
	}
	if end, err := ParseLogEnd("\tlast_log_index = 0\n\tlast_log_term = 0\n\tlast_snapshot_index = " +
		"700\n\tlast_snapshot_term = 7\n"); err != nil ||
		(end != server.LogEnd{Term: 7, Index: 700}) {
		t.Errorf("after a snapshot: %+v, %v", end, err)
	}
	if _, err := ParseLogEnd("Error querying agent: 403"); err == nil {
		t.Error("an error message was read as the end of a log")
	}
	if longer := (server.LogEnd{Term: 6, Index: 900}); !longer.Less(end) || end.Less(longer) || end.Less(end) {
		t.Error("a longer log of an earlier term goes further")
	}
	if further := (server.LogEnd{Term: 7, Index: 813}); !end.Less(further) {
		t.Error("a longer log of the same term does not go further")
	}
}

// The statistics of an agent name the Raft peers with their IDs and their votes.
func TestParseRaftStats(t *testing.T) {
	t.Parallel()
	s, err := parseRaftStats(map[string]string{
		"last_log_index": "12", "last_log_term": "3",
		"latest_configuration": "[{Suffrage:Voter ID:1f0c-a Address:10.0.0.1:8300} {Suffrage:Nonvoter ID:2e Address:[fd00::2]:8300}]",
	})
	want := []server.RaftPeer{{ID: "1f0c-a", Address: "10.0.0.1:8300", Voter: true}, {ID: "2e", Address: "[fd00::2]:8300"}}
	if err != nil || !slices.Equal(s.Peers, want) || (s.Log != server.LogEnd{Term: 3, Index: 12}) {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err := parseRaftStats(map[string]string{"last_log_index": "1", "last_log_term": "1", "latest_configuration": "[]"}); err != nil ||
		len(s.Peers) != 0 {
		t.Errorf("an empty configuration: %+v, %v", s, err)
	}
}
