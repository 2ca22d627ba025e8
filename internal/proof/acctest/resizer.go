package acctest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// DefaultClass is the default storage class of the Kubernetes cluster.
func DefaultClass(t testing.TB) *storagev1.StorageClass {
	t.Helper()
	classes, err := Kube(t).StorageV1().StorageClasses().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(classes.Items, func(c storagev1.StorageClass) bool {
		return c.Annotations["storageclass.kubernetes.io/is-default-class"] == "true"
	})
	if i < 0 {
		t.Fatal("there is no default storage class")
	}
	return &classes.Items[i]
}

// ExpandableClass creates a storage class like the default one, except for its name, and that it allows volume
// expansion. It is deleted when the test ends.
func ExpandableClass(t testing.TB) string {
	t.Helper()
	k, like := Kube(t), DefaultClass(t)
	class := &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "expandable-" + rand.String(5)},
		Provisioner: like.Provisioner, Parameters: like.Parameters, ReclaimPolicy: like.ReclaimPolicy, VolumeBindingMode: like.VolumeBindingMode,
		AllowVolumeExpansion: new(true),
	}
	if _, err := k.StorageV1().StorageClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := k.StorageV1().StorageClasses().Delete(ctx, class.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return class.Name
}

// StartResizer stands in for the resizer of a storage driver for the claims of a namespace, until the test ends: the
// volumes of the local cluster are folders, whose driver has no resizer. The API server, which refuses to grow a
// claim whose class does not allow it, the StatefulSet controller, the garbage collector, and the pods are real. The
// resizer writes what the driver would write: the capacity of the PersistentVolume, and then that of the claim.
// Claims of the pods in remount get the condition FileSystemResizePending instead, as if they had it since the start
// of the pod, until the pod was replaced.
func StartResizer(t *testing.T, namespace string, remount ...string) {
	t.Helper()
	r := resizer{k: Kube(t), namespace: namespace, remount: remount, pods: map[string]types.UID{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := r.step(ctx); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				t.Errorf("the resizer: %v", err)
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

type resizer struct {
	k         *kube.Client
	namespace string
	remount   []string
	pods      map[string]types.UID // that still have the former file system mounted
}

// step looks at each claim once.
func (r resizer) step(ctx context.Context) error {
	claims, err := r.k.CoreV1().PersistentVolumeClaims(r.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range claims.Items {
		c := &claims.Items[i]
		asked, has := c.Spec.Resources.Requests[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
		if c.Status.Phase != corev1.ClaimBound || c.DeletionTimestamp != nil || has.Cmp(asked) >= 0 {
			continue
		}
		if err := r.resize(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (r resizer) resize(ctx context.Context, c *corev1.PersistentVolumeClaim) error {
	asked := c.Spec.Resources.Requests[corev1.ResourceStorage]
	patch := fmt.Appendf(nil, `{"spec":{"capacity":{"storage":%q}}}`, asked.String())
	if _, err := r.k.CoreV1().PersistentVolumes().Patch(
		ctx, c.Spec.VolumeName, types.MergePatchType, patch, metav1.PatchOptions{},
	); err != nil {
		return err
	}
	if name := strings.TrimPrefix(c.Name, "data-"); slices.Contains(r.remount, name) {
		pod, err := r.k.CoreV1().Pods(r.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		before, waits := r.pods[name]
		if !waits {
			c.Status.Conditions = append(c.Status.Conditions, corev1.PersistentVolumeClaimCondition{
				Type: corev1.PersistentVolumeClaimFileSystemResizePending, Status: corev1.ConditionTrue,
				LastTransitionTime: metav1.NewTime(pod.CreationTimestamp.Add(time.Second)),
				Message:            "Waiting for user to (re-)start a pod to finish file system resize of volume on node.",
			})
			_, err := r.k.CoreV1().PersistentVolumeClaims(r.namespace).UpdateStatus(ctx, c, metav1.UpdateOptions{})
			if err == nil { // after a conflict, the claim is read again
				r.pods[name] = pod.UID
			}
			return err
		}
		if pod.UID == before || pod.Spec.NodeName == "" {
			return nil
		}
	}
	c.Status.Conditions = slices.DeleteFunc(c.Status.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool {
		return c.Type == corev1.PersistentVolumeClaimFileSystemResizePending
	})
	c.Status.Capacity[corev1.ResourceStorage] = asked
	_, err := r.k.CoreV1().PersistentVolumeClaims(r.namespace).UpdateStatus(ctx, c, metav1.UpdateOptions{})
	return err
}
