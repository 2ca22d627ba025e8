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
		from, to Stage
		want     []Stage
	}{
		{StagePlain, StagePlain, []Stage{StagePlain}},
		{StagePlain, StageEncrypted, []Stage{StageAccept, StageSend, StageEncrypted}},
		{StageAccept, StageEncrypted, []Stage{StageAccept, StageSend, StageEncrypted}},
		{StageSend, StageEncrypted, []Stage{StageSend, StageEncrypted}},
		{StageEncrypted, StageEncrypted, []Stage{StageEncrypted}},
		{StageEncrypted, StagePlain, []Stage{StageSend, StageAccept, StagePlain}},
		{StageSend, StagePlain, []Stage{StageSend, StageAccept, StagePlain}},
		{StageAccept, StagePlain, []Stage{StageAccept, StagePlain}},
	} {
		before, after := Spec{Established: true}, Spec{UI: true}
		before.Gossip.Stage, after.Gossip.Stage = tt.from, tt.to
		var got []Stage
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

// Gossip and RPC take their steps together.
func TestStages_ofBoth(t *testing.T) {
	t.Parallel()
	before, after := Spec{Established: true}, Spec{}
	before.Gossip.Stage, before.TLS.Stage = StageAccept, StageEncrypted
	after.Gossip.Stage, after.TLS.Stage = StageEncrypted, StagePlain
	before.TLS.CASecret = "ours"
	var got [][2]Stage
	for _, s := range Stages(before, after) {
		if (s.TLS.CASecret == "ours") != (s.TLS.Stage != StagePlain) {
			t.Errorf("on the way off, in stage %d, the authority is that of %q", s.TLS.Stage, s.TLS.CASecret)
		}
		got = append(got, [2]Stage{s.Gossip.Stage, s.TLS.Stage})
	}
	if want := [][2]Stage{{StageAccept, StageSend}, {StageSend, StageAccept}, {StageEncrypted, StagePlain}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestConfigStage: what an agent is configured with tells its stage again. Between
// accepting and sending TLS no server restarts.
func TestConfigStage(t *testing.T) {
	t.Parallel()
	hashes := map[string][]Stage{}
	for stage := StagePlain; stage <= StageEncrypted; stage++ {
		s := full()
		s.Gossip.Stage = stage
		if c := sharedConfig(s); c.gossipStage() != stage {
			t.Errorf("gossip: %d is read as %d", stage, c.gossipStage())
		}
		s = full()
		s.TLS.Stage = stage
		if c := sharedConfig(s); c.tlsStage() != stage {
			t.Errorf("TLS: %d is read as %d", stage, c.tlsStage())
		}
		hashes[configHash(s)] = append(hashes[configHash(s)], stage)
	}
	if len(hashes) != 3 {
		t.Errorf("these stages share a restart: %v", hashes)
	}
}

func TestCertificateNames(t *testing.T) {
	t.Parallel()
	s := minimal()
	s.Domain, s.TLS.DNSNames, s.TLS.IPAddresses = "consul.", []string{"consul.example.com", "localhost"}, []string{"192.0.2.1"}
	dns, ips := CertificateNames(s)
	for _, name := range []string{
		"server.dc1.consul", "localhost", "consul.example.com", "consul", "consul.prod.svc", "consul.prod.svc.cluster.local",
		"consul-server.prod", "*.consul-server.prod.svc", "*.consul-server.prod.svc.cluster.local",
	} {
		if i := slices.Index(dns, name); i < 0 || slices.Contains(dns[i+1:], name) {
			t.Errorf("%s is not once among %v", name, dns)
		}
	}
	if want := []string{"127.0.0.1", "192.0.2.1", "::1"}; !slices.Equal(ips, want) {
		t.Errorf("got %v, want %v", ips, want)
	}
}
