package consul

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// agentTokens is the UUID name space of the accessor IDs of agent tokens.
var agentTokens = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/consul-k8s/terraform-provider-consul-k8s#agent-token"))

// AgentTokenAccessor is the accessor ID of one server's agent token. It follows
// from the node's ID, so that a token is found again and never made twice.
func (c *Cluster) AgentTokenAccessor(ordinal int) string {
	return uuid.NewSHA1(agentTokens, []byte(server.NodeID(c.Namespace, c.Name, ordinal))).String()
}

// IsAgentToken reports whether an accessor ID is that of a server's agent token,
// also of a server that there is no more, or not yet.
func (c *Cluster) IsAgentToken(accessorID string) bool {
	for ordinal := range server.MaxReplicas {
		if accessorID == c.AgentTokenAccessor(ordinal) {
			return true
		}
	}
	return false
}

// SetAgentTokens gives each running server a token of its own, with the rights
// of its node identity and no more (node:write on itself, service:read), and
// sets it as the agent token, which the agent persists in its data directory.
// It needs the management token and changes nothing that is right already.
func (c *Cluster) SetAgentTokens(ctx context.Context, management string) error {
	pods, err := c.Pods(ctx)
	if err != nil {
		return err
	}
	for i := range pods {
		if err := c.setAgentToken(ctx, management, &pods[i]); err != nil {
			return fmt.Errorf("setting the agent token of server %s: %w", pods[i].Name, err)
		}
	}
	return nil
}

func (c *Cluster) setAgentToken(ctx context.Context, management string, pod *corev1.Pod) error {
	ordinal, _ := server.Ordinal(c.Name, pod.Name)
	client, err := c.Server(pod, management)
	if err != nil {
		return err
	}
	accessor := c.AgentTokenAccessor(ordinal)
	token, _, err := client.ACL().TokenRead(accessor, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	if isTokenMissing(err) {
		datacenter, dcErr := datacenterOf(ctx, client)
		if dcErr != nil {
			return dcErr
		}
		token, _, err = client.ACL().TokenCreate(&api.ACLToken{
			AccessorID:     accessor,
			Description:    "Agent token of server " + pod.Name,
			NodeIdentities: []*api.ACLNodeIdentity{{NodeName: pod.Name, Datacenter: datacenter}},
		}, (&api.WriteOptions{}).WithContext(ctx))
	}
	if err != nil {
		return err
	}
	_, err = client.Agent().UpdateAgentACLToken(token.SecretID, (&api.WriteOptions{}).WithContext(ctx))
	return err
}

// datacenterOf asks an agent for the datacenter that it runs in.
func datacenterOf(ctx context.Context, client *api.Client) (string, error) {
	var self struct{ Config struct{ Datacenter string } }
	if _, err := client.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		return "", err
	}
	return self.Config.Datacenter, nil
}
