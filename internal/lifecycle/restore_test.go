package lifecycle

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// restoreWorld is what a restore reaches beside the ports. broken says that what a restore breaks is not repaired.
type restoreWorld struct {
	*world
	job                        *restic.Restoring
	times                      int
	broken, recorded, complete bool
	// uncertain says that the last step of the next restore fails.
	uncertain bool
}

func (w *restoreWorld) begun(context.Context) (*restic.Restoring, error) {
	return w.job, w.call("look")
}

func (w *restoreWorld) finish(context.Context) error {
	err := w.call("finish")
	if err == nil {
		w.job = nil
	}
	return err
}

func (w *restoreWorld) bootstrap(context.Context) error { return w.call("bootstrap") }

func (w *restoreWorld) checkServers(context.Context, server.Spec) (consulacl.SecretRef, error) {
	return consulacl.SecretRef{}, w.call("check")
}

func (w *restoreWorld) start(context.Context, server.Spec, consulacl.SecretRef) (*restic.Restoring, error) {
	if err := w.call("start"); err != nil {
		return nil, err
	}
	w.job = &restic.Restoring{Same: true}
	return w.job, nil
}

// follow restores the snapshot, unless its Job has done so.
func (w *restoreWorld) follow(_ context.Context, job *restic.Restoring) (restic.Restored, error) {
	if !job.Ended {
		job.Ended, job.Changed, w.broken = true, true, true
		w.times++
	}
	if w.uncertain {
		job.Same, w.uncertain = false, false
		return restic.Restored{}, &restic.UncertainError{Err: errors.New("it failed")}
	}
	return restic.Restored{Stored: job.Stored}, w.call("follow")
}

func (w *restoreWorld) record(context.Context, restic.Restored) error {
	err := w.call("record")
	w.recorded = w.recorded || err == nil
	return err
}

func (w *restoreWorld) recordOrigin(context.Context, restic.Restored) error {
	err := w.call("record the origin")
	w.complete = err == nil
	return err
}

func (w *restoreWorld) heal(context.Context, server.Spec) error {
	err := w.call("heal")
	w.broken = w.broken && err != nil
	return err
}

func (w *restoreWorld) inspect(context.Context, server.Spec) (restic.Inspection, error) {
	return restic.Inspection{}, w.call("inspect")
}

// A restore does this in this order, and whatever it does when it is killed, the next one ends in the same way, and restores once.
func TestRestore_oneThatIsKilledIsResumed(t *testing.T) {
	t.Parallel()
	start := []string{"check", "start"}
	end := []string{"follow", "record", "heal", "refresh schedules", "inspect", "finish"}
	originEnd := []string{"follow", "record", "heal", "record the origin", "finish"}
	former := func(changed bool) *restic.Restoring { return &restic.Restoring{Ended: true, Changed: changed} }
	for name, tt := range map[string]struct {
		origin, acls bool
		job          *restic.Restoring
		want         []string
	}{
		"a restore":     {want: slices.Concat([]string{"look"}, start, end), acls: true},
		"a resumed one": {want: slices.Concat([]string{"look"}, end), job: &restic.Restoring{Same: true}},
		"after one that changed something": {
			want: slices.Concat([]string{"look", "heal", "finish", "look"}, start, end), job: former(true),
		},
		"after one that changed nothing": {
			want: slices.Concat([]string{"look", "finish", "look"}, start, end), job: former(false),
		},
		"a new cluster": {want: slices.Concat([]string{"look"}, start, originEnd), origin: true},
		"a new cluster with ACLs": {
			want: slices.Concat([]string{"look", "bootstrap"}, start, originEnd), origin: true, acls: true,
		},
		"a new cluster after a restore that changed something": {
			want:   slices.Concat([]string{"look", "heal", "finish", "look"}, start, originEnd),
			origin: true, acls: true, job: former(true),
		},
		"a new cluster after a restore that changed nothing": {
			want:   slices.Concat([]string{"look", "bootstrap", "finish", "look"}, start, originEnd),
			origin: true, acls: true, job: former(false),
		},
	} {
		running := operationSpec()
		if running.ACL.Enabled = tt.acls; tt.origin {
			running.Origin = &server.Origin{}
		}
		begin := func(failAt int) *restoreWorld {
			w := &restoreWorld{world: &world{failAt: failAt}}
			if tt.job != nil {
				w.job = new(*tt.job)
			}
			return w
		}
		run := func(w *restoreWorld) error {
			_, err := restore(t.Context(), w.ports(), w, running)
			return err
		}
		whole := begin(0)
		if err := run(whole); err != nil || !slices.Equal(whole.log, tt.want) {
			t.Fatalf("%s: %v; did %q, want %q", name, err, whole.log, tt.want)
		}
		last := len(tt.want)
		for failAt := 1; failAt < last; failAt++ {
			w := begin(failAt)
			if err := run(w); !errors.Is(err, errKilled) {
				t.Fatalf("%s: %s fails, and the restore does not: %v", name, tt.want[failAt-1], err)
			}
			w.failAt, w.log = 0, nil
			if err := run(w); err != nil {
				t.Fatalf("%s: killed in %q, and resumed: %v", name, tt.want[failAt-1], err)
			}
			from := slices.Index(tt.want, "follow")
			if i := slices.Index(w.log, "follow"); i < 0 || !slices.Equal(w.log[i:], tt.want[from:]) {
				t.Errorf("%s: killed in %q, the next restore does %q", name, tt.want[failAt-1], w.log)
			}
			if w.times != 1 || w.broken || !w.recorded || w.complete != tt.origin || w.job != nil {
				t.Errorf("%s: killed in %q, the next restore ends with %+v", name, tt.want[failAt-1], w)
			}
		}
		w := begin(last) // a Job that stays is no failure
		if err := run(w); err != nil || w.job == nil {
			t.Errorf("%s: the Job is not removed: %v", name, err)
		}
	}
}

// What may have been changed is repaired, also if the last step of a restore fails. The next restore starts from the beginning.
func TestRestore_repairsWhatMayBeChanged(t *testing.T) {
	t.Parallel()
	w := &restoreWorld{world: &world{}, uncertain: true}
	const want = "the last step of the restore failed, and may have replaced the data of the cluster: it failed"
	if _, err := restore(t.Context(), w.ports(), w, operationSpec()); err == nil || err.Error() != want || w.broken {
		t.Errorf("got %v, want %s; repaired: %v", err, want, !w.broken)
	}
	if _, err := restore(t.Context(), w.ports(), w, operationSpec()); err != nil || w.times != 2 || w.broken {
		t.Errorf("the next one: %v; restored %d times", err, w.times)
	}
	w.job = &restic.Restoring{}
	if _, err := restore(t.Context(), w.ports(), w, operationSpec()); !errors.Is(err, restic.ErrRestoring) {
		t.Errorf("another one is under way: %v", err)
	}
}
