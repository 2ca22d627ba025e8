package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// fileSystemGrace is how long a volume may wait for its file system to grow before its server is restarted for
// that. A driver that can grow it under a running pod does so when the kubelet next looks at the pod, every 60
// to 90 seconds (syncFrequency; pkg/kubelet/pod_workers.go of Kubernetes).
const fileSystemGrace = 2 * time.Minute

// addVolumes adds what the volumes of the servers need.
func (l Live) addVolumes(ctx context.Context, w *rollout.World, sts *appsv1.StatefulSet, pods []corev1.Pod) error {
	claims, err := l.claims(ctx, w.Replicas)
	if err != nil {
		return err
	}
	judgeVolumes(w, *l.Storage, sts.CreationTimestamp.Time, claims, pods, time.Now())
	return nil
}

// claims are those of the first servers, by the name of the pod.
func (l Live) claims(ctx context.Context, replicas int) (map[string]corev1.PersistentVolumeClaim, error) {
	list, err := l.Kube.CoreV1().PersistentVolumeClaims(l.Consul.Namespace).List(ctx, owned(l.Consul.Name))
	if err != nil {
		return nil, fmt.Errorf("listing the volume claims of %s: %w", l.Consul.ID(), err)
	}
	all := map[string]corev1.PersistentVolumeClaim{}
	for _, c := range list.Items {
		all[c.Name] = c
	}
	claims := map[string]corev1.PersistentVolumeClaim{}
	for ordinal := range replicas {
		pod := server.PodName(l.Consul.Name, ordinal)
		if c, ok := all[server.ClaimName(pod)]; ok {
			claims[pod] = c
		}
	}
	return claims, nil
}

// judgeVolumes adds to a world what the volumes of its servers need to become as declared. Claims are by the
// name of the pod; made is when the StatefulSet was created.
//
//   - A volume that is too small grows, or its server gets a new one, as declared. A larger volume is kept.
//   - A claim that is newer than the StatefulSet was created from the current template: its server is not
//     rebuilt again, whatever happened to the claim.
//   - A claim that is being deleted is removed with its pod, no matter who deleted it.
//   - A server is restarted for its file system only if it was not restarted since the file system waits for
//     that.
func judgeVolumes(
	w *rollout.World,
	s server.Storage,
	made time.Time,
	claims map[string]corev1.PersistentVolumeClaim,
	pods []corev1.Pod,
	now time.Time,
) {
	for pod, c := range claims {
		if s.OnChange != server.RebuildServers && mustGrow(&c, s.Size) {
			w.Grow = s.Size.String()
		}
		i := slices.IndexFunc(w.Servers, func(s rollout.Server) bool { return s.Name == pod })
		if i < 0 || w.Servers[i].Leaving {
			continue
		}
		p := &pods[slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name == pod })]
		target := &w.Servers[i]
		if c.DeletionTimestamp != nil {
			// The new pod of a server whose claim is still being deleted is not scheduled yet.
			if target.Rebuild = p.Spec.NodeName != ""; target.Rebuild {
				target.Volume = "its volume is being deleted"
			}
			continue
		}
		unlike := mismatch(&c, s)
		switch {
		case unlike == "":
		case s.OnChange == server.RebuildServers && c.CreationTimestamp.Time.Before(made):
			target.Volume, target.Rebuild = unlike, true
		case s.OnChange == server.RebuildServers || c.Status.Phase != corev1.ClaimBound:
		default:
			since, pending := fileSystemPending(&c)
			switch {
			case pending && p.CreationTimestamp.Time.Before(since) && now.Sub(since) >= fileSystemGrace:
				target.Volume = "its file system grows when its volume is mounted again"
			case pending:
				target.Growing = unlike + ", and waits for its file system to grow"
			default:
				target.Growing = unlike
			}
		}
	}
}

// mismatch says how a volume is not as declared, "" if it is. The class only matters for a rebuild.
func mismatch(c *corev1.PersistentVolumeClaim, s server.Storage) string {
	if class := className(c); s.OnChange == server.RebuildServers && s.ClassName() != nil && class != s.Class {
		return fmt.Sprintf("its volume is of the storage class %q and not %q", class, s.Class)
	}
	size := request(c)
	if capacity, ok := c.Status.Capacity[corev1.ResourceStorage]; ok && c.Status.Phase == corev1.ClaimBound && size.Cmp(s.Size) >= 0 {
		size = capacity
	}
	if size.Cmp(s.Size) < 0 {
		return fmt.Sprintf("its volume has %s of %s", size.String(), s.Size.String())
	}
	return ""
}

