package backup

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

var (
	_ datasource.DataSourceWithConfigure      = &BackupsDataSource{}
	_ datasource.DataSourceWithValidateConfig = &BackupsDataSource{}
)

// BackupsDataSource is the data source consul_k8s_backups.
type BackupsDataSource struct{ clients *session.Clients }

// NewBackupsDataSource returns the data source consul_k8s_backups.
func NewBackupsDataSource() datasource.DataSource { return &BackupsDataSource{} }

type backupsModel struct {
	ID          types.String `tfsdk:"id"`
	Cluster     types.String `tfsdk:"cluster"`
	Repository  types.Object `tfsdk:"repository"`
	FromCluster types.String `tfsdk:"from_cluster"`
	Schedule    types.String `tfsdk:"schedule"`
	Version     types.String `tfsdk:"version"`
	Since       types.String `tfsdk:"since"`
	Image       types.String `tfsdk:"image"`
	attr.Jobs
	Backups []backupModel `tfsdk:"backups"`
}

type backupModel struct {
	ID            types.String `tfsdk:"id"`
	Time          types.String `tfsdk:"time"`
	Cluster       types.String `tfsdk:"cluster"`
	Schedule      types.String `tfsdk:"schedule"`
	Name          types.String `tfsdk:"name"`
	BeforeRestore types.String `tfsdk:"before_restore"`
	BeforeUpgrade types.String `tfsdk:"before_upgrade"`
	Version       types.String `tfsdk:"version"`
	Index         types.Int64  `tfsdk:"index"`
	Size          types.Int64  `tfsdk:"size"`
	Stored        types.Int64  `tfsdk:"stored"`
}

// Metadata implements datasource.DataSource.
func (*BackupsDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_backups"
}

// Schema implements datasource.DataSource.
func (*BackupsDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Lists the snapshots in a backup repository, latest first.\n\n" +
			"Each read, even during a plan, runs a Job in the cluster's namespace and reads its log. This takes some seconds and requires the " +
			"right to create Jobs.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, MarkdownDescription: "Same as `cluster`."},
			"cluster": schema.StringAttribute{
				Required: true, Validators: []validator.String{attr.ClusterID()},
				MarkdownDescription: "ID of the cluster in whose namespace the Job runs and whose snapshots are listed, `<namespace>/<name>`.",
			},
			"repository": schema.SingleNestedAttribute{
				Required: true, MarkdownDescription: "Repository to look into.",
				Attributes: map[string]schema.Attribute{
					"url": schema.StringAttribute{
						Optional:            true,
						Validators:          []validator.String{attr.RepositoryURL()},
						MarkdownDescription: attr.RepositoryURLDescription,
					},
					"volume_claim": schema.StringAttribute{
						Optional:            true,
						Validators:          []validator.String{attr.SecretName()},
						MarkdownDescription: attr.RepositoryClaimDescription,
					},
					"credentials_secret": schema.StringAttribute{
						Required:            true,
						Validators:          []validator.String{attr.SecretName()},
						MarkdownDescription: attr.RepositoryCredentialsDescription,
					},
					"service_account": schema.SingleNestedAttribute{
						Optional: true, MarkdownDescription: attr.RepositoryAccountDescription,
						Attributes: map[string]schema.Attribute{
							"name": schema.StringAttribute{
								Optional:            true,
								Validators:          []validator.String{attr.SecretName()},
								MarkdownDescription: attr.RepositoryAccountNameDescription,
							},
							"annotations": schema.MapAttribute{
								Optional:            true,
								ElementType:         types.StringType,
								Validators:          []validator.Map{mapvalidator.SizeAtLeast(1), attr.Annotations()},
								MarkdownDescription: attr.RepositoryAccountAnnotationsDescription,
							},
							"token_audience": schema.StringAttribute{
								Optional:            true,
								Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
								MarkdownDescription: attr.RepositoryAccountAudienceDescription,
							},
						},
					},
					"options": schema.MapAttribute{
						Optional: true, ElementType: types.StringType, Validators: []validator.Map{mapvalidator.SizeAtLeast(1)},
						MarkdownDescription: attr.RepositoryOptionsDescription,
					},
				},
			},
			"from_cluster": schema.StringAttribute{
				Optional: true, Validators: []validator.String{attr.Check("the ID of a cluster, or \"*\"", checkFromCluster)},
				MarkdownDescription: "ID of the cluster whose snapshots are listed, or `*` for all clusters. Defaults to the value of `cluster`.",
			},
			"schedule": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Name of a schedule. Lists only the snapshots that this schedule took.",
			},
			"version": schema.StringAttribute{Optional: true, MarkdownDescription: "Consul version. Lists only the snapshots of this version."},
			"since": schema.StringAttribute{
				Optional: true, Validators: []validator.String{attr.Check("a time in RFC 3339 format, such as \"2026-01-31T00:00:00Z\"", checkTime)},
				MarkdownDescription: "Time in RFC 3339 format. Lists only the snapshots that were taken since then.",
			},
			"image": schema.StringAttribute{
				Optional:            true,
				Validators:          []validator.String{attr.Image()},
				MarkdownDescription: attr.ResticImageDescription,
			},
			"resources": schema.SingleNestedAttribute{
				Optional: true, MarkdownDescription: attr.JobResourcesDescription,
				Attributes: map[string]schema.Attribute{
					"requests": schema.MapAttribute{
						Optional:            true,
						ElementType:         types.StringType,
						Validators:          attr.Quantities(),
						MarkdownDescription: attr.JobQuantitiesDescription,
					},
					"limits": schema.MapAttribute{
						Optional:            true,
						ElementType:         types.StringType,
						Validators:          attr.Quantities(),
						MarkdownDescription: attr.JobQuantitiesDescription,
					},
				},
			},
			"pod_labels": schema.MapAttribute{
				Optional: true, ElementType: types.StringType, Validators: []validator.Map{attr.Labels()},
				MarkdownDescription: attr.JobPodLabelsDescription,
			},
			"pod_annotations": schema.MapAttribute{
				Optional: true, ElementType: types.StringType, Validators: []validator.Map{attr.Annotations()},
				MarkdownDescription: attr.JobPodAnnotationsDescription,
			},
			"backups": schema.ListNestedAttribute{
				Computed: true, MarkdownDescription: "Snapshots that were found, latest first.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"id": schema.StringAttribute{
						Computed:            true,
						MarkdownDescription: "ID of the snapshot in the repository, as `consul_k8s_restore` takes it.",
					},
					"time":    schema.StringAttribute{Computed: true, MarkdownDescription: "When the snapshot was stored, in RFC 3339 format."},
					"cluster": schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the cluster that the snapshot was taken from."},
					"schedule": schema.StringAttribute{
						Computed:            true,
						MarkdownDescription: "Name of the schedule that took the snapshot, if a schedule did.",
					},
					"name": schema.StringAttribute{
						Computed:            true,
						MarkdownDescription: "Name of the `consul_k8s_snapshot` that took the snapshot.",
					},
					"before_restore": schema.StringAttribute{
						Computed:            true,
						MarkdownDescription: "ID of the snapshot that was restored right after this one was taken.",
					},
					"before_upgrade": schema.StringAttribute{
						Computed: true,
						MarkdownDescription: "Consul version that the cluster was upgraded to right after the snapshot was taken (`update.snapshot_to` of " +
							"the cluster).",
					},
					"version": schema.StringAttribute{Computed: true, MarkdownDescription: "Consul version of the snapshot."},
					"index":   schema.Int64Attribute{Computed: true, MarkdownDescription: "Index of the last Raft log entry in the snapshot."},
					"size":    schema.Int64Attribute{Computed: true, MarkdownDescription: "Size of the unpacked snapshot in bytes."},
					"stored": schema.Int64Attribute{
						Computed:            true,
						MarkdownDescription: "Number of bytes that the snapshot added to the repository.",
					},
				}},
			},
		},
	}
}

