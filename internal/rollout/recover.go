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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Ways back for a cluster that has lost its quorum.
const (
	// FromSurvivor makes a server that has its data the only voter. The others join it.
	FromSurvivor = "survivor"
	// FromNothing lets servers of which none has data begin anew, as an empty cluster.
	FromNothing = "nothing"
)

// leadTimeout is how long a server may take to lead as the only voter.
const leadTimeout = 3 * time.Minute

// leaderlessFor is for how long servers must have had no leader before a recovery: longer than elections take, whose
// timeouts grow with raft_multiplier (developer.hashicorp.com/consul/docs/reference/agent/configuration-file/general).
func leaderlessFor(p server.Performance) time.Duration {
	return 15*time.Second + 5*time.Second*time.Duration(p.RaftMultiplier)
}

// Remains is what is left of the servers of a cluster that was established.
type Remains struct {
	// Leader says that there is one: nothing is lost.
	Leader bool
	// Data are the pods of servers that run, and have their data.
	Data []string
	// Empty are those that wait because they have none, or have no volume, and Unknown those of which nothing is known:
	// they start, cannot be scheduled, or do not answer.
	Empty, Unknown []string
	// Recovering is the way back that has been begun, and not ended, "" if none.
	Recovering string
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
	case r.Recovering == from:
		return ""
	case from == FromSurvivor && len(r.Data) == 0:
		return "no server runs that has its data (" + r.String() + ")"
	case from == FromSurvivor && !r.Lost():
		return "there may be a quorum still (" + r.String() + "): find out why it elects no leader, or wait for the servers that are not there. Of one that does not come back, delete the pod and its volume claim"
	case from == FromNothing && (len(r.Empty) == 0 || len(r.Data)+len(r.Unknown) > 0):
		return "there may be data left (" + r.String() + "): an empty cluster in its place would lose it. Recover from a survivor, or delete the pods and volume claims of servers whose data is known to be lost"
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
	claims, err := d.boundClaims(ctx)
	if err != nil {
		return Remains{}, err
	}
	r := Remains{Recovering: sts.Annotations[server.AnnotationRecovering]}
	for ordinal := range int(*sts.Spec.Replicas) {
		name := server.PodName(d.Consul.Name, ordinal)
		i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name == name })
		data, leader, known := false, false, false
		if i >= 0 {
			data, leader, known = d.Consul.Raft(ctx, &pods[i])
		}
		switch {
		case known && leader:
			return Remains{Leader: true, Recovering: r.Recovering}, nil
		case known && data:
			r.Data = append(r.Data, name)
		case i >= 0 && waitsWithoutData(&pods[i]), i >= 0 && claims != nil && hasNoVolume(&pods[i], claims), i < 0 && claims != nil && claims[server.ClaimName(name)].IsZero():
			r.Empty = append(r.Empty, name)
		default:
			r.Unknown = append(r.Unknown, name)
		}
	}
	return r, nil
}

// hasNoVolume reports whether a server has not been started yet, and its volume is none, or was made with the pod and
// never mounted.
func hasNoVolume(p *corev1.Pod, bound map[string]time.Time) bool {
	made := bound[server.ClaimName(p.Name)]
	return stopped(p) && (made.IsZero() || (p.Spec.NodeName == "" && made.After(p.CreationTimestamp.Add(-time.Minute))))
}

// boundClaims says when the claims that have a volume were made, nil where they may not be listed.
func (d Deployment) boundClaims(ctx context.Context) (map[string]time.Time, error) {
	list, err := d.Kube.CoreV1().PersistentVolumeClaims(d.Consul.Namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		return nil, nil //nolint:nilnil // as documented
	}
	if err != nil {
		return nil, fmt.Errorf("listing the volume claims of %s: %w", d.Consul.ID(), err)
	}
	bound := map[string]time.Time{}
	for _, c := range list.Items {
		if c.Spec.VolumeName != "" {
			bound[c.Name] = c.CreationTimestamp.Time
		}
	}
	return bound, nil
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
		r, err := d.leaderless(ctx, leaderlessFor(spec.Performance))
		if err != nil || (r.Leader && r.Recovering != from) {
			return err
		}
		if reason := r.Check(from); reason != "" && !r.Leader {
			return &RefusedRecoveryError{reason}
		}
		a := Action{Recover: from}
		d.Report(a)
		d.event(ctx, a)
		if from == FromNothing {
			return d.beginAnew(ctx, spec, r.Leader)
		}
		return d.makeOnlyVoter(ctx, r.Data)
	})
}

