package acctest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
)

const (
	// watchInterval is the time between two questions to a server about its view of Raft.
	watchInterval = 150 * time.Millisecond
	// watchSilence is how long a live server may not answer: the path to it includes the Kubernetes API server of a
	// machine that may be busy. A server that is silent for longer counts as dead from its last answer to its next.
	// No pod is replaced that fast.
	watchSilence = 3 * time.Second
)

// RaftWatch asks every server of a cluster for its view of Raft, several times a second, each through its own
// port-forward, while a test changes the servers.
type RaftWatch struct {
	t       testing.TB
	cluster *consul.Cluster
	token   string
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex
	samples []raftSample
}

// RaftTimeline is what happened in Raft. Times are as exact as the samples are frequent.
type RaftTimeline struct {
	// FewestVoters is the smallest number of voters that were alive at once.
	FewestVoters int
	// FewestConfigured is the smallest number of voters in the Raft configuration, alive or not.
	FewestConfigured int
	// Voters is how long each number of voters lasted.
	Voters map[int]time.Duration
	// LeaderChanges is how often another server became the leader. A server that comes back with another address
	// counts as another one.
	LeaderChanges int
	// LongestWithoutLeader is the longest time in which no majority of the voters
	// knew the same leader.
	LongestWithoutLeader time.Duration
}

// Below is how long there were fewer than n voters.
func (r RaftTimeline) Below(n int) (d time.Duration) {
	for voters, t := range r.Voters {
		if voters < n {
			d += t
		}
	}
	return d
}

// WatchRaft starts to watch the servers of a cluster, and returns when all voters have answered. The token needs
// operator:read. It may be "" if ACLs are off.
func WatchRaft(t testing.TB, namespace, name, token string) *RaftWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &RaftWatch{t: t, cluster: Consul(t, namespace, name), token: token, cancel: cancel}
	w.wg.Go(func() { w.follow(ctx) })
	Wait(t, "the voters to answer", func(context.Context) (string, error) {
		if len(w.timeline(time.Now()).Voters) == 0 {
			return "not all have", nil
		}
		return "", nil
	})
	return w
}

func (w *RaftWatch) timeline(end time.Time) RaftTimeline {
	w.mu.Lock()
	defer w.mu.Unlock()
	return newRaftTimeline(w.samples, end)
}

// HasLeader waits until the watch sees a leader, which may be later than others do if a server was asked late.
func (w *RaftWatch) HasLeader() {
	w.t.Helper()
	begun := time.Now()
	Wait(w.t, "the watch to see a leader", func(context.Context) (string, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if slices.ContainsFunc(w.samples, func(s raftSample) bool { return s.leader != "" && s.at.After(begun) }) {
			return "", nil
		}
		return "it sees none", nil
	})
}

// Stop ends the watch and returns what it saw.
func (w *RaftWatch) Stop() RaftTimeline {
	w.t.Helper()
	end := time.Now()
	w.cancel()
	w.wg.Wait()
	return w.timeline(end)
}

// follow asks every server pod, as long as the pod exists.
func (w *RaftWatch) follow(ctx context.Context) {
	asked := map[types.UID]context.CancelFunc{}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		pods, err := w.cluster.Pods(ctx)
		if err == nil {
			for uid, cancel := range asked {
				if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.UID == uid }) {
					cancel()
					delete(asked, uid)
				}
			}
		}
		for _, pod := range pods {
			if asked[pod.UID] != nil || pod.Status.PodIP == "" {
				continue
			}
			podCtx, cancel := context.WithCancel(ctx)
			asked[pod.UID] = cancel
			w.wg.Go(func() { w.ask(podCtx, &pod) })
		}
		select {
		case <-ctx.Done():
			for _, cancel := range asked {
				cancel()
			}
			return
		case <-tick.C:
		}
	}
}

