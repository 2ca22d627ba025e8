package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Cluster is what Run looks at and acts on.
type Cluster interface {
	// Look reads the world again.
	Look(ctx context.Context) (World, error)
	// Do carries out an action on the world from which it was decided. For Wait, it returns a *StuckError if waiting cannot succeed.
	Do(ctx context.Context, w World, a Action) error
}

// FinalError is an error of a Cluster that does not go away when Run looks again.
type FinalError struct{ Err error }

// Error implements error.
func (e *FinalError) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e *FinalError) Unwrap() error { return e.Err }

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

// Loop is how Run waits, and what ends it.
type Loop struct {
	// Wait calls check again and again until it says that nothing is missing (""), returns an error, or the context ends.
	Wait func(ctx context.Context, check func(context.Context) (missing string, err error)) error
	// Now is the time.
	Now func() time.Time
	// Limit is the longest time without an action; 0 means no limit.
	Limit time.Duration
	// Report is called for every action taken, for Done, and for Pause.
	Report func(Action)
}

// Run looks, decides, and acts until nothing is left to do. It can be stopped anywhere and started again: it
// keeps no state. After Limit without an action, or if waiting cannot succeed, it returns a *StuckError. If the
// rollout is to pause, it returns a *PausedError. The servers that it has not reached are untouched.
func Run(ctx context.Context, c Cluster, l Loop) error {
	r := run{Loop: l, cluster: c, last: l.Now(), asked: l.Now()}
	return l.Wait(ctx, func(ctx context.Context) (string, error) {
		for {
			if missing, again, err := r.step(ctx); !again {
				return missing, err
			}
		}
	})
}

// run is what Run remembers from one look to the next.
type run struct {
	Loop
	cluster Cluster
	// last is when the last action was taken, and asked when the cluster was last asked whether waiting can succeed.
	last, asked time.Time
	// led is StuckError.Led.
	led bool
	// leaderless is since when there has been no leader, zero if there is one.
	leaderless time.Time
}

// step looks, decides, and acts once. again says that it acted, and that the next step may follow at once.
func (r *run) step(ctx context.Context) (missing string, again bool, err error) {
	w, err := r.cluster.Look(ctx)
	if err != nil { // what was not seen is not known: nothing is touched
		r.leaderless = time.Time{}
		missing, err = r.retry(err)
		return missing, false, err
	}
	switch {
	case w.Leader != "":
		r.leaderless = time.Time{}
		r.led = r.led || (w.Observed && w.Named(w.Leader).runsChange())
	case r.leaderless.IsZero():
		r.leaderless = r.Now()
	default:
		w.Leaderless = w.Patience > 0 && r.Now().Sub(r.leaderless) > w.Patience
	}
	a := Next(w)
	switch a.Verb {
	case Done:
		r.Report(a)
		return "", false, nil
	case Pause:
		r.Report(a)
		return "", false, &PausedError{Left: a.On}
	case Wait:
		missing, err = r.wait(ctx, w, a)
		return missing, false, err
	default:
	}
	if err := r.cluster.Do(ctx, w, a); err != nil { // the state has changed: look again
		missing, err = r.retry(fmt.Errorf("%s: %w", a, err))
		return missing, false, err
	}
	r.last, r.leaderless = r.Now(), time.Time{}
	r.Report(a)
	return "", true, nil
}

// wait asks the cluster from time to time whether waiting can succeed.
func (r *run) wait(ctx context.Context, w World, a Action) (missing string, err error) {
	if r.Now().Sub(r.asked) >= blockedInterval {
		r.asked = r.Now()
		err := r.cluster.Do(ctx, w, a)
		if stuck := (*StuckError)(nil); errors.As(err, &stuck) {
			stuck.Led = r.led
			return "", stuck
		}
	}
	return r.missing(a.On)
}

// retry is what is missing after an error, or the error if it is final.
func (r *run) retry(err error) (missing string, final error) {
	if errors.As(err, new(*FinalError)) {
		return "", err
	}
	return r.missing(err.Error())
}

// missing is what a step waits for, unless that takes too long.
func (r *run) missing(text string) (string, error) {
	if r.Limit > 0 && r.Now().Sub(r.last) > r.Limit {
		return "", &StuckError{Missing: text, Limit: r.Limit, Led: r.led}
	}
	return text, nil
}
