package server

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// GossipStage is how far the gossip between agents is encrypted. A running cluster goes
// through all of them, one roll each: at any moment every agent takes what the others
// send (developer.hashicorp.com/consul/docs/secure/encryption/gossip/enable/existing).
type GossipStage int

// Stages, in the order in which encryption is turned on.
const (
	// GossipPlain: no agent has a key.
	GossipPlain GossipStage = iota
	// GossipAccept: agents have the key, send plain text and take both.
	GossipAccept
	// GossipSend: agents encrypt what they send and take both.
	GossipSend
	// GossipEncrypted: agents encrypt what they send and take nothing else.
	GossipEncrypted
)

// Gossip is the encryption of the gossip between agents.
type Gossip struct {
	Stage GossipStage
	// KeySecret names the key that the user brings; nil is one that the provider makes.
	KeySecret *SecretKey
	// Rotation says when the provider replaces a key that it made.
	Rotation KeyRotation
}

// KeyRotation says when a key is replaced by a new one.
type KeyRotation struct {
	// Trigger replaces it whenever it changes.
	Trigger string `json:"trigger,omitempty"`
	// After is the age at which it is replaced; 0 is never.
	After time.Duration `json:"after,omitempty"`
}

// gossipSettings are those that no agent reads, as the StatefulSet keeps them.
type gossipSettings struct {
	KeySecret *SecretKey  `json:"key_secret,omitempty"`
	Rotation  KeyRotation `json:"rotation,omitzero"`
}

// GossipSecretName is the Secret with the keys that the servers have.
func GossipSecretName(cluster string) string { return cluster + "-gossip" }

const (
	// KeyringKey is the key, in that Secret, of the keyring: a JSON list of gossip keys,
	// the primary one first. It is what Consul keeps on disk.
	KeyringKey = "keyring"
	// PrimaryKey is the key of the primary one alone, for client agents.
	PrimaryKey = "key"

	keyringVolume = "gossip"
	keyringDir    = "/consul/gossip"
)

// Stages returns what to apply one after the other, each to every server before the
// next, to come from one spec to another. The last is where it ends. What differs
// beside the encryption of gossip changes with the first.
//
// A stage between the ends may not be complete, so that is where a change that was
// interrupted goes on; and the servers of a cluster that never had a leader start
// with the last.
func Stages(before, after Spec) []Spec {
	from, to := before.Gossip.Stage, after.Gossip.Stage
	if !before.Established || from == to {
		return []Spec{after}
	}
	step := GossipStage(1)
	if to < from {
		step = -1
	}
	if from == GossipPlain || from == GossipEncrypted {
		from += step
	}
	var all []Spec
	for stage := from; ; stage += step {
		s := after
		s.Gossip.Stage = stage
		all = append(all, s)
		if stage == to {
			return all
		}
	}
}

// gossipVolume is the volume with the keyring, and where it is mounted; nothing where
// there is none.
func gossipVolume(s Spec) ([]corev1.Volume, []corev1.VolumeMount) {
	if s.Gossip.Stage == GossipPlain {
		return nil, nil
	}
	return []corev1.Volume{{Name: keyringVolume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: GossipSecretName(s.Name),
			Items:      []corev1.KeyToPath{{Key: KeyringKey, Path: KeyringKey}},
		}}}},
		[]corev1.VolumeMount{{Name: keyringVolume, MountPath: keyringDir, ReadOnly: true}}
}

// stage is how far an agent's configuration encrypts gossip.
func (c agentConfig) stage() GossipStage {
	switch {
	case c.EncryptVerifyIncoming == nil:
		return GossipPlain
	case *c.EncryptVerifyIncoming:
		return GossipEncrypted
	case *c.EncryptVerifyOutgoing:
		return GossipSend
	default:
		return GossipAccept
	}
}

// setStage is the inverse of stage.
func (c *agentConfig) setStage(stage GossipStage) {
	if stage == GossipPlain {
		return
	}
	c.EncryptVerifyOutgoing, c.EncryptVerifyIncoming = new(stage >= GossipSend), new(stage >= GossipEncrypted)
}
