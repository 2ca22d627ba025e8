package lifecycle

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// claimOf is the volume claim of a server, with the version that is recorded for its data.
func claimOf(name, version string) corev1.PersistentVolumeClaim {
	c := corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "prod", CreationTimestamp: metav1.NewTime(time.Now().Add(-73 * time.Hour))},
	}
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}
	if version != "" {
		c.Annotations = map[string]string{server.AnnotationDataVersion: version}
	}
	return c
}

// Retained volumes are those that a StatefulSet of the cluster would use, by ordinal, with what is known of them.
func TestRetainedClaims(t *testing.T) {
	t.Parallel()
	going := claimOf("data-consul-server-1", "1.22.7")
	going.DeletionTimestamp = &metav1.Time{}
	got := retainedClaims("consul", []corev1.PersistentVolumeClaim{
		claimOf("data-consul-server-10", ""), claimOf("data-consul-server-2", ""), claimOf("data-consul-server-0", "1.22.7"), going,
		claimOf("data-consul-server-x", ""), claimOf("data-other-server-0", ""), claimOf("consul-snapshots", ""),
	})
	if names := ClaimNames(got); !slices.Equal(names, []string{"data-consul-server-0", "data-consul-server-2", "data-consul-server-10"}) {
		t.Fatalf("got %q", names)
	}
	for i, want := range []string{"3d ago, data of Consul 1.22.7)", "3d ago, no version of Consul is recorded on it)"} {
		if text := got[i].String(); !strings.HasPrefix(text, got[i].Name+" (10Gi, created ") || !strings.HasSuffix(text, want) {
			t.Errorf("got %q, want it to end in %q", text, want)
		}
	}
}

// No new server starts with data that its version may not be able to read.
func TestCheckRetained(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		marked []string
		to     string
		want   []string // parts of the error
	}{
		"no volumes":       {nil, "1.18.2", nil},
		"nothing is known": {[]string{"", ""}, "1.18.2", nil},
		"the same":         {[]string{"1.22.7", "1.22.7", "1.22.7"}, "1.22.7", nil},
		"an upgrade":       {[]string{"1.21.0"}, "1.22.7", nil},
		"an older version": {[]string{"1.22.7", "", "1.22.7"}, "1.18.2", []string{
			"the volume claims data-consul-server-0, data-consul-server-2 hold data of Consul 1.22.7", "a server with the older 1.18.2",
			`Set version = "1.22.7" or later`,
			"kubectl -n prod delete pvc data-consul-server-0 data-consul-server-2",
		}},
		"an incomplete upgrade": {[]string{"1.21.0", "1.22.7"}, "1.22.7", nil},
		"an incomplete upgrade that a create would revert": {
			[]string{"1.21.0", "1.22.7"},
			"1.21.0",
			[]string{"hold data of Consul 1.21.0 and 1.22.7", `Set version = "1.22.7" or later`},
		},
		"too many release lines": {
			[]string{"1.18.2"},
			"1.22.7",
			[]string{"hold data of Consul 1.18.2", "1.18.2 -> 1.20.x -> 1.22.7", "kubectl -n prod delete pvc"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var claims []corev1.PersistentVolumeClaim
			for i, v := range tt.marked {
				claims = append(claims, claimOf(server.ClaimName(server.PodName("consul", i)), v))
			}
			err := CheckRetained("prod", retainedClaims("consul", claims), tt.to)
			var refused *RetainedDataError
			if (err != nil) != (len(tt.want) > 0) || (err != nil && !errors.As(err, &refused)) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %q", want, err)
				}
			}
		})
	}
}

