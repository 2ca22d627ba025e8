package lifecycle

import (
	"cmp"
	"context"
	"fmt"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// operation is a create or an update of a cluster in Kubernetes. rollout.Operate decides which phases it carries out.
type operation struct {
	ports
	wanted rollout.Wanted
	// known is what was declared before an update, nil if that is not known (Deployment.Known).
	known *server.Spec
	// live and runs are what Observe has found, and before is what a change starts from. Without servers, before is the zero Spec.
	live   server.Set
	runs   Running
	before server.Spec
	// recovered says that the quorum is recovered, so that the servers can be asked.
	recovered bool
	// made is what a create has made, and prepared says that it has applied the namespace and the ServiceAccount.
	made     made
	prepared bool
	// former is what is known of the servers that are adopted.
	former former
	// snapshot is the one that was taken before an upgrade, and resizing says that a change of the volumes is to be completed.
	snapshot *server.Snapshot
	resizing bool
	// applied is what was applied in this stage, nil if nothing was yet, from is what ran before that, and roll brings the servers to it.
	applied *server.Spec
	from    server.Spec
	roll    *roll
	// completed is the number of stages that are complete.
	completed int
}

var _ rollout.Operator[rollout.Observed] = (*operation)(nil)

// Observe implements rollout.Operator.
func (op *operation) Observe(ctx context.Context) (rollout.Observed, error) {
	var err error
	spec := op.wanted.Spec
	if op.live, err = op.objects.read(ctx); err != nil {
		return rollout.Observed{}, err
	}
	o := rollout.Observed{Applied: op.live.StatefulSet != nil}
	o.Adopting = op.live.IsTakeover() && (!op.wanted.Create || spec.Adopt != nil)
	if o.Adopting || op.wanted.BeginsAdoption(o) {
		err = op.observeAdoption()
		o.Running = op.before
		return o, err
	}
	if err := foreign(op.live, spec.Name); err != nil {
		return o, err
	}
	if op.wanted.Create {
		err = op.observeCreate(ctx)
	} else {
		err = op.observeUpdate(ctx)
	}
	o.Running = op.before
	o.Running.Established = op.runs.Established
	if o.Applied {
		o.Running.Declared = op.live.Declared()
	}
	return o, err
}

// Do implements rollout.Operator.
func (op *operation) Do(ctx context.Context, p rollout.Phase) error {
	var err error
	switch p.Kind {
	case rollout.RecoverQuorum:
		err = op.servers.recoverQuorum(ctx, p.Spec, op.wanted.Recover)
		op.recovered = err == nil
	case rollout.CancelRestore:
		err = op.snapshots.cancelRestore(ctx)
	case rollout.AwaitRestore:
		err = op.snapshots.awaitRestore(ctx)
	case rollout.CheckChange:
		err = op.check(ctx, p.Spec)
	case rollout.CheckAdoption:
		err = op.checkAdoption(ctx, p.Spec)
	case rollout.PrepareNamespace:
		err = op.prepareNamespace(ctx, p.Spec)
	case rollout.CheckConfig:
		err = op.objects.checkConfig(ctx, op.before, p.Spec, op.checkedIn(p.Spec))
	case rollout.StartServers:
		err = op.startServers(ctx, p.Spec)
	case rollout.RenewAgentTokens:
		err = op.credentials.renewAgentTokens(ctx)
	case rollout.KeepSecrets:
		err = op.keepSecrets(ctx, p.Spec)
	case rollout.AttachPods:
		_, err = op.objects.attach(ctx, p.Spec, op.live)
	case rollout.Relabel:
		err = op.objects.relabel(ctx, op.before.Labels, p.Spec.Labels)
	case rollout.EnsureKeys:
		err = op.made.secret(op.credentials.ensureKeys(ctx, op.before, p.Spec))
	case rollout.EnsureCertificates:
		err = op.made.secret(op.credentials.ensureCertificates(ctx, op.before, p.Spec))
	case rollout.LoadCertificates:
		err = op.credentials.loadCertificates(ctx, p.Spec)
	case rollout.TakeSnapshot:
		op.snapshot, err = op.snapshots.takeSnapshot(ctx, op.before, p.Spec)
	case rollout.StartVolumes:
		op.resizing, err = op.objects.startVolumes(ctx, p.Spec, op.live)
	case rollout.StopServers:
		op.live, err = op.servers.stopUnelected(ctx, p.Spec)
	case rollout.ApplyObjects:
		err = op.apply(ctx, p.Spec)
	case rollout.AdoptServers:
		err = op.adoptServers(ctx)
	case rollout.DeclareServers:
		err = op.objects.tellServers(ctx, cmp.Or(op.live.Declared(), op.before.Replicas), p.Spec.Declared)
	case rollout.RollServers:
		err = op.rollServers(ctx)
	case rollout.SettleServers:
		err = op.rollBackIfStuck(ctx, op.roll.settle(ctx))
	case rollout.RecordDone:
		err = op.rollBackIfStuck(ctx, op.roll.record(ctx))
		op.completed++
	case rollout.DeleteKeys:
		err = op.credentials.deleteKeys(ctx)
	case rollout.DeleteCertificates:
		err = op.credentials.deleteCertificates(ctx)
	case rollout.RestoreSnapshot:
		err = op.restoreSnapshot(ctx)
	case rollout.RouteClients:
		err = op.snapshots.routeClients(ctx)
	case rollout.RefreshSchedules:
		err = op.snapshots.refreshSchedules(ctx)
	default:
		err = unknownPhase(p)
	}
	return err
}

func unknownPhase(p rollout.Phase) error { return fmt.Errorf("no rule to %s", p.Kind) }
