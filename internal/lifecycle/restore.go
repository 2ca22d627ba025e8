package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// healthyTimeout is how long servers may take to become healthy voters before and after a
// restore.
const healthyTimeout = 2 * time.Minute

// Restored is a restore that was carried out, and the data of the servers after it.
type Restored struct {
	restic.Restored
	After restic.Inspection
	// Resumed says that an earlier call began it.
	Resumed bool
}

// Restore replaces all data of the servers by a snapshot, if they are healthy voters and run the version that the snapshot was taken from,
// and after their present data was stored too. Then it repairs the tokens and the catalog, and inspects the data of the servers. A failure
// before the snapshot is restored has changed nothing. After a later failure, the next call that asks for the same snapshot resumes the
// restore. It returns a *kube.JobError, consulacl.ErrNotRestored, and other errors.
func (d Deployment) Restore(ctx context.Context, client restic.Client, r restic.Restore) (restored Restored, err error) {
	err = lease{d}.exclusively(ctx, func(ctx context.Context) error {
		running, err := restic.Servers(ctx, d.Kube, d.Consul)
		if err != nil {
			return err
		}
		restored, err = restore(ctx, portsOf(d), restoreJobs{restores{d}, client, r}, running)
		return err
	})
	return restored, err
}

// restoreOperation is a restore of a snapshot into running servers.
type restoreOperation struct {
	ports
	jobs RestoreJobs
	// running is what the servers run.
	running server.Spec
	// job is the restore that was found, or started, and token is where the management token is that it uses.
	job   *restic.Restoring
	token consulacl.SecretRef
	// done says that the snapshot is restored.
	done     bool
	restored Restored
}

var _ rollout.Operator[rollout.Restorable] = (*restoreOperation)(nil)

// restore carries out or resumes a restore, and repairs what it breaks.
func restore(ctx context.Context, p ports, jobs RestoreJobs, running server.Spec) (Restored, error) {
	op := &restoreOperation{ports: p, jobs: jobs, running: running}
	err := rollout.Operate(ctx, op, rollout.RestorePhases)
	return op.restored, err
}

// Observe implements rollout.Operator.
func (op *restoreOperation) Observe(ctx context.Context) (o rollout.Restorable, err error) {
	o.Origin, o.ACLs = op.running.Origin.Pending(), op.running.ACL.Enabled
	if op.job, err = op.jobs.begun(ctx); err != nil || op.job == nil {
		return o, err
	}
	o.Begun, o.Former, o.FormerChanged = op.job.Same, !op.job.Same, !op.job.Same && op.job.Changed
	op.restored.Resumed = o.Begun
	return o, nil
}

// Do implements rollout.Operator.
func (op *restoreOperation) Do(ctx context.Context, p rollout.Phase) error {
	var err error
	switch p.Kind {
	case rollout.BootstrapACLs:
		err = op.jobs.bootstrap(ctx)
	case rollout.FinishFormer:
		err = op.finishFormer(ctx)
	case rollout.CheckServers:
		op.token, err = op.jobs.checkServers(ctx, op.running)
	case rollout.StartRestore:
		op.job, err = op.jobs.start(ctx, op.running, op.token)
	case rollout.FollowRestore:
		return op.follow(ctx)
	case rollout.RecordRestore:
		err = op.jobs.record(ctx, op.restored.Restored)
	case rollout.HealServers:
		err = op.jobs.heal(ctx, op.running)
	case rollout.RecordOrigin:
		err = op.jobs.recordOrigin(ctx, op.restored.Restored)
	case rollout.RefreshSchedules:
		if err = op.snapshots.refreshSchedules(ctx); err != nil { // their next backups record the restore
			err = fmt.Errorf("the backup schedules do not record the restore yet: %w", err)
		}
	case rollout.InspectServers:
		if op.restored.After, err = op.jobs.inspect(ctx, op.running); err != nil {
			err = fmt.Errorf("the data of the servers could not be inspected: %w", err)
		}
	case rollout.FinishRestore:
		op.finish(ctx)
	default:
		err = unknownPhase(p)
	}
	if err != nil && op.done {
		err = fmt.Errorf("the snapshot was restored, but %w", err)
	}
	return err
}

// finishFormer completes what an earlier restore has left.
func (op *restoreOperation) finishFormer(ctx context.Context) error {
	if !op.job.Ended {
		return restic.ErrRestoring
	}
	if op.job.Changed {
		if err := op.jobs.heal(ctx, op.running); err != nil {
			return fmt.Errorf("finishing an earlier restore of snapshot %.8s: %w", op.job.Stored.ID, err)
		}
	}
	return op.jobs.finish(ctx)
}

