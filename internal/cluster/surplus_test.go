package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
)

// The plan of a create names the volumes of servers that it does not start, with their age, and says what to do.
func TestSurplusText(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	text := surplusText("ns/c", "ns", 1, []rollout.Surplus{{Claim: "data-c-server-1", Made: made}, {Claim: "data-c-server-2", Made: made}})
	for _, says := range []string{
		"data-c-server-1 (of 2026-01-02), data-c-server-2 (of 2026-01-02)", "set replicas to the number", "kubectl -n ns delete pvc data-c-server-1 data-c-server-2",
	} {
		if !strings.Contains(text, says) {
			t.Errorf("it does not say %q: %s", says, text)
		}
	}
}
