package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Origin is where a cluster that begins with a snapshot gets that from. The Planned servers of the client are
// those of the cluster.
type Origin struct {
	Client  restic.Client
	Restore restic.Restore
}

// VolumesExistError says that volumes of a former cluster are there, with their data.
type VolumesExistError struct{ Claims []string }

// Error implements error.
func (e *VolumesExistError) Error() string {
	return "volumes of a former cluster are there, which a new one takes up with their data: " + strings.Join(e.Claims, ", ")
}

// OriginError says why a cluster cannot begin with its snapshot. Nothing was made.
type OriginError struct{ Err error }

// Error implements error.
func (e *OriginError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *OriginError) Unwrap() error { return e.Err }

// ReadOrigin reads what a cluster has begun with, nil if it began empty.
func (d Deployment) ReadOrigin(ctx context.Context) (*server.Origin, error) {
	sts, err := d.Kube.AppsV1().StatefulSets(d.Consul.Namespace).Get(ctx, server.StatefulSetName(d.Consul.Name), metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the StatefulSet of %s: %w", d.Consul.ID(), err)
	}
	return server.ParseOrigin(sts.Annotations), nil
}

// FindOrigin looks for the snapshot that a cluster which does not exist is to begin with. It changes nothing. It
// returns a *kube.JobError, restic.ErrNoSecret, a *VolumesExistError and others.
func (d Deployment) FindOrigin(ctx context.Context, o Origin) (restic.Stored, error) {
	claims, err := d.claimsOf(ctx, server.ClaimPrefix(d.Consul.Name))
	if err != nil {
		return restic.Stored{}, err
	}
	if len(claims) > 0 {
		return restic.Stored{}, &VolumesExistError{claims}
	}
	if o.Client.Planned.ACL.Enabled {
		if err := d.checkReset(ctx); err != nil {
			return restic.Stored{}, err
		}
	}
	all, err := o.Client.List(ctx)
	if err != nil {
		return restic.Stored{}, err
	}
	return restic.Choose(all, o.Restore.Snapshot, o.Restore.Cluster, o.Client.Planned.Version)
}

// checkReset refuses a restore whose consequences could not be mended: the management token of a new cluster is
// none of those in the snapshot, unless somebody has brought that.
func (d Deployment) checkReset(ctx context.Context) error {
	token, _, err := d.Consul.ManagementToken(ctx)
	if err != nil || token != "" {
		return err
	}
	may, err := d.Kube.MayExec(ctx, d.Consul.Namespace)
	if err == nil && !may {
		err = fmt.Errorf("a restore replaces the management token, and to make it valid again takes the right to create pods/exec in the namespace %s, which this credential does not have", d.Consul.Namespace)
	}
	return err
}

// restoreOrigin restores the snapshot that a cluster begins with, and reports whether it did: it is done once. The caller leads
// clients to it. With ACLs the management token is made before, provisionally, unless it is there. It goes on from
// wherever an earlier call has ended. A restore that fails is an *UnsettledError.
func (d Deployment) restoreOrigin(ctx context.Context) (restored bool, err error) {
	running, err := restic.Servers(ctx, d.Kube, d.Consul)
	if !errors.Is(err, consul.ErrNotRestored) {
		return false, err
	}
	if d.Origin != nil {
		err = d.beginWith(ctx, running)
	}
	if err == nil {
		return true, nil
	}
	u := &UnsettledError{Err: fmt.Errorf("the backup that the cluster begins with is not restored: %w", err)}
	var failed *kube.JobError
	if errors.As(err, &failed) {
		u.Explanation = failed.Explanation
	}
	return false, u
}

// beginWith restores the snapshot into servers that run.
func (d Deployment) beginWith(ctx context.Context, running server.Spec) error {
	former, err := d.Origin.Client.Restoring(ctx, d.Origin.Restore)
	if err != nil {
		return err
	}
	// Where an earlier call has come so far that the token may be gone, the restore makes it whole.
	if running.ACL.Enabled && (former == nil || (!former.Same && !former.Changed)) {
		_, ref, err := d.Consul.ManagementToken(ctx)
		if err != nil {
			return err
		}
		if ref.Name == "" {
			ref = consul.DefaultSecretRef(d.Consul.Name)
		}
		// Nobody else has a token yet: whatever an earlier call has left may be replaced.
		if _, err := d.Consul.EnsureBootstrap(ctx, ref, consul.BootstrapOptions{Provisional: true, Reset: true, Keep: true}); err != nil {
			return fmt.Errorf("bootstrapping ACLs for the restore: %w", err)
		}
	}
	restored, err := d.restore(ctx, d.Origin.Client, d.Origin.Restore, running)
	if err != nil {
		return err
	}
	done := server.Origin{Snapshot: restored.Stored.ID, Version: restored.Stored.Version, Taken: restored.Stored.Time.UTC(), Restored: restored.Time}
	// That is written down before a client can write: from then on it is never restored again. A Service that still leads nowhere
	// is drift, which the next apply mends.
	if err := patchStatefulSet(ctx, d.Kube, d.Consul, server.OriginPatch(done)); err != nil {
		return fmt.Errorf("the snapshot was restored, but that could not be written down: %w", err)
	}
	d.finishRestore(ctx, d.Origin.Client)
	return nil
}

// leadClients lets the client Service lead to a cluster that was restored. Its error is an *UnsettledError.
func (d Deployment) leadClients(ctx context.Context) error {
	live, err := ReadObjects(ctx, d.Kube, d.Consul.Namespace, d.Consul.Name)
	var running server.Spec
	if err == nil {
		running, err = server.Parse(live, server.Spec{})
	}
	if err == nil {
		_, err = applyObjects(ctx, d.Kube, server.Set{ClientService: server.Objects(running).ClientService}, live)
	}
	if err != nil {
		return &UnsettledError{Err: fmt.Errorf("the backup that the cluster begins with is restored, but the client Service does not lead to it yet: %w", err)}
	}
	return nil
}

// giveUpOrigin ends a restore that an earlier call has begun: nobody wants it any more. What it may have changed is
// made whole.
func (d Deployment) giveUpOrigin(ctx context.Context) error {
	running, err := restic.Servers(ctx, d.Kube, d.Consul)
	if !errors.Is(err, consul.ErrNotRestored) {
		return nil // the update itself says what is wrong
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
