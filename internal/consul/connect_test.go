package consul

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Consul is the container with its name: other containers do not count.
func TestPodRuns(t *testing.T) {
	t.Parallel()
	status := func(name string, runs bool) corev1.ContainerStatus {
		s := corev1.ContainerStatus{Name: name}
		if runs {
			s.State.Running = &corev1.ContainerStateRunning{}
		} else {
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
		}
		return s
	}
	for name, tt := range map[string]struct {
		spec     []string
		statuses []corev1.ContainerStatus
		want     bool
	}{
		"it runs":    {[]string{"consul"}, []corev1.ContainerStatus{status("consul", true)}, true},
		"it crashed": {[]string{"consul"}, []corev1.ContainerStatus{status("consul", false)}, false},
		"it crashed beside a sidecar": {[]string{"consul", "proxy"}, []corev1.ContainerStatus{
			status("consul", false), status("proxy", true),
		}, false},
		"it runs beside a sidecar": {[]string{"consul", "proxy"}, []corev1.ContainerStatus{
			status("proxy", false), status("consul", true),
		}, true},
		"only the sidecar is reported yet": {[]string{"consul", "proxy"}, []corev1.ContainerStatus{status("proxy", true)}, false},
		"something else calls it a server": {[]string{"server"}, []corev1.ContainerStatus{status("server", true)}, true},
		"nothing is reported yet":          {[]string{"consul"}, nil, false},
	} {
		p := &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: tt.statuses}}
		for _, c := range tt.spec {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c})
		}
		if got := PodRuns(p); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
