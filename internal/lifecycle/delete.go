package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Delete deletes the cluster and waits until its pods no longer exist. Volumes, and the Secrets
// that are useless without them, follow the retention policy. kept names what is kept, for the
// user.
func (d Deployment) Delete(ctx context.Context, spec server.Spec) (kept []string, err error) {
	live, err := ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return nil, err
	}
	if live.StatefulSet == nil {
		if orphaned, err := (objects{d}).isOrphaned(ctx, live, spec.Name); err != nil || !orphaned {
			return nil, err
		}
	}
	exclusively := lease{d}.exclusively
	if live.Namespace != nil && live.Namespace.DeletionTimestamp != nil { // no Lease can be created in it
		exclusively = func(ctx context.Context, do func(context.Context) error) error { return do(ctx) }
	}
	err = exclusively(ctx, func(ctx context.Context) error {
		live, kept, err = deletion{d}.deleteServers(ctx, spec)
		return err
	})
	if err != nil || live.StatefulSet == nil {
		return nil, err
	}
	lease := d.Kube.CoordinationV1().Leases(spec.Namespace)
	if err := lease.Delete(ctx, server.LeaseName(spec.Name), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("deleting the Lease of %s: %w", spec.ID(), err)
	}
	// The StatefulSet is deleted last: while it exists, an interrupted delete is not forgotten, and
	// the next one resumes it.
	namespace, sts := live.Namespace, live.StatefulSet
	if namespace != nil && namespace.Annotations[server.AnnotationNamespaceOf] == spec.Name {
		left, err := d.Kube.NamespaceContents(ctx, spec.Namespace)
		if err != nil {
			return nil, err
		}
		left = slices.DeleteFunc(left, func(o string) bool { return o == "statefulset/"+sts.Name })
		if len(left) == 0 {
			return kept, deletion{d}.deleteNamespace(ctx, namespace)
		}
		kept = append(kept, fmt.Sprintf("namespace %s, which still contains %s", spec.Namespace, strings.Join(left, ", ")))
	}
	return kept, deleteObject(ctx, d.Kube, sts)
}

// deleteServers deletes everything of a cluster except the StatefulSet, which then has no servers
// any more, and the namespace. It returns the objects as they were, without a StatefulSet if there
// was none.
func (d deletion) deleteServers(ctx context.Context, spec server.Spec) (live server.Set, kept []string, err error) {
	if live, err = ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name); err != nil {
		return live, nil, err
	}
	if live, err = adoption(d).revert(ctx, spec, live); err != nil {
		return live, nil, err
	}
	live = withoutForeign(live, spec.Name)
	if err := foreign(live, spec.Name); err != nil {
		return live, nil, err
	}
	orphaned, err := objects(d).isOrphaned(ctx, live, spec.Name)
	if err != nil {
		return live, nil, err
	}
	if orphaned {
		r, err := observer(d).look(ctx, spec, live)
		if err != nil {
			return live, nil, err
		}
		if live, err = objects(d).attach(ctx, r.spec(spec, true), live); err != nil {
			return live, nil, err
		}
	}
	if live.StatefulSet == nil {
		return live, nil, nil
	}
	if spec.Storage.WhenDeleted != server.Delete { // the last moment in which the servers answer
		if err := volumes(d).markData(ctx, live.IsEstablished() || isCreated(live.StatefulSet)); err != nil {
			return live, nil, err
		}
	}
	if err := stops(d).stop(ctx, spec, live); err != nil {
		return live, nil, err
	}
	if err := snapshots(d).deleteSnapshotJob(ctx); err != nil { // it may use a volume
		return live, nil, err
	}
	if err := (restic.Client{Kube: d.Kube, Consul: d.Consul}).FinishRestore(ctx); err != nil {
		return live, nil, err
	}
	if err := d.deleteJobs(ctx); err != nil {
		return live, nil, err
	}
	if spec.Storage.WhenDeleted == server.Delete {
		if err := d.deleteData(ctx, spec); err != nil {
			return live, nil, err
		}
	}
	objects := live
	objects.Namespace, objects.StatefulSet = nil, nil
	for _, o := range objects.All() {
		if err := deleteObject(ctx, d.Kube, o); err != nil {
			return live, nil, err
		}
	}
	if err := encryption.DeletePublishedCA(ctx, d.Consul); err != nil {
		return live, nil, err
	}
	claims, secrets, err := retained(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return live, nil, err
	}
	if len(claims) > 0 {
		kept = append(kept, "volume claims "+strings.Join(claims, ", "))
	}
	if len(secrets) > 0 {
		kept = append(kept, "Secrets "+strings.Join(secrets, ", "))
	}
	return live, kept, nil
}

// deleteJobs deletes Jobs that interrupted operations left behind. A Job of a schedule belongs to its CronJob. Without the right to list
// Jobs, Kubernetes deletes them some time after they ended.
func (d deletion) deleteJobs(ctx context.Context) error {
	list, err := d.Kube.BatchV1().Jobs(d.Consul.Namespace).List(ctx, owned(d.Consul.Name))
	if apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing the Jobs of %s: %w", d.Consul.ID(), err)
	}
	for i := range list.Items {
		if metav1.GetControllerOf(&list.Items[i]) != nil {
			continue
		}
		if err := d.Kube.RemoveJob(
			ctx, d.Consul.Namespace, list.Items[i].Name, func(o metav1.Object) bool { return o.GetUID() == list.Items[i].UID },
		); err != nil {
			return err
		}
	}
	return nil
}

// deleteNamespace deletes the namespace, with the StatefulSet, and waits until it no longer exists.
func (d deletion) deleteNamespace(ctx context.Context, namespace *corev1.Namespace) error {
	if err := deleteObject(ctx, d.Kube, namespace); err != nil {
		return err
	}
	return kube.Wait(ctx, "the namespace to be deleted", interval, func(ctx context.Context) (string, error) {
		_, err := d.Kube.CoreV1().Namespaces().Get(ctx, namespace.Name, metav1.GetOptions{})
		found, err := kube.Found(err)
		if err != nil || !found {
			return "", err
		}
		return "it still exists", nil
	})
}

// deleteData deletes the volumes and Secrets of a cluster and waits until the volume claims no
// longer exist.
func (d deletion) deleteData(ctx context.Context, spec server.Spec) error {
	core := d.Kube.CoreV1()
	claims, secrets, err := retained(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if err := core.Secrets(spec.Namespace).Delete(ctx, s, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting Secret %s/%s: %w", spec.Namespace, s, err)
		}
	}
	for _, c := range claims {
		if err := core.PersistentVolumeClaims(spec.Namespace).Delete(ctx, c, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting volume claim %s/%s: %w", spec.Namespace, c, err)
		}
	}
	return kube.Wait(ctx, "the volumes to be deleted", interval, func(ctx context.Context) (string, error) {
		claims, _, err := retained(ctx, d.Kube, spec.Namespace, spec.Name)
		if err != nil || len(claims) == 0 {
			return "", err
		}
		return "left: " + strings.Join(claims, ", "), nil
	})
}
