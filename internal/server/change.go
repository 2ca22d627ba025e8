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
	// Restart restarts the servers, one at a time. A plan says whether in place or with new pods.
	Restart        Effect = "restart"
	RestartInPlace Effect = "restart in place"
	ReplacePods    Effect = "new pods"
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
	b, a := settingTexts(before), settingTexts(after)
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

// settingText is the value of a setting as text, and the effect of a change.
type settingText struct {
	value  string
	effect Effect
}

// settingTexts lists everything in a spec that has a value, by the path of its attribute.
func settingTexts(s Spec) map[string]settingText {
	m := map[string]settingText{}
	set := func(effect Effect, name string, value any) {
		if text := fmt.Sprint(value); text != "" {
			m[name] = settingText{text, effect}
		}
	}
	for _, setting := range Settings() {
		effect := setting.effect
		if setting.idle != nil && setting.idle(s) {
			effect = Write
		}
		set(effect, setting.Name, setting.Get(s))
	}

	volumes := Resize
	if s.Storage.OnChange == RebuildServers {
		volumes = Rebuild
	}
	set(volumes, "storage.size", &s.Storage.Size)
	set(volumes, "storage.class", s.Storage.Class)
	if s.Storage.NoClass {
		set(volumes, "storage.class", `""`)
	}
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
	set(Restart, "image_pull_secrets", list(s.Pod.PullSecrets))
	var extraPod map[string]any
	if json.Unmarshal([]byte(s.Pod.Extra), &extraPod) == nil {
		leaves("", extraPod, func(path string, value any) { set(Restart, "extra_pod."+path, list(value)) })
	}
	set(Restart, "placement.topology_spread", list(s.Placement.TopologySpread))
	set(Restart, "placement.tolerations", list(s.Placement.Tolerations))
	if r := s.Jobs.Resources; r != nil {
		for k, q := range r.Requests {
			set(Write, "jobs.resources.requests."+k, &q)
		}
		for k, q := range r.Limits {
			set(Write, "jobs.resources.limits."+k, &q)
		}
	}

	rotate, reissue := Rotate, Rotate
	if s.Gossip.Stage == StagePlain { // there is no key
		rotate = Write
	}
	if k := s.Gossip.KeySecret; k != nil {
		set(rotate, "gossip.key_secret.name", k.Name)
		set(rotate, "gossip.key_secret.key", k.Key)
	}
	if s.Gossip.Rotation.After > 0 {
		set(Write, "gossip.rotation.after", s.Gossip.Rotation.After)
	}
	if !s.usesTLS() { // there is no certificate
		reissue = Write
	}
	set(reissue, "tls.dns_names", list(s.TLS.DNSNames))
	set(reissue, "tls.ip_addresses", list(s.TLS.IPAddresses))

	set(Write, "service.load_balancer_source_ranges", list(s.Service.LoadBalancerSourceRanges))
	set(Write, "service.ip_families", list(s.Service.IPFamilies))
	for name, port := range map[string]int32{
		"http": s.Service.NodePorts.HTTP, "https": s.Service.NodePorts.HTTPS, "dns": s.Service.NodePorts.DNS,
	} {
		if port != 0 {
			set(Write, "service.node_ports."+name, port)
		}
	}
	for _, entries := range []struct {
		effect Effect
		name   string
		values map[string]string
	}{
		{Restart, "placement.node_selector", s.Placement.NodeSelector},
		{Write, "service_account.annotations", s.ServiceAccountAnnotations},
		{Write, "jobs.pod_labels", s.Jobs.PodLabels},
		{Write, "jobs.pod_annotations", s.Jobs.PodAnnotations},
		{Write, "service.annotations", s.Service.Annotations},
		{Write, "labels", s.Labels},
		{Write, "annotations", s.Annotations},
		{Write, "namespace_labels", s.NamespaceLabels},
		{Write, "namespace_annotations", s.NamespaceAnnotations},
		{Restart, "pod_labels", s.PodLabels},
		{Restart, "pod_annotations", s.PodAnnotations},
	} {
		for k, v := range entries.values {
			set(entries.effect, entries.name+"."+k, v)
		}
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
