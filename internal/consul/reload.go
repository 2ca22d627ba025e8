package consul

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// ConfigVersion returns the version of the configuration that the agent in a pod reports to have loaded; "" if
// it knows none. It needs agent:read.
func ConfigVersion(ctx context.Context, c *Cluster, token string, pod *corev1.Pod) (string, error) {
	meta, err := nodeMeta(ctx, c, token, pod)
	return meta[server.MetaConfigVersion], err
}

// Restarted reports whether the agent in a pod was started with the request for a restart in place that the pod has, and whether the
// leader answers through it.
func Restarted(ctx context.Context, c *Cluster, token string, pod *corev1.Pod) bool {
	meta, err := nodeMeta(ctx, c, token, pod)
	if err != nil || meta[server.MetaRestart] != pod.Annotations[server.AnnotationRestart] {
		return false
	}
	client, err := c.Server(pod, token)
	if err != nil {
		return false
	}
	_, err = client.Raw().Query("/v1/operator/raft/configuration", &struct{}{}, (&api.QueryOptions{}).WithContext(ctx))
	return err == nil
}

// nodeMeta is the node metadata that the agent in a pod was started with or has loaded.
func nodeMeta(ctx context.Context, c *Cluster, token string, pod *corev1.Pod) (map[string]string, error) {
	client, err := c.Server(pod, token)
	if err != nil {
		return nil, err
	}
	// The agent replaces what it shows here as the last step of a successful reload; Meta, next to it, changes
	// before a reload fails.
	var self struct {
		DebugConfig struct{ NodeMeta map[string]string }
	}
	if _, err := client.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		return nil, fmt.Errorf("asking server %s for its configuration: %w", pod.Name, err)
	}
	return self.DebugConfig.NodeMeta, nil
}

// Reload makes the agent in a pod reload its configuration. An agent that refuses the new configuration keeps
// the one that it has. It needs agent:write.
func Reload(ctx context.Context, c *Cluster, token string, pod *corev1.Pod) error {
	client, err := c.Server(pod, token)
	if err != nil {
		return err
	}
	if _, err := client.Raw().Write("/v1/agent/reload", nil, nil, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("reloading the configuration of server %s: %w", pod.Name, err)
	}
	return nil
}
