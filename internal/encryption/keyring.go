package encryption

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The Secret of a cluster has the desired gossip keys of its servers, and every server starts with these. A key
// is replaced in an order in which all agents understand each other at any moment, including those that start
// meanwhile:
//
//  1. the Secret gets the new key as the second, and all agents install it;
//  2. the new key becomes the first in the Secret, and all agents encrypt with it;
//  3. the old key leaves the Secret, and all agents remove it.
//
// After an interruption, it resumes from what the Secret says.
const (
	// ComponentGossip is the component label of that Secret.
	ComponentGossip = "gossip"

	annotationPhase   = server.ManagedBy + "/keyring-phase"
	annotationTrigger = server.ManagedBy + "/key-trigger"
	annotationMade    = server.ManagedBy + "/key-made"

	phaseInstall = "install"
	phaseRetire  = "retire"
)

// keyringTimeout is how long all agents may take to change their keys.
const keyringTimeout = 2 * time.Minute

// ErrKeyringLost says that the servers encrypt gossip, that the Secret with their keys is lost, and that the
// servers could not be asked for the keys.
var ErrKeyringLost = errors.New("the Secret with the gossip keys is lost")

// CheckGossipKey returns an error that says what is wrong with a gossip key. It does not
// quote it.
func CheckGossipKey(key string) error {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return errors.New("the gossip key is not base64: create one with \"consul keygen\"")
	}
	if n := len(raw); n != 16 && n != 24 && n != 32 {
		return fmt.Errorf("the gossip key has %d bytes: it must have 16, 24, or 32 bytes, such as a key that \"consul keygen\" prints", n)
	}
	return nil
}

// newGossipKey makes a key of 32 bytes.
func newGossipKey() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return base64.StdEncoding.EncodeToString(raw)
}

// keyring is what the Secret says.
type keyring struct {
	// keys are those that all agents are to have. The first one is for encryption.
	keys []string
	// phase says that the second key is to become the first, or is to be removed; "" is neither.
	phase string
	// trigger and made belong to the latest key.
	trigger string
	made    time.Time
}

// due says why the key has to be replaced, "" if it does not. brought is the key that the user provides, "" if
// the provider makes it.
func (k keyring) due(g server.Gossip, brought string, now time.Time) string {
	switch {
	case k.phase != "":
		return ""
	case brought != "" && brought != k.keys[0]:
		return "Secret " + g.KeySecret.Name + " has another key"
	case brought != "":
		return ""
	case g.Rotation.Trigger != "" && k.trigger != "" && g.Rotation.Trigger != k.trigger:
		return "the trigger changed"
	case g.Rotation.After > 0 && now.Sub(k.made) >= g.Rotation.After:
		return "the key is older than " + g.Rotation.After.String()
	}
	return ""
}

// next is what the Secret says next, once all agents have what it says now, and false if nothing is left to do.
func (k keyring) next(g server.Gossip, brought string, now time.Time) (keyring, bool) {
	switch {
	case k.phase == phaseInstall:
		k.keys, k.phase = []string{k.keys[1], k.keys[0]}, phaseRetire
	case k.phase == phaseRetire:
		k.keys, k.phase = k.keys[:1], ""
	case k.due(g, brought, now) != "":
		key := brought
		if key == "" {
			key = newGossipKey()
		}
		k.keys, k.phase, k.trigger, k.made = []string{k.keys[0], key}, phaseInstall, g.Rotation.Trigger, now
	case k.trigger != g.Rotation.Trigger: // only recorded
		k.trigger = g.Rotation.Trigger
	default:
		return k, false
	}
	return k, true
}

// ring is what the agents have (GET /v1/operator/keyring).
type ring struct {
	// nodes is the number of agents that answered.
	nodes int
	// keys and primary are the numbers of agents that have a key installed, and that encrypt with it.
	keys, primary map[string]int
	// problems are what agents answered instead.
	problems []string
}

// ringStep is a step that brings the keys of the agents closer to the desired ones. At most one field is set.
type ringStep struct{ wait, install, use, remove string }

