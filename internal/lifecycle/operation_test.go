package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

var errKilled = errors.New("killed")

// world is what the ports of a test reach. Every call is logged, and the one with the number failAt fails.
type world struct {
	live server.Set
	log  []string
	// failAt counts from 1; 0 is never.
	failAt int
	// stuck ends the next rollout, and loses takes objects away while it runs.
	stuck error
	loses func(*server.Set)
	// removed are the objects that were deleted.
	removed []string
	// held says that the Lease is held.
	held bool
	// former is the number of servers that an adoption has not retired yet, and refused says why it cannot begin.
	former  int
	refused error
	// deleting says that the operation is a delete.
	deleting bool
	// data are the volume claims and Secrets, and leased says that there is a Lease.
	data   []string
	leased bool
	// forbidden says that the credential may not read the namespace anymore.
	forbidden bool
}

func (w *world) call(format string, args ...any) error {
	w.log = append(w.log, fmt.Sprintf(format, args...))
	if len(w.log) == w.failAt {
		return errKilled
	}
	return nil
}

func (w *world) ports() ports {
	return ports{
		objects: fakeObjects{w}, servers: fakeServers{w}, credentials: fakeCredentials{w}, snapshots: fakeSnapshots{w},
		lease: fakeLease{w}, clock: fakeClock{}, report: func(context.Context, rollout.Action) {},
	}
}

type fakeObjects struct{ *world }

func (f fakeObjects) read(context.Context) (server.Set, error) {
	if f.forbidden {
		return server.Set{}, errors.New("forbidden")
	}
	return f.live, nil
}

func (f fakeObjects) apply(_ context.Context, set, _ server.Set) (accepted []server.Object, err error) {
	var kinds []string
	for _, o := range set.All() {
		kinds = append(kinds, o.GetObjectKind().GroupVersionKind().Kind)
	}
	if err := f.call("apply %s", strings.Join(kinds, " ")); err != nil {
		return set.All()[:1], err
	}
	if set.StatefulSet != nil {
		was := f.live
		f.live = set
		f.live.Namespace, f.live.ClientService = was.Namespace, cmp.Or(set.ClientService, was.ClientService)
	} else if set.Config != nil {
		f.live.Config = set.Config
	}
	return set.All(), nil
}

func (f fakeObjects) delete(_ context.Context, o server.Object) error {
	kind := o.GetObjectKind().GroupVersionKind().Kind
	if err := f.call("delete %s", kind); err != nil {
		return err
	}
	f.removed = append(f.removed, kind)
	f.live = without(f.live, kind)
	return nil
}

// without is a set without the object of a kind, or both Services.
func without(set server.Set, kind string) server.Set {
	switch kind {
	case "ServiceAccount":
		set.ServiceAccount = nil
	case "ConfigMap":
		set.Config = nil
	case "Service":
		set.PeerService, set.ClientService = nil, nil
	case "PodDisruptionBudget":
		set.DisruptionBudget = nil
	case "StatefulSet":
		set.StatefulSet = nil
	}
	return set
}

func (f fakeObjects) isOrphaned(_ context.Context, live server.Set, _ string) (bool, error) {
	return live.StatefulSet == nil && live.Config != nil, nil
}

func (f fakeObjects) attach(_ context.Context, spec server.Spec, live server.Set) (server.Set, error) {
	if err := f.call("attach"); err != nil {
		return live, err
	}
	f.live.StatefulSet = server.Objects(spec).StatefulSet
	return f.live, nil
}

func (f fakeObjects) relabel(context.Context, map[string]string, map[string]string) error {
	return f.call("relabel")
}

func (f fakeObjects) keepRouted(context.Context, server.Set) error { return f.call("keepRouted") }

func (f fakeObjects) tellServers(_ context.Context, former, declared int32) error {
	return f.call("tell %d instead of %d", declared, former)
}

func (f fakeObjects) formerConfig(context.Context, server.Spec, server.Set) (map[string]string, error) {
	return nil, nil
}

func (f fakeObjects) checkConfig(context.Context, server.Spec, server.Spec, server.Set) error {
	return f.call("check the configuration")
}

func (f fakeObjects) startVolumes(context.Context, server.Spec, server.Set) (bool, error) {
	return false, f.call("start volumes")
}

