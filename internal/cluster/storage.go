package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

type storageModel struct {
	Size      types.String `tfsdk:"size"`
	Class     types.String `tfsdk:"class"`
	OnChange  types.String `tfsdk:"on_change"`
	Retention types.Object `tfsdk:"retention"`
}

type retentionModel struct {
	WhenDeleted types.String `tfsdk:"when_deleted"`
	WhenScaled  types.String `tfsdk:"when_scaled"`
}

var (
	storageTypes   = attributeTypes(storageAttribute())
	retentionTypes = attributeTypes(storageAttribute().Attributes["retention"])
)

func storageAttribute() schema.SingleNestedAttribute {
	def := server.Default().Storage.Size
	size := def.String()
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "Volume of each server.",
		Attributes: map[string]schema.Attribute{
			"size": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(size),
				Validators:    []validator.String{attr.PositiveQuantity()},
				PlanModifiers: []planmodifier.String{attr.KeepSameQuantity()},
				MarkdownDescription: "Size of each volume, as a Kubernetes quantity. Defaults to `" + size + "`. `on_change` sets how a larger size is " +
					"applied. Volumes never shrink.",
			},
			"class": schema.StringAttribute{
				Optional: true, Validators: []validator.String{attr.Check("the name of a storage class", checkStorageClass)},
				MarkdownDescription: "Storage class of the volumes. Defaults to the default class of the Kubernetes cluster. `\"\"` means no " +
					"class: the volume claims bind to PersistentVolumes without a class that you create. Create one for each server, " +
					"and one for the snapshot before an upgrade unless `update.snapshot_to` is set or `update.snapshot_before` is false. The class " +
					"can be changed only with `on_change = \"rebuild\"`.",
			},
			"on_change": textAttribute(
				"storage.on_change",
				"What a change of `size` or `class` does: `grow` or `rebuild`. Defaults to {default}, which grows the volumes "+
					"in place. This requires a storage class that allows expansion (`allowVolumeExpansion`), and gives "+
					"a server a new pod only if its file system must be mounted again to grow. `rebuild` restarts the servers one at a time, "+
					"followers first, each with a new, empty volume that the server fills from the leader. "+
					"`rebuild` requires at least three servers. The reclaim policy of the old PersistentVolumes determines what happens to the old "+
					"volumes.",
				oneOf(server.GrowVolumes, server.RebuildServers),
			),
			"retention": withDefaults(schema.SingleNestedAttribute{
				MarkdownDescription: "What happens to volumes that are no longer used, in the terms of the `persistentVolumeClaimRetentionPolicy` " +
					"of the StatefulSet.",
				Attributes: map[string]schema.Attribute{
					"when_deleted": textAttribute(
						"storage.retention.when_deleted",
						"Whether to `Retain` or `Delete` a volume when the cluster is deleted. Defaults to {default}. A new cluster of the same "+
							"name starts with retained volumes and their data. Its plan names these volumes, and refuses a `version` that is older "+
							"than the data.",
						stringvalidator.OneOf(server.Retain, server.Delete),
					),
					"when_scaled": textAttribute(
						"storage.retention.when_scaled",
						"Whether to `Retain` or `Delete` a volume when a smaller `replicas` removes its server. Defaults to {default}.",
						stringvalidator.OneOf(server.Retain, server.Delete),
					),
				},
			}),
		},
	})
}

func (m model) toStorage(ctx context.Context, diags *diag.Diagnostics) server.Storage {
	var storage storageModel
	var retention retentionModel
	diags.Append(m.Storage.As(ctx, &storage, basetypes.ObjectAsOptions{})...)
	diags.Append(storage.Retention.As(ctx, &retention, basetypes.ObjectAsOptions{})...)
	return server.Storage{
		Size:  attr.ToQuantity(storage.Size),
		Class: storage.Class.ValueString(), NoClass: !storage.Class.IsNull() && storage.Class.ValueString() == "",
		OnChange:    storage.OnChange.ValueString(),
		WhenDeleted: retention.WhenDeleted.ValueString(), WhenScaled: retention.WhenScaled.ValueString(),
	}
}

func (m *model) fromStorage(ctx context.Context, s server.Storage, diags *diag.Diagnostics) {
	var storage storageModel
	prior(ctx, m.Storage, &storage, diags)
	storage.Size = attr.KeepQuantity(storage.Size, s.Size)
	storage.Class = types.StringPointerValue(s.ClassName())
	storage.OnChange = types.StringValue(cmp.Or(s.OnChange, server.GrowVolumes))
	storage.Retention = attr.Object(ctx, retentionTypes, retentionModel{
		WhenDeleted: types.StringValue(s.WhenDeleted), WhenScaled: types.StringValue(s.WhenScaled),
	}, diags)
	m.Storage = attr.Object(ctx, storageTypes, storage, diags)
}

// checkStorageClass refuses a text that cannot be the name of a storage class. "" means no class.
func checkStorageClass(text string) error {
	if p := validation.IsDNS1123Subdomain(text); text != "" && len(p) > 0 {
		return fmt.Errorf("%q would be refused by Kubernetes: %s", text, p[0])
	}
	return nil
}

// storageTimeout limits how long a plan waits for Kubernetes.
const storageTimeout = 30 * time.Second

