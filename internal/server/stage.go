package server

import (
	corev1 "k8s.io/api/core/v1"
)

// Stage is how far traffic between agents is encrypted: their gossip, or their TCP connections. A running
// cluster goes through all stages, each on every server before the next: at any moment, every agent accepts
// what the others send (developer.hashicorp.com/consul/docs/secure/encryption/gossip/enable/existing).
type Stage int

// Stages, in the order in which encryption is turned on.
const (
	// StagePlain: no agent has a key.
	StagePlain Stage = iota
	// StageAccept: agents have a key, send plain text, and accept both.
	StageAccept
	// StageSend: agents encrypt what they send, and accept both.
	StageSend
	// StageEncrypted: agents encrypt what they send, and accept nothing else.
	StageEncrypted
)

// HalfWay reports whether a stage is between plain text and encryption.
func (s Stage) HalfWay() bool { return s != StagePlain && s != StageEncrypted }

// Stages returns the specs to apply one after the other, each to every server before the next, to get from one
// spec to another. The last one is the target. Other changes than those of the encryption come with the first
// spec. But if TLS is turned off, its other settings stay as they are until the last spec, which does not need
// them.
//
// A stage between the ends may not be complete, so an interrupted change resumes with it. The servers of a
// cluster that never had a leader start with the last spec.
func Stages(before, after Spec) []Spec {
	if !before.Established {
		return []Spec{after}
	}
	gossip, tls := stages(before.Gossip.Stage, after.Gossip.Stage), stages(before.TLS.Stage, after.TLS.Stage)
	all := make([]Spec, max(len(gossip), len(tls)))
	for i := range all {
		all[i] = after
		all[i].Gossip.Stage = gossip[min(i, len(gossip)-1)]
		all[i].TLS.Stage = tls[min(i, len(tls)-1)]
		if after.TLS.Stage < before.TLS.Stage && all[i].TLS.Stage != after.TLS.Stage {
			all[i].TLS.TLSSettings = before.TLS.TLSSettings
		}
	}
	return all
}

// SameStages reports whether two specs have the same stages.
func SameStages(a, b Spec) bool {
	return a.Gossip.Stage == b.Gossip.Stage && a.TLS.Stage == b.TLS.Stage
}

func stages(from, to Stage) []Stage {
	step := Stage(1)
	switch {
	case from == to:
		return []Stage{to}
	case to < from:
		step = -1
	}
	if !from.HalfWay() {
		from += step
	}
	var all []Stage
	for stage := from; stage != to; stage += step {
		all = append(all, stage)
	}
	return append(all, to)
}

// StageOf is the stage of an agent that has keys, according to whether it encrypts what it sends, and whether
// it refuses unencrypted traffic.
func StageOf(verifiesOutgoing, verifiesIncoming bool) Stage {
	switch {
	case verifiesIncoming:
		return StageEncrypted
	case verifiesOutgoing:
		return StageSend
	default:
		return StageAccept
	}
}

// RunningStage is the stage that a change of the encryption starts from: the one that was applied last, if
// every server is in it or next to it, so that completing it cuts off no server. Otherwise it is the stage of
// most servers, which have the quorum. If two stages have the same number of servers, it is that of the server
// with the lower ordinal.
func RunningStage(applied Stage, servers []Stage) Stage {
	count := map[Stage]int{}
	far := false
	for _, s := range servers {
		count[s]++
		far = far || s < applied-1 || s > applied+1
	}
	if !far {
		return applied
	}
	most := servers[0]
	for _, s := range servers {
		if count[s] > count[most] {
			most = s
		}
	}
	return most
}

// PodStages reads how far the agent in a server's pod encrypts gossip and TCP connections, from the
// configuration that it was started with. If the ConfigMap does not contain that, the pod shows whether it has
// keys at all. If it has keys, known is false: the agent has to be asked.
func PodStages(pod *corev1.Pod, cm *corev1.ConfigMap) (gossip, tls Stage, known bool) {
	if cm != nil {
		c, err := readConfig(cm.Data[configKeyOf(pod.Annotations[AnnotationConfigHash])])
		if err == nil {
			return gossipStage(c), tlsStage(c), true
		}
	}
	known = true
	for _, v := range pod.Spec.Volumes {
		switch v.Name {
		case keyringVolume:
			gossip, known = StageAccept, false
		case tlsVolume:
			tls, known = StageAccept, false
		}
	}
	return gossip, tls, known
}
