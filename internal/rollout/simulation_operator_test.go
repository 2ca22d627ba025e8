package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Errors of the simulated operations.
var (
	errSimRefused = errors.New("refused, and nothing was changed")
	errSimTokens  = errors.New("an agent token is not renewed, and nothing was changed")
	errSimTimeout = errors.New("everything was applied, but it did not settle in time")
)

// simTimeout is how many ticks a wait takes at most.
const simTimeout = 300

// simOperator carries out the phases of an operation as lifecycle.Deployment does.
type simOperator struct {
	*simCluster
	wanted Wanted
	// known is what was declared before, as the state has it.
	known *server.Spec
	// told is how many servers were declared to those that run when they were observed.
	told int
}

func (s *simCluster) killable() {
	if s.point != nil {
		s.point(s)
	}
}

// await lets time pass until nothing is missing.
func (s *simCluster) await(limit int, done func() bool) error {
	for range limit {
		if done() {
			return nil
		}
		s.tick()
		if s.now%4 == 0 {
			s.killable()
		}
	}
	return errSimTimeout
}

// fire lets the faults happen that are due.
func (s *simCluster) fire() {
	for s.fired < len(s.faults) && s.faults[s.fired].after <= s.actions {
		f := s.faults[s.fired]
		s.fired++
		s.disturbed = s.disturbed || !f.keeps
		s.atLeast = min(s.atLeast, 1)
		f.do(s)
	}
}

// applied is what server.Parse reads.
func (s *simCluster) applied() server.Spec {
	spec := *s.sts.spec
	spec.Replicas, spec.Declared = int32(s.sts.replicas), int32(s.config.servers) //nolint:gosec // at most 7
	spec.Established = s.config.exists && s.config.established
	spec.FormerConfig = nil
	if s.config.former {
		spec.FormerConfig = map[string]string{"former": ""}
	}
	return spec
}

// Observe implements Operator.
func (o *simOperator) Observe(context.Context) (Observed, error) {
	s := o.simCluster
	o.told = cmp.Or(s.config.servers, s.sts.replicas)
	seen := Observed{Applied: s.sts.exists, Adopting: s.sts.exists && s.sts.spec.Takeover != nil}
	pods := s.podCount()
	switch {
	case o.wanted.BeginsAdoption(seen):
		return seen, nil
	case seen.Adopting && o.wanted.Create && !s.sts.spec.Creating:
		return seen, fmt.Errorf("%w: the cluster exists", errSimRefused)
	case seen.Adopting:
		seen.Running = s.applied()
		return seen, nil
	case s.sts.exists:
		seen.Running = s.applied()
	case pods > 0 || (s.config.exists && !o.wanted.Create):
		seen.Running = *o.known
	default: // volumes of an earlier cluster may have data
		seen.Running.Established = s.established()
		seen.Running.Gossip.Stage, seen.Running.TLS.Stage = o.wanted.Spec.Gossip.Stage, o.wanted.Spec.TLS.Stage
		return seen, nil
	}
	spec := &seen.Running
	spec.Established = s.established()
	var gossip, tls []server.Stage
	newest := -1
	for i := range s.pods {
		if p := &s.pods[i]; p.exists && !s.isFormer(i) {
			g, t := s.podStages(i)
			gossip, tls = append(gossip, g), append(tls, t)
			if newest < 0 || p.uid > s.pods[newest].uid {
				newest = i
			}
		}
	}
	if !s.sts.exists {
		spec.Creating, spec.Replicas, spec.Storage = !spec.Established, 0, o.wanted.Spec.Storage
		spec.UpgradeSnapshot = cmp.Or(s.config.snapshot, spec.UpgradeSnapshot)
		for i := range s.pods {
			if s.pods[i].exists && !s.isFormer(i) {
				spec.Replicas = int32(i + 1)
			}
		}
		if newest >= 0 {
			p := &s.pods[newest]
			spec.Version, spec.Image = p.next().Version, p.next().Image
			spec.Gossip.Stage, spec.TLS.Stage = s.podStages(newest)
		}
	}
	spec.Gossip.Stage = server.RunningStage(spec.Gossip.Stage, gossip)
	spec.TLS.Stage = server.RunningStage(spec.TLS.Stage, tls)
	return seen, nil
}

