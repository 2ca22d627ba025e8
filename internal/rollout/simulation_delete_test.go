package rollout

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// simDelete carries out the phases of a delete as lifecycle.Deployment does.
type simDelete struct{ *simOperator }

// destroy deletes the cluster.
func (s *simCluster) destroy(spec server.Spec) error {
	o := simDelete{&simOperator{simCluster: s, wanted: Wanted{Spec: spec}, known: &spec}}
	if err := Operate(context.Background(), o, DeletePhases); err != nil {
		return err
	}
	return Operate(context.Background(), o, FinalPhases)
}

// Observe implements Operator.
func (o simDelete) Observe(ctx context.Context) (Doomed, error) {
	s := o.simCluster
	seen, err := o.simOperator.Observe(ctx)
	return Doomed{
		Running: seen.Running, Applied: s.sts.exists, Orphaned: !s.sts.exists && (s.config.exists || s.podCount() > 0),
		KeepsData: o.wanted.Spec.Storage.WhenDeleted != server.Delete,
	}, err
}

// Do implements Operator.
func (o simDelete) Do(ctx context.Context, p Phase) error {
	o.killable()
	if err := o.phase(ctx, p); err != nil {
		return err
	}
	o.killable()
	return nil
}

func (o simDelete) phase(ctx context.Context, p Phase) error {
	s := o.simCluster
	switch p.Kind {
	case AttachPods:
		return o.simOperator.phase(ctx, p)
	case MarkData:
		s.markData()
	case StopServers:
		return o.stop()
	case DeleteJobs:
		s.job = 0
	case DeleteData:
		s.keys, s.certs = 0, 0
		for i := range s.claims {
			s.killable()
			s.claims[i] = simClaim{}
		}
	case DeleteObjects:
		s.config = simConfig{}
		s.killable()
		s.routed = false
	case DeleteStatefulSet:
		s.sts = simSet{}
	default: // the others change nothing that the model has
	}
	return nil
}

// stop stops the servers, one at a time if their volumes are kept.
func (o simDelete) stop() error {
	s, left := o.simCluster, 0
	if o.wanted.Spec.Storage.WhenDeleted != server.Delete {
		left = s.sts.replicas
	}
	for ; left >= 0; left-- {
		s.patch(func(spec *server.Spec) { spec.Storage.WhenScaled = server.Retain })
		s.sts.replicas, s.sts.seen = left, s.now+ticksToSee
		s.killable()
		if err := s.await(simTimeout, func() bool { return s.podsBeyond(left) == 0 }); err != nil {
			return err
		}
	}
	return nil
}

// podsBeyond is the number of pods whose ordinal is not less than n.
func (s *simCluster) podsBeyond(n int) (beyond int) {
	for i := n; i < len(s.pods); i++ {
		if s.pods[i].exists {
			beyond++
		}
	}
	return beyond
}

// destroyed deletes a cluster, and returns what is wrong then. A new cluster starts with the data that is kept.
func (x *simulation) destroyed(s *simCluster, spec server.Spec) error {
	x.runs.Add(1)
	had, keys := s.claims, s.keys
	if err := s.destroy(spec); err != nil {
		return err
	}
	if s.sts.exists || s.config.exists || s.routed || s.podCount() > 0 {
		return errors.New("something is left")
	}
	for i := range s.claims {
		c := &s.claims[i]
		if keeps := spec.Storage.WhenDeleted != server.Delete; c.exists != (keeps && had[i].exists) || c.data != c.marked {
			return fmt.Errorf("volume %d exists: %v, has data: %v, marked: %v", i, c.exists, c.data, c.marked)
		}
	}
	if spec.Storage.WhenDeleted == server.Delete {
		return nil
	}
	if s.keys != keys {
		return errors.New("the keys are gone")
	}
	s.point = nil
	err := s.apply(simEntry{after: spec, applies: 3}, true)
	if s.broken != "" {
		return fmt.Errorf("a new cluster does not start with the data that is kept: %s", s.broken)
	}
	return err
}

// A delete that is killed anywhere is resumed by the next one. Nothing is left but the data that is kept, with which a new cluster starts.
func TestOperate_aDeleteThatIsKilledAnywhere(t *testing.T) {
	t.Parallel()
	x := newSimulation()
	discardAll := func(s *server.Spec) { s.Storage.WhenDeleted = server.Delete }
	changing := func(change specChange, at int) func(*simCluster) { // a change that is killed at a point
		return func(s *simCluster) {
			was, _ := x.created(new(simSpec(3)))
			*s = *was
			x.halfWay(entry("", simSpec(3), change), at)(s)
		}
	}
	for name, tt := range map[string]struct {
		spec   server.Spec
		change func(*simCluster)
	}{
		"one server":            {simSpec(1), nil},
		"three servers":         {simSpec(3), nil},
		"five servers":          {simSpec(5), nil},
		"seven servers":         {simSpec(7), nil},
		"encrypted":             {simSpec(3, gossip, tls), nil},
		"data that is deleted":  {simSpec(5, gossip, tls, discardAll), nil},
		"removed volumes":       {simSpec(3, discards), nil},
		"no StatefulSet":        {simSpec(3), orphan},
		"a server restarts":     {simSpec(3), func(s *simCluster) { s.delete(s.follower()) }},
		"a server is not ready": {simSpec(3), func(s *simCluster) { s.pods[s.follower()].sick = true }},
		"somebody scaled it":    {simSpec(5), func(s *simCluster) { s.byHand(3) }},
		"a scale-up was killed": {simSpec(5), changing(scale(5), 20)},
		"a create was killed":   {simSpec(3), func(s *simCluster) { *s = *x.empty(); x.halfWay(simEntry{after: simSpec(3)}, 6)(s) }},
		"an upgrade was killed": {simSpec(3, upgrade), changing(upgrade, 20)},
		"there is no cluster":   {simSpec(3), func(s *simCluster) { *s = *x.empty() }},
		"all of it was deleted": {simSpec(3, discardAll), func(s *simCluster) { _ = s.destroy(simSpec(3, discardAll)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := x.created(&tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				tt.change(s)
			}
			var killed []*simCluster
			s.point = func(s *simCluster) {
				if c := *s; len(killed) == 0 || killed[len(killed)-1].simState != c.simState {
					c.point = nil
					killed = append(killed, &c)
				}
			}
			if err := x.destroyed(s, tt.spec); err != nil {
				t.Fatalf("not killed: %v\n%s", err, s.dump())
			}
			for k, c := range killed {
				at := c.now
				c.ticks(k % 5 * 3)
				if err := x.destroyed(c, tt.spec); err != nil {
					t.Errorf("killed at point %d, tick %d: %v\n%s", k, at, err, c.dump())
				}
			}
		})
	}
}
