package server

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Setting is a plain setting of a cluster: a text, a number, a boolean, or a duration. The table of settings drives
// the agent configuration and how it is read back, the keys that extra_config must not set, the effect of a change,
// and the defaults.
type Setting struct {
	// Name is the path of the attribute, such as "performance.raft_multiplier". It is "" for a key without an attribute,
	// whose value the provider decides on.
	Name string
	// key is the path in the agent configuration, "" if no agent reads the setting under one key. aliases are other keys
	// that Consul takes for the same setting, such as deprecated ones.
	key     string
	aliases []string
	// field is the place of the value in a Spec, with the default.
	field field
	// missing is the value for which the key is left out. nil always renders the key.
	missing any
	// effect is what a change does. Reload leaves the key out of the digest whose change restarts the servers. Write,
	// for a setting with a key, says that Consul only reads it at the first bootstrap: the key is left out from then
	// on, and the value is read from an annotation of the StatefulSet. Restart does not say how: servers restart in place
	// unless the change also changes podHash.
	effect Effect
	// idle reports whether nothing uses the setting, nil for never. A change then only writes objects.
	idle func(Spec) bool

	// value is what the provider decides on, nil to leave the key out. reason is why extra_config must not set the key,
	// "" if it may, or if ownedKeys has the block.
	value  func(Spec) any
	reason string
}

// field is one field of a Spec. Its values are of the type string, bool, int64, or time.Duration.
type field struct {
	def any
	get func(s *Spec) any
	set func(s *Spec, v any)
}

func plainField[T string | bool | time.Duration](def T, at func(*Spec) *T) field {
	return field{def, func(s *Spec) any { return *at(s) }, func(s *Spec, v any) { *at(s), _ = v.(T) }}
}

func textField(def string, at func(*Spec) *string) field { return plainField(def, at) }
func boolField(def bool, at func(*Spec) *bool) field     { return plainField(def, at) }
func durationField(def time.Duration, at func(*Spec) *time.Duration) field {
	return plainField(def, at)
}

func numberField[T int | int32 | int64 | uint64](def T, at func(*Spec) *T) field {
	return field{
		int64(def),
		func(s *Spec) any { return int64(*at(s)) },
		func(s *Spec, v any) { n, _ := v.(int64); *at(s) = T(n) },
	}
}

// stageField says whether encryption has reached its last stage. It is off by default.
func stageField(at func(*Spec) *Stage) field {
	return field{
		false,
		func(s *Spec) any { return *at(s) == StageEncrypted },
		func(s *Spec, v any) {
			*at(s) = StagePlain
			if v == true {
				*at(s) = StageEncrypted
			}
		},
	}
}

// decided is a key whose value the provider decides on.
func decided(key, reason string, value func(Spec) any) Setting {
	return Setting{key: key, reason: reason, value: value}
}

// fixed is a value that never changes.
func fixed(v any) func(Spec) any { return func(Spec) any { return v } }

// when is a value that is left out if the condition does not hold.
func when(condition func(Spec) bool, value func(Spec) any) func(Spec) any {
	return func(s Spec) any {
		if !condition(s) {
			return nil
		}
		return value(s)
	}
}

// settings is the table of settings.
func settings() []Setting {
	return slices.Concat(agentSettings(), encryptionSettings(), aclSettings(), objectSettings())
}

// Settings lists the settings that have an attribute.
func Settings() []Setting {
	return slices.DeleteFunc(settings(), func(s Setting) bool { return s.Name == "" })
}

// SettingOf returns the setting of the attribute with a path. It panics if there is none: paths are constants.
func SettingOf(attribute string) Setting {
	all := settings()
	i := slices.IndexFunc(all, func(s Setting) bool { return s.Name == attribute })
	if attribute == "" || i < 0 {
		panic(fmt.Sprintf("%q is not the attribute of a plain setting", attribute))
	}
	return all[i]
}

// Default is of the type string, bool, int64, or time.Duration, as are all values of the setting.
func (s Setting) Default() any { return s.field.def }

