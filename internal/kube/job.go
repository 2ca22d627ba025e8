package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// JobError says that a Job was tried, and why it failed.
type JobError struct {
	Reason string
	// Explanation is what Kubernetes says of the Job's pod (Client.Explain), "" where there was no need to ask.
	Explanation string
}

// Error implements error.
func (e *JobError) Error() string { return e.Reason }

const (
	// jobInterval is how often a Job is looked at.
	jobInterval = time.Second
	// explainAfter is for how long a pod may not run before it is asked why.
	explainAfter = 10 * time.Second
	// explainTimeout bounds the question why a Job has failed.
	explainTimeout = 30 * time.Second
)

// StartJob makes a Job. For one of its name that is there it returns an error of which apierrors.IsAlreadyExists holds.
func (c *Client) StartJob(ctx context.Context, job *batchv1.Job) (*batchv1.Job, error) {
	made, err := c.BatchV1().Jobs(job.Namespace).Create(ctx, job, metav1.CreateOptions{FieldManager: c.fieldManager})
	if err != nil {
		return nil, fmt.Errorf("making a Job in %s: %w", job.Namespace, err)
	}
	return made, nil
}

// AwaitJob waits until a Job has ended, and returns the pod that did its work, nil if that is gone. It returns
// a *JobError where the Job failed, or has not ended in time. An API that does not answer is waited out.
func (c *Client) AwaitJob(ctx context.Context, job *batchv1.Job) (*corev1.Pod, error) {
	var done *corev1.Pod
	failed := &JobError{}
	notRunning := time.Now() // since when
	err := Wait(ctx, fmt.Sprintf("the Job %s/%s", job.Namespace, job.Name), jobInterval, func(ctx context.Context) (string, error) {
		job, err := c.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
		var list *corev1.PodList
		if err == nil {
			list, err = c.CoreV1().Pods(job.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(job.Spec.Template.Labels).String()})
		}
		switch {
		case Permanent(err):
			return "", err
		case err != nil:
			return err.Error(), nil
		}
		pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !metav1.IsControlledBy(&p, job) })
		at, hasFailed := JobEnded(job)
		switch {
		case hasFailed:
			failed.Reason = JobReason(job, pods)
			return "", nil
		case !at.IsZero():
			if i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded }); i >= 0 {
				done = &pods[i]
			}
			return "", nil
		case slices.ContainsFunc(pods, starts):
			notRunning = time.Now()
		case time.Since(notRunning) > explainAfter: // it hangs: Kubernetes knows why, as long as there is a pod
			failed.Explanation = c.Explain(ctx, job.Namespace, job.Name, job.Spec.Template.Labels)
			notRunning = time.Now()
		}
		return "it has not ended", nil
	})
	if err == nil && failed.Reason == "" {
		return done, nil
	}
	if err != nil {
		failed.Reason = err.Error()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainTimeout)
		defer cancel()
		failed.Explanation = c.Explain(ctx, job.Namespace, job.Name, job.Spec.Template.Labels)
	}
	return nil, failed
}

// starts reports whether a container of a pod has been started.
func starts(p corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil || s.State.Terminated != nil
	})
}

// LastWords are the termination message of a container of a pod that did its work, "" if that is gone.
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

// RemoveJob deletes a Job that is owned with its pods, and waits until they are gone.
func (c *Client) RemoveJob(ctx context.Context, namespace, name string, owns func(metav1.Object) bool) error {
	jobs := c.BatchV1().Jobs(namespace)
	return Wait(ctx, "the Job "+namespace+"/"+name+" to go", jobInterval, func(ctx context.Context) (string, error) {
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
		return "it is still there", nil
	})
}

// JobEnded says when a Job ended, and whether it failed; the zero time if it has not.
func JobEnded(j *batchv1.Job) (at time.Time, failed bool) {
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobFailed || c.Type == batchv1.JobComplete) {
			return c.LastTransitionTime.Time, c.Type == batchv1.JobFailed
		}
	}
	return time.Time{}, false
}

// JobMessage is what the pod of a Job says that did its work, "" if there is none.
func JobMessage(j *batchv1.Job, pods []corev1.Pod) string {
	for i := range pods {
		for _, c := range pods[i].Status.ContainerStatuses {
			if t := c.State.Terminated; t != nil && t.ExitCode == 0 && metav1.IsControlledBy(&pods[i], j) {
				return t.Message
			}
		}
	}
	return ""
}

// JobReason is why a Job failed: the last words of its latest pod, or what Kubernetes says.
func JobReason(j *batchv1.Job, pods []corev1.Pod) string {
	var latest *corev1.Pod
	for i := range pods {
		if metav1.IsControlledBy(&pods[i], j) && (latest == nil || latest.CreationTimestamp.Before(&pods[i].CreationTimestamp)) {
			latest = &pods[i]
		}
	}
	if latest != nil {
		for _, c := range slices.Concat(latest.Status.InitContainerStatuses, latest.Status.ContainerStatuses) {
			if t := c.State.Terminated; t != nil && t.ExitCode != 0 && strings.TrimSpace(t.Message) != "" {
				return "container " + c.Name + ": " + strings.TrimSpace(t.Message)
			}
		}
	}
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobFailed {
			return c.Message
		}
	}
	return "unknown"
}
