package backup

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

var (
	_ resource.ResourceWithConfigure      = &SnapshotResource{}
	_ resource.ResourceWithValidateConfig = &SnapshotResource{}
)

// SnapshotResource is consul_k8s_snapshot.
type SnapshotResource struct{ clients *session.Clients }

// NewSnapshotResource returns the resource consul_k8s_snapshot.
func NewSnapshotResource() resource.Resource { return &SnapshotResource{} }

type snapshotModel struct {
	ID         types.String `tfsdk:"id"`
	Cluster    types.String `tfsdk:"cluster"`
	Name       types.String `tfsdk:"name"`
	Repository types.Object `tfsdk:"repository"`
	Triggers   types.Map    `tfsdk:"triggers"`
	Image      types.String `tfsdk:"image"`
	attr.Jobs
	SnapshotID types.String   `tfsdk:"snapshot_id"`
	Version    types.String   `tfsdk:"version"`
	Index      types.Int64    `tfsdk:"index"`
	Size       types.Int64    `tfsdk:"size"`
	Time       types.String   `tfsdk:"time"`
	Timeouts   timeouts.Value `tfsdk:"timeouts"`
}

// Metadata implements resource.Resource.
func (*SnapshotResource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_snapshot"
}

// Schema implements resource.Resource.
func (*SnapshotResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	keep := []planmodifier.String{stringplanmodifier.UseStateForUnknown()}
	keepNumber := []planmodifier.Int64{int64planmodifier.UseStateForUnknown()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Takes a snapshot of a cluster **now**, for example before a migration of data. The snapshot is verified and " +
			"stored encrypted in a backup repository, where no retention forgets it.\n\n" +
			"The snapshot is taken once, when the resource is created. A change of `triggers`, `name`, or the repository takes another one. " +
			"Destroying the resource leaves what is stored. For backups at fixed times, use `consul_k8s_backup_schedule`.",
		Attributes: attr.JobsAttributes(map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, PlanModifiers: keep, MarkdownDescription: "Same as `snapshot_id`."},
			"cluster": schema.StringAttribute{
				Required: true, Validators: []validator.String{attr.ClusterID()}, PlanModifiers: replace,
				MarkdownDescription: "ID of the cluster, `<namespace>/<name>`. With ACLs, refer to the `cluster` of its `consul_k8s_acl_bootstrap`, " +
					"because the snapshot is taken with the management token.",
			},
			"name": schema.StringAttribute{
				Required: true, Validators: []validator.String{attr.DNSLabel(63, false)}, PlanModifiers: replace,
				MarkdownDescription: "Purpose of the snapshot, such as `before-migration`. The repository shows it as the tag `snapshot=<name>`. " +
					"The name does not need to be unique.",
			},
			"repository": schema.SingleNestedAttribute{
				Required: true, MarkdownDescription: "Repository that stores the snapshot. It is created if it does not exist.",
				Attributes: attr.RepositoryAttributes(replace...),
			},
			"triggers": schema.MapAttribute{
				Optional: true, ElementType: types.StringType, PlanModifiers: []planmodifier.Map{mapplanmodifier.RequiresReplace()},
				MarkdownDescription: "Any texts, by name. A change takes another snapshot. The previous one stays stored.",
			},
			"image": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(restic.DefaultImage), Validators: []validator.String{attr.Image()},
				PlanModifiers: []planmodifier.String{attr.KeepFormerResticImage()}, MarkdownDescription: attr.ResticImageDescription,
			},
			"snapshot_id": schema.StringAttribute{Computed: true, PlanModifiers: keep, MarkdownDescription: "ID of the snapshot in the repository."},
			"version": schema.StringAttribute{
				Computed:      true,
				PlanModifiers: keep,
				MarkdownDescription: "Consul version of the snapshot. A restore requires servers of the same release line, or of a line that this " +
					"one can be upgraded to.",
			},
			"index": schema.Int64Attribute{
				Computed:            true,
				PlanModifiers:       keepNumber,
				MarkdownDescription: "Index of the last Raft log entry in the snapshot.",
			},
			"size": schema.Int64Attribute{
				Computed:            true,
				PlanModifiers:       keepNumber,
				MarkdownDescription: "Size of the unpacked snapshot in bytes.",
			},
			"time": schema.StringAttribute{
				Computed:            true,
				PlanModifiers:       keep,
				MarkdownDescription: "When the snapshot was stored, in RFC 3339 format.",
			},
			"timeouts": timeouts.Attributes(
				ctx,
				timeouts.Opts{Create: true, CreateDescription: "How long it may take to take and store the snapshot. Defaults to `40m`."},
			),
		}),
	}
}

// Configure implements resource.ResourceWithConfigure.
func (r *SnapshotResource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	r.clients = clients
}

// ValidateConfig implements resource.ResourceWithValidateConfig.
func (*SnapshotResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m snapshotModel
	if resp.Diagnostics.Append(req.Config.Get(ctx, &m)...); resp.Diagnostics.HasError() {
		return
	}
	if repository, ok := attr.ParseRepository(ctx, m.Repository, &resp.Diagnostics); ok {
		repository.Validate(path.Root("repository"), &resp.Diagnostics)
	}
	m.Jobs.Validate(ctx, path.Empty(), &resp.Diagnostics)
}

// Create implements resource.Resource.
func (r *SnapshotResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m snapshotModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Create(ctx, restoreTimeout)
	resp.Diagnostics.Append(diags...)
	repository, _ := attr.ParseRepository(ctx, m.Repository, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	jobs := m.Jobs.Spec(ctx, &resp.Diagnostics)
	client, err := session.Restic(ctx, r.clients, m.Cluster.ValueString(), repository, m.Image.ValueString(), min(timeout, attr.MaxDeadline))
	if err != nil {
		resp.Diagnostics.Append(session.ConnectError(err))
		return
	}
	client.Jobs = jobs
	unlock, err := r.clients.Backups.Lock(ctx)
	if err != nil {
		resp.Diagnostics.Append(attr.Interrupted("Waiting for another backup", err))
		return
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, management, err := consulacl.ManagementToken(ctx, client.Consul)
	var stored restic.Result
	if err == nil {
		stored, err = client.Snapshot(ctx, m.Name.ValueString(), management)
	}
	if err != nil {
		resp.Diagnostics.Append(attr.JobError("The snapshot was not stored", "", m.Cluster.ValueString(), err))
		return
	}
	m.ID, m.SnapshotID, m.Version = types.StringValue(stored.Snapshot), types.StringValue(stored.Snapshot), types.StringValue(stored.Version)
	m.Index, m.Size, m.Time = types.Int64Value(stored.Index), types.Int64Value(stored.Size), rfc3339(stored.Time)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// Read implements resource.Resource. A stored snapshot does not change.
func (*SnapshotResource) Read(context.Context, resource.ReadRequest, *resource.ReadResponse) {}

// Update implements resource.Resource. A change that does not take another snapshot changes nothing in the repository.
func (*SnapshotResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m snapshotModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// Delete implements resource.Resource. The stored snapshot stays.
func (*SnapshotResource) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}
