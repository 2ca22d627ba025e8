package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

const (
	// snapshotTimeout is how long a snapshot may take, including the pull of an image and the creation of a
	// volume.
	snapshotTimeout = 10 * time.Minute
	// askTimeout is how long to ask the servers which one is the leader, and whether they know the token:
	// longer than an election takes.
	askTimeout = 30 * time.Second
	// cleanUpTimeout bounds what is done after a failure.
	cleanUpTimeout = 30 * time.Second
)

// SnapshotError says that no snapshot could be taken before an upgrade, and that
// the servers run what they ran.
type SnapshotError struct {
	Err error
	// Explanation is what Kubernetes reports for the Job's pod and volume (kube.Client.Explain), "" if there
	// was no Job.
	Explanation string
}

// Error implements error.
func (e *SnapshotError) Error() string { return "no snapshot could be taken: " + e.Err.Error() }

// Unwrap returns why.
func (e *SnapshotError) Unwrap() error { return e.Err }

// takeSnapshot takes a snapshot of the servers, which run one spec, before they get the next one, keeps it
// where the next spec says, and records it on the StatefulSet. It returns a *SnapshotError. An interrupted call
// leaves at most a Job: the next call takes another snapshot, which includes later writes.
func (d snapshots) takeSnapshot(ctx context.Context, running, next server.Spec) (*server.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	running.Labels = next.Labels // a policy may require them
	running, secret, err := d.snapshotSource(ctx, running)
	if err != nil {
		return nil, &SnapshotError{Err: err}
	}
	var s server.Snapshot
	if to := next.Update.SnapshotTo; to != (server.SnapshotTo{}) {
		s, err = d.storeSnapshot(ctx, running, next.Version, to, secret)
	} else {
		s, err = d.keepSnapshot(ctx, running, secret)
	}
	if err != nil {
		return nil, err
	}
	d.report(ctx, rollout.Action{Verb: rollout.Snapshot})
	return &s, nil
}

// storeSnapshot takes a snapshot into a backup repository, and records it.
func (d snapshots) storeSnapshot(
	ctx context.Context,
	running server.Spec,
	version string,
	to server.SnapshotTo,
	secret consulacl.SecretRef,
) (server.Snapshot, error) {
	client := restic.Client{
		Kube: d.Kube, Consul: d.Consul, Repository: restic.FromSnapshotTo(to), Image: to.Image,
		Deadline: snapshotTimeout - time.Minute, // leaves time to report the Job's reason
	}
	stored, err := client.BeforeUpgrade(ctx, running, version, secret)
	s := server.Snapshot{
		Claim: to.Claim, URL: to.URL, ID: stored.Snapshot, Version: stored.Version,
		Index: uint64(stored.Index), //nolint:gosec // it is one
		Size:  stored.Size, Time: stored.Time,
	}
	if err == nil {
		err = d.recordSnapshot(ctx, s)
	}
	if err == nil {
		return s, nil
	}
	failed := &SnapshotError{Err: err}
	var job *kube.JobError
	if errors.As(err, &job) {
		failed.Explanation = job.Explanation
	}
	return server.Snapshot{}, failed
}

// keepSnapshot takes a snapshot onto the cluster's claim, and records it.
func (d snapshots) keepSnapshot(ctx context.Context, running server.Spec, secret consulacl.SecretRef) (server.Snapshot, error) {
	s, err := d.runSnapshotJob(ctx, running, secret)
	if err == nil {
		err = d.recordSnapshot(ctx, s)
	}
	if err != nil {
		return server.Snapshot{}, d.snapshotFailed(ctx, err)
	}
	// The Job is done. If this fails, Kubernetes removes the Job after a while.
	_ = d.Kube.BatchV1().Jobs(running.Namespace).Delete(ctx, server.SnapshotJobName(running.Name),
		metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)})
	return s, nil
}

