package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// JobError says that a Job ran, and why it failed.
type JobError struct {
	Reason string
	// Explanation is what Kubernetes reports for the Job's pod (Client.Explain), "" if there was no need to
	// ask.
	Explanation string
}

// Error implements error.
func (e *JobError) Error() string { return e.Reason }

const (
	// jobInterval is how often a Job is looked at.
	jobInterval = time.Second
	// explainAfter is how long a pod may not be running before the reason is looked for.
	explainAfter = 10 * time.Second
	// explainTimeout bounds the search for the reason why a Job has failed.
	explainTimeout = 30 * time.Second
	// refusalPatience is how long to wait if Kubernetes refuses to create a pod for a reason that may go away.
	refusalPatience = 30 * time.Second
)

// StartJob creates a Job. If a Job with its name exists, it returns an error for which apierrors.IsAlreadyExists is
// true.
func (c *Client) StartJob(ctx context.Context, job *batchv1.Job) (*batchv1.Job, error) {
	made, err := c.BatchV1().Jobs(job.Namespace).Create(ctx, job, metav1.CreateOptions{FieldManager: c.fieldManager})
	if err != nil {
		return nil, fmt.Errorf("creating a Job in %s: %w", job.Namespace, err)
	}
	return made, nil
}

// AwaitJob waits until a Job has ended (JobOutcome), and returns the pod that did its work, nil if that no longer exists. It
// returns a *JobError if the Job failed or has not ended in time, or if Kubernetes refuses to create its pods. An interruption is
// a *TimeoutError that wraps context.Canceled, and not a failure of the Job. While the API does not answer, AwaitJob keeps
// waiting.
func (c *Client) AwaitJob(ctx context.Context, job *batchv1.Job) (*corev1.Pod, error) {
	var done *corev1.Pod
	failed := &JobError{}
	began := time.Now()
	notRunning := began // since when
	err := Wait(ctx, fmt.Sprintf("the Job %s/%s", job.Namespace, job.Name), jobInterval, func(ctx context.Context) (string, error) {
		job, err := c.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
		var pods []corev1.Pod
		if err == nil {
			pods, err = c.JobPods(ctx, job)
		}
		switch {
		case Permanent(err):
			return "", err
		case err != nil:
			return err.Error(), nil
		}
		at, hasFailed := JobOutcome(job, pods)
		switch {
		case hasFailed:
			failed.Reason = JobReason(job, pods)
			return "", nil
		case !at.IsZero():
			done = JobPod(job, pods)
			return "", nil
		case slices.ContainsFunc(pods, func(p corev1.Pod) bool { return starts(job, &p) }):
			notRunning = time.Now()
			return "it has not ended", nil
		case len(pods) == 0:
			if failed.Reason = c.RefusedPod(ctx, job, time.Since(began)); failed.Reason != "" {
				return "", nil
			}
		}
		if time.Since(notRunning) > explainAfter { // it hangs: while the pod exists, Kubernetes knows why
			why := readAwaited(ctx, c, awaitedJob(job))
			failed.Explanation = why.String()
			if o := blocked(why.obstacles, time.Now()); o != nil {
				failed.Reason = o.String()
				return "", nil
			}
			notRunning = time.Now()
		}
		return "it has not started", nil
	})
	switch {
	case err == nil && failed.Reason == "":
		return done, nil
	case errors.Is(err, context.Canceled):
		return nil, err
	case err != nil:
		failed.Reason = err.Error()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainTimeout)
		defer cancel()
		failed.Explanation = c.Explain(ctx, awaitedJob(job))
	}
	return nil, failed
}

// JobPods lists the pods of a Job.
func (c *Client) JobPods(ctx context.Context, job *batchv1.Job) ([]corev1.Pod, error) {
	list, err := c.CoreV1().Pods(
		job.Namespace,
	).List(
		ctx,
		metav1.ListOptions{LabelSelector: labels.SelectorFromSet(job.Spec.Template.Labels).String()},
	)
	if err != nil {
		return nil, fmt.Errorf("listing the pods of the Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	return podsOfJob(job, list.Items), nil
}

func podsOfJob(j *batchv1.Job, pods []corev1.Pod) []corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return !metav1.IsControlledBy(&p, j) })
}

