package restic

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// FailedError says that a Job was tried, and why it failed.
type FailedError struct {
	Reason string
	// Explanation is what Kubernetes says of the Job's pod (kube.Client.Explain).
	Explanation string
}

// Error implements error.
func (e *FailedError) Error() string { return e.Reason }

// ForeignError says that an object with a name that is needed is somebody else's.
type ForeignError struct{ Object string }

// Error implements error.
func (e *ForeignError) Error() string {
	return e.Object + " exists and was not made by this provider for this purpose"
}

const (
	interval = time.Second
	// explainAfter is for how long a pod may not run before it is asked why.
	explainAfter = 10 * time.Second
	// cleanUpTimeout bounds what is done after a failure.
	cleanUpTimeout = 30 * time.Second
)

// start makes a Job. One of its name that is there is an error.
func start(ctx context.Context, k *kube.Client, job *batchv1.Job) (*batchv1.Job, error) {
	made, err := k.BatchV1().Jobs(job.Namespace).Create(ctx, job, metav1.CreateOptions{FieldManager: server.ManagedBy})
	if apierrors.IsAlreadyExists(err) {
		return nil, &ForeignError{"Job " + job.Namespace + "/" + job.Name}
	} else if err != nil {
		return nil, fmt.Errorf("making a Job in %s: %w", job.Namespace, err)
	}
	return made, nil
}

// await waits until a Job has ended, and returns the pod that did its work, nil if that is gone. It returns
// a *FailedError where the Job failed, or has not ended in time. An API that does not answer is waited out.
func await(ctx context.Context, k *kube.Client, job *batchv1.Job) (*corev1.Pod, error) {
	var done *corev1.Pod
	failed := &FailedError{}
	notRunning := time.Now() // since when
	err := kube.Wait(ctx, fmt.Sprintf("the Job %s/%s", job.Namespace, job.Name), interval, func(ctx context.Context) (string, error) {
		job, err := k.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
		var list *corev1.PodList
		if err == nil {
			list, err = k.CoreV1().Pods(job.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(job.Spec.Template.Labels).String()})
		}
		switch {
		case kube.Permanent(err):
			return "", err
		case err != nil:
			return err.Error(), nil
		}
		pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !metav1.IsControlledBy(&p, job) })
		at, hasFailed := ended(job)
		switch {
		case hasFailed:
			failed.Reason = reason(job, pods)
			return "", nil
		case !at.IsZero():
			if i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded }); i >= 0 {
				done = &pods[i]
			}
			return "", nil
		case slices.ContainsFunc(pods, starts):
			notRunning = time.Now()
		case time.Since(notRunning) > explainAfter: // it hangs: Kubernetes knows why, as long as there is a pod
			failed.Explanation = k.Explain(ctx, job.Namespace, job.Name, job.Spec.Template.Labels)
			notRunning = time.Now()
		}
		return "it has not ended", nil
	})
	if err == nil && failed.Reason == "" {
		return done, nil
	}
	if err != nil {
		failed.Reason = err.Error()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		failed.Explanation = k.Explain(ctx, job.Namespace, job.Name, job.Spec.Template.Labels)
	}
	return nil, failed
}

// starts reports whether a container of a pod has been started.
func starts(p corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil || s.State.Terminated != nil
	})
}

// words are the last words of a container of a pod that did its work, "" if that is gone.
func words(p *corev1.Pod, container string) string {
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

// remove deletes a Job of the cluster with its pods, and waits until they are gone.
func remove(ctx context.Context, k *kube.Client, namespace, name string, owns func(metav1.Object) bool) error {
	jobs := k.BatchV1().Jobs(namespace)
	return kube.Wait(ctx, "the Job "+namespace+"/"+name+" to go", interval, func(ctx context.Context) (string, error) {
		job, err := jobs.Get(ctx, name, metav1.GetOptions{})
		if found, err := kube.Found(err); err != nil || !found || !owns(job) {
			return "", err
		}
		if job.DeletionTimestamp == nil {
			err = jobs.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)})
			if _, err := kube.Found(err); err != nil {
				return "", err
			}
		}
		return "it is still there", nil
	})
}

// ended says when a Job ended, and whether it failed; the zero time if it has not.
func ended(j *batchv1.Job) (at time.Time, failed bool) {
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobFailed || c.Type == batchv1.JobComplete) {
			return c.LastTransitionTime.Time, c.Type == batchv1.JobFailed
		}
	}
	return time.Time{}, false
}

// message is what the pod of a Job says that did its work, "" if there is none.
func message(j *batchv1.Job, pods []corev1.Pod) string {
	for i := range pods {
		for _, c := range pods[i].Status.ContainerStatuses {
			if t := c.State.Terminated; t != nil && t.ExitCode == 0 && metav1.IsControlledBy(&pods[i], j) {
				return t.Message
			}
		}
	}
	return ""
}

// reason is why a Job failed: the last words of its latest pod, or what Kubernetes says.
func reason(j *batchv1.Job, pods []corev1.Pod) string {
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