// Get returns the value in a spec.
func (s Setting) Get(spec Spec) any { return s.field.get(&spec) }

// Set sets the value in a spec.
func (s Setting) Set(spec *Spec, value any) { s.field.set(spec, value) }

// Default is a Spec in which every setting has its default.
func Default() Spec {
	s := Spec{
		Storage: Storage{Size: resource.MustParse("10Gi")},
		Resources: Resources{
			Requests: map[string]resource.Quantity{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("1Gi")},
		},
	}
	for _, setting := range Settings() {
		setting.Set(&s, setting.Default())
	}
	return s
}

// agentSettings are what agents read, in the order of their configuration.
func agentSettings() []Setting {
	bootstraps := func(s Spec) bool { return !s.Established }
	return []Setting{
		decided("server", reserved, fixed(true)),
		{
			Name: "datacenter", key: "datacenter", effect: Restart,
			field: textField("dc1", func(s *Spec) *string { return &s.Datacenter }),
		},
		{
			Name: "domain", key: "domain", effect: Restart,
			field: textField("consul", func(s *Spec) *string { return &s.Domain }),
		},
		decided("data_dir", attribute("storage"), fixed(dataDir)),
		decided("bind_addr", reserved, fixed("0.0.0.0")),
		decided("client_addr", reserved, func(s Spec) any { return clientAddr(s) }),
		// DNS of the headless Service, which publishes pods that are not ready: cloud auto-join lists ready pods only,
		// and no server is ready before there is a leader.
		decided("retry_join", reserved, func(s Spec) any {
			return []string{fmt.Sprintf("%s.%s.svc:%d", StatefulSetName(s.Name), s.Namespace, PortSerfLAN)}
		}),
		// The default of 30s makes a server that starts before DNS answers wait that long.
		decided("retry_interval", reserved, fixed("1s")),
		// A single datacenter does not need the pool of all datacenters. A server that stops would first leave it, which
		// takes four seconds.
		decided("ports.serf_wan", federated, fixed(-1)),
		decided("ports.https", attribute("tls.https_port"), when(Spec.usesTLS, func(s Spec) any { return s.TLS.HTTPSPort })),
		// Agents with certificates refuse to serve gRPC in plain text if the port over TLS is their default
		// (agent/config/builder.go of Consul).
		decided("ports.grpc_tls", "", when(needsGRPCTLS, fixed(portGRPC))),
		decided("addresses.http", "", when(func(s Spec) bool { return s.TLS.onlyHTTPS() }, fixed(loopback))),
		// A server whose pod is deleted leaves the Raft peers: its replacement has another address and joins as a new peer at
		// once. One that restarts in place is killed, and stays a peer.
		decided("leave_on_terminate", reserved, fixed(true)),
		// By default, a server that was away for longer than a week refuses to start. Its old data does no harm: Raft
		// brings the server up to date before it counts.
		decided("server_rejoin_age_max", "", rejoinAgeMax),
		// Do not contact HashiCorp.
		decided("disable_update_check", reserved, fixed(true)),
		decided(versionKey, "", func(s Spec) any { return ConfigVersion(s) }),
		// Consul's defaults (agent/config/default.go), except for the stabilization time: autopilot looks for servers to
		// promote every ten seconds, so with Consul's ten more a restart with a new pod takes ten seconds longer.
		{
			Name: "autopilot.cleanup_dead_servers", key: "autopilot.cleanup_dead_servers", effect: Write,
			field: boolField(true, func(s *Spec) *bool { return &s.Autopilot.CleanupDeadServers }),
		},
		{
			Name: "autopilot.last_contact_threshold", key: "autopilot.last_contact_threshold", effect: Write,
			field: durationField(200*time.Millisecond, func(s *Spec) *time.Duration { return &s.Autopilot.LastContactThreshold }),
		},
		{
			Name: "autopilot.max_trailing_logs", key: "autopilot.max_trailing_logs", effect: Write,
			field: numberField(250, func(s *Spec) *uint64 { return &s.Autopilot.MaxTrailingLogs }),
		},
		decided("autopilot.min_quorum", "", when(bootstraps, func(s Spec) any { return MinQuorum(int(s.Replicas)) })),
		{
			Name: "autopilot.server_stabilization_time", key: "autopilot.server_stabilization_time", effect: Write,
			field: durationField(time.Second, func(s *Spec) *time.Duration { return &s.Autopilot.ServerStabilizationTime }),
		},
		decided("autopilot.disable_upgrade_migration", "", when(bootstraps, fixed(true))),
		{
			Name: "performance.raft_multiplier", key: "performance.raft_multiplier", effect: Restart,
			field: numberField(1, func(s *Spec) *int64 { return &s.Performance.RaftMultiplier }),
		},
		{
			Name: "performance.leave_drain_time", key: "performance.leave_drain_time", effect: Restart,
			field: durationField(0, func(s *Spec) *time.Duration { return &s.Performance.LeaveDrainTime }),
		},
		{
			Name: "performance.rpc_hold_timeout", key: "performance.rpc_hold_timeout", effect: Restart,
			field: durationField(7*time.Second, func(s *Spec) *time.Duration { return &s.Performance.RPCHoldTimeout }),
		},
		decided("raft_logstore.backend", reserved, when(choosesLogStore, fixed("wal"))),
		decided("raft_logstore.verification.enabled", "", when(choosesLogStore, fixed(false))),
		{
			Name: "telemetry.prometheus_retention_time", key: "telemetry.prometheus_retention_time", effect: Restart,
			field:   durationField(time.Minute, func(s *Spec) *time.Duration { return &s.Telemetry.PrometheusRetentionTime }),
			missing: time.Duration(0),
		},
		decided("telemetry.disable_hostname", "",
			when(func(s Spec) bool { return s.Telemetry.PrometheusRetentionTime > 0 }, fixed(true))),
		{
			Name: "ui", key: "ui_config.enabled", aliases: []string{"ui"}, effect: Restart,
			field: boolField(true, func(s *Spec) *bool { return &s.UI }),
		},
	}
}

