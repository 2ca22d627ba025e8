package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Delete deletes the cluster and waits until its pods no longer exist. Volumes, and the Secrets
// that are useless without them, follow the retention policy. kept names what is kept, for the
// user.
func (d Deployment) Delete(ctx context.Context, spec server.Spec) (kept []string, err error) {
	op := &deleteOperation{ports: portsOf(d), spec: spec}
	if err := op.delete(ctx); err != nil {
		return nil, err
	}
	return op.kept, nil
}

// deleteOperation is a delete of a cluster in Kubernetes.
type deleteOperation struct {
	ports
	spec server.Spec
	// live is what Observe has found, without what another tool or person made in the place of deleted objects.
	live server.Set
	// kept is what is kept, for the user.
	kept []string
}

var _ rollout.Operator[rollout.Doomed] = (*deleteOperation)(nil)

// delete carries out a delete.
func (op *deleteOperation) delete(ctx context.Context) error {
	o, err := op.Observe(ctx)
	if err != nil || len(rollout.DeletePhases(o)) == 0 {
		return err
	}
	exclusively := op.lease.exclusively
	if isTerminating(op.live.Namespace) { // no Lease can be created in it
		exclusively = func(ctx context.Context, do func(context.Context) error) error { return do(ctx) }
	}
	err = exclusively(ctx, func(ctx context.Context) error { return rollout.Operate(ctx, op, rollout.DeletePhases) })
	if err != nil {
		return err
	}
	return rollout.Operate(ctx, op, rollout.FinalPhases)
}

// Observe implements rollout.Operator.
func (op *deleteOperation) Observe(ctx context.Context) (o rollout.Doomed, err error) {
	if op.live, err = op.objects.read(ctx); err != nil {
		return o, err
	}
	op.live = withoutForeign(op.live, op.spec.Name)
	if err := foreign(op.live, op.spec.Name); err != nil {
		return o, err
	}
	namespace := op.live.Namespace
	o.Applied, o.Adopting = op.live.StatefulSet != nil, op.live.IsTakeover()
	o.KeepsData = op.spec.Storage.WhenDeleted != server.Delete
	o.OwnsNamespace = namespace != nil && namespace.Annotations[server.AnnotationNamespaceOf] == op.spec.Name
	if o.Orphaned, err = op.objects.isOrphaned(ctx, op.live, op.spec.Name); err != nil || !o.Orphaned {
		return o, err
	}
	r, err := op.servers.look(ctx, op.spec, op.live)
	o.Running = r.spec(op.spec, true)
	return o, err
}

// Do implements rollout.Operator.
func (op *deleteOperation) Do(ctx context.Context, p rollout.Phase) error {
	var err error
	switch p.Kind {
	case rollout.RevertAdoption:
		err = op.servers.revert(ctx, op.spec, op.live)
	case rollout.AttachPods:
		_, err = op.objects.attach(ctx, p.Spec, op.live)
	case rollout.MarkData:
		err = op.objects.markData(ctx, op.live.IsEstablished() || isCreated(op.live.StatefulSet))
	case rollout.StopServers:
		err = op.servers.stop(ctx, op.spec, op.live)
	case rollout.DeleteJobs:
		err = op.objects.deleteJobs(ctx)
	case rollout.DeleteData:
		err = op.objects.deleteData(ctx)
	case rollout.DeleteObjects:
		err = op.deleteObjects(ctx)
	case rollout.DeletePublishedCA:
		err = op.credentials.deletePublishedCA(ctx)
	case rollout.ListKept:
		err = op.listKept(ctx)
	case rollout.DeleteLease:
		err = op.lease.delete(ctx)
	case rollout.DeleteNamespace:
		err = op.deleteNamespace(ctx)
	case rollout.DeleteStatefulSet:
		if op.live.StatefulSet != nil {
			err = op.objects.delete(ctx, op.live.StatefulSet)
		}
	default:
		err = unknownPhase(p)
	}
	return err
}

// deleteObjects deletes everything that a spec renders, except the StatefulSet, which then has no servers anymore, and the namespace.
func (op *deleteOperation) deleteObjects(ctx context.Context) error {
	rest := op.live
	rest.Namespace, rest.StatefulSet = nil, nil
	for _, o := range rest.All() {
		if err := op.objects.delete(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// listKept names the data that is kept.
func (op *deleteOperation) listKept(ctx context.Context) error {
	claims, secrets, err := op.objects.retained(ctx)
	op.kept = nil
	if len(claims) > 0 {
		op.kept = append(op.kept, "volume claims "+strings.Join(claims, ", "))
	}
	if len(secrets) > 0 {
		op.kept = append(op.kept, "Secrets "+strings.Join(secrets, ", "))
	}
	return err
}

// deleteNamespace deletes the namespace if only the StatefulSet is left in it. The namespace is not read after that: with it, a RoleBinding
// that allowed to read may be gone.
func (op *deleteOperation) deleteNamespace(ctx context.Context) error {
	left, err := op.objects.contents(ctx)
	if err != nil {
		return err
	}
	left = slices.DeleteFunc(left, func(o string) bool { return o == "statefulset/"+op.live.StatefulSet.Name })
	if len(left) > 0 {
		op.kept = append(op.kept, fmt.Sprintf("namespace %s, which still contains %s", op.spec.Namespace, strings.Join(left, ", ")))
		return nil
	}
	if err := op.objects.deleteNamespace(ctx, op.live.Namespace); err != nil {
		return err
	}
	op.live.StatefulSet = nil
	return nil
}

func isTerminating(namespace *corev1.Namespace) bool {
	return namespace != nil && namespace.DeletionTimestamp != nil
}

// deleteJobs deletes Jobs that interrupted operations left behind. A Job of a schedule belongs to its CronJob. Without the right to list
// Jobs, Kubernetes deletes the others some time after they ended.
func (d deletion) deleteJobs(ctx context.Context) error {
	if err := snapshots(d).deleteSnapshotJob(ctx); err != nil {
		return err
	}
	if err := (restic.Client{Kube: d.Kube, Consul: d.Consul}).FinishRestore(ctx); err != nil {
		return err
	}
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

// contents names what was put into the namespace.
func (d deletion) contents(ctx context.Context) ([]string, error) {
	return d.Kube.NamespaceContents(ctx, d.Consul.Namespace)
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
func (d deletion) deleteData(ctx context.Context) error {
	core, namespace := d.Kube.CoreV1(), d.Consul.Namespace
	claims, secrets, err := objects(d).retained(ctx)
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if err := core.Secrets(namespace).Delete(ctx, s, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting Secret %s/%s: %w", namespace, s, err)
		}
	}
	for _, c := range claims {
		if err := core.PersistentVolumeClaims(namespace).Delete(ctx, c, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting volume claim %s/%s: %w", namespace, c, err)
		}
	}
	return kube.Wait(ctx, "the volumes to be deleted", interval, func(ctx context.Context) (string, error) {
		claims, _, err := objects(d).retained(ctx)
		if err != nil || len(claims) == 0 {
			return "", err
		}
		return "left: " + strings.Join(claims, ", "), nil
	})
}
