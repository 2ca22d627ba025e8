package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Health is what autopilot reports for the servers.
type Health struct {
	// Healthy says that every server is healthy.
	Healthy bool
	// FailureTolerance is how many more servers may fail without losing the quorum.
	FailureTolerance int
	// Servers by name.
	Servers []ServerHealth
}

// ServerHealth is what autopilot reports for one server.
type ServerHealth struct {
	// Name is the node name, which is the pod's name, and ID the node ID.
	Name string
	ID   string
	// Address is "<ip>:<port>" of the server's RPC.
	Address string
	// Version of Consul that runs.
	Version string
	// SerfStatus is alive, leaving, left or failed.
	SerfStatus string
	Leader     bool
	// Peer says that it is in the Raft configuration.
	Peer    bool
	Voter   bool
	Healthy bool
	// LastIndex is the last Raft log index of the server.
	LastIndex uint64
	// LastContact is the time since it last heard from the leader.
	LastContact time.Duration
}

// Leader returns the leader's entry, or nil.
func (h Health) Leader() *ServerHealth {
	for i := range h.Servers {
		if h.Servers[i].Leader {
			return &h.Servers[i]
		}
	}
	return nil
}

// ReadHealth asks autopilot for the health of the servers, and the leader for the voters: autopilot only checks
// every two seconds (server_health_interval in agent/config/default.go of Consul). It needs operator:read.
func ReadHealth(ctx context.Context, c *Cluster, token string) (Health, error) {
	var h Health
	err := c.Any(ctx, token, func(client *api.Client) error {
		q := (&api.QueryOptions{}).WithContext(ctx)
		raft, err := client.Operator().RaftGetConfiguration(q)
		if err != nil {
			return err
		}
		reply, err := client.Operator().AutopilotServerHealth(q)
		if err != nil {
			return err
		}
		h = newHealth(reply, raft)
		return nil
	})
	if err != nil {
		return Health{}, fmt.Errorf("reading autopilot's health of %s: %w", c.ID(), err)
	}
	return h, nil
}

// newHealth joins what autopilot last saw with the current Raft configuration. A server that is not a peer has
// no vote, whatever autopilot saw.
func newHealth(reply *api.OperatorHealthReply, raft *api.RaftConfiguration) Health {
	h := Health{Healthy: reply.Healthy}
	voters, healthy := 0, 0
	for _, s := range reply.Servers {
		e := ServerHealth{
			Name: s.Name, ID: s.ID, Address: s.Address, Version: s.Version, SerfStatus: s.SerfStatus,
			Healthy: s.Healthy, LastIndex: s.LastIndex,
		}
		if s.LastContact != nil {
			e.LastContact = s.LastContact.Duration()
		}
		if i := slices.IndexFunc(raft.Servers, func(p *api.RaftServer) bool { return p.ID == s.ID }); i >= 0 {
			e.Peer = true
			e.Voter, e.Leader = raft.Servers[i].Voter, raft.Servers[i].Leader
			e.Address = raft.Servers[i].Address
		}
		if e.Voter && e.Healthy {
			healthy++
		}
		h.Servers = append(h.Servers, e)
	}
	for _, p := range raft.Servers {
		if p.Voter {
			voters++
		}
	}
	h.FailureTolerance = max(0, healthy-(voters/2+1))
	slices.SortFunc(h.Servers, func(a, b ServerHealth) int { return strings.Compare(a.Name, b.Name) })
	return h
}

// MissingVoters says what keeps h from being n servers that are all healthy
// voters with one leader and the full failure tolerance; "" if nothing does.
func (h Health) MissingVoters(n int) string {
	var missing []string
	leaders := 0
	for _, s := range h.Servers {
		switch {
		case s.SerfStatus != "alive":
			missing = append(missing, fmt.Sprintf("server %s is %s", s.Name, s.SerfStatus))
		case !s.Healthy:
			missing = append(missing, fmt.Sprintf("server %s is not healthy (last contact with the leader %s ago)", s.Name, s.LastContact))
		case !s.Voter:
			missing = append(missing, fmt.Sprintf("server %s is not yet a voter", s.Name))
		}
		if s.Leader {
			leaders++
		}
	}
	if len(h.Servers) != n {
		missing = append(missing, fmt.Sprintf("autopilot knows %d of %d servers", len(h.Servers), n))
	}
	if leaders != 1 {
		missing = append(missing, fmt.Sprintf("there are %d leaders", leaders))
	}
	if len(missing) == 0 && h.FailureTolerance < (n-1)/2 {
		missing = append(missing, fmt.Sprintf("the failure tolerance is %d of %d", h.FailureTolerance, (n-1)/2))
	}
	return strings.Join(missing, ", ")
}

