package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	goversion "github.com/hashicorp/go-version"
)

// agentConfig is agent configuration to render. Its keys keep the order in which they are set
// (developer.hashicorp.com/consul/docs/reference/agent/configuration-file).
type agentConfig struct {
	keys   []string
	values map[string]any
}

// set sets the value at a path, such as "performance.raft_multiplier".
func (c *agentConfig) set(path string, value any) {
	key, rest, isNested := strings.Cut(path, ".")
	if c.values == nil {
		c.values = map[string]any{}
	}
	if _, ok := c.values[key]; !ok {
		c.keys = append(c.keys, key)
	}
	if isNested {
		block, ok := c.values[key].(*agentConfig)
		if !ok {
			block = &agentConfig{}
		}
		block.set(rest, value)
		value = block
	}
	c.values[key] = value
}

// remove removes the value at a path.
func (c *agentConfig) remove(path string) {
	key, rest, isNested := strings.Cut(path, ".")
	if block, ok := c.values[key].(*agentConfig); isNested && ok {
		block.remove(rest)
		return
	}
	delete(c.values, key)
	c.keys = slices.DeleteFunc(c.keys, func(k string) bool { return k == key })
}

// MarshalJSON implements json.Marshaler.
func (c *agentConfig) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, k := range c.keys {
		value, err := json.Marshal(c.values[k])
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", k, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// MinQuorum is how many voters of n servers autopilot must keep: a majority.
func MinQuorum(n int) int { return n/2 + 1 }

// walVersion is the first version of Consul that keeps the Raft log in a write-ahead log and verifies it by
// default.
var walVersion = goversion.Must(goversion.NewVersion("1.20.0"))

// WritesAheadLog reports whether a version of Consul keeps the Raft log of a new server in a write-ahead log.
// Other versions keep it in BoltDB, and cannot read such a log (startScript).
func WritesAheadLog(version string) bool {
	v, err := goversion.NewVersion(version)
	return err == nil && !v.Core().LessThan(walVersion)
}

// choosesLogStore reports whether the configuration chooses the backend of the Raft log, to turn off its verification,
// which Consul turns on wherever it chooses the backend itself. Consul mistakes a part of a large value that begins with
// one of two particular bytes for a checkpoint of the verification. The leader then refuses its own log and steps down,
// each time that the client tries again: a single value of 512 KiB is an outage
// (github.com/hashicorp/consul/issues/23926). The verification only logs that a disk has changed what was written.
// extra_config can turn it on again.
//
// A server with a log in BoltDB keeps it there, whatever the backend is.
func choosesLogStore(s Spec) bool { return WritesAheadLog(s.Version) }

// LogStoreFlags are the same settings as flags, for an agent without a configuration file.
func LogStoreFlags(version string) []string {
	if !WritesAheadLog(version) {
		return nil
	}
	return []string{`-hcl=raft_logstore { backend = "wal" verification { enabled = false } }`}
}

// nodeConfig is the part that differs from server to server.
type nodeConfig struct {
	NodeID          string `json:"node_id"`
	BootstrapExpect int32  `json:"bootstrap_expect,omitempty"`
	// RetryJoin is added to the setting that all servers have. It is not in any digest here, so that the end of
	// an adoption neither restarts nor reloads a server.
	RetryJoin []string `json:"retry_join,omitempty"`
}

// newNodeConfig renders the configuration of one server.
func newNodeConfig(s Spec, ordinal int) nodeConfig {
	c := nodeConfig{NodeID: NodeID(s.Namespace, s.Name, ordinal)}
	// A server that expects a bootstrap and has no data starts a cluster as soon as it sees enough such
	// servers, and at once if it only expects itself. This is for the first start only.
	if !s.Established {
		c.BootstrapExpect = s.Replicas
	}
	if s.Takeover != nil {
		c.RetryJoin = s.Takeover.Join
	}
	return c
}

// versionKey is the path of the configuration's own version.
const versionKey = "node_meta." + MetaConfigVersion

// newAgentConfig renders the configuration that all servers share.
func newAgentConfig(s Spec) *agentConfig { return render(s, func(Setting) bool { return true }) }

// render renders the settings that are included.
func render(s Spec, included func(Setting) bool) *agentConfig {
	c := &agentConfig{}
	for _, setting := range settings() {
		if setting.key == "" || !included(setting) {
			continue
		}
		if v := setting.rendered(s); v != nil {
			c.set(setting.key, v)
		}
	}
	return c
}

// rendered is the value in the agent configuration of a spec, nil if the key is left out.
func (s Setting) rendered(spec Spec) any {
	if s.value != nil {
		return s.value(spec)
	}
	v := s.Get(spec)
	if v == s.missing || s.effect == Write && spec.Established {
		return nil
	}
	if d, ok := v.(time.Duration); ok {
		return d.String()
	}
	return v
}

// needsGRPCTLS reports whether agents with certificates have to serve gRPC in plain text.
func needsGRPCTLS(s Spec) bool {
	ports := extraPorts(s)
	return s.usesTLS() && ports["grpc"] > 0 && ports["grpc_tls"] == 0
}

// clientAddr is where servers listen for clients. If IPv6 is turned off in the kernel, nothing can listen on "::", which
// accepts both, so this has to be declared; in pods that only have IPv6, the start script chooses it.
func clientAddr(s Spec) string {
	if s.Service.usesIPv6() {
		return "::"
	}
	return "0.0.0.0"
}

// configHash is a digest of every setting whose change requires a restart.
func configHash(s Spec) string {
	s.TLS.Stage = restartedTLS(s.TLS.Stage)
	return digest(
		s,
		func(setting Setting) bool { return setting.effect != Reload },
		func(extra map[string]any) { dropReloadable("", extra) },
	)
}

// ConfigVersion is a digest of the whole configuration. Every agent has it in its node metadata, so that it
// reports which configuration it has loaded, at its start or by a later reload.
func ConfigVersion(s Spec) string {
	return digest(s, func(Setting) bool { return true }, func(map[string]any) {})
}

// digest hashes the agent configuration without its own version, and without what Consul only reads at the first
// bootstrap, or not at all.
func digest(s Spec, included func(Setting) bool, change func(extra map[string]any)) string {
	s.Established = true
	if !s.ACL.Enabled {
		s.ACL.DefaultPolicy = ""
	}
	c := render(s, func(setting Setting) bool { return setting.key != versionKey && included(setting) })
	var h bytes.Buffer
	_ = json.NewEncoder(&h).Encode(c) // plain values always encode
	extra := map[string]any{}
	d := json.NewDecoder(strings.NewReader(s.ExtraConfig))
	d.UseNumber()
	if s.ExtraConfig != "" && d.Decode(&extra) != nil {
		h.WriteString(s.ExtraConfig) // not valid: refused earlier
	}
	change(extra)
	_ = json.NewEncoder(&h).Encode(extra) // decoded from JSON
	return shortHash(h.Bytes())
}

func marshalConfig(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // structs and maps of plain fields always encode
	return b.String()
}

// shortHash is enough of a SHA-256 to distinguish two texts of one cluster.
func shortHash(text []byte) string {
	h := sha256.Sum256(text)
	return hex.EncodeToString(h[:8])
}

// compactJSON encodes a struct in one line.
func compactJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func parseDuration(s string) time.Duration {
	d, _ := time.ParseDuration(s) // a value that cannot be parsed shows as a change from 0s
	return d
}
