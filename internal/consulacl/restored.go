package consulacl

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// Heal repairs a cluster after a snapshot was restored into it. With ACLs its management token, which may be
// missing in the snapshot, is made valid again by a reset, and each server is given its agent token. It removes
// nodes that have the name of a server and another ID, because Consul would refuse to register the server
// (developer.hashicorp.com/consul/docs/error-messages/consul). With ACLs, it then waits for the agents to register.
// Another call resumes it.
func Heal(ctx context.Context, c *consul.Cluster, acl bool) error {
	token := ""
	if acl {
		_, ref, err := ManagementToken(ctx, c)
		if err != nil {
			return err
		}
		if _, err := EnsureBootstrap(ctx, c, ref, BootstrapOptions{Provisional: true, Reset: true, Keep: true}); err != nil {
			return fmt.Errorf("making the management token of %s valid again: %w", c.ID(), err)
		}
		if token, _, err = ManagementToken(ctx, c); err != nil {
			return err
		}
	}
	return kube.Wait(ctx, "the servers", consul.Interval, func(ctx context.Context) (string, error) {
		err := deregisterReplaced(ctx, c, token)
		if err == nil && acl {
			err = setAgentTokens(ctx, c, token, 0) // the entries are those of the snapshot, however long the servers have been ready
		}
		if isTransient(err) {
			return err.Error(), nil
		}
		return "", err
	})
}

// deregisterReplaced removes nodes from the catalog that have the name of a server and another ID.
func deregisterReplaced(ctx context.Context, c *consul.Cluster, token string) error {
	pods, err := c.Pods(ctx)
	if err != nil {
		return err
	}
	for i := range pods {
		client, err := c.Server(&pods[i], token)
		if err != nil {
			return err
		}
		var self struct {
			Config struct{ NodeName, NodeID string }
		}
		if _, err := client.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
			return fmt.Errorf("asking server %s for its node ID: %w", pods[i].Name, err)
		}
		node, _, err := client.Catalog().Node(self.Config.NodeName, consistent(ctx))
		if err != nil {
			return fmt.Errorf("looking for server %s in the catalog: %w", pods[i].Name, err)
		}
		if node == nil || node.Node == nil || node.Node.ID == self.Config.NodeID {
			continue
		}
		if _, err := client.Catalog().Deregister(&api.CatalogDeregistration{Node: self.Config.NodeName}, write(ctx)); err != nil {
			return fmt.Errorf("removing the node %s from the catalog, because it has the ID of another server: %w", self.Config.NodeName, err)
		}
	}
	return nil
}
