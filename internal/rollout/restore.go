package rollout

import (
	"context"
	"fmt"
	"time"

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
}

// Restore replaces all that the servers have by a snapshot, which the repository holds: when they are
// healthy voters, run the version that it was taken from, and what they have was stored too. Then
// it makes tokens and the catalog whole again, and looks what the servers have. What fails before
// the snapshot is restored has changed nothing, and what fails after it goes on with the next call
// for the same snapshot and trigger. It returns a *restic.FailedError and others.
func (d Deployment) Restore(ctx context.Context, client restic.Client, snapshot restic.Stored, trigger string) (restored Restored, err error) {
	r := restic.Restore{Snapshot: snapshot.ID, Index: snapshot.Index, Repository: client.Repository, Trigger: trigger}
	err = d.exclusively(ctx, func(ctx context.Context) error {
		running, err := restic.Servers(ctx, d.Kube, d.Consul)
		if err != nil {
			return err
		}
		if err := restic.CheckVersion(snapshot.Version, running.Version); err != nil {
			return fmt.Errorf("snapshot %s: %w", snapshot.ID, err)
		}
		var token consul.SecretRef
		underWay, err := client.Restoring(ctx, r)
		if err != nil {
			return err
		}
		if !underWay { // otherwise the token may be none any more
			if token, err = d.healthy(ctx, running); err != nil {
				return err
			}
		}
		if restored.Restored, err = client.Restore(ctx, r, token); err != nil {
			return err
		}
		a := Action{Restore: snapshot.ID}
		d.Report(a)
		d.event(ctx, a)
		if err := d.heal(ctx, running); err != nil {
			return fmt.Errorf("the snapshot was restored, but %w", err)
		}
		if token, err = d.healthy(ctx, running); err == nil {
			restored.After, err = client.Inspect(ctx, token)
		}
		if err != nil {
			return fmt.Errorf("the snapshot was restored, but what the servers have now is not known: %w", err)
		}
		return client.FinishRestore(ctx)
	})
	return restored, err
}

// heal makes the tokens of a cluster whole again after a restore, and its catalog.
func (d Deployment) heal(ctx context.Context, running server.Spec) error {
	if err := d.Consul.Recover(ctx, running.ACL.Enabled); err != nil {
		return err
	}
	if !running.ACL.Enabled {
		return nil
	}
	return restic.EnsureTokens(ctx, d.Kube, d.Consul)
}

// healthy waits until all servers are healthy voters, and returns where the management token is.
func (d Deployment) healthy(ctx context.Context, running server.Spec) (consul.SecretRef, error) {
	_, ref, err := d.snapshotSource(ctx, running)
	if err != nil {
		return ref, err
	}
	token := ""
	if running.ACL.Enabled {
		if token, _, err = d.Consul.ManagementToken(ctx); err != nil {
			return ref, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthyTimeout)
	defer cancel()
	return ref, kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		return d.Consul.Missing(ctx, token, int(running.Replicas), 0)
	})
}