// podStages reads the stages from the configuration that a pod was started with, or asks its agent.
func (s *simCluster) podStages(i int) (gossip, tls server.Stage) {
	p := &s.pods[i]
	if gossip, tls, ok := s.config.stages.of(s.digests.of(p.next()).config); ok {
		return gossip, tls
	}
	return p.gossip, p.tls
}

// Exclusively implements Operator. There is no other operation.
func (o *simOperator) Exclusively(ctx context.Context, do func(context.Context) error) error {
	return do(ctx)
}

// Do implements Operator.
func (o *simOperator) Do(ctx context.Context, p Phase) error {
	o.killable()
	if err := o.phase(ctx, p); err != nil {
		return err
	}
	o.killable()
	return nil
}

func (o *simOperator) phase(ctx context.Context, p Phase) error {
	s, desired := o.simCluster, int(o.wanted.Spec.Replicas)
	switch p.Kind {
	case RecoverQuorum:
		return o.recover(ctx, p.Steps[0].On)
	case AwaitRestore, CancelRestore:
		if s.job == 0 {
			return nil
		}
		err := s.await(simTimeout, func() bool { return s.now >= s.job })
		if p.Kind == CancelRestore {
			s.job = 0
		}
		return err
	case CheckChange:
		return o.check(p.Spec)
	case CheckAdoption:
		return o.checkAdoption(p.Spec)
	case KeepSecrets:
		if p.Spec.Gossip.Stage != server.StagePlain {
			s.keys = s.former.keys
		}
	case StartServers:
		return o.roll(ctx, &p.Spec, int(p.Spec.Replicas))
	case RenewAgentTokens:
		if s.leader() < 0 {
			return fmt.Errorf("%w: no leader", errSimTokens)
		}
		if err := s.setTokens(); err != nil {
			return fmt.Errorf("%w: %w", errSimTokens, err)
		}
	case AttachPods:
		s.applyConfig(p.Spec)
		s.killable()
		s.applySet(p.Spec)
		return s.await(simTimeout, func() bool { return s.sts.seen <= s.now })
	case Relabel:
		s.secretLabels = labelsOf(p.Spec.Labels)
		for i := range s.claims {
			s.killable()
			if c := &s.claims[i]; c.exists {
				c.labels = labelsOf(p.Spec.Labels)
			}
		}
	case EnsureKeys:
		if s.keys == 0 {
			s.keys = s.orOfPods(func(p *simPod) int { return p.keys })
		}
	case EnsureCertificates:
		if s.certs == 0 { // the authority of former servers is declared
			s.certs = cmp.Or(s.former.certs, s.orOfPods(func(p *simPod) int { return p.certs }))
		}
	case LoadCertificates:
		s.loadCertificates()
	case TakeSnapshot:
		l := -1
		if err := s.await(120, func() bool { l = s.leader(); return l >= 0 }); err != nil {
			return err
		}
		s.killable()
		snapshot := &server.Snapshot{Version: s.pods[l].spec.Version}
		s.patch(func(spec *server.Spec) { spec.UpgradeSnapshot = snapshot })
		s.killable()
		if s.config.exists {
			s.config.snapshot = snapshot
		}
	case StartVolumes:
		s.growVolumes(&p.Spec)
	case StopServers:
		return o.stop(&p.Spec)
	case ApplyObjects:
		o.apply(p.Spec)
	case AdoptServers:
		return o.adopt(ctx, &p.Spec, desired)
	case DeclareServers:
		s.tell(o.told, int(p.Spec.Declared))
	case RollServers:
		return o.roll(ctx, &p.Spec, desired)
	case SettleServers:
		return o.settle(ctx, &p.Spec, desired)
	case RecordDone:
		o.record(p.Spec, desired)
	case DeleteKeys:
		s.keys = 0
	case DeleteCertificates:
		s.certs = 0
	case RestoreSnapshot:
		return o.restore()
	case RouteClients:
		if s.sts.spec.Origin.Pending() {
			s.breaks("clients reach a cluster whose snapshot is not restored")
		}
		s.routed = true
	default: // the others change nothing that the model has
	}
	return nil
}

