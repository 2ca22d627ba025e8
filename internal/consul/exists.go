package consul

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Replicas is the number of servers that the StatefulSet asks for.
func (c *Cluster) Replicas(ctx context.Context) (int, error) {
	sts, err := c.RequireStatefulSet(ctx)
	if err != nil {
		return 0, err
	}
	return int(*sts.Spec.Replicas), nil
}

// Exists reports whether the cluster exists: its StatefulSet, or, if somebody deleted the StatefulSet, its
// ConfigMap or a server.
func (c *Cluster) Exists(ctx context.Context) (bool, error) {
	if runs, err := c.runs(ctx); err != nil || runs {
		return runs, err
	}
	config, err := c.Kube.CoreV1().ConfigMaps(c.Namespace).Get(ctx, server.StatefulSetName(c.Name), metav1.GetOptions{})
	found, err := kube.Found(err)
	if err != nil {
		return false, fmt.Errorf("reading the ConfigMap of %s: %w", c.ID(), err)
	}
	return found && server.Owns(c.Name, config.Labels), nil
}

// runs reports whether there is a StatefulSet, or a server without one.
func (c *Cluster) runs(ctx context.Context) (bool, error) {
	if sts, err := c.StatefulSet(ctx); err != nil || sts != nil {
		return sts != nil, err
	}
	pods, err := c.Pods(ctx)
	return slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.DeletionTimestamp == nil && server.Owns(c.Name, p.Labels) }), err
}

// StatefulSet returns the cluster's StatefulSet, nil if it does not exist.
func (c *Cluster) StatefulSet(ctx context.Context) (*appsv1.StatefulSet, error) {
	return kube.ReadStatefulSet(ctx, c.Kube, c.Namespace, server.StatefulSetName(c.Name))
}

// RequireStatefulSet returns the cluster's StatefulSet, or server.ErrNoStatefulSet.
func (c *Cluster) RequireStatefulSet(ctx context.Context) (*appsv1.StatefulSet, error) {
	sts, err := c.StatefulSet(ctx)
	if err == nil && sts == nil {
		err = fmt.Errorf("cluster %s: %w", c.ID(), server.ErrNoStatefulSet)
	}
	return sts, err
}

// Gone reports whether a cluster no longer exists: neither its StatefulSet, nor a server, nor a volume, which
// would bring its ACLs back. It returns an error if this cannot be determined.
func (c *Cluster) Gone(ctx context.Context) (bool, error) {
	if runs, err := c.runs(ctx); err != nil || runs {
		return false, err
	}
	claims, err := c.Kube.CoreV1().PersistentVolumeClaims(c.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(server.SelectorLabels(c.Name)).String(),
	})
	if err != nil {
		return false, fmt.Errorf("listing the volume claims of %s: %w", c.ID(), err)
	}
	return len(claims.Items) == 0, nil
}

// Established reports whether the cluster has had a leader (server.Spec). If the ConfigMap does not say so, the
// running servers are asked. If the ConfigMap is lost and no server runs, the answer is yes.
func (c *Cluster) Established(ctx context.Context) (bool, error) {
	config, err := c.Kube.CoreV1().ConfigMaps(c.Namespace).Get(ctx, server.StatefulSetName(c.Name), metav1.GetOptions{})
	found, err := kube.Found(err)
	if err != nil {
		return false, fmt.Errorf("reading the ConfigMap of %s: %w", c.ID(), err)
	}
	if found && (server.Set{Config: config}).IsEstablished() {
		return true, nil
	}
	pods, err := c.Pods(ctx)
	if err != nil {
		return false, err
	}
	running := slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !PodRuns(&p) })
	if len(running) == 0 {
		return !found, nil
	}
	return HasBootstrapped(ctx, c, running)
}
