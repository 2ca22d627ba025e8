package consul

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// Former returns access to servers that another tool runs as a StatefulSet in the same namespace. If the
// StatefulSet does not exist, there are no servers. It connects to nothing.
func (c *Cluster) Former(statefulSet string) *Cluster {
	f := &Cluster{connector: c.connector, Kube: c.Kube, Namespace: c.Namespace, Name: statefulSet + " (StatefulSet)"}
	f.list = func(ctx context.Context) ([]corev1.Pod, error) {
		sts, err := kube.ReadStatefulSet(ctx, c.Kube, c.Namespace, statefulSet)
		if err != nil || sts == nil {
			return nil, err
		}
		pods, err := c.podsOf(ctx, sts)
		f.connector.forget(f.ID(), pods)
		return pods, err
	}
	return f
}

// podsOf lists the pods of a StatefulSet by ordinal.
func (c *Cluster) podsOf(ctx context.Context, sts *appsv1.StatefulSet) ([]corev1.Pod, error) {
	list, err := c.Kube.CoreV1().Pods(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(sts.Spec.Selector)})
	if err != nil {
		return nil, fmt.Errorf("listing the pods of the StatefulSet %s/%s: %w", sts.Namespace, sts.Name, err)
	}
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !metav1.IsControlledBy(&p, sts) })
	// The ordinal is the end of the name: a shorter name is a lower one.
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		if len(a.Name) != len(b.Name) {
			return len(a.Name) - len(b.Name)
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return pods, nil
}

// With returns access to the servers of two StatefulSets as to those of one cluster, which they are while one
// adopts the servers of the other.
func (c *Cluster) With(other *Cluster) *Cluster {
	both := &Cluster{connector: c.connector, Kube: c.Kube, Namespace: c.Namespace, Name: c.Name + " and " + other.Name}
	both.list = func(ctx context.Context) ([]corev1.Pod, error) {
		mine, err := c.Pods(ctx)
		if err != nil {
			return nil, err
		}
		theirs, err := other.Pods(ctx)
		if err != nil {
			return nil, err
		}
		all := slices.Concat(mine, theirs)
		both.connector.forget(both.ID(), all)
		return all, nil
	}
	return both
}

// AgentFacts is what an agent reports about itself.
type AgentFacts struct {
	// Pod that the agent runs in, and Node, its name in Consul.
	Pod, Node string
	// Version with its metadata, such as "1.22.7" or "1.22.7+ent".
	Version    string
	Datacenter string
	// Domain is the DNS domain.
	Domain string
	// Encrypted says that gossip is encrypted.
	Encrypted bool
	// GossipVerifiesIncoming says that the agent refuses gossip that is not encrypted, and
	// GossipVerifiesOutgoing that it does not send it.
	GossipVerifiesIncoming, GossipVerifiesOutgoing bool
	// VerifiesIncoming says that the agent refuses RPC connections without TLS, and
	// VerifiesOutgoing that it does not make them.
	VerifiesIncoming, VerifiesOutgoing bool
	// ACLs says that ACLs are enabled, and DefaultPolicy says what is allowed without a rule.
	ACLs          bool
	DefaultPolicy string
	// Local says that the HTTP API only answers inside the pod.
	Local bool
	// SerfPort is the port of gossip in the LAN.
	SerfPort int
}

// Facts asks the agent in a pod about itself (GET /v1/agent/self). It needs
// agent:read.
func Facts(ctx context.Context, c *Cluster, token string, pod *corev1.Pod) (AgentFacts, error) {
	client, err := c.Server(pod, token)
	if err != nil {
		return AgentFacts{}, err
	}
	var self agentSelf
	if _, err := client.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		return AgentFacts{}, fmt.Errorf("asking server %s about itself: %w", pod.Name, err)
	}
	return self.facts(pod.Name), nil
}

