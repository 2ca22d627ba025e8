package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	goversion "github.com/hashicorp/go-version"
)

// agentConfig is the part of Consul's agent configuration that the provider
// owns (developer.hashicorp.com/consul/docs/reference/agent/configuration-file).
type agentConfig struct {
	Server             bool            `json:"server"`
	Datacenter         string          `json:"datacenter"`
	Domain             string          `json:"domain"`
	DataDir            string          `json:"data_dir"`
	BindAddr           string          `json:"bind_addr"`
	ClientAddr         string          `json:"client_addr"`
	RetryJoin          []string        `json:"retry_join"`
	RetryInterval      string          `json:"retry_interval"`
	Ports              portsBlock      `json:"ports"`
	Addresses          *addressesBlock `json:"addresses,omitempty"`
	LeaveOnTerminate   bool            `json:"leave_on_terminate"`
	ServerRejoinAgeMax string          `json:"server_rejoin_age_max,omitempty"`
	DisableUpdateCheck bool            `json:"disable_update_check"`
	// NodeMeta shows which configuration an agent has loaded (ConfigVersion).
	NodeMeta     map[string]string  `json:"node_meta,omitempty"`
	Autopilot    *autopilotConfig   `json:"autopilot,omitempty"`
	Performance  performanceBlock   `json:"performance"`
	RaftLogStore *raftLogStoreBlock `json:"raft_logstore,omitempty"`
	Telemetry    *telemetryBlock    `json:"telemetry,omitempty"`
	UI           uiBlock            `json:"ui_config"`
	// Agents have the keys in a file of their own (startScript).
	EncryptVerifyIncoming *bool      `json:"encrypt_verify_incoming,omitempty"`
	EncryptVerifyOutgoing *bool      `json:"encrypt_verify_outgoing,omitempty"`
	TLS                   *tlsConfig `json:"tls,omitempty"`
	ACL                   aclBlock   `json:"acl"`
}

type portsBlock struct {
	SerfWAN int `json:"serf_wan"`
	HTTPS   int `json:"https,omitempty"`
	GRPCTLS int `json:"grpc_tls,omitempty"`
}

type addressesBlock struct {
	HTTP string `json:"http"`
}

type autopilotConfig struct {
	CleanupDeadServers      bool   `json:"cleanup_dead_servers"`
	LastContactThreshold    string `json:"last_contact_threshold"`
	MaxTrailingLogs         uint64 `json:"max_trailing_logs"`
	MinQuorum               int32  `json:"min_quorum"`
	ServerStabilizationTime string `json:"server_stabilization_time"`
	DisableUpgradeMigration bool   `json:"disable_upgrade_migration"`
}

// MinQuorum is how many voters of n servers autopilot must keep: a majority.
func MinQuorum(n int) int { return n/2 + 1 }

type performanceBlock struct {
	RaftMultiplier int64  `json:"raft_multiplier"`
	LeaveDrainTime string `json:"leave_drain_time"`
	RPCHoldTimeout string `json:"rpc_hold_timeout"`
}

type raftLogStoreBlock struct {
	Backend      string            `json:"backend"`
	Verification verificationBlock `json:"verification"`
}

type verificationBlock struct {
	Enabled bool `json:"enabled"`
}

// walVersion is the first version of Consul that keeps the Raft log in a write-ahead log and verifies it by
// default.
var walVersion = goversion.Must(goversion.NewVersion("1.20.0"))

// WritesAheadLog reports whether a version of Consul keeps the Raft log of a new server in a write-ahead log.
// Other versions keep it in BoltDB, and cannot read such a log (startScript).
func WritesAheadLog(version string) bool {
	v, err := goversion.NewVersion(version)
	return err == nil && !v.Core().LessThan(walVersion)
}

// newRaftLogStore turns off the verification of the Raft log, which Consul turns on wherever it chooses the
// backend itself. Consul mistakes a part of a large value that begins with one of two particular bytes for a
// checkpoint of the verification. The leader then refuses its own log and steps down, each time that the client
// tries again: a single value of 512 KiB is an outage (github.com/hashicorp/consul/issues/23926). The
// verification only logs that a disk has changed what was written. extra_config can turn it on again.
//
// A server with a log in BoltDB keeps it there, whatever the backend is.
func newRaftLogStore(version string) *raftLogStoreBlock {
	if !WritesAheadLog(version) {
		return nil
	}
	return &raftLogStoreBlock{Backend: "wal"}
}

// LogStoreFlags are the same settings as flags, for an agent without a configuration file.
func LogStoreFlags(version string) []string {
	if newRaftLogStore(version) == nil {
		return nil
	}
	return []string{`-hcl=raft_logstore { backend = "wal" verification { enabled = false } }`}
}

type telemetryBlock struct {
	PrometheusRetentionTime string `json:"prometheus_retention_time"`
	DisableHostname         bool   `json:"disable_hostname"`
}