func (f fakeObjects) markResized(context.Context) error { return f.call("mark resized") }

func (f fakeObjects) markData(context.Context, bool) error {
	if !f.deleting { // a failure is ignored during a rollout
		return nil
	}
	return f.call("mark the data")
}

func (f fakeObjects) retained(context.Context) (claims, secrets []string, err error) {
	return f.data, nil, f.call("list the data")
}

func (f fakeObjects) deleteData(context.Context) error {
	if err := f.call("delete the data"); err != nil {
		return err
	}
	f.data = nil
	return nil
}

func (f fakeObjects) deleteJobs(context.Context) error { return f.call("delete the Jobs") }

func (f fakeObjects) contents(context.Context) ([]string, error) {
	left := slices.Clone(f.data)
	if f.leased {
		left = append(left, "lease/consul-server-rollout")
	}
	for _, o := range f.live.All() {
		if kind := o.GetObjectKind().GroupVersionKind().Kind; kind != "Namespace" {
			left = append(left, strings.ToLower(kind)+"/"+o.GetName())
		}
	}
	return left, f.call("list the contents")
}

func (f fakeObjects) deleteNamespace(context.Context, *corev1.Namespace) error {
	if err := f.call("delete the namespace"); err != nil {
		return err
	}
	f.live, f.forbidden = server.Set{}, true // the RoleBinding is gone too
	return nil
}

type fakeServers struct{ *world }

func (f fakeServers) running(context.Context, server.Set, server.Spec) (Running, error) {
	return Running{Established: f.live.IsEstablished()}, nil
}

func (f fakeServers) look(ctx context.Context, applied server.Spec, live server.Set) (Running, error) {
	return f.running(ctx, live, applied)
}

func (f fakeServers) rollable(l Live) rollout.Cluster { return fakeCluster{f.world, l.Desired} }

func (f fakeServers) stopUnelected(context.Context, server.Spec) (server.Set, error) {
	return f.live, f.call("stop")
}

func (f fakeServers) stop(context.Context, server.Spec, server.Set) error { return f.call("stop all") }

func (f fakeServers) revert(context.Context, server.Spec, server.Set) error { return f.call("revert") }

func (f fakeServers) recoverQuorum(_ context.Context, _ server.Spec, from string) error {
	return f.call("recover from %s", from)
}

func (f fakeServers) checkFormer(context.Context, server.Spec, server.Set) (former, error) {
	if f.refused != nil {
		return former{}, f.refused
	}
	return former{server.Takeover{Replicas: 3, Join: []string{"old:8301"}}, "token"}, f.call("check the former servers")
}

func (f fakeServers) rejoin(_ context.Context, before server.Takeover, _ string) (server.Takeover, error) {
	return before, f.call("find the former servers")
}

func (f fakeServers) adoptable(spec server.Spec, _ string, desired int) rollout.Cluster {
	return fakeAdoption{f.world, spec, desired}
}

func (f fakeServers) unsettled(_ context.Context, err error, _ server.Spec) error {
	return &UnsettledError{Err: err}
}

// fakeCluster has nothing to do, unless the world is stuck, or all servers were taken away.
type fakeCluster struct {
	*world
	desired int
}

func (f fakeCluster) Look(context.Context) (rollout.World, error) {
	if err := f.call("look"); err != nil {
		return rollout.World{}, &rollout.FinalError{Err: err}
	}
	if stuck := f.stuck; stuck != nil {
		f.stuck = nil
		return rollout.World{}, &rollout.FinalError{Err: stuck}
	}
	if loses := f.loses; loses != nil {
		f.loses = nil
		loses(&f.live)
	}
	if sts := f.live.StatefulSet; sts != nil && *sts.Spec.Replicas == 0 {
		return rollout.World{Desired: f.desired, Observed: true}, nil
	}
	w := rollout.World{Desired: f.desired, Replicas: f.desired, Observed: true, Leader: "consul-server-0"}
	for i := range f.desired {
		w.Servers = append(w.Servers, rollout.Server{Name: server.PodName("consul", i), Peer: true})
	}
	return w, nil
}

