package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The plan of a create names the volumes of servers that it does not start, with their age, and says what to do.
func TestPlanSurplus(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	var claims []lifecycle.Retained
	for i := range 3 {
		claims = append(
			claims,
			lifecycle.Retained{Name: server.ClaimName(server.PodName("c", i)), Ordinal: i, Size: "10Gi", Created: made, Bound: true},
		)
	}
	claims = append(claims, lifecycle.Retained{Name: "data-c-server-3", Ordinal: 3}) // was never used
	var diags diag.Diagnostics
	planSurplus(model{ID: types.StringValue("ns/c"), Namespace: types.StringValue("ns"), Replicas: types.Int64Value(3)}, claims, &diags)
	if len(diags) > 0 {
		t.Errorf("three servers, and %v", diags)
	}
	planSurplus(model{ID: types.StringValue("ns/c"), Namespace: types.StringValue("ns"), Replicas: types.Int64Value(1)}, claims, &diags)
	if len(diags) != 1 {
		t.Fatalf("got %v", diags)
	}
	text := diags[0].Detail()
	for _, says := range []string{
		"data-c-server-1 (10Gi, created 2026-01-02", "data-c-server-2 (10Gi", "set replicas to the number", "kubectl -n ns delete pvc " +
			"data-c-server-1 data-c-server-2",
	} {
		if !strings.Contains(text, says) {
			t.Errorf("it does not say %q: %s", says, text)
		}
	}
}
