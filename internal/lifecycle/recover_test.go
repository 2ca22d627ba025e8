package lifecycle

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A server has no data if its container reports that, however long the container has run.
func TestSaysNoData(t *testing.T) {
	t.Parallel()
	ended := func(code int32, message string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for name, tt := range map[string]struct {
		status corev1.ContainerStatus
		want   bool
	}{
		"it runs, and has reported nothing":  {corev1.ContainerStatus{State: running}, false},
		"it has just reported no data":       {corev1.ContainerStatus{State: ended(1, server.NoDataReport)}, true},
		"it has reported no data, and waits": {corev1.ContainerStatus{State: running, LastTerminationState: ended(1, server.NoDataReport)}, true},
		"it no longer waits": {corev1.ContainerStatus{
			State: ended(0, ""), LastTerminationState: ended(1, server.NoDataReport),
		}, false},
		"it ended for another reason": {corev1.ContainerStatus{State: running, LastTerminationState: ended(137, "OOMKilled")}, false},
	} {
		if got := saysNoData(tt.status); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
