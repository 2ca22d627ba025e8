package lifecycle

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// What happens to a volume depends on its claim, its pod, and what is declared.
func TestJudgeVolumes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	grow := server.Storage{Size: resource.MustParse("2Gi"), Class: "fast"}
	rebuild := server.Storage{Size: resource.MustParse("2Gi"), Class: "fast", OnChange: server.RebuildServers}
	waits := func(since time.Duration) func(*corev1.PersistentVolumeClaim, *corev1.Pod) {
		return func(c *corev1.PersistentVolumeClaim, _ *corev1.Pod) {
			c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
			c.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{
				Type: corev1.PersistentVolumeClaimFileSystemResizePending, Status: corev1.ConditionTrue, LastTransitionTime: ago(since),
			}}
		}
	}
	asked := func(c *corev1.PersistentVolumeClaim, _ *corev1.Pod) {
		c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
	}
	deleting := func(c *corev1.PersistentVolumeClaim, _ *corev1.Pod) { c.DeletionTimestamp = new(ago(time.Second)) }
	tests := map[string]struct {
		storage server.Storage
		change  func(*corev1.PersistentVolumeClaim, *corev1.Pod)
		grow    string
		want    rollout.Server
	}{
		"a volume that is too small is resized": {
			grow, func(*corev1.PersistentVolumeClaim, *corev1.Pod) {}, "2Gi", rollout.Server{Growing: "its volume has 1Gi of 2Gi"},
		},
		"a volume that was resized is waited for": {grow, asked, "", rollout.Server{Growing: "its volume has 1Gi of 2Gi"}},
		"a volume that has grown is done": {grow, func(c *corev1.PersistentVolumeClaim, p *corev1.Pod) {
			asked(c, p)
			c.Status.Capacity = c.Spec.Resources.Requests
		}, "", rollout.Server{}},
		"a larger volume is kept": {grow, func(c *corev1.PersistentVolumeClaim, _ *corev1.Pod) {
			c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("3Gi")}
			c.Status.Capacity = c.Spec.Resources.Requests
		}, "", rollout.Server{}},
		"its class does not matter for growth": {grow, func(c *corev1.PersistentVolumeClaim, p *corev1.Pod) {
			asked(c, p)
			c.Status.Capacity, c.Spec.StorageClassName = c.Spec.Resources.Requests, new("other")
		}, "", rollout.Server{}},
		"a file system that does not grow takes a restart": {
			grow, waits(3 * time.Minute), "", rollout.Server{Volume: "its file system grows when its volume is mounted again"},
		},
		"but not at once: the driver may not need one": {
			grow, waits(time.Minute), "", rollout.Server{Growing: "its volume has 1Gi of 2Gi, and waits for its file system to grow"},
		},
		"nor twice": {grow, func(c *corev1.PersistentVolumeClaim, p *corev1.Pod) {
			waits(3*time.Minute)(c, p)
			p.CreationTimestamp = ago(time.Minute)
		}, "", rollout.Server{Growing: "its volume has 1Gi of 2Gi, and waits for its file system to grow"}},
		"a rebuild replaces a volume that is too small": {
			rebuild, func(*corev1.PersistentVolumeClaim, *corev1.Pod) {}, "", rollout.Server{Volume: "its volume has 1Gi of 2Gi", Rebuild: true},
		},
		"a rebuild replaces a volume that did not grow": {
			rebuild,
			asked,
			"",
			rollout.Server{Volume: "its volume has 1Gi of 2Gi", Rebuild: true},
		},
		"a rebuild replaces a volume of another class": {rebuild, func(c *corev1.PersistentVolumeClaim, p *corev1.Pod) {
			asked(c, p)
			c.Status.Capacity, c.Spec.StorageClassName = c.Spec.Resources.Requests, new("other")
		}, "", rollout.Server{Volume: `its volume is of the storage class "other" and not "fast"`, Rebuild: true}},
		"a rebuild replaces no volume that it created": {rebuild, func(c *corev1.PersistentVolumeClaim, _ *corev1.Pod) {
			c.Spec.StorageClassName, c.CreationTimestamp = new("other"), ago(time.Minute)
		}, "", rollout.Server{}},
		"a volume that is being deleted is removed with its pod": {
			rebuild,
			deleting,
			"",
			rollout.Server{Volume: "its volume is being deleted", Rebuild: true},
		},
		"somebody else deletes its claim": {grow, deleting, "", rollout.Server{Volume: "its volume is being deleted", Rebuild: true}},
		"the next pod only waits": {rebuild, func(c *corev1.PersistentVolumeClaim, p *corev1.Pod) {
			deleting(c, p)
			p.Spec.NodeName = ""
		}, "", rollout.Server{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "s-1", CreationTimestamp: ago(time.Hour)}, Spec: corev1.PodSpec{NodeName: "node"}}
			c := corev1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{Name: "data-s-1", CreationTimestamp: ago(time.Hour)},
				Spec: corev1.PersistentVolumeClaimSpec{
					StorageClassName: new("fast"),
					Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
				},
				Status: corev1.PersistentVolumeClaimStatus{
					Phase: corev1.ClaimBound, Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
				},
			}
			tt.change(&c, &pod)
			w := rollout.World{Servers: []rollout.Server{{Name: "s-0"}, {Name: "s-1"}}}
			judgeVolumes(&w, tt.storage, now.Add(-10*time.Minute), map[string]corev1.PersistentVolumeClaim{"s-1": c}, []corev1.Pod{{}, pod}, now)
			tt.want.Name = "s-1"
			if w.Grow != tt.grow || w.Servers[1] != tt.want || w.Servers[0] != (rollout.Server{Name: "s-0"}) {
				t.Errorf("got %q and %+v, want %q and %+v", w.Grow, w.Servers[1], tt.grow, tt.want)
			}
		})
	}
}
