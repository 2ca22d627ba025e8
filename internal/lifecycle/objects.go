package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// ForeignError says that objects with the names that a cluster needs exist and do not belong to the
// cluster.
type ForeignError struct{ Objects []string }

// Error implements error.
func (e *ForeignError) Error() string {
	return "these objects exist, and this provider did not create them for this cluster: " + strings.Join(e.Objects, ", ")
}

// ReadObjects reads the objects of a cluster as they are. Objects that do not exist are nil. The
// namespace is also nil if it may not be read.
func ReadObjects(ctx context.Context, k *kube.Client, namespace, name string) (server.Set, error) {
	var set server.Set
	g, ctx := errgroup.WithContext(ctx)
	servers := server.StatefulSetName(name)
	core := k.CoreV1()
	read(ctx, g, core.ServiceAccounts(namespace).Get, servers, &set.ServiceAccount)
	read(ctx, g, core.ConfigMaps(namespace).Get, servers, &set.Config)
	read(ctx, g, core.Services(namespace).Get, servers, &set.PeerService)
	read(ctx, g, core.Services(namespace).Get, server.ClientServiceName(name), &set.ClientService)
	read(ctx, g, k.PolicyV1().PodDisruptionBudgets(namespace).Get, servers, &set.DisruptionBudget)
	read(ctx, g, k.AppsV1().StatefulSets(namespace).Get, servers, &set.StatefulSet)
	read(ctx, g, func(ctx context.Context, name string, o metav1.GetOptions) (*corev1.Namespace, error) {
		ns, err := core.Namespaces().Get(ctx, name, o)
		if apierrors.IsForbidden(err) {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, name)
		}
		return ns, err
	}, namespace, &set.Namespace)
	err := g.Wait()
	return set, err
}

type typed interface {
	server.Object
	comparable
}

// read starts a Get that leaves its result in target.
func read[T typed](
	ctx context.Context,
	g *errgroup.Group,
	get func(context.Context, string, metav1.GetOptions) (T, error),
	name string,
	target *T,
) {
	g.Go(func() error {
		o, err := get(ctx, name, metav1.GetOptions{})
		found, err := kube.Found(err)
		if err != nil {
			return fmt.Errorf("reading %T %s: %w", o, name, err)
		}
		if !found {
			return nil
		}
		// A typed Get does not set the kind.
		if kinds, _, err := scheme.Scheme.ObjectKinds(o); err == nil && len(kinds) > 0 {
			o.GetObjectKind().SetGroupVersionKind(kinds[0])
		}
		*target = o
		return nil
	})
}

