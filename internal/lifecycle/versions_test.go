package lifecycle

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A version counts once Consul was started with it: one that never started has written nothing.
func TestVersions(t *testing.T) {
	t.Parallel()
	pod := func(version string, status corev1.ContainerStatus) corev1.Pod {
		status.Name = server.ContainerName
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{server.LabelVersion: version}},
			Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{status}},
		}
	}
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}
	runs := func(version string) corev1.Pod {
		return pod(version, corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
	}
	leaving := pod("1.20.6", corev1.ContainerStatus{State: ended})
	leaving.DeletionTimestamp = &metav1.Time{}
	sidecar := pod("1.22.77", corev1.ContainerStatus{State: waiting})
	sidecar.Status.ContainerStatuses = append(sidecar.Status.ContainerStatuses, corev1.ContainerStatus{
		Name: "proxy", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	})
	tests := map[string]struct {
		pods    []corev1.Pod
		running string
		started []string
	}{
		"no pods":      {nil, "", nil},
		"one version":  {[]corev1.Pod{runs("1.22.7"), runs("1.22.7")}, "1.22.7", []string{"1.22.7"}},
		"two versions": {[]corev1.Pod{runs("1.22.10"), runs("1.22.9")}, "1.22.9", []string{"1.22.9", "1.22.10"}},
		"one without an image": {
			[]corev1.Pod{runs("1.22.7"), pod("1.22.77", corev1.ContainerStatus{State: waiting})},
			"1.22.7",
			[]string{"1.22.7"},
		},
		"all without an image": {[]corev1.Pod{pod("1.22.77", corev1.ContainerStatus{State: waiting})}, "", nil},
		"one that never started": {
			[]corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{server.LabelVersion: "1.22.7"}}}},
			"",
			nil,
		},
		"one that crashed": {
			[]corev1.Pod{runs("1.21.0"), pod("1.22.7", corev1.ContainerStatus{State: ended})},
			"1.21.0",
			[]string{"1.21.0", "1.22.7"},
		},
		"one that crashes again": {
			[]corev1.Pod{runs("1.21.0"), pod("1.22.7", corev1.ContainerStatus{State: waiting, LastTerminationState: ended})},
			"1.21.0",
			[]string{"1.21.0", "1.22.7"},
		},
		"one that is being deleted":        {[]corev1.Pod{runs("1.21.0"), leaving}, "1.20.6", []string{"1.20.6", "1.21.0"}},
		"another container runs":           {[]corev1.Pod{runs("1.22.7"), sidecar}, "1.22.7", []string{"1.22.7"}},
		"a crash beside another container": {[]corev1.Pod{sidecar}, "", nil},
		"no version":                       {[]corev1.Pod{runs("prod"), runs("")}, "", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			running, started := versions(tt.pods)
			if running != tt.running || !slices.Equal(started, tt.started) {
				t.Errorf("%q runs and %q started, want %q and %q", running, started, tt.running, tt.started)
			}
		})
	}
}