func (f fakeCluster) Do(_ context.Context, _ rollout.World, a rollout.Action) error {
	if a.Verb != rollout.Scale {
		return nil
	}
	f.live.StatefulSet.Spec.Replicas = new(int32(a.Count)) //nolint:gosec // at most 7
	return f.call("%s", a)
}

// fakeAdoption replaces the former servers of the world. The last new server leads as soon as it is there.
type fakeAdoption struct {
	*world
	spec    server.Spec
	desired int
}

func (f fakeAdoption) Look(context.Context) (rollout.World, error) {
	if err := f.call("look at both sides"); err != nil {
		return rollout.World{}, &rollout.FinalError{Err: err}
	}
	if len(f.spec.Takeover.Join) == 0 || !f.held {
		return rollout.World{}, &rollout.FinalError{Err: errors.New("new servers do not find the former ones, or the Lease is not held")}
	}
	w := rollout.World{Desired: f.desired, Replicas: int(replicasOf(f.live.StatefulSet)), Observed: true, CanTransfer: true}
	w.Takeover = &rollout.Takeover{From: "old", To: "consul-server", Total: 3, Replicas: f.former}
	for i := range w.Replicas {
		w.Leader = server.PodName("consul", i)
		w.Servers = append(w.Servers, rollout.Server{Name: w.Leader, Peer: true})
	}
	for i := range f.former {
		w.Takeover.Servers = append(w.Takeover.Servers, rollout.Server{Name: fmt.Sprintf("old-%d", i), Peer: true})
	}
	if !server.Owns("consul", f.live.ClientService.Labels) {
		w.Takeover.Services = f.spec.Adopt.Services
	}
	return w, nil
}

func (f fakeAdoption) Do(_ context.Context, _ rollout.World, a rollout.Action) error {
	if err := f.call("%s", a); err != nil {
		return &rollout.FinalError{Err: err}
	}
	switch a.Verb {
	case rollout.Add:
		sts := f.live.StatefulSet.DeepCopy()
		*sts.Spec.Replicas++
		f.live.StatefulSet = sts
	case rollout.Switch:
		f.live.ClientService = server.Objects(f.spec).ClientService
	case rollout.Retire:
		f.former--
	default:
	}
	return nil
}

type fakeCredentials struct{ *world }

func (f fakeCredentials) token(context.Context) (string, error) { return "", nil }

func (f fakeCredentials) keepToken(_ context.Context, token string) (remove, error) {
	return func(context.Context) error { f.removed = append(f.removed, token); return nil }, f.call("keep the %s", token)
}

func (f fakeCredentials) keepKeys(context.Context, server.Spec, string) (remove, error) {
	return nil, f.call("keep the keys")
}

func (f fakeCredentials) ensureKeys(context.Context, server.Spec, server.Spec) (remove, error) {
	return f.secret("keys")
}

func (f fakeCredentials) ensureCertificates(context.Context, server.Spec, server.Spec) (remove, error) {
	return f.secret("certificates")
}

func (f fakeCredentials) secret(name string) (remove, error) {
	return func(context.Context) error { f.removed = append(f.removed, name); return nil }, f.call("ensure %s", name)
}

func (f fakeCredentials) deleteKeys(context.Context) error { return f.call("delete keys") }
func (f fakeCredentials) deleteCertificates(context.Context) error {
	return f.call("delete certificates")
}

func (f fakeCredentials) deletePublishedCA(context.Context) error { return f.call("delete the CA") }

func (f fakeCredentials) loadCertificates(context.Context, server.Spec) error {
	return f.call("load certificates")
}

func (f fakeCredentials) checkReloads(context.Context, server.Spec, server.Spec) error {
	return f.call("check reloads")
}

func (f fakeCredentials) renewAgentTokens(context.Context) error { return f.call("renew agent tokens") }

func (f fakeCredentials) afterRoll(context.Context, server.Spec, string, int) error {
	return f.call("settle")
}

type fakeSnapshots struct{ *world }

func (f fakeSnapshots) takeSnapshot(context.Context, server.Spec, server.Spec) (*server.Snapshot, error) {
	return &server.Snapshot{File: "before.snap"}, f.call("snapshot")
}

