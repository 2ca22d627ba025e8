package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Effect is what it takes to change a setting.
type Effect string

// Effects, from the least to the most.
const (
	// Write changes objects in Kubernetes and touches no server.
	Write Effect = "write"
	// Reload makes each running server reload its configuration, one at a time.
	Reload Effect = "reload"
	// Scale adds or removes servers, one at a time.
	Scale Effect = "scale"
	// Resize makes the volumes grow in place.
	Resize Effect = "resize"
	// Rebuild gives each server a new volume, one at a time.
	Rebuild Effect = "rebuild"
	// Restart creates every pod again, one at a time.
	Restart Effect = "restart"
	// Rotate replaces a key or a certificate while the servers run.
	Rotate Effect = "rotate"
)

// Change is a setting that differs between two specs.
type Change struct {
	// Setting is the path of the attribute, such as "resources.requests.cpu".
	Setting string
	// Before and After are the values as text, "" if the setting has no value.
	Before, After string
	Effect        Effect
}

// String says what changes and how.
func (c Change) String() string {
	text := func(s string) string {
		if s == "" {
			return "(none)"
		}
		return s
	}
	return fmt.Sprintf("%s: %s -> %s (%s)", c.Setting, text(c.Before), text(c.After), c.Effect)
}

// Changes lists the settings that differ between two specs of one cluster, in
// alphabetical order.
func Changes(before, after Spec) []Change {
	b, a := settings(before), settings(after)
	// An image that follows the version is not a change of its own.
	if before.Version != after.Version && strings.ReplaceAll(before.Image, before.Version, after.Version) == after.Image {
		delete(b, "image")
		delete(a, "image")
	}
	all := merged(b, a)
	var out []Change
	for _, n := range slices.Sorted(maps.Keys(all)) {
		effect := all[n].effect
		if n == "storage.class" && a[n].value == "" {
			effect = Write // volumes keep their class
		}
		isTrigger := n == "gossip.rotation.trigger" || n == "tls.ca_trigger"
		if effect == Rotate && strings.HasPrefix(n, "gossip.") && a[n].value == "" || isTrigger && (a[n].value == "" || b[n].value == "") {
			effect = Write // the first trigger is only recorded, and the key stays
		}
		listens := n == "service.ip_families" || n == "service.ip_family_policy"
		if listens && before.Service.usesIPv6() != after.Service.usesIPv6() {
			effect = Restart // servers listen on other addresses
		}
		if n == "extra_config.limits.request_limits.mode" && enforcesLimits(before) != enforcesLimits(after) {
			effect = Restart // their probes change
		}
		if b[n].value != a[n].value {
			out = append(out, Change{Setting: n, Before: b[n].value, After: a[n].value, Effect: effect})
		}
	}
	return out
}

// setting is the value of an attribute as text, and the effect of a change.
type setting struct {
	value  string
	effect Effect
}

