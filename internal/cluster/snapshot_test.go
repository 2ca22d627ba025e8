package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The error of an interrupted snapshot says that, and does not advise to do without a snapshot.
func TestSnapshotError_interrupted(t *testing.T) {
	t.Parallel()
	interrupted := &kube.TimeoutError{What: "the Job consul/consul-snapshot", Missing: "it has not ended", Err: context.Canceled}
	for _, err := range []error{interrupted, errors.Join(fmt.Errorf("a snapshot: %w", interrupted), errors.New("the Job is still there"))} {
		d := snapshotError(server.Spec{Name: "consul", Namespace: "consul"}, &lifecycle.SnapshotError{Err: err})
		if !strings.Contains(d.Summary(), "interrupted") || strings.Contains(d.Detail(), "snapshot_before") ||
			!strings.Contains(d.Detail(), "apply again") {
			t.Errorf("%s: %s", d.Summary(), d.Detail())
		}
	}
	d := snapshotError(server.Spec{}, &lifecycle.SnapshotError{Err: &kube.JobError{Reason: "no space"}, Explanation: "Pod: Failed"})
	if !strings.Contains(d.Detail(), "no space") || !strings.Contains(d.Detail(), "snapshot_before") ||
		!strings.Contains(d.Detail(), "Pod: Failed") {
		t.Errorf("%s: %s", d.Summary(), d.Detail())
	}
}

func TestSnapshot_isReadBackAsItWasShown(t *testing.T) {
	t.Parallel()
	want := server.Snapshot{
		Claim: "consul-snapshots", File: "consul-1.21.0-20260102T030405Z.snap", Version: "1.21.0", Index: 42, Size: 3082,
		SHA256: "0a", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	var diags diag.Diagnostics
	got := toSnapshot(t.Context(), fromSnapshot(t.Context(), &want, &diags), &diags)
	if diags.HasError() || got == nil || *got != want {
		t.Errorf("got %+v, want %+v (%v)", got, want, diags)
	}
	if got := toSnapshot(t.Context(), fromSnapshot(t.Context(), nil, &diags), &diags); got != nil {
		t.Errorf("got %+v, want none", got)
	}
}