func (f fakeSnapshots) prepareOrigin(context.Context) error    { return f.call("find the snapshot") }
func (f fakeSnapshots) restoreOrigin(context.Context) error    { return f.call("restore") }
func (f fakeSnapshots) cancelRestore(context.Context) error    { return f.call("cancel the restore") }
func (f fakeSnapshots) awaitRestore(context.Context) error     { return f.call("await the restore") }
func (f fakeSnapshots) routeClients(context.Context) error     { return f.call("route clients") }
func (f fakeSnapshots) refreshSchedules(context.Context) error { return f.call("refresh schedules") }

type fakeLease struct{ *world }

func (f fakeLease) exclusively(ctx context.Context, do func(context.Context) error) error {
	if err := f.call("lease"); err != nil {
		return err
	}
	f.held, f.leased = true, true
	defer func() { f.held = false }()
	return do(ctx)
}

func (f fakeLease) delete(context.Context) error {
	if err := f.call("delete the Lease"); err != nil {
		return err
	}
	f.leased = false
	return nil
}

type fakeClock struct{}

func (fakeClock) now() time.Time { return time.Time{} }

// wait asks a few times, as if time passed.
func (fakeClock) wait(ctx context.Context, what string, check func(context.Context) (string, error)) error {
	for range 10 {
		if missing, err := check(ctx); err != nil || missing == "" {
			return err
		}
	}
	return errors.New("timed out waiting for " + what)
}

func operate(w *world, wanted rollout.Wanted) error {
	return rollout.Operate(context.Background(), &operation{ports: w.ports(), wanted: wanted}, wanted.Phases)
}

// runningWorld is a world in which a cluster runs.
func runningWorld(spec server.Spec) *world {
	spec.Established = true
	return &world{live: server.Objects(spec)}
}

func operationSpec() server.Spec {
	s := server.Default()
	s.Name, s.Namespace, s.Version, s.Image, s.Replicas = "consul", "prod", "1.22.7", "consul:1.22.7", 3
	return s
}

// A create is taken back if it ends before its StatefulSet is applied, wherever that is, and never after.
func TestOperation_createIsTakenBackUntilItsObjectsAreApplied(t *testing.T) {
	t.Parallel()
	spec := operationSpec()
	spec.CreateNamespace = true
	spec.Gossip.Stage, spec.TLS.Stage = server.StageEncrypted, server.StageEncrypted
	spec.Origin = &server.Origin{}
	wanted := rollout.Wanted{Spec: spec, Create: true, Restore: true}
	whole := &world{}
	if err := operate(whole, wanted); err != nil {
		t.Fatal(err)
	}
	applied := slices.IndexFunc(whole.log, func(l string) bool { return strings.Contains(l, "StatefulSet") }) + 1
	want := []string{
		"find the snapshot", "apply Namespace ServiceAccount", "check the configuration", "relabel", "ensure keys", "ensure certificates",
		"start volumes",
	}
	if applied < 1 || !slices.Equal(whole.log[:applied-1], want) {
		t.Fatalf("before the objects: %q, want %q", whole.log[:applied-1], want)
	}
	for failAt := 1; failAt <= len(whole.log); failAt++ {
		w := &world{failAt: failAt}
		op := &operation{ports: w.ports(), wanted: wanted}
		if err := op.create(t.Context()); err == nil {
			t.Fatalf("%s fails, and the create does not", whole.log[failAt-1])
		}
		takenBack := failAt <= applied
		for what, made := range map[string]bool{
			"Namespace": failAt > 1, "ServiceAccount": failAt > 2, "keys": failAt > 4, "certificates": failAt > 5,
		} {
			if slices.Contains(w.removed, what) != (made && takenBack) {
				t.Errorf("%s fails: removed %q, and %s was made: %v", whole.log[failAt-1], w.removed, what, made)
			}
		}
	}
}

