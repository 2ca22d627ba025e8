package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Origin is where a cluster that starts from a snapshot gets the snapshot. The Planned servers of the client
// are those of the cluster.
type Origin struct {
	Client  restic.Client
	Restore restic.Restore
}

// VolumesExistError says that volumes of an earlier cluster exist, with their data.
type VolumesExistError struct{ Claims []string }

// Error implements error.
func (e *VolumesExistError) Error() string {
	return "volumes of an earlier cluster exist, and a new cluster would start with their data: " + strings.Join(e.Claims, ", ")
}

// OriginError says why a cluster cannot start from its snapshot. Nothing was created.
type OriginError struct{ Err error }

// Error implements error.
func (e *OriginError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *OriginError) Unwrap() error { return e.Err }

// ReadOrigin reads what a cluster started from, nil if it started empty.
func (d Deployment) ReadOrigin(ctx context.Context) (*server.Origin, error) {
	sts, err := d.Consul.RequireStatefulSet(ctx)
	if err != nil {
		return nil, err
	}
	return server.ParseOrigin(sts.Annotations), nil
}

// FindOrigin looks for the snapshot from which a cluster that does not exist yet is to start. It changes
// nothing. It returns a *kube.JobError, restic.ErrNoSecret, a *VolumesExistError, and other errors.
func (d Deployment) FindOrigin(ctx context.Context, o Origin) (restic.Stored, error) {
	claims, err := volumes{d}.claimsOf(ctx, server.ClaimPrefix(d.Consul.Name))
	if err != nil {
		return restic.Stored{}, err
	}
	if len(claims) > 0 {
		return restic.Stored{}, &VolumesExistError{claims}
	}
	if o.Client.Planned.ACL.Enabled {
		if err := (restores{d}).checkReset(ctx); err != nil {
			return restic.Stored{}, err
		}
	}
	all, err := o.Client.List(ctx)
	if err != nil {
		return restic.Stored{}, err
	}
	return restic.Choose(all, o.Restore.Snapshot, o.Restore.Cluster, o.Client.Planned.Version)
}

// checkReset refuses a restore whose consequences could not be fixed: the management token of a new cluster is
// not in the snapshot, unless the user provided that token.
func (d restores) checkReset(ctx context.Context) error {
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil || token != "" {
		return err
	}
	may, err := d.Kube.MayExec(ctx, d.Consul.Namespace)
	if err == nil && !may {
		err = fmt.Errorf(
			"a restore replaces the management token, and making it valid again requires the right to create pods/exec in the namespace %s, "+
				"which this credential does not have",
			d.Consul.Namespace,
		)
	}
	return err
}

// restoreOrigin restores the snapshot that a cluster starts from. This is done once. With ACLs, a provisional management token is made
// before, unless there is one. restoreOrigin resumes from wherever an earlier call ended. A restore that fails is an *UnsettledError.
func (d restores) restoreOrigin(ctx context.Context) error {
	running, err := restic.Servers(ctx, d.Kube, d.Consul)
	if !errors.Is(err, consulacl.ErrNotRestored) {
		return err
	}
	_, err = restore(ctx, portsOf(d.Deployment), restoreJobs{d, d.Origin.Client, d.Origin.Restore}, running)
	if err == nil {
		return nil
	}
	u := &UnsettledError{Err: fmt.Errorf("the backup that the cluster starts from is not restored: %w", err)}
	var failed *kube.JobError
	if errors.As(err, &failed) {
		u.Explanation = failed.Explanation
	}
	return u
}

// bootstrap makes a provisional management token. No other token exists yet: whatever an earlier call left may be replaced.
func (d restoreJobs) bootstrap(ctx context.Context) error {
	_, ref, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return err
	}
	if ref.Name == "" {
		ref = consulacl.DefaultSecretRef(d.Consul.Name)
	}
	if _, err := consulacl.EnsureBootstrap(
		ctx, d.Consul, ref, consulacl.BootstrapOptions{Provisional: true, Reset: true, Keep: true},
	); err != nil {
		return fmt.Errorf("bootstrapping ACLs for the restore: %w", err)
	}
	return nil
}

// recordOrigin records what the cluster has started from. A Service that still selects no server is drift, which the next apply fixes.
func (d restoreJobs) recordOrigin(ctx context.Context, r restic.Restored) error {
	done := server.Origin{Snapshot: r.Stored.ID, Version: r.Stored.Version, Taken: r.Stored.Time.UTC(), Restored: r.Time}
	if err := patchStatefulSet(ctx, d.Kube, d.Consul, server.OriginPatch(done)); err != nil {
		return fmt.Errorf("the restore could not be recorded: %w", err)
	}
	return nil
}

// prepareOrigin looks for the snapshot that a new cluster is to start from. If a cluster of the name was deleted by hand, the snapshot
// may have been restored into that one: what that restore left behind is removed.
func (d restores) prepareOrigin(ctx context.Context) error {
	_, err := d.FindOrigin(ctx, *d.Origin)
	if err == nil {
		err = d.Origin.Client.FinishRestore(ctx)
	}
	if err != nil {
		return &OriginError{err}
	}
	return nil
}

func (d restores) awaitRestore(ctx context.Context) error {
	return restic.Client{Kube: d.Kube, Consul: d.Consul}.AwaitOthers(ctx)
}

func (d restores) refreshSchedules(ctx context.Context) error {
	return restic.Refresh(ctx, d.Kube, d.Consul)
}

// restoreSnapshot restores the snapshot that the cluster starts from, while no other apply changes the cluster.
func (op *operation) restoreSnapshot(ctx context.Context) error {
	if !op.wanted.Create { // an update has the Lease
		return op.snapshots.restoreOrigin(ctx)
	}
	err := op.lease.exclusively(ctx, op.snapshots.restoreOrigin)
	if err != nil && !errors.As(err, new(*UnsettledError)) { // the cluster exists, whatever the error is
		return &UnsettledError{Err: err}
	}
	return err
}

// routeClients makes the client Service route to a cluster that was restored. Its error is an
// *UnsettledError.
func (d restores) routeClients(ctx context.Context) error {
	live, err := ReadObjects(ctx, d.Kube, d.Consul.Namespace, d.Consul.Name)
	var running server.Spec
	if err == nil {
		running, err = server.Parse(live, server.Spec{})
	}
	if err == nil {
		_, err = applyObjects(ctx, d.Kube, server.Set{ClientService: server.Objects(running).ClientService}, live)
	}
	if err != nil {
		return &UnsettledError{
			Err: fmt.Errorf(
				"the backup that the cluster starts from is restored, but the client Service does not route clients to the cluster yet: %w",
				err,
			),
		}
	}
	return nil
}

// cancelRestore ends a restore that an earlier call began, because it is no longer declared. It repairs what the
// restore may have changed.
func (d restores) cancelRestore(ctx context.Context) error {
	running, err := restic.Servers(ctx, d.Kube, d.Consul)
	if !errors.Is(err, consulacl.ErrNotRestored) {
		return nil // the update itself reports what is wrong
	}
	client := restic.Client{Kube: d.Kube, Consul: d.Consul}
	job, err := client.Restoring(ctx, restic.Restore{})
	if err != nil || job == nil {
		return err
	}
	if job.Changed && !job.Ended {
		if err := client.AwaitOthers(ctx); err != nil {
			return err
		}
	}
	if err := client.FinishRestore(ctx); err != nil {
		return err
	}
	return d.heal(ctx, running) // its last step may have begun meanwhile
}
