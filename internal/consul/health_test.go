package consul

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func healthy(n int) Health {
	h := Health{Healthy: true, FailureTolerance: (n - 1) / 2}
	for i := range n {
		h.Servers = append(h.Servers, ServerHealth{Name: fmt.Sprintf("s-%d", i), SerfStatus: "alive", Voter: true, Healthy: true, Leader: i == 0})
	}
	return h
}

func TestHealth_MissingVoters(t *testing.T) {
	tests := map[string]struct {
		change func(*Health)
		want   string // part of what is missing, "" for nothing
	}{
		"all well":                    {func(*Health) {}, ""},
		"a server has not joined":     {func(h *Health) { h.Servers = h.Servers[:2] }, "autopilot knows 2 of 3 servers"},
		"no state yet":                {func(h *Health) { *h = Health{} }, "autopilot knows 0 of 3 servers"},
		"a server does not vote yet":  {func(h *Health) { h.Servers[2].Voter = false }, "s-2 is not yet a voter"},
		"a server is unhealthy":       {func(h *Health) { h.Servers[1].Healthy = false }, "s-1 is not healthy"},
		"a server has failed":         {func(h *Health) { h.Servers[1].SerfStatus = "failed" }, "s-1 is failed"},
		"there is no leader":          {func(h *Health) { h.Servers[0].Leader = false }, "0 leaders"},
		"two lead":                    {func(h *Health) { h.Servers[1].Leader = true }, "2 leaders"},
		"the tolerance is too low":    {func(h *Health) { h.FailureTolerance = 0 }, "failure tolerance is 0 of 1"},
		"one server more than wanted": {func(h *Health) { *h = healthy(4) }, "autopilot knows 4 of 3 servers"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := healthy(3)
			tt.change(&h)
			got := h.MissingVoters(3)
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Autopilot only looks every two seconds: voters and the leader are those of the current Raft configuration, and the
// tolerance is computed from both.
func TestNewHealth(t *testing.T) {
	t.Parallel()
	reply := &api.OperatorHealthReply{Healthy: true, FailureTolerance: 1}
	raft := &api.RaftConfiguration{}
	for i := range 3 {
		id, address := fmt.Sprintf("id-%d", i), fmt.Sprintf("10.0.0.%d:8300", i)
		reply.Servers = append(
			reply.Servers,
			api.ServerHealth{
				ID:         id,
				Name:       fmt.Sprintf("s-%d", i),
				SerfStatus: "alive",
				Address:    address,
				Healthy:    true,
				Voter:      true,
				Leader:     i == 0,
			},
		)
		raft.Servers = append(raft.Servers, &api.RaftServer{ID: id, Address: address, Voter: true, Leader: i == 1})
	}
	h := newHealth(reply, raft)
	if m := h.MissingVoters(3); m != "" || h.FailureTolerance != 1 || h.Leader().Name != "s-1" {
		t.Errorf("got %q missing, tolerance %d, leader %v", m, h.FailureTolerance, h.Leader())
	}
	pod := func(i int, ip string) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s-%d", i)}, Status: corev1.PodStatus{PodIP: ip}}
	}
	if m := h.missingAddresses([]corev1.Pod{pod(0, "10.0.0.0"), pod(1, "10.0.0.1")}); m != "" {
		t.Errorf("got %q missing", m)
	}
	if m := h.missingAddresses([]corev1.Pod{pod(0, "10.0.0.0"), pod(1, "10.0.0.9")}); !strings.Contains(m, "s-1") ||
		strings.Contains(m, "s-0") {
		t.Errorf("got %q, want s-1 with its former address", m)
	}
	raft.Servers[2].Voter = false // while autopilot still remembers a vote
	if h := newHealth(reply, raft); h.Servers[2].Voter || h.FailureTolerance != 0 {
		t.Errorf("a server without a vote: %+v", h)
	}
	raft.Servers = raft.Servers[:2]
	if h := newHealth(reply, raft); h.Servers[2].Voter || h.FailureTolerance != 0 {
		t.Errorf("a server that is not a peer: %+v", h)
	}
}

func TestAdjustAutopilot(t *testing.T) {
	t.Parallel()
	conf := &api.AutopilotConfiguration{
		CleanupDeadServers: true, LastContactThreshold: api.NewReadableDuration(200 * time.Millisecond), MaxTrailingLogs: 250,
		MinQuorum: 2, ServerStabilizationTime: api.NewReadableDuration(10 * time.Second), DisableUpgradeMigration: true,
	}
	want := []string{"min_quorum is 2, declared is 3", "server_stabilization_time is 10s, declared is 1s"}
	if got := adjustAutopilot(conf, server.DefaultAutopilot, 5); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if conf.MinQuorum != 3 || conf.ServerStabilizationTime.Duration() != time.Second || !conf.DisableUpgradeMigration {
		t.Errorf("got %+v", conf)
	}
	if got := adjustAutopilot(conf, server.DefaultAutopilot, 5); len(got) > 0 {
		t.Errorf("once more: %q", got)
	}
}

func TestMissingPeers(t *testing.T) {
	three := func() []raftView {
		peers := []string{"10.0.0.1:8300", "10.0.0.11:8300", "10.0.0.3:8300"}
		return []raftView{
			{pod: "s-0", ip: "10.0.0.1", leader: peers[0], peers: peers},
			{pod: "s-1", ip: "10.0.0.11", leader: peers[0], peers: peers},
			{pod: "s-2", ip: "10.0.0.3", leader: peers[0], peers: peers},
		}
	}
	if got := missingPeers(three()); got != "" {
		t.Errorf("all well, but %q", got)
	}
	tests := map[string]struct {
		change func([]raftView)
		want   string
	}{
		"no leader":            {func(v []raftView) { v[1].leader = "" }, "s-1 knows no leader"},
		"another leader":       {func(v []raftView) { v[2].leader = "10.0.0.3:8300" }, "s-2 follows another leader"},
		"a surplus peer":       {func(v []raftView) { v[0].peers = append(v[0].peers[:3:3], "10.0.0.9:8300") }, "s-0 knows 4 of 3"},
		"a former address":     {func(v []raftView) { v[2].ip = "10.0.0.4" }, "does not have s-2 as a Raft peer"},
		"an address as prefix": {func(v []raftView) { v[0].ip = "10.0.0.10" }, "does not have s-0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := three()
			tt.change(v)
			if got := missingPeers(v); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestMissingSoak(t *testing.T) {
	now := time.Now()
	pod := func(since time.Duration) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "s-0"}, Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-since))},
		}}}
	}
	if got := missingSoak([]corev1.Pod{pod(time.Minute)}, Soak, now); got != "" {
		t.Errorf("ready for a minute, but %q", got)
	}
	if got := missingSoak([]corev1.Pod{pod(time.Minute), pod(time.Second)}, Soak, now); got == "" {
		t.Error("a server that has been ready for a second counts as a voter")
	}
	if got := missingSoak([]corev1.Pod{pod(time.Second)}, 0, now); got != "" {
		t.Errorf("no soak is required, but %q", got)
	}
}