// leaderless looks until there is a leader, or has been none for long enough.
func (d Deployment) leaderless(ctx context.Context, enough time.Duration) (r Remains, err error) {
	began := time.Now()
	err = kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		if r, err = d.Remains(ctx); err != nil {
			return "", err
		}
		if r.Leader || time.Since(began) > enough {
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
	ctx, cancel := context.WithTimeout(ctx, leadTimeout)
	defer cancel()
	best, furthest := "", logEnd{}
	for _, name := range pods {
		end, err := d.logEnd(ctx, name)
		if err != nil {
			return fmt.Errorf("asking server %s how far its Raft log goes: %w", name, err)
		}
		if best == "" || furthest.less(end) {
			best, furthest = name, end
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
		`cd /consul/data/raft; printf %s "$1" >peers.new || { rm -f peers.new; exit 1; }; mv peers.new peers.json; kill -KILL "$(cat /tmp/pid)"`, "sh", string(peers))
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

// restarts is how often Consul was started again in a pod.
func restarts(p *corev1.Pod) (n int32) {
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == server.ContainerName {
			n += s.RestartCount
		}
	}
	return n
}

// logEnd is the last entry of a Raft log. That of a later term goes further, whatever its index: that is how Raft
// compares them.
type logEnd struct{ term, index uint64 }

func (e logEnd) less(o logEnd) bool {
	return e.term < o.term || (e.term == o.term && e.index < o.index)
}

// logEnd asks the agent in a pod, with the token that the pod has made for itself, how far its Raft log goes.
func (d Deployment) logEnd(ctx context.Context, pod string) (logEnd, error) {
	out, err := d.Kube.Exec(ctx, d.Consul.Namespace, pod, server.ContainerName, nil, "consul", "info", "-token-file=/tmp/token")
	if err != nil {
		return logEnd{}, err
	}
	return parseLogEnd(out)
}

// parseLogEnd reads what "consul info" prints.
func parseLogEnd(info string) (logEnd, error) {
	var end, snapshot logEnd // a server that was just given a snapshot has no log after it
	into := map[string]*uint64{
		"last_log_term": &end.term, "last_log_index": &end.index, "last_snapshot_term": &snapshot.term, "last_snapshot_index": &snapshot.index,
	}
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		if field := into[key]; field != nil {
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return logEnd{}, fmt.Errorf("its %s: %w", key, err)
			}
			*field = n
		}
	}
	if end.less(snapshot) {
		end = snapshot
	}
	if end.term == 0 || end.index == 0 {
		return logEnd{}, errors.New("it does not say")
	}
	return end, nil
}

// beginAnew makes a cluster of which no server has data what it was before its first leader, waits for one, and
// bootstraps its ACLs with the management token that it had. leader says that an earlier call has come so far that
// there is one.
func (d Deployment) beginAnew(ctx context.Context, spec server.Spec, leader bool) error {
	if err := patchStatefulSet(ctx, d.Kube, d.Consul, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, server.AnnotationRecovering, FromNothing)); err != nil {
		return err
	}
	if err := d.forgetData(ctx); err != nil {
		return err
	}
	// What was restored is lost. If this fails, Kubernetes removes it in a day.
	finish, cancel := context.WithTimeout(ctx, cleanUpTimeout)
	_ = (restic.Client{Kube: d.Kube, Consul: d.Consul}).FinishRestore(finish)
	cancel()
	live, err := ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return err
	}
	running, err := server.Parse(live, spec)
	if err != nil {
		return err
	}
	if !leader {
		running.Established = false
		if err := d.startAll(ctx, running, live); err != nil {
			return err
		}
	}
	if err := d.settle(ctx, running, int(running.Replicas)); err != nil {
		return err
	}
	token, ref, err := d.Consul.ManagementToken(ctx)
	if err == nil && running.ACL.Enabled && token != "" { // otherwise they were not bootstrapped yet
		_, err = d.Consul.EnsureBootstrap(ctx, ref, consul.BootstrapOptions{Provisional: true})
	}
	if err != nil {
		return err
	}
	return removeAnnotation(ctx, d.Kube, d.Consul, server.AnnotationRecovering)
}

// startAll applies a spec and starts all servers anew.
func (d Deployment) startAll(ctx context.Context, spec server.Spec, live server.Set) error {
	objects := server.Objects(spec)
	// Otherwise it would be taken away, as what is not declared.
	metav1.SetMetaDataAnnotation(&objects.StatefulSet.ObjectMeta, server.AnnotationRecovering, FromNothing)
	if _, err := applyObjects(ctx, d.Kube, objects, live); err != nil {
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
	return nil
}
