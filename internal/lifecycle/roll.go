package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// serverTimeout is how long one server may take, 0 for a create, which has its own timeout.
func serverTimeout(spec server.Spec) time.Duration {
	if spec.Creating {
		return 0
	}
	return spec.Update.ServerTimeout
}

// settle runs the rollout until all servers are healthy voters that run what was applied, gives new
// servers their agent tokens, and records that the cluster is established.
func (d Deployment) settle(ctx context.Context, spec server.Spec, desired int, limit time.Duration) error {
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return d.unsettled(ctx, err, spec)
	}
	live := Live{
		Kube: d.Kube, Consul: d.Consul, Desired: desired, Token: token, ACLs: spec.ACL.Enabled, Began: d.Began,
		Version: server.ConfigVersion(spec), Storage: &spec.Storage, ByOthers: spec.Update.Strategy == server.OnDelete,
		Patience: leaderlessFor(spec.Performance),
	}
	live.Declare = func(ctx context.Context) error {
		told := spec
		told.Declared = int32(desired) //nolint:gosec // at most 7
		if cmp.Or(spec.Declared, spec.Replicas) == told.Declared {
			return nil
		}
		if _, err := applyObjects(ctx, d.Kube, server.Set{Config: server.Objects(told).Config}, server.Set{}); err != nil {
			return err
		}
		spec = told
		return nil
	}
	if spec.Established { // the servers of a first start are voters at once
		live.Established, live.Soak = true, consul.Soak
		if live.PauseAt, err = d.pauseAt(ctx, live, spec.Update); err != nil {
			return d.unsettled(ctx, err, spec)
		}
	}
	for {
		err := rollout.Run(ctx, live, loop(limit, func(a rollout.Action) {
			_ = d.markData(ctx, spec.Established) // the progress of the rollout; only at its end does this have to succeed
			d.report(ctx, a)
		}))
		if paused := (*rollout.PausedError)(nil); errors.As(err, &paused) {
			return paused
		}
		if err == nil {
			err = d.markData(ctx, true)
		}
		if err != nil {
			return d.unsettled(ctx, err, spec)
		}
		if err = d.afterRoll(ctx, spec, token, desired); err == nil {
			break
		}
		// If a server went away meanwhile, wait for it. Any other failure remains.
		if w, lookErr := live.Look(ctx); lookErr != nil || rollout.Next(w).Verb == rollout.Done {
			return d.unsettled(ctx, err, spec)
		}
	}
	if spec.Resizing {
		if err := d.markResized(ctx); err != nil {
			return d.unsettled(ctx, err, spec)
		}
	}
	if err := live.Declare(ctx); err != nil {
		return d.unsettled(ctx, err, spec)
	}
	if spec.Established && len(spec.FormerConfig) == 0 {
		return nil
	}
	former, err := d.formerConfig(ctx, spec, server.Objects(spec))
	if err != nil {
		return d.unsettled(ctx, err, spec)
	}
	spec.Established, spec.FormerConfig = true, former
	if _, err := applyObjects(ctx, d.Kube, server.Set{Config: server.Objects(spec).Config}, server.Set{}); err != nil {
		return d.unsettled(ctx, err, spec)
	}
	return nil
}

// formerConfig is the configuration of the servers that do not run a spec yet
// (server.FormerConfig).
func (d Deployment) formerConfig(ctx context.Context, spec server.Spec, live server.Set) (map[string]string, error) {
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return nil, err
	}
	return server.FormerConfig(spec, live.Config, pods), nil
}

// afterRoll does what requires rights in Consul: it sets the agent tokens of new servers, the
// configuration of autopilot, the gossip keys, and the certificates. Before the bootstrap, and if
// the token is lost, there are no such rights. The bootstrap makes up for the first two, and a plan
// shows the others.
func (d Deployment) afterRoll(ctx context.Context, spec server.Spec, token string, desired int) error {
	if spec.ACL.Enabled {
		if _, err := consulacl.VerifyToken(ctx, d.Consul, token); errors.Is(err, consulacl.ErrSecretLost) {
			return nil
		} else if err != nil {
			return err
		}
		if err := consulacl.SetAgentTokens(ctx, d.Consul, token); err != nil {
			return err
		}
	}
	if err := d.Consul.SetAutopilot(ctx, token, spec.Autopilot, desired); err != nil {
		return err
	}
	if spec.Gossip.Stage != server.StagePlain {
		if err := encryption.SettleKeyring(ctx, d.Consul, token, spec.Gossip, desired); err != nil {
			return err
		}
	}
	if spec.TLS.Stage == server.StagePlain {
		return nil
	}
	return encryption.SettleCertificates(ctx, d.Consul, token, spec)
}

// pauseAt is World.PauseAt of a rollout that starts now.
func (d Deployment) pauseAt(ctx context.Context, live Live, u server.Update) (int, error) {
	if u.PauseAfter == 0 {
		return 0, nil
	}
	live.Version = "" // there is no need to ask the agents
	var at int
	err := kube.Wait(ctx, "the StatefulSet controller to see the change", interval, func(ctx context.Context) (string, error) {
		w, err := live.Look(ctx)
		if err != nil || !w.Observed {
			return "it has not seen the change yet", err
		}
		at = rollout.PauseAt(w, u)
		return "", nil
	})
	return at, err
}

func (d Deployment) unsettled(ctx context.Context, err error, spec server.Spec) error {
	// The context has usually ended; the explanation has its own timeout.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	_ = d.markData(ctx, spec.Established) // a server may have written data and be unhealthy
	return &UnsettledError{
		Err:         err,
		Explanation: d.Kube.Explain(ctx, awaitedServers(d.Consul, d.Began)),
	}
}
