package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
)

// Client talks to one Kubernetes cluster. It is safe for concurrent use.
type Client struct {
	kubernetes.Interface
	// Dial, unless nil, connects to a port of a pod instead of a port-forward.
	Dial         func(ctx context.Context, namespace, pod string, port int) (net.Conn, error)
	dynamic      dynamic.Interface
	metadata     metadata.Interface
	config       *rest.Config
	fieldManager string
}

// NewClient returns a client whose server-side applies use the field manager.
// It connects to nothing.
func NewClient(config *rest.Config, fieldManager string) (*Client, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("building the Kubernetes client: %w", err)
	}
	set, err := kubernetes.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("building the Kubernetes client: %w", err)
	}
	dyn, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("building the Kubernetes client: %w", err)
	}
	meta, err := metadata.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("building the Kubernetes client: %w", err)
	}
	return &Client{Interface: set, dynamic: dyn, metadata: meta, config: config, fieldManager: fieldManager}, nil
}

// Wrap lets [Config.Wrap] see the requests of a client that reaches a pod through this one.
func (c *Client) Wrap(next http.RoundTripper) http.RoundTripper {
	if c.config == nil || c.config.WrapTransport == nil {
		return next
	}
	return c.config.WrapTransport(next)
}

// ClusterUID is the UID of the kube-system namespace: the customary identity of
// a Kubernetes cluster.
func (c *Client) ClusterUID(ctx context.Context) (string, error) {
	ns, err := c.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("reading the namespace kube-system to identify the Kubernetes cluster: %w", err)
	}
	return string(ns.UID), nil
}

// Apply creates or changes an object by server-side apply with the client's field manager. It reverts fields
// that another manager changed: the caller has made sure that the object belongs to it. fields holds
// apiVersion, kind, metadata, and what is to be set, but no status.
func (c *Client) Apply(ctx context.Context, fields map[string]any) error {
	u := &unstructured.Unstructured{Object: fields}
	_, err := c.objects(
		u.GroupVersionKind(),
		u.GetNamespace(),
	).Apply(
		ctx,
		u.GetName(),
		u,
		metav1.ApplyOptions{FieldManager: c.fieldManager, Force: true},
	)
	if err != nil {
		return fmt.Errorf("applying %s %s: %w", u.GetKind(), objectName(u.GetNamespace(), u.GetName()), err)
	}
	return nil
}

// TryApply is Apply that changes nothing: Kubernetes runs all its checks, including admission policies and quotas, and
// returns what it would refuse. It also returns nil if this credential may not apply the object at all, because the apply
// may use another credential.
func (c *Client) TryApply(ctx context.Context, fields map[string]any) error {
	u := &unstructured.Unstructured{Object: fields}
	kind := u.GroupVersionKind()
	_, err := c.objects(
		kind,
		u.GetNamespace(),
	).Apply(
		ctx,
		u.GetName(),
		u,
		metav1.ApplyOptions{FieldManager: c.fieldManager, Force: true, DryRun: []string{metav1.DryRunAll}},
	)
	if apierrors.IsForbidden(err) && !c.may(ctx, kind, u.GetNamespace(), "create", "patch") {
		return nil
	}
	return err
}

// may reports whether Kubernetes confirms that this credential has the right to all verbs on objects of a kind. A refusal by
// an admission controller and a missing right have the same code.
func (c *Client) may(ctx context.Context, kind schema.GroupVersionKind, namespace string, verbs ...string) bool {
	resource, _ := meta.UnsafeGuessKindToResource(kind)
	for _, verb := range verbs {
		review, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: verb, Group: resource.Group, Version: resource.Version, Resource: resource.Resource,
			}},
		}, metav1.CreateOptions{})
		if err != nil || !review.Status.Allowed {
			return false
		}
	}
	return true
}

// UpdateManagedFields changes the owners of the fields of an object, and so what the next Apply removes. decide
// gets the managed fields and returns those to store, or nil to leave them; it is called again if the object
// was changed meanwhile. An object that no longer exists is not an error.
func (c *Client) UpdateManagedFields(ctx context.Context, kind schema.GroupVersionKind, namespace, name string,
	decide func([]metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, error),
) error {
	objects := c.objects(kind, namespace)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		u, err := objects.Get(ctx, name, metav1.GetOptions{})
		if found, err := Found(err); err != nil || !found {
			return err
		}
		fields, err := decide(u.GetManagedFields())
		if err != nil || fields == nil {
			return err
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"managedFields":   fields,
			"resourceVersion": u.GetResourceVersion(), // a conflict if the object was changed meanwhile
		}})
		if err != nil {
			return err
		}
		_, err = objects.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: c.fieldManager})
		return err
	})
	if err != nil {
		return fmt.Errorf("taking ownership of the fields of %s %s: %w", kind.Kind, objectName(namespace, name), err)
	}
	return nil
}

// Evict asks Kubernetes to remove a pod if its disruption budget allows it. It asks once: the caller handles a
// refusal, for which apierrors.IsTooManyRequests is true, whatever time to wait the refusal names.
func (c *Client) Evict(ctx context.Context, namespace, pod string, opts metav1.DeleteOptions) error {
	err := c.PolicyV1().RESTClient().Post().AbsPath(
		"/api/v1",
	).Namespace(
		namespace,
	).Resource(
		"pods",
	).Name(
		pod,
	).SubResource(
		"eviction",
	).MaxRetries(
		0,
	).
		Body(
			&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod}, DeleteOptions: &opts},
		).Do(
		ctx,
	).Error()
	if err != nil {
		return fmt.Errorf("evicting Pod %s/%s: %w", namespace, pod, err)
	}
	return nil
}

func (c *Client) objects(kind schema.GroupVersionKind, namespace string) dynamic.ResourceInterface {
	gvr, _ := meta.UnsafeGuessKindToResource(kind)
	return c.dynamic.Resource(gvr).Namespace(namespace)
}

// SecretNames lists the names of all Secrets in a namespace, without their contents.
func (c *Client) SecretNames(ctx context.Context, namespace string) ([]string, error) {
	if c.metadata == nil { // the client was not made from a configuration
		list, err := c.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("listing the names of the Secrets in %s: %w", namespace, err)
		}
		var names []string
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names, nil
	}
	list, err := c.metadata.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing the names of the Secrets in %s: %w", namespace, err)
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names, nil
}

// Found turns the error of a Get into whether the object exists. It returns any error except "not found".
func Found(err error) (bool, error) {
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func objectName(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}
