package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// ConfigError says that Consul refuses the declared configuration. Nothing was changed.
type ConfigError struct {
	// Words are Consul's own.
	Words string
}

// Error implements error.
func (e *ConfigError) Error() string { return "Consul refuses the configuration: " + e.Words }

const (
	checkInterval = 250 * time.Millisecond
	// checkGrace is how long to wait if an obstacle that does not go away by itself, such as a full cluster, keeps a
	// check from starting.
	checkGrace = 15 * time.Second
	// checkTimeout is how long a check may run. It usually takes two seconds.
	checkTimeout = time.Minute
)

// checkConfig lets Consul check the configuration of a spec, unless the servers already run it (server.NeedsCheck). It
// returns a *ConfigError if Consul refuses the configuration. A check that cannot run does not prevent a change: the
// servers load the configuration one at a time, and the change stops at the first server that does not come back.
func (d configCheck) checkConfig(ctx context.Context, before, spec server.Spec, live server.Set) error {
	if !server.NeedsCheck(before, spec) {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, server.CheckDeadline)
	defer cancel()
	err := d.runCheck(limited, spec, live)
	var refused *ConfigError
	if err == nil || errors.As(err, &refused) || ctx.Err() != nil {
		return err
	}
	if d.Unchecked != nil {
		d.Unchecked(err)
	}
	return nil
}

func (d configCheck) runCheck(ctx context.Context, spec server.Spec, live server.Set) error {
	if !server.FitsCheck(spec) {
		return errors.New("the configuration is too large")
	}
	job := server.CheckJob(spec)
	if pod := &job.Spec.Template.Spec; live.ServiceAccount == nil && pod.ServiceAccountName == server.StatefulSetName(spec.Name) {
		pod.ServiceAccountName = "" // the default one
	}
	jobs := d.Kube.BatchV1().Jobs(job.Namespace)
	made, err := d.Kube.StartJob(ctx, job)
	if apierrors.IsAlreadyExists(err) { // of an apply that was killed
		made, err = jobs.Get(ctx, job.Name, metav1.GetOptions{})
	}
	if err != nil {
		return fmt.Errorf("creating the Job that checks the configuration: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		// If this fails, Kubernetes removes it after a while.
		_ = jobs.Delete(ctx, made.Name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)})
	}()
	ended, err := d.awaitCheck(ctx, made)
	if err != nil {
		return err
	}
	switch words := server.CheckWords(ended.Message); {
	case ended.ExitCode == 0:
		return nil
	case ended.ExitCode == server.CheckRefused && words != "":
		return &ConfigError{Words: words}
	default:
		return fmt.Errorf("the check ended with exit code %d (%s): %s", ended.ExitCode, ended.Reason, lastLine(ended.Message))
	}
}

// awaitCheck waits until the container of the check ends: at most checkGrace for a pod that does not start, and at most
// checkTimeout for one that runs.
func (d configCheck) awaitCheck(ctx context.Context, job *batchv1.Job) (*corev1.ContainerStateTerminated, error) {
	var ended *corev1.ContainerStateTerminated
	since, started := time.Now(), time.Time{}
	err := kube.Wait(ctx, "the check of the configuration", checkInterval, func(ctx context.Context) (string, error) {
		pods, err := d.Kube.JobPods(ctx, job)
		switch {
		case kube.Permanent(err):
			return "", err
		case err != nil:
			return err.Error(), nil
		}
		var why string
		if ended, why = checkEnded(pods); ended != nil {
			return "", nil
		}
		if len(pods) == 0 {
			if refused := d.Kube.RefusedPod(ctx, job, time.Since(since)); refused != "" {
				return "", errors.New(refused)
			}
		}
		if slices.ContainsFunc(pods, checkRuns) {
			if started.IsZero() {
				started = time.Now()
			}
			if time.Since(started) > checkTimeout {
				return "", fmt.Errorf("the check has not ended after %s", checkTimeout)
			}
			return "it is running", nil
		}
		switch {
		case why == "":
			since = time.Now()
			return "its pod is starting", nil
		case time.Since(since) > checkGrace:
			return "", errors.New(why)
		}
		return why, nil
	})
	return ended, err
}

// checkEnded returns how the check ended, or why it does not start if waiting is known not to help. It returns
// neither while the check starts or runs.
func checkEnded(pods []corev1.Pod) (ended *corev1.ContainerStateTerminated, why string) {
	if len(pods) == 0 {
		return nil, "Kubernetes has not created a pod for it"
	}
	p := &pods[0]
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return nil, "its pod is not scheduled: " + c.Message
		}
	}
	i := slices.IndexFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.Name == server.CheckContainerName })
	switch {
	case i < 0 && p.Status.Phase == corev1.PodFailed: // evicted, or refused by the node
		return nil, strings.TrimSpace("its pod failed: " + p.Status.Reason + " " + p.Status.Message)
	case i < 0:
		return nil, ""
	}
	state := p.Status.ContainerStatuses[i].State
	if w := state.Waiting; w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
		return nil, strings.TrimSpace("its pod does not start: " + w.Reason + " " + w.Message)
	}
	return state.Terminated, ""
}

// checkRuns reports whether the container of the check runs.
func checkRuns(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.Name == server.CheckContainerName && c.State.Running != nil
	})
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