// check refuses what lifecycle refuses.
func (o *simOperator) check(after server.Spec) error {
	s := o.simCluster
	before, _ := o.Observe(context.Background())
	running := before.Running
	if o.wanted.Create && s.sts.exists {
		differs := *s.digests.of(&running).ptr() != *s.digests.of(&after).ptr() || running.Replicas != after.Replicas
		if !running.Creating || (running.Established && differs) {
			return fmt.Errorf("%w: the cluster exists", errSimRefused)
		}
	}
	if len(server.Stages(running, after)) > 1 && after.Update.Strategy == server.OnDelete {
		return fmt.Errorf("%w: encryption takes several rollouts", errSimRefused)
	}
	if s.lostToken && after.ACL.Enabled && running.Established && running.TLS.Stage != after.TLS.Stage {
		return fmt.Errorf("%w: TLS takes a token", errSimRefused)
	}
	var started []string
	for i := range s.pods {
		if p := &s.pods[i]; p.exists {
			started = append(started, p.next().Version)
		}
	}
	if _, err := server.CheckUpgrade(server.SortVersions(started), after.Version); err != nil {
		return fmt.Errorf("%w: %w", errSimRefused, err)
	}
	return nil
}

func (d digested) ptr() *digested { return &d }

// orOfPods is what the servers have loaded, or something new.
func (s *simCluster) orOfPods(loaded func(*simPod) int) int {
	for i := range s.pods {
		if s.pods[i].exists && !s.isFormer(i) && loaded(&s.pods[i]) != 0 {
			return loaded(&s.pods[i])
		}
	}
	return s.id()
}

// patch changes the annotations of the StatefulSet.
func (s *simCluster) patch(change func(*server.Spec)) {
	spec := *s.sts.spec
	change(&spec)
	s.sts.spec = &spec
}

// growVolumes is StartVolumes, and the action Grow.
func (s *simCluster) growVolumes(spec *server.Spec) {
	for i := range s.claims {
		c := &s.claims[i]
		if spec.Storage.OnChange != server.RebuildServers && c.exists && i < s.sts.replicas && !c.deleting && c.asked < sizeOf(spec) {
			c.asked, c.grown = sizeOf(spec), s.now
			s.killable()
		}
	}
}

// stop is StopServers.
func (o *simOperator) stop(spec *server.Spec) error {
	s := o.simCluster
	if s.hasBootstrapped() {
		return fmt.Errorf("the servers have just elected a leader: apply again")
	}
	s.sts.replicas, s.sts.seen = 0, s.now+ticksToSee
	s.killable()
	if err := s.await(simTimeout, func() bool { return s.podCount() == 0 }); err != nil {
		return err
	}
	for i := int(spec.Replicas); i < len(s.claims) && spec.Storage.WhenScaled == server.Delete; i++ {
		if !s.claims[i].marked && s.claims[i].made >= s.sts.made {
			s.claims[i] = simClaim{}
		}
	}
	return nil
}

// apply is ApplyObjects.
func (o *simOperator) apply(spec server.Spec) {
	s := o.simCluster
	if s.sts.exists {
		spec.UpgradeSnapshot = s.sts.spec.UpgradeSnapshot
		spec.Resizing = s.sts.spec.Resizing || sizeOf(s.sts.spec) != sizeOf(&spec)
	}
	for i := range s.claims {
		c := &s.claims[i]
		spec.Resizing = spec.Resizing || c.exists && i < s.sts.replicas && (c.deleting || c.asked < sizeOf(&spec) || c.size < sizeOf(&spec))
	}
	s.applyConfig(spec)
	s.killable()
	if spec.Takeover == nil {
		s.routed = !spec.Origin.Pending()
	}
	s.killable()
	if was := s.sts; was.exists && (sizeOf(was.spec) != sizeOf(&spec) || labelsOf(was.spec.Labels) != labelsOf(spec.Labels)) {
		s.sts = simSet{}
		s.killable()
		s.tick()
		again := *was.spec
		again.Storage.Size, again.Resizing, again.Labels = spec.Storage.Size, spec.Resizing, spec.Labels
		s.sts = simSet{exists: true, spec: &again, replicas: was.replicas, seen: s.now + ticksToSee, made: s.now, recovering: was.recovering}
		s.killable()
	}
	s.applySet(spec)
}