// missingAddresses says which of the pods is not the server that votes under its name: the peer may still be
// its predecessor.
func (h Health) missingAddresses(pods []corev1.Pod) string {
	var missing []string
	for i := range pods {
		if !slices.ContainsFunc(h.Servers, func(s ServerHealth) bool {
			return s.Name == pods[i].Name && hasIP(s.Address, pods[i].Status.PodIP)
		}) {
			missing = append(missing, fmt.Sprintf("server %s is not yet a Raft peer with its current address", pods[i].Name))
		}
	}
	return strings.Join(missing, ", ")
}

// Missing says what keeps the cluster from being n servers that are healthy voters with one leader; "" if
// nothing does. Without a token that may ask autopilot, as before ACLs are bootstrapped, it asks every server
// for its leader and its Raft peers, which requires no right. This does not distinguish a voter from a server
// that has just joined, so each server must have been ready for soak.
func Missing(ctx context.Context, c *Cluster, token string, n int, soak time.Duration) (string, error) {
	pods, err := c.Pods(ctx)
	if err != nil {
		return "", err
	}
	if m := missingPods(pods, n); m != "" {
		return m, nil
	}
	h, err := ReadHealth(ctx, c, token)
	switch {
	case err == nil:
		return cmp.Or(h.MissingVoters(n), h.missingAddresses(pods)), nil
	case !IsForbidden(err):
		return err.Error(), nil // an unreachable server may come back
	}
	views := make([]raftView, len(pods))
	for i := range pods {
		if views[i], err = readRaftView(ctx, c, &pods[i]); err != nil {
			return err.Error(), nil
		}
	}
	if m := missingPeers(views); m != "" {
		return m, nil
	}
	return missingSoak(pods, soak, time.Now()), nil
}

