package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// RolledBackError says that a change did not work, and that all servers run again what they ran
// before.
type RolledBackError struct{ Err error }

// Error implements error.
func (e *RolledBackError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *RolledBackError) Unwrap() error { return e.Err }

// rollBackIfStuck brings back what ran before the stage if err says that the rollout is stuck, and if this is declared.
func (op *operation) rollBackIfStuck(ctx context.Context, err error) error {
	var stuck *rollout.StuckError
	if op.wanted.Create || !errors.As(err, &stuck) || op.applied.Update.OnFailure != server.RollBack {
		return err
	}
	return op.rollBack(ctx, op.from, *op.applied, stuck, err)
}

// rollBack brings back what ran before a change that got stuck, unless a newer Consul has been the
// leader (rollout.KeepsChange).
func (op *operation) rollBack(ctx context.Context, before, changed server.Spec, stuck *rollout.StuckError, cause error) error {
	changes := server.Changes(before, changed)
	has := func(e server.Effect) bool {
		return slices.ContainsFunc(changes, func(c server.Change) bool { return c.Effect == e })
	}
	restarts := has(server.Restart) || rollout.RestartsBetween(before, changed)
	if !restarts && !has(server.Reload) && server.SameStages(before, changed) {
		return cause // an earlier call made the change: what ran before is not known
	}
	live, err := op.objects.read(ctx)
	if err != nil {
		return errors.Join(cause, err)
	}
	w, err := op.servers.rollable(Live{Desired: int(before.Replicas)}).Look(ctx)
	if err != nil {
		return errors.Join(cause, fmt.Errorf("not rolled back: %w", err))
	}
	if reason := rollout.KeepsChange(w, before, changed, stuck.Led); reason != "" {
		return errors.Join(cause, errors.New("not rolled back: "+reason))
	}
	desired := before.Replicas
	if before.Established { // servers that were added leave one by one
		before = rollout.OneByOne(before, int32(w.Replicas)) //nolint:gosec // at most 7
	}
	before.Update.PauseAfter = 0
	before.Storage, before.Resizing = changed.Storage, changed.Resizing // volumes do not shrink
	if before.FormerConfig, err = op.objects.formerConfig(ctx, before, live); err != nil {
		return errors.Join(cause, fmt.Errorf("rolling back: %w", err))
	}
	if !before.Established {
		if live, err = op.servers.stopUnelected(ctx, before); err != nil {
			return errors.Join(cause, fmt.Errorf("rolling back: %w", err))
		}
	}
	if _, err := op.objects.apply(ctx, server.Objects(before), live); err != nil {
		return errors.Join(cause, fmt.Errorf("rolling back: %w", err))
	}
	if !before.Established { // what ran before had no leader either: there is nothing to wait for
		return errors.Join(cause, errors.New("rolled back: the servers run what they ran before, and still have no leader"))
	}
	if before.Replicas > desired {
		if err := op.objects.tellServers(ctx, before.Replicas, desired); err != nil {
			return errors.Join(cause, fmt.Errorf("rolling back: %w", err))
		}
	}
	if err := settle(ctx, op.ports, before, int(desired), before.Update.ServerTimeout); err != nil {
		return errors.Join(cause, fmt.Errorf("rolling back: %w", err))
	}
	return &RolledBackError{Err: cause}
}