// applyConfig applies the ConfigMap.
func (s *simCluster) applyConfig(spec server.Spec) {
	c := simConfig{
		exists: true, established: spec.Established, spec: &spec, servers: int(cmp.Or(spec.Declared, spec.Replicas)), changed: s.now,
		snapshot: s.config.snapshot,
	}
	c.stages.add(s.digests.of(&spec).config, spec.Gossip.Stage, spec.TLS.Stage)
	for i := range s.pods {
		if p := &s.pods[i]; p.exists && !s.isFormer(i) {
			former := s.digests.of(p.next()).config
			if gossip, tls, ok := s.config.stages.of(former); ok && c.stages.add(former, gossip, tls) {
				c.former = true
			}
		}
	}
	s.config = c
}

// applySet applies the StatefulSet.
func (s *simCluster) applySet(spec server.Spec) {
	if !s.sts.exists {
		s.sts = simSet{exists: true, made: s.now}
	}
	s.sts.spec, s.sts.replicas, s.sts.seen = &spec, int(spec.Replicas), s.now+ticksToSee
}

// tell is objects.tellServers. Each server that is told counts as an action, after which there may be a fault.
func (s *simCluster) tell(former, declared int) {
	order := []int{0, 1, 2, 3, 4, 5, 6}
	if l := s.leader(); l >= 0 {
		order = slices.Delete(order, l, l+1)
		if declared > former {
			order = slices.Insert(order, 0, l)
		} else {
			order = append(order, l)
		}
	}
	for _, i := range order {
		s.killable()
		if s.pods[i].exists {
			s.pods[i].declared = declared
			s.actions++
			s.fire()
		}
	}
}

// roll is RollServers.
func (o *simOperator) roll(ctx context.Context, spec *server.Spec, desired int) error {
	s := o.simCluster
	if !s.sts.exists {
		return errors.New("there is no StatefulSet")
	}
	r := &simRollout{simCluster: s, spec: spec, desired: desired}
	if spec.Established && spec.Update.PauseAfter > 0 {
		if err := s.await(simTimeout, func() bool { return s.sts.seen <= s.now }); err != nil {
			return err
		}
		w, err := r.Look(ctx)
		if err != nil {
			return err
		}
		r.pauseAt = PauseAt(w, spec.Update)
	}
	limit := spec.Update.ServerTimeout
	if spec.Creating {
		limit = 0
	}
	updated := 0
	for i := range s.pods {
		if p := &s.pods[i]; p.exists && s.digests.of(p.spec) == s.digests.of(s.sts.spec) {
			updated++
		}
	}
	defer func(before int) {
		after := int(spec.Update.PauseAfter)
		if n := s.restarts - before; spec.Established && updated < after && n > after && !s.disturbed {
			s.breaks("%d servers restart, and the rollout is to pause after %d", n, spec.Update.PauseAfter)
		}
	}(s.restarts)
	return Run(ctx, r, s.loop(limit))
}

// loop is how a rollout waits.
func (s *simCluster) loop(limit time.Duration) Loop {
	waited := 0
	return Loop{
		Wait: func(ctx context.Context, check func(context.Context) (string, error)) error {
			for {
				missing, err := check(ctx)
				if err != nil || missing == "" {
					return err
				}
				if waited++; waited > 5*simTimeout {
					return fmt.Errorf("%w: %s", errSimTimeout, missing)
				}
				s.tick()
				if s.now%4 == 0 {
					s.killable()
				}
			}
		},
		Now:   func() time.Time { return time.Unix(int64(s.now), 0) },
		Limit: limit,
		Report: func(a Action) {
			if s.config.established {
				s.markData()
			}
			if s.trace != nil {
				s.trace(a.String())
			}
		},
	}
}

// settle is SettleServers.
func (o *simOperator) settle(ctx context.Context, spec *server.Spec, desired int) error {
	for {
		err := o.settleOnce(spec, desired)
		if err == nil {
			o.markData()
			return nil
		}
		w, lookErr := (&simRollout{simCluster: o.simCluster, spec: spec, desired: desired}).Look(ctx)
		if lookErr != nil || Next(w).Verb == Done {
			return err
		}
		if err := o.roll(ctx, spec, desired); err != nil {
			return err
		}
	}
}

