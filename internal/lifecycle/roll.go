package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
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

// roll brings the servers of a cluster to a spec that was applied.
type roll struct {
	ports
	spec    server.Spec
	desired int
	// limit is the longest time without progress, 0 for no limit.
	limit time.Duration
	token string
	live  Live
}

// newRoll prepares a roll to a desired number of servers. Like the methods of a roll, it returns an *UnsettledError.
func newRoll(ctx context.Context, p ports, spec server.Spec, desired int, limit time.Duration) (*roll, error) {
	token, err := p.credentials.token(ctx)
	if err != nil {
		return nil, p.servers.unsettled(ctx, err, spec)
	}
	r := &roll{ports: p, spec: spec, desired: desired, limit: limit, token: token}
	r.live = Live{
		Desired: desired, Token: token, ACLs: spec.ACL.Enabled,
		Version: server.ConfigVersion(spec), Storage: &spec.Storage, ByOthers: spec.Update.Strategy == server.OnDelete,
		NewPods:  spec.Update.Strategy == server.NewPods,
		Patience: leaderlessFor(spec.Performance), Declare: r.declare,
	}
	if spec.Established { // the servers of a first start are voters at once
		r.live.Established, r.live.Soak = true, consul.Soak
		if r.live.PauseAt, err = r.pauseAt(ctx); err != nil {
			return nil, p.servers.unsettled(ctx, err, spec)
		}
	}
	return r, nil
}

// settle is all of a roll: it runs the rollout until all servers are healthy voters that run what was applied, gives new servers their
// agent tokens, and records what was done.
func settle(ctx context.Context, p ports, spec server.Spec, desired int, limit time.Duration) error {
	r, err := newRoll(ctx, p, spec, desired, limit)
	if err != nil {
		return err
	}
	if err := r.run(ctx); err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	return r.record(ctx)
}

// run reloads, restarts, adds, and removes servers. It also returns a *rollout.PausedError.
func (r *roll) run(ctx context.Context) error {
	err := rollout.Run(ctx, r.servers.rollable(r.live), loop(r.clock, r.limit, func(a rollout.Action) {
		_ = r.objects.markData(ctx, r.spec.Established) // the progress of the rollout; only at its end does this have to succeed
		r.report(ctx, a)
	}))
	if paused := (*rollout.PausedError)(nil); errors.As(err, &paused) {
		return paused
	}
	if err == nil {
		err = r.objects.markData(ctx, true)
	}
	if err != nil {
		return r.servers.unsettled(ctx, err, r.spec)
	}
	return nil
}

// settle does what requires rights in Consul. If a server went away meanwhile, it runs the rollout again. Any other failure remains.
func (r *roll) settle(ctx context.Context) error {
	for {
		err := r.credentials.afterRoll(ctx, r.spec, r.token, r.desired)
		if err == nil {
			return nil
		}
		if w, lookErr := r.servers.rollable(r.live).Look(ctx); lookErr != nil || rollout.Next(w).Verb == rollout.Done {
			return r.servers.unsettled(ctx, err, r.spec)
		}
		if err := r.run(ctx); err != nil {
			return err
		}
	}
}

// declare makes servers that stop compare with the desired number of servers.
func (r *roll) declare(ctx context.Context) error {
	told := r.spec
	told.Declared = int32(r.desired) //nolint:gosec // at most 7
	former := cmp.Or(r.spec.Declared, r.spec.Replicas)
	if former == told.Declared {
		return nil
	}
	if _, err := r.objects.apply(ctx, server.Set{Config: server.Objects(told).Config}, server.Set{}); err != nil {
		return err
	}
	if err := r.objects.tellServers(ctx, former, told.Declared); err != nil {
		return err
	}
	r.spec = told
	return nil
}

// record records that the volumes are as declared, how many servers there are, that the cluster is established, and which of its
// servers still run a former configuration. The record of the first leader may have been lost since the beginning.
func (r *roll) record(ctx context.Context) error {
	if r.spec.Resizing {
		if err := r.objects.markResized(ctx); err != nil {
			return r.servers.unsettled(ctx, err, r.spec)
		}
	}
	if err := r.declare(ctx); err != nil {
		return r.servers.unsettled(ctx, err, r.spec)
	}
	live, err := r.objects.read(ctx)
	if err != nil {
		return r.servers.unsettled(ctx, err, r.spec)
	}
	if live.IsEstablished() && len(r.spec.FormerConfig) == 0 {
		return nil
	}
	former, err := r.objects.formerConfig(ctx, r.spec, server.Objects(r.spec))
	if err != nil {
		return r.servers.unsettled(ctx, err, r.spec)
	}
	r.spec.Established, r.spec.FormerConfig = true, former
	if _, err := r.objects.apply(ctx, server.Set{Config: server.Objects(r.spec).Config}, server.Set{}); err != nil {
		return r.servers.unsettled(ctx, err, r.spec)
	}
	return nil
}

// startServers brings back the servers with what was applied last. What else there is to do is part of the change. The errors are those of
// what is to follow: nothing that is declared was changed.
func (op *operation) startServers(ctx context.Context, spec server.Spec) error {
	r, err := newRoll(ctx, op.ports, spec, int(spec.Replicas), spec.Update.ServerTimeout)
	if err == nil {
		r.live.Version, r.live.Storage = "", nil
		err = r.run(ctx)
	}
	if err == nil {
		return nil
	}
	explanation := ""
	if unsettled := (*UnsettledError)(nil); errors.As(err, &unsettled) {
		err, explanation = unsettled.Err, unsettled.Explanation
	}
	err = fmt.Errorf("the servers, which were all taken away, do not come back: %w", err)
	if rollout.TakesSnapshot(spec, op.wanted.Spec) {
		return &SnapshotError{Err: err, Explanation: explanation}
	}
	return &AgentTokensError{Err: err, Explanation: explanation}
}

// rollServers brings the servers to what was applied.
func (op *operation) rollServers(ctx context.Context) error {
	limit := op.applied.Update.ServerTimeout
	if op.wanted.Create { // it has its own timeout
		limit = 0
	}
	var err error
	if op.roll, err = newRoll(ctx, op.ports, *op.applied, int(op.wanted.Spec.Replicas), limit); err == nil {
		err = op.roll.run(ctx)
	}
	return op.rollBackIfStuck(ctx, err)
}

// formerConfig is the configuration of the servers that do not run a spec yet
// (server.FormerConfig).
func (d objects) formerConfig(ctx context.Context, spec server.Spec, live server.Set) (map[string]string, error) {
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
func (d credentials) afterRoll(ctx context.Context, spec server.Spec, token string, desired int) error {
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
	if err := consul.SetAutopilot(ctx, d.Consul, token, spec.Autopilot, desired); err != nil {
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
func (r *roll) pauseAt(ctx context.Context) (int, error) {
	live, u := r.live, r.spec.Update
	if u.PauseAfter == 0 {
		return 0, nil
	}
	live.Version = "" // there is no need to ask the agents
	var at int
	err := r.clock.wait(ctx, "the StatefulSet controller to see the change", func(ctx context.Context) (string, error) {
		w, err := r.servers.rollable(live).Look(ctx)
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
	_ = volumes{d}.markData(ctx, spec.Established) // a server may have written data and be unhealthy
	return &UnsettledError{
		Err:         err,
		Explanation: d.Kube.Explain(ctx, awaitedServers(d.Consul, d.Began)),
	}
}
