package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Ways back for a cluster that has lost its quorum.
const (
	// FromSurvivor makes a server that has its data the only voter. The others join it.
	FromSurvivor = "survivor"
	// FromNothing lets servers of which none has data begin anew, as an empty cluster.
	FromNothing = "nothing"
)

const (
	// leaderlessFor is for how long servers must have had no leader before a recovery: longer than an election.
	leaderlessFor = 15 * time.Second
	// recoveryTimeout is how long servers may take to begin anew.
	recoveryTimeout = 3 * time.Minute
)

// Remains is what is left of the servers of a cluster that was established.
type Remains struct {
	// Leader says that there is one: nothing is lost.
	Leader bool
	// Data are the pods of servers that run, and have their data.
	Data []string
	// Empty are those that wait because they have none, and Unknown those of which nothing is known:
	// they start, cannot be scheduled, or do not answer.
	Empty, Unknown []string
}

// Lost reports whether there can be no quorum any more, whatever becomes of the servers of which nothing is known.
func (r Remains) Lost() bool {
	n := len(r.Data) + len(r.Empty) + len(r.Unknown)
	return !r.Leader && n > 0 && len(r.Data)+len(r.Unknown) < n/2+1
}

// String says what is left.
func (r Remains) String() string {
	var parts []string
	for _, p := range []struct {
		pods []string
		what string
	}{{r.Data, "with data"}, {r.Empty, "without data"}, {r.Unknown, "of which nothing is known"}} {
		if len(p.pods) > 0 {
			parts = append(parts, p.what+": "+strings.Join(p.pods, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// RefusedRecoveryError says why a recovery was not begun. Nothing was changed.
type RefusedRecoveryError struct{ Reason string }

// Error implements error.
func (e *RefusedRecoveryError) Error() string { return e.Reason }

// Check returns why the way back is none, "" if it is one.
func (r Remains) Check(from string) string {
	switch {
	case from == FromSurvivor && len(r.Data) == 0:
		return "no server runs that has its data (" + r.String() + ")"
	case from == FromNothing && (len(r.Empty) == 0 || len(r.Data)+len(r.Unknown) > 0):
		return "there may be data left (" + r.String() + "): an empty cluster in its place would lose it. Recover from a survivor, or delete the volume claims of servers whose data is known to be lost"
	}
	return ""
}

// Remains looks what is left of a cluster.
func (d Deployment) Remains(ctx context.Context) (Remains, error) {
	sts, err := d.Kube.AppsV1().StatefulSets(d.Consul.Namespace).Get(ctx, server.StatefulSetName(d.Consul.Name), metav1.GetOptions{})
	if err != nil {
		return Remains{}, fmt.Errorf("reading the StatefulSet of %s: %w", d.Consul.ID(), err)
	}
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return Remains{}, err
	}
	var r Remains
	for ordinal := range int(*sts.Spec.Replicas) {
		name := server.PodName(d.Consul.Name, ordinal)
		if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Name == name }) {
			r.Unknown = append(r.Unknown, name)
		}
	}
	for i := range pods {
		p := &pods[i]
		switch data, leader, known := d.Consul.Raft(ctx, p); {
		case known && leader:
			return Remains{Leader: true}, nil
		case known && data:
			r.Data = append(r.Data, p.Name)
		case waitsWithoutData(p):
			r.Empty = append(r.Empty, p.Name)
		default:
			r.Unknown = append(r.Unknown, p.Name)
		}
	}
	return r, nil
}

// waitsWithoutData reports whether the first container of a server's pod, which ends at once where there is data, waits.
func waitsWithoutData(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.InitContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.Name == server.WaitContainerName && s.State.Running != nil && time.Since(s.State.Running.StartedAt.Time) > 5*time.Second
	})
}

// Recover brings a cluster back that has lost its quorum, as far as that it has a leader. One that has a leader is left
// alone. It returns a *RefusedRecoveryError where the way is none. What was interrupted goes on when it is called again.
func (d Deployment) Recover(ctx context.Context, spec server.Spec, from string) error {
	return d.exclusively(ctx, func(ctx context.Context) error {
		r, err := d.leaderless(ctx)
		if err != nil || r.Leader {
			return err
		}
		if reason := r.Check(from); reason != "" {
			return &RefusedRecoveryError{reason}
		}
		ctx, cancel := context.WithTimeout(ctx, recoveryTimeout)
		defer cancel()
		a := Action{Recover: from}
		d.Report(a)
		d.event(ctx, a)
		if from == FromNothing {
			return d.beginAnew(ctx, spec)
		}
		return d.makeOnlyVoter(ctx, r.Data)
	})
}

