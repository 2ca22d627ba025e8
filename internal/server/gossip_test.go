package server

import (
	"slices"
	"testing"
)

// TestStages: a server meets only neighbours in the order of the stages, and what may
// not be complete is completed before it is left.
func TestStages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to GossipStage
		want     []GossipStage
	}{
		{GossipPlain, GossipPlain, []GossipStage{GossipPlain}},
		{GossipPlain, GossipEncrypted, []GossipStage{GossipAccept, GossipSend, GossipEncrypted}},
		{GossipAccept, GossipEncrypted, []GossipStage{GossipAccept, GossipSend, GossipEncrypted}},
		{GossipSend, GossipEncrypted, []GossipStage{GossipSend, GossipEncrypted}},
		{GossipEncrypted, GossipEncrypted, []GossipStage{GossipEncrypted}},
		{GossipEncrypted, GossipPlain, []GossipStage{GossipSend, GossipAccept, GossipPlain}},
		{GossipSend, GossipPlain, []GossipStage{GossipSend, GossipAccept, GossipPlain}},
		{GossipAccept, GossipPlain, []GossipStage{GossipAccept, GossipPlain}},
	} {
		before, after := Spec{Established: true}, Spec{UI: true}
		before.Gossip.Stage, after.Gossip.Stage = tt.from, tt.to
		var got []GossipStage
		for _, s := range Stages(before, after) {
			if !s.UI {
				t.Error("the rest does not change with the first")
			}
			got = append(got, s.Gossip.Stage)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("from %d to %d: %v, want %v", tt.from, tt.to, got, tt.want)
		}
		before.Established = false
		if got := Stages(before, after); len(got) != 1 || got[0].Gossip.Stage != tt.to {
			t.Errorf("without a leader yet, from %d to %d: %v", tt.from, tt.to, got)
		}
	}
}

// TestConfigStage: what an agent is configured with tells its stage again.
func TestConfigStage(t *testing.T) {
	t.Parallel()
	for stage := GossipPlain; stage <= GossipEncrypted; stage++ {
		s := full()
		s.Gossip.Stage = stage
		if c := sharedConfig(s); c.stage() != stage {
			t.Errorf("%d is read as %d", stage, c.stage())
		}
	}
}
