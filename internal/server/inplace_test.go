package server

import (
	"encoding/json"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// newPod is a pod that a StatefulSet makes from the template of a spec.
func newPod(s Spec) *corev1.Pod {
	t := Objects(s).StatefulSet.Spec.Template
	pod := &corev1.Pod{ObjectMeta: *t.ObjectMeta.DeepCopy(), Spec: *t.Spec.DeepCopy()}
	pod.UID = "1"
	pod.Labels[appsv1.StatefulSetRevisionLabel] = "former"
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: ContainerName, ContainerID: "containerd://0123456789abcdef"}}
	return pod
}

func patchedPod(t *testing.T, pod *corev1.Pod, patch []byte) *corev1.Pod {
	t.Helper()
	before, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	text, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Pod{})
	if err != nil {
		t.Fatal(err)
	}
	var out corev1.Pod
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

// The image and the configuration of the agent change in place, and nothing else.
func TestChangesInPlace(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Spec)
		pod    func(*corev1.Pod)
		want   bool
	}{
		"a version":                      {change: func(s *Spec) { s.Version, s.Image = "1.23.0", "consul:1.23.0" }, want: true},
		"an image":                       {change: func(s *Spec) { s.Image = "mirror/consul" }, want: true},
		"a setting":                      {change: func(s *Spec) { s.UI = !s.UI }, want: true},
		"another setting":                {change: func(s *Spec) { s.ExtraConfig = `{"log_json":true}` }, want: true},
		"nothing":                        {change: func(*Spec) {}},
		"a label of pods":                {change: func(s *Spec) { s.PodLabels = map[string]string{"a": "b"} }},
		"the user":                       {change: func(s *Spec) { s.Pod.RunAs = &RunAs{} }},
		"TLS":                            {change: func(s *Spec) { s.TLS.Stage = StageAccept }},
		"how long a server leaves":       {change: func(s *Spec) { s.Performance.LeaveDrainTime *= 3 }},
		"a pod of an earlier version":    {func(s *Spec) { s.UI = !s.UI }, func(p *corev1.Pod) { delete(p.Annotations, AnnotationPodHash) }, false},
		"an image changed by somebody":   {func(s *Spec) { s.UI = !s.UI }, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }, false},
		"an image given by a webhook":    {func(s *Spec) { s.Image = "new" }, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "mirror" }, false},
		"a restart that did not end":     {func(*Spec) {}, func(p *corev1.Pod) { p.Annotations[AnnotationRestart] = "process-x" }, true},
		"one to what is not wanted now":  {func(s *Spec) { s.UI = !s.UI }, func(p *corev1.Pod) { p.Annotations[AnnotationRestart] = "image-x.y" }, true},
		"a container of another program": {func(s *Spec) { s.Pod.Extra = `{"containers":[{"name":"a","image":"b"}]}` }, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod, after := newPod(minimal()), minimal()
			tt.change(&after)
			if tt.pod != nil {
				tt.pod(pod)
			}
			if got := ChangesInPlace(Objects(after).StatefulSet.Spec.Template, pod); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A pod that has restarted in place is what the new template would make of it.
func TestRestartInPlace_endsAsANewPodDoes(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Spec){
		"another configuration": func(s *Spec) { s.UI = !s.UI },
		"another image":         func(s *Spec) { s.Version, s.Image = "1.23.0", "consul:1.23.0" },
		"both":                  func(s *Spec) { s.UI, s.Version, s.Image = !s.UI, "1.23.0", "consul:1.23.0" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := minimal()
			change(&after)
			sts := Objects(after).StatefulSet
			sts.Status.UpdateRevision = "current"
			template := sts.Spec.Template

			pod := newPod(minimal())
			image := NeedsImage(template, pod)
			pod = patchedPod(t, pod, UnroutePatch(pod))
			if IsServing(pod) || IsRestarting(template, pod) {
				t.Fatal("clients are routed to it, or it restarts already")
			}
			pod = patchedPod(t, pod, RequestPatch(template, pod))
			if IsRestarting(template, pod) == image || !IsAsked(pod) {
				t.Fatal("another image is a restart only when the container is replaced, and another configuration at once")
			}
			if image {
				pod = patchedPod(t, pod, ImagePatch(template, pod))
				if HasAskedContainer(pod) {
					t.Error("the former container counts as the new one")
				}
				pod.Status.ContainerStatuses[0].ContainerID = "containerd://fedcba9876543210"
			}
			if !IsRestarting(template, pod) || !HasAskedContainer(pod) || IsServing(pod) {
				t.Error("it does not restart")
			}
			pod = patchedPod(t, pod, RestartedPatch(sts, pod))

			want := newPod(after)
			want.Labels[appsv1.StatefulSetRevisionLabel] = "current"
			got := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels, Annotations: pod.Annotations}, Spec: pod.Spec}
			want = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: want.Labels, Annotations: want.Annotations}, Spec: want.Spec}
			if a, b := compactJSON(got), compactJSON(want); a != b {
				t.Errorf("the pod is\n%s\nwant\n%s", a, b)
			}
		})
	}
}

// The hash of a template says whether its pod can change in place, whatever the version, the image, and the configuration are.
func TestPodHash(t *testing.T) {
	t.Parallel()
	a, b := minimal(), minimal()
	b.Version, b.Image, b.UI = "1.23.0", "consul:1.23.0", !b.UI
	if PodHash(a) != PodHash(b) || PodHash(a) == "" {
		t.Errorf("got %q and %q", PodHash(a), PodHash(b))
	}
	b.PodLabels = map[string]string{"a": "b"}
	if PodHash(a) == PodHash(b) {
		t.Error("another label of the pod changes in place")
	}
}
