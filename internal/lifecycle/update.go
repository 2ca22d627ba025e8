package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Update brings a cluster to what is wanted: it applies a changed spec, and reloads, restarts, adds, and removes servers, one at a
// time, until all run it. Besides errors that say that nothing was changed, it returns an *UnsettledError, a *PausedError if the
// rollout waits for the next call, or a *RolledBackError. Two updates at the same time wait for each other. The backup schedules of
// the cluster follow the change.
func (d Deployment) Update(ctx context.Context, wanted rollout.Wanted) error {
	d.Consul = d.Consul.WithLabels(wanted.Spec.Labels)
	wanted.Restore = d.Origin != nil
	p := portsOf(d)
	return p.lease.exclusively(ctx, func(ctx context.Context) error {
		op := &operation{ports: p, wanted: wanted, known: d.Known}
		err := rollout.Operate(ctx, op, wanted.Phases)
		if rolledBack := (*RolledBackError)(nil); op.completed > 0 && errors.As(err, &rolledBack) {
			rolledBack.Err = fmt.Errorf("%w\nThe change of the encryption is half-way, as it was before this rollout. "+
				"The next apply resumes it from there", rolledBack.Err)
		}
		return err
	})
}

// observeUpdate observes what an update starts from.
func (op *operation) observeUpdate(ctx context.Context) error {
	spec := op.wanted.Spec
	orphaned, err := op.objects.isOrphaned(ctx, op.live, spec.Name)
	if err != nil {
		return err
	}
	applied := spec
	if op.known != nil {
		applied = *op.known
	}
	if !orphaned {
		if applied, err = server.Parse(op.live, applied); err != nil {
			return err
		}
	}
	if op.wanted.Recover != "" && !op.recovered { // there may be no quorum that answers
		op.runs, err = op.servers.look(ctx, applied, op.live)
	} else {
		op.runs, err = op.servers.running(ctx, op.live, applied)
	}
	if err != nil {
		return err
	}
	op.before = op.runs.spec(applied, orphaned)
	if orphaned { // pods do not show the size of the volumes, and another size requires another StatefulSet
		op.before.Storage = spec.Storage
	}
	return nil
}

// check refuses what must not be done. Nothing was changed until then.
func (op *operation) check(ctx context.Context, spec server.Spec) error {
	if op.wanted.Create {
		return op.checkCreate(ctx, spec)
	}
	if err := op.runs.checkVersion(op.before, spec.Version); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if op.runs.Unknown != nil && !server.SameStages(op.before, spec) {
		return fmt.Errorf("nothing was changed: %w", op.runs.Unknown)
	}
	if len(server.Stages(op.before, spec)) > 1 && spec.Update.Strategy == server.OnDelete {
		return errors.New("nothing was changed: turning encryption on or off takes several rollouts, each of which must complete before the " +
			"next one starts: set update.strategy = \"rolling\"")
	}
	if spec.CreateNamespace {
		if err := checkNamespace(op.live.Namespace, spec); err != nil {
			return err
		}
	}
	return op.credentials.checkReloads(ctx, op.before, spec)
}
