// Package lifecycle carries out what happens to a cluster: create, update, adoption, backup and restore, recovery, and delete. It observes
// what runs, lets package rollout decide, and acts. It does not know about Terraform.
package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Deployment creates, changes, reads and deletes the servers of one cluster.
type Deployment struct {
	Kube   *kube.Client
	Consul *consul.Cluster
	// Report is called for every action of a rollout. Each is an Event of the StatefulSet too.
	Report func(rollout.Action)
	// Known is what was declared before an Update, for settings that cannot be read from the live
	// cluster. If it is nil, the current declaration is used.
	Known *server.Spec
	// Began is when the operation began: what Kubernetes reported before is not about it.
	Began time.Time
	// Origin is where a cluster with a pending Spec.Origin gets its snapshot from. Without it, an
	// Update cancels the restore.
	Origin *Origin
	// Unchecked is called with the reason why Consul could not check a configuration before the
	// servers get it.
	Unchecked func(why error)
}

// State is a cluster as it is.
type State struct {
	Spec server.Spec
	// Elected says that the first leader is recorded. If the record is lost, the Spec counts as
	// established without it.
	Elected bool
	// Drift names fields that are not as the Spec renders them (server.Drift), and Pending
	// those of its entries that are the rest of a change that was applied.
	Drift, Pending []string
	// RunningVersion is the oldest version that a server runs.
	RunningVersion string
	// Started are the versions that Consul was started with on the servers' volumes,
	// oldest first: those that run, and those that may have written data and crashed.
	Started []string
	// Outdated are the pods that do not run what the StatefulSet says, unless others
	// restart them.
	Outdated []string
	// Terminating says that the namespace is being deleted, and everything in it.
	Terminating bool
}

// Errors that a create returns before anything was touched.
var (
	// ErrExists says that a finished cluster of the name exists.
	ErrExists = errors.New("the cluster already exists")
	// ErrNamespaceExists says that a namespace that was to be created exists.
	ErrNamespaceExists = errors.New("the namespace already exists")
)

// UnsettledError says that everything was applied, but that not all servers are healthy voters that
// run it. Nothing is lost: the same call resumes the operation.
type UnsettledError struct {
	// Err says what was waited for, and what autopilot said.
	Err error
	// Explanation is what Kubernetes reports for the pods (kube.Client.Explain).
	Explanation string
}

// Error implements error.
func (e *UnsettledError) Error() string { return e.Err.Error() + "\n\n" + e.Explanation }

// Unwrap returns what was waited for.
func (e *UnsettledError) Unwrap() error { return e.Err }

// RolledBackError says that a change did not work, and that all servers run again what they ran
// before.
type RolledBackError struct{ Err error }

// Error implements error.
func (e *RolledBackError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *RolledBackError) Unwrap() error { return e.Err }

// Read reads the cluster as it is. It only asks Kubernetes, so it works while Consul does not. What
// cannot be read is taken from known, which was declared last. It returns server.ErrNoStatefulSet
// if there is no cluster. A cluster of which only the StatefulSet is missing exists.
func (d Deployment) Read(ctx context.Context, known server.Spec) (State, error) {
	live, err := ReadObjects(ctx, d.Kube, d.Consul.Namespace, d.Consul.Name)
	if err != nil {
		return State{}, err
	}
	if orphaned, err := d.isOrphaned(ctx, live, known.Name); err != nil {
		return State{}, err
	} else if orphaned {
		return d.readOrphaned(ctx, known, live)
	}
	s := State{Elected: live.IsEstablished()}
	if s.Spec, err = server.Parse(live, known); err != nil {
		return State{}, err
	}
	s.Terminating = live.Namespace != nil && live.Namespace.DeletionTimestamp != nil
	var template bool
	s.Drift, template = drift(s.Spec, known, live)
	pending := func(text string) { s.Drift, s.Pending = append(s.Drift, text), append(s.Pending, text) }
	if live.IsTakeover() { // all of it is applied when the adoption resumes
		s.Drift, template = nil, false
		pending("the adoption is not complete, will continue")
	}
	if s.Spec.Origin.Pending() {
		pending("Backup: not restored yet, will be restored")
	}
	if s.Spec.Resizing {
		pending("StatefulSet " + live.StatefulSet.Name + ": the change of the volumes is not complete, will continue")
	}
	if s.Spec.Gossip.Stage.HalfWay() {
		pending("Gossip: half-way between plain text and encryption, will continue")
	}
	if s.Spec.TLS.Stage.HalfWay() {
		pending("TLS: half-way between plain text and encryption, will continue")
	}
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return State{}, err
	}
	for i := range pods {
		if Outdated(live.StatefulSet, &pods[i]) && s.Spec.Update.Strategy != server.OnDelete {
			s.Outdated = append(s.Outdated, pods[i].Name)
			why, isPending := whyOutdated(live.StatefulSet, &pods[i], template)
			if text := "Pod " + pods[i].Name + ": " + why; isPending {
				pending(text)
			} else {
				s.Drift = append(s.Drift, text)
			}
		}
	}
	s.RunningVersion, s.Started = versions(pods)
	return s, nil
}

