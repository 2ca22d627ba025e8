package cluster

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A plan that takes volumes up names them, with their age, and says how to start without.
func TestRetainedWarning(t *testing.T) {
	t.Parallel()
	claims := []rollout.Retained{
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
		t.Errorf("the version is known, and the plan says %q", text)
	}
	claims[1].Version = ""
	if text := retainedWarning(versioned("1.22.7", "", false), "1.22.7", claims); !strings.Contains(text, unknown) {
		t.Errorf("the version is not known, and the plan says %q", text)
	}
}

// Both the plan and the apply refuse a version that the data is too new for.
func TestCreateError_retainedData(t *testing.T) {
	t.Parallel()
	err := rollout.CheckRetained("consul", []rollout.Retained{{Name: "data-consul-server-0", Version: "1.22.7"}}, "1.18.2")
	var refused *rollout.RetainedDataError
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
