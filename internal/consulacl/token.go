package consulacl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// tokenIDs is the UUID name space of accessor IDs that are derived from other data.
var tokenIDs = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/consul-k8s/terraform-provider-consul-k8s#token"))

// AccessorFor is the accessor ID of the first token that a cluster has for a target. It is derived from both,
// so that an interrupted create finds its token again.
func AccessorFor(c *consul.Cluster, t Target) string {
	return uuid.NewSHA1(tokenIDs, []byte(c.ID()+" "+t.String())).String()
}

// Successor is the accessor ID of the token that replaces another one, for the
// same reason.
func Successor(accessorID string) string {
	return uuid.NewSHA1(tokenIDs, []byte("after "+accessorID)).String()
}

// Unfinished is the description of a token whose create has not ended. It distinguishes a token that an
// interrupted create left behind from a token in use.
const Unfinished = "Not in use yet: being created by terraform-provider-consul-k8s"

// EnsureToken creates a token with the accessor ID and secret ID in wanted, or resumes an interrupted create:
// resumable reports whether a token with that accessor ID is what the interrupted call left. That token keeps
// its secret ID unless insist is set. Another token with the accessor ID is ErrExists.
func (a *ACL) EnsureToken(ctx context.Context, wanted api.ACLToken, insist bool, resumable func(api.ACLToken) bool) (*api.ACLToken, error) {
	made, err := a.Tokens.Create(ctx, wanted)
	if !errors.Is(err, ErrExists) {
		return made, err
	}
	existing, readErr := a.Tokens.Read(ctx, wanted.AccessorID)
	switch {
	case errors.Is(readErr, ErrNotFound): // so it was the secret ID
		return nil, err
	case readErr != nil:
		return nil, readErr
	case !resumable(*existing):
		return nil, err
	case sameLife(wanted, *existing) && (!insist || existing.SecretID == wanted.SecretID):
		wanted.SecretID = existing.SecretID
		return a.Tokens.Update(ctx, wanted)
	}
	// A token that cannot be changed is created again.
	if err := a.Tokens.Delete(ctx, wanted.AccessorID); err != nil {
		return nil, err
	}
	return a.Tokens.Create(ctx, wanted)
}

// sameLife reports whether two tokens agree in what Consul does not change: where they are valid, and until
// when.
func sameLife(wanted, existing api.ACLToken) bool {
	if wanted.Local != existing.Local {
		return false
	}
	switch {
	case existing.ExpirationTime == nil:
		return wanted.ExpirationTTL == 0 && wanted.ExpirationTime == nil
	case wanted.ExpirationTime != nil:
		return wanted.ExpirationTime.Equal(*existing.ExpirationTime)
	}
	return (existing.ExpirationTime.Sub(existing.CreateTime) - wanted.ExpirationTTL).Abs() < time.Second
}

// AwaitToken waits until every running server knows a token: its user may ask any of them, and a server that
// does not know a token yet refuses it. It asks for the accessor ID, which no server caches as unknown.
func (a *ACL) AwaitToken(ctx context.Context, accessorID string) error {
	return kube.Wait(ctx, "all servers to know the token "+accessorID, 200*time.Millisecond, func(ctx context.Context) (string, error) {
		pods, err := a.cluster.Pods(ctx)
		if err != nil {
			return err.Error(), nil
		}
		management, err := a.token(ctx, "")
		if err != nil {
			return "", err
		}
		var missing []string
		for i := range pods {
			if pods[i].Status.Phase != corev1.PodRunning || !consul.PodReady(&pods[i]) {
				continue // it gets the token before it serves
			}
			client, err := a.cluster.Server(&pods[i], management)
			if err != nil {
				return "", err
			}
			_, _, err = client.ACL().TokenRead(accessorID, (&api.QueryOptions{AllowStale: true}).WithContext(ctx))
			if err != nil {
				missing = append(missing, fmt.Sprintf("server %s: %s", pods[i].Name, err))
			}
		}
		return strings.Join(missing, ", "), nil
	})
}