// snapshotSource finds out what the leader runs, and makes sure that the management token, if one is required,
// is valid.
func (d snapshots) snapshotSource(ctx context.Context, running server.Spec) (server.Spec, consulacl.SecretRef, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var secret consulacl.SecretRef
	err := kube.Wait(ctx, "the servers", interval, func(ctx context.Context) (string, error) {
		var err error
		if running.ACL.Enabled {
			secret, err = d.snapshotToken(ctx)
		}
		if errors.Is(err, consulacl.ErrSecretLost) || kube.Permanent(err) {
			return "", err
		} else if err != nil {
			return err.Error(), nil
		}
		pods, err := d.Consul.Pods(ctx)
		if err != nil {
			return "", err
		}
		leader, err := consul.LeaderPod(ctx, d.Consul, pods)
		if err != nil {
			return err.Error(), nil
		}
		i := slices.IndexFunc(leader.Spec.Containers, func(c corev1.Container) bool { return c.Name == server.ContainerName })
		if v := leader.Labels[server.LabelVersion]; v != "" && i >= 0 {
			running.Version, running.Image = v, leader.Spec.Containers[i].Image
		}
		return "", nil
	})
	return running, secret, err
}

// snapshotToken finds the Secret with the management token, and makes sure that Consul knows the token. Servers
// that still run without ACLs accept any token.
func (d snapshots) snapshotToken(ctx context.Context) (consulacl.SecretRef, error) {
	token, ref, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return consulacl.SecretRef{}, err
	}
	_, err = consulacl.VerifyToken(ctx, d.Consul, token)
	switch {
	case errors.Is(err, consulacl.ErrACLDisabled):
		return ref, nil
	case errors.Is(err, consulacl.ErrSecretLost):
		return consulacl.SecretRef{}, fmt.Errorf(
			"ACLs are on, and %w; bootstrap them with consul_k8s_acl_bootstrap, or, if they were bootstrapped before, set its reset to a new value",
			err,
		)
	}
	return ref, err
}

// runSnapshotJob creates the claim, unless it exists, and runs the Job.
func (d snapshots) runSnapshotJob(ctx context.Context, running server.Spec, secret consulacl.SecretRef) (server.Snapshot, error) {
	if err := d.deleteSnapshotJob(ctx); err != nil { // of an apply that was interrupted
		return server.Snapshot{}, err
	}
	if err := d.ensureSnapshotClaim(ctx, running); err != nil {
		return server.Snapshot{}, err
	}
	job, err := d.Kube.StartJob(ctx, server.SnapshotJob(running, secret.Name, secret.Key))
	if apierrors.IsAlreadyExists(err) {
		return server.Snapshot{}, &ForeignError{Objects: []string{"Job " + running.Namespace + "/" + server.SnapshotJobName(running.Name)}}
	} else if err != nil {
		return server.Snapshot{}, err
	}
	done, err := d.Kube.AwaitJob(ctx, job)
	if err != nil {
		return server.Snapshot{}, err
	}
	s, err := server.ParseSnapshot(running.Name, kube.LastWords(done, server.SnapshotContainerName))
	if err != nil {
		return server.Snapshot{}, fmt.Errorf("the Job %s/%s ended, but %w", job.Namespace, job.Name, err)
	}
	return s, nil
}

func (d snapshots) ensureSnapshotClaim(ctx context.Context, running server.Spec) error {
	claim := server.SnapshotClaim(running)
	live, err := d.Kube.CoreV1().PersistentVolumeClaims(claim.Namespace).Get(ctx, claim.Name, metav1.GetOptions{})
	found, err := kube.Found(err)
	switch {
	case err != nil:
		return fmt.Errorf("reading the volume claim %s/%s: %w", claim.Namespace, claim.Name, err)
	case !found:
		fields, err := server.Fields(claim)
		if err != nil {
			return err
		}
		return d.Kube.Apply(ctx, fields)
	case !server.Owns(running.Name, live.Labels):
		return &ForeignError{Objects: []string{"PersistentVolumeClaim " + claim.Namespace + "/" + claim.Name}}
	}
	return d.growSnapshotClaim(ctx, live, running.Storage.Size)
}

