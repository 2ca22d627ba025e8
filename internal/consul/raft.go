package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
)

// TransferLeadership moves the leadership to a server, by its name (POST
// /v1/operator/raft/transfer-leader, Consul 1.15 and later). It needs operator:write.
func (c *Cluster) TransferLeadership(ctx context.Context, token, name string) error {
	s, err := c.known(ctx, token, name)
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

// RemovePeer removes a server from the Raft peers, by its name (DELETE
// /v1/operator/raft/peer). One that is no peer is no error. It needs operator:write.
func (c *Cluster) RemovePeer(ctx context.Context, token, name string) error {
	s, err := c.known(ctx, token, name)
	if err != nil || !s.Peer {
		return err
	}
	return c.Any(ctx, token, func(client *api.Client) error {
		return client.Operator().RaftRemovePeerByID(s.ID, (&api.WriteOptions{}).WithContext(ctx))
	})
}

// known is what autopilot says of one server.
func (c *Cluster) known(ctx context.Context, token, name string) (ServerHealth, error) {
	h, err := c.Health(ctx, token)
	if err != nil {
		return ServerHealth{}, err
	}
	i := slices.IndexFunc(h.Servers, func(s ServerHealth) bool { return s.Name == name })
	if i < 0 {
		return ServerHealth{}, fmt.Errorf("autopilot does not know the server %s", name)
	}
	return h.Servers[i], nil
}

// HasBootstrapped reports whether one of the servers in the pods knows a Raft peer: then
// there was a leader, whether there is one now or not. It needs no right. An error
// means that a server did not tell, and that nobody else knows one.
func (c *Cluster) HasBootstrapped(ctx context.Context, pods []corev1.Pod) (bool, error) {
	var errs []error
	for i := range pods {
		v, err := c.raftView(ctx, &pods[i])
		if len(v.peers) > 0 || v.leader != "" {
			return true, nil
		}
		errs = append(errs, err)
	}
	return false, errors.Join(errs...)
}

// askTimeout bounds what a server is asked that may not answer.
const askTimeout = 5 * time.Second

// Raft asks a server whether it has the data of a cluster, which names its peers, and whether it knows a leader.
// It needs no right; known is false where the server does not tell.
func (c *Cluster) Raft(ctx context.Context, pod *corev1.Pod) (data, leader, known bool) {
	if !PodRuns(pod) {
		return false, false, false
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	v, err := c.raftView(ctx, pod)
	return len(v.peers) > 0, v.leader != "", err == nil
}