// mustGrow reports whether a claim requests less than a size.
func mustGrow(c *corev1.PersistentVolumeClaim, size resource.Quantity) bool {
	asked := request(c)
	return c.DeletionTimestamp == nil && asked.Cmp(size) < 0
}

func request(c *corev1.PersistentVolumeClaim) resource.Quantity {
	return c.Spec.Resources.Requests[corev1.ResourceStorage]
}

// className is the storage class of a claim, "" for none.
func className(c *corev1.PersistentVolumeClaim) string {
	if c.Spec.StorageClassName == nil {
		return ""
	}
	return *c.Spec.StorageClassName
}

// fileSystemPending reports whether a volume has grown and its file system has not,
// and since when.
func fileSystemPending(c *corev1.PersistentVolumeClaim) (since time.Time, pending bool) {
	for _, cond := range c.Status.Conditions {
		if cond.Type == corev1.PersistentVolumeClaimFileSystemResizePending && cond.Status == corev1.ConditionTrue {
			return cond.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}

// rebuild is restart for a server that also loses its volume. The claim is deleted first: it exists until its pod is gone, and the
// StatefulSet creates the next pod only with a new claim (pkg/controller/statefulset/stateful_pod_control.go of
// Kubernetes). Nothing brings a claim back that is being deleted, so the eviction is tried before (dry run).
func (l Live) rebuild(ctx context.Context, s rollout.Server) error {
	if s.Settled() {
		if err := l.evict(ctx, s, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			return err
		}
	}
	claims := l.Kube.CoreV1().PersistentVolumeClaims(l.Consul.Namespace)
	c, err := claims.Get(ctx, server.ClaimName(s.Name), metav1.GetOptions{})
	found, err := kube.Found(err)
	if err != nil {
		return fmt.Errorf("reading the volume claim of %s: %w", s.Name, err)
	}
	if found && c.DeletionTimestamp == nil {
		err := claims.Delete(ctx, c.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(c.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting volume claim %s/%s: %w", c.Namespace, c.Name, err)
		}
	}
	return l.restart(ctx, s)
}

// growVolumes makes the volumes that are too small grow.
func (l Live) growVolumes(ctx context.Context) error {
	replicas, err := l.Consul.Replicas(ctx)
	if err != nil {
		return err
	}
	claims, err := l.claims(ctx, replicas)
	if err != nil {
		return err
	}
	_, err = l.grow(ctx, claims)
	return err
}

// grow requests the declared size for claims that request less, and reports whether there were any.
func (l Live) grow(ctx context.Context, claims map[string]corev1.PersistentVolumeClaim) (grown bool, err error) {
	patch := fmt.Appendf(nil, `{"spec":{"resources":{"requests":{"storage":%q}}}}`, l.Storage.Size.String())
	for _, c := range claims {
		if !mustGrow(&c, l.Storage.Size) {
			continue
		}
		_, err := l.Kube.CoreV1().PersistentVolumeClaims(
			c.Namespace,
		).Patch(
			ctx,
			c.Name,
			types.MergePatchType,
			patch,
			metav1.PatchOptions{FieldManager: server.ManagedBy},
		)
		if err != nil {
			err = fmt.Errorf(
				"growing volume claim %s/%s of the storage class %q to %s: %w",
				c.Namespace,
				c.Name,
				className(&c),
				l.Storage.Size.String(),
				err,
			)
		}
		if apierrors.IsForbidden(err) {
			err = fmt.Errorf(
				"%w; if the storage class cannot expand volumes, storage.on_change = %q gives each server a new volume",
				err,
				server.RebuildServers,
			)
		}
		if err != nil {
			return grown, err
		}
		grown = true
	}
	return grown, nil
}

// startVolumes begins a change of the volumes before anything else is changed: if Kubernetes refuses to let one
// grow, nothing is changed. It reports whether there is a change of the volumes to complete.
func (d volumes) startVolumes(ctx context.Context, spec server.Spec, live server.Set) (resizing bool, err error) {
	l := Live{Kube: d.Kube, Consul: d.Consul, Storage: &spec.Storage}
	claims, err := l.claims(ctx, int(spec.Replicas))
	if err != nil {
		return false, err
	}
	sts := live.StatefulSet
	if sts != nil {
		resizing = sts.Annotations[server.AnnotationResizing] == "true" || !server.SameVolumes(sts, server.Objects(spec).StatefulSet)
	}
	for _, c := range claims {
		resizing = resizing || c.DeletionTimestamp != nil || mismatch(&c, spec.Storage) != ""
	}
	if spec.Storage.OnChange == server.RebuildServers {
		return resizing, nil
	}
	grown, err := l.grow(ctx, claims)
	if grown {
		d.report(ctx, rollout.Action{Verb: rollout.Grow, On: spec.Storage.Size.String()})
	}
	return resizing, err
}

// claimsOf lists the volume claims whose names are one of the prefixes followed by an ordinal.
func (d volumes) claimsOf(ctx context.Context, prefixes ...string) ([]string, error) {
	list, err := d.Kube.CoreV1().PersistentVolumeClaims(d.Consul.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing the volume claims in %s: %w", d.Consul.Namespace, err)
	}
	var claims []string
	for i := range list.Items {
		for _, p := range prefixes {
			ordinal, ok := strings.CutPrefix(list.Items[i].Name, p)
			if _, err := strconv.Atoi(ordinal); ok && err == nil {
				claims = append(claims, list.Items[i].Name)
			}
		}
	}
	slices.Sort(claims)
	return claims, nil
}

// markResized records that a change of the volumes has ended.
func (d volumes) markResized(ctx context.Context) error {
	if err := removeAnnotation(ctx, d.Kube, d.Consul, server.AnnotationResizing); err != nil {
		return fmt.Errorf("marking the volumes of %s as resized: %w", d.Consul.ID(), err)
	}
	return nil
}

// replace creates a StatefulSet again if it is being deleted, or if its claims are to have other volumes or
// labels, which Kubernetes does not allow to change. The pods are kept: the new StatefulSet has the same pod
// template, including what others added to it, and adopts the pods. An interrupted call leaves pods without a
// StatefulSet, which the next call creates.
func replace(ctx context.Context, k *kube.Client, live, want *appsv1.StatefulSet) error {
	if live == nil || (live.DeletionTimestamp == nil && server.SameClaims(live, want)) {
		return nil
	}
	sets := k.AppsV1().StatefulSets(live.Namespace)
	if live.DeletionTimestamp == nil {
		if err := letGo(ctx, k, live); err != nil {
			return err
		}
		err := sets.Delete(ctx, live.Name, metav1.DeleteOptions{
			PropagationPolicy: new(metav1.DeletePropagationOrphan), Preconditions: metav1.NewUIDPreconditions(string(live.UID)),
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting StatefulSet %s/%s without its pods: %w", live.Namespace, live.Name, err)
		}
	}
	err := kube.Wait(
		ctx,
		"the deletion of the StatefulSet, which is then created again for the same pods",
		interval,
		func(ctx context.Context) (string, error) {
			sts, err := sets.Get(ctx, live.Name, metav1.GetOptions{})
			found, err := kube.Found(err)
			if err != nil || !found || sts.UID != live.UID {
				return "", err
			}
			return "finalizers: " + strings.Join(sts.Finalizers, ", "), nil
		},
	)
	if err != nil {
		return err
	}
	again := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: live.Name, Namespace: live.Namespace, Labels: live.Labels, Annotations: live.Annotations, OwnerReferences: live.OwnerReferences,
			Finalizers: slices.DeleteFunc(slices.Clone(live.Finalizers), func(f string) bool {
				return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
			}),
		},
		Spec: *live.Spec.DeepCopy(),
	}
	again.Spec.VolumeClaimTemplates = want.Spec.VolumeClaimTemplates
	if v, ok := want.Annotations[server.AnnotationResizing]; ok {
		metav1.SetMetaDataAnnotation(&again.ObjectMeta, server.AnnotationResizing, v)
	}
	if _, err := sets.Create(ctx, again, metav1.CreateOptions{FieldManager: server.ManagedBy}); err != nil {
		return fmt.Errorf("creating StatefulSet %s/%s again: %w", live.Namespace, live.Name, err)
	}
	// The owners of the fields stay the same, so that others keep what they set.
	return k.UpdateManagedFields(
		ctx,
		appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
		live.Namespace,
		live.Name,
		func(now []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, error) {
			status := func(e metav1.ManagedFieldsEntry) bool { return e.Subresource != "" }
			return slices.Concat(
				slices.DeleteFunc(slices.Clone(live.ManagedFields), status),
				slices.DeleteFunc(slices.Clone(now), func(e metav1.ManagedFieldsEntry) bool { return !status(e) }),
			), nil
		},
	)
}

// letGo makes a StatefulSet release its claims, if they would be deleted with it: the delete keeps what belongs
// to it, but volumes must not depend on that alone.
func letGo(ctx context.Context, k *kube.Client, live *appsv1.StatefulSet) error {
	policy := live.Spec.PersistentVolumeClaimRetentionPolicy
	if policy == nil || policy.WhenDeleted != appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		return nil
	}
	patch := []byte(`{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Retain"}}}`)
	_, err := k.AppsV1().StatefulSets(
		live.Namespace,
	).Patch(
		ctx,
		live.Name,
		types.MergePatchType,
		patch,
		metav1.PatchOptions{FieldManager: server.ManagedBy},
	)
	if err != nil {
		return fmt.Errorf("keeping the volumes of StatefulSet %s/%s: %w", live.Namespace, live.Name, err)
	}
	cluster := live.Labels[server.LabelInstance]
	return kube.Wait(ctx, "the volume claims to be released by the StatefulSet", interval, func(ctx context.Context) (string, error) {
		claims, err := k.CoreV1().PersistentVolumeClaims(live.Namespace).List(ctx, owned(cluster))
		if err != nil {
			return "", fmt.Errorf("listing the volume claims of %s/%s: %w", live.Namespace, cluster, err)
		}
		var left []string
		for _, c := range claims.Items {
			if slices.ContainsFunc(c.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == live.UID }) {
				left = append(left, c.Name)
			}
		}
		return strings.Join(left, ", "), nil
	})
}