// SetAutopilot stores the declared autopilot configuration for n servers, and keeps the rest. Consul only reads
// the configuration file for this at the first bootstrap. It needs operator:write.
func SetAutopilot(ctx context.Context, c *Cluster, token string, want server.Autopilot, n int) error {
	err := c.Any(ctx, token, func(client *api.Client) error {
		conf, err := client.Operator().AutopilotGetConfiguration((&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
		if err != nil || len(adjustAutopilot(conf, want, n)) == 0 {
			return err
		}
		ok, err := client.Operator().AutopilotCASConfiguration(conf, (&api.WriteOptions{}).WithContext(ctx))
		if err == nil && !ok {
			err = errors.New("another client changed it at the same time")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("setting autopilot's configuration of %s: %w", c.ID(), err)
	}
	return nil
}

// AutopilotDrift lists what in the stored autopilot configuration is not as declared for n servers. It needs
// operator:read.
func AutopilotDrift(ctx context.Context, c *Cluster, token string, want server.Autopilot, n int) (drift []string, err error) {
	err = c.Any(ctx, token, func(client *api.Client) error {
		conf, err := client.Operator().AutopilotGetConfiguration((&api.QueryOptions{}).WithContext(ctx))
		if err == nil {
			drift = adjustAutopilot(conf, want, n)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading autopilot's configuration of %s: %w", c.ID(), err)
	}
	return drift, nil
}

// adjustAutopilot changes a configuration to that of n servers, and returns what it had to change.
func adjustAutopilot(conf *api.AutopilotConfiguration, want server.Autopilot, n int) (changed []string) {
	set := func(name string, from, to any, assign func()) {
		if from != to {
			assign()
			changed = append(changed, fmt.Sprintf("%s is %v, declared is %v", name, from, to))
		}
	}
	duration := func(name string, field **api.ReadableDuration, to time.Duration) {
		var from time.Duration
		if *field != nil {
			from = (*field).Duration()
		}
		set(name, from, to, func() { *field = api.NewReadableDuration(to) })
	}
	quorum := uint(server.MinQuorum(n))
	set("min_quorum", conf.MinQuorum, quorum, func() { conf.MinQuorum = quorum })
	set("cleanup_dead_servers", conf.CleanupDeadServers, want.CleanupDeadServers, func() { conf.CleanupDeadServers = want.CleanupDeadServers })
	set("max_trailing_logs", conf.MaxTrailingLogs, want.MaxTrailingLogs, func() { conf.MaxTrailingLogs = want.MaxTrailingLogs })
	duration("last_contact_threshold", &conf.LastContactThreshold, want.LastContactThreshold)
	duration("server_stabilization_time", &conf.ServerStabilizationTime, want.ServerStabilizationTime)
	return changed
}

// Soak is longer than a server that joins takes to become a voter: ten seconds
// of stability and autopilot's interval of ten seconds
// (agent/config/default.go of Consul), and a margin.
const Soak = 25 * time.Second

// missingSoak says which pod has not been ready for long enough.
func missingSoak(pods []corev1.Pod, soak time.Duration, now time.Time) string {
	for _, pod := range pods {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && now.Sub(c.LastTransitionTime.Time) < soak {
				return fmt.Sprintf("server %s may not be a voter yet, and there is no token to check this with", pod.Name)
			}
		}
	}
	return ""
}

// missingPods says which of the n pods are missing or not ready.
func missingPods(pods []corev1.Pod, n int) string {
	if len(pods) != n {
		return fmt.Sprintf("%d of %d pods exist", len(pods), n)
	}
	var notReady []string
	for i := range pods {
		if !PodReady(&pods[i]) {
			notReady = append(notReady, pods[i].Name)
		}
	}
	if len(notReady) == 0 {
		return ""
	}
	return "not ready: " + strings.Join(notReady, ", ")
}

// raftView is what one server reports about Raft without any right.
type raftView struct {
	pod    string
	ip     string
	leader string
	peers  []string
}

func readRaftView(ctx context.Context, c *Cluster, pod *corev1.Pod) (raftView, error) {
	v := raftView{pod: pod.Name, ip: pod.Status.PodIP}
	client, err := c.Server(pod, "")
	if err != nil {
		return v, err
	}
	q := (&api.QueryOptions{}).WithContext(ctx)
	if v.leader, err = client.Status().LeaderWithQueryOptions(q); err != nil {
		return v, fmt.Errorf("server %s: %w", pod.Name, err)
	}
	if v.peers, err = client.Status().PeersWithQueryOptions(q); err != nil {
		return v, fmt.Errorf("server %s: %w", pod.Name, err)
	}
	return v, nil
}

// LeaderPod finds the leader's pod among the server pods. It requires no right.
func LeaderPod(ctx context.Context, c *Cluster, pods []corev1.Pod) (*corev1.Pod, error) {
	for i := range pods {
		v, err := readRaftView(ctx, c, &pods[i])
		if err != nil || v.leader == "" {
			continue
		}
		for j := range pods {
			if hasIP(v.leader, pods[j].Status.PodIP) {
				return &pods[j], nil
			}
		}
	}
	return nil, fmt.Errorf("finding the leader of %s: no server knows one", c.ID())
}

// At reports whether the server is the one that runs at an IP, and not its predecessor.
func (s ServerHealth) At(ip string) bool { return hasIP(s.Address, ip) }

// hasIP reports whether an address "<ip>:<port>" is that of an IP.
func hasIP(address, ip string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && ip != "" && host == ip
}

// missingPeers says what keeps the servers from agreeing on one leader and on
// exactly each other as Raft peers.
func missingPeers(views []raftView) string {
	var missing []string
	for _, v := range views {
		switch {
		case v.leader == "":
			missing = append(missing, fmt.Sprintf("server %s knows no leader", v.pod))
			continue
		case v.leader != views[0].leader:
			missing = append(missing, fmt.Sprintf("server %s follows another leader than %s", v.pod, views[0].pod))
		case len(v.peers) != len(views):
			missing = append(missing, fmt.Sprintf("server %s knows %d of %d Raft peers", v.pod, len(v.peers), len(views)))
		}
		for _, other := range views {
			if !slices.ContainsFunc(v.peers, func(p string) bool { return hasIP(p, other.ip) }) {
				missing = append(missing, fmt.Sprintf("server %s does not have %s as a Raft peer", v.pod, other.pod))
			}
		}
	}
	return strings.Join(missing, ", ")
}