// growSnapshotClaim grows the volume of the snapshots with those of the servers, if its storage class allows
// it: a snapshot of more data needs more space.
func (d snapshots) growSnapshotClaim(ctx context.Context, live *corev1.PersistentVolumeClaim, size resource.Quantity) error {
	if has := live.Spec.Resources.Requests[corev1.ResourceStorage]; has.Cmp(size) >= 0 {
		return nil
	}
	patch := fmt.Appendf(
		nil,
		`{"metadata":{"resourceVersion":%q},"spec":{"resources":{"requests":{"storage":%q}}}}`,
		live.ResourceVersion,
		size.String(),
	)
	_, err := d.Kube.CoreV1().PersistentVolumeClaims(
		live.Namespace,
	).Patch(
		ctx,
		live.Name,
		types.MergePatchType,
		patch,
		metav1.PatchOptions{FieldManager: server.ManagedBy},
	)
	if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) { // it cannot grow: its size stays as it is
		return fmt.Errorf("growing the volume claim %s/%s: %w", live.Namespace, live.Name, err)
	}
	return nil
}

// recordSnapshot records a snapshot on the StatefulSet before the Job is deleted: from then on, the snapshot is
// known. A copy on the ConfigMap, if there is one, outlasts the StatefulSet.
func (d snapshots) recordSnapshot(ctx context.Context, s server.Snapshot) error {
	err := patchStatefulSet(ctx, d.Kube, d.Consul, server.SnapshotPatch(s))
	if err == nil {
		_, err = d.Kube.CoreV1().ConfigMaps(d.Consul.Namespace).Patch(ctx, server.StatefulSetName(d.Consul.Name), types.MergePatchType,
			server.SnapshotPatch(s), metav1.PatchOptions{FieldManager: server.SnapshotManager})
		_, err = kube.Found(err)
	}
	if err != nil {
		return fmt.Errorf("recording the snapshot %s of %s: %w", cmp.Or(s.ID, s.File), d.Consul.ID(), err)
	}
	return nil
}

// snapshotFailed explains why, and removes what is of no use: the Job, and a claim that never got a volume. The
// context may have ended.
func (d snapshots) snapshotFailed(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	namespace, name := d.Consul.Namespace, d.Consul.Name
	failed := &SnapshotError{Err: err}
	if !errors.As(err, new(*ForeignError)) && !errors.Is(err, context.Canceled) {
		failed.Explanation = d.Kube.Explain(ctx, kube.Awaited{
			Namespace: namespace, Owner: server.SnapshotJobName(name), Selector: server.SnapshotLabels(name), Since: d.Began,
		})
	}
	if err := d.deleteSnapshotJob(ctx); err != nil {
		failed.Err = errors.Join(failed.Err, err)
	}
	claims := d.Kube.CoreV1().PersistentVolumeClaims(namespace)
	claim, err := claims.Get(ctx, server.SnapshotClaimName(name), metav1.GetOptions{})
	if err == nil && server.Owns(name, claim.Labels) && claim.Status.Phase == corev1.ClaimPending {
		err := claims.Delete(
			ctx,
			claim.Name,
			metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &claim.UID, ResourceVersion: &claim.ResourceVersion}},
		)
		if err != nil && !apierrors.IsNotFound(err) {
			failed.Err = errors.Join(failed.Err, fmt.Errorf("deleting the volume claim %s/%s: %w", namespace, claim.Name, err))
		}
	}
	return failed
}

// deleteSnapshotJob deletes the Job, if it exists and belongs to the cluster, and waits until its pod, which
// may use the volume, no longer exists.
func (d snapshots) deleteSnapshotJob(ctx context.Context) error {
	return d.Kube.RemoveJob(ctx, d.Consul.Namespace, server.SnapshotJobName(d.Consul.Name), func(o metav1.Object) bool {
		return server.Owns(d.Consul.Name, o.GetLabels())
	})
}

// UpgradeSnapshot reads which snapshot was taken before the latest upgrade, nil if
// none was.
func (d Deployment) UpgradeSnapshot(ctx context.Context) (*server.Snapshot, error) {
	sts, err := d.Consul.RequireStatefulSet(ctx)
	if err != nil {
		return nil, err
	}
	spec, err := server.Parse(server.Set{StatefulSet: sts}, server.Spec{})
	return spec.UpgradeSnapshot, err
}
