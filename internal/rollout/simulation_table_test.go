package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// simEntry is a change of a simulated cluster, and what happens to it meanwhile.
type simEntry struct {
	name string
	// before is what was created, nil if nothing was, and after is what is declared.
	before *server.Spec
	after  server.Spec
	// former is the number of servers that another tool made, and that the create adopts.
	former int
	// prepare changes the cluster before the operation, other than a fault does.
	prepare func(*simCluster)
	faults  []simFault
	recover string
	restore bool
	// applies is how many applies it may take, 0 for one. A pause does not count.
	applies int
	// refused says that nothing is changed.
	refused bool
	// atLeast is the number of healthy voters that have to stay, 0 if this does not matter.
	atLeast int
	// own says that the end state is that of the same entry without kills. Otherwise, it is also that without prepare and faults.
	own bool
	// loose says that an apply may be refused, or end with an error, as long as no promise is broken.
	loose bool
}

type specChange func(*server.Spec)

// simSpec is a spec of that many servers.
func simSpec(n int32, changes ...specChange) server.Spec {
	s := server.Spec{
		Name: "consul", Namespace: "prod", Version: "1.21.0", Image: "consul:1.21.0", Replicas: n, Datacenter: "dc1", Domain: "consul",
		Storage:   server.Storage{Size: resource.MustParse("1Gi"), WhenDeleted: server.Retain, WhenScaled: server.Retain},
		ACL:       server.ACL{Enabled: true, DefaultPolicy: "allow"},
		Autopilot: server.DefaultAutopilot, Update: server.DefaultUpdate, Performance: server.Performance{RaftMultiplier: 1},
	}
	s.Update.ServerTimeout = 4 * time.Minute // longer than anything takes here
	for _, change := range changes {
		change(&s)
	}
	return s
}

// Changes of a spec.
func unchanged(*server.Spec)  {}
func setUI(s *server.Spec)    { s.UI = true }
func setPod(s *server.Spec)   { s.PodLabels = map[string]string{"pod": "a"} }
func reloads(s *server.Spec)  { s.ExtraConfig = `{"log_level":"debug"}` }
func upgrade(s *server.Spec)  { s.Version, s.Image = "1.22.0", "consul:1.22.0" }
func unsaved(s *server.Spec)  { s.Update.SnapshotBefore = false }
func gossip(s *server.Spec)   { s.Gossip.Stage = server.StageEncrypted }
func plain(s *server.Spec)    { s.Gossip.Stage = server.StagePlain }
func tls(s *server.Spec)      { s.TLS.Stage = server.StageEncrypted }
func plainTLS(s *server.Spec) { s.TLS.Stage = server.StagePlain }
func grow(s *server.Spec)     { s.Storage.Size = resource.MustParse("2Gi") }
func rebuilds(s *server.Spec) {
	s.Storage.Size, s.Storage.OnChange = resource.MustParse("2Gi"), server.RebuildServers
}
func relabel(s *server.Spec)    { s.Labels = map[string]string{"team": "a"} }
func deny(s *server.Spec)       { s.ACL.DefaultPolicy = "deny" }
func noACLs(s *server.Spec)     { s.ACL = server.ACL{DefaultPolicy: "allow"} }
func withACLs(s *server.Spec)   { s.ACL = server.ACL{Enabled: true, DefaultPolicy: "allow"} }
func onDelete(s *server.Spec)   { s.Update.Strategy = server.OnDelete }
func pauses(s *server.Spec)     { s.Update.PauseAfter = 1 }
func discards(s *server.Spec)   { s.Storage.WhenScaled = server.Delete }
func fromBackup(s *server.Spec) { s.Origin = &server.Origin{} }
func scale(n int32) specChange  { return func(s *server.Spec) { s.Replicas = n } }

// all makes several changes.
func all(changes ...specChange) specChange {
	return func(s *server.Spec) {
		for _, change := range changes {
			change(s)
		}
	}
}

