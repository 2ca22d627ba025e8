package rollout

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

// ConfigError says that Consul refuses the declared configuration, and that nothing was changed.
type ConfigError struct {
	// Words are Consul's own.
	Words string
}

// Error implements error.
func (e *ConfigError) Error() string { return "Consul refuses the configuration: " + e.Words }

const (
	checkInterval = 250 * time.Millisecond
	// checkGrace is how long a check may be kept from starting by what waiting does not change, such as a full cluster.
	checkGrace = 15 * time.Second
	// checkTimeout is how long a check may run. It takes two seconds.
	checkTimeout = time.Minute
)

// checkConfig lets Consul check the configuration of a spec, if that is not what runs (server.NeedsCheck). It returns a
// *ConfigError where Consul refuses it. A check that cannot run keeps nobody from a change: the servers take it up one at
// a time, and the first that does not come back ends it.
func (d Deployment) checkConfig(ctx context.Context, before, spec server.Spec, live server.Set) error {
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

func (d Deployment) runCheck(ctx context.Context, spec server.Spec, live server.Set) error {
	if !server.FitsCheck(spec) {
		return errors.New("it is too large")
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
		return fmt.Errorf("making the Job that checks the configuration: %w", err)
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

// awaitCheck waits for the end of the container that checks, no longer than checkGrace for a pod that does not start, and
// no longer than checkTimeout for one that runs.
func (d Deployment) awaitCheck(ctx context.Context, job *batchv1.Job) (*corev1.ContainerStateTerminated, error) {
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
				return "", fmt.Errorf("it has not ended after %s", checkTimeout)
			}
			return "it runs", nil
		}
		switch {
		case why == "":
			since = time.Now()
			return "its pod starts", nil
		case time.Since(since) > checkGrace:
			return "", errors.New(why)
		}
		return why, nil
	})
	return ended, err
}

// checkEnded returns how the check ended, or why it does not start, as far as it is known that waiting does not help;
// neither while it starts or runs.
func checkEnded(pods []corev1.Pod) (ended *corev1.ContainerStateTerminated, why string) {
	if len(pods) == 0 {
		return nil, "Kubernetes makes no pod for it"
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

// checkRuns reports whether the container that checks runs.
func checkRuns(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.Name == server.CheckContainerName && c.State.Running != nil
	})
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
