package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

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

// MarkCreated records that the create has ended: a later create refuses the cluster.
func (d Deployment) MarkCreated(ctx context.Context) error {
	if err := removeAnnotation(ctx, d.Kube, d.Consul, server.AnnotationCreating); err != nil {
		return fmt.Errorf("marking %s as created: %w", d.Consul.ID(), err)
	}
	return nil
}