// The answers are those of Consul 1.22.
func TestErrors(t *testing.T) {
	status := func(code int, body string) error {
		return fmt.Errorf("wrapped: %w", api.StatusError{Code: code, Body: body})
	}
	tests := map[string]struct {
		err                                                     error
		unknown, forbidden, tokenMissing, noLeader, anotherTime bool
	}{
		"dead credential":                {err: status(403, "ACL not found"), unknown: true, forbidden: true},
		"dead credential, by a follower": {err: status(403, "rpc error making call: ACL not found"), unknown: true, forbidden: true},
		"self of a dead one": {
			err:          status(403, "token does not exist: ACL not found"),
			unknown:      true,
			forbidden:    true,
			tokenMissing: true,
		},
		"weak credential": {
			err:       status(403, "Permission denied: anonymous token lacks permission 'operator:read'"),
			forbidden: true,
		},
		"no leader":       {err: status(500, "No cluster leader"), noLeader: true, anotherTime: true},
		"rate limited":    {err: status(429, "rate limit"), anotherTime: true},
		"not reached":     {err: errors.New("connection refused"), anotherTime: true},
		"a plain refusal": {err: status(500, "Invalid Policy")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := []bool{IsUnknownToken(tt.err), IsForbidden(tt.err), IsTokenMissing(tt.err), isNoLeader(tt.err), AnotherMayAnswer(tt.err)}
			want := []bool{tt.unknown, tt.forbidden, tt.tokenMissing, tt.noLeader, tt.anotherTime}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	index, ok := Bootstrapped(status(403, "Permission denied: ACL bootstrap no longer allowed (reset index: 13)"))
	if !ok || index != 13 {
		t.Errorf("reset index %d, %v", index, ok)
	}
	index, ok = Bootstrapped(status(500, "Invalid bootstrap reset index (specified 13, reset index: 42)"))
	if !ok || index != 42 {
		t.Errorf("reset index %d, %v", index, ok)
	}
	if _, ok := Bootstrapped(status(403, "ACL not found")); ok {
		t.Error("a refusal counts as an earlier bootstrap")
	}
}