// VolumeClass is the storage class of volumes.
type VolumeClass struct {
	// Name is "" for volumes without a class.
	Name string
	// Exists says that there is such a class.
	Exists bool
	// Expands says that its volumes can grow.
	Expands bool
}

// ErrNoRight says that the credential may not read something.
var ErrNoRight = errors.New("the credential may not read it")

// VolumeClasses are the storage classes of the volumes of a cluster's servers. It returns an error that is
// ErrNoRight if the claims or a class may not be read.
func VolumeClasses(ctx context.Context, k *kube.Client, namespace, name string) ([]VolumeClass, error) {
	claims, err := k.CoreV1().PersistentVolumeClaims(namespace).List(ctx, owned(name))
	if err != nil {
		return nil, classError(fmt.Errorf("listing the volume claims of %s/%s: %w", namespace, name, err))
	}
	var classes []VolumeClass
	for i := range claims.Items {
		pod, ok := strings.CutPrefix(claims.Items[i].Name, server.ClaimName(""))
		if _, isServer := server.Ordinal(name, pod); !ok || !isServer {
			continue // another volume of the cluster
		}
		class := className(&claims.Items[i])
		if slices.ContainsFunc(classes, func(c VolumeClass) bool { return c.Name == class }) {
			continue
		}
		c, err := ReadVolumeClass(ctx, k, class)
		if err != nil {
			return nil, err
		}
		classes = append(classes, c)
	}
	return classes, nil
}

// ReadVolumeClass reads a storage class. It returns an error that is ErrNoRight if the class may not be read.
func ReadVolumeClass(ctx context.Context, k *kube.Client, name string) (VolumeClass, error) {
	if name == "" {
		return VolumeClass{}, nil
	}
	class, err := k.StorageV1().StorageClasses().Get(ctx, name, metav1.GetOptions{})
	found, err := kube.Found(err)
	if err != nil {
		return VolumeClass{}, classError(fmt.Errorf("reading the storage class %s: %w", name, err))
	}
	return VolumeClass{Name: name, Exists: found, Expands: found && class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion}, nil
}

func classError(err error) error {
	if apierrors.IsForbidden(err) {
		return errors.Join(ErrNoRight, err)
	}
	return err
}