// nextRingStep decides: all keys are installed on all agents, then all agents encrypt with the first one, and
// only then are other keys removed. It only continues while all servers are among the agents.
func nextRingStep(keys []string, r ring, servers int) ringStep {
	switch {
	case len(r.problems) > 0:
		return ringStep{wait: strings.Join(r.problems, ", ")}
	case r.nodes < servers:
		return ringStep{wait: fmt.Sprintf("%d of %d servers answer", r.nodes, servers)}
	}
	for _, k := range keys {
		if r.keys[k] < r.nodes {
			return ringStep{install: k}
		}
	}
	if r.primary[keys[0]] < r.nodes {
		return ringStep{use: keys[0]}
	}
	for k := range r.keys {
		if !slices.Contains(keys, k) {
			return ringStep{remove: k}
		}
	}
	return ringStep{}
}

// EnsureKeyring makes sure that the Secret with the gossip keys exists before a server needs it, and reports
// whether it created it. encrypted says that servers already have keys: if the Secret is missing, it is then
// created from those keys, with a token that has keyring:read. It returns ErrKeyringLost if the servers do not
// list their keys.
func EnsureKeyring(ctx context.Context, c *consul.Cluster, token string, g server.Gossip, encrypted bool) (made bool, err error) {
	if k, _, err := readKeyring(ctx, c); err != nil || len(k.keys) > 0 {
		return false, err
	}
	if encrypted {
		switch r, err := readRing(ctx, c, token); {
		case errors.Is(err, consul.ErrNoServer): // no server has other keys
		case err != nil:
			return false, errors.Join(ErrKeyringLost, err)
		default:
			return writeRing(ctx, c, g, r)
		}
	}
	key, err := readBroughtKey(ctx, c, g)
	if err != nil {
		return false, err
	}
	if key == "" {
		key = newGossipKey()
	}
	_, err = writeKeyring(ctx, c, nil, keyring{keys: []string{key}, trigger: g.Rotation.Trigger, made: time.Now()})
	return err == nil, err
}

// KeepKeyring creates the Secret with the gossip keys from those that other servers have, with a token that has
// keyring:read, and reports whether it created it.
func KeepKeyring(ctx context.Context, c *consul.Cluster, token string, g server.Gossip, other *consul.Cluster) (made bool, err error) {
	if k, _, err := readKeyring(ctx, c); err != nil || len(k.keys) > 0 {
		return false, err
	}
	r, err := readRing(ctx, other, token)
	if err != nil {
		return false, err
	}
	return writeRing(ctx, c, g, r)
}

// writeRing creates the Secret from the keys that agents have.
func writeRing(ctx context.Context, c *consul.Cluster, g server.Gossip, r ring) (made bool, err error) {
	k := keyring{keys: sortedKeys(r), trigger: g.Rotation.Trigger, made: time.Now()}
	if len(k.keys) == 0 {
		return false, ErrKeyringLost
	}
	if len(k.keys) > 1 {
		k.phase = phaseRetire
	}
	_, err = writeKeyring(ctx, c, nil, k)
	return err == nil, err
}

// sortedKeys are the keys of a ring, the one that most agents encrypt with first.
func sortedKeys(r ring) []string {
	var keys []string
	for k := range r.keys {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return r.primary[b] - r.primary[a] })
	return keys
}

// SettleKeyring gives the agents the keys of the Secret, and replaces the key if it is due. It needs
// keyring:write. servers is the number of servers.
func SettleKeyring(ctx context.Context, c *consul.Cluster, token string, g server.Gossip, servers int) error {
	brought, err := readBroughtKey(ctx, c, g)
	if err != nil {
		return err
	}
	for {
		k, s, err := readKeyring(ctx, c)
		if err != nil {
			return err
		}
		if s == nil {
			return ErrKeyringLost
		}
		if err := settleRing(ctx, c, token, k.keys, servers); err != nil {
			return err
		}
		next, ok := k.next(g, brought, time.Now())
		if !ok {
			return nil
		}
		if s, err = writeKeyring(ctx, c, s, next); err != nil {
			return err
		}
		if err := touchPods(ctx, c, s.ResourceVersion); err != nil {
			return err
		}
	}
}

