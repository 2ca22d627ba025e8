package lifecycle

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/retry"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Times of the Lease. The answer to a renewal may take up to renewDeadline, and after a pause of
// retryPeriod the next renewal may fail for the same time before the work is canceled. The Lease
// lasts longer than all of that, and leaves time for the work to end. If its holder was killed, the
// Lease is free after leaseDuration.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 5 * time.Second
	retryPeriod   = time.Second
)

// exclusively calls do while no other apply changes the cluster, such as one from another
// workspace, or one after the lock of the state was broken. It holds a Lease of Kubernetes
// meanwhile, and waits for a Lease that another apply holds. If the Lease is lost, for example
// while the API server is away, do is stopped, and called again as soon as the Lease is back: it
// resumes from what it finds.
func (d lease) exclusively(ctx context.Context, do func(context.Context) error) error {
	for {
		lost, err := d.withLease(ctx, do)
		if !lost || ctx.Err() != nil {
			return err
		}
	}
}

// delete deletes the Lease, which nobody may hold.
func (d lease) delete(ctx context.Context) error {
	leases := d.Kube.CoordinationV1().Leases(d.Consul.Namespace)
	if _, err := kube.Found(leases.Delete(ctx, server.LeaseName(d.Consul.Name), metav1.DeleteOptions{})); err != nil {
		return fmt.Errorf("deleting the Lease of %s: %w", d.Consul.ID(), err)
	}
	return nil
}

// withLease calls do once, and reports whether the Lease was lost before it returned.
func (d lease) withLease(ctx context.Context, do func(context.Context) error) (lost bool, err error) {
	host, _ := os.Hostname()
	labels, err := d.Consul.Labels(ctx, server.OwnerLabels(d.Consul.Name))
	if err != nil { // the Lease itself says why
		labels = server.OwnerLabels(d.Consul.Name)
	}
	lock := promptLock{&resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: d.Consul.Namespace, Name: server.LeaseName(d.Consul.Name)},
		Client:     d.Kube.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "/" + uuid.NewString()},
		Labels:     labels,
	}}
	// The Lease is held until do has returned, even if that takes longer than ctx. The elector
	// would release a Lease that it cannot renew before it cancels the work.
	elect, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	type result struct {
		lost bool
		err  error
	}
	held, done := make(chan struct{}), make(chan result, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				close(held)
				work, cancel := context.WithCancel(ctx)
				defer cancel()
				defer context.AfterFunc(leading, cancel)()
				err := do(work)
				done <- result{leading.Err() != nil, err}
				stop()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return false, fmt.Errorf("preparing the Lease of %s: %w", d.Consul.ID(), err)
	}
	// The elector itself would only log this, forever.
	_, _, err = lock.Get(ctx)
	if apierrors.IsNotFound(err) {
		// A Lease that nobody holds. The API does not accept a duration of zero.
		if err = lock.Create(ctx, resourcelock.LeaderElectionRecord{LeaseDurationSeconds: 1}); apierrors.IsAlreadyExists(err) {
			err = nil
		}
	}
	if kube.Permanent(err) {
		return false, fmt.Errorf("preparing the Lease of %s: %w", d.Consul.ID(), err)
	}
	defer context.AfterFunc(ctx, func() {
		select {
		case <-held: // do ends by itself
		default:
			stop()
		}
	})()
	elector.Run(elect)
	select {
	case <-held:
		r := <-done
		release(ctx, lock)
		return r.lost && r.err != nil, r.err
	default:
		return false, fmt.Errorf(
			"another apply is changing %s: %s holds the Lease %s: %w",
			d.Consul.ID(),
			elector.GetLeader(),
			lock.Describe(),
			context.Cause(ctx),
		)
	}
}

// promptLock is a Lease whose requests are answered soon or count as failed: the time of a Lease
// runs from when the API server wrote it, not from its answer.
type promptLock struct{ *resourcelock.LeaseLock }

// Create implements resourcelock.Interface.
func (l promptLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline)
	defer cancel()
	return l.LeaseLock.Create(ctx, r)
}

// Update implements resourcelock.Interface.
func (l promptLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline)
	defer cancel()
	return l.LeaseLock.Update(ctx, r)
}

// release frees the Lease for the next apply at once. If it fails, the Lease expires by itself.
func release(ctx context.Context, lock resourcelock.Interface) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewDeadline)
	defer cancel()
	// A renewal that was canceled may still arrive.
	_ = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		held, _, err := lock.Get(ctx)
		if err != nil || held.HolderIdentity != lock.Identity() {
			return err
		}
		now := metav1.Now()
		return lock.Update(ctx, resourcelock.LeaderElectionRecord{
			LeaderTransitions: held.LeaderTransitions, LeaseDurationSeconds: 1, RenewTime: now, AcquireTime: now,
		})
	})
}