func checkFromCluster(text string) error {
	if text == "*" {
		return nil
	}
	return attr.CheckClusterID(text)
}

func checkTime(text string) error {
	_, err := time.Parse(time.RFC3339, text)
	return err
}

// Configure implements datasource.DataSourceWithConfigure.
func (d *BackupsDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	d.clients = clients
}

// ValidateConfig implements datasource.DataSourceWithValidateConfig.
func (*BackupsDataSource) ValidateConfig(
	ctx context.Context,
	req datasource.ValidateConfigRequest,
	resp *datasource.ValidateConfigResponse,
) {
	var m backupsModel
	if resp.Diagnostics.Append(req.Config.Get(ctx, &m)...); resp.Diagnostics.HasError() {
		return
	}
	if repository, ok := attr.ParseRepository(ctx, m.Repository, &resp.Diagnostics); ok {
		repository.Validate(path.Root("repository"), &resp.Diagnostics)
	}
	m.Jobs.Validate(ctx, path.Empty(), &resp.Diagnostics)
}

// Read implements datasource.DataSource.
func (d *BackupsDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m backupsModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	repository, _ := attr.ParseRepository(ctx, m.Repository, &resp.Diagnostics)
	jobs := m.Jobs.Spec(ctx, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	image := restic.DefaultImage
	if !m.Image.IsNull() {
		image = m.Image.ValueString()
	}
	client, err := session.Restic(ctx, d.clients, m.Cluster.ValueString(), repository, image, attr.LookUpTimeout)
	if err != nil {
		resp.Diagnostics.Append(session.ConnectError(err))
		return
	}
	client.Jobs = jobs
	ctx, cancel := context.WithTimeout(ctx, attr.LookUpTimeout)
	defer cancel()
	all, err := client.List(ctx)
	if err != nil {
		resp.Diagnostics.Append(
			attr.JobError("The repository cannot be read", "The snapshots in the repository could not be listed.", m.Cluster.ValueString(), err),
		)
		return
	}
	m.ID, m.Backups = m.Cluster, []backupModel{}
	for _, s := range all {
		if m.wants(s) {
			m.Backups = append(m.Backups, newBackup(s))
		}
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// wants reports whether a snapshot passes the filters.
func (m backupsModel) wants(s restic.Stored) bool {
	from := m.FromCluster.ValueString()
	if m.FromCluster.IsNull() {
		from = m.Cluster.ValueString()
	}
	since, _ := time.Parse(time.RFC3339, m.Since.ValueString()) // "" is the zero time
	return (from == "*" || from == s.Cluster) &&
		(m.Schedule.IsNull() || m.Schedule.ValueString() == s.Schedule) &&
		(m.Version.IsNull() || m.Version.ValueString() == s.Version) &&
		!s.Time.Before(since)
}

func newBackup(s restic.Stored) backupModel {
	return backupModel{
		ID:   types.StringValue(s.ID),
		Time: rfc3339(s.Time), Cluster: types.StringValue(s.Cluster), Schedule: attr.OptionalString(s.Schedule),
		Name:          attr.OptionalString(s.Name),
		BeforeRestore: attr.OptionalString(s.BeforeRestore),
		BeforeUpgrade: attr.OptionalString(s.BeforeUpgrade), Version: types.StringValue(s.Version), Index: types.Int64Value(s.Index),
		Size: types.Int64Value(s.Size), Stored: types.Int64Value(s.Added),
	}
}
