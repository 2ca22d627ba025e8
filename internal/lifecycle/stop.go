package lifecycle

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// stopUnelected stops all servers of a cluster that never had a leader, before a spec is applied to them. The servers read the
// number of servers to expect when they start. If some read the new number beside others that read the former one, each of the two
// could elect a leader. An interrupted change is resumed from zero servers. It returns the objects as they are then.
func (d stops) stopUnelected(ctx context.Context, spec server.Spec) (live server.Set, err error) {
	elected, _, err := observer(d).elected(ctx)
	if err != nil {
		return live, err
	}
	if elected {
		return live, fmt.Errorf("the servers of %s have just elected a leader: apply again. "+
			"If the apply that creates the cluster was interrupted, declare the number of servers and the encryption that it had", spec.ID())
	}
	d.report(ctx, rollout.Action{Verb: rollout.Scale, Why: "no leader was ever elected, and all servers restart"})
	if err := d.scaleDown(ctx, 0); err != nil {
		return live, fmt.Errorf("%w. Apply again to continue", err)
	}
	if live, err = ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name); err != nil || live.StatefulSet == nil {
		return live, err
	}
	if spec.Storage.WhenScaled == server.Delete {
		err = d.deleteNewClaims(ctx, int(spec.Replicas), live.StatefulSet.CreationTimestamp.Time)
	}
	return live, err
}

// deleteNewClaims deletes the claims of servers beyond a number, unless data is known on them, or they were made before a time: then they
// are those of an earlier cluster.
func (d stops) deleteNewClaims(ctx context.Context, replicas int, since time.Time) error {
	claims, err := d.Retained(ctx)
	if err != nil {
		return err
	}
	for _, c := range claims {
		if c.Ordinal < replicas || c.Version != "" || c.Created.Before(since) {
			continue
		}
		_, err := kube.Found(d.Kube.CoreV1().PersistentVolumeClaims(d.Consul.Namespace).Delete(ctx, c.Name, metav1.DeleteOptions{}))
		if err != nil {
			return fmt.Errorf("deleting volume claim %s/%s: %w", d.Consul.Namespace, c.Name, err)
		}
	}
	return nil
}

// stop stops all servers and waits until their pods are gone. Their volumes stay. If the volumes outlive the cluster, one server
// stops at a time, the highest ordinal first: if several leave at once, each may count on the others to stay Raft peers, and a new
// cluster cannot elect a leader from their volumes.
func (d stops) stop(ctx context.Context, spec server.Spec, live server.Set) error {
	left := 0
	if spec.Storage.WhenDeleted != server.Delete && !isTerminating(live.Namespace) && live.StatefulSet != nil {
		left = int(*live.StatefulSet.Spec.Replicas) // first wait for pods that an earlier scale-down has not stopped yet
	}
	for ; left >= 0; left-- {
		err := d.scaleDown(ctx, left)
		if apierrors.IsNotFound(err) { // somebody deleted it, and that stops all its pods
			left = 0
			err = d.awaitStopped(ctx, left)
		}
		if err != nil {
			return d.unsettled(ctx, err, spec)
		}
	}
	return nil
}

// scaleDown stops the servers beyond a number, and waits until their pods are gone. Their volumes stay.
func (d stops) scaleDown(ctx context.Context, left int) error {
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d,"persistentVolumeClaimRetentionPolicy":{"whenScaled":"Retain"}}}`, left)
	if err := patchStatefulSet(ctx, d.Kube, d.Consul, patch); err != nil {
		return fmt.Errorf("stopping servers of %s: %w", d.Consul.ID(), err)
	}
	return d.awaitStopped(ctx, left)
}

// awaitStopped waits until only the pods of the first servers are left.
func (d stops) awaitStopped(ctx context.Context, left int) error {
	return kube.Wait(ctx, "the servers to stop", interval, func(ctx context.Context) (string, error) {
		pods, err := d.Consul.Pods(ctx)
		if err != nil {
			return "", err
		}
		var stopping []string
		for i := range pods {
			if ordinal, ok := server.Ordinal(d.Consul.Name, pods[i].Name); ordinal >= left || !ok && left == 0 {
				stopping = append(stopping, pods[i].Name)
			}
		}
		if len(stopping) == 0 {
			return "", nil
		}
		return "not stopped: " + strings.Join(stopping, ", "), nil
	})
}
