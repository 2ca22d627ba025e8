package rollout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Times of the lease. One whose holder was killed is free after leaseDuration.
const (
	leaseDuration = 10 * time.Second
	renewDeadline = 7 * time.Second
	retryPeriod   = time.Second
)

// exclusively does something while nobody else changes the cluster: one that
// applies from another workspace, or after its lock was broken. It holds a Lease of
// Kubernetes meanwhile, and waits for one that somebody else holds.
func (d Deployment) exclusively(ctx context.Context, do func(context.Context) error) error {
	host, _ := os.Hostname()
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: d.Consul.Namespace, Name: server.LeaseName(d.Consul.Name)},
		Client:     d.Kube.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "/" + uuid.NewString()},
		Labels:     server.OwnerLabels(d.Consul.Name),
	}
	// The Lease is held until do has returned, also where that takes longer than ctx.
	elect, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	held, done := make(chan struct{}), make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				close(held)
				work, cancel := context.WithCancel(ctx)
				defer cancel()
				defer context.AfterFunc(leading, cancel)()
				done <- do(work)
				stop()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("preparing the Lease of %s: %w", d.Consul.ID(), err)
	}
	// What the elector itself would only log for ever.
	if _, _, err := lock.Get(ctx); permanent(err) {
		if found, err := kube.Found(err); err != nil || found {
			return fmt.Errorf("reading the Lease of %s: %w", d.Consul.ID(), err)
		}
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
	default:
		return fmt.Errorf("%s is being changed by somebody else, %s, who holds the Lease %s: %w", d.Consul.ID(), elector.GetLeader(), lock.Describe(), context.Cause(ctx))
	}
	err = <-done
	if err != nil && errors.Is(err, context.Canceled) && ctx.Err() == nil {
		err = fmt.Errorf("the Lease %s was lost: %w", lock.Describe(), err)
	}
	return err
}
