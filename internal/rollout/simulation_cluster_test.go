package rollout

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The times of the model, in ticks. A tick is a second.
const (
	ticksToSee     = 1   // until the StatefulSet controller has seen a change
	ticksToStop    = 2   // from the deletion of a pod until its server has left
	ticksToStart   = 2   // from a new pod to a running server
	ticksToElect   = 2   // without a leader until there is an election
	ticksToVote    = 3   // from joining to a vote
	ticksToPrune   = 20  // until autopilot removes a failed peer
	ticksToRejoin  = 30  // until the leader takes back a peer that was removed and still runs
	ticksToGrow    = 3   // until a volume has grown
	ticksToProject = 60  // until the kubelet updates the volume of a ConfigMap
	ticksOfGrace   = 120 // until a server is restarted for its file system (fileSystemGrace)
	ticksToSoak    = 25  // until a ready server counts as a voter if nobody may ask (consul.Soak)
	ticksToRestore = 4   // that the Job of a restore takes
	ticksToUnroute = 3   // until no client is routed to a pod
	ticksToNotice  = 3   // until autopilot and the kubelet notice that a server is gone
)

// ordinals is a set of servers.
type ordinals uint8

func (o ordinals) has(i int) bool              { return o&(1<<i) != 0 }
func (o ordinals) with(i int) ordinals         { return o | 1<<i }
func (o ordinals) without(i int) ordinals      { return o &^ (1 << i) }
func (o ordinals) count() int                  { return bits.OnesCount8(uint8(o)) }
func (o ordinals) majority() int               { return o.count()/2 + 1 }
func (o ordinals) String() string              { return fmt.Sprintf("%07b", uint8(o)) }
func first(n int) ordinals                     { return ordinals(1<<n - 1) }
func near(a, b server.Stage) bool              { return a-b <= 1 && b-a <= 1 }
func sizeOf(s *server.Spec) int64              { return s.Storage.Size.Value() }
func labelsOf(labels map[string]string) string { return labels["team"] }

// simCluster is a cluster of servers in Kubernetes. A copy of the value is a copy of the cluster: what it refers to does not change.
type simCluster struct {
	simState
	digests *digests
	faults  []simFault
	hurried int // actions in this tick

	// point is called wherever the provider may be killed, and trace for each action.
	point func(*simCluster)
	trace func(string)
}

// simState is all that changes.
type simState struct {
	now int
	ids int // of pods, keys, and certificates

	sts    simSet
	former simFormer
	config simConfig
	pods   [server.MaxReplicas]simPod
	claims [server.MaxReplicas]simClaim

	leads     [server.MaxReplicas]bool
	acked     server.LogEnd // the last acknowledged write
	clusters  int           // how many were bootstrapped, and
	allowed   int           // how many may be
	autopilot int           // the number of servers that autopilot knows
	prune     bool

	keys, certs  int // what the Secrets hold, 0 if they do not exist
	secretLabels string
	routed       bool // clients reach the servers
	lostToken    bool // there is no valid management token
	job          int  // the tick at which a restore ends, 0 if there is no Job
	restores     int
	harsh        bool // servers end without leaving
	offline      bool // file systems only grow when they are mounted again

	fired      int
	actions    int  // of rollouts
	disturbed  bool // a fault has happened that may cost the quorum
	leaderless int  // ticks
	atLeast    int  // healthy voters that have to stay, 0 if this does not matter now
	restarts   int  // by rollouts
	broken     string
	crash      string // the template of which no server starts, and
	deaf       string // that of which no server reaches another one

	ran string // the latest version that a server has run
}

// simSet is a StatefulSet.
type simSet struct {
	exists     bool
	spec       *server.Spec // as Parse reads it, without Established
	current    *server.Spec // what its controller has seen
	replicas   int
	seen, made int // ticks
	recovering string
}

// simConfig is a ConfigMap.
type simConfig struct {
	exists, established, former bool
	spec                        *server.Spec
	servers                     int
	changed                     int
	snapshot                    *server.Snapshot
	stages                      simStages
}

// simStages are the configurations in the ConfigMap: how far each encrypts gossip and TLS, by its digest. There are no more than three,
// because a stage begins when all servers run the stage before.
type simStages [4]struct {
	config      string
	gossip, tls server.Stage
}

func (x *simStages) of(config string) (gossip, tls server.Stage, ok bool) {
	for _, c := range x {
		if c.config == config {
			return c.gossip, c.tls, true
		}
	}
	return 0, 0, false
}

