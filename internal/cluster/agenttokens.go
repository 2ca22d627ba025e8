package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// agentTokenTimeout limits how long a refresh waits for Consul.
const agentTokenTimeout = 10 * time.Second

// agentTokenDrift names the servers whose agents have no working agent token, such as a server that lost its volume: it votes
// and answers, but can no longer keep its own entries in the catalog up to date. It names none if this cannot be determined,
// because ACLs are off or not bootstrapped yet, the management token is lost, or Consul does not answer.
func agentTokenDrift(ctx context.Context, c *consul.Cluster, spec server.Spec) []string {
	if !spec.ACL.Enabled || !spec.Established || spec.Origin.Pending() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, agentTokenTimeout)
	defer cancel()
	token, _, err := consulacl.ManagementToken(ctx, c)
	if err != nil || token == "" {
		return nil
	}
	drift, err := consulacl.AgentTokenDrift(ctx, c, token)
	if err != nil {
		tflog.Debug(ctx, "could not look at the agent tokens: "+err.Error())
		return nil
	}
	return drift
}
