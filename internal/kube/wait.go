package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TimeoutError says what was still missing when a wait ended.
type TimeoutError struct {
	// What was waited for.
	What string
	// Missing is what the last check said.
	Missing string
	// Err is the context's error.
	Err error
}

// Error implements error.
func (e *TimeoutError) Error() string {
	s := "timed out waiting for " + e.What
	if errors.Is(e.Err, context.Canceled) {
		s = "interrupted while waiting for " + e.What
	}
	if e.Missing != "" {
		s += ": " + e.Missing
	}
	return s
}

// Unwrap returns the context's error.
func (e *TimeoutError) Unwrap() error { return e.Err }

// Wait calls check every interval until it says that nothing is missing (""),
// returns an error, or the context ends; then it returns a *TimeoutError with
// the last thing missing. Check is called at once.
func Wait(ctx context.Context, what string, interval time.Duration, check func(context.Context) (missing string, err error)) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	last := ""
	for {
		missing, err := check(ctx)
		switch {
		case ctx.Err() != nil:
			return &TimeoutError{What: what, Missing: last, Err: ctx.Err()}
		case err != nil:
			return fmt.Errorf("waiting for %s: %w", what, err)
		case missing == "":
			return nil
		}
		last = missing
		select {
		case <-ctx.Done():
			return &TimeoutError{What: what, Missing: last, Err: ctx.Err()}
		case <-t.C:
		}
	}
}

// Permanent reports whether waiting does not change an answer of the Kubernetes API.
func Permanent(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) &&
		(apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) ||
			apierrors.IsBadRequest(err))
}