// agentSelf is the relevant part of the answer. The format of DebugConfig is not stable: what is missing counts
// as not set.
type agentSelf struct {
	Config struct {
		Datacenter, NodeName, Version string
	}
	DebugConfig struct {
		ACLsEnabled         bool
		ACLResolverSettings struct{ ACLDefaultPolicy string }
		ClientAddrs         []string
		DNSDomain           string
		SerfPortLAN         int

		EncryptVerifyIncoming, EncryptVerifyOutgoing bool
		TLS                                          struct {
			InternalRPC struct{ VerifyIncoming, VerifyOutgoing bool }
		}
	}
	Stats struct {
		SerfLAN struct {
			Encrypted string `json:"encrypted"`
		} `json:"serf_lan"`
	}
}

func (s agentSelf) facts(pod string) AgentFacts {
	d := s.DebugConfig
	f := AgentFacts{
		Pod: pod, Node: s.Config.NodeName, Version: s.Config.Version, Datacenter: s.Config.Datacenter,
		Domain:                 strings.TrimSuffix(d.DNSDomain, "."),
		Encrypted:              s.Stats.SerfLAN.Encrypted == "true",
		GossipVerifiesIncoming: d.EncryptVerifyIncoming, GossipVerifiesOutgoing: d.EncryptVerifyOutgoing,
		VerifiesIncoming: d.TLS.InternalRPC.VerifyIncoming, VerifiesOutgoing: d.TLS.InternalRPC.VerifyOutgoing,
		ACLs: d.ACLsEnabled, DefaultPolicy: d.ACLResolverSettings.ACLDefaultPolicy,
		SerfPort: d.SerfPortLAN,
	}
	f.Local = len(d.ClientAddrs) > 0 && !slices.ContainsFunc(d.ClientAddrs, func(a string) bool { return a != "127.0.0.1" && a != "::1" })
	return f
}

// Statuses of a member of the gossip pool (serf.MemberStatus of hashicorp/serf).
const (
	memberLeft   = 3
	memberFailed = 4
)

// ServerMembers are the servers that agents list as members of the gossip pool and that have not left, by name, and whether each has
// failed. A server that any agent does not see as failed has not. Agents learn of a failure one after the other, and autopilot does not
// report a failed server that is not a Raft peer. It needs node:read.
func ServerMembers(ctx context.Context, c *Cluster, token string) (failed map[string]bool, err error) {
	failed = map[string]bool{}
	err = eachAgent(ctx, c, token, func(client *api.Client) error {
		var members []api.AgentMember
		_, err := client.Raw().Query("/v1/agent/members", &members, (&api.QueryOptions{}).WithContext(ctx))
		for _, m := range members {
			if m.Tags["role"] != "consul" || m.Status == memberLeft {
				continue
			}
			before, ok := failed[m.Name]
			failed[m.Name] = m.Status == memberFailed && (before || !ok)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the members of %s: %w", c.ID(), err)
	}
	return failed, nil
}

// ForceLeave removes a failed server from the members of every agent. It asks each agent: if the message of one agent does not reach
// another, that one lists the member as failed for three days. An agent that does not know the member is no error. It needs operator:write.
func ForceLeave(ctx context.Context, c *Cluster, token, node string) error {
	err := eachAgent(ctx, c, token, func(client *api.Client) error {
		err := client.Agent().ForceLeaveOptions(node, api.ForceLeaveOpts{Prune: true}, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil && strings.Contains(err.Error(), "No node found") { // agent/agent.go of Consul
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("removing the failed member %s: %w", node, err)
	}
	return nil
}

// eachAgent calls do with a client of every server whose pod is running. It returns ErrNoServer if no pod is running.
func eachAgent(ctx context.Context, c *Cluster, token string, do func(*api.Client) error) error {
	pods, err := c.Pods(ctx)
	if err != nil {
		return err
	}
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil })
	if len(pods) == 0 {
		return fmt.Errorf("cluster %s: %w", c.ID(), ErrNoServer)
	}
	for i := range pods {
		client, err := c.Server(&pods[i], token)
		if err != nil {
			return err
		}
		if err := do(client); err != nil {
			return fmt.Errorf("server %s: %w", pods[i].Name, err)
		}
	}
	return nil
}
