package kube

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
)

// theJob has the containers fetch and verify before restore, and no retries.
func theJob(conditions ...batchv1.JobConditionType) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "consul-restore", UID: "job"}}
	j.Spec.BackoffLimit = new(int32(0))
	j.Spec.Template.Labels = map[string]string{"task": "restore"}
	j.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "fetch"}, {Name: "verify"}}
	j.Spec.Template.Spec.Containers = []corev1.Container{{Name: "restore"}}
	for _, c := range conditions {
		j.Status.Conditions = append(
			j.Status.Conditions,
			batchv1.JobCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(jobTime), Message: "Kubernetes' words"},
		)
	}
	return j
}

var jobTime = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// jobPod is a pod of the Job. Its containers are written "<name> <state>", where a state is waits, runs, or an exit
// code. Those after "|" are not init containers. After ":" is the termination message.
func jobPod(phase corev1.PodPhase, containers ...string) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "pod", Labels: map[string]string{"task": "restore"},
			OwnerReferences: []metav1.OwnerReference{{UID: "job", Controller: new(true)}},
		},
		Status: corev1.PodStatus{Phase: phase},
	}
	init := true
	for _, c := range containers {
		if c == "|" {
			init = false
			continue
		}
		c, message, _ := strings.Cut(c, ":")
		name, state, _ := strings.Cut(c, " ")
		s := corev1.ContainerStatus{Name: name}
		switch state {
		case "waits":
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
		case "runs":
			s.State.Running = &corev1.ContainerStateRunning{}
		case "0":
			s.State.Terminated = &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(jobTime), Message: message}
		default:
			s.State.Terminated = &corev1.ContainerStateTerminated{
				ExitCode:   1,
				Reason:     "Error",
				FinishedAt: metav1.NewTime(jobTime),
				Message:    message,
			}
		}
		if init {
			p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, s)
		} else {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, s)
		}
	}
	return p
}

// The containers that a Job declares decide whether it has ended, whatever was injected beside them.
func TestJobOutcome(t *testing.T) {
	t.Parallel()
	const (
		runs = "it runs"
		ok   = "it succeeded"
		bad  = "it failed"
	)
	for name, tt := range map[string]struct {
		job  *batchv1.Job
		pods []corev1.Pod
		want string
	}{
		"no pod yet":                {theJob(), nil, runs},
		"it runs":                   {theJob(), []corev1.Pod{jobPod(corev1.PodRunning, "fetch 0", "verify 0", "|", "restore runs")}, runs},
		"its pod is gone, complete": {theJob(batchv1.JobComplete), nil, ok},
		"its pod is gone, failed":   {theJob(batchv1.JobFailed), nil, bad},
		"complete": {theJob(batchv1.JobComplete), []corev1.Pod{jobPod(corev1.PodSucceeded, "fetch 0", "verify 0", "|", "restore 0")},
			ok},
		"a sidecar keeps it": {theJob(), []corev1.Pod{jobPod(corev1.PodRunning, "fetch 0", "verify 0", "|", "proxy runs", "restore 0")},
			ok},
		"a sidecar keeps its failure": {theJob(), []corev1.Pod{jobPod(corev1.PodRunning, "fetch 0", "verify 0", "|", "proxy runs", "restore 1")},
			bad},
		"a sidecar kept it to the end": {theJob(batchv1.JobFailed), []corev1.Pod{jobPod(corev1.PodFailed, "fetch 0", "verify 0", "|", "restore 0", "proxy 1")},
			ok},
		"a sidecar alone ended": {theJob(), []corev1.Pod{jobPod(corev1.PodRunning, "fetch 0", "verify 0", "|", "proxy 0", "restore runs")},
			runs},
		"a native sidecar runs": {theJob(), []corev1.Pod{jobPod(corev1.PodRunning, "proxy runs", "fetch 0", "verify runs", "|", "restore waits")},
			runs},
		"a native sidecar runs at the end": {theJob(), []corev1.Pod{jobPod(corev1.PodRunning, "proxy runs", "fetch 0", "verify 0", "|", "restore 0")},
			ok},
		"evicted": {theJob(), []corev1.Pod{jobPod(corev1.PodFailed, "fetch 0", "verify 1", "|", "restore waits")}, bad},
		"another Job's pod": {theJob(), []corev1.Pod{{Status: jobPod(corev1.PodSucceeded, "fetch 0", "verify 0", "|", "restore 0").Status}},
			runs},
	} {
		at, failed := JobOutcome(tt.job, tt.pods)
		got := runs
		switch {
		case failed:
			got = bad
		case !at.IsZero():
			got = ok
		}
		if got != tt.want {
			t.Errorf("%s: %s, want: %s", name, got, tt.want)
		}
	}
	again := theJob()
	again.Spec.BackoffLimit = new(int32(2))
	if at, _ := JobOutcome(again, []corev1.Pod{jobPod(corev1.PodFailed, "fetch 1", "verify waits", "|", "restore waits")}); !at.IsZero() {
		t.Error("a Job with retries left has ended")
	}
}

