package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// A volume that does not grow is explained with what its controllers say.
func TestDescribeResize(t *testing.T) {
	t.Parallel()
	size := func(q string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(q)}
	}
	condition := func(kind corev1.PersistentVolumeClaimConditionType, status corev1.ConditionStatus, message string) corev1.PersistentVolumeClaimCondition {
		return corev1.PersistentVolumeClaimCondition{Type: kind, Status: status, Message: message}
	}
	tests := map[string]struct {
		has    string
		status corev1.PersistentVolumeClaimStatus
		want   string
	}{
		"grown":  {has: "2Gi"},
		"larger": {has: "3Gi"},
		"nobody cares": {
			has: "1Gi", want: "it has 1Gi, and 2Gi were asked for, no controller has said anything of it: is the resizer of the storage driver running?",
		},
		"its file system waits": {
			has: "1Gi", status: corev1.PersistentVolumeClaimStatus{Conditions: []corev1.PersistentVolumeClaimCondition{
				condition(corev1.PersistentVolumeClaimResizing, corev1.ConditionFalse, "over"),
				condition(corev1.PersistentVolumeClaimFileSystemResizePending, corev1.ConditionTrue, "start a pod"),
			}},
			want: "it has 1Gi, and 2Gi were asked for, FileSystemResizePending start a pod",
		},
		"it cannot be": {
			has: "1Gi", status: corev1.PersistentVolumeClaimStatus{AllocatedResourceStatuses: map[corev1.ResourceName]corev1.ClaimResourceStatus{
				corev1.ResourceStorage: corev1.PersistentVolumeClaimControllerResizeInfeasible,
			}},
			want: "it has 1Gi, and 2Gi were asked for, ControllerResizeInfeasible",
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
