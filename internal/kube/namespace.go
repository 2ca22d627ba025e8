package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// NamespaceContents names what was put into a namespace: every object except those that Kubernetes makes itself
// and those that are deleted with their owner. It also names a kind that cannot be listed, because there may be
// objects of it.
func (c *Client) NamespaceContents(ctx context.Context, namespace string) ([]string, error) {
	lists, err := discovery.ServerPreferredNamespacedResources(c.Discovery())
	var out []string
	if discovery.IsGroupDiscoveryFailedError(err) {
		out = append(out, "objects of kinds that cannot be discovered")
	} else if err != nil {
		return nil, fmt.Errorf("discovering the kinds of objects: %w", err)
	}
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "delete"}}, lists) {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("discovering the kinds of objects: %w", err)
		}
		for _, r := range list.APIResources {
			switch r.Name {
			case "events", "endpoints", "endpointslices":
				continue // made and removed by Kubernetes
			}
			objects, err := c.dynamic.Resource(gv.WithResource(r.Name)).Namespace(namespace).List(ctx, metav1.ListOptions{})
			if apierrors.IsForbidden(err) {
				out = append(out, r.Name+" that may not be listed")
				continue
			}
			if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("listing %s in %s: %w", r.Name, namespace, err)
			}
			for _, o := range objects.Items {
				builtIn := (r.Kind == "ServiceAccount" && o.GetName() == "default") ||
					(r.Kind == "ConfigMap" && (o.GetName() == "kube-root-ca.crt" || o.GetName() == "openshift-service-ca.crt"))
				if !builtIn && len(o.GetOwnerReferences()) == 0 && o.GetDeletionTimestamp() == nil {
					out = append(out, strings.ToLower(r.Kind)+"/"+o.GetName())
				}
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