// RefusedPod returns what Kubernetes answers to the Job controller that tries to create a pod, "" while that may still change.
// waited is how long there has been no pod.
func (c *Client) RefusedPod(ctx context.Context, job *batchv1.Job, waited time.Duration) string {
	list, err := c.CoreV1().Events(job.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.uid": string(job.UID), "reason": reasonFailedCreate}.String(),
	})
	if err != nil {
		return "" // with a credential that may not read events, the wait ends with a timeout
	}
	return refusal(list.Items, job.UID, waited)
}

// reasonFailedCreate is the reason of the events of a Job whose pod is refused
// (k8s.io/kubernetes/pkg/controller/controller_utils.go).
const reasonFailedCreate = "FailedCreate"

// refusal is the latest answer in the events of a Job that has had no pod for some time, "" if it may still get one. Admission
// plugins and policies answer "is forbidden", webhooks "denied the request", and validation "is invalid": that does not change. Other
// answers, such as those of a webhook that is not available for a moment, may change.
func refusal(events []corev1.Event, job types.UID, waited time.Duration) string {
	var latest *corev1.Event
	for i, e := range events {
		if e.InvolvedObject.UID == job && e.Reason == reasonFailedCreate && (latest == nil || eventTime(e).After(eventTime(*latest))) {
			latest = &events[i]
		}
	}
	if latest == nil {
		return ""
	}
	patience := refusalPatience
	if slices.ContainsFunc(
		[]string{" is forbidden: ", " is invalid: ", " denied the request"},
		func(s string) bool { return strings.Contains(latest.Message, s) },
	) {
		patience = 2 * jobInterval
	}
	if waited < patience {
		return ""
	}
	return "Kubernetes does not create its pod: " + strings.TrimSpace(strings.TrimPrefix(latest.Message, "Error creating: "))
}

// ownStates are the states of the containers that a Job declares in one of its pods, in their order; the zero state if the
// pod does not report one yet. Containers that admission webhooks have added, such as the sidecars of a service mesh, are
// left out.
func ownStates(j *batchv1.Job, p *corev1.Pod) (all []corev1.ContainerState) {
	reported := slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
	for _, c := range slices.Concat(j.Spec.Template.Spec.InitContainers, j.Spec.Template.Spec.Containers) {
		var state corev1.ContainerState
		if i := slices.IndexFunc(reported, func(s corev1.ContainerStatus) bool { return s.Name == c.Name }); i >= 0 {
			state = reported[i].State
		}
		all = append(all, state)
	}
	return all
}

// starts reports whether a container that a Job declares has been started in a pod.
func starts(j *batchv1.Job, p *corev1.Pod) bool {
	return slices.ContainsFunc(ownStates(j, p), func(s corev1.ContainerState) bool { return s.Running != nil || s.Terminated != nil })
}

// succeeded reports whether all containers that a Job declares have succeeded in a pod, whatever others still do, and when.
func succeeded(j *batchv1.Job, p *corev1.Pod) (at time.Time, ok bool) {
	for _, s := range ownStates(j, p) {
		if ok = s.Terminated != nil && s.Terminated.ExitCode == 0; !ok {
			return time.Time{}, false
		}
		at = s.Terminated.FinishedAt.Time
	}
	return at, ok
}

// broke reports whether a pod of a Job will not do its work: a container that the Job declares has failed, or the pod was
// terminated before all had succeeded. Pods of Jobs do not restart containers.
func broke(j *batchv1.Job, p *corev1.Pod) bool {
	if _, ok := succeeded(j, p); ok {
		return false
	}
	return p.Status.Phase == corev1.PodFailed || slices.ContainsFunc(ownStates(j, p), func(s corev1.ContainerState) bool {
		return s.Terminated != nil && s.Terminated.ExitCode != 0
	})
}

// ReachedLast reports whether the last container that a Job declares was started in one of its pods, or may have been: it
// starts when those before it have succeeded, and Kubernetes may report that late.
func ReachedLast(j *batchv1.Job, pods []corev1.Pod) bool {
	return slices.ContainsFunc(podsOfJob(j, pods), func(p corev1.Pod) bool {
		states := ownStates(j, &p)
		last := len(states) - 1
		return last < 0 || states[last].Running != nil || states[last].Terminated != nil ||
			!slices.ContainsFunc(states[:last], func(s corev1.ContainerState) bool {
				return s.Terminated == nil || s.Terminated.ExitCode != 0
			})
	})
}

