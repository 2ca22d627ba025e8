package kube

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// The explanation of a volume that does not grow quotes its controllers.
func TestDescribeResize(t *testing.T) {
	t.Parallel()
	size := func(q string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(q)}
	}
	condition := func(
		kind corev1.PersistentVolumeClaimConditionType, status corev1.ConditionStatus, message string,
	) corev1.PersistentVolumeClaimCondition {
		return corev1.PersistentVolumeClaimCondition{Type: kind, Status: status, Message: message}
	}
	tests := map[string]struct {
		has    string
		status corev1.PersistentVolumeClaimStatus
		want   string
	}{
		"grown":  {has: "2Gi"},
		"larger": {has: "3Gi"},
		"no event explains it": {
			has: "1Gi", want: "it has 1Gi, and 2Gi is requested, no controller has reported on this: is the resizer of the storage driver running?",
		},
		"its file system waits": {
			has: "1Gi", status: corev1.PersistentVolumeClaimStatus{Conditions: []corev1.PersistentVolumeClaimCondition{
				condition(corev1.PersistentVolumeClaimResizing, corev1.ConditionFalse, "over"),
				condition(corev1.PersistentVolumeClaimFileSystemResizePending, corev1.ConditionTrue, "start a pod"),
			}},
			want: "it has 1Gi, and 2Gi is requested, FileSystemResizePending start a pod",
		},
		"it cannot be": {
			has: "1Gi", status: corev1.PersistentVolumeClaimStatus{AllocatedResourceStatuses: map[corev1.ResourceName]corev1.ClaimResourceStatus{
				corev1.ResourceStorage: corev1.PersistentVolumeClaimControllerResizeInfeasible,
			}},
			want: "it has 1Gi, and 2Gi is requested, ControllerResizeInfeasible",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &corev1.PersistentVolumeClaim{Status: tt.status}
			c.Spec.Resources.Requests, c.Status.Capacity = size("2Gi"), size(tt.has)
			if got := describeResize(c); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// The reason why a container ended is quoted, without the progress that it reported before.
func TestDescribePod_quotesTheLastWords(t *testing.T) {
	t.Parallel()
	ended := func(message string) *corev1.ContainerStateTerminated {
		return &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: message}
	}
	const restarted = "Running, container consul was restarted 2 times and ended with exit code 1"
	for message, want := range map[string]string{
		"": restarted,
		"failed to parse /consul/config/extra.json: 1 error occurred:\n\t* invalid config key foo\n\n": restarted +
			": failed to parse /consul/config/extra.json: 1 error occurred:\n* invalid config key foo",
		"2026-01-01T00:00:00Z [INFO]  agent: starting\n2026-01-01T00:00:01Z [ERROR] agent: open /consul/data/raft.db: permission " +
			"denied\n2026-01-01T00:00:01Z [INFO]  agent: Exit code: code=1\n": restarted +
			": 2026-01-01T00:00:01Z [ERROR] agent: open /consul/data/raft.db: permission denied",
		"[INFO] only progress\n": restarted + ": [INFO] only progress",
		"1\n2\n3\n4\n5\n":        restarted + ": 2\n3\n4\n5",
		strings.Repeat("x", 500): restarted + ": " + strings.Repeat("x", maxWordsLength) + "…",
	} {
		p := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
			Name: "consul", RestartCount: 2, LastTerminationState: corev1.ContainerState{Terminated: ended(message)},
		}}}}
		if got := describePod(p); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	failed := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{{
		Name: "wait", State: corev1.ContainerState{Terminated: ended("no wget")},
	}}}}
	if got, want := describePod(failed), "Pending, container wait ended with exit code 1: no wget"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
