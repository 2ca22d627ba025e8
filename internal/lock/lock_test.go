package lock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Waiting ends with the context, and the lock is free for others then.
func TestKeyed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var k Keyed
		unlock, err := k.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := k.Lock(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		other()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := k.Lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a lock that is held: %v", err)
		}
		unlock()
		unlock, err = k.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	})
}