// leaderless looks until there is a leader, or has been none for long enough.
func (d Deployment) leaderless(ctx context.Context) (r Remains, err error) {
	began := time.Now()
	err = kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		if r, err = d.Remains(ctx); err != nil {
			return "", err
		}
		if r.Leader || time.Since(began) > leaderlessFor {
			return "", nil
		}
		return "there is no leader", nil
	})
	return r, err
}

// makeOnlyVoter lets the server whose Raft log goes furthest start with a peers.json that names it alone
// (developer.hashicorp.com/consul/docs/manage/disaster-recovery/outage-recovery). Consul reads the file once, when it
// starts, and deletes it.
func (d Deployment) makeOnlyVoter(ctx context.Context, pods []string) error {
	best, furthest := "", uint64(0)
	for _, name := range pods {
		index, err := d.lastIndex(ctx, name)
		if err != nil {
			return fmt.Errorf("asking server %s how far its Raft log goes: %w", name, err)
		}
		if best == "" || index > furthest {
			best, furthest = name, index
		}
	}
	pod, err := d.Kube.CoreV1().Pods(d.Consul.Namespace).Get(ctx, best, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading Pod %s: %w", best, err)
	}
	ordinal, _ := server.Ordinal(d.Consul.Name, best)
	peers, err := json.Marshal([]struct {
		ID       string `json:"id"`
		Address  string `json:"address"`
		NonVoter bool   `json:"non_voter"`
	}{{ID: server.NodeID(d.Consul.Namespace, d.Consul.Name, ordinal), Address: server.RPCAddress(pod.Status.PodIP)}})
	if err != nil {
		return err
	}
	// The agent is killed, and not asked to leave. It is started again in the same pod, with the same address.
	_, err = d.Kube.Exec(ctx, d.Consul.Namespace, best, server.ContainerName, nil, "/bin/sh", "-euc",
		`printf %s "$1" >/consul/data/raft/peers.json && kill -KILL "$(cat /tmp/pid)"`, "sh", string(peers))
	if err != nil && !d.isGone(ctx, pod) {
		return fmt.Errorf("making server %s the only voter: %w", best, err)
	}
	return kube.Wait(ctx, "server "+best+" to lead", interval, func(ctx context.Context) (string, error) {
		r, err := d.Remains(ctx)
		if err == nil && !r.Leader {
			return "it does not lead yet", nil
		}
		return "", err
	})
}

// isGone reports whether the container of a server was started again, or is about to be.
func (d Deployment) isGone(ctx context.Context, before *corev1.Pod) bool {
	err := kube.Wait(ctx, "Consul to be started again", interval, func(ctx context.Context) (string, error) {
		now, err := d.Kube.CoreV1().Pods(before.Namespace).Get(ctx, before.Name, metav1.GetOptions{})
		if err == nil && now.UID == before.UID && restarts(now) == restarts(before) && consul.PodRuns(now) {
			return "it runs", nil
		}
		return "", err
	})
	return err == nil
}

func restarts(p *corev1.Pod) (n int32) {
	for _, s := range p.Status.ContainerStatuses {
		n += s.RestartCount
	}
	return n
}

// lastIndex asks the agent in a pod, with the token that the pod has made for itself, how far its Raft log goes.
func (d Deployment) lastIndex(ctx context.Context, pod string) (uint64, error) {
	out, err := d.Kube.Exec(ctx, d.Consul.Namespace, pod, server.ContainerName, nil, "consul", "info", "-token-file=/tmp/token")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && key == "last_log_index" {
			return strconv.ParseUint(value, 10, 64)
		}
	}
	return 0, errors.New("it does not say")
}

// beginAnew makes a cluster of which no server has data what it was before its first leader, waits for one, and
// bootstraps its ACLs with the management token that it had.
func (d Deployment) beginAnew(ctx context.Context, spec server.Spec) error {
	live, err := ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return err
	}
	running, err := server.Parse(live, spec)
	if err != nil {
		return err
	}
	running.Established = false
	if _, err := applyObjects(ctx, d.Kube, server.Objects(running), live); err != nil {
		return err
	}
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return err
	}
	for i := range pods {
		if err := (Live{Kube: d.Kube, Consul: d.Consul}).Restart(ctx, pods[i].Name); err != nil {
			return fmt.Errorf("restarting server %s: %w", pods[i].Name, err)
		}
	}
	if err := d.settle(ctx, running, int(running.Replicas)); err != nil {
		return err
	}
	if !running.ACL.Enabled {
		return nil
	}
	token, ref, err := d.Consul.ManagementToken(ctx)
	if err != nil || token == "" { // they were not bootstrapped yet
		return err
	}
	_, err = d.Consul.EnsureBootstrap(ctx, ref, consul.ResetOptions{})
	return err
}
