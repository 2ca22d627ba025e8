package lifecycle

import (
	"context"
	"errors"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A refused configuration ends a change before anything is written. A check that cannot run is reported, and ends
// nothing.
func TestCheckConfig(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Image: "consul:1.22.7", ExtraConfig: `{"log_level":"LOUD"}`}
	ended := func(code int32, message string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message}}
	}
	for name, tt := range map[string]struct {
		state     corev1.ContainerState
		err       error // from the creation of the Job
		spec      server.Spec
		refused   string
		unchecked string
	}{
		"accepted": {state: ended(0, ""), spec: spec},
		"refused":  {state: ended(1, "==> Invalid log level: LOUD\n"), spec: spec, refused: "Invalid log level: LOUD"},
		"an error of its environment": {state: ended(1, "==> open /logs: no such file or directory\n"),
			spec: spec, unchecked: "no such file or directory"},
		"killed":                  {state: ended(137, ""), spec: spec, unchecked: "exit code 137"},
		"no right to create Jobs": {err: errors.New("forbidden"), spec: spec, unchecked: "forbidden"},
		"nothing to check":        {err: errors.New("forbidden"), spec: server.Spec{Name: "consul", Namespace: "prod"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := fake.NewClientset()
			var made *batchv1.Job
			set.PrependReactor("create", "jobs", func(a clienttesting.Action) (bool, runtime.Object, error) {
				if tt.err != nil {
					return true, nil, tt.err
				}
				create, _ := a.(clienttesting.CreateAction)
				job, ok := create.GetObject().(*batchv1.Job)
				if !ok {
					t.Fatalf("a %T was created", create.GetObject())
				}
				made = job.DeepCopy()
				made.UID = "job"
				return true, made, set.Tracker().Add(&corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{
						Name: made.Name + "-x", Namespace: made.Namespace, Labels: made.Spec.Template.Labels,
						OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(made, batchv1.SchemeGroupVersion.WithKind("Job"))},
					},
					Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: server.CheckContainerName, State: tt.state}}},
				})
			})
			var unchecked string
			d := Deployment{
				Kube: &kube.Client{Interface: set}, Consul: &consul.Cluster{Namespace: "prod", Name: "consul"},
				Unchecked: func(why error) { unchecked = why.Error() },
			}
			err := configCheck{d}.checkConfig(context.Background(), server.Spec{}, tt.spec, server.Set{})
			var refused *ConfigError
			if errors.As(err, &refused) != (tt.refused != "") || (err != nil && refused == nil) || (refused != nil && refused.Words != tt.refused) {
				t.Errorf("got the error %v", err)
			}
			if (unchecked == "") != (tt.unchecked == "") || !strings.Contains(unchecked, tt.unchecked) {
				t.Errorf("unchecked: %q", unchecked)
			}
			if made != nil && made.Spec.Template.Spec.ServiceAccountName != "" {
				t.Errorf("the pod asks for a ServiceAccount that does not exist yet: %s", made.Spec.Template.Spec.ServiceAccountName)
			}
		})
	}
}

func TestCheckEnded(t *testing.T) {
	t.Parallel()
	pod := func(change func(*corev1.PodStatus)) []corev1.Pod {
		p := corev1.Pod{}
		change(&p.Status)
		return []corev1.Pod{p}
	}
	state := func(s corev1.ContainerState) []corev1.Pod {
		return pod(func(p *corev1.PodStatus) {
			p.ContainerStatuses = []corev1.ContainerStatus{{Name: "sidecar"}, {Name: server.CheckContainerName, State: s}}
		})
	}
	for name, tt := range map[string]struct {
		pods  []corev1.Pod
		ended bool
		why   string
	}{
		"no pod":    {nil, false, "has not created a pod"},
		"a new pod": {pod(func(*corev1.PodStatus) {}), false, ""},
		"no room": {pod(func(p *corev1.PodStatus) {
			p.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes"}}
		}), false, "not scheduled: 0/3 nodes"},
		"evicted":  {pod(func(p *corev1.PodStatus) { p.Phase, p.Reason = corev1.PodFailed, "Evicted" }), false, "failed: Evicted"},
		"starting": {state(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}), false, ""},
		"no image": {state(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such tag"}}),
			false, "ErrImagePull no such tag"},
		"running":  {state(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}), false, ""},
		"it ended": {state(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}), true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended, why := checkEnded(tt.pods)
			if (ended != nil) != tt.ended || (why == "") != (tt.why == "") || !strings.Contains(why, tt.why) {
				t.Errorf("got %v, %q", ended, why)
			}
		})
	}
}