func (o *simOperator) settleOnce(spec *server.Spec, desired int) error {
	s := o.simCluster
	if spec.ACL.Enabled {
		if s.lostToken {
			return nil
		}
		if err := s.setTokens(); err != nil {
			return err
		}
	}
	if s.leader() < 0 {
		return errors.New("no leader")
	}
	s.killable()
	s.autopilot, s.prune = desired, spec.Autopilot.CleanupDeadServers
	if spec.Gossip.Stage != server.StagePlain {
		if s.keys == 0 {
			return errors.New("the Secret with the keys is gone")
		}
		for i := range s.pods {
			s.killable()
			if p := &s.pods[i]; p.running {
				p.keys = s.keys
			}
		}
	}
	if spec.TLS.Stage != server.StagePlain {
		if s.certs == 0 {
			return errors.New("the Secret with the certificates is gone")
		}
		s.loadCertificates()
	}
	return nil
}

func (s *simCluster) loadCertificates() {
	for i := range s.pods {
		if p := &s.pods[i]; p.running && p.tls != server.StagePlain {
			s.killable()
			p.certs = s.certs
		}
	}
}

func (s *simCluster) setTokens() error {
	for i := range s.pods {
		if !s.pods[i].exists || s.isFormer(i) {
			continue
		}
		if !s.alive(i) {
			return fmt.Errorf("server %d does not answer", i)
		}
		s.killable()
		s.claims[i].token = true
	}
	return nil
}

// record is RecordDone.
func (o *simOperator) record(spec server.Spec, desired int) {
	s := o.simCluster
	if s.sts.spec.Resizing {
		s.patch(func(spec *server.Spec) { spec.Resizing = false })
		s.killable()
	}
	spec.Declared = int32(desired) //nolint:gosec // at most 7
	if s.config.established && !s.config.former && s.config.servers == desired {
		return
	}
	spec.Established = true
	s.applyConfig(spec)
}

// restore is RestoreSnapshot.
func (o *simOperator) restore() error {
	s := o.simCluster
	r := &simRollout{simCluster: s, spec: s.sts.spec, desired: s.sts.replicas}
	if err := s.await(120, func() bool { return r.missing(s.leader(), s.sts.replicas) == "" }); err != nil {
		return err
	}
	if s.job == 0 {
		s.job = s.now + ticksToRestore
		s.killable()
	}
	if err := s.await(simTimeout, func() bool { return s.now >= s.job }); err != nil {
		return err
	}
	s.killable()
	s.patch(func(spec *server.Spec) { spec.Origin = &server.Origin{Snapshot: "a", Restored: time.Unix(1, 0)} })
	s.killable()
	s.job = 0
	return nil
}

// remains is Deployment.Remains.
func (s *simCluster) remains() Remains {
	var seen []PodSight
	volumes := map[string]bool{}
	leader := false
	for i := range s.pods {
		p, c := &s.pods[i], &s.claims[i]
		volumes[podName(i)] = c.exists && !c.deleting
		if !p.exists {
			continue
		}
		sight := PodSight{Name: podName(i)}
		switch {
		case p.running && p.away <= s.now && c.data:
			if !p.leaving {
				sight.State = StateData
			}
			sight.Raft.Log = c.log
			for j := range s.pods {
				if c.peers.has(j) {
					sight.Raft.Peers = append(sight.Raft.Peers, server.RaftPeer{ID: s.digests.nodes[j], Voter: c.voters.has(j)})
				}
			}
			leader = leader || p.follows >= 0
		case p.empty && !p.leaving:
			sight.State = StateEmpty
		}
		seen = append(seen, sight)
	}
	r := Judge("prod", "consul", s.sts.replicas, seen, volumes)
	r.Leader, r.Recovering = leader, s.sts.recovering
	return r
}

