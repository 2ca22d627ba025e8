package kube

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
)

const owner = "consul-server"

var began = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// at is a time in seconds after the start of the operation.
func at(seconds int) metav1.Time {
	return metav1.NewTime(began.Add(time.Duration(seconds) * time.Second))
}

func pod(change func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: owner + "-0", Namespace: "prod", UID: "pod-0", Labels: map[string]string{"app": "consul"}, CreationTimestamp: at(1),
	}}
	p.Status.Phase = corev1.PodPending
	change(&p)
	return p
}

func waits(reason, message string, change func(*corev1.ContainerStatus)) corev1.Pod {
	s := corev1.ContainerStatus{
		Name: "consul", Image: "docker.io/hashicorp/consul:1.22.7",
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
	}
	change(&s)
	return pod(func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{s} })
}

func asIs(*corev1.ContainerStatus) {}

func crashed(times int32, reason, message string) func(*corev1.ContainerStatus) {
	return func(s *corev1.ContainerStatus) {
		s.RestartCount = times
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Reason: reason, Message: message}
	}
}

func event(kind, name, uid, reason, message string, seconds int) corev1.Event {
	return corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: name + reason + message, Namespace: "prod"},
		InvolvedObject: corev1.ObjectReference{Kind: kind, Name: name, UID: types.UID(uid)},
		Type:           corev1.EventTypeWarning, Reason: reason, Message: message, FirstTimestamp: at(seconds), LastTimestamp: at(seconds),
	}
}

func unschedulable() corev1.Pod {
	return pod(func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			Message: "0/3 nodes are available", LastTransitionTime: at(2),
		}}
	})
}

func pending() corev1.PersistentVolumeClaim {
	return corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data-0", Namespace: "prod", UID: "claim-0", Labels: map[string]string{"app": "consul"}},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
}

