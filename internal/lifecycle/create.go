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
	op := &operation{ports: portsOf(d), wanted: rollout.Wanted{Spec: spec, Create: true, Restore: d.Origin != nil}}
	return op.create(ctx)
}

// create carries out a create, and takes it back if it fails before the StatefulSet exists.
func (op *operation) create(ctx context.Context) error {
	err := rollout.Operate(ctx, op, op.wanted.Phases)
	switch {
	case err == nil, errors.As(err, new(*UnsettledError)):
		return err
	case op.applied != nil:
		return op.servers.unsettled(ctx, err, *op.applied)
	case op.before.Takeover != nil && ctx.Err() != nil: // of an adoption that is to be resumed
		return op.servers.unsettled(ctx, err, op.before)
	case op.live.StatefulSet == nil:
		return errors.Join(err, op.made.undo(ctx, op.objects, op.live))
	}
	return err
}

// observeCreate observes what there is of a cluster that is to be created.
func (op *operation) observeCreate(ctx context.Context) error {
	spec := op.wanted.Spec
	err := checkNamespace(op.live.Namespace, spec)
	if err != nil {
		return err
	}
	if op.runs, err = op.servers.running(ctx, op.live, spec); err != nil {
		return err
	}
	switch {
	case op.live.StatefulSet != nil:
		applied, err := server.Parse(op.live, spec)
		if err != nil {
			return err
		}
		op.before = op.runs.spec(applied, false)
	case len(op.runs.Pods) > 0:
		op.before = op.runs.spec(spec, true)
	default:
		op.before = server.Spec{}
	}
	return nil
}

// checkCreate refuses to create a cluster that exists, or with data that it must not start with. An adoption that is resumed with fewer
// servers, and killed while it removes some, exists too: the number of its servers is not the declared one.
func (op *operation) checkCreate(ctx context.Context, spec server.Spec) error {
	orphaned := op.live.StatefulSet == nil
	if orphaned && op.before.Established && !server.SameStages(op.before, spec) {
		return fmt.Errorf(
			"servers of %s run without a StatefulSet, and their encryption is not as declared: create the cluster with the gossip.enabled and "+
				"tls.enabled of these servers, and change them with the next apply",
			spec.ID(),
		)
	}
	if !orphaned && !op.before.Creating {
		return ErrExists
	}
	// A cluster that has had a leader is only completed as it was declared: any other change is an update, one server at a time.
	if !orphaned && op.before.Established {
		recorded := spec
		recorded.Established = op.live.IsEstablished() // so it was rendered
		rendered := server.Objects(recorded)
		if spec.Origin != nil { // its client Service changes its destination in the middle of a create
			rendered.ClientService = nil
		}
		if len(server.Drift(rendered, op.live)) > 0 {
			return ErrExists
		}
	}
	if err := CheckRetained(spec.Namespace, within(op.runs.Claims, int(spec.Replicas)), spec.Version); err != nil {
		return err
	}
	if orphaned && spec.Origin.Pending() {
		return op.snapshots.prepareOrigin(ctx)
	}
	return nil
}

// prepareNamespace applies what the check of the configuration requires.
func (op *operation) prepareNamespace(ctx context.Context, spec server.Spec) error {
	all := server.Objects(spec)
	accepted, err := op.objects.apply(ctx, server.Set{Namespace: all.Namespace, ServiceAccount: all.ServiceAccount}, op.live)
	op.made.objects = append(op.made.objects, accepted...)
	op.prepared = err == nil
	return err
}

// checkedIn are the live objects among which the configuration is checked.
func (op *operation) checkedIn(spec server.Spec) server.Set {
	live := op.live
	if op.prepared {
		live.ServiceAccount = server.Objects(spec).ServiceAccount
	}
	return live
}

// made is what a create has made.
type made struct {
	objects []server.Object
	secrets []remove
}

// remove removes a Secret that a create has made.
type remove func(context.Context) error

// secret adds the Secret that r removes, if any, and returns the error.
func (m *made) secret(r remove, err error) error {
	if r != nil {
		m.secrets = append(m.secrets, r)
	}
	return err
}

// undo removes what was made and was not there before.
func (m *made) undo(ctx context.Context, objects Objects, before server.Set) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var errs []error
	for _, r := range m.secrets {
		errs = append(errs, r(ctx))
	}
	for _, o := range m.objects {
		if before.Like(o) == nil {
			errs = append(errs, objects.delete(ctx, o))
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
