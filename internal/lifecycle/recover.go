package lifecycle

import (
	"context"
	_ "embed" // alone.sh
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

const (
	// leadTimeout is how long a server may take to become the leader as the only voter.
	leadTimeout = 3 * time.Minute
	// killTimeout is how long an agent that was killed may take to end.
	killTimeout = 45 * time.Second
	// recoveryFor is how long a server treats peers.json as part of the recovery. It is longer than leadTimeout, and
	// longer than Kubernetes waits before it restarts a container.
	recoveryFor = 6 * time.Minute
)

// leaderlessFor is how long servers must have had no leader before a recovery: longer than elections take. The
// timeouts of elections grow with raft_multiplier
// (developer.hashicorp.com/consul/docs/reference/agent/configuration-file/general).
func leaderlessFor(p server.Performance) time.Duration {
	return 15*time.Second + 5*time.Second*time.Duration(p.RaftMultiplier)
}

// RefusedRecoveryError says why a recovery was refused. Nothing was changed.
type RefusedRecoveryError struct{ Reason string }

// Error implements error.
func (e *RefusedRecoveryError) Error() string { return e.Reason }

// RecoveryError says that the quorum is not recovered. The next apply resumes the recovery.
type RecoveryError struct{ Err error }

// Error implements error.
func (e *RecoveryError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *RecoveryError) Unwrap() error { return e.Err }

// recoverQuorum recovers a cluster that has lost its quorum until it has a leader, and leaves one that has a leader alone. It
// returns a *RefusedRecoveryError for a recovery that Remains.Check refuses, or a *RecoveryError. A call resumes what an earlier one
// began.
func (d recovery) recoverQuorum(ctx context.Context, spec server.Spec, from string) error {
	r, err := d.leaderless(ctx, from, leaderlessFor(spec.Performance))
	switch reason := r.Check(from); {
	case err != nil:
	case r.Leader && r.Recovering != from:
		return nil
	case reason != "" && !r.Leader:
		return &RefusedRecoveryError{reason}
	default:
		d.report(ctx, rollout.Action{Verb: rollout.Recover, On: from})
		if from == rollout.FromNothing {
			err = d.startEmpty(ctx, spec, r.Leader)
		} else {
			err = d.makeOnlyVoter(ctx, r.Data)
		}
	}
	if err != nil {
		return &RecoveryError{err}
	}
	return nil
}

// answerTimeout is how much longer servers in an unknown state are asked before a recovery is refused because of them.
const answerTimeout = 30 * time.Second

// leaderless looks until there is a leader, or until there has been none for long enough. It looks for some more time before a
// recovery is refused: a busy server may not have answered.
func (d recovery) leaderless(ctx context.Context, from string, enough time.Duration) (r rollout.Remains, err error) {
	began := time.Now()
	err = kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		if r, err = d.Remains(ctx); err != nil {
			return "", err
		}
		waited := time.Since(began)
		if r.Leader || (waited > enough && r.Check(from) == "") || waited > enough+answerTimeout {
			return "", nil
		}
		return "there is no leader", nil
	})
	return r, err
}

// makeOnlyVoter lets the server whose Raft log goes furthest start with a peers.json that names only this server
// (developer.hashicorp.com/consul/docs/manage/disaster-recovery/outage-recovery). Consul reads the file once, when it
// starts, and deletes it.
func (d recovery) makeOnlyVoter(ctx context.Context, pods []string) error {
	ctx, cancel := context.WithTimeout(ctx, leadTimeout)
	defer cancel()
	best, furthest := "", server.LogEnd{}
	for _, name := range pods {
		end, err := d.logEnd(ctx, name)
		if err != nil {
			return fmt.Errorf("reading the end of the Raft log of server %s: %w", name, err)
		}
		if best == "" || furthest.Less(end) {
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
	err = d.restartAlone(ctx, pod, string(peers))
	if err != nil { // a later start of the server must not find the file
		err = errors.Join(err, d.dropPeers(ctx, best))
	}
	return err
}

// aloneScript makes a server start again as the only voter.
//
//go:embed alone.sh
var aloneScript string

// restartAlone makes the server in a pod start again as the only voter, in the same pod and with the same address, and waits
// until it leads.
func (d recovery) restartAlone(ctx context.Context, pod *corev1.Pod, peers string) error {
	_, err := d.Kube.Exec(
		ctx,
		pod.Namespace,
		pod.Name,
		server.ContainerName,
		nil,
		"/bin/sh",
		"-c",
		aloneScript,
		"sh",
		peers,
		strconv.Itoa(int(recoveryFor.Seconds())),
		server.RaftDir,
		server.RecoveryFile,
	)
	if gone := d.isGone(ctx, pod); gone != nil { // the command usually ends with the container, which is not an error
		return fmt.Errorf("making server %s the only voter: %w", pod.Name, errors.Join(gone, err))
	}
	return kube.Wait(ctx, "server "+pod.Name+" to become the leader", interval, func(ctx context.Context) (string, error) {
		r, err := d.Remains(ctx)
		if err == nil && !r.Leader {
			return "it is not the leader yet", nil
		}
		return "", err
	})
}

// dropPeers removes the file that makes a server the only voter.
func (d recovery) dropPeers(ctx context.Context, pod string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), execTimeout)
	defer cancel()
	_, err := d.Kube.Exec(
		ctx,
		d.Consul.Namespace,
		pod,
		server.ContainerName,
		nil,
		"/bin/sh",
		"-c",
		"rm -f "+server.RaftDir+"/peers.json "+server.RaftDir+"/peers.new "+server.RecoveryFile,
	)
	if err != nil {
		return fmt.Errorf("removing peers.json from server %s, which ignores the file after %s: %w", pod, recoveryFor, err)
	}
	return nil
}

