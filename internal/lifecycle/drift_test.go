package lifecycle

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The list of drift has what no attribute shows, and nothing that is as declared.
func TestDrift_namesOnlyWhatNoAttributeShows(t *testing.T) {
	spec := func() server.Spec {
		return server.Spec{
			Name: "consul", Namespace: "prod", Version: "1.22.7", Image: "consul:1.22.7", Replicas: 3, Record: server.Record{Established: true},
			Datacenter: "dc1", Domain: "consul", DeletionProtection: true,
			Storage:     server.Storage{Size: resource.MustParse("10Gi"), WhenDeleted: server.Retain, WhenScaled: server.Retain},
			Resources:   server.Resources{Requests: map[string]resource.Quantity{"cpu": resource.MustParse("500m")}},
			Placement:   server.Placement{AntiAffinity: server.AntiAffinityRequired},
			Performance: server.Performance{RaftMultiplier: 1, LeaveDrainTime: time.Second, RPCHoldTimeout: time.Second},
			Service:     server.Service{Type: "ClusterIP"},
			ACL:         server.ACL{DefaultPolicy: "deny"},
			Autopilot:   server.DefaultAutopilot,
			Update:      server.DefaultUpdate,
			Labels:      map[string]string{"team": "platform"},
		}
	}
	tests := map[string]struct {
		change   func(*server.Set)
		want     []string
		template bool
	}{
		"nothing": {func(*server.Set) {}, nil, false},
		"a request of the servers, not of their init containers": {func(s *server.Set) {
			s.StatefulSet.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}, nil, true},
		"a request of the init containers": {func(s *server.Set) {
			s.StatefulSet.Spec.Template.Spec.InitContainers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}, []string{"StatefulSet consul-server: spec.template.spec.initContainers[name=await-peer-removal].resources.requests.cpu"}, true},
		"a label of the StatefulSet, not of the others": {func(s *server.Set) { s.StatefulSet.Labels["team"] = "other" }, nil, false},
		"a label of another object": {
			func(s *server.Set) { s.Config.Labels["team"] = "other" },
			[]string{"ConfigMap consul-server: metadata.labels.team"},
			false,
		},
		"the number of servers": {func(s *server.Set) { s.StatefulSet.Spec.Replicas = new(int32(5)) }, nil, false},
		"servers that an interrupted apply added one by one": {func(s *server.Set) {
			grown := spec()
			grown.Replicas, grown.Declared = 5, 5
			*s = server.Objects(grown)
		}, nil, false},
		"an upgrade that an interrupted apply started": {func(s *server.Set) {
			newer := spec()
			newer.Version, newer.Image = "1.22.8", "consul:1.22.8"
			*s = server.Objects(newer)
		}, nil, false},
		"a sidecar": {func(s *server.Set) {
			c := &s.StatefulSet.Spec.Template.Spec.Containers
			*c = append(*c, corev1.Container{Name: "sidecar"})
			s.StatefulSet.ManagedFields = []metav1.ManagedFieldsEntry{{
				Manager: "kubectl-edit", FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"sidecar\"}":{".":{},"f:name":{}}}}}}}`),
			}}
		}, []string{"StatefulSet consul-server: spec.template.spec.containers[name=sidecar] (added by kubectl-edit)"}, true},
		"an object that is gone": {
			func(s *server.Set) { s.DisruptionBudget = nil },
			[]string{"PodDisruptionBudget consul-server: missing"},
			false,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			live := server.Objects(spec())
			tt.change(&live)
			known := spec()
			known.Established = false // no attribute: only the live objects say so
			read, err := server.Parse(live, known)
			if err != nil {
				t.Fatal(err)
			}
			got, template := drift(read, known, live)
			if !slices.Equal(got, tt.want) || template != tt.template {
				t.Errorf("got %q and %v, want %q and %v", got, template, tt.want, tt.template)
			}
		})
	}
}

// The rest of an interrupted change is pending, and is not reported as somebody's edit.
func TestWhyOutdated(t *testing.T) {
	t.Parallel()
	spec := server.Spec{
		Name:      "consul",
		Namespace: "prod",
		Version:   "1.22.7",
		Image:     "consul:1.22.7",
		Replicas:  3,
		Record:    server.Record{Established: true},
	}
	with := func(change func(*server.Spec)) server.Spec { s := spec; change(&s); return s }
	none := func(*corev1.Pod) {}
	tests := map[string]struct {
		former  server.Spec
		edited  bool
		change  func(*corev1.Pod)
		want    string
		pending bool
		short   string // the reason of a step
	}{
		"an upgrade": {
			with(func(s *server.Spec) { s.Version, s.Image = "1.21.0", "consul:1.21.0" }), false, none,
			"runs Consul 1.21.0, and the change to 1.22.7 is pending, will restart", true,
			"version 1.21.0 -> 1.22.7",
		},
		"a configuration": {
			with(func(s *server.Spec) { s.UI = true }), false, none,
			"runs the former configuration, and a change of it is pending, will restart", true,
			"configuration",
		},
		"a setting of the pod": {
			with(func(s *server.Spec) { s.Placement.PriorityClass = "high" }), false, none,
			"runs with the former settings of its pod, and a change of them is pending, will restart", true,
			"settings of the pod",
		},
		"kubectl rollout restart": {
			spec, false, none, "made from another template than the StatefulSet's, will restart", false,
			"pod template edited",
		},
		"an edit of the template": {
			spec, true, none, "made from another template than the StatefulSet's, will restart unless it runs what is declared", false,
			"pod template edited",
		},
		"an edit of the pod": {
			spec, false, func(p *corev1.Pod) {
				p.Spec.Containers[0].Image = "consul:1.21.0"
				p.ManagedFields = []metav1.ManagedFieldsEntry{{
					Manager: "kubectl-set", FieldsType: "FieldsV1",
					FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:containers":{"k:{\"name\":\"consul\"}":{"f:image":{}}}}}`),
				}}
			},
			"container consul has the image consul:1.21.0 instead of consul:1.22.7 (changed by kubectl-set), will restart", false,
			"image changed by hand",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := server.Objects(tt.former).StatefulSet.Spec.Template
			pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
			tt.change(pod)
			sts := server.Objects(spec).StatefulSet
			text, pending := whyOutdated(sts, pod, tt.edited)
			if text != tt.want || pending != tt.pending {
				t.Errorf("got %q and %t, want %q and %t", text, pending, tt.want, tt.pending)
			}
			sts.Status.UpdateRevision = "consul-server-2"
			if got := why(sts, pod); got != tt.short {
				t.Errorf("the reason is %q, want %q", got, tt.short)
			}
		})
	}
}

// A pod whose image somebody changed is outdated, although its revision is the current one.
func TestOutdated_ifTheImageOfAPodWasChanged(t *testing.T) {
	t.Parallel()
	sts := server.Objects(server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Image: "consul:1.22.7", Replicas: 3}).StatefulSet
	sts.Status.UpdateRevision = "consul-server-1"
	pod := &corev1.Pod{Spec: *sts.Spec.Template.Spec.DeepCopy()}
	pod.Labels = map[string]string{appsv1.StatefulSetRevisionLabel: "consul-server-1"}
	if Outdated(sts, pod) {
		t.Error("an unchanged pod is outdated")
	}
	pod.Spec.Containers[0].Image = "consul:1.21.0"
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: "kubectl-edit", FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:containers":{"k:{\"name\":\"consul\"}":{"f:image":{}}}}}`),
	}}
	if !Outdated(sts, pod) {
		t.Error("a pod with another image is not outdated")
	}
}