// add adds a configuration, and reports whether it is new.
func (x *simStages) add(config string, gossip, tls server.Stage) bool {
	if _, _, ok := x.of(config); ok {
		return false
	}
	i := slices.IndexFunc(x[:], func(c struct {
		config      string
		gossip, tls server.Stage
	}) bool {
		return c.config == ""
	})
	x[i].config, x[i].gossip, x[i].tls = config, gossip, tls
	return true
}

// simPod is a pod, and the server in it.
type simPod struct {
	exists, running, empty, ready bool
	leaving                       bool
	uid                           int
	spec                          *server.Spec // whose template it was made from
	made, gone, since             int          // ticks
	down, away                    int          // until when it cannot run, and is cut off
	sick, mute                    bool         // not ready, and cut off, until it is made again
	loaded                        string
	gossip, tls                   server.Stage
	expect, declared              int
	keys, certs                   int
	follows, lonely, readySince   int
	removed                       int
	unrouted                      bool         // clients are not routed to it
	asked, runs                   *server.Spec // to what it is to restart in place, and what its server was started with
}

// next is what the server of a pod runs after its next start.
func (p *simPod) next() *server.Spec { return cmp.Or(p.asked, p.spec) }

// simClaim is a volume, and the Raft data in it.
type simClaim struct {
	exists, deleting, marked, data bool
	token                          bool // agents keep their tokens there
	made, grown                    int
	size, asked                    int64
	labels                         string
	cluster                        int
	log                            server.LogEnd
	peers, voters                  ordinals
	joined, failed                 [server.MaxReplicas]int // as the leader knows it
}

// simFault happens after a number of actions of the rollout, 0 for before the operation.
type simFault struct {
	after int
	do    func(*simCluster)
	// keeps says that it leaves a quorum, which the operation then has to keep.
	keeps bool
}

// digests remembers what a template and a configuration render to.
type digests struct {
	mu    sync.Mutex
	m     map[digestKey]digested
	nodes [server.MaxReplicas]string // their IDs
}

type digestKey struct {
	version, image, extra, policy, pod string
	ui, acls                           bool
	gossip, tls                        server.Stage
}

type digested struct{ template, pod, config, version string }

