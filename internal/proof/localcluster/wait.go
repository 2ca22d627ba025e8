package localcluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// waitInterval is short, because most waits are for a local process that needs a fraction of a second.
const waitInterval = 100 * time.Millisecond

// waitFor calls check until it returns nil. The check explains itself by its error: if it is not met within the limit, the last one is
// returned. An error
// wrapped by [giveUp] ends the wait at once.
func waitFor(ctx context.Context, what string, limit time.Duration, check func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(waitInterval)
	defer tick.Stop()
	for {
		// Not the limited context: a request that it ends would hide the reason that the one before it gave.
		err := check(ctx)
		if err == nil {
			return nil
		}
		if fatal := (hopeless{}); errors.As(err, &fatal) {
			return fmt.Errorf("waiting for %s: %w", what, fatal.error)
		}
		select {
		case <-limited.Done():
			return fmt.Errorf("waiting for %s, at most %s: %w", what, limit, err)
		case <-tick.C:
		}
	}
}

// hopeless marks an error that waiting cannot mend.
type hopeless struct{ error }

func giveUp(err error) error { return hopeless{err} }
