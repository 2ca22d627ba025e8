package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// storageTimeout bounds what a plan waits for Kubernetes.
const storageTimeout = 30 * time.Second

// storageChange is a change of storage as far as it is known.
type storageChange struct {
	id            string
	before, after storageModel
	// servers is the larger number of servers, before or after; 0 is not known yet.
	servers int64
	// byOthers says that others restart the servers.
	byOthers bool
}

func (c storageChange) grows() bool {
	a, b := attr.ToQuantity(c.before.Size), attr.ToQuantity(c.after.Size)
	return !c.after.Size.IsUnknown() && b.Cmp(a) > 0
}

func (c storageChange) shrinks() bool {
	a, b := attr.ToQuantity(c.before.Size), attr.ToQuantity(c.after.Size)
	return !c.after.Size.IsUnknown() && b.Cmp(a) < 0
}

func (c storageChange) changesClass() bool {
	return !c.after.Class.IsUnknown() && !c.after.Class.Equal(c.before.Class)
}

func (c storageChange) rebuilds() bool {
	return c.after.OnChange.ValueString() == server.RebuildServers
}

// checkStorage judges a change of storage of a cluster that runs. It asks
// Kubernetes whether volumes can grow only where they shall, and whether a class
// exists only where it is another.
func (r *Resource) checkStorage(ctx context.Context, state, plan model, diags *diag.Diagnostics) {
	if plan.Storage.IsUnknown() || state.Storage.IsNull() || !plan.Name.Equal(state.Name) || !plan.Namespace.Equal(state.Namespace) {
		return
	}
	c := storageChange{id: state.ID.ValueString(), byOthers: isOnDelete(ctx, plan, diags)}
	diags.Append(state.Storage.As(ctx, &c.before, basetypes.ObjectAsOptions{})...)
	diags.Append(plan.Storage.As(ctx, &c.after, basetypes.ObjectAsOptions{})...)
	if !plan.Replicas.IsUnknown() {
		c.servers = max(state.Replicas.ValueInt64(), plan.Replicas.ValueInt64())
	}
	refusals := judgeStorage(c)
	for _, f := range refusals {
		diags.Append(attr.Error(f.at, f.summary, f.detail))
	}
	if len(refusals) > 0 || c.after.OnChange.IsUnknown() || (!c.grows() && !c.changesClass()) {
		return
	}
	if c.rebuilds() {
		diags.AddAttributeWarning(path.Root("storage"), "The servers get new volumes", fmt.Sprintf(
			"One server of %s after the other restarts with a new, empty volume and gets all data from the leader. Each old volume is deleted when its server is gone, and its data with it "+
				"if the reclaim policy of its PersistentVolume is Delete.", c.id))
	}
	if r.clients == nil || r.clients.Unknown {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	r.checkClasses(ctx, c, diags)
}

// checkClasses asks Kubernetes about the storage classes that a change needs.
func (r *Resource) checkClasses(ctx context.Context, c storageChange, diags *diag.Diagnostics) {
	k, err := r.clients.Kube(ctx)
	if err != nil {
		diags.Append(attr.ConnectError(err))
		return
	}
	if c.rebuilds() && !c.after.Class.IsNull() && c.after.Class.ValueString() == "" {
		return // the volumes are made by hand
	}
	if c.rebuilds() {
		class, err := rollout.ReadVolumeClass(ctx, k, c.after.Class.ValueString())
		switch {
		case err != nil:
			diags.AddAttributeWarning(nested("storage", "class"), "Whether the storage class exists is not known", classUnknown(err,
				"If it does not, the first server gets no volume and the apply holds there, with the others untouched."))
		case class.Name != "" && !class.Exists:
			diags.Append(attr.Error(nested("storage", "class"), "The storage class does not exist",
				fmt.Sprintf("There is no storage class %q in the Kubernetes cluster: no server of %s would get a volume. Create it first, or name another.", class.Name, c.id)))
		}
		return
	}
	namespace, name, err := server.ParseID(c.id)
	var classes []rollout.VolumeClass
	if err == nil {
		classes, err = rollout.VolumeClasses(ctx, k, namespace, name)
	}
	if err != nil {
		diags.AddAttributeWarning(nested("storage", "size"), "Whether the volumes can grow is not known", classUnknown(err,
			"If their storage class does not let them, the apply is refused and changes nothing."))
		return
	}
	for _, class := range classes {
		if !class.Expands {
			diags.Append(attr.Error(nested("storage", "size"), "The volumes cannot grow in place", fmt.Sprintf(
				"Volumes of %s are of %s. Let one server after the other be rebuilt with a larger volume: set storage.on_change = %q. "+
					"Or, if the driver of the class can expand volumes, set allowVolumeExpansion = true on it. Or keep %s.",
				c.id, whyNot(class), server.RebuildServers, c.before.Size.ValueString())))
		}
	}
}

func whyNot(class rollout.VolumeClass) string {
	switch {
	case class.Name == "":
		return "no storage class, so that Kubernetes cannot let them grow"
	case !class.Exists:
		return fmt.Sprintf("the storage class %q, which does not exist any more", class.Name)
	default:
		return fmt.Sprintf("the storage class %q, which does not allow it (allowVolumeExpansion)", class.Name)
	}
}

func classUnknown(err error, then string) string {
	if errors.Is(err, rollout.ErrNoRight) {
		return fmt.Sprintf("The credential of the provider lacks a right (see the guide Rights): %s. %s", err, then)
	}
	return fmt.Sprintf("Kubernetes could not be asked: %s. %s", err, then)
}

// refusal is one reason against a change.
type refusal struct {
	at              path.Path
	summary, detail string
}

// judgeStorage decides whether a change of storage may be, as far as no request is
// needed.
//
//   - No volume shrinks.
//   - A class changes only by a rebuild.
//   - A rebuild takes three servers: the others have the data of the one that loses
//     its volume, and a quorum. It takes that the provider restarts them.
func judgeStorage(c storageChange) []refusal {
	var refusals []refusal
	refuse := func(attribute, summary, format string, args ...any) {
		refusals = append(refusals, refusal{nested("storage", attribute), summary, fmt.Sprintf(format, args...)})
	}
	if c.shrinks() {
		refuse("size", "A volume cannot shrink", "The volumes have %s, %s is less. Keep at least %s.",
			c.before.Size.ValueString(), c.after.Size.ValueString(), c.before.Size.ValueString())
	}
	if c.after.OnChange.IsUnknown() {
		return refusals
	}
	if c.changesClass() && !c.rebuilds() {
		refuse("class", "The storage class cannot be changed in place",
			"Volumes keep their class (%s). To let one server after the other be rebuilt with a volume of another class, set storage.on_change = %q.", classText(c.before), server.RebuildServers)
	}
	if !c.rebuilds() || (c.after.OnChange.Equal(c.before.OnChange) && !c.grows() && !c.changesClass()) {
		return refusals
	}
	if c.servers == 1 {
		refuse("on_change", "A single server cannot be rebuilt",
			"The only server of %s has the only copy of the data: with a new, empty volume it would be lost. Set replicas = 3, which may be in the same apply, or keep on_change = %q.", c.id, server.GrowVolumes)
	}
	if c.byOthers {
		refuse("on_change", "Nobody would rebuild the servers",
			"With update.strategy = %q the provider restarts none of %s. Set %q for this change.", server.OnDelete, c.id, server.Rolling)
	}
	return refusals
}

// isOnDelete reports whether update.strategy leaves restarts to others.
func isOnDelete(ctx context.Context, m model, diags *diag.Diagnostics) bool {
	if m.Update.IsUnknown() || m.Update.IsNull() {
		return false
	}
	var u updateModel
	diags.Append(m.Update.As(ctx, &u, basetypes.ObjectAsOptions{})...)
	return u.Strategy.ValueString() == server.OnDelete
}

func classText(s storageModel) string {
	switch {
	case s.Class.IsNull():
		return "the default class at creation"
	case s.Class.ValueString() == "":
		return "none"
	}
	return s.Class.ValueString()
}
