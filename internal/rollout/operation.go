package rollout

import (
	"cmp"
	"context"
	"slices"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Observed is what an operation finds, and decides from.
type Observed struct {
	// Running is what was applied last, with the number of servers, the encryption, and the record that the servers show. Declared is
	// the number that the servers are told, 0 if it is not known. It is the zero Spec if there are no servers.
	Running server.Spec
	// Applied says that there is a StatefulSet. Without one, servers may run all the same.
	Applied bool
	// Adopting says that an adoption has begun, and is not complete.
	Adopting bool
	// World is what a rollout sees, nil if the servers were not looked at. Only a preview needs it.
	World *World
}

// Wanted is what an operation is to achieve.
type Wanted struct {
	Spec server.Spec
	// Create says that the cluster is to be created, or that its create is to be completed: all servers start at once.
	Create bool
	// Recover is the recovery of a lost quorum, FromSurvivor or FromNothing, "" for none.
	Recover string
	// Restore says that the snapshot that the cluster starts from can be restored. Without it, a pending restore is canceled.
	Restore bool
}

// Phase is a part of an operation. A phase whose work is done does nothing when it is carried out again, so that an operation can be
// interrupted between any two phases, and within each.
type Phase struct {
	Kind Kind
	// Spec is what the phase applies, or what it brings the servers to. A change of the encryption goes through several specs.
	Spec server.Spec
	// Steps are the actions of the phase that a plan shows. The servers may change meanwhile: each is decided again when it is due.
	Steps []Action
	// Exclusive says that the operation excludes others from this phase on, if it does not do so from its beginning.
	Exclusive bool
}

// Kind is what a phase does.
type Kind string

// Kinds of phases, in their order. Those from Relabel to RecordDone are carried out for every stage of a change: an adoption is a stage
// before the others, and a change of the encryption has several.
const (
	// RecoverQuorum makes a cluster that has lost its quorum elect a leader.
	RecoverQuorum Kind = "recover the quorum"
	// CancelRestore ends the restore of a snapshot from which the cluster no longer starts.
	CancelRestore Kind = "cancel the restore"
	// AwaitRestore waits until a restore whose provider was killed has ended.
	AwaitRestore Kind = "await the restore"
	// CheckChange refuses what must not be done. Nothing was changed until then.
	CheckChange Kind = "check the change"
	// CheckAdoption is CheckChange for an adoption, and finds out what the new servers have to know of the former ones.
	CheckAdoption Kind = "check the adoption"
	// PrepareNamespace creates what the check of the configuration requires: the namespace and the ServiceAccount.
	PrepareNamespace Kind = "prepare the namespace"
	// CheckConfig lets Consul check the configuration.
	CheckConfig Kind = "check the configuration"
	// StartServers brings back servers that were all taken away, with what they ran before, if what follows has to ask them before any
	// of them runs the change.
	StartServers Kind = "start the servers"
	// RenewAgentTokens makes every server accept its agent token before the first one refuses anything.
	RenewAgentTokens Kind = "renew the agent tokens"
	// KeepSecrets copies the management token and the gossip keys of the former servers of an adoption.
	KeepSecrets Kind = "keep the secrets"
	// AttachPods creates the StatefulSet of servers that run without one.
	AttachPods Kind = "attach the pods"

	// Relabel gives the objects that no spec renders the declared labels.
	Relabel Kind = "relabel"
	// EnsureKeys creates the gossip keys.
	EnsureKeys Kind = "ensure the gossip keys"
	// EnsureCertificates creates the certificates.
	EnsureCertificates Kind = "ensure the certificates"
	// LoadCertificates makes the servers load their certificates.
	LoadCertificates Kind = "load the certificates"
	// TakeSnapshot takes the snapshot before an upgrade.
	TakeSnapshot Kind = "take a snapshot"
	// StartVolumes makes volumes grow, which Kubernetes may refuse: nothing else was changed until then.
	StartVolumes Kind = "start to change the volumes"
	// StopServers stops all servers: those of a cluster that is deleted, and those of one that never had a leader. If some of the latter
	// read the new number of servers to expect beside others that read the former one, each of the two could elect a leader.
	StopServers Kind = "stop the servers"
	// ApplyObjects applies what the spec renders.
	ApplyObjects Kind = "apply the objects"
	// AdoptServers adds the new servers of an adoption, routes clients to them, and retires the former ones.
	AdoptServers Kind = "adopt the servers"
	// DeclareServers tells the servers how many are declared, before any of them leaves, or another one is added.
	DeclareServers Kind = "declare the servers"
	// RollServers reloads, restarts, adds, and removes servers until all run the spec.
	RollServers Kind = "roll the servers"
	// SettleServers does what requires rights in Consul: agent tokens, autopilot, gossip keys, and certificates.
	SettleServers Kind = "settle the servers"
	// RecordDone records what was done.
	RecordDone Kind = "record what was done"

	// DeleteKeys deletes the gossip keys, which no server uses anymore.
	DeleteKeys Kind = "delete the gossip keys"
	// DeleteCertificates deletes the certificates, which no server uses anymore.
	DeleteCertificates Kind = "delete the certificates"
	// RestoreSnapshot restores the snapshot that the cluster starts from.
	RestoreSnapshot Kind = "restore the snapshot"
	// RouteClients routes clients to a cluster that was restored.
	RouteClients Kind = "route the clients"
	// RefreshSchedules makes the backup schedules follow the change.
	RefreshSchedules Kind = "refresh the backup schedules"
)

// kinds in their order, those of a delete (delete.go) and of a restore into running servers (restore.go) too.
var kinds = []Kind{
	RevertAdoption,
	BootstrapACLs, FinishFormer, CheckServers, StartRestore, FollowRestore, RecordRestore, HealServers, RecordOrigin,
	RecoverQuorum, CancelRestore, AwaitRestore, CheckChange, CheckAdoption, PrepareNamespace, CheckConfig, StartServers, RenewAgentTokens,
	KeepSecrets, AttachPods, MarkData,
	Relabel, EnsureKeys, EnsureCertificates, LoadCertificates, TakeSnapshot, StartVolumes, StopServers, ApplyObjects, AdoptServers,
	DeclareServers, RollServers, SettleServers, RecordDone,
	DeleteKeys, DeleteCertificates, RestoreSnapshot, RouteClients, RefreshSchedules,
	InspectServers, FinishRestore, DeleteJobs, DeleteData, DeleteObjects, DeletePublishedCA, ListKept, DeleteLease, DeleteNamespace,
	DeleteStatefulSet,
}

func (k Kind) rank() int { return slices.Index(kinds, k) }

// staged reports whether a phase of the kind is carried out for every stage.
func (k Kind) staged() bool { return k.rank() >= Relabel.rank() && k.rank() <= RecordDone.rank() }

// changesRunning reports whether what follows a phase of the kind has to be decided from another observation. RestoreSnapshot is not one
// of them: once it is recorded, nothing else shows that clients are still to be routed.
func (k Kind) changesRunning() bool {
	return slices.Contains([]Kind{
		RecoverQuorum, CancelRestore, AwaitRestore, StartServers, AttachPods, AdoptServers, RecordDone, RevertAdoption, FinishFormer,
	}, k)
}

// Phases lists the phases that bring a cluster from what was observed to what is wanted.
func (w Wanted) Phases(o Observed) []Phase {
	var out []Phase
	add := func(due bool, k Kind, spec server.Spec, steps ...Action) {
		if due {
			out = append(out, Phase{Kind: k, Spec: spec, Steps: steps})
		}
	}
	before, after := o.Running, w.Spec
	if w.Create {
		after.Record = before.Created(w.Spec.Record)
	} else {
		after.Record = before.Updated(w.Restore)
	}
	begins := w.BeginsAdoption(o)
	adopts := begins || o.Adopting
	after.Takeover, after.Established = nil, after.Established || adopts // no server may bootstrap a second cluster
	add(w.Recover != "", RecoverQuorum, after, Action{Verb: Recover, On: w.Recover})
	add(!w.Create && !w.Restore, CancelRestore, after)
	add(!w.Create, AwaitRestore, after)
	add(!adopts, CheckChange, after)
	add(adopts, CheckAdoption, after)
	add(w.Create && !adopts, PrepareNamespace, after)
	add(true, CheckConfig, after)
	refuses := before.ACL.Enabled && !before.ACL.Denies() && after.ACL.Denies()
	if o.Applied && !adopts && !w.Create && before.Established && before.Replicas == 0 && (refuses || TakesSnapshot(before, after)) {
		start := before
		start.Replicas = cmp.Or(before.Declared, after.Replicas)
		add(true, StartServers, start, Action{Verb: Scale, Count: int(start.Replicas)})
	}
	add(refuses, RenewAgentTokens, after)
	add(begins, KeepSecrets, after)
	add(!w.Create && !o.Applied, AttachPods, before)
	if adopts {
		before = adopting(before, after)
		add(before.Gossip.Stage != server.StagePlain, EnsureKeys, before)
		add(before.TLS.Stage != server.StagePlain, EnsureCertificates, before)
		add(true, ApplyObjects, before)
		add(true, AdoptServers, before)
	}
	stages := server.Stages(before, after)
	if w.Create { // the servers start with what is declared, also those that find the volumes of an earlier cluster
		stages = []server.Spec{after}
	}
	allAtOnce := w.Create && !adopts
	for _, stage := range stages {
		out = append(out, stagePhases(before, stage, allAtOnce, o.Applied)...)
		before = stage
	}
	encrypts := func(s server.Stage) bool { return s != server.StagePlain }
	add(!w.Create && !encrypts(after.Gossip.Stage), DeleteKeys, after, when(encrypts(o.Running.Gossip.Stage), DeleteGossipKeys)...)
	add(!w.Create && !encrypts(after.TLS.Stage), DeleteCertificates, after, when(encrypts(o.Running.TLS.Stage), RemoveCertificates)...)
	restores := w.Restore && after.Origin.Pending()
	add(restores, RestoreSnapshot, after)
	add(restores, RouteClients, after)
	add(!w.Create, RefreshSchedules, after)
	for i := range out { // once its objects are applied, another apply can resume an adoption
		out[i].Exclusive = w.Create && (o.Adopting || begins && out[i].Kind == AdoptServers)
	}
	return out
}

// BeginsAdoption reports whether a create begins an adoption.
func (w Wanted) BeginsAdoption(o Observed) bool { return w.Create && !o.Applied && w.Spec.Adopt != nil }

// adopting is the spec of the new servers of an adoption while former ones remain. The rollout adds them one by one.
func adopting(before, after server.Spec) server.Spec {
	spec := after
	spec.Adopt = cmp.Or(after.Adopt, before.Adopt)
	spec.Takeover = cmp.Or(before.Takeover, &server.Takeover{}) // CheckAdoption finds out the addresses
	spec.Replicas, spec.Creating = before.Replicas, after.Creating || before.Creating
	return spec
}

// stagePhases are the phases of one stage. allAtOnce says that no server runs that has to be kept, and applied that there is a StatefulSet.
func stagePhases(before, stage server.Spec, allAtOnce, applied bool) []Phase {
	spec := stage
	if !allAtOnce && spec.Established {
		spec = OneByOne(stage, before.Replicas)
	} else {
		spec.Declared = spec.Replicas // no leader was elected yet: all may start at once
	}
	var out []Phase
	add := func(due bool, k Kind, steps ...Action) {
		if due {
			out = append(out, Phase{Kind: k, Spec: spec, Steps: steps})
		}
	}
	hasKeys, hasCertificates := before.Gossip.Stage != server.StagePlain, before.TLS.Stage != server.StagePlain
	encryptsGossip, encryptsTLS := spec.Gossip.Stage != server.StagePlain, spec.TLS.Stage != server.StagePlain
	add(true, Relabel)
	add(encryptsGossip, EnsureKeys, when(!hasKeys, CreateGossipKeys)...)
	add(encryptsTLS, EnsureCertificates, when(!hasCertificates, CreateCertificates)...)
	add(!allAtOnce && hasCertificates && encryptsTLS, LoadCertificates)
	add(!allAtOnce && spec.Established && TakesSnapshot(before, spec), TakeSnapshot, Action{Verb: Snapshot})
	add(true, StartVolumes)
	add(applied && RestartsUnelected(before, spec), StopServers)
	add(true, ApplyObjects)
	toldOther := before.Declared != 0 && before.Declared != spec.Declared // as an interrupted change leaves it
	add(!allAtOnce && (before.Replicas > spec.Declared || toldOther), DeclareServers)
	add(true, RollServers)
	add(true, SettleServers)
	add(true, RecordDone)
	return out
}

// when is a step that is only shown under a condition.
func when(due bool, v Verb) []Action {
	if due {
		return []Action{{Verb: v}}
	}
	return nil
}

// Operator observes a cluster, and carries out the phases of an operation on it.
type Operator[O any] interface {
	// Observe reads what the next decision depends on.
	Observe(ctx context.Context) (O, error)
	// Do carries out a phase, from what was observed last.
	Do(ctx context.Context, p Phase) error
	// Exclusively calls do while no other operation changes the cluster. If it cannot be sure of that anymore, it calls do again.
	Exclusively(ctx context.Context, do func(context.Context) error) error
}

// Operate carries out an operation: it observes, lists the phases, and carries them out until one changes what the next decision
// depends on. It keeps no state: stopped anywhere, the next call resumes the operation.
func Operate[O any](ctx context.Context, op Operator[O], phases func(O) []Phase) error {
	return operate(ctx, op, phases, nil, false)
}

// operate is Operate after the last phase that was carried out, nil if none was. alone says that other operations are excluded.
func operate[O any](ctx context.Context, op Operator[O], phases func(O) []Phase, last *Phase, alone bool) error {
	for {
		o, err := op.Observe(ctx)
		if err != nil {
			return err
		}
		left := after(last, phases(o))
		if len(left) == 0 {
			return nil
		}
		for i := range left {
			if left[i].Exclusive && !alone {
				return op.Exclusively(ctx, func(ctx context.Context) error {
					from := last
					last = nil // if it is called again, another operation may have changed everything
					return operate(ctx, op, phases, from, true)
				})
			}
			if err := op.Do(ctx, left[i]); err != nil {
				return err
			}
			if last = &left[i]; last.Kind.changesRunning() {
				break
			}
		}
		if !last.Kind.changesRunning() {
			return nil
		}
	}
}

// after leaves out the phases that are done: those up to the last one that was carried out.
func after(last *Phase, all []Phase) []Phase {
	return slices.DeleteFunc(all, func(p Phase) bool {
		switch {
		case last == nil:
			return false
		case last.Kind.staged() && p.Kind.staged() && !sameStage(last.Spec, p.Spec):
			return false // another stage
		default:
			return p.Kind.rank() <= last.Kind.rank()
		}
	})
}

// sameStage reports whether two specs belong to the same stage of an operation.
func sameStage(a, b server.Spec) bool {
	return server.SameStages(a, b) && (a.Takeover == nil) == (b.Takeover == nil)
}