// recover is RecoverQuorum.
func (o *simOperator) recover(ctx context.Context, from string) error {
	s := o.simCluster
	var r Remains
	waited := 0
	_ = s.await(100, func() bool {
		r = s.remains()
		waited++
		return r.Leader || (waited > 20 && r.Check(from) == "") || waited > 50
	})
	if r.Leader && r.Recovering != from {
		return nil
	}
	if reason := r.Check(from); reason != "" && !r.Leader {
		return fmt.Errorf("%w: %s", errSimRefused, reason)
	}
	if from == FromNothing {
		return o.startEmpty(ctx, r.Leader)
	}
	best := slices.MaxFunc(r.Data, func(a, b string) int {
		x, y := s.claims[ordinalOf(a)].log, s.claims[ordinalOf(b)].log
		return cmp.Or(cmp.Compare(x.Term, y.Term), cmp.Compare(x.Index, y.Index), strings.Compare(b, a))
	})
	i := ordinalOf(best)
	s.killable()
	c := &s.claims[i]
	c.peers, c.voters, s.acked = first(i+1)&^first(i), first(i+1)&^first(i), c.log
	s.pods[i].running, s.pods[i].ready, s.pods[i].down = false, false, s.now+ticksToStart
	return s.await(180, func() bool { return s.leader() >= 0 })
}

// startEmpty starts servers without data as an empty cluster.
func (o *simOperator) startEmpty(ctx context.Context, leader bool) error {
	s := o.simCluster
	s.sts.recovering = FromNothing
	s.killable()
	for i := range s.claims {
		s.claims[i].marked = false
	}
	s.killable()
	running := s.applied()
	if !leader {
		s.allowed = s.clusters + 1
		running.Established = false
		s.applyConfig(running)
		s.killable()
		s.applySet(running)
		for i := range s.pods {
			s.killable()
			s.delete(i)
		}
	}
	desired := int(running.Replicas)
	if err := o.roll(ctx, &running, desired); err != nil {
		return err
	}
	if err := o.settle(ctx, &running, desired); err != nil {
		return err
	}
	o.record(running, desired)
	s.killable()
	s.sts.recovering = ""
	return nil
}

// simRollout looks and acts as lifecycle.Live does.
type simRollout struct {
	*simCluster
	spec             *server.Spec
	desired, pauseAt int
}

// mayAsk reports whether there is a token that may ask autopilot.
func (r *simRollout) mayAsk() bool { return !r.spec.ACL.Enabled || !r.lostToken }

// missing is consul.Cluster.Missing for n servers.
func (r *simRollout) missing(l, n int) string {
	s := r.simCluster
	if pods := s.podCount(); pods != n {
		return fmt.Sprintf("%d of %d pods exist", pods, n)
	}
	var unready ordinals
	soaked := true
	for i := range s.pods {
		if p := &s.pods[i]; p.exists && !p.ready {
			unready = unready.with(i)
		}
		soaked = soaked && (!s.pods[i].exists || s.now-s.pods[i].readySince >= ticksToSoak)
	}
	switch {
	case unready != 0:
		return "not ready: " + unready.String()
	case l < 0:
		return "no leader"
	case !r.mayAsk() && !soaked:
		return "not ready for long enough"
	case !r.mayAsk():
		return ""
	}
	c := &s.claims[l]
	known := c.peers
	for i := range s.pods {
		if c.peers.has(i) && !s.reaches(l, i) && !s.isSilent(i) {
			return fmt.Sprintf("server %d is failed", i)
		}
		if s.reaches(l, i) || s.isSilent(i) {
			known = known.with(i)
		}
	}
	if known != c.voters || known.count() != n {
		return fmt.Sprintf("%d of %d servers vote", c.voters.count(), n)
	}
	return ""
}

// sees is the leader that servers follow, as far as they can be asked.
func (s *simCluster) sees() int {
	for i := range s.pods {
		if p := &s.pods[i]; p.running && p.away <= s.now && p.follows >= 0 && s.leads[p.follows] {
			return p.follows
		}
	}
	return -1
}