// versions returns the oldest version that runs in the pods, "" if none does, and
// those that Consul was started with in them.
func versions(pods []corev1.Pod) (running string, started []string) {
	var all []string
	for i := range pods {
		v := pods[i].Labels[server.LabelVersion]
		if !stopped(&pods[i]) {
			all = append(all, v)
		}
		if hasStarted(&pods[i]) {
			started = append(started, v)
		}
	}
	if all = server.SortVersions(all); len(all) > 0 {
		running = all[0]
	}
	return running, server.SortVersions(started)
}

// drift names the fields that are not as the Spec that was read renders them. It leaves out fields
// that are as the known Spec renders them: one attribute governs several fields, and somebody may
// have changed the one from which it is read. template reports whether somebody edited the pod
// template: the template is neither as it was declared last, nor as an interrupted apply wrote it.
func drift(spec, known server.Spec, live server.Set) (fields []string, template bool) {
	fields = server.Drift(server.Objects(spec), live)
	if known.Name == "" { // an import
		return fields, false
	}
	known.Record = spec.Record
	declared := server.Drift(server.Objects(known), live)
	ofTemplate := func(f string) bool {
		return strings.HasPrefix(f, "StatefulSet "+server.StatefulSetName(known.Name)+": spec.template.")
	}
	applied := server.TemplateHash(spec) == live.StatefulSet.Spec.Template.Annotations[server.AnnotationTemplateHash] &&
		!slices.ContainsFunc(fields, ofTemplate)
	fields = slices.DeleteFunc(fields, func(f string) bool { return !slices.Contains(declared, f) })
	return fields, !applied && slices.ContainsFunc(declared, ofTemplate)
}

// Create creates a cluster, or resumes an interrupted create, waits until all servers are healthy voters, and
// restores what the cluster starts from (Origin). An error other than an *UnsettledError means that there is no
// cluster: Create has removed what it created.
func (d Deployment) Create(ctx context.Context, spec server.Spec) error {
	d.Consul = d.Consul.WithLabels(spec.Labels)
	if spec.Adopt != nil && spec.Origin != nil {
		return &OriginError{errors.New("a cluster that adopts servers has their data: remove adopt or restore_from")}
	}
	live, err := ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return err
	}
	if spec.Adopt != nil && (live.StatefulSet == nil || live.IsTakeover()) {
		return d.takeOver(ctx, spec, live)
	}
	if err := foreign(live, spec.Name); err != nil {
		return err
	}
	if err := checkNamespace(live.Namespace, spec); err != nil {
		return err
	}
	running, err := d.running(ctx, live, spec)
	if err != nil {
		return err
	}
	spec.Creating = true
	var before server.Spec
	if live.StatefulSet == nil && len(running.Pods) > 0 {
		before = running.spec(spec, true)
	}
	if before.Established && !server.SameStages(before, spec) {
		return fmt.Errorf(
			"servers of %s run without a StatefulSet, and their encryption is not as declared: create the cluster with the gossip.enabled and "+
				"tls.enabled of these servers, and change them with the next apply",
			spec.ID(),
		)
	}
	if live.StatefulSet != nil {
		if before, err = server.Parse(live, spec); err != nil {
			return err
		}
		spec.Established = before.Established // as recorded: so it was rendered
		before = running.spec(before, false)
		if spec.Origin != nil && before.Origin != nil {
			spec.Origin = before.Origin
		}
		// A cluster that has had a leader is only completed as it was declared: any other change is
		// an update, one server at a time.
		rendered := server.Objects(spec)
		if spec.Origin != nil { // its client Service changes its destination in the middle of a create
			rendered.ClientService = nil
		}
		if !before.Creating || (before.Established && len(server.Drift(rendered, live)) > 0) {
			return ErrExists
		}
	}
	if err := CheckRetained(spec.Namespace, within(running.Claims, int(spec.Replicas)), spec.Version); err != nil {
		return err
	}
	spec.Established = running.Established
	if live.StatefulSet == nil && spec.Origin.Pending() {
		if _, err := d.FindOrigin(ctx, *d.Origin); err != nil {
			return &OriginError{err}
		}
		// Of a cluster that was deleted by hand: the snapshot was restored into that cluster.
		if err := d.Origin.Client.FinishRestore(ctx); err != nil {
			return &OriginError{err}
		}
	}
	if spec.FormerConfig, err = d.formerConfig(ctx, spec, live); err != nil {
		return err
	}
	// What the check of the configuration requires.
	first := server.Objects(spec)
	first = server.Set{Namespace: first.Namespace, ServiceAccount: first.ServiceAccount}
	accepted, err := applyObjects(ctx, d.Kube, first, live)
	if err == nil {
		err = d.checkConfig(ctx, before, spec, first)
	}
	if err == nil { // volumes that were retained may be smaller
		spec.Resizing, err = d.startVolumes(ctx, spec, live, int(spec.Replicas))
	}
	var made []func(context.Context) error
	if err == nil {
		made, err = d.ensureSecrets(ctx, before, spec)
	}
	if err == nil { // claims and Secrets that were retained, or left by an interrupted create
		err = d.relabel(ctx, before.Labels, spec.Labels)
	}
	present := live
	if err == nil && live.StatefulSet != nil && rollout.RestartsUnelected(before, spec) {
		present, err = d.stopUnelected(ctx, spec)
	}
	if err == nil {
		rest := server.Objects(spec)
		rest.Namespace, rest.ServiceAccount = nil, nil
		var more []server.Object
		more, err = applyObjects(ctx, d.Kube, rest, present)
		accepted = append(accepted, more...)
	}
	if err != nil {
		if live.StatefulSet == nil {
			err = errors.Join(err, d.undo(ctx, accepted, live, made))
		}
		return err
	}
	if err := d.settle(ctx, spec, int(spec.Replicas), 0); err != nil || !spec.Origin.Pending() {
		return err
	}
	err = d.exclusively(ctx, func(ctx context.Context) error {
		if _, err := d.restoreOrigin(ctx); err != nil {
			return err
		}
		return d.leadClients(ctx) // also if the Lease was lost right before
	})
	var unsettled *UnsettledError
	if err != nil && !errors.As(err, &unsettled) { // the cluster exists, whatever the error is
		return &UnsettledError{Err: err}
	}
	return err
}

