package lifecycle

import (
	"encoding/json"
	"slices"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// If volumes are kept, each server stops only once the one before is gone.
func TestStop(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		whenDeleted string
		replicas    int
		pods        []int // ordinals
		terminating bool  // the namespace
		lostAt      int   // the number of servers at which somebody deletes the StatefulSet, -1 for never
		want        []int // the numbers of replicas that are set
	}{
		"volumes are kept":               {server.Retain, 3, []int{0, 1, 2}, false, -1, []int{3, 2, 1, 0}},
		"volumes are deleted too":        {server.Delete, 3, []int{0, 1, 2}, false, -1, []int{0}},
		"one server":                     {server.Retain, 1, []int{0}, false, -1, []int{1, 0}},
		"it was interrupted":             {server.Retain, 1, []int{0, 1}, false, -1, []int{1, 0}},
		"a server is missing":            {server.Retain, 3, []int{1, 2}, false, -1, []int{3, 2, 1, 0}},
		"none is left":                   {server.Retain, 0, nil, false, -1, []int{0}},
		"the namespace is being deleted": {server.Retain, 3, []int{0, 1, 2}, true, -1, []int{0}},
		"somebody deletes it meanwhile":  {server.Retain, 3, []int{0, 1, 2}, false, 1, []int{3, 2, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sts := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "consul-server", Labels: server.OwnerLabels("consul")}}
			sts.Spec.Replicas = new(int32(tt.replicas)) //nolint:gosec // a handful
			objects := []runtime.Object{sts}
			for _, ordinal := range tt.pods {
				objects = append(
					objects,
					&corev1.Pod{
						ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: server.PodName("consul", ordinal), Labels: server.SelectorLabels("consul")},
					},
				)
			}
			set := fake.NewClientset(objects...)
			var mu sync.Mutex
			var told []int
			goes := map[int]int{} // how often a server was seen since it was told to stop
			set.PrependReactor("patch", "statefulsets", func(a clienttesting.Action) (bool, runtime.Object, error) {
				var patch struct{ Spec struct{ Replicas int } }
				if action, ok := a.(clienttesting.PatchAction); !ok || json.Unmarshal(action.GetPatch(), &patch) != nil {
					t.Errorf("it did %v", a)
				}
				mu.Lock()
				defer mu.Unlock()
				told = append(told, patch.Spec.Replicas)
				if patch.Spec.Replicas == tt.lostAt {
					return true, nil, apierrors.NewNotFound(appsv1.Resource("statefulsets"), "consul-server")
				}
				return false, nil, nil
			})
			set.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
				mu.Lock()
				defer mu.Unlock()
				asked := told[len(told)-1]
				if asked == tt.lostAt {
					asked = 0
				}
				list, going := &corev1.PodList{}, 0
				for _, ordinal := range tt.pods {
					if ordinal >= asked {
						if goes[ordinal]++; goes[ordinal] > 2 {
							continue
						}
						going++
					}
					list.Items = append(
						list.Items,
						corev1.Pod{
							ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: server.PodName("consul", ordinal), Labels: server.SelectorLabels("consul")},
						},
					)
				}
				if tt.whenDeleted == server.Retain && !tt.terminating && asked != 0 && going > 1 {
					t.Errorf("%d servers stop at once", going)
				}
				return true, list, nil
			})
			k := &kube.Client{Interface: set}
			d := Deployment{Kube: k, Consul: consul.NewConnector(k).Cluster("prod", "consul")}
			live := server.Set{StatefulSet: sts, Namespace: &corev1.Namespace{}}
			if tt.terminating {
				live.Namespace.DeletionTimestamp = &metav1.Time{}
			}
			spec := server.Spec{Namespace: "prod", Name: "consul", Storage: server.Storage{WhenDeleted: tt.whenDeleted}}
			if err := (stops{d}).stop(t.Context(), spec, live); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(told, tt.want) {
				t.Errorf("the replicas are set to %v, want %v", told, tt.want)
			}
		})
	}
}