// The data on a volume is that of the newest version that wrote it, until a healthy server shows that another version
// reads it.
func TestDataVersion(t *testing.T) {
	t.Parallel()
	runs := func(version string, ready corev1.ConditionStatus, state corev1.ContainerState) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{server.LabelVersion: version}},
			Status: corev1.PodStatus{
				Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}},
				ContainerStatuses: []corev1.ContainerStatus{{Name: server.ContainerName, State: state}},
			},
		}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
	tests := map[string]struct {
		marked string
		pod    *corev1.Pod
		want   string
	}{
		"a first start":                  {"", runs("1.22.7", corev1.ConditionTrue, running), "1.22.7"},
		"one that is not healthy yet":    {"", runs("1.22.7", corev1.ConditionFalse, running), "1.22.7"},
		"one that never started":         {"", runs("1.22.7", corev1.ConditionFalse, waiting), ""},
		"an upgrade":                     {"1.21.0", runs("1.22.7", corev1.ConditionTrue, running), "1.22.7"},
		"an upgrade without an image":    {"1.21.0", runs("1.22.77", corev1.ConditionFalse, waiting), "1.21.0"},
		"an upgrade that is not healthy": {"1.21.0", runs("1.22.7", corev1.ConditionFalse, running), "1.22.7"},
		"an upgrade that was reverted":   {"1.22.7", runs("1.21.0", corev1.ConditionTrue, running), "1.21.0"},
		"a reverted upgrade that does not start": {
			"1.22.7",
			runs("1.21.0", corev1.ConditionFalse, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}),
			"1.22.7",
		},
		"no version": {"1.22.7", runs("prod", corev1.ConditionTrue, running), "1.22.7"},
	}
	for name, tt := range tests {
		if got := dataVersion(tt.marked, tt.pod); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// claimsOnly is a Deployment of which only the volume claims, and the pods of one version, exist.
func claimsOnly(pods []corev1.Pod, claims ...corev1.PersistentVolumeClaim) (Deployment, *fake.Clientset) {
	var objects []runtime.Object
	for i := range claims {
		objects = append(objects, &claims[i])
	}
	for i := range pods {
		objects = append(objects, &pods[i])
	}
	set := fake.NewClientset(objects...)
	k := &kube.Client{Interface: set}
	return Deployment{Kube: k, Consul: consul.NewConnector(k).Cluster("prod", "consul"), Report: func(rollout.Action) {}}, set
}

// The claims record which version has data on their volumes, until all data is lost.
func TestMarkData(t *testing.T) {
	t.Parallel()
	var pods []corev1.Pod
	for i := range 2 {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: server.PodName("consul", i), Namespace: "prod", Labels: server.OwnerLabels("consul")}}
		p.Labels[server.LabelVersion] = "1.22.7"
		p.Status.ContainerStatuses = []corev1.ContainerStatus{
			{Name: server.ContainerName, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		}
		pods = append(pods, p)
	}
	d, set := claimsOnly(
		pods,
		claimOf("data-consul-server-0", ""),
		claimOf("data-consul-server-1", "1.21.0"),
		claimOf("data-consul-server-2", "1.20.6"),
		claimOf("backups", ""),
	)
	marks := func() map[string]string {
		t.Helper()
		list, err := set.CoreV1().PersistentVolumeClaims("prod").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, c := range list.Items {
			if v, ok := c.Annotations[server.AnnotationDataVersion]; ok {
				out[c.Name] = v
			}
		}
		return out
	}
	if err := (volumes{d}).markData(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if got, want := marks(), map[string]string{"data-consul-server-1": "1.21.0", "data-consul-server-2": "1.20.6"}; !maps.Equal(got, want) {
		t.Errorf("servers that are not ready count as data before the first leader: got %v, want %v", got, want)
	}
	if err := (volumes{d}).markData(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got, want := marks(), map[string]string{
		"data-consul-server-0": "1.22.7", "data-consul-server-1": "1.22.7", "data-consul-server-2": "1.20.6",
	}; !maps.Equal(
		got,
		want,
	) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := (volumes{d}).forgetData(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := marks(); len(got) > 0 {
		t.Errorf("got %v, want none", got)
	}
	set.PrependReactor("patch", "persistentvolumeclaims", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, "", nil)
	})
	if err := (volumes{d}).markData(t.Context(), true); err != nil {
		t.Errorf("a missing right ends what the servers do not need: %v", err)
	}
}