// foreign lists the objects of a live set that do not belong to the cluster. It ignores the
// namespace.
func foreign(set server.Set, cluster string) error {
	var names []string
	for _, o := range set.All() {
		if _, isNamespace := o.(*corev1.Namespace); !isNamespace && !server.Owns(cluster, o.GetLabels()) {
			names = append(names, o.GetObjectKind().GroupVersionKind().Kind+" "+o.GetNamespace()+"/"+o.GetName())
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &ForeignError{Objects: names}
}

// withoutForeign is a set without the objects that another tool or person made in the place of deleted ones: a delete
// leaves these alone. A StatefulSet stays in the set: servers that may not be stopped are in the way.
func withoutForeign(set server.Set, cluster string) server.Set {
	if o := set.ServiceAccount; o != nil && !server.Owns(cluster, o.Labels) {
		set.ServiceAccount = nil
	}
	if o := set.Config; o != nil && !server.Owns(cluster, o.Labels) {
		set.Config = nil
	}
	if o := set.PeerService; o != nil && !server.Owns(cluster, o.Labels) {
		set.PeerService = nil
	}
	if o := set.ClientService; o != nil && !server.Owns(cluster, o.Labels) {
		set.ClientService = nil
	}
	if o := set.DisruptionBudget; o != nil && !server.Owns(cluster, o.Labels) {
		set.DisruptionBudget = nil
	}
	return set
}

// applyObjects applies the objects that a spec renders, in order, and returns those that were
// accepted before an error. It removes what others added to the live objects in fields that the
// provider governs.
func applyObjects(ctx context.Context, k *kube.Client, set, live server.Set) (accepted []server.Object, err error) {
	for _, o := range set.All() {
		if sts, ok := o.(*appsv1.StatefulSet); ok {
			if err := replace(ctx, k, live.StatefulSet, sts); err != nil {
				return accepted, err
			}
		}
		if err := claim(ctx, k, live.Like(o)); err != nil {
			return accepted, err
		}
		fields, err := server.Fields(o)
		if err != nil {
			return accepted, err
		}
		if err := k.Apply(ctx, fields); err != nil {
			return accepted, err
		}
		accepted = append(accepted, o)
	}
	return accepted, nil
}

func (d objects) read(ctx context.Context) (server.Set, error) {
	return ReadObjects(ctx, d.Kube, d.Consul.Namespace, d.Consul.Name)
}

func (d objects) apply(ctx context.Context, set, live server.Set) ([]server.Object, error) {
	return applyObjects(ctx, d.Kube, set, live)
}

func (d objects) delete(ctx context.Context, o server.Object) error {
	return deleteObject(ctx, d.Kube, o)
}

// claim makes the provider the only owner of the fields that it governs in a live object, if there
// is one (server.Claim).
func claim(ctx context.Context, k *kube.Client, live server.Object) error {
	if live == nil {
		return nil
	}
	kind := live.GetObjectKind().GroupVersionKind()
	decide := func(fields []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, error) {
		return server.Claim(kind.Kind, fields)
	}
	if fields, err := decide(live.GetManagedFields()); err != nil || fields == nil {
		return err
	}
	return k.UpdateManagedFields(ctx, kind, live.GetNamespace(), live.GetName(), decide)
}

// deleteObject deletes one object in the background. An object that no longer exists is not an
// error.
func deleteObject(ctx context.Context, k *kube.Client, o server.Object) error {
	opts := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	var err error
	ns, name := o.GetNamespace(), o.GetName()
	switch kind := o.GetObjectKind().GroupVersionKind().Kind; kind {
	case "StatefulSet":
		err = k.AppsV1().StatefulSets(ns).Delete(ctx, name, opts)
	case "PodDisruptionBudget":
		err = k.PolicyV1().PodDisruptionBudgets(ns).Delete(ctx, name, opts)
	case "Service":
		err = k.CoreV1().Services(ns).Delete(ctx, name, opts)
	case "ConfigMap":
		err = k.CoreV1().ConfigMaps(ns).Delete(ctx, name, opts)
	case "ServiceAccount":
		err = k.CoreV1().ServiceAccounts(ns).Delete(ctx, name, opts)
	case "Namespace":
		err = k.CoreV1().Namespaces().Delete(ctx, name, opts)
	default:
		return fmt.Errorf("no rule to delete a %s", kind)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s %s: %w", o.GetObjectKind().GroupVersionKind().Kind, name, err)
	}
	return nil
}

// owned selects everything that has the labels of the cluster's servers.
func owned(name string) metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: labels.SelectorFromSet(map[string]string{
		server.LabelManagedBy: server.ManagedBy, server.LabelInstance: name,
	}).String()}
}

// retained lists the volumes and Secrets of a cluster.
func (d objects) retained(ctx context.Context) (claims, secrets []string, err error) {
	c, err := d.Kube.CoreV1().PersistentVolumeClaims(d.Consul.Namespace).List(ctx, owned(d.Consul.Name))
	if err != nil {
		return nil, nil, fmt.Errorf("listing the volume claims of %s: %w", d.Consul.ID(), err)
	}
	for i := range c.Items {
		claims = append(claims, c.Items[i].Name)
	}
	s, err := d.Kube.CoreV1().Secrets(d.Consul.Namespace).List(ctx, owned(d.Consul.Name))
	if err != nil {
		return nil, nil, fmt.Errorf("listing the Secrets of %s: %w", d.Consul.ID(), err)
	}
	for i := range s.Items {
		secrets = append(secrets, s.Items[i].Name)
	}
	slices.Sort(claims)
	slices.Sort(secrets)
	return claims, secrets, nil
}
