package rollout

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A random walk takes this many steps, on this many clusters.
const (
	walks     = 40
	walkSteps = 50
)

// simWalk is a cluster on its way.
type simWalk struct {
	*simulation
	random *rand.Rand
	at     *simCluster
	// known is what the last complete apply declared, and spec what is declared now.
	known, spec server.Spec
	// halfWay says that the last apply was killed.
	halfWay bool
	log     []string
}

// Any sequence of changes, faults, and kills ends as each change says. The walk is always the same, so that no change fails because of
// another one: set SIMULATION_SEED to another number, or to "random", to walk elsewhere, and to the seed that a failure prints to repeat
// that walk.
func TestOperate_randomWalk(t *testing.T) {
	t.Parallel()
	seed := uint64(1)
	switch set := os.Getenv("SIMULATION_SEED"); set {
	case "":
	case "random":
		seed = rand.Uint64() //nolint:gosec // nothing secret
	default:
		var err error
		if seed, err = strconv.ParseUint(set, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	x := newSimulation()
	for i := range uint64(walks) {
		w := &simWalk{simulation: x, random: rand.New(rand.NewPCG(seed, i)), spec: simSpec(3)} //nolint:gosec // it has to be repeatable
		var err error
		if w.at, err = x.created(&w.spec); err != nil {
			t.Fatal(err)
		}
		w.known = w.spec
		for step := range walkSteps {
			if problem := w.step(); problem != "" {
				t.Fatalf("SIMULATION_SEED=%d, cluster %d, step %d: %s\n%s", seed, i, step, strings.Join(w.log, "; "), problem)
			}
		}
	}
	t.Logf("%d steps with seed %d", walks*walkSteps, seed)
}

// choose is one of several.
func choose[T any](w *simWalk, all ...T) T { return all[w.random.IntN(len(all))] }

func (w *simWalk) note(text string) { w.log = append(w.log, text) }

// change declares something else.
func (w *simWalk) change() {
	for range w.random.IntN(3) {
		c := choose(w,
			namedChange{"gossip on", gossip}, namedChange{"gossip off", plain}, namedChange{"TLS on", tls}, namedChange{"TLS off", plainTLS},
			namedChange{"to one", scale(1)}, namedChange{"to three", scale(3)}, namedChange{"to five", scale(5)}, namedChange{"to three", scale(3)},
			namedChange{"deny", deny}, namedChange{"allow", withACLs}, namedChange{"ui", setUI},
			namedChange{"no ui", func(s *server.Spec) { s.UI = false }}, namedChange{"pod", setPod},
			namedChange{"no pod", func(s *server.Spec) { s.PodLabels = nil }}, namedChange{"reload", reloads},
			namedChange{"no reload", func(s *server.Spec) { s.ExtraConfig = "" }}, namedChange{"labels", relabel},
			namedChange{"no labels", func(s *server.Spec) { s.Labels = nil }}, namedChange{"grow", grow}, namedChange{"upgrade", upgrade},
			namedChange{"pauses", pauses}, namedChange{"does not pause", func(s *server.Spec) { s.Update.PauseAfter = 0 }},
		)
		c.change(&w.spec)
		w.note(c.name)
	}
}

// fault chooses a fault, or none.
func (w *simWalk) fault() []simFault {
	f := choose(w, passing()...)
	f.after = w.random.IntN(4)
	upgrades := w.spec.Version != w.known.Version
	switch {
	case w.halfWay, w.random.IntN(2) == 0:
		return nil
	case min(w.known.Replicas, w.spec.Replicas) < 3 && f.name != "an agent lacks its token": // one fault of one server costs the quorum
		return nil
	case f.name == volumeLost || f.silent && upgrades:
		f.after = 0
	}
	if f.silent && upgrades {
		return nil
	}
	f.keeps = f.keeps && f.after == 0
	w.note(f.name + " after action " + strconv.Itoa(f.after))
	return []simFault{f.simFault}
}

// step declares something, and applies it until it is done, or is killed.
func (w *simWalk) step() string {
	w.change()
	s := w.at
	before := w.known
	e := simEntry{before: &before, after: w.spec, applies: 6}
	s.fired, s.actions, s.disturbed, s.atLeast = 0, 0, w.halfWay, 0
	if min(w.known.Replicas, w.spec.Replicas) >= 3 && !w.halfWay {
		s.atLeast = 2
	}
	s.faults = w.fault()
	s.fire()
	kill, points := w.random.IntN(120), 0
	var killed *simCluster
	s.point = func(s *simCluster) {
		if points++; points == kill {
			c := *s
			killed = &c
		}
	}
	err := s.apply(e, false)
	s.point = nil
	if killed != nil && w.random.IntN(3) > 0 {
		killed.point = nil
		killed.ticks(w.random.IntN(30))
		w.at, w.halfWay = killed, true
		w.note("killed at point " + strconv.Itoa(kill))
		return ""
	}
	w.note("applied")
	if errors.Is(err, errSimTokens) && s.broken == "" { // the server does not answer until what else is declared is applied
		w.note("allow")
		w.spec.ACL.DefaultPolicy, w.halfWay = "allow", true
		return ""
	}
	switch {
	case s.broken != "":
		return "broken promise: " + s.broken + "\n" + s.dump()
	case err != nil:
		return "error: " + err.Error() + "\n" + s.dump()
	}
	s.ticks(ticksToProject + 10) // all servers know how many are declared
	want, err := w.created(&w.spec)
	if err != nil {
		return err.Error()
	}
	if got, want := comparableState(s, &w.spec), comparableState(want, &w.spec); got != want {
		return "ends as\n" + got + "\nwant\n" + want + "\n" + s.dump()
	}
	w.known, w.halfWay, w.log = w.spec, false, nil
	return ""
}

// comparableState is the state of a cluster without what earlier changes leave: the reference to a snapshot, and larger volumes.
func comparableState(s *simCluster, spec *server.Spec) string {
	lines := strings.Split(s.state(spec), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "record: ") })
	return strings.Join(lines, "\n")
}
