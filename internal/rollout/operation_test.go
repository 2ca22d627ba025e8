package rollout

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The order of the phases of each operation.
func TestPhases(t *testing.T) {
	t.Parallel()
	running := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Replicas: 3, Record: server.Record{Established: true}}
	with := func(s server.Spec, change func(*server.Spec)) server.Spec { change(&s); return s }
	acl := func(policy string) func(*server.Spec) {
		return func(s *server.Spec) { s.ACL = server.ACL{Enabled: true, DefaultPolicy: policy} }
	}
	unelected := with(running, func(s *server.Spec) { s.Established, s.Creating = false, true })
	pending := with(running, func(s *server.Spec) { s.Origin = &server.Origin{} })
	none := with(running, func(s *server.Spec) { s.Replicas = 0 })
	keys := with(running, func(s *server.Spec) { s.Gossip.Stage = server.StageEncrypted })
	adopts := func(s *server.Spec) { s.Adopt = &server.Adopt{StatefulSet: "old"} }
	const stage = "relabel; start to change the volumes; apply the objects; roll the servers; settle the servers; record what was done; "
	const prepare, finish = "cancel the restore; await the restore; check the change; check the configuration; ",
		"delete the gossip keys; delete the certificates; refresh the backup schedules"
	for name, tt := range map[string]struct {
		o    Observed
		w    Wanted
		want string
	}{
		"an update": {Observed{Running: running, Applied: true}, Wanted{Spec: running}, prepare + stage + finish},
		"an upgrade": {
			Observed{Running: running, Applied: true},
			Wanted{Spec: with(running, func(s *server.Spec) { s.Version, s.Update.SnapshotBefore = "1.22.8", true })},
			prepare + strings.Replace(stage, "relabel; ", "relabel; take a snapshot; ", 1) + finish,
		},
		"fewer servers": {
			Observed{Running: running, Applied: true},
			Wanted{Spec: with(running, func(s *server.Spec) { s.Replicas = 1 })},
			prepare + strings.Replace(stage, "objects; ", "objects; declare the servers; ", 1) + finish,
		},
		"more servers, after an update that was killed when it had added two": {
			Observed{Running: with(running, func(s *server.Spec) { s.Declared = 1 }), Applied: true},
			Wanted{Spec: with(running, func(s *server.Spec) { s.Replicas = 5 })},
			prepare + strings.Replace(stage, "objects; ", "objects; declare the servers; ", 1) + finish,
		},
		"more servers": {
			Observed{Running: with(running, func(s *server.Spec) { s.Declared = 3 }), Applied: true},
			Wanted{Spec: with(running, func(s *server.Spec) { s.Replicas = 5 })}, prepare + stage + finish,
		},
		"servers that start to refuse clients": {
			Observed{Running: with(running, acl("allow")), Applied: true}, Wanted{Spec: with(running, acl("deny"))},
			prepare + "renew the agent tokens; " + stage + finish,
		},
		"an upgrade of servers that were all taken away": {
			Observed{Running: none, Applied: true},
			Wanted{Spec: with(running, func(s *server.Spec) { s.Version, s.Update.SnapshotBefore = "1.22.8", true })},
			prepare + "start the servers; " + strings.Replace(stage, "relabel; ", "relabel; take a snapshot; ", 1) + finish,
		},
		"an upgrade without a snapshot of servers that were all taken away": {
			Observed{Running: none, Applied: true}, Wanted{Spec: with(running, func(s *server.Spec) { s.Version = "1.22.8" })},
			prepare + stage + finish,
		},
		"servers that were all taken away start to refuse clients": {
			Observed{Running: with(none, acl("allow")), Applied: true}, Wanted{Spec: with(running, acl("deny"))},
			prepare + "start the servers; renew the agent tokens; " + stage + finish,
		},
		"gossip that is encrypted, in three stages": {
			Observed{Running: running, Applied: true}, Wanted{Spec: keys},
			prepare + strings.Repeat(strings.Replace(stage, "relabel; ", "relabel; ensure the gossip keys; ", 1), 3) +
				strings.TrimPrefix(finish, "delete the gossip keys; "),
		},
		"certificates that are replaced": {
			Observed{Running: with(running, func(s *server.Spec) { s.TLS.Stage = server.StageEncrypted }), Applied: true},
			Wanted{Spec: with(running, func(s *server.Spec) { s.TLS.Stage, s.TLS.CATrigger = server.StageEncrypted, "2" })},
			prepare + strings.Replace(stage, "relabel; ", "relabel; ensure the certificates; load the certificates; ", 1) +
				"delete the gossip keys; refresh the backup schedules",
		},
		"servers without their StatefulSet": {
			Observed{Running: running}, Wanted{Spec: running}, prepare + "attach the pods; " + stage + finish,
		},
		"a quorum that is recovered": {
			Observed{Running: running, Applied: true}, Wanted{Spec: running, Recover: FromSurvivor},
			"recover the quorum; " + prepare + stage + finish,
		},
		"servers that never had a leader get another number": {
			Observed{Running: unelected, Applied: true}, Wanted{Spec: with(running, func(s *server.Spec) { s.Replicas = 5 })},
			prepare + strings.Replace(stage, "volumes; ", "volumes; stop the servers; ", 1) + finish,
		},
		"a restore that is pending": {
			Observed{Running: pending, Applied: true}, Wanted{Spec: running, Restore: true},
			strings.TrimPrefix(prepare, "cancel the restore; ") + stage +
				strings.Replace(finish, "refresh", "restore the snapshot; route the clients; refresh", 1),
		},
		"an adoption that is not complete": {
			Observed{Running: running, Applied: true, Adopting: true}, Wanted{Spec: running},
			"cancel the restore; await the restore; check the adoption; check the configuration; apply the objects; adopt the servers; " +
				stage + finish,
		},
		"an adoption that is not complete, by servers that refuse clients from then on": {
			Observed{Running: with(running, acl("allow")), Applied: true, Adopting: true}, Wanted{Spec: with(running, acl("deny"))},
			"cancel the restore; await the restore; check the adoption; check the configuration; renew the agent tokens; apply the objects; " +
				"adopt the servers; " + stage + finish,
		},
		"a create that begins an adoption": {
			Observed{}, Wanted{Spec: with(running, adopts), Create: true},
			"check the adoption; check the configuration; keep the secrets; apply the objects; adopt the servers; " +
				strings.TrimSuffix(stage, "; "),
		},
		"a create that begins an adoption of encrypted servers": {
			Observed{}, Wanted{Spec: with(with(running, adopts), func(s *server.Spec) {
				s.Gossip.Stage, s.TLS.Stage = server.StageEncrypted, server.StageEncrypted
			}), Create: true},
			"check the adoption; check the configuration; keep the secrets; ensure the gossip keys; ensure the certificates; apply the objects; " +
				"adopt the servers; " + strings.TrimSuffix(strings.Replace(
				stage, "relabel; ", "relabel; ensure the gossip keys; ensure the certificates; load the certificates; ", 1,
			), "; "),
		},
		"a create that resumes an adoption, with fewer servers than were added": {
			Observed{Running: with(running, adopts), Applied: true, Adopting: true},
			Wanted{Spec: with(running, func(s *server.Spec) { adopts(s); s.Replicas = 1 }), Create: true},
			"check the adoption; check the configuration; apply the objects; adopt the servers; " +
				strings.TrimSuffix(strings.Replace(stage, "objects; ", "objects; declare the servers; ", 1), "; "),
		},
		"a create with an adoption that is complete": {
			Observed{Running: with(running, adopts), Applied: true}, Wanted{Spec: with(running, adopts), Create: true},
			"check the change; prepare the namespace; check the configuration; " + strings.TrimSuffix(stage, "; "),
		},
		"a create": {
			Observed{}, Wanted{Spec: running, Create: true},
			"check the change; prepare the namespace; check the configuration; " + strings.TrimSuffix(stage, "; "),
		},
		"a create with everything": {
			Observed{},
			Wanted{Spec: with(running, func(s *server.Spec) {
				s.Gossip.Stage, s.TLS.Stage, s.Origin = server.StageEncrypted, server.StageEncrypted, &server.Origin{}
			}), Create: true, Restore: true},
			"check the change; prepare the namespace; check the configuration; " +
				strings.Replace(stage, "relabel; ", "relabel; ensure the gossip keys; ensure the certificates; ", 1) +
				"restore the snapshot; route the clients",
		},
		"a create with the volumes of an earlier cluster, encrypted": {
			Observed{Running: server.Spec{Record: server.Record{Established: true}}}, Wanted{Spec: keys, Create: true},
			"check the change; prepare the namespace; check the configuration; " +
				strings.TrimSuffix(strings.Replace(stage, "relabel; ", "relabel; ensure the gossip keys; ", 1), "; "),
		},
		"a create that is resumed with another number": {
			Observed{Running: unelected, Applied: true},
			Wanted{Spec: with(running, func(s *server.Spec) { s.Replicas = 1 }), Create: true},
			"check the change; prepare the namespace; check the configuration; " +
				strings.TrimSuffix(strings.Replace(stage, "volumes; ", "volumes; stop the servers; ", 1), "; "),
		},
	} {
		phases := tt.w.Phases(tt.o)
		var got []string
		for i := range phases {
			got = append(got, string(phases[i].Kind))
		}
		if text := strings.Join(got, "; "); text != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", name, text, tt.want)
		}
		if !inOrder(phases) {
			t.Errorf("%s: the order is not that of the kinds", name)
		}
	}
}

