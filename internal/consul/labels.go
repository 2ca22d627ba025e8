package consul

import (
	"context"
	"maps"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// WithLabels returns access to the same cluster with the labels that are declared for every object of it. Without it, the
// labels are read from the StatefulSet, which has them once they were applied.
func (c *Cluster) WithLabels(declared map[string]string) *Cluster {
	with := *c
	with.declared = func(context.Context) (map[string]string, error) { return declared, nil }
	return &with
}

// Labels returns the labels of an object that has labels of its own: those that are declared for every object of the
// cluster, and its own.
func (c *Cluster) Labels(ctx context.Context, own map[string]string) (map[string]string, error) {
	declared, err := c.DeclaredLabels(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	maps.Copy(all, declared)
	maps.Copy(all, own)
	return all, nil
}

// DeclaredLabels returns the labels that are declared for every object of the cluster.
func (c *Cluster) DeclaredLabels(ctx context.Context) (map[string]string, error) {
	if c.declared != nil {
		return c.declared(ctx)
	}
	sts, err := c.StatefulSet(ctx)
	if err != nil || sts == nil || !server.Owns(c.Name, sts.Labels) {
		return nil, err
	}
	return server.DeclaredLabels(sts), nil
}
