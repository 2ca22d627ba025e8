package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// keepToken stores the management token of former servers, "" if ACLs are off, where those of the cluster find it. It returns a function
// that removes the Secret if it made it.
func (d credentials) keepToken(ctx context.Context, token string) (remove, error) {
	if token == "" {
		return nil, nil
	}
	isNew, err := consulacl.KeepManagementToken(ctx, d.Consul, token)
	if !isNew {
		return nil, err
	}
	return func(ctx context.Context) error { return consulacl.ForgetManagementToken(ctx, d.Consul) }, err
}

// keepKeys is keepToken for the gossip keys. The token may read them.
func (d credentials) keepKeys(ctx context.Context, spec server.Spec, token string) (remove, error) {
	if spec.Gossip.Stage == server.StagePlain {
		return nil, nil
	}
	isNew, err := encryption.KeepKeyring(ctx, d.Consul, token, spec.Gossip, d.Consul.Former(spec.Adopt.StatefulSet))
	if !isNew {
		return nil, err
	}
	return func(ctx context.Context) error { return encryption.DeleteKeyring(ctx, d.Consul) }, err
}

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

func (d credentials) token(ctx context.Context) (string, error) {
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	return token, err
}

func (d credentials) deleteKeys(ctx context.Context) error {
	return encryption.DeleteKeyring(ctx, d.Consul)
}

func (d credentials) deleteCertificates(ctx context.Context) error {
	return encryption.DeleteCertificates(ctx, d.Consul)
}

func (d credentials) deletePublishedCA(ctx context.Context) error {
	return encryption.DeletePublishedCA(ctx, d.Consul)
}

// checkReloads refuses to turn TLS on or off if the servers could not be told to reload between the
// rollouts: the second rollout would then cut off its first server.
func (d credentials) checkReloads(ctx context.Context, before, spec server.Spec) error {
	if !before.Established || !spec.ACL.Enabled || before.TLS.Stage == spec.TLS.Stage {
		return nil
	}
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err == nil {
		_, err = consulacl.VerifyToken(ctx, d.Consul, token)
	}
	if err != nil {
		return fmt.Errorf("turning TLS on or off on servers with ACLs requires a valid management token, and nothing was changed: %w", err)
	}
	return nil
}

// AgentTokensError says that not all servers have accepted their agent tokens, or that servers that were all taken away do not come back
// to do so. No server refuses clients yet: they run what they ran before.
type AgentTokensError struct {
	Err error
	// Explanation is what Kubernetes reports for servers that do not come back (kube.Client.Explain), "" for others.
	Explanation string
}

// Error implements error.
func (e *AgentTokensError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *AgentTokensError) Unwrap() error { return e.Err }

// agentTokensTimeout is how long the servers may take to accept their agent tokens.
const agentTokensTimeout = 30 * time.Second

// renewAgentTokens makes each server accept its agent token again before the first server refuses anything, because a plan cannot be
// sure that the server has it.
func (d credentials) renewAgentTokens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, agentTokensTimeout)
	defer cancel()
	if err := consulacl.RenewAgentTokens(ctx, d.Consul); err != nil {
		return &AgentTokensError{Err: err}
	}
	return nil
}
