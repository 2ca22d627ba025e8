package lifecycle

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

var forbidden = apierrors.NewForbidden(schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}, "consul-server-rollout", nil)

// leases is a Deployment of which only the Lease exists. before is called for every request for the Lease, which
// fails with its error.
func leases(before func(verb string) error) Deployment {
	set := fake.NewClientset()
	set.PrependReactor("*", "leases", func(a k8stesting.Action) (bool, runtime.Object, error) {
		err := before(a.GetVerb())
		return err != nil, nil, err
	})
	k := &kube.Client{Interface: set}
	return Deployment{Kube: k, Consul: consul.NewConnector(k).Cluster("prod", "consul")}
}

// onUpdate calls do for each update of the Lease, which fails with its error.
func onUpdate(d Deployment, do func(*coordinationv1.Lease) error) {
	set := d.Kube.Interface.(*fake.Clientset) //nolint:forcetypeassert // as leases made it
	set.PrependReactor("update", "leases", func(a k8stesting.Action) (bool, runtime.Object, error) {
		err := do(a.(k8stesting.UpdateAction).GetObject().(*coordinationv1.Lease)) //nolint:forcetypeassert // an update of a Lease
		return err != nil, nil, err
	})
}

// Two calls never work at once, even if the first one takes longer than its context.
func TestExclusively_theSecondWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	var looks atomic.Int32
	d := leases(func(verb string) error {
		if verb == "get" {
			looks.Add(1)
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	working := make(chan struct{})
	var ended atomic.Bool
	first := make(chan error, 1)
	go func() {
		first <- lease{d}.exclusively(ctx, func(ctx context.Context) error {
			close(working)
			cancel() // its context ends, and it cleans up
			from := looks.Load()
			err := kube.Wait(t.Context(), "the second to look", 10*time.Millisecond, func(context.Context) (string, error) {
				if looks.Load() < from+4 {
					return "it has not", nil
				}
				return "", nil
			})
			ended.Store(true)
			return errors.Join(err, ctx.Err())
		})
	}()
	<-working
	err := lease{d}.exclusively(t.Context(), func(context.Context) error {
		if !ended.Load() {
			t.Error("both work at once")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first ended with %v", err)
	}
}

// While the API server is away, the work stops; it resumes when the API server is back.
func TestExclusively_resumesAfterTheLeaseWasLost(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	d := leases(func(string) error {
		if away.Load() {
			return errors.New("connection refused")
		}
		return nil
	})
	calls := 0
	err := lease{d}.exclusively(t.Context(), func(ctx context.Context) error {
		if calls++; calls > 1 {
			return nil
		}
		away.Store(true)
		<-ctx.Done()
		away.Store(false)
		return ctx.Err()
	})
	if err != nil || calls != 2 {
		t.Errorf("worked %d times, %v", calls, err)
	}
}

// A credential that may not hold the Lease fails at once, and nothing is done.
func TestExclusively_failsAtOnceWithoutTheRight(t *testing.T) {
	t.Parallel()
	d := leases(func(string) error { return forbidden })
	err := lease{d}.exclusively(t.Context(), func(context.Context) error {
		t.Error("it works without the Lease")
		return nil
	})
	if !errors.Is(err, forbidden) {
		t.Errorf("got %v", err)
	}
}

// There is never a moment with two holders: the work ends before the Lease is released, whatever prevents its
// renewal.
func TestExclusively_theWorkEndsBeforeTheLeaseIsReleased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away, ended atomic.Bool
		d := leases(func(string) error { return nil })
		onUpdate(d, func(lease *coordinationv1.Lease) error {
			switch held := *lease.Spec.HolderIdentity; {
			case held != "" && away.Load():
				return errors.New("the connection broke")
			case held == "" && !ended.Load():
				t.Error("the Lease is released while the work continues")
			}
			return nil
		})
		calls := 0
		err := lease{d}.exclusively(t.Context(), func(ctx context.Context) error {
			if calls++; calls > 1 {
				return nil
			}
			away.Store(true)
			<-ctx.Done()
			<-time.After(time.Second) // it cleans up
			ended.Store(true)
			away.Store(false)
			return ctx.Err()
		})
		if err != nil || calls != 2 {
			t.Errorf("worked %d times, %v", calls, err)
		}
	})
}

// The work is canceled before the Lease expires, even if the last renewal was written at once and answered late.
func TestExclusively_theLeaseOutlivesTheLongestRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		var written time.Time
		var lasts time.Duration
		d := leases(func(string) error {
			if away.Load() {
				return errors.New("connection refused")
			}
			return nil
		})
		onUpdate(d, func(lease *coordinationv1.Lease) error {
			if *lease.Spec.HolderIdentity != "" && !away.Load() {
				written, lasts = time.Now(), time.Duration(*lease.Spec.LeaseDurationSeconds)*time.Second
				<-time.After(renewDeadline - time.Millisecond)
			}
			return nil
		})
		calls := 0
		err := lease{d}.exclusively(t.Context(), func(ctx context.Context) error {
			if calls++; calls > 1 {
				return nil
			}
			<-time.After(renewDeadline + retryPeriod/2) // the first renewal was answered
			away.Store(true)
			<-ctx.Done()
			if left := lasts - time.Since(written); left < time.Second {
				t.Errorf("the work is canceled when the Lease has %s left", left)
			}
			away.Store(false)
			return ctx.Err()
		})
		if err != nil || calls != 2 {
			t.Errorf("worked %d times, %v", calls, err)
		}
	})
}
