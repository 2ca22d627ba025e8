package rollout

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Surplus is a volume of a server that a cluster of so many servers does not start.
type Surplus struct {
	// Claim is the name of the volume claim, and Made when it was made.
	Claim string
	Made  time.Time
}

// String names a claim with its date.
func (s Surplus) String() string {
	return fmt.Sprintf("%s (of %s)", s.Claim, s.Made.UTC().Format(time.DateOnly))
}

// Surplus lists the volume claims of servers beyond the first so many. It returns none where claims may not be listed.
func (d Deployment) Surplus(ctx context.Context, replicas int) ([]Surplus, error) {
	claims, err := d.boundClaims(ctx)
	if err != nil {
		return nil, err
	}
	return surplus(d.Consul.Name, claims, replicas), nil
}

// surplus picks from the claims that have a volume those of servers beyond the first so many.
func surplus(cluster string, bound map[string]time.Time, replicas int) []Surplus {
	var out []Surplus
	for ordinal := range server.MaxReplicas {
		claim := server.ClaimName(server.PodName(cluster, ordinal))
		if made, ok := bound[claim]; ok && ordinal >= replicas {
			out = append(out, Surplus{Claim: claim, Made: made})
		}
	}
	return slices.Clip(out)
}