// Whatever an update does when it is killed, the next one ends like an update that was not disturbed.
func TestOperation_anUpdateThatIsKilledIsResumed(t *testing.T) {
	t.Parallel()
	before := operationSpec()
	for name, change := range map[string]func(*server.Spec){
		"an upgrade":   func(s *server.Spec) { s.Version, s.Image, s.Update.SnapshotBefore = "1.22.8", "consul:1.22.8", true },
		"encryption":   func(s *server.Spec) { s.Gossip.Stage, s.TLS.Stage = server.StageEncrypted, server.StageEncrypted },
		"more servers": func(s *server.Spec) { s.Replicas = 5 },
		"fewer":        func(s *server.Spec) { s.Replicas = 1 },
		"labels":       func(s *server.Spec) { s.Labels = map[string]string{"team": "a"} },
	} {
		after := before
		change(&after)
		wanted := rollout.Wanted{Spec: after}
		whole := runningWorld(before)
		if err := operate(whole, wanted); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := rendered(t, whole.live)
		for failAt := 1; failAt <= len(whole.log); failAt++ {
			w := runningWorld(before)
			w.failAt = failAt
			if err := operate(w, wanted); err == nil {
				t.Fatalf("%s: %s fails, and the update does not", name, whole.log[failAt-1])
			}
			w.failAt = 0
			if err := operate(w, wanted); err != nil {
				t.Fatalf("%s: killed in %q, and resumed: %v", name, whole.log[failAt-1], err)
			}
			if got := rendered(t, w.live); got != want {
				t.Errorf("%s: killed in %q, the next update ends with\n%s\nwant\n%s", name, whole.log[failAt-1], got, want)
			}
		}
	}
}

// adopting is a world with three servers that another tool made, and the create that adopts them.
func adopting() (*world, rollout.Wanted) {
	spec := operationSpec()
	spec.Gossip.Stage = server.StageEncrypted
	spec.Adopt = &server.Adopt{StatefulSet: "old", Services: []string{server.ClientServiceName("consul")}}
	w := &world{former: 3}
	w.live.ClientService = server.Objects(spec).ClientService
	w.live.ClientService.Labels = map[string]string{"made-by": "another tool"}
	return w, rollout.Wanted{Spec: spec, Create: true}
}