// encryptionSettings are what agents read about encryption, and the settings of which certificates the servers get. The
// StatefulSet stores them, because only the last stages have them in the configuration.
func encryptionSettings() []Setting {
	encrypts := func(s Spec) bool { return s.Gossip.Stage != StagePlain }
	hasNoKey, hasNoCertificate := func(s Spec) bool { return !encrypts(s) }, func(s Spec) bool { return !s.usesTLS() }
	return []Setting{
		// Agents have the keys in a file of their own (startScript).
		decided("encrypt_verify_incoming", attribute("gossip.enabled"),
			when(encrypts, func(s Spec) any { return s.Gossip.Stage >= StageEncrypted })),
		decided("encrypt_verify_outgoing", attribute("gossip.enabled"),
			when(encrypts, func(s Spec) any { return s.Gossip.Stage >= StageSend })),
		{
			Name: "gossip.enabled", effect: Restart,
			field: stageField(func(s *Spec) *Stage { return &s.Gossip.Stage }),
		},
		{
			Name: "gossip.rotation.trigger", effect: Rotate, idle: hasNoKey,
			field: textField("", func(s *Spec) *string { return &s.Gossip.Rotation.Trigger }),
		},

		decided("tls.defaults.ca_file", "", when(Spec.usesTLS, fixed(tlsDir+"/"+TLSCAKey))),
		decided("tls.defaults.cert_file", "", when(Spec.usesTLS, fixed(tlsDir+"/"+TLSCertKey))),
		decided("tls.defaults.key_file", "", when(Spec.usesTLS, fixed(tlsDir+"/"+TLSKeyKey))),
		decided("tls.defaults.tls_min_version", "", when(Spec.usesTLS, func(s Spec) any { return s.TLS.MinVersion })),
		decided("tls.https.verify_incoming", "",
			when(func(s Spec) bool { return s.usesTLS() && s.TLS.VerifyClients }, fixed(true))),
		decided("tls.internal_rpc.verify_incoming", "", when(Spec.usesTLS, func(s Spec) any { return s.TLS.Stage >= StageEncrypted })),
		decided("tls.internal_rpc.verify_outgoing", "", when(Spec.usesTLS, func(s Spec) any { return s.TLS.Stage >= StageSend })),
		decided("tls.internal_rpc.verify_server_hostname", "", when(Spec.usesTLS, func(s Spec) any { return s.TLS.Stage >= StageSend })),
		{
			Name: "tls.enabled", effect: Restart,
			field: stageField(func(s *Spec) *Stage { return &s.TLS.Stage }),
		},
		{
			Name: "tls.https_only", effect: Restart, idle: hasNoCertificate,
			field: boolField(false, func(s *Spec) *bool { return &s.TLS.HTTPSOnly }),
		},
		{ // the port in Consul's documentation
			Name: "tls.https_port", effect: Restart, idle: hasNoCertificate,
			field: numberField(8501, func(s *Spec) *int { return &s.TLS.HTTPSPort }),
		},
		{
			Name: "tls.min_version", aliases: []string{"tls_min_version", "tls_cipher_suites", "tls_prefer_server_cipher_suites"},
			effect: Restart, idle: hasNoCertificate,
			field: textField(TLS12, func(s *Spec) *string { return &s.TLS.MinVersion }),
		},
		{
			Name: "tls.verify_clients", aliases: []string{"verify_incoming_https"}, effect: Restart, idle: hasNoCertificate,
			field: boolField(false, func(s *Spec) *bool { return &s.TLS.VerifyClients }),
		},
		{
			Name: "tls.certificate_secret", effect: Rotate, idle: hasNoCertificate,
			field: textField("", func(s *Spec) *string { return &s.TLS.CertificateSecret }),
		},
		{
			Name: "tls.ca_secret", effect: Rotate, idle: hasNoCertificate,
			field: textField("", func(s *Spec) *string { return &s.TLS.CASecret }),
		},
		{
			Name: "tls.ca_trigger", effect: Rotate, idle: hasNoCertificate,
			field: textField("", func(s *Spec) *string { return &s.TLS.CATrigger }),
		},
		{
			Name: "tls.key_algorithm", effect: Rotate, idle: hasNoCertificate,
			field: textField("ECDSA-P256", func(s *Spec) *string { return &s.TLS.KeyAlgorithm }),
		},
		{
			Name: "tls.ca_validity", effect: Write,
			field: durationField(10*365*24*time.Hour, func(s *Spec) *time.Duration { return &s.TLS.CAValidity }),
		},
		{
			Name: "tls.validity", effect: Write,
			field: durationField(defaultValidity, func(s *Spec) *time.Duration { return &s.TLS.Validity }),
		},
		{
			Name: "tls.renew_before", effect: Write,
			field: durationField(defaultValidity/100*DefaultRenewBeforePercent, func(s *Spec) *time.Duration { return &s.TLS.RenewBefore }),
		},
	}
}