// storageChange is what is known of a change of storage.
type storageChange struct {
	id            string
	before, after storageModel
	// servers is the larger number of servers, before or after the change. 0 means that it is not known yet.
	servers int64
	// byOthers says that the provider does not restart the servers.
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

// checkStorage checks a change of storage on a running cluster. It asks Kubernetes
// whether volumes can grow only if they should grow, and whether a class exists only
// if the class changes.
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
			"The servers of %s restart one at a time, each with a new, empty volume, and get all data from the leader. When a server is gone, "+
				"its old volume claim is deleted, and the data with it "+
				"if the reclaim policy of the PersistentVolume is Delete.",
			c.id,
		))
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
		diags.Append(session.ConnectError(err))
		return
	}
	if c.rebuilds() && !c.after.Class.IsNull() && c.after.Class.ValueString() == "" {
		return // the volumes are created by hand
	}
	if c.rebuilds() {
		class, err := lifecycle.ReadVolumeClass(ctx, k, c.after.Class.ValueString())
		switch {
		case err != nil:
			diags.AddAttributeWarning(nested("storage", "class"), "Could not check the storage class", classUnknown(
				err,
				"If the storage class does not exist, the first server gets no volume. The apply then stops there, and the other servers are "+
					"untouched.",
			))
		case class.Name != "" && !class.Exists:
			diags.Append(attr.Error(
				nested("storage", "class"),
				"The storage class does not exist",
				fmt.Sprintf(
					"There is no storage class %q in the Kubernetes cluster, so no server of %s would get a volume. Create the storage class first, or "+
						"use another one.",
					class.Name,
					c.id,
				),
			))
		}
		return
	}
	namespace, name, err := server.ParseID(c.id)
	var classes []lifecycle.VolumeClass
	if err == nil {
		classes, err = lifecycle.VolumeClasses(ctx, k, namespace, name)
	}
	if err != nil {
		diags.AddAttributeWarning(nested("storage", "size"), "Could not check whether the volumes can grow", classUnknown(err,
			"If their storage class does not allow it, the apply fails and changes nothing."))
		return
	}
	for _, class := range classes {
		if !class.Expands {
			diags.Append(attr.Error(nested("storage", "size"), "The volumes cannot grow in place", fmt.Sprintf(
				"Volumes of %s have %s. To rebuild the servers one at a time with larger volumes, set storage.on_change = %q. "+
					"Or, if the driver of the storage class can expand volumes, set allowVolumeExpansion = true on the storage class. Or keep %s.",
				c.id, whyNot(class), server.RebuildServers, c.before.Size.ValueString())))
		}
	}
}

func whyNot(class lifecycle.VolumeClass) string {
	switch {
	case class.Name == "":
		return "no storage class, so Kubernetes cannot grow them"
	case !class.Exists:
		return fmt.Sprintf("the storage class %q, which no longer exists", class.Name)
	default:
		return fmt.Sprintf("the storage class %q, which does not allow it (allowVolumeExpansion)", class.Name)
	}
}

func classUnknown(err error, then string) string {
	if errors.Is(err, lifecycle.ErrNoRight) {
		return fmt.Sprintf("The credential of the provider lacks a right (see the guide Rights): %s. %s", err, then)
	}
	return fmt.Sprintf("The provider could not query Kubernetes: %s. %s", err, then)
}

// refusal is one reason to refuse a change.
type refusal struct {
	at              path.Path
	summary, detail string
}

// judgeStorage decides whether a change of storage is possible. It checks only what
// needs no request.
//
//   - No volume shrinks.
//   - A class changes only by a rebuild.
//   - A rebuild takes three servers: the others have the data of the server that loses
//     its volume, and they are a quorum. The provider must be the one that restarts them.
func judgeStorage(c storageChange) []refusal {
	var refusals []refusal
	refuse := func(attribute, summary, format string, args ...any) {
		refusals = append(refusals, refusal{nested("storage", attribute), summary, fmt.Sprintf(format, args...)})
	}
	if c.shrinks() {
		refuse("size", "A volume cannot shrink", "The volumes have %s, and %s is less. Keep at least %s.",
			c.before.Size.ValueString(), c.after.Size.ValueString(), c.before.Size.ValueString())
	}
	if c.after.OnChange.IsUnknown() {
		return refusals
	}
	if c.changesClass() && !c.rebuilds() {
		refuse(
			"class",
			"The storage class cannot be changed in place",
			"Volumes keep their storage class (%s). To rebuild the servers one at a time with volumes of another class, set storage.on_change = %q.",
			classText(c.before),
			server.RebuildServers,
		)
	}
	if !c.rebuilds() || (c.after.OnChange.Equal(c.before.OnChange) && !c.grows() && !c.changesClass()) {
		return refusals
	}
	if c.servers == 1 {
		refuse(
			"on_change",
			"A single server cannot be rebuilt",
			"The only server of %s has the only copy of the data. A new, empty volume would lose that data. Set replicas = 3, which you can do "+
				"in the same apply, or keep on_change = %q.",
			c.id,
			server.GrowVolumes,
		)
	}
	if c.byOthers {
		refuse(
			"on_change",
			"The provider does not restart the servers",
			"With update.strategy = %q, the provider restarts no server of %s, so it cannot rebuild them. Set %q for this change.",
			server.OnDelete,
			c.id,
			server.Rolling,
		)
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