// undo removes what was accepted and was not there before, and the Secrets that were made.
func (d Deployment) undo(ctx context.Context, accepted []server.Object, before server.Set, made []func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var errs []error
	for _, remove := range made {
		errs = append(errs, remove(ctx))
	}
	for _, o := range accepted {
		if before.Like(o) == nil {
			errs = append(errs, deleteObject(ctx, d.Kube, o))
		}
	}
	return errors.Join(errs...)
}

func checkNamespace(live *corev1.Namespace, spec server.Spec) error {
	switch {
	case live == nil || !spec.CreateNamespace:
		return nil
	case live.Labels[server.LabelManagedBy] == server.ManagedBy && live.Annotations[server.AnnotationNamespaceOf] == spec.Name:
		return nil
	default:
		return ErrNamespaceExists
	}
}

// Update applies a changed spec, and reloads, restarts, adds, and removes servers, one at a time,
// until all run it. Besides errors that say that nothing was changed, it returns an
// *UnsettledError, a *PausedError if the rollout waits for the next call, or a *RolledBackError.
// Two updates at the same time wait for each other. The backup schedules of the cluster follow the
// change.
func (d Deployment) Update(ctx context.Context, spec server.Spec) error {
	d.Consul = d.Consul.WithLabels(spec.Labels)
	return d.exclusively(ctx, func(ctx context.Context) error {
		if d.Origin == nil {
			if err := d.giveUpOrigin(ctx); err != nil {
				return err
			}
		}
		if err := (restic.Client{Kube: d.Kube, Consul: d.Consul}).AwaitOthers(ctx); err != nil { // a restore whose provider was killed
			return err
		}
		if err := d.update(ctx, spec); err != nil {
			return err
		}
		restored, err := d.restoreOrigin(ctx)
		if err == nil && restored {
			err = d.leadClients(ctx)
		}
		if err != nil {
			return err
		}
		return restic.Refresh(ctx, d.Kube, d.Consul)
	})
}

func (d Deployment) update(ctx context.Context, spec server.Spec) error {
	live, err := ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return err
	}
	if live.IsTakeover() {
		return d.resumeTakeover(ctx, spec)
	}
	if err := foreign(live, spec.Name); err != nil {
		return err
	}
	orphaned, err := d.isOrphaned(ctx, live, spec.Name)
	if err != nil {
		return err
	}
	before, running, err := d.readRunning(ctx, spec, live, orphaned)
	if err != nil {
		return err
	}
	if err := running.checkVersion(before, spec.Version); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if running.Unknown != nil && !server.SameStages(before, spec) {
		return fmt.Errorf("nothing was changed: %w", running.Unknown)
	}
	spec.Record = before.Updated(d.Origin != nil)
	if spec.CreateNamespace {
		if err := checkNamespace(live.Namespace, spec); err != nil {
			return err
		}
	}
	if err := d.checkReloads(ctx, before, spec); err != nil {
		return err
	}
	if err := d.checkConfig(ctx, before, spec, live); err != nil {
		return err
	}
	if orphaned { // what follows is an update like any other
		if live, err = d.adopt(ctx, before, live); err != nil {
			return err
		}
	}
	stages := server.Stages(before, spec)
	if len(stages) > 1 && spec.Update.Strategy == server.OnDelete {
		return errors.New(
			"turning encryption on or off takes several rollouts, each of which must complete before the next one starts: set update.strategy = " +
				"\"rolling\"",
		)
	}
	for i, stage := range stages {
		if err := d.updateTo(ctx, before, stage, live); err != nil {
			if rolledBack := (*RolledBackError)(nil); i > 0 && errors.As(err, &rolledBack) {
				rolledBack.Err = fmt.Errorf(
					"%w\nThe change of the encryption is half-way, as it was before this rollout. The next apply resumes it from there",
					rolledBack.Err,
				)
			}
			return err
		}
		if i == len(stages)-1 {
			break
		}
		if live, err = ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name); err != nil {
			return err
		}
		if before, err = server.Parse(live, stage); err != nil {
			return err
		}
	}
	if spec.Gossip.Stage == server.StagePlain {
		err = encryption.DeleteKeyring(ctx, d.Consul)
	}
	if spec.TLS.Stage == server.StagePlain {
		err = errors.Join(err, encryption.DeleteCertificates(ctx, d.Consul))
	}
	return err
}

