package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

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