// DefaultRenewBeforePercent is the default of tls.renew_before as a percentage of tls.validity.
const DefaultRenewBeforePercent = 25

const defaultValidity = 365 * 24 * time.Hour

func aclSettings() []Setting {
	enabled := func(s Spec) bool { return s.ACL.Enabled }
	return []Setting{
		{
			Name: "acl.enabled", key: "acl.enabled", effect: Restart,
			field: boolField(false, func(s *Spec) *bool { return &s.ACL.Enabled }),
		},
		{
			Name: "acl.default_policy", key: "acl.default_policy", aliases: []string{"acl_default_policy"},
			effect: Restart, idle: func(s Spec) bool { return !s.ACL.Enabled },
			field: textField("deny", func(s *Spec) *string { return &s.ACL.DefaultPolicy }),
		},
		decided("acl.down_policy", "", when(enabled, fixed("extend-cache"))),
		// Agent tokens are set through the API and must survive a restart.
		decided("acl.enable_token_persistence", reserved, func(s Spec) any { return s.ACL.Enabled }),
	}
}

// objectSettings are what no agent reads.
func objectSettings() []Setting {
	text := func(name string, effect Effect, def string, at func(*Spec) *string) Setting {
		return Setting{Name: name, effect: effect, field: textField(def, at)}
	}
	yes := func(name string, effect Effect, def bool, at func(*Spec) *bool) Setting {
		return Setting{Name: name, effect: effect, field: boolField(def, at)}
	}
	return []Setting{
		text("version", Restart, "", func(s *Spec) *string { return &s.Version }),
		text("image", Restart, "", func(s *Spec) *string { return &s.Image }),
		{
			Name: "replicas", aliases: []string{"bootstrap", "bootstrap_expect"}, effect: Scale,
			field: numberField(3, func(s *Spec) *int32 { return &s.Replicas }),
		},
		yes("create_namespace", Write, false, func(s *Spec) *bool { return &s.CreateNamespace }),
		yes("deletion_protection", Write, true, func(s *Spec) *bool { return &s.DeletionProtection }),

		text("storage.on_change", Write, GrowVolumes, func(s *Spec) *string { return &s.Storage.OnChange }),
		text("storage.retention.when_deleted", Write, Retain, func(s *Spec) *string { return &s.Storage.WhenDeleted }),
		text("storage.retention.when_scaled", Write, Retain, func(s *Spec) *string { return &s.Storage.WhenScaled }),
		text("placement.anti_affinity", Restart, AntiAffinityRequired, func(s *Spec) *string { return &s.Placement.AntiAffinity }),
		text("placement.priority_class", Restart, "", func(s *Spec) *string { return &s.Placement.PriorityClass }),
		{
			Name: "share_process_namespace", effect: Restart,
			field: field{
				true,
				func(s *Spec) any { return !s.Pod.Separate },
				func(s *Spec, v any) { s.Pod.Separate = v != true },
			},
		},

		text("update.strategy", Write, Rolling, func(s *Spec) *string { return &s.Update.Strategy }),
		{Name: "update.pause_after", effect: Write, field: numberField(0, func(s *Spec) *int64 { return &s.Update.PauseAfter })},
		text("update.on_failure", Write, Hold, func(s *Spec) *string { return &s.Update.OnFailure }),
		yes("update.snapshot_before", Write, true, func(s *Spec) *bool { return &s.Update.SnapshotBefore }),
		text("update.snapshot_to.repository.url", Write, "", func(s *Spec) *string { return &s.Update.SnapshotTo.URL }),
		text("update.snapshot_to.repository.volume_claim", Write, "", func(s *Spec) *string { return &s.Update.SnapshotTo.Claim }),
		text("update.snapshot_to.repository.credentials_secret", Write, "", func(s *Spec) *string { return &s.Update.SnapshotTo.Secret }),
		text("update.snapshot_to.repository.service_account.name", Write, "",
			func(s *Spec) *string { return &s.Update.SnapshotTo.ServiceAccount }),
		text("update.snapshot_to.repository.service_account.token_audience", Write, "",
			func(s *Spec) *string { return &s.Update.SnapshotTo.TokenAudience }),
		text("update.snapshot_to.repository.options", Write, "", func(s *Spec) *string { return &s.Update.SnapshotTo.Options }),
		text("update.snapshot_to.image", Write, "", func(s *Spec) *string { return &s.Update.SnapshotTo.Image }),
		{
			Name: "update.server_timeout", effect: Write,
			field: durationField(10*time.Minute, func(s *Spec) *time.Duration { return &s.Update.ServerTimeout }),
		},

		text("service.type", Write, string(corev1.ServiceTypeClusterIP), func(s *Spec) *string { return &s.Service.Type }),
		text("service.load_balancer_class", Write, "", func(s *Spec) *string { return &s.Service.LoadBalancerClass }),
		text("service.cluster_ip", Write, "", func(s *Spec) *string { return &s.Service.ClusterIP }),
		text("service.ip_family_policy", Write, "", func(s *Spec) *string { return &s.Service.IPFamilyPolicy }),
		text("service.external_traffic_policy", Write, "", func(s *Spec) *string { return &s.Service.ExternalTrafficPolicy }),
	}
}