// ask asks one server until the context ends. A missing answer is not recorded: it shows as silence.
func (w *RaftWatch) ask(ctx context.Context, pod *corev1.Pod) {
	client, err := w.cluster.Server(pod, w.token)
	if err != nil {
		w.t.Error(err)
		return
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if raft, err := raftConfiguration(ctx, client); err == nil {
			s := newRaftSample(time.Now(), pod.Status.PodIP, raft)
			w.mu.Lock()
			w.samples = append(w.samples, s)
			w.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// raftConfiguration asks a server for its own configuration, leader or not.
func raftConfiguration(ctx context.Context, client *api.Client) (*api.RaftConfiguration, error) {
	ctx, cancel := context.WithTimeout(ctx, watchSilence)
	defer cancel()
	return client.Operator().RaftGetConfiguration((&api.QueryOptions{AllowStale: true}).WithContext(ctx))
}

// raftSample is the view of one server at one time. Servers are identified by their IPs.
type raftSample struct {
	at     time.Time
	server string
	// voters are the voters in the Raft configuration that the server knows.
	voters []string
	// leader that the server follows, "" if it knows none.
	leader string
}

func newRaftSample(at time.Time, server string, raft *api.RaftConfiguration) raftSample {
	s := raftSample{at: at, server: server}
	for _, p := range raft.Servers {
		ip, _, err := net.SplitHostPort(p.Address)
		if err != nil {
			ip = p.Address
		}
		if p.Voter {
			s.voters = append(s.voters, ip)
		}
		if p.Leader {
			s.leader = ip
		}
	}
	return s
}

// newRaftTimeline builds a timeline from samples up to an end. It starts when every voter has answered. The voters
// are those of the leader's last answer, because Consul does not return the index of a configuration, and a removed
// server does not learn of its removal. Of these voters, those that answer are alive.
func newRaftTimeline(samples []raftSample, end time.Time) RaftTimeline {
	slices.SortStableFunc(samples, func(a, b raftSample) int { return a.at.Compare(b.at) })
	answers := map[string][]time.Time{} // by server
	for _, s := range samples {
		answers[s.server] = append(answers[s.server], s.at)
	}
	out := RaftTimeline{Voters: map[int]time.Duration{}}
	latest := map[string]raftSample{} // by server
	var voters []string
	begun, leader, leaderless := false, "", time.Duration(0)
	// Between two moments, nothing changes. A server becomes silent at one of its answers.
	for i, s := range samples {
		latest[s.server] = s
		if s.leader == s.server {
			voters = s.voters
		}
		until := end
		if i+1 < len(samples) {
			until = samples[i+1].at
		}
		alive := slices.DeleteFunc(slices.Clone(voters), func(v string) bool { return !answersAt(answers[v], s.at, end) })
		if begun = begun || (len(voters) > 0 && len(alive) == len(voters)); !begun {
			continue
		}
		lasted := until.Sub(s.at)
		if len(out.Voters) == 0 {
			out.FewestVoters, out.FewestConfigured = len(alive), len(voters)
		}
		out.FewestVoters = min(out.FewestVoters, len(alive))
		out.FewestConfigured = min(out.FewestConfigured, len(voters))
		out.Voters[len(alive)] += lasted
		now := majorityLeader(alive, len(voters), latest)
		if now == "" {
			leaderless += lasted
			out.LongestWithoutLeader = max(out.LongestWithoutLeader, leaderless)
			continue
		}
		leaderless = 0
		if leader != "" && leader != now {
			out.LeaderChanges++
		}
		leader = now
	}
	return out
}

// answersAt reports whether a server is alive at a time, judging by its answers.
func answersAt(answers []time.Time, at, end time.Time) bool {
	next, found := slices.BinarySearchFunc(answers, at, time.Time.Compare)
	for found && next < len(answers) && answers[next].Equal(at) {
		next++ // the next answer counts
	}
	if next == 0 {
		return false
	}
	following := end
	if next < len(answers) {
		following = answers[next]
	}
	return following.Sub(answers[next-1]) <= watchSilence
}

// majorityLeader is the leader that a majority of n voters follow, "" without one.
func majorityLeader(alive []string, n int, latest map[string]raftSample) string {
	followers := map[string]int{}
	for _, v := range alive {
		leader := latest[v].leader
		if followers[leader]++; leader != "" && followers[leader] > n/2 {
			return leader
		}
	}
	return ""
}