// A restore has started when the containers before the last one have succeeded, or the last one was started. Sidecars
// do not matter.
func TestReachedLast(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pod  corev1.Pod
		want bool
	}{
		"no container yet":               {jobPod(corev1.PodPending), false},
		"before it":                      {jobPod(corev1.PodPending, "fetch 0", "verify runs", "|", "restore waits"), false},
		"one before it failed":           {jobPod(corev1.PodFailed, "fetch 0", "verify 1", "|", "restore waits"), false},
		"those before it have ended":     {jobPod(corev1.PodPending, "fetch 0", "verify 0", "|", "restore waits"), true},
		"it runs":                        {jobPod(corev1.PodRunning, "fetch 0", "verify 0", "|", "restore runs"), true},
		"it failed":                      {jobPod(corev1.PodFailed, "fetch 0", "verify 0", "|", "restore 1"), true},
		"a native sidecar, before it":    {jobPod(corev1.PodPending, "proxy runs", "fetch 0", "verify waits", "|", "restore waits"), false},
		"a native sidecar, and it runs":  {jobPod(corev1.PodRunning, "proxy runs", "fetch 0", "verify 0", "|", "restore runs"), true},
		"a native sidecar, and it ended": {jobPod(corev1.PodRunning, "fetch 0", "verify 0", "proxy runs", "|", "restore 0"), true},
		"an injected init container":     {jobPod(corev1.PodPending, "proxy-init 0", "fetch waits", "verify waits", "|", "restore waits"), false},
	} {
		if got := ReachedLast(theJob(), []corev1.Pod{tt.pod}); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The message of a Job, and why it failed, comes from the containers that it declares.
func TestJobMessage(t *testing.T) {
	t.Parallel()
	pods := []corev1.Pod{jobPod(corev1.PodRunning, "fetch 0", "verify 0:words", "|", "proxy 0:of the proxy", "restore 0:done")}
	if got := JobMessage(theJob(), pods); got != "done" {
		t.Errorf("it says %q", got)
	}
	ended := jobPod(corev1.PodFailed, "fetch runs", "verify waits", "|", "restore waits")
	ended.Status.Message = "Pod was active on the node longer than the specified deadline"
	for name, tt := range map[string]struct {
		pod  corev1.Pod
		want string
	}{
		"beside a sidecar": {jobPod(corev1.PodRunning, "fetch 0", "verify 1:no such snapshot", "|", "proxy 1:killed", "restore waits"),
			"container verify: no such snapshot"},
		"without a word": {jobPod(corev1.PodFailed, "fetch 1", "verify waits", "|", "restore waits"), "container fetch ended with exit code " +
			"1 (Error)"},
		"at its deadline": {ended, "its pod was terminated: Pod was active on the node longer than the specified deadline"},
		"a sidecar alone": {jobPod(corev1.PodFailed, "fetch 0", "verify 0", "|", "proxy 1:killed", "restore waits"), "Kubernetes' words"},
	} {
		if got := JobReason(theJob(batchv1.JobFailed), []corev1.Pod{tt.pod}); got != tt.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A final refusal of Kubernetes ends the wait within seconds. One that may change is waited out for a while.
func TestRefusal(t *testing.T) {
	t.Parallel()
	const limit = `Error creating: pods "consul-list-x" is forbidden: minimum memory usage per Container is 256Mi, but request is 128Mi`
	event := func(message string) corev1.Event {
		return corev1.Event{
			InvolvedObject: corev1.ObjectReference{UID: "job"},
			Reason:         "FailedCreate",
			Message:        message,
			LastTimestamp:  metav1.NewTime(jobTime),
		}
	}
	later := event(`Error creating: pods "x" is forbidden: exceeded quota`)
	later.LastTimestamp = metav1.NewTime(jobTime.Add(time.Second))
	others := event(limit)
	others.InvolvedObject.UID = "other"
	for name, tt := range map[string]struct {
		events []corev1.Event
		waited time.Duration
		want   string
	}{
		"nothing":        {nil, time.Minute, ""},
		"another Job":    {[]corev1.Event{others}, time.Minute, ""},
		"another reason": {[]corev1.Event{{InvolvedObject: corev1.ObjectReference{UID: "job"}, Reason: "Suspended"}}, time.Minute, ""},
		"a limit":        {[]corev1.Event{event(limit)}, 3 * time.Second, "minimum memory usage per Container is 256Mi"},
		"at once":        {[]corev1.Event{event(limit)}, time.Second, ""},
		"a policy": {[]corev1.Event{event(`Error creating: admission webhook "policy.example" denied the request: a label is missing`)},
			3 * time.Second, "a label is missing"},
		"a webhook away": {[]corev1.Event{event(`Error creating: Internal error occurred: failed calling webhook "x": connection refused`)},
			3 * time.Second, ""},
		"a webhook, longer": {[]corev1.Event{event(`Error creating: Internal error occurred: failed calling webhook "x": connection refused`)},
			time.Minute, "connection refused"},
		"the latest": {[]corev1.Event{event(limit), later}, time.Minute, "exceeded quota"},
	} {
		got := refusal(tt.events, "job", tt.waited)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) || strings.Contains(got, "Error creating") {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// AwaitJob ends if no pod can be created, and once the Job's own containers have ended.
func TestAwaitJob(t *testing.T) {
	t.Parallel()
	await := func(ctx context.Context, objects ...runtime.Object) (*corev1.Pod, error) {
		return (&Client{Interface: fake.NewClientset(objects...)}).AwaitJob(ctx, theJob())
	}
	refused := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "event"}, InvolvedObject: corev1.ObjectReference{UID: "job"}, Reason: "FailedCreate",
		Message: `Error creating: pods "x" is forbidden: minimum memory usage per Container is 256Mi`,
	}
	t.Run("no pod can be created", func(t *testing.T) {
		t.Parallel()
		_, err := await(t.Context(), theJob(), refused)
		var failed *JobError
		if !errors.As(err, &failed) || !strings.Contains(failed.Reason, "minimum memory usage") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a sidecar keeps it running", func(t *testing.T) {
		t.Parallel()
		pod := jobPod(corev1.PodRunning, "fetch 0", "verify 0", "|", "proxy runs", "restore 0:done")
		done, err := await(t.Context(), theJob(), &pod)
		if err != nil || LastWords(done, "restore") != "done" {
			t.Errorf("got %v, %v", done, err)
		}
	})
	// An interruption does not make the Job fail.
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		pod := jobPod(corev1.PodRunning, "fetch runs", "verify waits", "|", "restore waits")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err := await(ctx, theJob(), &pod)
		if !errors.Is(err, context.Canceled) || errors.As(err, new(*JobError)) || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("out of time", func(t *testing.T) {
		t.Parallel()
		pod := jobPod(corev1.PodRunning, "fetch runs", "verify waits", "|", "restore waits")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := await(ctx, theJob(), &pod)
		if !errors.As(err, new(*JobError)) {
			t.Errorf("got %v", err)
		}
	})
}