func (d *digests) of(s *server.Spec) digested {
	k := digestKey{
		s.Version, s.Image, s.ExtraConfig, s.ACL.DefaultPolicy, s.PodLabels["pod"], s.UI, s.ACL.Enabled, s.Gossip.Stage, s.TLS.Stage,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.m[k]
	if !ok {
		annotations := server.Objects(*s).StatefulSet.Spec.Template.Annotations
		r = digested{
			annotations[server.AnnotationTemplateHash], annotations[server.AnnotationPodHash], annotations[server.AnnotationConfigHash],
			server.ConfigVersion(*s),
		}
		d.m[k] = r
	}
	return r
}

// breaks records the first broken promise.
func (s *simCluster) breaks(format string, args ...any) {
	if s.broken == "" {
		s.broken = fmt.Sprintf("tick %d: ", s.now) + fmt.Sprintf(format, args...)
	}
}

func (s *simCluster) id() int { s.ids++; return s.ids }

func (s *simCluster) alive(i int) bool {
	p := &s.pods[i]
	return p.exists && p.running && !p.mute && p.away <= s.now
}

// reaches reports whether two servers can talk to each other.
func (s *simCluster) reaches(i, j int) bool {
	if i == j {
		return s.pods[i].running
	}
	if !s.alive(i) || !s.alive(j) {
		return false
	}
	a, b := &s.pods[i], &s.pods[j]
	return near(a.gossip, b.gossip) && near(a.tls, b.tls) &&
		(a.keys == b.keys || a.gossip < server.StageSend && b.gossip < server.StageSend) &&
		(a.certs == b.certs || a.tls < server.StageSend && b.tls < server.StageSend)
}

// leader is the server that leads, -1 without one.
func (s *simCluster) leader() int { return slices.Index(s.leads[:], true) }

// serving are the voters that run and reach the leader.
func (s *simCluster) serving(l int) (n ordinals) {
	for j := range s.pods {
		if s.claims[l].voters.has(j) && s.reaches(l, j) {
			n = n.with(j)
		}
	}
	return n
}

// tick lets a second pass.
func (s *simCluster) tick() {
	s.now++
	s.hurried = 0
	if s.now == s.job {
		s.restores++
		if s.routed {
			s.breaks("a snapshot is restored into a cluster that clients reach")
		}
	}
	s.stopPods()
	s.restartInPlace()
	s.control()
	for i := range s.pods {
		s.start(i)
	}
	s.raft()
	for i := range s.pods {
		s.probe(i)
	}
	s.check()
}

func (s *simCluster) ticks(n int) {
	for range n {
		s.tick()
	}
}

// delete lets a pod end gracefully.
func (s *simCluster) delete(i int) {
	if p := &s.pods[i]; p.exists && !p.leaving {
		p.leaving, p.ready, p.gone = true, false, s.now+ticksToStop
	}
}

// stopPods ends the pods whose time has come: the highest ordinal first, and the leader last (leave.sh).
func (s *simCluster) stopPods() {
	l := s.leader()
	for turn := range len(s.pods) + 1 {
		i := len(s.pods) - 1 - turn
		if i == l {
			continue
		}
		if i < 0 {
			if i = l; l < 0 {
				break
			}
		}
		p := &s.pods[i]
		if !p.leaving || p.gone > s.now || p.away > s.now {
			continue
		}
		s.leave(i)
		s.pods[i] = simPod{}
		if s.isRetired(i) || s.claims[i].deleting || (s.sts.exists && i >= s.sts.replicas && s.sts.spec.Storage.WhenScaled == server.Delete) {
			s.claims[i] = simClaim{}
		}
	}
}

// restartInPlace ends the servers that were asked to restart in place. They stay peers.
func (s *simCluster) restartInPlace() {
	for i := range s.pods {
		p := &s.pods[i]
		if p.asked == nil || !p.running || p.leaving || p.runs == p.asked {
			continue
		}
		if !p.unrouted && s.sts.replicas > 1 {
			s.breaks("server %d restarts in place, and clients are routed to it", i)
		}
		p.running, p.made, p.follows, s.leads[i] = false, s.now, -1, false
	}
}

// isSilent reports whether a server was ended to restart in place so recently that neither its pod nor autopilot shows it.
func (s *simCluster) isSilent(i int) bool {
	p := &s.pods[i]
	return p.exists && !p.leaving && !p.running && p.asked != nil && p.runs != p.asked && s.now < p.made+ticksToNotice
}

// leave takes a server out of the peers, unless this would leave fewer peers than a quorum of the declared servers.
func (s *simCluster) leave(i int) {
	p := &s.pods[i]
	l := p.follows
	if s.harsh || !p.running || l < 0 || !s.leads[l] || !s.reaches(l, i) || !s.claims[l].peers.has(i) {
		s.leads[i] = false
		return
	}
	left := s.claims[l].peers.without(i)
	if left != 0 && (p.declared <= 2 || left.count() > p.declared/2) {
		s.removePeer(l, i)
	}
	s.leads[i] = false
}

// removePeer changes the Raft configuration of a leader.
func (s *simCluster) removePeer(l, i int) {
	c := &s.claims[l]
	c.peers, c.voters, c.joined[i], c.failed[i] = c.peers.without(i), c.voters.without(i), 0, 0
	c.log.Index++
	s.replicate(l)
	if s.reaches(l, i) {
		s.copyLog(l, i)
	}
}

// control is the StatefulSet controller.
func (s *simCluster) control() {
	s.controlFormer()
	if !s.sts.exists || s.sts.seen > s.now {
		return
	}
	s.sts.current = s.sts.spec
	for i := range s.pods {
		switch p, c := &s.pods[i], &s.claims[i]; {
		case s.isFormer(i):
		case i >= s.sts.replicas:
			s.delete(i)
		case !p.exists:
			if !c.exists {
				size := sizeOf(s.sts.spec)
				*c = simClaim{exists: true, made: s.now, size: size, asked: size, labels: labelsOf(s.sts.spec.Labels)}
			}
			s.pods[i] = simPod{exists: true, uid: s.id(), spec: s.sts.spec, made: s.now, follows: -1}
		}
	}
	for i := range s.claims {
		if c := &s.claims[i]; c.exists && c.asked > c.size && s.now >= c.grown+ticksToGrow && !s.offline {
			c.size = c.asked
		}
	}
}

// start starts the server of a pod, if it can start.
func (s *simCluster) start(i int) {
	p, c := &s.pods[i], &s.claims[i]
	if !p.exists || p.running || p.leaving {
		return
	}
	if s.isFormer(i) {
		s.startFormer(i)
		return
	}
	p.runs = p.next()
	d := s.digests.of(p.runs)
	gossip, tls, ok := s.config.stages.of(d.config)
	if !ok {
		gossip, tls = p.runs.Gossip.Stage, p.runs.TLS.Stage
	}
	switch {
	case !s.config.exists, s.now < p.made+ticksToStart, s.now < p.down, p.away > s.now, s.crash == d.template:
		return
	case gossip != server.StagePlain && s.keys == 0, tls != server.StagePlain && s.certs == 0:
		return // the Secret that it mounts does not exist
	}
	if p.empty = !c.data && s.config.established && !s.mayJoin(i); p.empty {
		return
	}
	s.checkStart(p)
	p.running, p.since, p.lonely, p.follows, p.mute = true, s.now, 0, -1, s.deaf == d.template
	p.gossip, p.tls = gossip, tls
	p.keys, p.certs = 0, 0
	if p.gossip != server.StagePlain {
		p.keys = s.keys
	}
	if p.tls != server.StagePlain {
		p.certs = s.certs
	}
	p.loaded = d.version
	if current := s.digests.of(s.config.spec); current.config == d.config {
		p.loaded = current.version
	}
	p.declared, p.expect = s.config.servers, 0
	if !s.config.established {
		p.expect = int(s.config.spec.Replicas)
	}
	if s.offline && c.asked > c.size {
		c.size = c.asked
	}
	if !c.data && p.expect == 1 {
		s.bootstrap(first(i+1).without(i) ^ first(i+1)) // alone
	}
}

// checkStart is what must have happened before a server starts.
func (s *simCluster) checkStart(p *simPod) {
	u := s.sts.spec
	if s.ran != "" && p.runs.Version > s.ran && s.sts.exists && s.config.established && u.Update.SnapshotBefore &&
		(u.UpgradeSnapshot == nil || u.UpgradeSnapshot.Version != s.ran) {
		s.breaks("a server runs %s, and there is no snapshot of %s", p.runs.Version, s.ran)
	}
	s.ran = max(s.ran, p.runs.Version)
	for j := range s.pods {
		other := &s.pods[j]
		if p.runs.ACL.Denies() && other.running && !cmp.Or(other.runs, other.spec).ACL.Denies() && !s.claims[j].token && s.config.established {
			s.breaks("a server denies what server %d asks without a token", j)
		}
	}
}

// mayJoin is what a server without data waits for: another one answers, and so do all peers that any of them names, so that none is
// its former self (await-peer-removal.sh).
func (s *simCluster) mayJoin(i int) bool {
	answers := false
	for j := range s.pods {
		if j == i || !s.alive(j) {
			continue
		}
		answers = true
		for k := range s.pods {
			if s.claims[j].peers.has(k) && (k == i || !s.alive(k)) {
				return false
			}
		}
	}
	return answers
}

func (s *simCluster) bootstrap(group ordinals) {
	s.clusters++
	if s.clusters > s.allowed {
		s.breaks("servers %s elect a leader beside another cluster", group)
	}
	for j := range s.claims {
		if group.has(j) {
			c := &s.claims[j]
			c.data, c.cluster, c.log, c.peers, c.voters = true, s.clusters, server.LogEnd{Term: 1, Index: 1}, group, group
			s.pods[j].lonely = ticksToElect
		}
	}
	s.acked, s.autopilot, s.prune = server.LogEnd{}, int(s.config.spec.Replicas), s.config.spec.Autopilot.CleanupDeadServers
}

// expecting are the servers that bootstrap with one: all that it reaches expect the same number, and none has data.
func (s *simCluster) expecting(i int) (group ordinals) {
	for j := range s.pods {
		switch p := &s.pods[j]; {
		case !s.reaches(i, j):
		case s.claims[j].data || p.expect != s.pods[i].expect:
			return 0
		default:
			group = group.with(j)
		}
	}
	return group
}

// raft elects, replicates, and lets servers join.
func (s *simCluster) raft() {
	for i := range s.pods {
		if s.leads[i] && (!s.alive(i) || s.serving(i).count() < s.claims[i].voters.majority()) {
			s.leads[i] = false
		}
	}
	for i := range s.pods {
		p := &s.pods[i]
		if p.running && !s.claims[i].data && p.expect > 1 && !p.leaving {
			if group := s.expecting(i); group.count() >= p.expect {
				s.bootstrap(group)
			}
		}
		if p.follows >= 0 && (!s.leads[p.follows] || !s.reaches(p.follows, i)) {
			p.follows, p.lonely = -1, 0
		}
	}
	for turn := range s.pods {
		i := (turn + s.now) % len(s.pods)
		if p := &s.pods[i]; p.running && p.follows < 0 {
			if p.lonely++; p.lonely > ticksToElect && s.claims[i].voters.has(i) {
				s.elect(i)
			}
		}
	}
	for l := range s.pods {
		if s.leads[l] {
			s.lead(l)
		}
	}
}

// elect lets a server ask for votes.
func (s *simCluster) elect(i int) {
	c := &s.claims[i]
	votes := 0
	for j := range s.pods {
		if c.voters.has(j) && s.reaches(i, j) && (j == i || s.pods[j].follows < 0) && !c.log.Less(s.claims[j].log) {
			votes++
		}
	}
	if votes >= c.voters.majority() {
		s.crown(i)
	}
}

// crown makes a server the leader.
func (s *simCluster) crown(i int) {
	c := &s.claims[i]
	if other := s.leader(); other >= 0 && other != i {
		s.breaks("servers %d and %d lead at the same time", other, i)
	}
	if c.log.Less(s.acked) {
		s.breaks("server %d leads with a log that ends at %v, and %v is acknowledged", i, c.log, s.acked)
	}
	c.log.Term++
	c.failed = [server.MaxReplicas]int{}
	s.leads[i] = true
	s.replicate(i)
}

func (s *simCluster) copyLog(from, to int) {
	a, b := &s.claims[from], &s.claims[to]
	b.data, b.cluster, b.log, b.peers, b.voters, b.joined = true, a.cluster, a.log, a.peers, a.voters, a.joined
}

func (s *simCluster) replicate(l int) {
	for j := range s.pods {
		if s.claims[l].peers.has(j) && s.reaches(l, j) {
			s.copyLog(l, j)
			s.pods[j].follows, s.pods[j].lonely = l, 0
		}
	}
}

// lead is what the leader does in a second: one write, and one change of the peers.
func (s *simCluster) lead(l int) {
	c := &s.claims[l]
	c.log.Index++
	for j := range s.pods {
		p, alive := &s.pods[j], s.reaches(l, j)
		switch {
		case !c.peers.has(j):
			other := s.claims[j].data && s.claims[j].cluster != c.cluster
			if alive && !p.leaving && !other && (p.removed == 0 || s.now-p.removed > ticksToRejoin) {
				c.peers, c.joined[j], p.removed = c.peers.with(j), s.now, 0
			}
		case !alive:
			if c.failed[j]++; s.prune && c.failed[j] > ticksToPrune && c.voters.without(j).count() >= server.MinQuorum(s.autopilot) {
				c.peers, c.voters = c.peers.without(j), c.voters.without(j)
			}
		default:
			c.failed[j] = 0
		}
	}
	for j := range s.pods {
		if c.peers.has(j) && !c.voters.has(j) && s.reaches(l, j) && s.now-c.joined[j] >= ticksToVote {
			c.voters = c.voters.with(j)
			break
		}
	}
	s.replicate(l)
	if s.serving(l).count() >= c.voters.majority() {
		s.acked = c.log
	}
}

// probe is the kubelet: readiness, and the volume of the ConfigMap.
func (s *simCluster) probe(i int) {
	p := &s.pods[i]
	if s.now-s.config.changed > ticksToProject && !s.isFormer(i) {
		p.declared = s.config.servers
	}
	ready := p.exists && !p.leaving && s.alive(i) && !p.sick && p.follows >= 0 &&
		(!s.config.established || s.claims[p.follows].voters.has(i))
	ready = ready || p.ready && s.isSilent(i)
	if ready && !p.ready {
		p.readySince = s.now
	}
	p.ready = ready
}

// check is what holds in every second.
func (s *simCluster) check() {
	s.checkRoutes()
	l := s.leader()
	if s.leaderless++; l >= 0 {
		s.leaderless = 0
	}
	if s.disturbed || s.atLeast == 0 || !s.config.established {
		return
	}
	if l < 0 {
		if s.leaderless > 5 {
			s.breaks("there is no leader for %d ticks", s.leaderless)
		}
		return
	}
	if n := s.serving(l).count(); n < s.atLeast || n < s.claims[l].voters.majority() {
		s.breaks("%d of %d voters are healthy", n, s.claims[l].voters.count())
	}
}

// state is what an operation is to achieve, without what may differ: who leads, and the names and ages of things.
func (s *simCluster) state(want *server.Spec) string {
	var b strings.Builder
	d := s.digests.of(want)
	spec, l := s.sts.spec, s.leader()
	if !s.sts.exists || l < 0 {
		return fmt.Sprintf("StatefulSet %v, leader %d\n%s", s.sts.exists, l, s.dump())
	}
	snapshot, restored := "", false
	if spec.UpgradeSnapshot != nil {
		snapshot = spec.UpgradeSnapshot.Version
	}
	if spec.Origin != nil {
		restored = !spec.Origin.Pending()
	}
	fmt.Fprintf(&b, "applied: version %s ui %v extra %s acl %v gossip %d tls %d size %d labels %s update %v pod %s\n", spec.Version, spec.UI,
		spec.ExtraConfig, spec.ACL, spec.Gossip.Stage, spec.TLS.Stage, sizeOf(spec), labelsOf(spec.Labels), spec.Update, spec.PodLabels["pod"])
	fmt.Fprintf(&b, "record: replicas %d creating %v resizing %v snapshot %q origin %v restored %v recovering %q\n", s.sts.replicas,
		spec.Creating, spec.Resizing, snapshot, spec.Origin != nil, restored, s.sts.recovering)
	fmt.Fprintf(&b, "config: servers %d established %v former %v\n", s.config.servers, s.config.established, s.config.former)
	fmt.Fprintf(&b, "raft: peers %s voters %s autopilot %d\n", s.claims[l].peers, s.claims[l].voters, s.autopilot)
	fmt.Fprintf(&b, "secrets: keys %v certificates %v labels %s routed %v restores %d\n", s.keys != 0, s.certs != 0, s.secretLabels, s.routed,
		s.restores)
	for i := range s.pods {
		if p, c := &s.pods[i], &s.claims[i]; p.exists {
			fmt.Fprintf(&b, "server %d: outdated %v restarting %v unrouted %v loaded %v ready %v gossip %d tls %d keys %v certificates %v token %v size %d labels %s\n", i,
				s.digests.of(p.spec).template != d.template, p.asked != nil, p.unrouted, p.loaded == d.version, p.ready,
				p.gossip, p.tls, p.keys != 0 && p.keys == s.keys,
				p.certs != 0 && p.certs == s.certs, c.token, c.size, c.labels)
		}
	}
	return b.String()
}

// dump is for the message of a failure.
func (s *simCluster) dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tick %d leader %d acked %v replicas %d servers %d established %v autopilot %d keys %d certs %d\n", s.now, s.leader(), s.acked,
		s.sts.replicas, s.config.servers, s.config.established, s.autopilot, s.keys, s.certs)
	for i := range s.pods {
		p, c := &s.pods[i], &s.claims[i]
		if p.exists || c.exists {
			fmt.Fprintf(&b, "  %d: pod %v running %v ready %v empty %v leaving %v sick %v away %v follows %d gossip %d tls %d keys %d expect %d declared %d"+
				" | volume %v data %v log %v peers %s voters %s\n", i, p.exists, p.running, p.ready, p.empty, p.leaving, p.sick, p.away > s.now || p.mute,
				p.follows, p.gossip, p.tls, p.keys, p.expect, p.declared, c.exists, c.data, c.log, c.peers, c.voters)
		}
	}
	return b.String()
}

// podCount is the number of pods.
func (s *simCluster) podCount() (n int) {
	for i := range s.pods {
		if s.pods[i].exists {
			n++
		}
	}
	return n
}

// hasBootstrapped reports whether a running server knows a Raft peer.
func (s *simCluster) hasBootstrapped() bool {
	for i := range s.pods {
		if s.pods[i].running && s.claims[i].data {
			return true
		}
	}
	return false
}

// established is what Running.established finds out.
func (s *simCluster) established() bool {
	if s.config.exists && s.config.established || s.hasBootstrapped() {
		return true
	}
	if s.sts.recovering != "" {
		return false
	}
	for i := range s.claims {
		if s.claims[i].exists && s.claims[i].marked && !s.pods[i].running {
			return true
		}
	}
	return s.sts.exists && !s.sts.spec.Creating
}

// markData records data on the volumes.
func (s *simCluster) markData() {
	for i := range s.claims {
		if s.pods[i].running && s.claims[i].data {
			s.claims[i].marked = true
		}
	}
}

func podName(i int) string { return server.PodName("consul", i) }

func ordinalOf(pod string) int {
	i, _ := server.Ordinal("consul", pod)
	return i
}
