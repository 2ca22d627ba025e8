package session

import (
	"context"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Restic returns a client for a repository.
func Restic(
	ctx context.Context,
	clients *Clients,
	cluster string,
	r attr.Repository,
	image string,
	deadline time.Duration,
) (restic.Client, error) {
	namespace, name, err := server.ParseID(cluster)
	if err != nil {
		return restic.Client{}, err
	}
	k, err := clients.Kube(ctx)
	if err != nil {
		return restic.Client{}, err
	}
	c, err := clients.Consul(ctx, namespace, name)
	return restic.Client{Kube: k, Consul: c, Repository: r.Spec(), Image: image, Deadline: deadline}, err
}
