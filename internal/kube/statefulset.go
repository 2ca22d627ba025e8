package kube

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReadStatefulSet returns a StatefulSet, nil if it does not exist.
func ReadStatefulSet(ctx context.Context, c *Client, namespace, name string) (*appsv1.StatefulSet, error) {
	sts, err := c.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
	found, err := Found(err)
	if err != nil {
		return nil, fmt.Errorf("reading the StatefulSet %s/%s: %w", namespace, name, err)
	}
	if !found {
		return nil, nil //nolint:nilnil // as documented
	}
	return sts, nil
}
