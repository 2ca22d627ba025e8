package lifecycle

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

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
