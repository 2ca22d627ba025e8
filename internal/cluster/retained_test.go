package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

// A plan that uses retained volumes names them, with their age, and says how to start without them.
func TestRetainedWarning(t *testing.T) {
	t.Parallel()
	claims := []lifecycle.Retained{
		{Name: "data-consul-server-0", Size: "10Gi", Created: time.Now().Add(-49 * time.Hour), Version: "1.22.7"},
		{Name: "data-consul-server-1", Ordinal: 1, Size: "10Gi", Created: time.Now().Add(-3 * time.Hour), Version: "1.22.7"},
	}
	text := retainedWarning(versioned("1.22.7", "", false), "1.22.7", claims)
	for _, want := range []string{
		"data-consul-server-0 (10Gi, created ", "2d ago, data of Consul 1.22.7)", "data-consul-server-1 (10Gi, created ", "3h ago",
		"kubectl -n consul delete pvc data-consul-server-0 data-consul-server-1\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	const unknown = "Make sure that it is not newer than 1.22.7"
	if strings.Contains(text, unknown) {
		t.Errorf("the version is known, but the plan says %q", text)
	}
	claims[1].Version = ""
	if text := retainedWarning(versioned("1.22.7", "", false), "1.22.7", claims); !strings.Contains(text, unknown) {
		t.Errorf("the version is not known, but the plan says %q", text)
	}
}

// Both the plan and the apply refuse a version that the data is too new for.
func TestCreateError_retainedData(t *testing.T) {
	t.Parallel()
	err := lifecycle.CheckRetained("consul", []lifecycle.Retained{{Name: "data-consul-server-0", Version: "1.22.7"}}, "1.18.2")
	var refused *lifecycle.RetainedDataError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	d := createError(server.Spec{Namespace: "consul", Name: "consul"}, err)
	if d.Summary() != "The volumes hold data of a newer version" || !strings.Contains(d.Detail(), `Set version = "1.22.7" or later`) {
		t.Errorf("got %v", d)
	}
	if at := versionPath(model{}); !at.Equal(path.Root("image")) {
		t.Errorf("a version that follows from the image is refused at %s", at)
	}
}

// A plan names the volumes that a new cluster finds, but not those of running servers.
func TestPlanVolumes(t *testing.T) {
	t.Parallel()
	var claims []runtime.Object
	for ordinal := range 2 {
		claims = append(claims, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "consul",
				Name:      server.ClaimName(server.PodName("consul", ordinal)),
			}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "v"},
		})
	}
	sts := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "consul", Name: server.StatefulSetName("consul")}}
	for name, tt := range map[string]struct {
		objects   []runtime.Object
		forbidden bool
		want      []string
	}{
		"nothing is there":                 {nil, false, nil},
		"volumes are left":                 {claims, false, []string{"Volumes of more servers exist", "The servers start with existing data"}},
		"servers run":                      {append([]runtime.Object{sts}, claims...), false, nil},
		"without the right to list claims": {claims, true, []string{"Could not check for volumes of an earlier cluster"}},
	} {
		set := fake.NewClientset(tt.objects...)
		if tt.forbidden {
			set.PrependReactor("get", "statefulsets", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewForbidden(appsv1.Resource("statefulsets"), sts.Name, nil)
			})
		}
		plan := versioned("1.22.7", "", false)
		plan.Replicas = types.Int64Value(1)
		var diags diag.Diagnostics
		r := &Resource{clients: session.ClientsOf(&kube.Client{Interface: set})}
		r.planVolumes(t.Context(), plan, plan, &diags)
		var got []string
		for _, d := range diags {
			got = append(got, d.Summary())
		}
		if !slices.Equal(got, tt.want) || diags.HasError() {
			t.Errorf("%s: got %v, want %v", name, diags, tt.want)
		}
	}
}