// A destroy deletes the Jobs that interrupted operations left, and no others.
func TestDeleteJobs(t *testing.T) {
	t.Parallel()
	job := func(name, cluster string, owner ...metav1.OwnerReference) *batchv1.Job {
		labels := server.OwnerLabels(cluster)
		labels[server.LabelComponent] = "backup"
		return &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, UID: types.UID(name), Labels: labels, OwnerReferences: owner},
		}
	}
	schedule := metav1.OwnerReference{Kind: "CronJob", Name: "nightly", Controller: new(true)}
	for name, tt := range map[string]struct {
		forbidden bool
		left      []string
	}{
		"with the right to list Jobs":    {false, []string{"nightly-1", "other-inspect"}},
		"without the right to list Jobs": {true, []string{"consul-check", "consul-inspect", "nightly-1", "other-inspect"}},
	} {
		set := fake.NewClientset(
			job("consul-inspect", "consul"),
			job("consul-check", "consul"),
			job("nightly-1", "consul", schedule),
			job("other-inspect", "other"),
		)
		if tt.forbidden {
			set.PrependReactor("list", "jobs", func(a clienttesting.Action) (bool, runtime.Object, error) {
				selects := a.(clienttesting.ListAction).GetListRestrictions().Labels //nolint:forcetypeassert // by its verb
				return !selects.Empty(), nil, apierrors.NewForbidden(batchv1.Resource("jobs"), "", nil)
			})
		}
		k := &kube.Client{Interface: set}
		d := Deployment{Kube: k, Consul: consul.NewConnector(k).Cluster("prod", "consul")}
		if err := (deletion{d}).deleteJobs(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		list, err := set.BatchV1().Jobs("prod").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, j := range list.Items {
			left = append(left, j.Name)
		}
		if !slices.Equal(left, tt.left) {
			t.Errorf("%s: left %q, want %q", name, left, tt.left)
		}
	}
}

// Servers without a leader stop together. The claims of removed servers are deleted if that is declared, unless data
// is known on them.
func TestStopUnelected(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		whenScaled string
		left       []string
	}{
		"claims are kept": {server.Retain, []string{
			"data-consul-server-0", "data-consul-server-1", "data-consul-server-2", "data-consul-server-3",
		}},
		// Server 2 has data, and the claim of server 3 belongs to an earlier cluster.
		"claims are deleted": {server.Delete, []string{"data-consul-server-0", "data-consul-server-2", "data-consul-server-3"}},
	} {
		sts := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "consul-server", Labels: server.OwnerLabels("consul")}}
		sts.Spec.Replicas, sts.CreationTimestamp = new(int32(3)), metav1.Now()
		objects := []runtime.Object{sts}
		for ordinal, version := range []string{"", "", "1.22.7", ""} {
			c := claimOf(server.ClaimName(server.PodName("consul", ordinal)), version)
			if ordinal < 3 {
				c.CreationTimestamp = sts.CreationTimestamp
			}
			objects = append(objects, &c)
		}
		set := fake.NewClientset(objects...)
		k := &kube.Client{Interface: set}
		var reported []string
		d := Deployment{
			Kube:   k,
			Consul: consul.NewConnector(k).Cluster("prod", "consul"),
			Report: func(a rollout.Action) { reported = append(reported, a.String()) },
		}
		spec := server.Spec{Namespace: "prod", Name: "consul", Replicas: 1, Storage: server.Storage{WhenScaled: tt.whenScaled}}
		live, err := stops{d}.stopUnelected(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if live.StatefulSet == nil || *live.StatefulSet.Spec.Replicas != 0 {
			t.Errorf("%s: the objects are those from before", name)
		}
		if want := []string{"scale to 0 servers (no leader was ever elected, and all servers restart)"}; !slices.Equal(reported, want) {
			t.Errorf("%s: reported %q", name, reported)
		}
		list, err := set.CoreV1().PersistentVolumeClaims("prod").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, c := range list.Items {
			left = append(left, c.Name)
		}
		if !slices.Equal(left, tt.left) {
			t.Errorf("%s: left %q, want %q", name, left, tt.left)
		}
	}
}
