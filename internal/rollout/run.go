package rollout

import (
	"context"
	"fmt"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// interval between two looks at the world.
const interval = 500 * time.Millisecond

// Cluster is what Run looks at and acts on.
type Cluster interface {
	// Look reads the world anew.
	Look(ctx context.Context) (World, error)
	// Restart deletes a pod; the StatefulSet makes a new one.
	Restart(ctx context.Context, pod string) error
	// Transfer moves the leadership to a pod.
	Transfer(ctx context.Context, pod string) error
	// Scale changes the number of servers.
	Scale(ctx context.Context, replicas int) error
}

// Run looks, decides and acts until nothing is left to do. It can be stopped
// anywhere and started again: it remembers nothing. When the context ends it
// returns a *kube.TimeoutError that says what it was waiting for; the servers
// that it had not come to are untouched. report hears of every action taken.
func Run(ctx context.Context, c Cluster, report func(Action)) error {
	return kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		for {
			w, err := c.Look(ctx)
			switch {
			case permanent(err):
				return "", err
			case err != nil: // not seen is not known: nothing is touched
				return err.Error(), nil
			}
			a := Next(w)
			switch {
			case a.Done:
				report(a)
				return "", nil
			case a.Wait != "":
				return a.Wait, nil
			case a.Restart != "":
				err = c.Restart(ctx, a.Restart)
			case a.Transfer != "":
				err = c.Transfer(ctx, a.Transfer)
			case a.Scale != 0:
				err = c.Scale(ctx, a.Scale)
			}
			err = wrap(a, err)
			switch {
			case permanent(err):
				return "", err
			case err != nil: // the world moved on: look again
				return err.Error(), nil
			}
			report(a)
		}
	})
}

func wrap(a Action, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", a, err)
}
