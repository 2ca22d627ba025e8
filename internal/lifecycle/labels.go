package lifecycle

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// relabel gives the existing objects of a cluster that server.Objects does not render the labels that are declared for every
// object. It runs before the StatefulSet is applied, which records the labels: after an interruption, the next update finds the
// same former labels. The update relabels backup schedules at its end (restic.Refresh).
func (d objects) relabel(ctx context.Context, former, declared map[string]string) error {
	if err := relabelSecrets(ctx, d.Consul, former); err != nil {
		return err
	}
	claims := d.Kube.CoreV1().PersistentVolumeClaims(d.Consul.Namespace)
	list, err := claims.List(ctx, owned(d.Consul.Name))
	if err != nil {
		return fmt.Errorf("listing the volume claims of %s: %w", d.Consul.ID(), err)
	}
	for i := range list.Items {
		c := &list.Items[i]
		patch := server.RelabelPatch(c.Labels, former, declared)
		if patch == nil || c.DeletionTimestamp != nil {
			continue
		}
		_, err := claims.Patch(ctx, c.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: server.ManagedBy})
		if _, err := kube.Found(err); err != nil {
			return fmt.Errorf("labeling volume claim %s/%s: %w", c.Namespace, c.Name, err)
		}
	}
	return d.relabelLease(ctx, former, declared)
}

// relabelLease removes former labels from the Lease. It has got the declared labels when it was
// acquired.
func (d objects) relabelLease(ctx context.Context, former, declared map[string]string) error {
	leases := d.Kube.CoordinationV1().Leases(d.Consul.Namespace)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { // it is renewed meanwhile
		lease, err := leases.Get(ctx, server.LeaseName(d.Consul.Name), metav1.GetOptions{})
		found, err := kube.Found(err)
		if err != nil || !found {
			return err
		}
		changed := false
		for k := range former {
			_, kept := declared[k]
			if _, has := lease.Labels[k]; has && !kept {
				delete(lease.Labels, k)
				changed = true
			}
		}
		if changed {
			_, err = leases.Update(ctx, lease, metav1.UpdateOptions{FieldManager: server.ManagedBy})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("labeling the Lease of %s: %w", d.Consul.ID(), err)
	}
	return nil
}

// relabelSecrets gives the Secrets of the cluster, and the ConfigMap with the certificate authority, the labels that are declared for
// every object, and removes those that were declared before. It also relabels the objects of token reviewers.
func relabelSecrets(ctx context.Context, c *consul.Cluster, former map[string]string) error {
	declared, err := c.DeclaredLabels(ctx)
	if err != nil {
		return err
	}
	secrets, err := c.Kube.CoreV1().Secrets(c.Namespace).List(ctx, owned(c.Name))
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