// follow waits until the snapshot is restored.
func (op *restoreOperation) follow(ctx context.Context) (err error) {
	op.restored.Restored, err = op.jobs.follow(ctx, op.job)
	var uncertain *restic.UncertainError
	switch {
	case errors.As(err, &uncertain) && ctx.Err() == nil:
		return errors.Join(
			fmt.Errorf("the last step of the restore failed, and may have replaced the data of the cluster: %w", err),
			op.jobs.heal(ctx, op.running),
		)
	case uncertain != nil:
		return fmt.Errorf("the restore was interrupted in its last step; apply again: %w", err)
	case err != nil:
		return fmt.Errorf("nothing in the cluster was changed: %w", err)
	}
	op.done = true
	op.report(ctx, rollout.Action{Verb: rollout.Restore, On: op.job.Stored.ID})
	return nil
}

// finish removes what a complete restore has left behind.
func (op *restoreOperation) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	_ = op.jobs.finish(ctx) // if it stays, Kubernetes removes it in a day
}

// restoreJobs are RestoreJobs of one restore that was asked for.
type restoreJobs struct {
	restores
	client restic.Client
	asked  restic.Restore
}

func (d restoreJobs) begun(ctx context.Context) (*restic.Restoring, error) {
	return d.client.Restoring(ctx, d.asked)
}

// record notes on the StatefulSet what was restored: the backups that follow say so in their repositories.
func (d restoreJobs) record(ctx context.Context, r restic.Restored) error {
	_, err := d.Kube.AppsV1().StatefulSets(d.Consul.Namespace).Patch(ctx, server.StatefulSetName(d.Consul.Name), types.MergePatchType,
		server.RestoredPatch(r.Stored.ID, r.Time), metav1.PatchOptions{FieldManager: server.RestoredManager})
	if err != nil {
		return fmt.Errorf("recording the restore of %.8s on the StatefulSet of %s: %w", r.Stored.ID, d.Consul.ID(), err)
	}
	return nil
}

// checkServers waits until all servers are healthy voters, and makes sure that they run what is declared.
func (d restoreJobs) checkServers(ctx context.Context, running server.Spec) (consulacl.SecretRef, error) {
	leads, token, err := d.healthy(ctx, running)
	if err != nil {
		return token, err
	}
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return token, err
	}
	for i := range pods {
		if v := pods[i].Labels[server.LabelVersion]; v != running.Version || leads != running.Version {
			return token, fmt.Errorf("server %s runs Consul %s, and %s is declared: complete the upgrade first", pods[i].Name, v, running.Version)
		}
	}
	return token, nil
}

// start finds the snapshot, and starts the Job that restores it.
func (d restoreJobs) start(ctx context.Context, running server.Spec, token consulacl.SecretRef) (*restic.Restoring, error) {
	all, err := d.client.List(ctx)
	if err != nil {
		return nil, err
	}
	snapshot, err := restic.Choose(all, d.asked.Snapshot, d.asked.Cluster, running.Version)
	if err != nil {
		return nil, err
	}
	return d.client.StartRestore(ctx, d.asked, snapshot, token)
}

func (d restoreJobs) follow(ctx context.Context, job *restic.Restoring) (restic.Restored, error) {
	return d.client.AwaitRestore(ctx, job)
}

func (d restoreJobs) inspect(ctx context.Context, running server.Spec) (restic.Inspection, error) {
	_, token, err := d.healthy(ctx, running)
	if err != nil {
		return restic.Inspection{}, err
	}
	return d.client.Inspect(ctx, token)
}

func (d restoreJobs) finish(ctx context.Context) error { return d.client.FinishRestore(ctx) }

// heal repairs the tokens of a cluster after a restore, its catalog, and the configuration of autopilot, which is that
// of the servers from which the snapshot was taken.
func (d restores) heal(ctx context.Context, running server.Spec) error {
	if err := consulacl.Heal(ctx, d.Consul, running.ACL.Enabled); err != nil {
		return err
	}
	token := ""
	if running.ACL.Enabled {
		if !running.Origin.Pending() { // which has no schedules yet
			if err := restic.EnsureTokens(ctx, d.Kube, d.Consul); err != nil {
				return err
			}
		}
		var err error
		if token, _, err = consulacl.ManagementToken(ctx, d.Consul); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthyTimeout)
	defer cancel()
	return kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		if err := consul.SetAutopilot(ctx, d.Consul, token, running.Autopilot, int(running.Replicas)); err != nil {
			return err.Error(), nil
		}
		return "", nil
	})
}

// healthy waits until all servers are healthy voters, and returns the version that the leader runs, and where the
// management token is.
func (d restores) healthy(ctx context.Context, running server.Spec) (version string, ref consulacl.SecretRef, err error) {
	leads, ref, err := snapshots(d).snapshotSource(ctx, running)
	if err != nil {
		return "", ref, err
	}
	token := ""
	if running.ACL.Enabled {
		if token, _, err = consulacl.ManagementToken(ctx, d.Consul); err != nil {
			return "", ref, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthyTimeout)
	defer cancel()
	return leads.Version, ref, kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		return consul.Missing(ctx, d.Consul, token, int(running.Replicas), 0)
	})
}