// Look implements Cluster.
func (r *simRollout) Look(context.Context) (World, error) {
	s := r.simCluster
	if !s.sts.exists {
		return World{}, &FinalError{errors.New("there is no StatefulSet")}
	}
	if s.broken != "" {
		return World{}, &FinalError{errors.New(s.broken)}
	}
	template := s.digests.of(cmp.Or(s.sts.current, s.sts.spec))
	w := World{
		Desired: r.desired, StatefulSet: "consul-server", Replicas: s.sts.replicas, Observed: s.sts.seen <= s.now, CanTransfer: r.mayAsk(),
		ByOthers: r.spec.Update.Strategy == server.OnDelete, PauseAt: r.pauseAt, Patience: 20 * time.Second,
	}
	l := s.sees()
	w.Unsettled = r.missing(l, s.sts.replicas)
	data, running := false, 0
	for i := range s.pods {
		p := &s.pods[i]
		if !p.exists {
			continue
		}
		t := Server{
			Name: podName(i), UID: fmt.Sprint(p.uid), Peer: true,
			Leaving: p.leaving, Stopped: !p.leaving && !p.running && !s.isSilent(i), Sick: !p.ready,
			Template: s.digests.of(p.spec).template, Pod: s.digests.of(p.spec).pod, Unrouted: p.ready && p.unrouted,
		}
		if t.Outdated = t.Template != template.template || p.asked != nil; t.Outdated {
			t.Why = "template"
			t.InPlace = t.Pod == template.pod && w.CanTransfer && r.spec.Update.Strategy != server.NewPods
		}
		if t.Restarting = p.asked != nil && s.digests.of(p.asked) == template; t.Restarting && w.CanTransfer {
			t.Restarted = p.running && p.ready && p.runs == p.asked
		}
		r.addVolume(&w, &t, i)
		if l >= 0 && w.CanTransfer {
			c := &s.claims[l]
			t.Peer = c.peers.has(i)
			reached := s.reaches(l, i) || s.isSilent(i)
			t.Voting = c.voters.has(i) && reached && !p.leaving
			t.Sick = t.Sick || !c.voters.has(i) || !reached
			t.LastIndex = s.claims[i].log.Index
		}
		if p.running && !p.leaving {
			running++
			data = data || s.claims[i].data
		}
		w.Servers = append(w.Servers, t)
	}
	if l >= 0 {
		w.Leader = podName(l)
		for i := s.sts.replicas; i < len(s.pods) && w.CanTransfer; i++ {
			if s.claims[l].peers.has(i) && !s.reaches(l, i) {
				w.Former = append(w.Former, podName(i))
			}
		}
	} else {
		w.Unelected = running == len(w.Servers) && running == w.Replicas && !data
		if r.spec.Established {
			r.addKept(&w)
		}
	}
	r.addConfig(&w)
	return w, nil
}

// addVolume is judgeVolumes for one server.
func (r *simRollout) addVolume(w *World, t *Server, i int) {
	s := r.simCluster
	p, c, want := &s.pods[i], &s.claims[i], sizeOf(r.spec)
	rebuilds := r.spec.Storage.OnChange == server.RebuildServers
	if i >= s.sts.replicas || !c.exists {
		return
	}
	if !rebuilds && !c.deleting && c.asked < want {
		w.Grow = r.spec.Storage.Size.String()
	}
	since := c.grown + ticksToGrow
	switch {
	case p.leaving:
	case c.deleting:
		if t.Rebuild = p.running; t.Rebuild {
			t.Volume = "its volume is being deleted"
		}
	case min(c.size, c.asked) >= want:
	case rebuilds && c.made < s.sts.made:
		t.Volume, t.Rebuild = "its volume is too small", true
	case rebuilds:
	case s.offline && s.now >= since+ticksOfGrace && p.made < since:
		t.Volume = "its file system grows when its volume is mounted again"
	default:
		t.Growing = "its volume is too small"
	}
}

// addKept is Live.addKept.
func (r *simRollout) addKept(w *World) {
	s := r.simCluster
	volumes := map[int]bool{}
	more := false
	for i := range s.claims {
		if s.claims[i].exists && !s.claims[i].deleting {
			volumes[i] = true
			more = more || i >= w.Replicas
		}
	}
	for i := range s.pods {
		if c := &s.claims[i]; more && s.pods[i].running && s.pods[i].away <= s.now && c.data && c.peers.count() > w.Peers {
			var peers []server.RaftPeer
			for j := range s.pods {
				if c.peers.has(j) {
					peers = append(peers, server.RaftPeer{ID: s.digests.nodes[j], Voter: true})
				}
			}
			w.Peers = len(peers)
			w.Away, w.Kept = PeersAway(peers, "prod", "consul", w.Replicas, volumes)
		}
	}
}

// addConfig is Live.addConfig.
func (r *simRollout) addConfig(w *World) {
	s := r.simCluster
	version := s.digests.of(r.spec).version
	for k := range w.Servers {
		t := &w.Servers[k]
		if i := ordinalOf(t.Name); w.CanTransfer && (w.Unsettled == "" || t.Sick && !t.Stopped && !t.Leaving && s.alive(i)) {
			t.Stale = s.pods[i].loaded != version
		}
	}
}

