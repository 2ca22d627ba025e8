package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

var (
	restoreFromTypes = map[string]tfattr.Type{
		"repository": types.ObjectType{
			AttrTypes: attr.RepositoryTypes,
		}, "snapshot": types.StringType, "from_cluster": types.StringType, "image": types.StringType,
	}
	originTypes = map[string]tfattr.Type{
		"snapshot_id": types.StringType, "version": types.StringType, "taken": types.StringType, "restored": types.StringType,
	}
	noOrigin = types.ObjectNull(originTypes)
)

type restoreFromModel struct {
	Repository  types.Object `tfsdk:"repository"`
	Snapshot    types.String `tfsdk:"snapshot"`
	FromCluster types.String `tfsdk:"from_cluster"`
	Image       types.String `tfsdk:"image"`
}

func restoreFromAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "Backup that the cluster starts with. The attribute counts when the cluster is created, and does nothing later. " +
			"To restore into an existing cluster, use `consul_k8s_restore`. " +
			"Until the backup is restored, the client Service has no endpoints, so that no client uses an empty cluster, and " +
			"`consul_k8s_acl_bootstrap` and backup schedules wait. The management token of `consul_k8s_acl_bootstrap` is created before the " +
			"restore and is valid after it. " +
			"See the guide [Restore a cluster](../guides/restore.md#a-new-cluster-from-a-backup).",
		Attributes: map[string]schema.Attribute{
			"repository": schema.SingleNestedAttribute{
				Required: true, MarkdownDescription: "Repository that contains the snapshot. The namespace, the Secret with the credentials, and " +
					"the volume claim, if you use one, must exist before the cluster.",
				Attributes: attr.RepositoryAttributes(),
			},
			"snapshot": schema.StringAttribute{
				Required: true, Validators: []validator.String{attr.Snapshot()},
				MarkdownDescription: "ID of the snapshot in the repository, the beginning of the ID, or `latest`. The snapshot must be from the " +
					"release line of `version`, or from a release line that can be upgraded to it.",
			},
			"from_cluster": schema.StringAttribute{
				Optional: true, Validators: []validator.String{attr.ClusterID()},
				MarkdownDescription: "ID of the cluster that the snapshot was taken from. Defaults to the ID of this cluster.",
			},
			"image": schema.StringAttribute{
				Optional:            true,
				Validators:          []validator.String{attr.Image()},
				MarkdownDescription: attr.ResticImageDescription,
			},
		},
	}
}

func originAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Computed: true, MarkdownDescription: "Snapshot that the cluster started with (`restore_from`). Null if the cluster started empty.",
		Attributes: map[string]schema.Attribute{
			"snapshot_id": schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the snapshot in the repository."},
			"version":     schema.StringAttribute{Computed: true, MarkdownDescription: "Consul version that the snapshot was taken from."},
			"taken":       schema.StringAttribute{Computed: true, MarkdownDescription: "When the snapshot was taken, in RFC 3339 format."},
			"restored": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "When the snapshot was restored, in RFC 3339 format. Null until then.",
			},
		},
	}
}

// validateRestoreFrom refuses a cluster that cannot start with a backup.
func validateRestoreFrom(ctx context.Context, m model, diags *diag.Diagnostics) {
	if m.RestoreFrom.IsNull() || m.RestoreFrom.IsUnknown() {
		return
	}
	var r restoreFromModel
	diags.Append(m.RestoreFrom.As(ctx, &r, basetypes.ObjectAsOptions{})...)
	at := path.Root("restore_from")
	if repository, ok := attr.ParseRepository(ctx, r.Repository, diags); ok {
		repository.Validate(at.AtName("repository"), diags)
	}
	if m.CreateNamespace.ValueBool() {
		diags.Append(
			attr.Error(
				at,
				"The namespace must exist",
				"The Secret with the credentials must exist before the cluster. Leave create_namespace false, and create the namespace and the "+
					"Secret first.",
			),
		)
	}
	if !m.Adopt.IsNull() && !m.Adopt.IsUnknown() {
		diags.Append(
			attr.Error(
				at,
				"adopt and restore_from exclude each other",
				"A cluster that adopts other servers has their data. Remove adopt or restore_from.",
			),
		)
	}
}

