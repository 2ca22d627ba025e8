package lifecycle

import (
	"context"
	"slices"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// lookTimeout bounds a look at the servers that only serves a preview.
const lookTimeout = 10 * time.Second

// Look sees the servers as a rollout would, for NewPlan. It asks Consul only if Kubernetes reports that every
// server is ready, and not for long. The log indexes of the servers are reduced to their order, so that the
// result stays the same while only the indexes change.
func (d Deployment) Look(ctx context.Context, spec server.Spec) (rollout.World, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return rollout.World{}, err
	}
	if spec.Takeover != nil && spec.Adopt != nil {
		return adoption{d}.look(ctx, spec, token)
	}
	live := Live{
		Kube: d.Kube, Consul: d.Consul, Token: token, ACLs: spec.ACL.Enabled, Desired: server.MaxReplicas,
		NewPods: spec.Update.Strategy == server.NewPods,
	}
	if spec.Established {
		live.Established, live.Version = true, server.ConfigVersion(spec)
	}
	if spec.Resizing {
		live.Storage = &spec.Storage
	}
	w, err := live.Look(ctx)
	if err != nil {
		return rollout.World{}, err
	}
	if w.GossipStage, w.TLSStage, err = (observer{d}).lookStages(ctx, spec); err != nil {
		return rollout.World{}, err
	}
	if spec.TLS.Stage != server.StagePlain {
		w.Certificates = encryption.CertificateDrift(ctx, d.Consul, spec)
	}
	if w.Unsettled == "" && w.CanTransfer {
		if w.Autopilot, err = consul.AutopilotDrift(ctx, d.Consul, token, spec.Autopilot, int(spec.Replicas)); err != nil {
			return rollout.World{}, err
		}
		if spec.Gossip.Stage != server.StagePlain {
			w.Gossip = encryption.KeyringDrift(ctx, d.Consul, token, spec.Gossip, int(spec.Replicas))
		}
	}
	indexes := make([]uint64, 0, len(w.Servers))
	for _, s := range w.Servers {
		indexes = append(indexes, s.LastIndex)
	}
	slices.Sort(indexes)
	for i := range w.Servers {
		w.Servers[i].LastIndex = uint64(slices.Index(indexes, w.Servers[i].LastIndex)) //nolint:gosec // at most 7
	}
	return w, nil
}
