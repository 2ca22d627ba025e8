package encryption

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// annotationSecrets on a pod is the version of a Secret that it mounts.
const annotationSecrets = server.ManagedBy + "/secrets"

// ownSecret reads a Secret of the cluster, nil if it does not exist.
func ownSecret(ctx context.Context, c *consul.Cluster, name string) (*corev1.Secret, error) {
	s, err := c.Kube.CoreV1().Secrets(c.Namespace).Get(ctx, name, metav1.GetOptions{})
	found, err := kube.Found(err)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading Secret %s/%s: %w", c.Namespace, name, err)
	case !found:
		return nil, nil //nolint:nilnil // as documented
	case !server.Owns(c.Name, s.Labels):
		return nil, fmt.Errorf(
			"the Secret %s/%s exists, and this provider did not create it for this cluster: rename it, or delete it if nothing uses it",
			c.Namespace,
			name,
		)
	}
	return s, nil
}

// writeSecret creates a Secret, or changes it as it was read: it sets exactly this data, and removes
// annotations that are nil.
func writeSecret(
	ctx context.Context,
	c *consul.Cluster,
	read *corev1.Secret,
	name string,
	labels map[string]string,
	annotations map[string]*string,
	data map[string][]byte,
) (*corev1.Secret, error) {
	secrets := c.Kube.CoreV1().Secrets(c.Namespace)
	var s *corev1.Secret
	labels, err := c.Labels(ctx, labels)
	if err != nil {
		return nil, err
	}
	if read == nil {
		s = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: c.Namespace, Labels: labels, Annotations: map[string]string{}},
			Data:       data,
		}
		for k, v := range annotations {
			if v != nil {
				s.Annotations[k] = *v
			}
		}
		s, err = secrets.Create(ctx, s, metav1.CreateOptions{FieldManager: server.ManagedBy})
	} else {
		all := map[string]*[]byte{}
		for k := range read.Data {
			all[k] = nil
		}
		for k, v := range data {
			all[k] = &v
		}
		patch, _ := json.Marshal(map[string]any{ // strings and bytes always encode
			"metadata": map[string]any{"resourceVersion": read.ResourceVersion, "labels": labels, "annotations": annotations},
			"data":     all,
		})
		s, err = secrets.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: server.ManagedBy})
	}
	if err != nil {
		return nil, fmt.Errorf("writing Secret %s/%s: %w", c.Namespace, name, err)
	}
	return s, nil
}

// deleteOwnSecret deletes a Secret of the cluster, if there is one. It keeps one that does not belong to the
// cluster.
func deleteOwnSecret(ctx context.Context, c *consul.Cluster, name string) error {
	secrets := c.Kube.CoreV1().Secrets(c.Namespace)
	s, err := secrets.Get(ctx, name, metav1.GetOptions{})
	found, err := kube.Found(err)
	if err == nil && found && server.Owns(c.Name, s.Labels) {
		_, err = kube.Found(secrets.Delete(ctx, name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(s.UID))}))
	}
	if err != nil {
		return fmt.Errorf("deleting Secret %s/%s: %w", c.Namespace, name, err)
	}
	return nil
}

// touchPods changes an annotation of every server's pod, so that its kubelet updates the mounted Secret at
// once.
func touchPods(ctx context.Context, c *consul.Cluster, version string) error {
	pods, err := c.Pods(ctx)
	if err != nil {
		return err
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, annotationSecrets, version)
	for i := range pods {
		_, err := c.Kube.CoreV1().Pods(
			c.Namespace,
		).Patch(
			ctx,
			pods[i].Name,
			types.MergePatchType,
			patch,
			metav1.PatchOptions{FieldManager: server.ManagedBy},
		)
		if _, err := kube.Found(err); err != nil {
			return fmt.Errorf("annotating pod %s: %w", pods[i].Name, err)
		}
	}
	return nil
}