// The steps of an adoption, in their order. The Lease is held from when another apply can resume the adoption.
func TestOperation_adoption(t *testing.T) {
	t.Parallel()
	w, wanted := adopting()
	if err := (&operation{ports: w.ports(), wanted: wanted}).create(t.Context()); err != nil {
		t.Fatal(err)
	}
	looks := func(l string) bool { return strings.HasPrefix(l, "look") }
	want := []string{
		"check the former servers", "check the configuration", "keep the token", "keep the keys", "ensure keys",
		"apply ServiceAccount ConfigMap Service PodDisruptionBudget StatefulSet", "lease",
		"add consul-server-0", "add consul-server-1", "add consul-server-2", "switch Service consul",
		"retire old-2", "retire old-1", "retire old-0",
		"relabel", "ensure keys", "start volumes", "apply ServiceAccount ConfigMap Service Service PodDisruptionBudget StatefulSet", "settle",
	}
	if got := slices.DeleteFunc(w.log, looks); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// An adoption that is killed anywhere leaves nothing if it has not begun, and otherwise, the next create or update ends it like one that
// was not disturbed.
func TestOperation_anAdoptionThatIsKilledIsResumed(t *testing.T) {
	t.Parallel()
	create := func(w *world, wanted rollout.Wanted) error {
		return (&operation{ports: w.ports(), wanted: wanted}).create(t.Context())
	}
	update := func(w *world, wanted rollout.Wanted) error {
		return fakeLease{w}.exclusively(t.Context(), func(context.Context) error {
			wanted.Create = false
			return operate(w, wanted)
		})
	}
	whole, wanted := adopting()
	if err := create(whole, wanted); err != nil {
		t.Fatal(err)
	}
	end := func(w *world) string {
		live := w.live
		live.StatefulSet = live.StatefulSet.DeepCopy()
		adopt := live.StatefulSet.Annotations[server.AnnotationAdopt]
		delete(live.StatefulSet.Annotations, server.AnnotationAdopt)
		delete(live.StatefulSet.Annotations, server.AnnotationCreating) // only an update records that the create has ended
		return fmt.Sprint(rendered(t, live), adopt, w.former, live.ClientService.Labels)
	}
	want := end(whole)
	for name, resume := range map[string]func(*world, rollout.Wanted) error{"create": create, "update": update} {
		for failAt := 1; failAt <= len(whole.log); failAt++ {
			killed := whole.log[failAt-1]
			w, _ := adopting()
			w.failAt = failAt
			err := create(w, wanted)
			begun := w.live.StatefulSet != nil
			switch unsettled := errors.As(err, new(*UnsettledError)); {
			case err == nil:
				t.Fatalf("%s fails, and the create does not", killed)
			case unsettled != begun:
				t.Errorf("killed in %q: the cluster exists: %v, but %v", killed, begun, err)
			case begun != (len(w.removed) == 0) && failAt > 3:
				t.Errorf("killed in %q: the cluster exists: %v, and removed: %q", killed, begun, w.removed)
			case !begun && slices.Contains(w.log, "lease"):
				t.Errorf("killed in %q: a Lease is left", killed)
			}
			if w.failAt = 0; !begun && name == "update" {
				continue // there is nothing to update
			}
			if err := resume(w, wanted); err != nil {
				t.Fatalf("killed in %q, and resumed by the %s: %v", killed, name, err)
			}
			if got := end(w); got != want {
				t.Errorf("killed in %q, the next %s ends with\n%s\nwant\n%s", killed, name, got, want)
			}
		}
	}
}

// A refused adoption leaves nothing, and no Lease. Nor does one that another create has ended.
func TestOperation_aRefusedAdoptionLeavesNothing(t *testing.T) {
	t.Parallel()
	w, wanted := adopting()
	w.refused = &RefusedError{From: "old"}
	if err := (&operation{ports: w.ports(), wanted: wanted}).create(t.Context()); !errors.Is(err, w.refused) || len(w.log) > 0 {
		t.Errorf("%v, after %q", err, w.log)
	}
	w, wanted = adopting()
	begun := wanted.Spec
	begun.Takeover = &server.Takeover{Replicas: 3}
	w.live = server.Objects(begun)
	if err := (&operation{ports: w.ports(), wanted: wanted}).create(t.Context()); !errors.Is(err, ErrExists) || len(w.log) > 0 {
		t.Errorf("%v, after %q", err, w.log)
	}
}

// An adoption that is not complete refuses what it cannot be resumed with.
func TestOperation_resumesAnAdoptionAsItBegan(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*server.Spec){
		"other servers":      func(s *server.Spec) { s.Adopt = &server.Adopt{StatefulSet: "others"} },
		"without encryption": func(s *server.Spec) { s.Gossip.Stage = server.StagePlain },
	} {
		w, wanted := adopting()
		begun := wanted.Spec
		begun.Replicas, begun.Established, begun.Takeover = 1, true, &server.Takeover{Replicas: 3, Join: []string{"old:8301"}}
		w.live = server.Objects(begun)
		wanted.Create = false
		change(&wanted.Spec)
		if err := operate(w, wanted); err == nil || slices.ContainsFunc(w.log, func(l string) bool { return strings.HasPrefix(l, "apply") }) {
			t.Errorf("%s: %v, after %q", name, err, w.log)
		}
	}
}

// A record that is lost during an update is written by that update.
func TestOperation_writesTheRecordThatWasLostMeanwhile(t *testing.T) {
	t.Parallel()
	for name, loses := range map[string]func(*server.Set){
		"the record":    func(s *server.Set) { s.Config.Data = nil },
		"the ConfigMap": func(s *server.Set) { s.Config = nil },
	} {
		w := runningWorld(operationSpec())
		want := w.live.Config.Data
		w.loses = loses
		if err := operate(w, rollout.Wanted{Spec: operationSpec()}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if w.live.Config == nil || !maps.Equal(w.live.Config.Data, want) {
			t.Errorf("%s is not written again: %v", name, w.live.Config)
		}
	}
}

// The servers that run are told how many are declared: before the first one leaves, and before the last one is added.
func TestOperation_tellsTheServersHowManyThereAre(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		told, before, after int32
		want                string
	}{
		{1, 1, 3, "tell 3 instead of 1"}, {3, 3, 5, "tell 5 instead of 3"}, {3, 3, 1, "tell 1 instead of 3"}, {3, 3, 3, ""},
		// an update to five was killed
		{1, 3, 5, "tell 3 instead of 1, tell 5 instead of 3"}, {1, 3, 2, "tell 2 instead of 1"}, {1, 3, 1, "tell 1 instead of 1"},
	} {
		before, after := operationSpec(), operationSpec()
		before.Declared, before.Replicas, after.Replicas = tt.told, tt.before, tt.after
		w := runningWorld(before)
		if err := operate(w, rollout.Wanted{Spec: after}); err != nil {
			t.Fatal(err)
		}
		told := slices.DeleteFunc(w.log, func(l string) bool { return !strings.HasPrefix(l, "tell") })
		if got := strings.Join(told, ", "); got != tt.want {
			t.Errorf("%d servers, told of %d, become %d: %q, want %q", tt.before, tt.told, tt.after, got, tt.want)
		}
	}
}