// KeyringDrift lists what is known to be wrong with the gossip keys.
func KeyringDrift(ctx context.Context, c *consul.Cluster, token string, g server.Gossip, servers int) (drift []string) {
	k, s, err := readKeyring(ctx, c)
	if err != nil {
		return []string{err.Error()}
	}
	if s == nil {
		return []string{"Secret " + server.GossipSecretName(c.Name) + " is missing, will be made from the servers' keys"}
	}
	brought, err := readBroughtKey(ctx, c, g)
	if err != nil {
		drift = append(drift, err.Error())
	}
	if reason := k.due(g, brought, time.Now()); reason != "" {
		drift = append(drift, reason+", will rotate")
	}
	if k.phase != "" {
		return append(drift, "the rotation of the key is not complete, will continue")
	}
	r, err := readRing(ctx, c, token)
	if step := nextRingStep(k.keys, r, servers); err == nil && step != (ringStep{}) && step.wait == "" {
		drift = append(drift, "the agents' keys are not those of Secret "+s.Name+", will be set")
	}
	return drift
}

// DeleteKeyring deletes the Secret with the gossip keys, if there is one. It keeps one that does not belong to
// the cluster.
func DeleteKeyring(ctx context.Context, c *consul.Cluster) error {
	return deleteOwnSecret(ctx, c, server.GossipSecretName(c.Name))
}

// readKeyring reads the Secret, nil if it does not exist.
func readKeyring(ctx context.Context, c *consul.Cluster) (keyring, *corev1.Secret, error) {
	s, err := ownSecret(ctx, c, server.GossipSecretName(c.Name))
	if err != nil || s == nil {
		return keyring{}, nil, err
	}
	k := keyring{phase: s.Annotations[annotationPhase], trigger: s.Annotations[annotationTrigger]}
	k.made, err = time.Parse(time.RFC3339, s.Annotations[annotationMade])
	if err != nil {
		k.made = s.CreationTimestamp.Time
	}
	if json.Unmarshal(s.Data[server.KeyringKey], &k.keys) != nil || len(k.keys) == 0 ||
		slices.ContainsFunc(k.keys, func(key string) bool { return CheckGossipKey(key) != nil }) {
		return keyring{}, nil, fmt.Errorf(
			"key %s of Secret %s/%s is not a list of gossip keys: delete the Secret while the servers run, and apply again: the apply then "+
				"creates the Secret from the keys of the servers",
			server.KeyringKey,
			c.Namespace,
			s.Name,
		)
	}
	if len(k.keys) == 1 {
		k.phase = ""
	}
	return k, s, nil
}

// writeKeyring writes the Secret, as it was read.
func writeKeyring(ctx context.Context, c *consul.Cluster, read *corev1.Secret, k keyring) (*corev1.Secret, error) {
	labels := server.OwnerLabels(c.Name)
	labels[server.LabelComponent] = ComponentGossip
	annotations := map[string]*string{annotationMade: new(k.made.UTC().Format(time.RFC3339)), annotationPhase: nil, annotationTrigger: nil}
	if k.phase != "" {
		annotations[annotationPhase] = &k.phase
	}
	if k.trigger != "" {
		annotations[annotationTrigger] = &k.trigger
	}
	list, _ := json.Marshal(k.keys) // strings always encode
	data := map[string][]byte{server.KeyringKey: list, server.PrimaryKey: []byte(k.keys[0])}
	return writeSecret(ctx, c, read, server.GossipSecretName(c.Name), labels, annotations, data)
}

// readBroughtKey reads the key that the user provides, "" if the user provides none.
func readBroughtKey(ctx context.Context, c *consul.Cluster, g server.Gossip) (string, error) {
	if g.KeySecret == nil {
		return "", nil
	}
	at := fmt.Sprintf("key %s of Secret %s/%s (gossip.key_secret)", g.KeySecret.Key, c.Namespace, g.KeySecret.Name)
	s, err := c.Kube.CoreV1().Secrets(c.Namespace).Get(ctx, g.KeySecret.Name, metav1.GetOptions{})
	if err != nil {
		return "", &ReadError{What: at, Err: err}
	}
	key := strings.TrimSpace(string(s.Data[g.KeySecret.Key]))
	if key == "" {
		return "", fmt.Errorf("%s does not exist", at)
	}
	if err := CheckGossipKey(key); err != nil {
		return "", fmt.Errorf("%s: %w", at, err)
	}
	raw, err := base64.StdEncoding.DecodeString(key)
	return base64.StdEncoding.EncodeToString(raw), err // as agents write it
}