// simulation runs entries.
type simulation struct {
	digests *digests
	runs    atomic.Int64
}

func newSimulation() *simulation {
	d := &digests{m: map[digestKey]digested{}}
	for i := range d.nodes {
		d.nodes[i] = server.NodeID("prod", "consul", i)
	}
	return &simulation{digests: d}
}

// empty is a Kubernetes cluster without the Consul cluster.
func (x *simulation) empty() *simCluster {
	return &simCluster{digests: x.digests, simState: simState{allowed: 1}}
}

// created is a cluster that was created, with time for its servers to settle.
func (x *simulation) created(spec *server.Spec) (*simCluster, error) {
	s := x.empty()
	if spec == nil {
		return s, nil
	}
	err := s.apply(simEntry{name: "create", after: *spec}, true)
	s.ticks(ticksToSoak)
	return s, err
}

// apply applies an entry until it is done, as somebody does who sees an error and applies again. create says that Terraform has no
// state of the cluster.
func (s *simCluster) apply(e simEntry, create bool) error {
	known := &e.after
	if e.before != nil {
		k := *e.before
		if s.sts.exists {
			k.Record = s.sts.spec.Record
		}
		known = &k
	}
	for applies := 1; ; applies++ {
		w := Wanted{Spec: e.after, Create: create, Recover: e.recover, Restore: e.restore}
		err := Operate(context.Background(), &simOperator{simCluster: s, wanted: w, known: known}, w.Phases)
		for pauses := 0; errors.As(err, new(*PausedError)) && pauses < 10; pauses++ {
			s.refresh()
			w.Create = false
			err = Operate(context.Background(), &simOperator{simCluster: s, wanted: w, known: known}, w.Phases)
		}
		if err == nil || errors.Is(err, errSimRefused) || applies >= max(e.applies, 1) || e.loose {
			s.refresh()
			return err
		}
		create = false
		s.refresh()
		s.ticks(30)
	}
}

// refresh records that a create has ended.
func (s *simCluster) refresh() {
	if s.sts.exists && s.config.established && s.sts.spec.Creating {
		s.patch(func(spec *server.Spec) { spec.Creating = false })
	}
}

// begin is the cluster right before the operation of an entry.
func (x *simulation) begin(e simEntry) (*simCluster, error) {
	s, err := x.created(e.before)
	if err != nil {
		return nil, fmt.Errorf("preparing: %w", err)
	}
	if e.former > 0 {
		s.makeFormer(e.former, e.after)
	}
	if e.prepare != nil {
		e.prepare(s)
	}
	s.faults = e.faults
	s.atLeast = e.atLeast
	s.fire()
	return s, nil
}

// finish applies an entry, and returns why it does not end as it should.
func (x *simulation) finish(s *simCluster, e simEntry, want string) string {
	x.runs.Add(1)
	if e.former > 0 && s.sts.exists { // a create that was killed has left a state, or it has not
		s.former.updated = s.former.updated || s.now%2 == 0
	}
	err := s.apply(e, e.before == nil && !s.former.updated)
	switch {
	case s.broken != "":
		return "broken promise: " + s.broken + "\n" + s.dump()
	case e.loose && err != nil:
		return ""
	case e.refused && !errors.Is(err, errSimRefused):
		return fmt.Sprintf("not refused, but %v", err)
	case e.refused:
		return ""
	case err != nil:
		return fmt.Sprintf("error: %v\n%s", err, s.dump())
	}
	if f := s.former; f.replicas > 0 || e.former > 0 && (s.sts.spec.Takeover != nil || f.switched != [2]bool{true, true}) {
		return fmt.Sprintf("the adoption is not complete: %+v", f)
	}
	s.ticks(ticksToSoak)
	if got := s.state(&e.after); want != "" && got != want {
		return fmt.Sprintf("ends as\n%s\nwant\n%s\n%s", got, want, s.dump())
	}
	if s.broken != "" {
		return "broken promise after the end: " + s.broken
	}
	return ""
}

