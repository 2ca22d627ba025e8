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
		if restored, err = (restores{d}).restore(ctx, client, r, running); err != nil {
			return err
		}
		if err := restic.Refresh(ctx, d.Kube, d.Consul); err != nil { // their next backups record the restore
			return fmt.Errorf("the snapshot was restored, but the backup schedules do not record the restore yet: %w", err)
		}
		_, token, err := restores{d}.healthy(ctx, running)
		if err == nil {
			restored.After, err = client.Inspect(ctx, token)
		}
		if err != nil {
			return fmt.Errorf("the snapshot was restored, but the data of the servers could not be inspected: %w", err)
		}
		restores{d}.finishRestore(ctx, client)
		return nil
	})
	return restored, err
}

// finishRestore removes what a complete restore has left behind.
func (d restores) finishRestore(ctx context.Context, client restic.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	_ = client.FinishRestore(ctx) // if it stays, Kubernetes removes it in a day
}

// restore carries out or resumes a restore, and repairs what it breaks. The caller finishes it.
func (d restores) restore(
	ctx context.Context,
	client restic.Client,
	r restic.Restore,
	running server.Spec,
) (restored Restored, err error) {
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
		return restored, errors.Join(
			fmt.Errorf("the last step of the restore failed, and may have replaced the data of the cluster: %w", err),
			d.heal(ctx, running),
		)
	case uncertain != nil:
		return restored, fmt.Errorf("the restore was interrupted in its last step; apply again: %w", err)
	case err != nil:
		return restored, fmt.Errorf("nothing in the cluster was changed: %w", err)
	}
	d.report(ctx, rollout.Action{Verb: rollout.Restore, On: job.Stored.ID})
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
func (d restores) recordRestore(ctx context.Context, r restic.Restored) error {
	_, err := d.Kube.AppsV1().StatefulSets(d.Consul.Namespace).Patch(ctx, server.StatefulSetName(d.Consul.Name), types.MergePatchType,
		server.RestoredPatch(r.Stored.ID, r.Time), metav1.PatchOptions{FieldManager: server.RestoredManager})
	if err != nil {
		return fmt.Errorf("recording the restore of %.8s on the StatefulSet of %s: %w", r.Stored.ID, d.Consul.ID(), err)
	}
	return nil
}

// startRestore begins a restore, if the state of the servers allows it.
func (d restores) startRestore(
	ctx context.Context,
	client restic.Client,
	r restic.Restore,
	running server.Spec,
) (*restic.Restoring, error) {
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
			return nil, fmt.Errorf("server %s runs Consul %s, and %s is declared: complete the upgrade first", pods[i].Name, v, running.Version)
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

// finishFormer completes what an earlier restore has left.
func (d restores) finishFormer(ctx context.Context, client restic.Client, running server.Spec, job restic.Restoring) error {
	if !job.Ended {
		return restic.ErrRestoring
	}
	if job.Changed {
		if err := d.heal(ctx, running); err != nil {
			return fmt.Errorf("finishing an earlier restore of snapshot %.8s: %w", job.Stored.ID, err)
		}
	}
	return client.FinishRestore(ctx)
}

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