// Servers that were all taken away come back with what they ran before, and then the upgrade begins. If they do not come back, nothing was
// changed.
func TestOperation_startsTheServersBeforeTheSnapshot(t *testing.T) {
	t.Parallel()
	before, after := operationSpec(), operationSpec()
	after.Version, after.Image = "1.22.8", "consul:1.22.8"
	taken := func() *world {
		w := runningWorld(before)
		w.live.StatefulSet.Spec.Replicas = new(int32(0))
		return w
	}
	w := taken()
	if err := operate(w, rollout.Wanted{Spec: after}); err != nil {
		t.Fatal(err)
	}
	snapshot := slices.Index(w.log, "snapshot")
	if scaled := slices.Index(w.log, "scale to 3 servers"); scaled < 0 || scaled > snapshot {
		t.Errorf("the servers do not come back before the snapshot: %q", w.log)
	}
	if applied := slices.IndexFunc(w.log, func(l string) bool { return strings.HasPrefix(l, "apply") }); applied < snapshot {
		t.Errorf("the change is applied before the snapshot: %q", w.log)
	}
	w = taken()
	w.stuck = &rollout.StuckError{Missing: "server consul-server-2 does not start"}
	if err := operate(w, rollout.Wanted{Spec: after}); !errors.As(err, new(*SnapshotError)) {
		t.Errorf("the servers do not come back: %v, want a *SnapshotError", err)
	}
	before.ACL, after = server.ACL{Enabled: true, DefaultPolicy: "allow"}, before
	after.ACL = server.ACL{Enabled: true, DefaultPolicy: "deny"}
	w = taken()
	w.stuck = &rollout.StuckError{Missing: "server consul-server-2 does not start"}
	var tokens *AgentTokensError
	const why = "the servers, which were all taken away, do not come back: "
	err := operate(w, rollout.Wanted{Spec: after})
	if !errors.As(err, &tokens) || !strings.HasPrefix(err.Error(), why) || errors.As(err, new(*UnsettledError)) {
		t.Errorf("the servers do not come back: %v, want an *AgentTokensError", err)
	}
}

// rendered is what a set of objects declares, without the record of the snapshot before an upgrade.
func rendered(t *testing.T, live server.Set) string {
	t.Helper()
	spec, err := server.Parse(live, server.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	spec.UpgradeSnapshot = nil
	return fmt.Sprintf("%+v", spec)
}

// A change that gets stuck is taken back only if that is declared, and never in a create.
func TestOperation_rollsBackWhatIsStuck(t *testing.T) {
	t.Parallel()
	before := operationSpec()
	for name, tt := range map[string]struct {
		onFailure string
		create    bool
		back      bool
	}{
		"held":        {server.Hold, false, false},
		"rolled back": {server.RollBack, false, true},
		"a create":    {server.RollBack, true, false},
	} {
		after := before
		after.Update.OnFailure = tt.onFailure
		w := &world{}
		if !tt.create {
			w, after.UI = runningWorld(before), !before.UI
		}
		w.stuck = &rollout.StuckError{Missing: "server consul-server-2 does not start"}
		err := operate(w, rollout.Wanted{Spec: after, Create: tt.create})
		if !errors.As(err, new(*rollout.StuckError)) || errors.As(err, new(*RolledBackError)) != tt.back {
			t.Errorf("%s: rolled back: %v (%v)", name, !tt.back, err)
		}
		spec, err := server.Parse(w.live, server.Spec{})
		if err != nil {
			t.Fatal(err)
		}
		if want := !tt.create && !tt.back; (spec.UI != before.UI) != want {
			t.Errorf("%s: the servers have the change: %v", name, !want)
		}
	}
}
