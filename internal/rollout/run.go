package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// interval between two looks at the world.
const interval = 500 * time.Millisecond

// Cluster is what Run looks at and acts on.
type Cluster interface {
	// Look reads the world again.
	Look(ctx context.Context) (World, error)
	// Restart removes the pod of a server as it was observed; the StatefulSet creates a new one. A settled
	// server is evicted, any other is deleted.
	Restart(ctx context.Context, s Server) error
	// Rebuild is Restart for a server that also loses its volume.
	Rebuild(ctx context.Context, s Server) error
	// Grow makes the volumes that are too small grow.
	Grow(ctx context.Context) error
	// Transfer moves the leadership to a pod.
	Transfer(ctx context.Context, pod string) error
	// Reload makes the agent in a pod reload its configuration, and returns when the agent reports that it has.
	Reload(ctx context.Context, pod string) error
	// Remove removes a Raft peer by its name.
	Remove(ctx context.Context, peer string) error
	// Scale changes the number of servers.
	Scale(ctx context.Context, replicas int) error
	// Blocked says why waiting for the servers cannot succeed, "" if it can, or may.
	Blocked(ctx context.Context) string
}

// PausedError says that a rollout waits for the next apply.
type PausedError struct{ Left string }

// Error implements error.
func (e *PausedError) Error() string { return "the rollout is paused; not done yet: " + e.Left }

// blockedInterval is how often a rollout that waits checks whether that can succeed.
const blockedInterval = 10 * time.Second

// StuckError says that a rollout makes no progress.
type StuckError struct {
	// Missing is what was waited for, or why waiting cannot succeed.
	Missing string
	// Limit is how long one server may take; 0 if waiting cannot succeed.
	Limit time.Duration
	// Led says that a server that runs what was applied has been the leader.
	Led bool
}

// Error implements error.
func (e *StuckError) Error() string {
	if e.Limit == 0 {
		return "waiting longer does not help: " + e.Missing
	}
	return fmt.Sprintf("no progress for %s (update.server_timeout): %s", e.Limit, e.Missing)
}

// Run looks, decides, and acts until nothing is left to do. It can be stopped anywhere and started again: it
// keeps no state. When the context ends, it returns a *kube.TimeoutError that says what it was waiting for.
// After limit (0 is none) without an action, or if waiting cannot succeed, it returns a *StuckError. If the
// rollout is to pause, it returns a *PausedError. The servers that it has not reached are untouched. report is
// called for every action taken.
func Run(ctx context.Context, c Cluster, limit time.Duration, report func(Action)) error {
	last, asked, led := time.Now(), time.Now(), false
	var leaderless time.Time // since when
	missing := func(text string) (string, error) {
		if limit > 0 && time.Since(last) > limit {
			return "", &StuckError{Missing: text, Limit: limit, Led: led}
		}
		return text, nil
	}
	return kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		for {
			w, err := c.Look(ctx)
			switch {
			case lasting(err):
				return "", err
			case err != nil: // what was not seen is not known: nothing is touched
				leaderless = time.Time{}
				return missing(err.Error())
			}
			switch {
			case w.Leader != "":
				leaderless = time.Time{}
				led = led || (w.Observed && !w.named(w.Leader).Outdated)
			case leaderless.IsZero():
				leaderless = time.Now()
			default:
				w.Leaderless = w.Patience > 0 && time.Since(leaderless) > w.Patience
			}
			a := Next(w)
			switch {
			case a.Done:
				report(a)
				return "", nil
			case a.Wait != "" && time.Since(asked) >= blockedInterval:
				asked = time.Now()
				if why := c.Blocked(ctx); why != "" {
					return "", &StuckError{Missing: why, Led: led}
				}
				return missing(a.Wait)
			case a.Wait != "":
				return missing(a.Wait)
			case a.Pause != "":
				report(a)
				return "", &PausedError{Left: a.Pause}
			}
			err = act(ctx, c, w, a)
			switch {
			case lasting(err):
				return "", err
			case err != nil: // the state has changed: look again
				return missing(err.Error())
			}
			last, leaderless = time.Now(), time.Time{}
			report(a)
		}
	})
}

// lasting reports whether an error does not go away when Run looks again. A pod that is not found is being
// replaced; a StatefulSet that is not found does not come back.
func lasting(err error) bool {
	return errors.Is(err, server.ErrNoStatefulSet) || (kube.Permanent(err) && !apierrors.IsNotFound(err))
}

// act carries out an action on the world from which it was decided.
func act(ctx context.Context, c Cluster, w World, a Action) error {
	var err error
	if a.Without != "" {
		if err := c.Remove(ctx, a.Without); err != nil {
			return fmt.Errorf("%s: removing the Raft peer %s: %w", a, a.Without, err)
		}
	}
	switch {
	case a.Restart != "":
		err = c.Restart(ctx, w.named(a.Restart))
	case a.Rebuild != "":
		err = c.Rebuild(ctx, w.named(a.Rebuild))
	case a.Grow != "":
		err = c.Grow(ctx)
	case a.Transfer != "":
		err = c.Transfer(ctx, a.Transfer)
	case a.Reload != "":
		err = c.Reload(ctx, a.Reload)
	case a.Remove != "":
		err = c.Remove(ctx, a.Remove)
	case a.Scale != 0:
		err = c.Scale(ctx, a.Scale)
	case a.Add != "" || a.Retire != "" || a.Switch != "":
		err = actTakeover(ctx, c, a)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	return nil
}
