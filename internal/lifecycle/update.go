package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
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
	return lease{d}.exclusively(ctx, func(ctx context.Context) error {
		op := &operation{Deployment: d, wanted: wanted}
		err := rollout.Operate(ctx, op, wanted)
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
	orphaned, err := observer{op.Deployment}.isOrphaned(ctx, op.live, spec.Name)
	if err != nil {
		return err
	}
	applied := spec
	if op.Known != nil {
		applied = *op.Known
	}
	if !orphaned {
		if applied, err = server.Parse(op.live, applied); err != nil {
			return err
		}
	}
	if op.wanted.Recover != "" && !op.recovered { // there may be no quorum that answers
		op.runs, err = observer{op.Deployment}.look(ctx, applied, op.live)
	} else {
		op.runs, err = observer{op.Deployment}.running(ctx, op.live, applied)
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
	return checkReloads(ctx, op.Consul, op.before, spec)
}

// checkReloads refuses to turn TLS on or off if the servers could not be told to reload between the
// rollouts: the second rollout would then cut off its first server.
func checkReloads(ctx context.Context, c *consul.Cluster, before, spec server.Spec) error {
	if !before.Established || !spec.ACL.Enabled || before.TLS.Stage == spec.TLS.Stage {
		return nil
	}
	token, _, err := consulacl.ManagementToken(ctx, c)
	if err == nil {
		_, err = consulacl.VerifyToken(ctx, c, token)
	}
	if err != nil {
		return fmt.Errorf("turning TLS on or off on servers with ACLs requires a valid management token, and nothing was changed: %w", err)
	}
	return nil
}

// AgentTokensError says that servers would refuse clients, and that not all of them have accepted their agent tokens. Nothing was
// changed.
type AgentTokensError struct{ Err error }

// Error implements error.
func (e *AgentTokensError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *AgentTokensError) Unwrap() error { return e.Err }

// agentTokensTimeout is how long the servers may take to accept their agent tokens.
const agentTokensTimeout = 30 * time.Second

// renewAgentTokens makes each server accept its agent token again before the first server refuses anything, because a plan cannot be
// sure that the server has it.
func renewAgentTokens(ctx context.Context, c *consul.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, agentTokensTimeout)
	defer cancel()
	if err := consulacl.RenewAgentTokens(ctx, c); err != nil {
		return &AgentTokensError{err}
	}
	return nil
}
