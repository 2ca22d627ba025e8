package lifecycle

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// relabelSecrets gives the Secrets of the cluster, and the ConfigMap with the certificate authority, the labels that are declared for
// every object, and removes those that were declared before. It also relabels the objects of token reviewers.
func relabelSecrets(ctx context.Context, c *consul.Cluster, former map[string]string) error {
	declared, err := c.DeclaredLabels(ctx)
	if err != nil {
		return err
	}
	owner := labels.SelectorFromSet(map[string]string{server.LabelManagedBy: server.ManagedBy, server.LabelInstance: c.Name})
	secrets, err := c.Kube.CoreV1().Secrets(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: owner.String()})
	if err != nil {
		return fmt.Errorf("listing the Secrets of %s: %w", c.ID(), err)
	}
	options := metav1.PatchOptions{FieldManager: server.ManagedBy}
	for i := range secrets.Items {
		s := &secrets.Items[i]
		patch := server.RelabelPatch(s.Labels, former, declared)
		if patch == nil {
			continue
		}
		if method, ok := server.ReviewedAuthMethod(c.Namespace, c.Name, s); ok {
			if err := consulacl.NewTokenReviewer(c, method).Relabel(ctx); err != nil {
				return err
			}
			continue
		}
		_, err := c.Kube.CoreV1().Secrets(c.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, options)
		if _, err := kube.Found(err); err != nil {
			return fmt.Errorf("labeling Secret %s/%s: %w", c.Namespace, s.Name, err)
		}
	}
	configMaps := c.Kube.CoreV1().ConfigMaps(c.Namespace)
	ca, err := configMaps.Get(ctx, server.CAName(c.Name), metav1.GetOptions{})
	found, err := kube.Found(err)
	if err == nil && found && server.Owns(c.Name, ca.Labels) {
		if patch := server.RelabelPatch(ca.Labels, former, declared); patch != nil {
			_, err = configMaps.Patch(ctx, ca.Name, types.MergePatchType, patch, options)
		}
	}
	if err != nil {
		return fmt.Errorf("labeling ConfigMap %s/%s: %w", c.Namespace, server.CAName(c.Name), err)
	}
	return nil
}
