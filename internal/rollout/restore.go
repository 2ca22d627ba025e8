package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// healthyTimeout is how long servers may take to become healthy voters before and after a
// restore.
const healthyTimeout = 2 * time.Minute

// Restored is a restore that was carried out, and what the servers have after it.
type Restored struct {
	restic.Restored
	After restic.Inspection
	// Resumed says that an earlier call has begun it.
	Resumed bool
}

// Restore replaces all that the servers have by a snapshot: when they are
// healthy voters, run the version that it was taken from, and what they have was stored too. Then
// it makes tokens and the catalog whole again, and looks what the servers have. What fails before the snapshot is restored has changed nothing, and
// what fails after it goes on with the next call that asks for the same. It returns a *kube.JobError,
// consul.ErrNotRestored and others.
func (d Deployment) Restore(ctx context.Context, client restic.Client, r restic.Restore) (restored Restored, err error) {
	err = d.exclusively(ctx, func(ctx context.Context) error {
		running, err := restic.Servers(ctx, d.Kube, d.Consul)
		if err != nil {
			return err
		}
		if restored, err = d.restore(ctx, client, r, running); err != nil {
			return err
		}
		if err := restic.Refresh(ctx, d.Kube, d.Consul); err != nil { // their next backups name the restore
			return fmt.Errorf("the snapshot was restored, but the backup schedules do not know it yet: %w", err)
		}
		_, token, err := d.healthy(ctx, running)
		if err == nil {
			restored.After, err = client.Inspect(ctx, token)
		}
		if err != nil {
			return fmt.Errorf("the snapshot was restored, but what the servers have now is not known: %w", err)
		}
		d.finishRestore(ctx, client)
		return nil
	})
	return restored, err
}

// finishRestore removes what a restore has left that is complete.
func (d Deployment) finishRestore(ctx context.Context, client restic.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	_ = client.FinishRestore(ctx) // if it stays, Kubernetes removes it in a day
}

// restore restores, or goes on, and makes whole what that breaks. The caller finishes it.
func (d Deployment) restore(ctx context.Context, client restic.Client, r restic.Restore, running server.Spec) (restored Restored, err error) {
	job, err := client.Restoring(ctx, r)
	if err != nil {
		return restored, err
	}
	if job != nil && !job.Same {
		if err := d.finishFormer(ctx, client, running, *job); err != nil {
			return restored, err
		}
		job = nil
	}
	if restored.Resumed = job != nil; job == nil {
		if job, err = d.startRestore(ctx, client, r, running); err != nil {
			return restored, err
		}
	}
	restored.Restored, err = client.AwaitRestore(ctx, job)
	var uncertain *restic.UncertainError
	switch {
	case errors.As(err, &uncertain) && ctx.Err() == nil:
		return restored, errors.Join(fmt.Errorf("its last step failed, and may have replaced what the cluster had: %w", err), d.heal(ctx, running))
	case uncertain != nil:
		return restored, fmt.Errorf("it was interrupted in its last step; apply again: %w", err)
	case err != nil:
		return restored, fmt.Errorf("nothing of the cluster was changed: %w", err)
	}
	a := Action{Restore: job.Stored.ID}
	d.Report(a)
	d.event(ctx, a)
	err = d.recordRestore(ctx, restored.Restored)
	if err == nil {
		err = d.heal(ctx, running)
	}
	if err != nil {
		return restored, fmt.Errorf("the snapshot was restored, but %w", err)
	}
	return restored, nil
}

// recordRestore notes on the StatefulSet what was restored: the backups that follow say so in their repositories.
func (d Deployment) recordRestore(ctx context.Context, r restic.Restored) error {
	_, err := d.Kube.AppsV1().StatefulSets(d.Consul.Namespace).Patch(ctx, server.StatefulSetName(d.Consul.Name), types.MergePatchType,
		server.RestoredPatch(r.Stored.ID, r.Time), metav1.PatchOptions{FieldManager: server.RestoredManager})
	if err != nil {
		return fmt.Errorf("recording the restore of %.8s on the StatefulSet of %s: %w", r.Stored.ID, d.Consul.ID(), err)
	}
	return nil
}

// startRestore begins a restore, if the servers are fit for one.
func (d Deployment) startRestore(ctx context.Context, client restic.Client, r restic.Restore, running server.Spec) (*restic.Restoring, error) {
	leads, token, err := d.healthy(ctx, running)
	if err != nil {
		return nil, err
	}
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return nil, err
	}
	for i := range pods {
		if v := pods[i].Labels[server.LabelVersion]; v != running.Version || leads != running.Version {
			return nil, fmt.Errorf("server %s runs Consul %s, and %s is declared: complete the upgrade before", pods[i].Name, v, running.Version)
		}
	}
	all, err := client.List(ctx)
	if err != nil {
		return nil, err
	}
	snapshot, err := restic.Choose(all, r.Snapshot, r.Cluster, running.Version)
	if err != nil {
		return nil, err
	}
	return client.StartRestore(ctx, r, snapshot, token)
}

// finishFormer deals with what another restore has left.
func (d Deployment) finishFormer(ctx context.Context, client restic.Client, running server.Spec, job restic.Restoring) error {
	if !job.Ended {
		return restic.ErrRestoring
	}
	if job.Changed {
		if err := d.heal(ctx, running); err != nil {
			return fmt.Errorf("finishing a former restore of snapshot %.8s: %w", job.Stored.ID, err)
		}
	}
	return client.FinishRestore(ctx)
}

// heal makes the tokens of a cluster whole again after a restore, its catalog, and autopilot's configuration, which is
// that of the servers that the snapshot was taken of.
func (d Deployment) heal(ctx context.Context, running server.Spec) error {
	if err := d.Consul.Heal(ctx, running.ACL.Enabled); err != nil {
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
		if token, _, err = d.Consul.ManagementToken(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthyTimeout)
	defer cancel()
	return kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		if err := d.Consul.SetAutopilot(ctx, token, running.Autopilot, int(running.Replicas)); err != nil {
			return err.Error(), nil
		}
		return "", nil
	})
}

// healthy waits until all servers are healthy voters, and returns the version that the leader runs, and where the
// management token is.
func (d Deployment) healthy(ctx context.Context, running server.Spec) (version string, ref consul.SecretRef, err error) {
	leads, ref, err := d.snapshotSource(ctx, running)
	if err != nil {
		return "", ref, err
	}
	token := ""
	if running.ACL.Enabled {
		if token, _, err = d.Consul.ManagementToken(ctx); err != nil {
			return "", ref, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthyTimeout)
	defer cancel()
	return leads.Version, ref, kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		return d.Consul.Missing(ctx, token, int(running.Replicas), 0)
	})
}
