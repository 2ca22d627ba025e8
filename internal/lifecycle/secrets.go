package lifecycle

import (
	"context"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// ensureKeys makes sure that the servers of a spec find the gossip keys. It returns a function that removes the Secret if it made
// it. running is the spec of the servers that run, or the zero Spec if none run.
func (d credentials) ensureKeys(ctx context.Context, running, spec server.Spec) (remove, error) {
	if spec.Gossip.Stage == server.StagePlain {
		return nil, nil
	}
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return nil, err
	}
	isNew, err := encryption.EnsureKeyring(ctx, d.Consul, token, spec.Gossip, running.Gossip.Stage != server.StagePlain)
	if !isNew {
		return nil, err
	}
	return func(ctx context.Context) error { return encryption.DeleteKeyring(ctx, d.Consul) }, err
}

// ensureCertificates is ensureKeys for the certificates.
func (d credentials) ensureCertificates(ctx context.Context, running, spec server.Spec) (remove, error) {
	if spec.TLS.Stage == server.StagePlain {
		return nil, nil
	}
	isNew, err := encryption.EnsureCertificates(ctx, d.Consul, spec, running.TLS.Stage != server.StagePlain)
	if !isNew {
		return nil, err
	}
	return func(ctx context.Context) error { return encryption.DeleteCertificates(ctx, d.Consul) }, err
}

// loadCertificates makes servers load their certificates before the rollout waits for them to be
// healthy: they may lack a certificate of the authority of the others, or have one that has
// expired. The rollout has to fix a server that does not load them, and afterRoll checks again.
func (d credentials) loadCertificates(ctx context.Context, spec server.Spec) error {
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return err
	}
	_ = encryption.LoadCertificates(ctx, d.Consul, token, spec)
	return ctx.Err()
}