type uiBlock struct {
	Enabled bool `json:"enabled"`
}

type aclBlock struct {
	Enabled                bool   `json:"enabled"`
	DefaultPolicy          string `json:"default_policy"`
	DownPolicy             string `json:"down_policy,omitempty"`
	EnableTokenPersistence bool   `json:"enable_token_persistence"`
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

// newAgentConfig renders the configuration that all servers share.
func newAgentConfig(s Spec) agentConfig {
	c := sharedConfig(s)
	c.NodeMeta = map[string]string{MetaConfigVersion: ConfigVersion(s)}
	return c
}

// sharedConfig is the configuration without its own version.
func sharedConfig(s Spec) agentConfig {
	c := agentConfig{
		Server:     true,
		Datacenter: s.Datacenter,
		Domain:     s.Domain,
		DataDir:    dataDir,
		BindAddr:   "0.0.0.0",
		ClientAddr: clientAddr(s),
		// DNS of the headless Service, which publishes pods that are not ready:
		// cloud auto-join lists ready pods only, and no server is ready before
		// there is a leader.
		RetryJoin: []string{fmt.Sprintf("%s.%s.svc:%d", StatefulSetName(s.Name), s.Namespace, PortSerfLAN)},
		// The default of 30s makes a server that starts before DNS answers wait that long.
		RetryInterval: "1s",
		// A single datacenter does not need the pool of all datacenters. A server that stops would first leave
		// it, which takes four seconds.
		Ports: portsBlock{SerfWAN: -1},
		// A server that stops leaves the Raft peers: its replacement has another
		// address and joins as a new peer at once.
		LeaveOnTerminate: true,
		// By default, a server that was away for longer than a week refuses to start. Its old data does no
		// harm: Raft brings the server up to date before it counts.
		ServerRejoinAgeMax: rejoinAgeMax(s.Version),
		// Do not contact HashiCorp.
		DisableUpdateCheck: true,
		Performance: performanceBlock{
			RaftMultiplier: s.Performance.RaftMultiplier,
			LeaveDrainTime: s.Performance.LeaveDrainTime.String(),
			RPCHoldTimeout: s.Performance.RPCHoldTimeout.String(),
		},
		RaftLogStore: newRaftLogStore(s.Version),
		UI:           uiBlock{Enabled: s.UI},
		ACL:          aclBlock{Enabled: s.ACL.Enabled, DefaultPolicy: s.ACL.DefaultPolicy},
	}
	if !s.Established {
		// Consul only reads this at the first bootstrap, and keeps it in Raft.
		c.Autopilot = &autopilotConfig{
			CleanupDeadServers:      s.Autopilot.CleanupDeadServers,
			LastContactThreshold:    s.Autopilot.LastContactThreshold.String(),
			MaxTrailingLogs:         s.Autopilot.MaxTrailingLogs,
			MinQuorum:               int32(MinQuorum(int(s.Replicas))), //nolint:gosec // at most 4
			ServerStabilizationTime: s.Autopilot.ServerStabilizationTime.String(),
			DisableUpgradeMigration: true,
		}
	}
	if s.ACL.Enabled {
		c.ACL.DownPolicy = "extend-cache"
		// Agent tokens are set through the API and must survive a restart.
		c.ACL.EnableTokenPersistence = true
	}
	c.setGossip(s.Gossip.Stage)
	c.setTLS(s.TLS)
	if ports := extraPorts(s); s.TLS.Stage != StagePlain && ports["grpc"] > 0 && ports["grpc_tls"] == 0 {
		// Agents with certificates refuse to serve gRPC in plain text if the port over TLS is their default
		// (agent/config/builder.go of Consul).
		c.Ports.GRPCTLS = portGRPC
	}
	if s.Telemetry.PrometheusRetentionTime > 0 {
		c.Telemetry = &telemetryBlock{
			PrometheusRetentionTime: s.Telemetry.PrometheusRetentionTime.String(),
			DisableHostname:         true,
		}
	}
	return c
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
	return digest(s, func(extra map[string]any) { dropReloadable("", extra) })
}

// ConfigVersion is a digest of the whole configuration. Every agent has it in its node metadata, so that it
// reports which configuration it has loaded, at its start or by a later reload.
func ConfigVersion(s Spec) string { return digest(s, func(map[string]any) {}) }

// digest hashes the agent configuration without what Consul only reads at the first bootstrap, or not at all.
func digest(s Spec, change func(extra map[string]any)) string {
	c := sharedConfig(s)
	c.Autopilot = nil
	if !c.ACL.Enabled {
		c.ACL.DefaultPolicy = ""
	}
	var h bytes.Buffer
	_ = json.NewEncoder(&h).Encode(c) // a struct of plain fields always encodes
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
