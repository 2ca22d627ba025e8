package kube

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Client talks to one Kubernetes cluster. It is safe for concurrent use.
type Client struct {
	kubernetes.Interface
	dynamic      dynamic.Interface
	config       *rest.Config
	fieldManager string
}

// NewClient returns a client whose server-side applies use the field manager.
// It connects to nothing.
func NewClient(config *rest.Config, fieldManager string) (*Client, error) {
	http, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("building the Kubernetes client: %w", err)
	}
	set, err := kubernetes.NewForConfigAndClient(config, http)
	if err != nil {
		return nil, fmt.Errorf("building the Kubernetes client: %w", err)
	}
	dyn, err := dynamic.NewForConfigAndClient(config, http)
	if err != nil {
		return nil, fmt.Errorf("building the Kubernetes client: %w", err)
	}
	return &Client{Interface: set, dynamic: dyn, config: config, fieldManager: fieldManager}, nil
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

// Apply creates or changes an object by server-side apply with the client's
// field manager. Fields that another manager changed are taken back: the caller
// has made sure that the object is its own. fields holds apiVersion, kind,
// metadata and what is to be set, no status.
func (c *Client) Apply(ctx context.Context, fields map[string]any) error {
	u := &unstructured.Unstructured{Object: fields}
	gvr, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	objects := c.dynamic.Resource(gvr).Namespace(u.GetNamespace())
	apply := func() error {
		_, err := objects.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: c.fieldManager, Force: true})
		return err
	}
	err := apply()
	if apierrors.IsInvalid(err) {
		// Another manager may have changed the very key by which a list is merged,
		// such as the number of a Service's port: its element is then taken for a
		// second one. A merge patch replaces lists whole.
		body, encodeErr := json.Marshal(fields)
		if encodeErr != nil {
			return fmt.Errorf("encoding %s %s: %w", u.GetKind(), u.GetName(), encodeErr)
		}
		if _, patchErr := objects.Patch(ctx, u.GetName(), types.MergePatchType, body, metav1.PatchOptions{FieldManager: c.fieldManager}); patchErr == nil {
			err = apply()
		}
	}
	if err != nil {
		return fmt.Errorf("applying %s %s: %w", u.GetKind(), objectName(u.GetNamespace(), u.GetName()), err)
	}
	return nil
}

// Found turns the error of a Get into whether the object exists; any error but
// "not found" is returned.
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
