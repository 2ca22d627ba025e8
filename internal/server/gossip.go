package server

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Gossip is the encryption of the gossip between agents.
type Gossip struct {
	Stage Stage
	// KeySecret names the key that the user provides; nil is a key that the provider makes.
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

// gossipSettings are the settings that no agent reads, as the StatefulSet stores them.
type gossipSettings struct {
	KeySecret *SecretKey  `json:"key_secret,omitempty"`
	Rotation  KeyRotation `json:"rotation,omitzero"`
}

// GossipSecretName is the Secret with the keys that the servers have.
func GossipSecretName(cluster string) string { return cluster + "-gossip" }

const (
	// KeyringKey is the key, in that Secret, of the keyring: a JSON list of gossip keys, the primary one first.
	// Consul stores the same on disk.
	KeyringKey = "keyring"
	// PrimaryKey is the key of the primary gossip key alone, for client agents.
	PrimaryKey = "key"

	keyringVolume = "gossip"
	keyringDir    = "/consul/gossip"
)

// gossipVolume is the volume with the keyring, and where it is mounted; empty without a keyring.
func gossipVolume(s Spec) ([]corev1.Volume, []corev1.VolumeMount) {
	if s.Gossip.Stage == StagePlain {
		return nil, nil
	}
	return []corev1.Volume{{Name: keyringVolume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: GossipSecretName(s.Name),
			Items:      []corev1.KeyToPath{{Key: KeyringKey, Path: KeyringKey}},
		}}}},
		[]corev1.VolumeMount{{Name: keyringVolume, MountPath: keyringDir, ReadOnly: true}}
}

// gossipStage is how far an agent's configuration encrypts gossip.
func gossipStage(config map[string]any) Stage {
	incoming, ok := valueAt(config, "encrypt_verify_incoming").(bool)
	if !ok {
		return StagePlain
	}
	outgoing, _ := valueAt(config, "encrypt_verify_outgoing").(bool)
	return StageOf(outgoing, incoming)
}