// awaitedJob is what a Job waits for.
func awaitedJob(job *batchv1.Job) Awaited {
	return Awaited{Namespace: job.Namespace, Owner: job.Name, Selector: job.Spec.Template.Labels, Since: job.CreationTimestamp.Time}
}

// LastWords are the termination message of a container of a pod that did its work, "" if the pod no longer
// exists.
func LastWords(p *corev1.Pod, container string) string {
	if p == nil {
		return ""
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if t := s.State.Terminated; t != nil && s.Name == container {
			return t.Message
		}
	}
	return ""
}

// RemoveJob deletes a Job that is owned, with its pods, and waits until they no longer exist.
func (c *Client) RemoveJob(ctx context.Context, namespace, name string, owns func(metav1.Object) bool) error {
	jobs := c.BatchV1().Jobs(namespace)
	return Wait(ctx, "the Job "+namespace+"/"+name+" to be deleted", jobInterval, func(ctx context.Context) (string, error) {
		job, err := jobs.Get(ctx, name, metav1.GetOptions{})
		if found, err := Found(err); err != nil || !found || !owns(job) {
			return "", err
		}
		if job.DeletionTimestamp == nil {
			err = jobs.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)})
			if _, err := Found(err); err != nil {
				return "", err
			}
		}
		return "it still exists", nil
	})
}

// JobOutcome says when a Job ended, and whether it failed; the zero time if it has not ended. The containers that the Job
// declares decide: an injected sidecar that does not end keeps a Job running until its deadline, and Kubernetes then counts the
// Job as failed. If the pods no longer exist, what Kubernetes reports decides.
func JobOutcome(j *batchv1.Job, pods []corev1.Pod) (at time.Time, failed bool) {
	if p := JobPod(j, pods); p != nil {
		at, _ = succeeded(j, p)
		return at, false
	}
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobFailed || c.Type == batchv1.JobComplete) {
			return c.LastTransitionTime.Time, c.Type == batchv1.JobFailed
		}
	}
	tries, mine := int32(0), podsOfJob(j, pods)
	for i := range mine {
		if !broke(j, &mine[i]) {
			continue
		}
		tries++
		for _, s := range ownStates(j, &mine[i]) {
			if s.Terminated != nil && s.Terminated.FinishedAt.After(at) {
				at = s.Terminated.FinishedAt.Time
			}
		}
	}
	if limit := j.Spec.BackoffLimit; limit == nil || tries <= *limit || at.IsZero() {
		return time.Time{}, false
	}
	return at, true
}

// JobPod is the pod of a Job that did its work, nil if no pod did.
func JobPod(j *batchv1.Job, pods []corev1.Pod) *corev1.Pod {
	for i := range pods {
		if _, ok := succeeded(j, &pods[i]); ok && metav1.IsControlledBy(&pods[i], j) {
			return &pods[i]
		}
	}
	return nil
}

// JobMessage is the termination message of the last container that a Job declares, in the pod that did its work; ""
// if there is none.
func JobMessage(j *batchv1.Job, pods []corev1.Pod) string {
	message := ""
	for _, c := range j.Spec.Template.Spec.Containers {
		message = LastWords(JobPod(j, pods), c.Name)
	}
	return message
}

// JobReason is why a Job failed: the last words of its latest pod, or what Kubernetes reports.
func JobReason(j *batchv1.Job, pods []corev1.Pod) string {
	var latest *corev1.Pod
	mine := podsOfJob(j, pods)
	for i := range mine {
		if latest == nil || latest.CreationTimestamp.Before(&mine[i].CreationTimestamp) {
			latest = &mine[i]
		}
	}
	exit := ""
	if latest != nil {
		names := slices.Concat(j.Spec.Template.Spec.InitContainers, j.Spec.Template.Spec.Containers)
		for i, s := range ownStates(j, latest) {
			t := s.Terminated
			switch {
			case t == nil || t.ExitCode == 0:
			case strings.TrimSpace(t.Message) != "":
				return "container " + names[i].Name + ": " + strings.TrimSpace(t.Message)
			case exit == "":
				exit = fmt.Sprintf("container %s ended with exit code %d (%s)", names[i].Name, t.ExitCode, t.Reason)
			}
		}
		if text := strings.TrimSpace(latest.Status.Message); latest.Status.Phase == corev1.PodFailed && text != "" {
			return "its pod was terminated: " + text
		}
	}
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobFailed && exit == "" {
			return c.Message
		}
	}
	return cmp.Or(exit, "unknown")
}