// restoreFrom returns restore_from. ok is false if it is not set, or if not all of it is known.
func (m model) restoreFrom(ctx context.Context, diags *diag.Diagnostics) (r restoreFromModel, repository attr.Repository, ok bool) {
	if m.RestoreFrom.IsNull() || m.RestoreFrom.IsUnknown() {
		return r, repository, false
	}
	diags.Append(m.RestoreFrom.As(ctx, &r, basetypes.ObjectAsOptions{})...)
	repository, ok = attr.ParseRepository(ctx, r.Repository, diags)
	return r, repository, ok && repository.IsKnown() && !r.Snapshot.IsUnknown() && !r.FromCluster.IsUnknown() && !r.Image.IsUnknown()
}

// defaultCreateTimeout is how long a create may take, including the restore of the backup that the cluster starts with.
func (m model) defaultCreateTimeout() time.Duration {
	if m.RestoreFrom.IsNull() {
		return defaultCreateTimeout
	}
	return defaultUpdateTimeout
}

// setOrigin sets, in a deployment, the snapshot that the cluster starts with.
func (m model) setOrigin(ctx context.Context, d *lifecycle.Deployment, spec server.Spec, deadline time.Duration, diags *diag.Diagnostics) {
	r, repository, ok := m.restoreFrom(ctx, diags)
	if !ok {
		return
	}
	client := restic.Client{
		Kube: d.Kube, Consul: d.Consul, Repository: repository.Spec(), Image: cmp.Or(r.Image.ValueString(), restic.DefaultImage),
		Deadline: min(deadline, attr.MaxDeadline), Planned: &spec,
	}
	d.Origin = &lifecycle.Origin{
		Client:  client,
		Restore: client.Asked(r.Snapshot.ValueString(), cmp.Or(r.FromCluster.ValueString(), spec.ID()), "origin"),
	}
}

// planOrigin looks into the repository, if the repository is known, and refuses to start with a snapshot that does not exist or
// that the servers would not accept.
func (r *Resource) planOrigin(ctx context.Context, plan *model, diags *diag.Diagnostics) {
	plan.Origin = noOrigin
	if plan.RestoreFrom.IsNull() {
		return
	}
	plan.Origin = types.ObjectUnknown(originTypes)
	validateRestoreFrom(ctx, *plan, diags) // more may be known now
	if r.clients == nil || r.clients.Unknown || plan.ID.IsUnknown() || plan.Version.IsUnknown() || plan.Image.IsUnknown() ||
		plan.ACL.IsUnknown() ||
		diags.HasError() {
		return
	}
	spec, unknown := plan.toSpec(ctx)
	if unknown.HasError() { // the apply looks into the repository
		return
	}
	ctx, cancel := context.WithTimeout(ctx, attr.LookUpTimeout)
	defer cancel()
	d, err := r.deployment(ctx, spec.Namespace, spec.Name)
	if err != nil {
		return // the apply reports this
	}
	if plan.setOrigin(ctx, &d, spec, attr.LookUpTimeout, diags); d.Origin == nil || diags.HasError() {
		return
	}
	if exists, err := d.Consul.Exists(ctx); err != nil || exists {
		return // the apply resumes, or refuses
	}
	found, err := d.FindOrigin(ctx, *d.Origin)
	at := path.Root("restore_from")
	switch {
	case apierrors.IsForbidden(err):
		diags.AddAttributeWarning(
			at,
			"The snapshot was not looked up",
			"The credential of the provider lacks a right that is needed to look into the repository. The apply looks up the snapshot. "+err.Error(),
		)
	case errors.Is(err, restic.ErrNoClaim):
		diags.AddAttributeWarning(
			at.AtName("repository").AtName("volume_claim"),
			"The volume claim does not exist yet",
			"The volume claim must exist before the cluster. "+err.Error(),
		)
	case errors.Is(err, restic.ErrNoSecret):
		diags.AddAttributeWarning(
			at.AtName("repository").AtName("credentials_secret"),
			"The Secret does not exist yet",
			"The Secret must exist before the cluster. "+err.Error(),
		)
	case err != nil:
		diags.Append(originError(spec, err))
	default:
		diags.AddAttributeWarning(
			at,
			"The cluster starts with a backup",
			fmt.Sprintf("%s gets the data that %s had at %s (snapshot %.8s of %s, Consul %s, index %d).",
				spec.ID(), found.Cluster, found.Time.UTC().Format(time.RFC3339), found.ID, found.For(), found.Version, found.Index),
		)
	}
}