// isGone waits until the container of a server was restarted, or is about to be, and returns an error if the agent keeps
// running.
func (d recovery) isGone(ctx context.Context, before *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	return kube.Wait(ctx, "Consul to restart", interval, func(ctx context.Context) (string, error) {
		now, err := d.Kube.CoreV1().Pods(before.Namespace).Get(ctx, before.Name, metav1.GetOptions{})
		if err == nil && now.UID == before.UID && restarts(now) == restarts(before) && consul.PodRuns(now) {
			return "the agent still runs", nil
		}
		return "", err
	})
}

// restarts is how often Consul was restarted in a pod.
func restarts(p *corev1.Pod) (n int32) {
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == server.ContainerName {
			n += s.RestartCount
		}
	}
	return n
}

// logEnd asks the agent in a pod how far its Raft log goes, with the token that the pod has made for itself.
func (d recovery) logEnd(ctx context.Context, pod string) (server.LogEnd, error) {
	out, err := d.Kube.Exec(ctx, d.Consul.Namespace, pod, server.ContainerName, nil, "consul", "info", "-token-file=/tmp/token")
	if err != nil {
		return server.LogEnd{}, err
	}
	return consul.ParseLogEnd(out)
}

// startEmpty puts a cluster in which no server has data into the state before its first leader, waits for a leader,
// and bootstraps the ACLs with the management token that the cluster had. leader says that an earlier call got so
// far that there is a leader.
func (d recovery) startEmpty(ctx context.Context, spec server.Spec, leader bool) error {
	if err := patchStatefulSet(
		ctx, d.Kube, d.Consul, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, server.AnnotationRecovering, rollout.FromNothing),
	); err != nil {
		return err
	}
	if err := volumes(d).forgetData(ctx); err != nil {
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
	if err := settle(ctx, portsOf(d.Deployment), running, int(running.Replicas), serverTimeout(running)); err != nil {
		return err
	}
	token, ref, err := consulacl.ManagementToken(ctx, d.Consul)
	if err == nil && running.ACL.Enabled && token != "" { // otherwise they were not bootstrapped yet
		_, err = consulacl.EnsureBootstrap(ctx, d.Consul, ref, consulacl.BootstrapOptions{Provisional: true})
	}
	if err != nil {
		return err
	}
	return removeAnnotation(ctx, d.Kube, d.Consul, server.AnnotationRecovering)
}

// startAll applies a spec and restarts all servers.
func (d recovery) startAll(ctx context.Context, spec server.Spec, live server.Set) error {
	objects := server.Objects(spec)
	// Otherwise the apply would remove it, because it is not declared.
	metav1.SetMetaDataAnnotation(&objects.StatefulSet.ObjectMeta, server.AnnotationRecovering, rollout.FromNothing)
	if _, err := applyObjects(ctx, d.Kube, objects, live); err != nil {
		return err
	}
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return err
	}
	for i := range pods {
		if err := (Live{Kube: d.Kube, Consul: d.Consul}).remove(ctx, rollout.Server{Name: pods[i].Name, UID: string(pods[i].UID)}); err != nil {
			return fmt.Errorf("restarting server %s: %w", pods[i].Name, err)
		}
	}
	return nil
}
