package consul

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// TransferLeadership transfers the leadership to a server, by its name (POST /v1/operator/raft/transfer-leader,
// Consul 1.15 and later). It needs operator:write.
func TransferLeadership(ctx context.Context, c *Cluster, token, name string) error {
	s, err := known(ctx, c, token, name)
	if err != nil {
		return err
	}
	return c.Any(ctx, token, func(client *api.Client) error {
		reply, err := client.Operator().RaftLeaderTransfer(s.ID, (&api.QueryOptions{}).WithContext(ctx))
		if err == nil && !reply.Success {
			err = errors.New("the leader refused")
		}
		return err
	})
}

// RemovePeer removes a server from the Raft peers, by its name (DELETE /v1/operator/raft/peer). It is not an
// error if the server is not a peer, or if autopilot does not know it. It needs operator:write.
func RemovePeer(ctx context.Context, c *Cluster, token, name string) error {
	h, err := ReadHealth(ctx, c, token)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(h.Servers, func(s ServerHealth) bool { return s.Name == name })
	if i < 0 || !h.Servers[i].Peer {
		return nil
	}
	return c.Any(ctx, token, func(client *api.Client) error {
		return client.Operator().RaftRemovePeerByID(h.Servers[i].ID, (&api.WriteOptions{}).WithContext(ctx))
	})
}

// known is what autopilot reports for one server.
func known(ctx context.Context, c *Cluster, token, name string) (ServerHealth, error) {
	h, err := ReadHealth(ctx, c, token)
	if err != nil {
		return ServerHealth{}, err
	}
	i := slices.IndexFunc(h.Servers, func(s ServerHealth) bool { return s.Name == name })
	if i < 0 {
		return ServerHealth{}, fmt.Errorf("autopilot does not know the server %s", name)
	}
	return h.Servers[i], nil
}

// HasBootstrapped reports whether one of the servers in the pods knows a Raft peer. If so, there was a leader,
// whether there is one now or not. It requires no right. An error means that a server did not answer, and that
// no other server knows a peer.
func HasBootstrapped(ctx context.Context, c *Cluster, pods []corev1.Pod) (bool, error) {
	var errs []error
	for i := range pods {
		v, err := readRaftView(ctx, c, &pods[i])
		if len(v.peers) > 0 || v.leader != "" {
			return true, nil
		}
		errs = append(errs, err)
	}
	return false, errors.Join(errs...)
}

// AskTimeout bounds requests to a server that may not answer.
const AskTimeout = 5 * time.Second

// RaftState asks the server in a pod. The leader and the addresses of the peers require no right. The rest requires
// agent:read, for which the server asks no other server if the token belongs to its own datacenter.
func RaftState(ctx context.Context, c *Cluster, token string, pod *corev1.Pod) (server.RaftState, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	v, err := readRaftView(ctx, c, pod)
	if err != nil {
		return server.RaftState{}, err
	}
	client, err := c.Server(pod, token)
	if err != nil {
		return server.RaftState{}, err
	}
	var self struct {
		Stats struct {
			Raft map[string]string `json:"raft"`
		}
	}
	if _, err := client.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(ctx)); err == nil {
		if s, err := parseRaftStats(self.Stats.Raft); err == nil && len(s.Peers) == len(v.peers) {
			s.Leader = v.leader
			return s, nil
		}
	}
	s := server.RaftState{Leader: v.leader}
	for _, p := range v.peers {
		s.Peers = append(s.Peers, server.RaftPeer{Address: p, Voter: true})
	}
	return s, nil
}

// raftPeer matches one entry of "latest_configuration" (Stats in api.go of hashicorp/raft, which prints the structs).
var raftPeer = regexp.MustCompile(`\{Suffrage:(\S+) ID:(\S*) Address:(\S*)\}`)

// parseRaftStats reads the statistics of Raft that an agent shows.
func parseRaftStats(stats map[string]string) (s server.RaftState, err error) {
	if s.Log, err = logEnd(stats); err != nil {
		return server.RaftState{}, err
	}
	for _, m := range raftPeer.FindAllStringSubmatch(stats["latest_configuration"], -1) {
		s.Peers = append(s.Peers, server.RaftPeer{ID: m[2], Address: m[3], Voter: m[1] == "Voter"})
	}
	return s, nil
}

// ParseLogEnd reads the end of the Raft log from what the command "consul info" prints.
func ParseLogEnd(info string) (server.LogEnd, error) {
	stats := map[string]string{}
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok {
			stats[key] = value
		}
	}
	return logEnd(stats)
}

func logEnd(stats map[string]string) (server.LogEnd, error) {
	var log, snapshot server.LogEnd // a server that has just got a snapshot has no log after it
	for key, field := range map[string]*uint64{
		"last_log_term": &log.Term, "last_log_index": &log.Index, "last_snapshot_term": &snapshot.Term, "last_snapshot_index": &snapshot.Index,
	} {
		value, ok := stats[key]
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return server.LogEnd{}, fmt.Errorf("parsing %s of the server: %w", key, err)
		}
		*field = n
	}
	if log.Less(snapshot) {
		log = snapshot
	}
	if log.Term == 0 || log.Index == 0 {
		return server.LogEnd{}, errors.New("the server does not show the end of its Raft log")
	}
	return log, nil
}