// readRunning reads what an update starts from.
func (d Deployment) readRunning(ctx context.Context, spec server.Spec, live server.Set, orphaned bool) (server.Spec, Running, error) {
	applied := spec
	if d.Known != nil {
		applied = *d.Known
	}
	if !orphaned {
		var err error
		if applied, err = server.Parse(live, applied); err != nil {
			return spec, Running{}, err
		}
	}
	r, err := d.running(ctx, live, applied)
	before := r.spec(applied, orphaned)
	if orphaned { // pods do not show the size of the volumes, and another size requires another StatefulSet
		before.Storage = spec.Storage
	}
	return before, r, err
}

// checkReloads refuses to turn TLS on or off if the servers could not be told to reload between the
// rollouts: the second rollout would then cut off its first server.
func (d Deployment) checkReloads(ctx context.Context, before, spec server.Spec) error {
	if !before.Established || !spec.ACL.Enabled || before.TLS.Stage == spec.TLS.Stage {
		return nil
	}
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err == nil {
		_, err = consulacl.VerifyToken(ctx, d.Consul, token)
	}
	if err != nil {
		return fmt.Errorf("turning TLS on or off on servers with ACLs requires a valid management token, and nothing was changed: %w", err)
	}
	return nil
}

// ensureSecrets makes sure that the servers of a spec find the gossip keys and the certificates. It
// returns functions that remove the Secrets that it made. running is the spec of the servers that
// run, or the zero Spec if none run.
func (d Deployment) ensureSecrets(ctx context.Context, running, spec server.Spec) (made []func(context.Context) error, err error) {
	if spec.Gossip.Stage != server.StagePlain {
		token, _, err := consulacl.ManagementToken(ctx, d.Consul)
		if err != nil {
			return nil, err
		}
		isNew, err := encryption.EnsureKeyring(ctx, d.Consul, token, spec.Gossip, running.Gossip.Stage != server.StagePlain)
		if isNew {
			made = append(made, func(ctx context.Context) error { return encryption.DeleteKeyring(ctx, d.Consul) })
		}
		if err != nil {
			return made, err
		}
	}
	if spec.TLS.Stage != server.StagePlain {
		isNew, err := encryption.EnsureCertificates(ctx, d.Consul, spec, running.TLS.Stage != server.StagePlain)
		if isNew {
			made = append(made, func(ctx context.Context) error { return encryption.DeleteCertificates(ctx, d.Consul) })
		}
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

// loadCertificates makes servers load their certificates before the rollout waits for them to be
// healthy: they may lack a certificate of the authority of the others, or have one that has
// expired. The rollout has to fix a server that does not load them, and afterRoll checks again.
func (d Deployment) loadCertificates(ctx context.Context, running, spec server.Spec) error {
	if running.TLS.Stage == server.StagePlain || spec.TLS.Stage == server.StagePlain {
		return nil
	}
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return err
	}
	_ = encryption.LoadCertificates(ctx, d.Consul, token, spec)
	return ctx.Err()
}

// updateTo carries out one stage of an update.
func (d Deployment) updateTo(ctx context.Context, before, spec server.Spec, live server.Set) error {
	desired := int(spec.Replicas)
	spec = rollout.OneByOne(spec, before.Replicas)
	spec.Record = before.Updated(d.Origin != nil)
	if err := d.relabel(ctx, before.Labels, spec.Labels); err != nil {
		return err
	}
	if _, err := d.ensureSecrets(ctx, before, spec); err != nil {
		return err
	}
	if err := d.loadCertificates(ctx, before, spec); err != nil {
		return err
	}
	var err error
	if !spec.Established { // no leader was elected yet: all may start at once
		spec.Replicas = int32(desired) //nolint:gosec // at most 7
		spec.Declared = spec.Replicas
	} else if rollout.TakesSnapshot(before, spec) {
		if spec.UpgradeSnapshot, err = d.takeSnapshot(ctx, before, spec); err != nil {
			return err
		}
		before.UpgradeSnapshot = spec.UpgradeSnapshot // in case it is rolled back
	}
	if spec.Resizing, err = d.startVolumes(ctx, spec, live, int(before.Replicas)); err != nil {
		return err
	}
	if spec.FormerConfig, err = d.formerConfig(ctx, spec, live); err != nil {
		return err
	}
	if rollout.RestartsUnelected(before, spec) {
		if live, err = d.stopUnelected(ctx, spec); err != nil {
			return err
		}
	}
	if _, err := applyObjects(ctx, d.Kube, server.Objects(spec), live); err != nil {
		return err
	}
	if before.Replicas > spec.Declared {
		if err := d.tellServers(ctx, spec.Declared); err != nil {
			return err
		}
	}
	err = d.settle(ctx, spec, desired, spec.Update.ServerTimeout)
	var stuck *rollout.StuckError
	if errors.As(err, &stuck) && spec.Update.OnFailure == server.RollBack {
		return d.rollBack(ctx, before, spec, stuck, err)
	}
	return err
}

// tellServers brings the number of declared servers into the pods before any of them stops: a
// server that only knows the former number would stay a peer (leave.sh).
func (d Deployment) tellServers(ctx context.Context, declared int32) error {
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return err
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"%d"}}}`, server.AnnotationServers, declared)
	for i := range pods {
		_, err := d.Kube.CoreV1().Pods(
			pods[i].Namespace,
		).Patch(
			ctx,
			pods[i].Name,
			types.MergePatchType,
			patch,
			metav1.PatchOptions{FieldManager: server.ManagedBy},
		)
		if _, err := kube.Found(err); err != nil {
			return fmt.Errorf("passing the number of declared servers to server %s: %w", pods[i].Name, err)
		}
	}
	return nil
}

// rollBack brings back what ran before a change that got stuck, unless a newer Consul has been the
// leader (rollout.KeepsChange).
func (d Deployment) rollBack(ctx context.Context, before, changed server.Spec, stuck *rollout.StuckError, cause error) error {
	changes := server.Changes(before, changed)
	has := func(e server.Effect) bool {
		return slices.ContainsFunc(changes, func(c server.Change) bool { return c.Effect == e })
	}
	restarts := has(server.Restart) || rollout.RestartsBetween(before, changed)
	if !restarts && !has(server.Reload) && server.SameStages(before, changed) {
		return cause // an earlier call made the change: what ran before is not known
	}
	live, err := ReadObjects(ctx, d.Kube, before.Namespace, before.Name)
	if err != nil {
		return errors.Join(cause, err)
	}
	w, err := Live{Kube: d.Kube, Consul: d.Consul, Desired: int(before.Replicas)}.Look(ctx)
	if err != nil {
		return errors.Join(cause, fmt.Errorf("not rolled back: %w", err))
	}
	if reason := rollout.KeepsChange(w, before, changed, stuck.Led); reason != "" {
		return errors.Join(cause, errors.New("not rolled back: "+reason))
	}
	desired := before.Replicas
	if before.Established { // servers that were added leave one by one
		before = rollout.OneByOne(before, int32(w.Replicas)) //nolint:gosec // at most 7
	}
	before.Update.PauseAfter = 0
	before.Storage, before.Resizing = changed.Storage, changed.Resizing // volumes do not shrink
	if before.FormerConfig, err = d.formerConfig(ctx, before, live); err != nil {
		return errors.Join(cause, fmt.Errorf("rolling back: %w", err))
	}
	if !before.Established {
		if live, err = d.stopUnelected(ctx, before); err != nil {
			return errors.Join(cause, fmt.Errorf("rolling back: %w", err))
		}
	}
	if _, err := applyObjects(ctx, d.Kube, server.Objects(before), live); err != nil {
		return errors.Join(cause, fmt.Errorf("rolling back: %w", err))
	}
	if !before.Established { // what ran before had no leader either: there is nothing to wait for
		return errors.Join(cause, errors.New("rolled back: the servers run what they ran before, and still have no leader"))
	}
	if before.Replicas > desired {
		if err := d.tellServers(ctx, desired); err != nil {
			return errors.Join(cause, fmt.Errorf("rolling back: %w", err))
		}
	}
	if err := d.settle(ctx, before, int(desired), before.Update.ServerTimeout); err != nil {
		return errors.Join(cause, fmt.Errorf("rolling back: %w", err))
	}
	return &RolledBackError{Err: cause}
}

// stopUnelected stops all servers of a cluster that never had a leader, before a spec is applied to them. The servers read the
// number of servers to expect when they start. If some read the new number beside others that read the former one, each of the two
// could elect a leader. An interrupted change is resumed from zero servers. It returns the objects as they are then.
func (d Deployment) stopUnelected(ctx context.Context, spec server.Spec) (live server.Set, err error) {
	elected, _, err := d.elected(ctx)
	if err != nil {
		return live, err
	}
	if elected {
		return live, fmt.Errorf("the servers of %s have just elected a leader: apply again. "+
			"If the apply that creates the cluster was interrupted, declare the number of servers and the encryption that it had", spec.ID())
	}
	d.report(ctx, rollout.Action{Verb: rollout.Scale, Why: "no leader was ever elected, and all servers restart"})
	if err := d.scaleDown(ctx, 0); err != nil {
		return live, fmt.Errorf("%w. Apply again to continue", err)
	}
	if live, err = ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name); err != nil || live.StatefulSet == nil {
		return live, err
	}
	if spec.Storage.WhenScaled == server.Delete {
		err = d.deleteNewClaims(ctx, int(spec.Replicas), live.StatefulSet.CreationTimestamp.Time)
	}
	return live, err
}

// deleteNewClaims deletes the claims of servers beyond a number, unless data is known on them, or they were made before a time: then they
// are those of an earlier cluster.
func (d Deployment) deleteNewClaims(ctx context.Context, replicas int, since time.Time) error {
	claims, err := d.Retained(ctx)
	if err != nil {
		return err
	}
	for _, c := range claims {
		if c.Ordinal < replicas || c.Version != "" || c.Created.Before(since) {
			continue
		}
		_, err := kube.Found(d.Kube.CoreV1().PersistentVolumeClaims(d.Consul.Namespace).Delete(ctx, c.Name, metav1.DeleteOptions{}))
		if err != nil {
			return fmt.Errorf("deleting volume claim %s/%s: %w", d.Consul.Namespace, c.Name, err)
		}
	}
	return nil
}

// serverTimeout is how long one server may take, 0 for a create, which has its own timeout.
func serverTimeout(spec server.Spec) time.Duration {
	if spec.Creating {
		return 0
	}
	return spec.Update.ServerTimeout
}

// settle runs the rollout until all servers are healthy voters that run what was applied, gives new
// servers their agent tokens, and records that the cluster is established.
func (d Deployment) settle(ctx context.Context, spec server.Spec, desired int, limit time.Duration) error {
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return d.unsettled(ctx, err, spec)
	}
	live := Live{
		Kube: d.Kube, Consul: d.Consul, Desired: desired, Token: token, ACLs: spec.ACL.Enabled, Began: d.Began,
		Version: server.ConfigVersion(spec), Storage: &spec.Storage, ByOthers: spec.Update.Strategy == server.OnDelete,
		Patience: leaderlessFor(spec.Performance),
	}
	live.Declare = func(ctx context.Context) error {
		told := spec
		told.Declared = int32(desired) //nolint:gosec // at most 7
		if cmp.Or(spec.Declared, spec.Replicas) == told.Declared {
			return nil
		}
		if _, err := applyObjects(ctx, d.Kube, server.Set{Config: server.Objects(told).Config}, server.Set{}); err != nil {
			return err
		}
		spec = told
		return nil
	}
	if spec.Established { // the servers of a first start are voters at once
		live.Established, live.Soak = true, consul.Soak
		if live.PauseAt, err = d.pauseAt(ctx, live, spec.Update); err != nil {
			return d.unsettled(ctx, err, spec)
		}
	}
	for {
		err := rollout.Run(ctx, live, loop(limit, func(a rollout.Action) {
			_ = d.markData(ctx, spec.Established) // the progress of the rollout; only at its end does this have to succeed
			d.report(ctx, a)
		}))
		if paused := (*rollout.PausedError)(nil); errors.As(err, &paused) {
			return paused
		}
		if err == nil {
			err = d.markData(ctx, true)
		}
		if err != nil {
			return d.unsettled(ctx, err, spec)
		}
		if err = d.afterRoll(ctx, spec, token, desired); err == nil {
			break
		}
		// If a server went away meanwhile, wait for it. Any other failure remains.
		if w, lookErr := live.Look(ctx); lookErr != nil || rollout.Next(w).Verb == rollout.Done {
			return d.unsettled(ctx, err, spec)
		}
	}
	if spec.Resizing {
		if err := d.markResized(ctx); err != nil {
			return d.unsettled(ctx, err, spec)
		}
	}
	if err := live.Declare(ctx); err != nil {
		return d.unsettled(ctx, err, spec)
	}
	if spec.Established && len(spec.FormerConfig) == 0 {
		return nil
	}
	former, err := d.formerConfig(ctx, spec, server.Objects(spec))
	if err != nil {
		return d.unsettled(ctx, err, spec)
	}
	spec.Established, spec.FormerConfig = true, former
	if _, err := applyObjects(ctx, d.Kube, server.Set{Config: server.Objects(spec).Config}, server.Set{}); err != nil {
		return d.unsettled(ctx, err, spec)
	}
	return nil
}

// formerConfig is the configuration of the servers that do not run a spec yet
// (server.FormerConfig).
func (d Deployment) formerConfig(ctx context.Context, spec server.Spec, live server.Set) (map[string]string, error) {
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return nil, err
	}
	return server.FormerConfig(spec, live.Config, pods), nil
}

// afterRoll does what requires rights in Consul: it sets the agent tokens of new servers, the
// configuration of autopilot, the gossip keys, and the certificates. Before the bootstrap, and if
// the token is lost, there are no such rights. The bootstrap makes up for the first two, and a plan
// shows the others.
func (d Deployment) afterRoll(ctx context.Context, spec server.Spec, token string, desired int) error {
	if spec.ACL.Enabled {
		if _, err := consulacl.VerifyToken(ctx, d.Consul, token); errors.Is(err, consulacl.ErrSecretLost) {
			return nil
		} else if err != nil {
			return err
		}
		if err := consulacl.SetAgentTokens(ctx, d.Consul, token); err != nil {
			return err
		}
	}
	if err := d.Consul.SetAutopilot(ctx, token, spec.Autopilot, desired); err != nil {
		return err
	}
	if spec.Gossip.Stage != server.StagePlain {
		if err := encryption.SettleKeyring(ctx, d.Consul, token, spec.Gossip, desired); err != nil {
			return err
		}
	}
	if spec.TLS.Stage == server.StagePlain {
		return nil
	}
	return encryption.SettleCertificates(ctx, d.Consul, token, spec)
}

// pauseAt is World.PauseAt of a rollout that starts now.
func (d Deployment) pauseAt(ctx context.Context, live Live, u server.Update) (int, error) {
	if u.PauseAfter == 0 {
		return 0, nil
	}
	live.Version = "" // there is no need to ask the agents
	var at int
	err := kube.Wait(ctx, "the StatefulSet controller to see the change", interval, func(ctx context.Context) (string, error) {
		w, err := live.Look(ctx)
		if err != nil || !w.Observed {
			return "it has not seen the change yet", err
		}
		at = rollout.PauseAt(w, u)
		return "", nil
	})
	return at, err
}

func (d Deployment) unsettled(ctx context.Context, err error, spec server.Spec) error {
	// The context has usually ended; the explanation has its own timeout.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	_ = d.markData(ctx, spec.Established) // a server may have written data and be unhealthy
	return &UnsettledError{
		Err:         err,
		Explanation: d.Kube.Explain(ctx, awaitedServers(d.Consul, d.Began)),
	}
}

// MarkCreated records that the create has ended: a later create refuses the cluster.
func (d Deployment) MarkCreated(ctx context.Context) error {
	if err := removeAnnotation(ctx, d.Kube, d.Consul, server.AnnotationCreating); err != nil {
		return fmt.Errorf("marking %s as created: %w", d.Consul.ID(), err)
	}
	return nil
}

// Delete deletes the cluster and waits until its pods no longer exist. Volumes, and the Secrets
// that are useless without them, follow the retention policy. kept names what is kept, for the
// user.
func (d Deployment) Delete(ctx context.Context, spec server.Spec) (kept []string, err error) {
	live, err := ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return nil, err
	}
	if live.StatefulSet == nil {
		if orphaned, err := d.isOrphaned(ctx, live, spec.Name); err != nil || !orphaned {
			return nil, err
		}
	}
	exclusively := d.exclusively
	if live.Namespace != nil && live.Namespace.DeletionTimestamp != nil { // in which no Lease can be created any more
		exclusively = func(ctx context.Context, do func(context.Context) error) error { return do(ctx) }
	}
	err = exclusively(ctx, func(ctx context.Context) error {
		live, kept, err = d.deleteServers(ctx, spec)
		return err
	})
	if err != nil || live.StatefulSet == nil {
		return nil, err
	}
	lease := d.Kube.CoordinationV1().Leases(spec.Namespace)
	if err := lease.Delete(ctx, server.LeaseName(spec.Name), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("deleting the Lease of %s: %w", spec.ID(), err)
	}
	// The StatefulSet is deleted last: while it exists, an interrupted delete is not forgotten, and
	// the next one resumes it.
	namespace, sts := live.Namespace, live.StatefulSet
	if namespace != nil && namespace.Annotations[server.AnnotationNamespaceOf] == spec.Name {
		left, err := d.Kube.NamespaceContents(ctx, spec.Namespace)
		if err != nil {
			return nil, err
		}
		left = slices.DeleteFunc(left, func(o string) bool { return o == "statefulset/"+sts.Name })
		if len(left) == 0 {
			return kept, d.deleteNamespace(ctx, namespace)
		}
		kept = append(kept, fmt.Sprintf("namespace %s, which still contains %s", spec.Namespace, strings.Join(left, ", ")))
	}
	return kept, deleteObject(ctx, d.Kube, sts)
}

// deleteServers deletes everything of a cluster except the StatefulSet, which then has no servers
// any more, and the namespace. It returns the objects as they were, without a StatefulSet if there
// was none.
func (d Deployment) deleteServers(ctx context.Context, spec server.Spec) (live server.Set, kept []string, err error) {
	if live, err = ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name); err != nil {
		return live, nil, err
	}
	if live, err = d.goBack(ctx, spec, live); err != nil {
		return live, nil, err
	}
	live = withoutForeign(live, spec.Name)
	if err := foreign(live, spec.Name); err != nil {
		return live, nil, err
	}
	orphaned, err := d.isOrphaned(ctx, live, spec.Name)
	if err != nil {
		return live, nil, err
	}
	if orphaned {
		r, err := d.look(ctx, spec, live)
		if err != nil {
			return live, nil, err
		}
		if live, err = d.adopt(ctx, r.spec(spec, true), live); err != nil {
			return live, nil, err
		}
	}
	if live.StatefulSet == nil {
		return live, nil, nil
	}
	if spec.Storage.WhenDeleted != server.Delete { // the last moment in which the servers answer
		if err := d.markData(ctx, live.IsEstablished() || isCreated(live.StatefulSet)); err != nil {
			return live, nil, err
		}
	}
	if err := d.stop(ctx, spec, live); err != nil {
		return live, nil, err
	}
	if err := d.deleteSnapshotJob(ctx); err != nil { // it may use a volume
		return live, nil, err
	}
	if err := (restic.Client{Kube: d.Kube, Consul: d.Consul}).FinishRestore(ctx); err != nil {
		return live, nil, err
	}
	if err := d.deleteJobs(ctx); err != nil {
		return live, nil, err
	}
	if spec.Storage.WhenDeleted == server.Delete {
		if err := d.deleteData(ctx, spec); err != nil {
			return live, nil, err
		}
	}
	objects := live
	objects.Namespace, objects.StatefulSet = nil, nil
	for _, o := range objects.All() {
		if err := deleteObject(ctx, d.Kube, o); err != nil {
			return live, nil, err
		}
	}
	if err := encryption.DeletePublishedCA(ctx, d.Consul); err != nil {
		return live, nil, err
	}
	claims, secrets, err := retained(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return live, nil, err
	}
	if len(claims) > 0 {
		kept = append(kept, "volume claims "+strings.Join(claims, ", "))
	}
	if len(secrets) > 0 {
		kept = append(kept, "Secrets "+strings.Join(secrets, ", "))
	}
	return live, kept, nil
}

// deleteJobs deletes Jobs that interrupted operations left behind. A Job of a schedule belongs to its CronJob. Without the right to list
// Jobs, Kubernetes deletes them some time after they ended.
func (d Deployment) deleteJobs(ctx context.Context) error {
	list, err := d.Kube.BatchV1().Jobs(d.Consul.Namespace).List(ctx, owned(d.Consul.Name))
	if apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing the Jobs of %s: %w", d.Consul.ID(), err)
	}
	for i := range list.Items {
		if metav1.GetControllerOf(&list.Items[i]) != nil {
			continue
		}
		if err := d.Kube.RemoveJob(
			ctx, d.Consul.Namespace, list.Items[i].Name, func(o metav1.Object) bool { return o.GetUID() == list.Items[i].UID },
		); err != nil {
			return err
		}
	}
	return nil
}

// stop stops all servers and waits until their pods are gone. Their volumes stay. If the volumes outlive the cluster, one server
// stops at a time, the highest ordinal first: if several leave at once, each may count on the others to stay Raft peers, and a new
// cluster cannot elect a leader from their volumes.
func (d Deployment) stop(ctx context.Context, spec server.Spec, live server.Set) error {
	left, terminating := 0, live.Namespace != nil && live.Namespace.DeletionTimestamp != nil
	if spec.Storage.WhenDeleted != server.Delete && !terminating {
		left = int(*live.StatefulSet.Spec.Replicas) // first wait for pods that an earlier scale-down has not stopped yet
	}
	for ; left >= 0; left-- {
		err := d.scaleDown(ctx, left)
		if apierrors.IsNotFound(err) { // somebody deleted it, and that stops all its pods
			left = 0
			err = d.awaitStopped(ctx, left)
		}
		if err != nil {
			return d.unsettled(ctx, err, spec)
		}
	}
	return nil
}

// scaleDown stops the servers beyond a number, and waits until their pods are gone. Their volumes stay.
func (d Deployment) scaleDown(ctx context.Context, left int) error {
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d,"persistentVolumeClaimRetentionPolicy":{"whenScaled":"Retain"}}}`, left)
	if err := patchStatefulSet(ctx, d.Kube, d.Consul, patch); err != nil {
		return fmt.Errorf("stopping servers of %s: %w", d.Consul.ID(), err)
	}
	return d.awaitStopped(ctx, left)
}