// What waiting cannot change is distinguished from what it can, in the words of Kubernetes or of the program.
func TestFindObstacles(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pods   []corev1.Pod
		claims []corev1.PersistentVolumeClaim
		events []corev1.Event
		want   string
		// ends says that the wait ends once the grace period is over.
		ends bool
	}{
		"nothing is wrong": {pods: []corev1.Pod{pod(func(*corev1.Pod) {})}},
		"no node fits": {
			pods: []corev1.Pod{unschedulable()}, want: "Pod consul-server-0: not scheduled: 0/3 nodes are available", ends: true,
		},
		"a node is being added": {
			pods:   []corev1.Pod{unschedulable()},
			events: []corev1.Event{event("Pod", owner+"-0", "pod-0", "TriggeredScaleUp", "pod triggered scale-up", 5)},
			want:   "Pod consul-server-0: not scheduled: 0/3 nodes are available",
		},
		"no image": {
			pods: []corev1.Pod{waits("ImagePullBackOff", "Back-off pulling image", asIs)},
			events: []corev1.Event{
				event("Pod", owner+"-0", "pod-0", "Failed", "Failed to pull image: not found", 3),
			},
			want: "Pod consul-server-0: container consul cannot get the image docker.io/hashicorp/consul:1.22.7: ImagePullBackOff: Failed to " +
				"pull image: not found", ends: true,
		},
		"a Secret is missing": {
			pods:   []corev1.Pod{waits("CreateContainerConfigError", `secret "x" not found`, asIs)},
			events: []corev1.Event{event("Pod", owner+"-0", "pod-0", "Failed", `Error: secret "x" not found`, 3)},
			want:   `Pod consul-server-0: container consul cannot be created: secret "x" not found`, ends: true,
		},
		"the first crash": {
			pods: []corev1.Pod{waits("CrashLoopBackOff", "back-off 10s", crashed(1, "Error", "==> invalid config key no_such_key\n"))},
			want: "Pod consul-server-0: container consul crashed 1 times: exit code 1: ==> invalid config key no_such_key",
		},
		"many crashes": {
			pods: []corev1.Pod{waits("CrashLoopBackOff", "back-off 2m40s", crashed(5, "Error", "1\n2\n3\n\n4\n5\n"))},
			want: "Pod consul-server-0: container consul crashed 5 times: exit code 1: 2\n3\n4\n5", ends: true,
		},
		"no memory": {
			pods: []corev1.Pod{waits("CrashLoopBackOff", "back-off 2m40s", crashed(6, "OOMKilled", ""))},
			want: "Pod consul-server-0: container consul was killed because it ran out of memory, 6 times", ends: true,
		},
		"no storage class": {
			claims: []corev1.PersistentVolumeClaim{pending()},
			events: []corev1.Event{
				event(
					"PersistentVolumeClaim",
					"data-0",
					"claim-0",
					"FailedBinding",
					"no persistent volumes available for this claim and no storage class is set",
					3,
				),
			},
			want: "Volume claim data-0: is not bound (the default storage class): no persistent volumes available for this claim and no storage " +
				"class is set", ends: true,
		},
		"a provisioner fails": {
			claims: []corev1.PersistentVolumeClaim{pending()},
			events: []corev1.Event{event("PersistentVolumeClaim", "data-0", "claim-0", "ProvisioningFailed", "the store is busy", 3)},
			want:   "Volume claim data-0: is not bound (the default storage class): the store is busy",
		},
		"a quota": {
			events: []corev1.Event{event("StatefulSet", owner, "sts", "FailedCreate", "exceeded quota", 3)},
			want:   "StatefulSet consul-server: cannot create a pod: exceeded quota", ends: true,
		},
		"a refusal before the pod was created": {
			pods:   []corev1.Pod{pod(func(p *corev1.Pod) { p.CreationTimestamp = at(9) })},
			events: []corev1.Event{event("StatefulSet", owner, "sts", "FailedCreate", "exceeded quota", 3)},
		},
		"a pull that fails for the first time after a while": {
			pods:   []corev1.Pod{waits("ErrImagePull", "rpc error: connection reset", asIs)},
			events: []corev1.Event{event("Pod", owner+"-0", "pod-0", "Failed", "connection reset", 50)},
			want: "Pod consul-server-0: container consul cannot get the image docker.io/hashicorp/consul:1.22.7: ErrImagePull: rpc error: " +
				"connection reset",
		},
		"ready, and killed for lack of memory before": {
			pods: []corev1.Pod{pod(func(p *corev1.Pod) {
				s := corev1.ContainerStatus{Name: "consul", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
				crashed(9, "OOMKilled", "")(&s)
				p.Status.ContainerStatuses = []corev1.ContainerStatus{s}
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			})},
		},
		"a volume that is not attached yet": {
			pods:   []corev1.Pod{pod(func(*corev1.Pod) {})},
			events: []corev1.Event{event("Pod", owner+"-0", "pod-0", "FailedAttachVolume", "volume is in use", 3)},
			want:   "Pod consul-server-0: volume is in use",
		},
		"a pod that is being deleted": {
			pods: []corev1.Pod{func() corev1.Pod { p := unschedulable(); p.DeletionTimestamp = new(at(3)); return p }()},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := findObstacles(tt.pods, tt.claims, tt.events, owner, began)
			var texts []string
			for _, o := range found {
				texts = append(texts, o.String())
			}
			if got := strings.Join(texts, "; "); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if blocked(found, began.Add(grace)) != nil && tt.want != "" && found[0].Since.Equal(at(2).Time) {
				t.Error("the wait ends within the grace period")
			}
			if got := blocked(found, began.Add(grace+10*time.Second)) != nil; got != tt.ends {
				t.Errorf("the wait ends: %v, want %v", got, tt.ends)
			}
		})
	}
}

// The reason comes first, the remedy second. What happened before the operation, or to an earlier pod with the same
// name, is left out.
func TestExplain(t *testing.T) {
	t.Parallel()
	p := unschedulable()
	set := fake.NewClientset(&p, &corev1.EventList{Items: []corev1.Event{
		event("Pod", owner+"-0", "pod-0", "FailedScheduling", "0/3 nodes are available", 3),
		event("Pod", owner+"-0", "pod-0", "Odd", "something else", 4),
		event("Pod", owner+"-0", "an earlier one", "Failed", "of an earlier pod", 3),
		event("StatefulSet", owner, "sts", "FailedCreate", "long ago", -3600),
		event("Pod", "other-0", "other", "Failed", "of another workload", 3),
	}})
	got := (&Client{Interface: set}).Explain(t.Context(), Awaited{
		Namespace: "prod", Owner: owner, Selector: map[string]string{"app": "consul"}, Since: began,
	})
	want := `Pod consul-server-0: not scheduled: 0/3 nodes are available

` + remedyScheduling + `

Pod consul-server-0: Pending, not scheduled
Event 12:00:04, Pod consul-server-0: Odd: something else
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