// inOrder reports whether phases are in the order of their kinds, except that a stage follows another.
func inOrder(phases []Phase) bool {
	last := 0
	for i := range phases {
		k := phases[i].Kind
		if another := k.staged() && kinds[last].staged(); k.rank() < last && !another {
			return false
		}
		last = max(k.rank(), 0)
	}
	return true
}

// What follows a phase is recognized by the order of the kinds.
func TestPhases_inTheOrderOfTheirKinds(t *testing.T) {
	t.Parallel()
	for name, phases := range map[string][]Phase{
		"a delete that keeps data":         DeletePhases(Doomed{Applied: true, Adopting: true, KeepsData: true}),
		"a delete of pods":                 DeletePhases(Doomed{Orphaned: true}),
		"the end of a delete":              FinalPhases(Doomed{Applied: true, OwnsNamespace: true}),
		"a restore":                        RestorePhases(Restorable{Former: true}),
		"the restore that a cluster needs": RestorePhases(Restorable{Origin: true, ACLs: true, Former: true}),
	} {
		if len(phases) == 0 || !inOrder(phases) {
			t.Errorf("%s: %v", name, phases)
		}
	}
}

// An adoption is the work of one apply at a time once its objects exist, and the new servers know of the former ones until it ends.
func TestPhases_adoption(t *testing.T) {
	t.Parallel()
	adopt := &server.Adopt{StatefulSet: "old"}
	declared := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Replicas: 3, Adopt: adopt}
	begun := declared
	begun.Replicas, begun.Record = 2, server.Record{Established: true, Creating: true, Takeover: &server.Takeover{Replicas: 3}}
	removed := declared
	removed.Adopt = nil // the record names the servers
	for name, tt := range map[string]struct {
		o         Observed
		w         Wanted
		exclusive Kind // the first one, "" if the caller excludes other applies
		replicas  int32
	}{
		"a create that begins it":   {Observed{}, Wanted{Spec: declared, Create: true}, AdoptServers, 0},
		"a create that resumes it":  {Observed{Running: begun, Applied: true, Adopting: true}, Wanted{Spec: declared, Create: true}, CheckAdoption, 2},
		"an update that resumes it": {Observed{Running: begun, Applied: true, Adopting: true}, Wanted{Spec: removed}, "", 2},
	} {
		var exclusive Kind
		adopted := false
		phases := tt.w.Phases(tt.o)
		for i := range phases {
			p := &phases[i]
			if p.Exclusive && exclusive == "" {
				exclusive = p.Kind
			}
			adopted = adopted || p.Kind == AdoptServers
			switch s := &p.Spec; {
			case p.Kind != ApplyObjects && p.Kind != AdoptServers:
			case !s.Established:
				t.Errorf("%s: servers may bootstrap a cluster (%s)", name, p.Kind)
			case adopted && p.Kind == ApplyObjects:
				if s.Takeover != nil {
					t.Errorf("%s: the adoption does not end", name)
				}
			case s.Takeover == nil || s.Adopt != adopt || s.Replicas != tt.replicas || !s.Creating:
				t.Errorf("%s: %s: %+v", name, p.Kind, s)
			}
		}
		if exclusive != tt.exclusive || !adopted {
			t.Errorf("%s: other applies are excluded from %q on, want %q", name, exclusive, tt.exclusive)
		}
	}
}

