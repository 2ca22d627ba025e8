package server

import (
	"strings"

	goversion "github.com/hashicorp/go-version"
)

// MetaConfigVersion is the key of the node metadata under which an agent reports its ConfigVersion.
const MetaConfigVersion = ManagedBy + "-config-version"

// reloadable are the paths of agent configuration that a running agent loads when it reloads; a path includes
// everything below it. TestAccCluster_reloadsWhatAgentsCanLoad checks each with a real agent
// (developer.hashicorp.com/consul/docs/fundamentals/agent, "Reloadable configuration").
//
// performance.raft_multiplier is not among them, although agents accept it: it also sets the leader's lease,
// which a reload does not change.
var reloadable = map[string]bool{
	"log_level": true,
	"node_meta": true,

	"limits.http_max_conns_per_client": true,
	"limits.rpc_rate":                  true,
	"limits.rpc_max_burst":             true,
	"limits.rpc_max_conns_per_client":  true,
	"limits.rpc_client_timeout":        true,
	"limits.request_limits":            true,

	"raft_snapshot_threshold": true,
	"raft_snapshot_interval":  true,
	"raft_trailing_logs":      true,

	"dns_config": true,

	"telemetry.prefix_filter": true,
}

// isReloadable reports whether a running agent can load a change of a path of agent configuration. Consul
// compares keys without regard to case.
func isReloadable(path string) bool {
	path = strings.ToLower(path)
	for {
		if reloadable[path] {
			return true
		}
		i := strings.LastIndex(path, ".")
		if i < 0 {
			return false
		}
		path = path[:i]
	}
}

// dropReloadable removes what is reloadable from agent configuration.
func dropReloadable(prefix string, config map[string]any) {
	for k, v := range config {
		path := k
		if prefix != "" {
			path = prefix + "." + k
		}
		if isReloadable(path) {
			delete(config, k)
		} else if m, ok := v.(map[string]any); ok {
			if dropReloadable(path, m); len(m) == 0 {
				delete(config, k)
			}
		}
	}
}

// rejoinAgeMax is practically forever, in the format of Consul; nil if a version does not have the setting
// (CHANGELOG of Consul, 1.16.0).
func rejoinAgeMax(s Spec) any {
	v, err := goversion.NewVersion(s.Version)
	if err != nil || v.Core().LessThan(goversion.Must(goversion.NewVersion("1.16.0"))) {
		return nil
	}
	return "87600h"
}