// awaitStopped waits until only the pods of the first servers are left.
func (d Deployment) awaitStopped(ctx context.Context, left int) error {
	return kube.Wait(ctx, "the servers to stop", interval, func(ctx context.Context) (string, error) {
		pods, err := d.Consul.Pods(ctx)
		if err != nil {
			return "", err
		}
		var stopping []string
		for i := range pods {
			if ordinal, ok := server.Ordinal(d.Consul.Name, pods[i].Name); ordinal >= left || !ok && left == 0 {
				stopping = append(stopping, pods[i].Name)
			}
		}
		if len(stopping) == 0 {
			return "", nil
		}
		return "not stopped: " + strings.Join(stopping, ", "), nil
	})
}

// deleteNamespace deletes the namespace, with the StatefulSet, and waits until it no longer exists.
func (d Deployment) deleteNamespace(ctx context.Context, namespace *corev1.Namespace) error {
	if err := deleteObject(ctx, d.Kube, namespace); err != nil {
		return err
	}
	return kube.Wait(ctx, "the namespace to be deleted", interval, func(ctx context.Context) (string, error) {
		_, err := d.Kube.CoreV1().Namespaces().Get(ctx, namespace.Name, metav1.GetOptions{})
		found, err := kube.Found(err)
		if err != nil || !found {
			return "", err
		}
		return "it still exists", nil
	})
}

// deleteData deletes the volumes and Secrets of a cluster and waits until the volume claims no
// longer exist.
func (d Deployment) deleteData(ctx context.Context, spec server.Spec) error {
	core := d.Kube.CoreV1()
	claims, secrets, err := retained(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if err := core.Secrets(spec.Namespace).Delete(ctx, s, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting Secret %s/%s: %w", spec.Namespace, s, err)
		}
	}
	for _, c := range claims {
		if err := core.PersistentVolumeClaims(spec.Namespace).Delete(ctx, c, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting volume claim %s/%s: %w", spec.Namespace, c, err)
		}
	}
	return kube.Wait(ctx, "the volumes to be deleted", interval, func(ctx context.Context) (string, error) {
		claims, _, err := retained(ctx, d.Kube, spec.Namespace, spec.Name)
		if err != nil || len(claims) == 0 {
			return "", err
		}
		return "left: " + strings.Join(claims, ", "), nil
	})
}
