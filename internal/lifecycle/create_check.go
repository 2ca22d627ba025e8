package lifecycle

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// DeniedError says that Kubernetes refuses an object of the cluster.
type DeniedError struct {
	// Object is its kind and name.
	Object string
	Err    error
}

// Error implements error.
func (e *DeniedError) Error() string { return "Kubernetes refuses " + e.Object + ": " + e.Err.Error() }

// Unwrap returns what Kubernetes says.
func (e *DeniedError) Unwrap() error { return e.Err }

// CheckCreate finds out at plan time how a create would fail, and changes nothing. It returns ErrExists, ErrNamespaceExists,
// or a *ForeignError as Create does, and a *DeniedError for what an admission policy, a quota, or Pod Security refuses.
// hasNamespace is false if the namespace is known not to exist. In that case, nothing in it can be tried.
func (d Deployment) CheckCreate(ctx context.Context, spec server.Spec) (hasNamespace bool, err error) {
	namespace, err := d.Kube.CoreV1().Namespaces().Get(ctx, spec.Namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case apierrors.IsForbidden(err):
		namespace = nil
	case err != nil:
		return false, fmt.Errorf("reading namespace %s: %w", spec.Namespace, err)
	}
	if err := checkNamespace(namespace, spec); err != nil {
		return true, err
	}
	live, err := ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return true, err
	}
	if err := foreign(live, spec.Name); err != nil {
		return true, err
	}
	if live.StatefulSet != nil {
		before, err := server.Parse(live, spec)
		if err == nil && !before.Creating {
			err = ErrExists
		}
		return true, err // a create that was interrupted is resumed
	}
	return true, objects{d}.tryObjects(ctx, spec)
}

// tryObjects lets Kubernetes try the objects of a spec in a dry run, and one pod of its StatefulSet: Pod Security and quotas
// only judge pods.
func (d objects) tryObjects(ctx context.Context, spec server.Spec) error {
	set := server.Objects(spec)
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: *set.StatefulSet.Spec.Template.ObjectMeta.DeepCopy(), Spec: *set.StatefulSet.Spec.Template.Spec.DeepCopy(),
	}
	pod.Name, pod.Namespace = server.PodName(spec.Name, 0), spec.Namespace
	pod.Spec.ServiceAccountName = ""                              // its own does not exist yet
	for _, c := range set.StatefulSet.Spec.VolumeClaimTemplates { // as the StatefulSet controller does
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.Name + "-" + pod.Name},
		}})
	}
	set.Namespace = nil
	for _, o := range append(set.All(), pod) {
		fields, err := server.Fields(o)
		if err != nil {
			return err
		}
		err = d.Kube.TryApply(ctx, fields)
		if kube.Permanent(err) && !apierrors.IsNotFound(err) && !apierrors.IsUnauthorized(err) {
			return &DeniedError{Object: fmt.Sprintf("%s %s/%s", o.GetObjectKind().GroupVersionKind().Kind, o.GetNamespace(), o.GetName()), Err: err}
		}
		if err != nil {
			return fmt.Errorf("dry run of %s %s/%s: %w", o.GetObjectKind().GroupVersionKind().Kind, o.GetNamespace(), o.GetName(), err)
		}
	}
	return nil
}

// Loss says what happened to a cluster that no longer exists.
type Loss struct {
	// NamespaceGone says that its namespace does not exist, or is being deleted.
	NamespaceGone bool
	// Claims are the volume claims of its servers that are left.
	Claims []string
}

// Loss looks for what is left of a cluster whose StatefulSet no longer exists.
func (d Deployment) Loss(ctx context.Context) (Loss, error) {
	namespace, err := d.Kube.CoreV1().Namespaces().Get(ctx, d.Consul.Namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), err == nil && namespace.DeletionTimestamp != nil:
		return Loss{NamespaceGone: true}, nil
	case err != nil && !apierrors.IsForbidden(err):
		return Loss{}, fmt.Errorf("reading namespace %s: %w", d.Consul.Namespace, err)
	}
	claims, _, err := objects{d}.retained(ctx)
	return Loss{Claims: claims}, err
}
