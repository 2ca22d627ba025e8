package server

import (
	"regexp"

	corev1 "k8s.io/api/core/v1"
)

// A change that requires a restart has a configuration of its own in the ConfigMap: until it is restarted, a
// server has the configuration that it was started with, even if its container ends and starts again by itself.
// A change that only requires a reload changes the configuration in place.

// ConfigKey is the key, in the ConfigMap, of the configuration that all servers of a
// spec share.
func ConfigKey(s Spec) string { return configKeyOf(configHash(s)) }

func configKeyOf(hash string) string { return "server-" + hash + ".json" }

// extraKey is that of extra_config.
func extraKey(s Spec) string { return extraKeyOf(configHash(s)) }

func extraKeyOf(hash string) string { return "extra-" + hash + ".json" }

// configKeys matches the keys of both, with their digest.
var configKeys = regexp.MustCompile(`^(?:server|extra)-([0-9a-f]{16})\.json$`)

// FormerConfig returns the entries of a live ConfigMap that pods need which do not run a spec
// (Spec.FormerConfig).
func FormerConfig(s Spec, live *corev1.ConfigMap, pods []corev1.Pod) map[string]string {
	if live == nil {
		return nil
	}
	needed := map[string]bool{}
	for i := range pods {
		needed[pods[i].Annotations[AnnotationConfigHash]] = true
	}
	return formerConfig(live, configHash(s), func(hash string) bool { return needed[hash] })
}

// formerConfig returns the configurations that have another digest.
func formerConfig(cm *corev1.ConfigMap, current string, needed func(hash string) bool) map[string]string {
	var former map[string]string
	for k, v := range cm.Data {
		m := configKeys.FindStringSubmatch(k)
		if m == nil || m[1] == current || !needed(m[1]) {
			continue
		}
		if former == nil {
			former = map[string]string{}
		}
		former[k] = v
	}
	return former
}
