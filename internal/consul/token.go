package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// tokenIDs is the UUID name space of accessor IDs that follow from something.
var tokenIDs = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/consul-k8s/terraform-provider-consul-k8s#token"))

// AccessorFor is the accessor ID of the first token that a cluster has for a
// target. It follows from both, so that a create which was interrupted finds its
// token again.
func (c *Cluster) AccessorFor(t Target) string {
	return uuid.NewSHA1(tokenIDs, []byte(c.ID()+" "+t.String())).String()
}

// Successor is the accessor ID of the token that replaces another one, for the
// same reason.
func Successor(accessorID string) string {
	return uuid.NewSHA1(tokenIDs, []byte("after "+accessorID)).String()
}

// EnsureToken makes a token with the accessor ID and secret ID in wanted. If
// resume is set, one of that accessor ID is what an interrupted call made: it is
// brought to what is wanted, and keeps its own secret ID. Otherwise it is
// ErrExists.
func (a *ACL) EnsureToken(ctx context.Context, wanted api.ACLToken, resume bool) (*api.ACLToken, error) {
	made, err := a.Tokens.Create(ctx, wanted)
	if !errors.Is(err, ErrExists) || !resume {
		return made, err
	}
	existing, readErr := a.Tokens.Read(ctx, wanted.AccessorID)
	if errors.Is(readErr, ErrNotFound) { // so it was the secret ID
		return nil, err
	}
	if readErr != nil {
		return nil, readErr
	}
	if existing.Local == wanted.Local && existing.ExpirationTime == nil && wanted.ExpirationTime == nil && wanted.ExpirationTTL == 0 {
		wanted.SecretID = existing.SecretID
		return a.Tokens.Update(ctx, wanted)
	}
	// What cannot be changed is made anew; nobody has come to use it.
	if err := a.Tokens.Delete(ctx, wanted.AccessorID); err != nil {
		return nil, err
	}
	return a.Tokens.Create(ctx, wanted)
}

// AwaitToken waits until every running server knows a token: whoever gets it may
// ask any of them, and one that does not know a token yet refuses it. It asks for
// the accessor ID, which no server remembers as unknown.
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
			if pods[i].Status.Phase != corev1.PodRunning || !PodReady(&pods[i]) {
				continue // it learns before it serves
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
