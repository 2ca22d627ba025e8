package localcluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// waitInterval is short, because most waits are for a local process that takes a fraction of a second.
const waitInterval = 100 * time.Millisecond

// waitFor calls check until it returns nil. If that takes longer than the limit, waitFor returns the last error of
// check, which says what is missing. An error wrapped by [giveUp] ends the wait at once.
func waitFor(ctx context.Context, what string, limit time.Duration, check func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(waitInterval)
	defer tick.Stop()
	for {
		// Not the limited context: a request that ends with it would hide the last real error.
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

// hopeless marks an error that waiting cannot fix.
type hopeless struct{ error }

func giveUp(err error) error { return hopeless{err} }
