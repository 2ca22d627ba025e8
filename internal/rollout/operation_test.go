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
	keys := with(running, func(s *server.Spec) { s.Gossip.Stage = server.StageEncrypted })
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
		"servers that start to refuse clients": {
			Observed{Running: with(running, acl("allow")), Applied: true}, Wanted{Spec: with(running, acl("deny"))},
			prepare + "renew the agent tokens; " + stage + finish,
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
			"cancel the restore; await the restore; resume the adoption; refresh the backup schedules",
		},
		"an adoption that is not complete, by servers that refuse clients from then on": {
			Observed{Running: with(running, acl("allow")), Applied: true, Adopting: true}, Wanted{Spec: with(running, acl("deny"))},
			"cancel the restore; await the restore; renew the agent tokens; resume the adoption; refresh the backup schedules",
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
		phases := Phases(tt.o, tt.w)
		var got []string
		for i := range phases {
			got = append(got, string(phases[i].Kind))
		}
		if text := strings.Join(got, "; "); text != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", name, text, tt.want)
		}
	}
}

// recorder is an Operator that fails at a phase.
type recorder struct {
	observed Observed
	failAt   Kind
	did      []Kind
}

func (r *recorder) Observe(context.Context) (Observed, error) { return r.observed, nil }

func (r *recorder) Do(_ context.Context, p Phase) error {
	if r.did = append(r.did, p.Kind); p.Kind == r.failAt {
		return errors.New("it failed")
	}
	if p.Kind == RecordDone {
		r.observed.Running = p.Spec
	}
	return nil
}

// An operation stops at the phase that fails, and carries out each phase once.
func TestOperate(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Replicas: 3, Record: server.Record{Established: true}}
	wanted := Wanted{Spec: spec}
	wanted.Spec.Gossip.Stage = server.StageEncrypted
	for _, k := range []Kind{CheckChange, ApplyObjects, RefreshSchedules} {
		r := &recorder{observed: Observed{Running: spec, Applied: true}, failAt: k}
		if err := Operate(t.Context(), r, wanted); err == nil || r.did[len(r.did)-1] != k {
			t.Errorf("it fails at %q, but the last phase is %q", k, r.did[len(r.did)-1])
		}
	}
	r := &recorder{observed: Observed{Running: spec, Applied: true}}
	if err := Operate(t.Context(), r, wanted); err != nil {
		t.Fatal(err)
	}
	var want []Kind
	for _, p := range Phases(Observed{Running: spec, Applied: true}, wanted) {
		want = append(want, p.Kind)
	}
	if !slices.Equal(r.did, want) {
		t.Errorf("got %q, want %q", r.did, want)
	}
}
