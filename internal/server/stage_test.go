package server

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestStages: servers only meet neighbors in the order of the stages, and a stage that may not be complete is
// completed before it is left.
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
		before, after := Spec{Record: Record{Established: true}}, Spec{UI: true}
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
	before, after := Spec{Record: Record{Established: true}}, Spec{}
	before.Gossip.Stage, before.TLS.Stage = StageAccept, StageEncrypted
	after.Gossip.Stage, after.TLS.Stage = StageEncrypted, StagePlain
	before.TLS.CASecret = "ours"
	var got [][2]Stage
	for _, s := range Stages(before, after) {
		if (s.TLS.CASecret == "ours") != (s.TLS.Stage != StagePlain) {
			t.Errorf("while TLS is turned off, in stage %d, the authority is that of %q", s.TLS.Stage, s.TLS.CASecret)
		}
		got = append(got, [2]Stage{s.Gossip.Stage, s.TLS.Stage})
	}
	if want := [][2]Stage{{StageAccept, StageSend}, {StageSend, StageAccept}, {StageEncrypted, StagePlain}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestConfigStage: the configuration of an agent shows its stage. No server restarts between accepting and sending
// TLS.
func TestConfigStage(t *testing.T) {
	t.Parallel()
	hashes := map[string][]Stage{}
	for stage := StagePlain; stage <= StageEncrypted; stage++ {
		s := full()
		s.Gossip.Stage = stage
		if got := gossipStage(rendered(t, s)); got != stage {
			t.Errorf("gossip: %d is read as %d", stage, got)
		}
		s = full()
		s.TLS.Stage = stage
		if got := tlsStage(rendered(t, s)); got != stage {
			t.Errorf("TLS: %d is read as %d", stage, got)
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

// A change starts from a stage whose neighbors are the only stages that any server meets.
func TestRunningStage(t *testing.T) {
	t.Parallel()
	const p, a, s, e = StagePlain, StageAccept, StageSend, StageEncrypted
	for _, tt := range []struct {
		applied Stage
		servers []Stage
		want    Stage
	}{
		{e, nil, e},
		{p, []Stage{p, p, p}, p},
		{a, []Stage{p, p, a}, a}, // interrupted while it was turned on
		{e, []Stage{s, s, e}, e},
		{p, []Stage{a, p, a}, p}, // and while it was turned off
		{e, []Stage{p, p, p}, p}, // applied at once by somebody else
		{e, []Stage{e, p, p}, p}, // which cut off one server
		{e, []Stage{p, e, e}, e},
		{p, []Stage{e, e, p}, e},
		{e, []Stage{a, s, p}, a},
	} {
		if got := RunningStage(tt.applied, tt.servers); got != tt.want {
			t.Errorf("%d was applied and the servers are in %v: got %d, want %d", tt.applied, tt.servers, got, tt.want)
		}
	}
}

// A pod shows its stage by the configuration that it was started with, whatever the StatefulSet says now.
func TestPodStages(t *testing.T) {
	t.Parallel()
	for stage := StagePlain; stage <= StageEncrypted; stage++ {
		s, other := full(), full()
		s.Gossip.Stage, s.TLS.Stage = stage, StageEncrypted-stage
		other.Gossip.Stage, other.TLS.Stage = StageEncrypted-stage, stage
		objects := Objects(s)
		pod := &corev1.Pod{ObjectMeta: objects.StatefulSet.Spec.Template.ObjectMeta, Spec: objects.StatefulSet.Spec.Template.Spec}
		other.FormerConfig = FormerConfig(other, objects.Config, []corev1.Pod{*pod})
		if gossip, tls, known := PodStages(pod, Objects(other).Config); gossip != stage || tls != StageEncrypted-stage || !known {
			t.Errorf("gossip in %d is read as %d, TLS in %d as %d (known: %v)", stage, gossip, StageEncrypted-stage, tls, known)
		}
		gossip, tls, known := PodStages(pod, nil)
		if (gossip == StagePlain) != (stage == StagePlain) || (tls == StagePlain) != (stage == StageEncrypted) || known {
			t.Errorf("without a ConfigMap, gossip in %d is read as %d, TLS in %d as %d (known: %v)", stage, gossip, StageEncrypted-stage, tls, known)
		}
	}
	if gossip, tls, known := PodStages(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "consul-server-0"}}, nil); gossip != StagePlain ||
		tls != StagePlain ||
		!known {
		t.Errorf("a pod without keys is read as %d and %d (known: %v)", gossip, tls, known)
	}
}