// keepOrigin plans the origin of a cluster that exists.
func (m *model) keepOrigin(state model, diags *diag.Diagnostics) {
	m.Origin = state.Origin
	at := path.Root("restore_from")
	switch {
	case !state.isUnrestored():
		if !m.RestoreFrom.Equal(state.RestoreFrom) && !m.RestoreFrom.IsNull() {
			diags.AddAttributeWarning(
				at,
				"Nothing is restored",
				fmt.Sprintf(
					"restore_from counts only when a cluster is created, so it does nothing to %s. To restore a backup into this cluster, use "+
						"consul_k8s_restore.",
					state.ID.ValueString(),
				),
			)
		}
	case m.RestoreFrom.IsNull():
		m.Origin = noOrigin
		diags.AddAttributeWarning(
			at,
			"The cluster starts without its backup",
			fmt.Sprintf(
				"It is not known whether the backup that %s should start with has been restored. Without restore_from, the cluster stays as it is, "+
					"which is empty unless the restore had reached its last step, and clients are routed to it.",
				state.ID.ValueString(),
			),
		)
	}
}

// isUnrestored reports whether the snapshot that the cluster starts with is not restored yet.
func (m model) isUnrestored() bool {
	restored, ok := m.Origin.Attributes()["restored"].(types.String)
	return ok && restored.IsNull()
}

type originModel struct {
	SnapshotID types.String `tfsdk:"snapshot_id"`
	Version    types.String `tfsdk:"version"`
	Taken      types.String `tfsdk:"taken"`
	Restored   types.String `tfsdk:"restored"`
}

func fromOrigin(ctx context.Context, o *server.Origin, diags *diag.Diagnostics) types.Object {
	if o == nil {
		return noOrigin
	}
	at := func(t time.Time) types.String {
		if t.IsZero() {
			return types.StringNull()
		}
		return types.StringValue(t.UTC().Format(time.RFC3339))
	}
	return attr.Object(
		ctx,
		originTypes,
		originModel{
			SnapshotID: attr.OptionalString(o.Snapshot),
			Version:    attr.OptionalString(o.Version),
			Taken:      at(o.Taken),
			Restored:   at(o.Restored),
		},
		diags,
	)
}

// toOrigin returns the origin in the plan or the state, in case the StatefulSet is lost.
func toOrigin(ctx context.Context, o types.Object, diags *diag.Diagnostics) *server.Origin {
	switch {
	case o.IsNull():
		return nil
	case o.IsUnknown():
		return &server.Origin{}
	}
	var m originModel
	diags.Append(o.As(ctx, &m, basetypes.ObjectAsOptions{})...)
	at := func(s types.String) time.Time {
		t, _ := time.Parse(time.RFC3339, s.ValueString()) // null is the zero time
		return t
	}
	return &server.Origin{Snapshot: m.SnapshotID.ValueString(), Version: m.Version.ValueString(), Taken: at(m.Taken), Restored: at(m.Restored)}
}

// readOrigin fills in, after an apply, what was restored.
func (m *model) readOrigin(ctx context.Context, d lifecycle.Deployment, diags *diag.Diagnostics) {
	if !m.Origin.IsUnknown() {
		return
	}
	o, err := d.ReadOrigin(context.WithoutCancel(ctx))
	if err != nil { // the next refresh reads it
		o = &server.Origin{}
	}
	m.Origin = fromOrigin(ctx, o, diags)
}

// originError says why a cluster cannot start with its backup.
func originError(spec server.Spec, err error) diag.Diagnostic {
	var volumes *lifecycle.VolumesExistError
	var failed *kube.JobError
	at := path.Root("restore_from")
	switch {
	case errors.As(err, &volumes):
		return attr.Error(
			at,
			"Volumes of an earlier cluster exist",
			fmt.Sprintf(
				"A new cluster %s would start with the data on these volume claims: %v. If you do not need the data, delete the volume claims. "+
					"Otherwise, remove restore_from, and use consul_k8s_restore when the cluster exists.",
				spec.ID(),
				volumes.Claims,
			),
		)
	case errors.As(err, &failed):
		return attr.JobError("The repository cannot be read", "Could not look up the backup to start with for cluster", spec.ID(), err)
	default:
		return attr.Error(at, "The cluster cannot start with this backup", err.Error()+".")
	}
}