// ErrNoBroughtKey says that the Secret of the key that the user provides does not exist.
var ErrNoBroughtKey = errors.New("the Secret does not exist")

// CheckBroughtKey returns an error that says what is wrong with the key that the user provides: ErrNoBroughtKey if there
// is no Secret, which may be created meanwhile, and a *ReadError if it cannot be read.
func CheckBroughtKey(ctx context.Context, c *consul.Cluster, g server.Gossip) error {
	_, err := readBroughtKey(ctx, c, g)
	if apierrors.IsNotFound(err) {
		return ErrNoBroughtKey
	}
	return err
}

// readRing asks all agents of the datacenter which keys they have.
func readRing(ctx context.Context, c *consul.Cluster, token string) (ring, error) {
	r := ring{keys: map[string]int{}, primary: map[string]int{}}
	err := c.Any(ctx, token, func(client *api.Client) error {
		list, err := client.Operator().KeyringList((&api.QueryOptions{}).WithContext(ctx))
		for _, k := range list {
			if k.WAN {
				continue
			}
			r.nodes, r.keys, r.primary = k.NumNodes, k.Keys, k.PrimaryKeys
			for node := range k.Messages { // the message may quote a key
				r.problems = append(r.problems, node+" does not list its keys")
			}
		}
		return err
	})
	slices.Sort(r.problems)
	if err != nil {
		return r, fmt.Errorf("asking the agents of %s for their gossip keys: %w", c.ID(), err)
	}
	return r, nil
}

// settleRing makes all agents have these keys and no others.
func settleRing(ctx context.Context, c *consul.Cluster, token string, keys []string, servers int) error {
	ctx, cancel := context.WithTimeout(ctx, keyringTimeout)
	defer cancel()
	return kube.Wait(ctx, "the gossip keys of all agents", consul.Interval, func(ctx context.Context) (string, error) {
		// The ring counts the agents that answer. A server that is away would keep a key that the others
		// remove.
		if missing, err := consul.Missing(ctx, c, token, servers, 0); err != nil || missing != "" {
			return missing, err
		}
		r, err := readRing(ctx, c, token)
		if consul.IsForbidden(err) {
			return "", err
		}
		if err != nil {
			return err.Error(), nil
		}
		step := nextRingStep(keys, r, servers)
		if step == (ringStep{}) {
			return "", nil
		}
		if step.wait != "" {
			return step.wait, nil
		}
		what, err := doRingStep(ctx, c, token, step)
		if err != nil {
			what += " failed: " + withoutKeys(err.Error(), append(sortedKeys(r), keys...))
		}
		return what, nil
	})
}

// doRingStep carries out a step on all agents, and returns what it is.
func doRingStep(ctx context.Context, c *consul.Cluster, token string, step ringStep) (what string, err error) {
	what = "removing a key"
	switch {
	case step.install != "":
		what = "installing a key"
	case step.use != "":
		what = "encrypting with another key"
	}
	err = c.Any(ctx, token, func(client *api.Client) error {
		o, q := client.Operator(), (&api.WriteOptions{}).WithContext(ctx)
		switch {
		case step.install != "":
			return o.KeyringInstall(step.install, q)
		case step.use != "":
			return o.KeyringUse(step.use, q)
		}
		return o.KeyringRemove(step.remove, q)
	})
	return what, err
}

// withoutKeys removes keys from a text.
func withoutKeys(text string, keys []string) string {
	for _, k := range keys {
		text = strings.ReplaceAll(text, k, "(a key)")
	}
	return text
}

// ClientAgents are the running agents that are not servers of the cluster, by node name.
func ClientAgents(ctx context.Context, c *consul.Cluster) (names []string, err error) {
	token, _, err := consulacl.ManagementToken(ctx, c)
	if err != nil {
		return nil, err
	}
	err = c.Any(ctx, token, func(client *api.Client) error {
		members, err := client.Agent().MembersOpts(api.MembersOpts{})
		names = nil
		for _, m := range members {
			_, ours := server.Ordinal(c.Name, m.Name)
			if m.Status == serfAlive && (!ours || m.Tags["role"] != "consul") {
				names = append(names, m.Name)
			}
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

// serfAlive is the status of a member that runs (github.com/hashicorp/serf, StatusAlive).
const serfAlive = 1