// ends is the state at the end of an undisturbed run.
func (x *simulation) ends(e simEntry) (string, error) {
	u := e
	if !e.own {
		u.prepare, u.faults, u.recover = nil, nil, ""
	}
	s, err := x.begin(u)
	if err != nil {
		return "", err
	}
	if err = s.apply(u, u.before == nil); err != nil {
		return "", fmt.Errorf("%w\n%s", err, s.dump())
	}
	s.ticks(ticksToSoak)
	return s.state(&u.after), nil
}

// test runs an entry undisturbed, and killed at every point.
func (x *simulation) test(t *testing.T, e simEntry) {
	t.Helper()
	var want string
	if !e.refused && !e.loose {
		var err error
		if want, err = x.ends(e); err != nil {
			t.Fatalf("without faults: %v", err)
		}
	}
	s, err := x.begin(e)
	if err != nil {
		t.Fatal(err)
	}
	var killed []*simCluster
	var steps []string
	s.trace = func(step string) { steps = append(steps, step) }
	s.point = func(s *simCluster) { // a kill where nothing has happened since the last point is no other kill
		if c := *s; len(killed) == 0 || killed[len(killed)-1].simState != c.simState {
			c.point, c.trace = nil, nil
			killed = append(killed, &c)
		}
	}
	if problem := x.finish(s, e, want); problem != "" {
		t.Fatalf("not killed: %s\nsteps: %s", problem, strings.Join(steps, "; "))
	}
	for k, c := range killed {
		x.testKilled(t, e, c, k, want)
		if t.Failed() {
			return
		}
	}
}

// testKilled resumes a cluster whose provider was killed at a point. Some are killed once more.
func (x *simulation) testKilled(t *testing.T, e simEntry, c *simCluster, k int, want string) {
	t.Helper()
	var again *simCluster
	points, at := 0, 3+k%29
	at0 := c.now
	if k%5 == 0 {
		c.point = func(s *simCluster) {
			if points++; points == at {
				twice := *s
				twice.point = nil
				again = &twice
			}
		}
	}
	var steps []string
	c.trace = func(step string) { steps = append(steps, step) }
	c.ticks(k % 5 * 3)
	if problem := x.finish(c, e, want); problem != "" {
		t.Errorf("killed at point %d, tick %d: %s\nsteps: %s", k, at0, problem, strings.Join(steps, "; "))
		return
	}
	if again != nil {
		again.trace = nil
		again.ticks(k % 7 * 2)
		if problem := x.finish(again, e, want); problem != "" {
			t.Errorf("killed at point %d, and then at point %d: %s", k, at, problem)
		}
	}
}

// Every change of a cluster, with every fault, ends in the same way wherever the provider is killed.
func TestOperate_killedAnywhere(t *testing.T) {
	t.Parallel()
	x := newSimulation()
	entries := x.simEntries()
	t.Run("entries", func(t *testing.T) {
		for _, e := range entries {
			t.Run(e.name, func(t *testing.T) {
				t.Parallel()
				x.test(t, e)
			})
		}
	})
	t.Logf("%d entries, %d runs", len(entries), x.runs.Load())
}

// What is known not to work is known to be as it was: an entry that begins to work belongs in the table.
func TestOperate_unsolved(t *testing.T) {
	t.Parallel()
	x := newSimulation()
	for _, e := range simUnsolved() {
		want, err := x.ends(e.simEntry)
		if err != nil {
			t.Fatal(err)
		}
		s, err := x.begin(e.simEntry)
		if err != nil {
			t.Fatal(err)
		}
		problem := x.finish(s, e.simEntry, want)
		if problem == "" {
			t.Errorf("%s: works, although %s", e.name, e.why)
		}
		if s.broken != "" {
			t.Errorf("%s: %s", e.name, problem)
		}
		t.Logf("%s: %.160s", e.name, problem)
	}
}