// recorder is an Operator that fails at a phase.
type recorder struct {
	observed Observed
	failAt   Kind
	did      []Kind
	// lost says that other operations interfere when they are excluded for the first time.
	lost      bool
	exclusive int
}

func (r *recorder) Observe(context.Context) (Observed, error) { return r.observed, nil }

func (r *recorder) Do(_ context.Context, p Phase) error {
	if r.did = append(r.did, p.Kind); p.Kind == r.failAt {
		return errors.New("it failed")
	}
	switch p.Kind {
	case ApplyObjects:
		r.observed.Running, r.observed.Applied, r.observed.Adopting = p.Spec, true, p.Spec.Takeover != nil
	case RecordDone:
		r.observed.Running = p.Spec
	default:
	}
	return nil
}

func (r *recorder) Exclusively(ctx context.Context, do func(context.Context) error) error {
	r.exclusive++
	err := do(ctx)
	if err != nil && r.lost {
		r.failAt = ""
		err = do(ctx)
	}
	return err
}

// An operation stops at the phase that fails, and carries out each phase once.
func TestOperate(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Replicas: 3, Record: server.Record{Established: true}}
	wanted := Wanted{Spec: spec}
	wanted.Spec.Gossip.Stage = server.StageEncrypted
	for _, k := range []Kind{CheckChange, ApplyObjects, RefreshSchedules} {
		r := &recorder{observed: Observed{Running: spec, Applied: true}, failAt: k}
		if err := Operate(t.Context(), r, wanted.Phases); err == nil || r.did[len(r.did)-1] != k {
			t.Errorf("it fails at %q, but the last phase is %q", k, r.did[len(r.did)-1])
		}
	}
	r := &recorder{observed: Observed{Running: spec, Applied: true}}
	if err := Operate(t.Context(), r, wanted.Phases); err != nil {
		t.Fatal(err)
	}
	var want []Kind
	for _, p := range wanted.Phases(Observed{Running: spec, Applied: true}) {
		want = append(want, p.Kind)
	}
	if !slices.Equal(r.did, want) {
		t.Errorf("got %q, want %q", r.did, want)
	}
}

// An adoption that a create begins excludes other operations once, after its objects are applied. If that is lost, it starts again from
// what it finds.
func TestOperate_excludesOthersFromAnAdoption(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Replicas: 3, Adopt: &server.Adopt{StatefulSet: "old"}}
	wanted := Wanted{Spec: spec, Create: true}
	begin := []Kind{CheckAdoption, CheckConfig, KeepSecrets, ApplyObjects}
	rest := []Kind{AdoptServers, Relabel, StartVolumes, ApplyObjects, RollServers, SettleServers, RecordDone}
	for name, tt := range map[string]struct {
		r    *recorder
		want []Kind
	}{
		"undisturbed": {&recorder{}, slices.Concat(begin, rest)},
		"lost while servers are adopted": {
			&recorder{lost: true, failAt: AdoptServers},
			slices.Concat(begin, []Kind{AdoptServers, CheckAdoption, CheckConfig, ApplyObjects}, rest),
		},
	} {
		if err := Operate(t.Context(), tt.r, wanted.Phases); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(tt.r.did, tt.want) || tt.r.exclusive != 1 {
			t.Errorf("%s: got %q, want %q; others were excluded %d times", name, tt.r.did, tt.want, tt.r.exclusive)
		}
	}
}