// settings lists every setting of a spec that has a value, by the path of its
// attribute.
func settings(s Spec) map[string]setting { //nolint:funlen // a line for each setting
	m := map[string]setting{}
	set := func(effect Effect, name string, value any) {
		if text := fmt.Sprint(value); text != "" {
			m[name] = setting{text, effect}
		}
	}
	set(Restart, "version", s.Version)
	set(Restart, "image", s.Image)
	set(Scale, "replicas", s.Replicas)
	set(Restart, "datacenter", s.Datacenter)
	set(Restart, "domain", s.Domain)
	set(Restart, "ui", s.UI)
	set(Write, "create_namespace", s.CreateNamespace)
	set(Write, "deletion_protection", s.DeletionProtection)

	volumes := Resize
	if s.Storage.OnChange == RebuildServers {
		volumes = Rebuild
	}
	set(volumes, "storage.size", &s.Storage.Size)
	set(volumes, "storage.class", s.Storage.Class)
	if s.Storage.NoClass {
		set(volumes, "storage.class", `""`)
	}
	set(Write, "storage.on_change", s.Storage.OnChange)
	set(Write, "storage.retention.when_deleted", s.Storage.WhenDeleted)
	set(Write, "storage.retention.when_scaled", s.Storage.WhenScaled)
	for k, q := range s.Resources.Requests {
		set(Restart, "resources.requests."+k, &q)
	}
	for k, q := range s.Resources.Limits {
		set(Restart, "resources.limits."+k, &q)
	}

	for name, id := range map[string]*int64{
		"run_as_user": s.Pod.Effective().User, "run_as_group": s.Pod.Effective().Group, "fs_group": s.Pod.Effective().FSGroup,
	} {
		if id != nil {
			set(Restart, "security_context."+name, *id)
		}
	}
	set(Restart, "share_process_namespace", !s.Pod.Separate)
	set(Restart, "image_pull_secrets", list(s.Pod.PullSecrets))
	for k, v := range s.ServiceAccountAnnotations {
		set(Write, "service_account.annotations."+k, v)
	}
	var extraPod map[string]any
	if json.Unmarshal([]byte(s.Pod.Extra), &extraPod) == nil {
		leaves("", extraPod, func(path string, value any) { set(Restart, "extra_pod."+path, list(value)) })
	}
	set(Restart, "placement.anti_affinity", s.Placement.AntiAffinity)
	set(Restart, "placement.priority_class", s.Placement.PriorityClass)
	set(Restart, "placement.topology_spread", list(s.Placement.TopologySpread))
	set(Restart, "placement.tolerations", list(s.Placement.Tolerations))
	for k, v := range s.Placement.NodeSelector {
		set(Restart, "placement.node_selector."+k, v)
	}

	set(Write, "autopilot.cleanup_dead_servers", s.Autopilot.CleanupDeadServers)
	set(Write, "autopilot.last_contact_threshold", s.Autopilot.LastContactThreshold)
	set(Write, "autopilot.max_trailing_logs", s.Autopilot.MaxTrailingLogs)
	set(Write, "autopilot.server_stabilization_time", s.Autopilot.ServerStabilizationTime)
	set(Write, "update.strategy", s.Update.Strategy)
	set(Write, "update.pause_after", s.Update.PauseAfter)
	set(Write, "update.on_failure", s.Update.OnFailure)
	set(Write, "update.snapshot_before", s.Update.SnapshotBefore)
	set(Write, "update.snapshot_to.repository.url", s.Update.SnapshotTo.URL)
	set(Write, "update.snapshot_to.repository.volume_claim", s.Update.SnapshotTo.Claim)
	set(Write, "update.snapshot_to.repository.credentials_secret", s.Update.SnapshotTo.Secret)
	set(Write, "update.snapshot_to.repository.service_account.name", s.Update.SnapshotTo.ServiceAccount)
	set(Write, "update.snapshot_to.repository.service_account.token_audience", s.Update.SnapshotTo.TokenAudience)
	set(Write, "update.snapshot_to.repository.options", s.Update.SnapshotTo.Options)
	set(Write, "update.snapshot_to.image", s.Update.SnapshotTo.Image)
	set(Write, "update.server_timeout", s.Update.ServerTimeout)
	if r := s.Jobs.Resources; r != nil {
		for k, q := range r.Requests {
			set(Write, "jobs.resources.requests."+k, &q)
		}
		for k, q := range r.Limits {
			set(Write, "jobs.resources.limits."+k, &q)
		}
	}
	for k, v := range s.Jobs.PodLabels {
		set(Write, "jobs.pod_labels."+k, v)
	}
	for k, v := range s.Jobs.PodAnnotations {
		set(Write, "jobs.pod_annotations."+k, v)
	}

	set(Restart, "performance.raft_multiplier", s.Performance.RaftMultiplier)
	set(Restart, "performance.leave_drain_time", s.Performance.LeaveDrainTime)
	set(Restart, "performance.rpc_hold_timeout", s.Performance.RPCHoldTimeout)
	set(Restart, "telemetry.prometheus_retention_time", s.Telemetry.PrometheusRetentionTime)
	set(Restart, "acl.enabled", s.ACL.Enabled)
	if s.ACL.Enabled {
		set(Restart, "acl.default_policy", s.ACL.DefaultPolicy)
	} else { // it has no effect
		set(Write, "acl.default_policy", s.ACL.DefaultPolicy)
	}

	set(Restart, "gossip.enabled", s.Gossip.Stage == StageEncrypted)
	rotate := Rotate
	if s.Gossip.Stage == StagePlain { // there is no key
		rotate = Write
	}
	if k := s.Gossip.KeySecret; k != nil {
		set(rotate, "gossip.key_secret.name", k.Name)
		set(rotate, "gossip.key_secret.key", k.Key)
	}
	set(rotate, "gossip.rotation.trigger", s.Gossip.Rotation.Trigger)
	if s.Gossip.Rotation.After > 0 {
		set(Write, "gossip.rotation.after", s.Gossip.Rotation.After)
	}

	set(Restart, "tls.enabled", s.TLS.Stage == StageEncrypted)
	tlsConfig, reissue := Restart, Rotate
	if s.TLS.Stage == StagePlain { // there is no certificate
		tlsConfig, reissue = Write, Write
	}
	set(tlsConfig, "tls.https_only", s.TLS.HTTPSOnly)
	set(tlsConfig, "tls.https_port", s.TLS.HTTPSPort)
	set(tlsConfig, "tls.min_version", s.TLS.MinVersion)
	set(tlsConfig, "tls.verify_clients", s.TLS.VerifyClients)
	set(reissue, "tls.certificate_secret", s.TLS.CertificateSecret)
	set(reissue, "tls.ca_secret", s.TLS.CASecret)
	set(reissue, "tls.ca_trigger", s.TLS.CATrigger)
	set(reissue, "tls.dns_names", list(s.TLS.DNSNames))
	set(reissue, "tls.ip_addresses", list(s.TLS.IPAddresses))
	set(reissue, "tls.key_algorithm", s.TLS.KeyAlgorithm)
	set(Write, "tls.ca_validity", s.TLS.CAValidity)
	set(Write, "tls.validity", s.TLS.Validity)
	set(Write, "tls.renew_before", s.TLS.RenewBefore)

	set(Write, "service.type", s.Service.Type)
	set(Write, "service.load_balancer_class", s.Service.LoadBalancerClass)
	set(Write, "service.load_balancer_source_ranges", list(s.Service.LoadBalancerSourceRanges))
	set(Write, "service.cluster_ip", s.Service.ClusterIP)
	set(Write, "service.ip_families", list(s.Service.IPFamilies))
	set(Write, "service.ip_family_policy", s.Service.IPFamilyPolicy)
	set(Write, "service.external_traffic_policy", s.Service.ExternalTrafficPolicy)
	for name, port := range map[string]int32{
		"http": s.Service.NodePorts.HTTP, "https": s.Service.NodePorts.HTTPS, "dns": s.Service.NodePorts.DNS,
	} {
		if port != 0 {
			set(Write, "service.node_ports."+name, port)
		}
	}
	for k, v := range s.Service.Annotations {
		set(Write, "service.annotations."+k, v)
	}
	for k, v := range s.Labels {
		set(Write, "labels."+k, v)
	}
	for k, v := range s.Annotations {
		set(Write, "annotations."+k, v)
	}
	for k, v := range s.NamespaceLabels {
		set(Write, "namespace_labels."+k, v)
	}
	for k, v := range s.NamespaceAnnotations {
		set(Write, "namespace_annotations."+k, v)
	}
	for k, v := range s.PodLabels {
		set(Restart, "pod_labels."+k, v)
	}
	for k, v := range s.PodAnnotations {
		set(Restart, "pod_annotations."+k, v)
	}
	var extra map[string]any
	if json.Unmarshal([]byte(s.ExtraConfig), &extra) == nil {
		leaves("", extra, func(path string, value any) {
			effect := Restart
			if isReloadable(path) {
				effect = Reload
			}
			set(effect, "extra_config."+path, list(value))
		})
	}
	return m
}

// list formats a list or another value as JSON; "" if it is empty.
func list(v any) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" || string(b) == "[]" {
		return ""
	}
	return string(b)
}

// leaves visits every value of a JSON object that is not an object itself.
func leaves(prefix string, m map[string]any, visit func(path string, value any)) {
	for k, v := range m {
		if o, ok := v.(map[string]any); ok && len(o) > 0 {
			leaves(join(prefix, k), o, visit)
			continue
		}
		visit(join(prefix, k), v)
	}
}