// Do implements Cluster.
func (r *simRollout) Do(_ context.Context, w World, a Action) error {
	return r.do(w, a, r.act)
}

// do carries out an action that Next has decided.
func (r *simRollout) do(w World, a Action, act func(World, Action) error) error {
	if a.Verb == Wait {
		return nil
	}
	if next := Next(w); next != a {
		r.breaks("the rollout does %s, and decided %s", a, next)
	}
	if r.hurried++; r.hurried > 20 {
		r.breaks("the rollout does not end")
	}
	r.killable()
	err := act(w, a)
	r.actions++
	r.fire()
	r.killable()
	return err
}

func (r *simRollout) act(w World, a Action) error {
	s := r.simCluster
	i := ordinalOf(a.On)
	l := s.leader()
	switch a.Verb {
	case Restart:
		return s.restart(w.Named(a.On), i)
	case RestartInPlace:
		return s.askToRestart(w.Named(a.On), i)
	case Route:
		p := &s.pods[i]
		if w.Named(a.On).Restarted {
			p.spec, p.asked = p.asked, nil
		}
		p.unrouted = false
	case Rebuild:
		if !s.evictable(w.Named(a.On)) {
			return errors.New("the disruption budget is used up")
		}
		s.claims[i].deleting = s.claims[i].exists
		s.killable()
		return s.restart(w.Named(a.On), i)
	case Grow:
		s.growVolumes(r.spec)
	case Transfer:
		if l < 0 || !s.reaches(l, i) || !s.claims[l].voters.has(i) || s.pods[i].leaving {
			return errors.New("the leadership cannot be transferred")
		}
		s.leads[l] = false
		s.crown(i)
	case Reload:
		d := s.digests.of(r.spec)
		if !s.alive(i) || !s.config.exists || s.digests.of(s.pods[i].runs).config != d.config {
			return errors.New("it has not loaded the configuration")
		}
		p := &s.pods[i]
		p.loaded, p.declared = d.version, s.config.servers
		_, p.tls, _ = s.config.stages.of(d.config)
	case Remove:
		return s.remove(i)
	case Scale:
		if a.Without != "" {
			if err := s.remove(ordinalOf(a.Without)); err != nil {
				return err
			}
			s.killable()
		}
		if a.Count >= r.desired && s.config.servers != r.desired { // Live.Declare
			told := *r.spec
			told.Declared = int32(r.desired) //nolint:gosec // at most 7
			former := s.config.servers
			s.applyConfig(told)
			s.tell(former, r.desired)
		}
		s.sts.replicas, s.sts.seen = a.Count, s.now+ticksToSee
	default:
		r.breaks("a rollout does %s", a)
	}
	return nil
}

func (s *simCluster) remove(i int) error {
	l := s.leader()
	if l < 0 || l == i {
		return errors.New("no leader removes the peer")
	}
	s.removePeer(l, i)
	s.pods[i].removed = s.now
	return nil
}

// evictable reports whether the disruption budget allows to evict a server. One that does not serve is deleted.
func (s *simCluster) evictable(t Server) bool {
	ready := 0
	for j := range s.pods {
		if s.pods[j].ready {
			ready++
		}
	}
	return !t.Settled() || ready >= s.sts.replicas
}

// askToRestart is Live.restartInPlace.
func (s *simCluster) askToRestart(t Server, i int) error {
	if !s.evictable(t) {
		return errors.New("the disruption budget is used up")
	}
	p := &s.pods[i]
	p.unrouted = s.sts.replicas > 1
	s.killable()
	s.ticks(ticksToUnroute)
	s.killable()
	if p.exists && fmt.Sprint(p.uid) == t.UID {
		s.restarts++
		p.asked = s.sts.spec
	}
	return nil
}

func (s *simCluster) restart(t Server, i int) error {
	switch {
	case !s.evictable(t):
		return errors.New("the disruption budget is used up")
	case s.pods[i].exists && fmt.Sprint(s.pods[i].uid) == t.UID:
		s.restarts++
		s.delete(i)
	}
	return nil
}
