package consulacl

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// agentTokens is the UUID name space of the accessor IDs of agent tokens.
var agentTokens = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/consul-k8s/terraform-provider-consul-k8s#agent-token"))

// AgentTokenAccessor is the accessor ID of one server's agent token. It is derived from the node's ID, so that
// a token is found again and never created twice.
func AgentTokenAccessor(c *consul.Cluster, ordinal int) string {
	return uuid.NewSHA1(agentTokens, []byte(server.NodeID(c.Namespace, c.Name, ordinal))).String()
}

// IsAgentToken reports whether an accessor ID is that of a server's agent token, including servers that no
// longer exist or do not exist yet.
func IsAgentToken(c *consul.Cluster, accessorID string) bool {
	for ordinal := range server.MaxReplicas {
		if accessorID == AgentTokenAccessor(c, ordinal) {
			return true
		}
	}
	return false
}

// SetAgentTokens gives each running server a token of its own, which only has the rights of its node identity
// (node:write on itself, service:read), and sets it as the agent token, which the agent persists in its data
// directory. It needs the management token, and does not change what is already right. If an agent ran without a
// token, it waits until the agent has written its own entry in the catalog with the new token.
func SetAgentTokens(ctx context.Context, c *consul.Cluster, management string) error {
	return setAgentTokens(ctx, c, management, registrationAge)
}

// setAgentTokens is SetAgentTokens. It waits only for agents of servers that have been ready for an age. An agent compares itself with the
// catalog every minute or two.
func setAgentTokens(ctx context.Context, c *consul.Cluster, management string, age time.Duration) error {
	pods, err := c.Pods(ctx)
	if err != nil {
		return err
	}
	for i := range pods {
		client, err := c.Server(&pods[i], management)
		if err != nil {
			return err
		}
		lacking, err := lacksAgentToken(ctx, client, &pods[i], age)
		lacking = lacking && err == nil
		if err := setAgentToken(ctx, c, client, &pods[i], lacking); err != nil {
			return fmt.Errorf("setting the agent token of server %s: %w", pods[i].Name, err)
		}
		if !lacking {
			continue
		}
		if err := awaitRegistration(ctx, client, &pods[i]); err != nil {
			return err
		}
	}
	return nil
}

// registrationTimeout is longer than the interval in which an agent compares itself with the catalog.
const registrationTimeout = 3 * time.Minute

func awaitRegistration(ctx context.Context, client *api.Client, pod *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, registrationTimeout)
	defer cancel()
	return kube.Wait(ctx, "the agent of server "+pod.Name+" to use its token", consul.Interval, func(ctx context.Context) (string, error) {
		registered, err := isRegistered(ctx, client, pod)
		switch {
		case err != nil:
			return err.Error(), nil
		case !registered:
			return "the agent has not written its own entry in the catalog", nil
		}
		return "", nil
	})
}

// AgentTokenDrift names the servers whose agents have no working agent token: the token does not exist, or the agent
// does not use it, for example because it lost its data directory, where the token is. No endpoint shows which token
// an agent has, but the entry of its node in the catalog does: the leader makes one for every member, but only the
// agent itself fills in its addresses, and it needs the agent token to do so. It needs the management token.
func AgentTokenDrift(ctx context.Context, c *consul.Cluster, management string) (drift []string, err error) {
	pods, err := c.Pods(ctx)
	if err != nil {
		return nil, err
	}
	for i := range pods {
		ordinal, _ := server.Ordinal(c.Name, pods[i].Name)
		if !consul.PodReady(&pods[i]) {
			continue // other checks show what is wrong with it
		}
		client, err := c.Server(&pods[i], management)
		if err != nil {
			return nil, err
		}
		_, _, err = client.ACL().TokenRead(AgentTokenAccessor(c, ordinal), consistent(ctx))
		switch {
		case consul.IsTokenMissing(err):
			drift = append(drift, fmt.Sprintf("server %s: its agent token does not exist", pods[i].Name))
			continue
		case err != nil:
			return nil, fmt.Errorf("reading the agent token of server %s: %w", pods[i].Name, err)
		}
		lacking, err := lacksAgentToken(ctx, client, &pods[i], registrationAge)
		if err != nil {
			return nil, err
		}
		if lacking {
			drift = append(drift, fmt.Sprintf("server %s: its agent does not use its agent token", pods[i].Name))
		}
	}
	return drift, nil
}

// registrationAge is how long a server must have been ready before its entry in the catalog is checked. An agent that
// starts fills in the entry at once, or, if no leader answers then, within half a minute (agent/ae/ae.go of Consul).
const registrationAge = 45 * time.Second

// lacksAgentToken reports whether the agent in a pod that has been ready for an age has not filled in its entry in the catalog.
func lacksAgentToken(ctx context.Context, client *api.Client, pod *corev1.Pod, age time.Duration) (bool, error) {
	i := slices.IndexFunc(
		pod.Status.Conditions,
		func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue },
	)
	if i < 0 || (age > 0 && time.Since(pod.Status.Conditions[i].LastTransitionTime.Time) < age) {
		return false, nil
	}
	registered, err := isRegistered(ctx, client, pod)
	return err == nil && !registered, err
}

// isRegistered reports whether the entry of a server in the catalog has the addresses that its agent fills in.
func isRegistered(ctx context.Context, client *api.Client, pod *corev1.Pod) (bool, error) {
	node, _, err := client.Catalog().Node(pod.Name, consistent(ctx))
	if err != nil {
		return false, fmt.Errorf("looking for server %s in the catalog: %w", pod.Name, err)
	}
	if node == nil || node.Node == nil {
		return false, nil
	}
	address := net.ParseIP(node.Node.TaggedAddresses["lan"])
	return address != nil && address.Equal(net.ParseIP(pod.Status.PodIP)), nil
}

// setAgentToken gives a server its token. With resync, its agent also compares itself with the catalog at once. An agent does so
// when its token changes, so it gets an empty token first.
func setAgentToken(ctx context.Context, c *consul.Cluster, client *api.Client, pod *corev1.Pod, resync bool) error {
	ordinal, _ := server.Ordinal(c.Name, pod.Name)
	accessor := AgentTokenAccessor(c, ordinal)
	token, _, err := client.ACL().TokenRead(accessor, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	if consul.IsTokenMissing(err) {
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
	if resync {
		if _, err := client.Agent().UpdateAgentACLToken("", write(ctx)); err != nil {
			return err
		}
		var cancel context.CancelFunc // an interruption must not leave the agent without a token
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), consul.AskTimeout)
		defer cancel()
	}
	_, err = client.Agent().UpdateAgentACLToken(token.SecretID, write(ctx))
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
