package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

var (
	snapshotTypes = map[string]tfattr.Type{
		"claim": types.StringType, "file": types.StringType, "url": types.StringType, "snapshot_id": types.StringType,
		"version": types.StringType, "index": types.Int64Type, "size": types.Int64Type, "sha256": types.StringType, "time": types.StringType,
	}
	noSnapshot = types.ObjectNull(snapshotTypes)

	snapshotToTypes = map[string]tfattr.Type{"repository": types.ObjectType{AttrTypes: attr.RepositoryTypes}, "image": types.StringType}
)

type snapshotToModel struct {
	Repository types.Object `tfsdk:"repository"`
	Image      types.String `tfsdk:"image"`
}

func snapshotToAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "Backup repository that stores the snapshot before an upgrade, encrypted and outside of this cluster's volumes. " +
			"The repository is created if it does not exist. It may be the repository of a `consul_k8s_backup_schedule`, " +
			"whose retention does not remove the snapshot. If `snapshot_to` is not set, the snapshot is a file on a volume.",
		Attributes: map[string]schema.Attribute{
			"repository": schema.SingleNestedAttribute{
				Required:            true,
				MarkdownDescription: "Repository that stores the snapshot.",
				Attributes:          attr.RepositoryAttributes(),
			},
			"image": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(restic.DefaultImage), Validators: []validator.String{attr.Image()},
				PlanModifiers: []planmodifier.String{attr.KeepFormerResticImage()}, MarkdownDescription: attr.ResticImageDescription,
			},
		},
	}
}

// toSnapshotTo converts update.snapshot_to, which is known.
func toSnapshotTo(ctx context.Context, o types.Object, diags *diag.Diagnostics) server.SnapshotTo {
	if o.IsNull() {
		return server.SnapshotTo{}
	}
	var m snapshotToModel
	diags.Append(o.As(ctx, &m, basetypes.ObjectAsOptions{})...)
	repository, _ := attr.ParseRepository(ctx, m.Repository, diags)
	return restic.SnapshotTo(repository.Spec(), m.Image.ValueString())
}

func fromSnapshotTo(ctx context.Context, prior types.Object, s server.SnapshotTo, diags *diag.Diagnostics) types.Object {
	if s == (server.SnapshotTo{}) {
		return types.ObjectNull(snapshotToTypes)
	}
	repository, ok := prior.Attributes()["repository"].(types.Object)
	if !ok {
		repository = types.ObjectNull(attr.RepositoryTypes)
	}
	return types.ObjectValueMust(snapshotToTypes, map[string]tfattr.Value{
		"repository": attr.RepositoryObject(ctx, repository, restic.FromSnapshotTo(s), diags), "image": types.StringValue(s.Image),
	})
}

// snapshotRepository returns the repository that stores snapshots before upgrades. ok is false if there is no repository, or if it is not
// known.
func (m model) snapshotRepository(ctx context.Context, diags *diag.Diagnostics) (r attr.Repository, ok bool) {
	to, _ := m.Update.Attributes()["snapshot_to"].(types.Object)
	if to.IsNull() || to.IsUnknown() {
		return r, false
	}
	repository, _ := to.Attributes()["repository"].(types.Object)
	return attr.ParseRepository(ctx, repository, diags)
}

// validateSnapshotTo refuses an invalid repository.
func validateSnapshotTo(ctx context.Context, m model, diags *diag.Diagnostics) {
	if r, ok := m.snapshotRepository(ctx, diags); ok {
		r.Validate(snapshotToPath.AtName("repository"), diags)
	}
}

var snapshotToPath = path.Root("update").AtName("snapshot_to")

// checkSnapshotTo makes a plan check the credentials of the repository, if the repository is new or an upgrade needs it.
func (r *Resource) checkSnapshotTo(ctx context.Context, state, plan model, diags *diag.Diagnostics) {
	repository, ok := plan.snapshotRepository(ctx, diags)
	if !ok || !repository.IsKnown() || r.clients == nil || r.clients.Unknown || plan.Update.Equal(state.Update) && !plan.takesSnapshot(state) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, attr.LookUpTimeout)
	defer cancel()
	d, err := r.deployment(ctx, plan.Namespace.ValueString(), plan.Name.ValueString())
	if err != nil {
		return // the apply reports this
	}
	repository.CheckSecret(ctx, d.Kube, d.Consul.Namespace, snapshotToPath.AtName("repository"), "Without it, no upgrade starts.", diags)
}

func upgradeSnapshotAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Computed: true,
		MarkdownDescription: "Snapshot that was taken before the latest upgrade (`update.snapshot_before`). Null before the first one. " +
			"To restore it, see [Operating a cluster](../guides/operating.md#the-snapshot-before-an-upgrade). The snapshot contains every secret " +
			"that Consul holds.",
		Attributes: map[string]schema.Attribute{
			"claim": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "PersistentVolumeClaim in the cluster's namespace whose volume contains the file or the repository.",
			},
			"file": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "Name of the file in the root of that volume. Null if the snapshot is in a repository.",
			},
			"url": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "URL of the repository that stores the snapshot, if the repository has a URL.",
			},
			"snapshot_id": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "ID of the snapshot in the repository, as `consul_k8s_restore` takes it. Null if the snapshot is a file.",
			},
			"version": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "Consul version of the leader that the snapshot was taken from.",
			},
			"index": schema.Int64Attribute{Computed: true, MarkdownDescription: "Index of the last Raft log entry in the snapshot."},
			"size": schema.Int64Attribute{
				Computed:            true,
				MarkdownDescription: "Size in bytes, of the file or, in a repository, of the unpacked snapshot.",
			},
			"sha256": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "SHA-256 of the file, in hexadecimal. Null if the snapshot is in a repository.",
			},
			"time": schema.StringAttribute{Computed: true, MarkdownDescription: "When the snapshot was taken, in UTC and RFC 3339 format."},
		},
	}
}

type snapshotModel struct {
	Claim      types.String `tfsdk:"claim"`
	File       types.String `tfsdk:"file"`
	URL        types.String `tfsdk:"url"`
	SnapshotID types.String `tfsdk:"snapshot_id"`
	Version    string       `tfsdk:"version"`
	Index      uint64       `tfsdk:"index"`
	Size       int64        `tfsdk:"size"`
	SHA256     types.String `tfsdk:"sha256"`
	Time       string       `tfsdk:"time"`
}

func fromSnapshot(ctx context.Context, s *server.Snapshot, diags *diag.Diagnostics) types.Object {
	if s == nil {
		return noSnapshot
	}
	return attr.Object(ctx, snapshotTypes, snapshotModel{
		Claim: attr.OptionalString(s.Claim),
		File:  attr.OptionalString(s.File), URL: attr.OptionalString(s.URL), SnapshotID: attr.OptionalString(s.ID),
		Version: s.Version, Index: s.Index, Size: s.Size, SHA256: attr.OptionalString(s.SHA256), Time: s.Time.UTC().Format(time.RFC3339),
	}, diags)
}

// toSnapshot returns the snapshot in the state, in case the StatefulSet is lost.
func toSnapshot(ctx context.Context, o types.Object, diags *diag.Diagnostics) *server.Snapshot {
	if o.IsNull() || o.IsUnknown() {
		return nil
	}
	var m snapshotModel
	diags.Append(o.As(ctx, &m, basetypes.ObjectAsOptions{})...)
	at, err := time.Parse(time.RFC3339, m.Time)
	if err != nil {
		return nil
	}
	return &server.Snapshot{
		Claim: m.Claim.ValueString(), File: m.File.ValueString(), URL: m.URL.ValueString(), ID: m.SnapshotID.ValueString(),
		Version: m.Version, Index: m.Index, Size: m.Size, SHA256: m.SHA256.ValueString(), Time: at,
	}
}

// takesSnapshot reports whether an update starts with a snapshot, or may start with one.
func (m model) takesSnapshot(state model) bool {
	before, ok := m.Update.Attributes()["snapshot_before"].(types.Bool)
	return !m.Version.Equal(state.Version) && (!ok || before.IsUnknown() || before.ValueBool())
}

// readSnapshot fills in the snapshot after an update that may have taken one.
func (m *model) readSnapshot(ctx context.Context, d lifecycle.Deployment, diags *diag.Diagnostics) {
	if !m.UpgradeSnapshot.IsUnknown() {
		return
	}
	s, err := d.UpgradeSnapshot(ctx)
	if err != nil {
		diags.AddWarning("The snapshot cannot be read", fmt.Sprintf(
			"The upgrade of %s is complete, but the snapshot that was taken before it could not be read: %s. The next refresh tries again.",
			m.ID.ValueString(),
			err,
		))
	}
	m.UpgradeSnapshot = fromSnapshot(ctx, s, diags)
}

func snapshotError(spec server.Spec, e *lifecycle.SnapshotError) diag.Diagnostic {
	if errors.Is(e.Err, context.Canceled) {
		return attr.Interrupted(
			"The apply stopped waiting for the snapshot of "+spec.ID()+" before the upgrade, and the servers run what they ran before",
			e.Err,
		)
	}
	detail := fmt.Sprintf("Nothing was changed, because no snapshot of %s could be taken before the upgrade: %s.", spec.ID(), e.Err)
	if e.Explanation != "" {
		detail += "\n\n" + e.Explanation
	}
	return diag.NewAttributeErrorDiagnostic(path.Root("update").AtName("snapshot_before"), "No snapshot before the upgrade",
		detail+"\nFix that, and apply again. To upgrade without a snapshot to return to, set update = { snapshot_before = false }.")
}
