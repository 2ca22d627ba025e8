package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

const (
	// restoreTimeout is how long a restore may take by default, including all that comes before and after
	// it.
	restoreTimeout = 40 * time.Minute
)

var (
	_ resource.ResourceWithConfigure      = &RestoreResource{}
	_ resource.ResourceWithValidateConfig = &RestoreResource{}
	_ resource.ResourceWithModifyPlan     = &RestoreResource{}
)

// RestoreResource is consul_k8s_restore.
type RestoreResource struct{ clients *session.Clients }

// NewRestoreResource returns the resource consul_k8s_restore.
func NewRestoreResource() resource.Resource { return &RestoreResource{} }

type restoreModel struct {
	ID          types.String `tfsdk:"id"`
	Cluster     types.String `tfsdk:"cluster"`
	Confirm     types.String `tfsdk:"confirm"`
	Repository  types.Object `tfsdk:"repository"`
	Snapshot    types.String `tfsdk:"snapshot"`
	FromCluster types.String `tfsdk:"from_cluster"`
	Triggers    types.Map    `tfsdk:"triggers"`
	Image       types.String `tfsdk:"image"`
	attr.Jobs
	SnapshotID types.String   `tfsdk:"snapshot_id"`
	Version    types.String   `tfsdk:"version"`
	Taken      types.String   `tfsdk:"taken"`
	Before     types.String   `tfsdk:"before_snapshot_id"`
	Time       types.String   `tfsdk:"time"`
	Counts     types.Map      `tfsdk:"snapshot_counts"`
	After      types.Map      `tfsdk:"counts"`
	Timeouts   timeouts.Value `tfsdk:"timeouts"`
}

// Metadata implements resource.Resource.
func (*RestoreResource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_restore"
}

// Schema implements resource.Resource.
func (*RestoreResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	keep := []planmodifier.String{stringplanmodifier.UseStateForUnknown()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Replaces **all data of a cluster** with a snapshot from a backup repository: keys, services, ACLs with their " +
			"tokens, and everything else. What was written since the snapshot is lost.\n\n" +
			"The apply refuses unless all servers are healthy voters and run the release line of Consul that the snapshot was taken from, such " +
			"as 1.22, or a release line that the snapshot can be upgraded to. The apply reads the snapshot back, verifies it, and stores a " +
			"snapshot of the current data of the cluster in the same repository. Only then does it restore. " +
			"After that, the apply fixes what a restore breaks: the management token in its Secret, agent tokens, the tokens of backup " +
			"schedules, and servers whose name belongs to another node in the snapshot. " +
			"The next plan shows tokens of `consul_k8s_token` and other objects that differ now. See the guide [Restore a " +
			"cluster](../guides/restore.md).\n\n" +
			"The restore runs once, when the resource is created. Remove the resource from the configuration afterwards. Otherwise, it restores " +
			"again if the state is lost. A change of `snapshot`, `triggers`, or where the snapshot comes from restores again. Destroying the " +
			"resource does nothing.",
		Attributes: attr.JobsAttributes(map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, PlanModifiers: keep, MarkdownDescription: "Same as `cluster`."},
			"cluster": schema.StringAttribute{
				Required: true, Validators: []validator.String{attr.ClusterID()}, PlanModifiers: replace,
				MarkdownDescription: "ID of the cluster that is overwritten, `<namespace>/<name>`. With ACLs, refer to the `cluster` of its " +
					"`consul_k8s_acl_bootstrap`.",
			},
			"confirm": schema.StringAttribute{
				Required: true,
				MarkdownDescription: "ID of the cluster again, written as a text and not as a reference, to confirm that all data of the cluster " +
					"will be replaced.",
			},
			"repository": schema.SingleNestedAttribute{
				Required: true, MarkdownDescription: "Repository that contains the snapshot. Before the restore, a snapshot of the current data of " +
					"the cluster is stored there too. The repository is read and written from within the cluster's namespace.",
				Attributes: attr.RepositoryAttributes(replace...),
			},
			"snapshot": schema.StringAttribute{
				Required: true, PlanModifiers: replace, Validators: []validator.String{attr.Snapshot()},
				MarkdownDescription: "ID of the snapshot in the repository, the beginning of the ID, or `latest`. `last_backup` of a schedule and " +
					"the data source `consul_k8s_backups` show IDs. The apply looks up `latest`, and a plan reports which snapshot that would be. Do " +
					"not refer to anything that changes with each backup, such as `last_backup` of a schedule, because each change restores again.",
			},
			"from_cluster": schema.StringAttribute{
				Optional: true, Computed: true, Validators: []validator.String{attr.ClusterID()},
				PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown(), stringplanmodifier.RequiresReplace()},
				MarkdownDescription: "ID of the cluster that the snapshot was taken from. Defaults to the value of `cluster`. A snapshot of any " +
					"other cluster is refused, because its tokens become valid here.",
			},
			"triggers": schema.MapAttribute{
				Optional: true, ElementType: types.StringType, PlanModifiers: []planmodifier.Map{mapplanmodifier.RequiresReplace()},
				MarkdownDescription: "Any texts, by name. A change restores again.",
			},
			"image": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(restic.DefaultImage), Validators: []validator.String{attr.Image()},
				PlanModifiers: []planmodifier.String{attr.KeepFormerResticImage()}, MarkdownDescription: attr.ResticImageDescription,
			},
			"snapshot_id": schema.StringAttribute{
				Computed:      true,
				PlanModifiers: keep,
				MarkdownDescription: "ID of the snapshot that is restored. A plan that can look into the repository shows it, unless `snapshot` is " +
					"`latest`.",
			},
			"version": schema.StringAttribute{
				Computed:            true,
				PlanModifiers:       keep,
				MarkdownDescription: "Consul version that the snapshot was taken from.",
			},
			"taken": schema.StringAttribute{
				Computed:            true,
				PlanModifiers:       keep,
				MarkdownDescription: "When the snapshot was taken, in RFC 3339 format. What was written later is lost.",
			},
			"before_snapshot_id": schema.StringAttribute{
				Computed:      true,
				PlanModifiers: keep,
				MarkdownDescription: "ID of the snapshot of what the cluster had before the restore, in the same repository. Restore that snapshot " +
					"to revert the restore. No retention forgets it.",
			},
			"time": schema.StringAttribute{
				Computed:            true,
				PlanModifiers:       keep,
				MarkdownDescription: "When the snapshot was restored, in RFC 3339 format.",
			},
			"snapshot_counts": schema.MapAttribute{
				Computed: true, ElementType: types.Int64Type, PlanModifiers: []planmodifier.Map{mapplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Number of records of each kind in the snapshot, such as `KVS` and `ACLToken`.",
			},
			"counts": schema.MapAttribute{
				Computed: true, ElementType: types.Int64Type, PlanModifiers: []planmodifier.Map{mapplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Number of records of each kind in the cluster after the restore. A warning reports if there are fewer keys, " +
					"tokens, policies, or roles than in the snapshot.",
			},
			"timeouts": timeouts.Attributes(
				ctx,
				timeouts.Opts{
					Create:            true,
					CreateDescription: "How long the restore may take, with all that comes before and after it. Defaults to `40m`.",
				},
			),
		}),
	}
}

// Configure implements resource.ResourceWithConfigure.
func (r *RestoreResource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	r.clients = clients
}

// ValidateConfig implements resource.ResourceWithValidateConfig.
func (*RestoreResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m restoreModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if repository, ok := attr.ParseRepository(ctx, m.Repository, &resp.Diagnostics); ok {
		repository.Validate(path.Root("repository"), &resp.Diagnostics)
	}
	m.Jobs.Validate(ctx, path.Empty(), &resp.Diagnostics)
	m.checkConfirm(&resp.Diagnostics)
}

// checkConfirm refuses a restore that is not confirmed.
func (m restoreModel) checkConfirm(diags *diag.Diagnostics) {
	if m.Confirm.IsUnknown() || m.Cluster.IsUnknown() || m.Confirm.Equal(m.Cluster) {
		return
	}
	diags.Append(
		attr.Error(
			path.Root("confirm"),
			"The restore is not confirmed",
			fmt.Sprintf("this restore replaces all data of cluster %[1]s. To confirm that, set confirm = %[1]q.", m.Cluster.ValueString()),
		),
	)
}

// ModifyPlan implements resource.ResourceWithModifyPlan.
func (r *RestoreResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan restoreModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	plan.checkConfirm(&resp.Diagnostics)
	var config restoreModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if config.FromCluster.IsNull() {
		plan.FromCluster = plan.Cluster
	}
	plan.ID = plan.Cluster
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	if !req.State.Raw.IsNull() {
		var former types.String
		resp.Diagnostics.Append(req.State.GetAttribute(ctx, path.Root("from_cluster"), &former)...)
		if !plan.FromCluster.Equal(former) {
			resp.RequiresReplace.Append(path.Root("from_cluster"))
		}
		if len(resp.RequiresReplace) == 0 {
			return
		}
		// Terraform plans it again, as a new resource, and shows the warnings of this plan.
	}
	if resp.Diagnostics.HasError() {
		return
	}
	plan.SnapshotID, plan.Version, plan.Taken = types.StringUnknown(), types.StringUnknown(), types.StringUnknown()
	plan.Before, plan.Time = types.StringUnknown(), types.StringUnknown()
	plan.Counts, plan.After = types.MapUnknown(types.Int64Type), types.MapUnknown(types.Int64Type)
	what := "a snapshot that the apply looks up"
	if snapshot, running, ok := r.lookUp(ctx, plan, &resp.Diagnostics); ok {
		what = fmt.Sprintf("the data that %s had on %s (snapshot %.8s of %s, Consul %s, index %d)",
			snapshot.Cluster, snapshot.Time.UTC().Format(time.RFC3339), snapshot.ID, snapshot.For(), snapshot.Version, snapshot.Index)
		if older, _ := restic.CheckVersion(snapshot.Version, running); older {
			resp.Diagnostics.AddAttributeWarning(path.Root("snapshot"), "The snapshot is from an older version of Consul", fmt.Sprintf(
				"The snapshot was taken from Consul %s, and the servers of %s run %s. Consul promises that a snapshot can be restored into the "+
					"version that it was taken from. Servers also accept a snapshot of a version that they can be upgraded from, as they do in an "+
					"upgrade.",
				snapshot.Version,
				plan.Cluster.ValueString(),
				running,
			))
		}
		if plan.Snapshot.ValueString() == restic.Latest { // another one may be the latest at the time of the apply
			what += ", unless a later snapshot exists by then"
		} else {
			plan.setSnapshot(snapshot)
		}
	}
	if !resp.Diagnostics.HasError() {
		r.warnOfExec(ctx, plan, &resp.Diagnostics)
		resp.Diagnostics.AddWarning(
			"All data of the cluster is replaced",
			fmt.Sprintf(
				"The data of cluster %s is replaced with %s. What was written since then is lost, except for a snapshot of the current data that is "+
					"stored before the restore.",
				plan.Cluster.ValueString(),
				what,
			),
		)
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// warnOfExec warns about a missing right that would otherwise show only after all data is replaced.
func (r *RestoreResource) warnOfExec(ctx context.Context, plan restoreModel, diags *diag.Diagnostics) {
	namespace, _, err := server.ParseID(plan.Cluster.ValueString())
	if err != nil || r.clients == nil || r.clients.Unknown {
		return
	}
	if planned, ok := r.clients.Claims.PlannedCluster(plan.Cluster.ValueString()); ok && !planned.ACLs {
		return
	}
	k, err := r.clients.Kube(ctx)
	if err != nil {
		return // the apply reports it
	}
	ctx, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	if may, err := k.MayExec(ctx, namespace); err == nil && !may {
		diags.AddAttributeWarning(path.Root("cluster"), "The management token may be lost", fmt.Sprintf(
			"This credential may not create pods/exec in the namespace %s. If the cluster has ACLs, and the snapshot does not contain the "+
				"management token that is in the Secret, the restore leaves the cluster without a valid management token until somebody with that "+
				"right applies. A snapshot of another cluster, or one from before a reset, does not contain that token.",
			namespace,
		))
	}
}

func (m *restoreModel) setSnapshot(s restic.Stored) {
	m.SnapshotID, m.Version, m.Taken = types.StringValue(s.ID), types.StringValue(s.Version), rfc3339(s.Time)
}

// lookUp finds the snapshot to restore, and the version of Consul that it would be restored into, if a plan can: the cluster
// must exist, and all values must be known. It refuses a snapshot that does not exist or that the servers would not accept.
func (r *RestoreResource) lookUp(
	ctx context.Context,
	plan restoreModel,
	diags *diag.Diagnostics,
) (s restic.Stored, version string, ok bool) {
	repository, known := attr.ParseRepository(ctx, plan.Repository, diags)
	if !known || !repository.IsKnown() || plan.Cluster.IsUnknown() || plan.Snapshot.IsUnknown() || plan.FromCluster.IsUnknown() ||
		plan.Image.IsUnknown() ||
		!plan.Jobs.IsKnown(ctx) ||
		r.clients == nil ||
		r.clients.Unknown {
		return s, "", false
	}
	client, err := session.Restic(ctx, r.clients, plan.Cluster.ValueString(), repository, plan.Image.ValueString(), attr.LookUpTimeout)
	if err != nil {
		return s, "", false // the apply reports it
	}
	client.Jobs = plan.Jobs.Spec(ctx, diags)
	ctx, cancel := context.WithTimeout(ctx, attr.LookUpTimeout)
	defer cancel()
	running, err := restic.Servers(ctx, client.Kube, client.Consul)
	if errors.Is(err, restic.ErrNoCluster) || errors.Is(err, consulacl.ErrNotRestored) {
		return s, "", false // the same apply may create or restore it
	}
	// The same apply may upgrade the cluster.
	if planned, ok := r.clients.Claims.PlannedCluster(plan.Cluster.ValueString()); ok && planned.Version != "" {
		running.Version = planned.Version
	}
	var all []restic.Stored
	if err == nil {
		all, err = client.List(ctx)
	}
	switch {
	case apierrors.IsForbidden(err):
		diags.AddWarning(
			"The snapshot was not looked up",
			"This credential may not create the Job that looks into the repository. The apply looks up the snapshot. "+err.Error(),
		)
		return s, "", false
	case errors.Is(err, restic.ErrNoClaim):
		diags.AddAttributeWarning(path.Root("repository").AtName("volume_claim"), "The volume claim does not exist yet", err.Error())
		return s, "", false
	case errors.Is(err, restic.ErrNoSecret):
		diags.AddAttributeWarning(path.Root("repository").AtName("credentials_secret"), "The Secret does not exist yet", err.Error())
		return s, "", false
	case err != nil:
		// The repository may answer by the time of the apply, which looks again. The plan may be about other things too, such as
		// the one that Terraform makes before a destroy.
		d := attr.JobError(
			"The repository cannot be read",
			"The snapshots in the repository could not be listed.",
			plan.Cluster.ValueString(),
			err,
		)
		diags.AddWarning(d.Summary(), d.Detail()+"\n\nThe apply looks again, and changes nothing if it does not find the snapshot.")
		return s, "", false
	}
	s, err = restic.Choose(all, plan.Snapshot.ValueString(), plan.FromCluster.ValueString(), running.Version)
	if err != nil {
		diags.Append(attr.Error(path.Root("snapshot"), "The snapshot cannot be restored", err.Error()+"."))
		return s, "", false
	}
	return s, running.Version, true
}

// trigger distinguishes restores of the same snapshot.
func (m restoreModel) trigger() string {
	texts := attr.ToStrings(m.Triggers)
	if len(texts) == 0 {
		return ""
	}
	text, _ := json.Marshal(texts) // sorted
	return string(text)
}

// Create implements resource.Resource.
func (r *RestoreResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m restoreModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Create(ctx, restoreTimeout)
	resp.Diagnostics.Append(diags...)
	trigger, jobs := m.trigger(), m.Jobs.Spec(ctx, &resp.Diagnostics)
	repository, _ := attr.ParseRepository(ctx, m.Repository, &resp.Diagnostics)
	m.checkConfirm(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
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
	d := lifecycle.Deployment{Kube: client.Kube, Consul: client.Consul, Began: time.Now(), Report: func(a rollout.Action) {
		tflog.Info(ctx, a.String(), map[string]any{"cluster": m.Cluster.ValueString()})
	}}
	restored, err := d.Restore(ctx, client, client.Asked(m.Snapshot.ValueString(), m.FromCluster.ValueString(), trigger))
	if err != nil {
		resp.Diagnostics.Append(attr.JobError("The restore is not complete", "", m.Cluster.ValueString(), err))
		return
	}
	if restored.Resumed {
		resp.Diagnostics.AddWarning(
			"An interrupted restore was finished",
			fmt.Sprintf(
				"An apply that was interrupted restored cluster %s at %s. This apply did not restore the cluster again. To restore it again, change "+
					"triggers.",
				m.Cluster.ValueString(),
				restored.Time.Format(time.RFC3339),
			),
		)
	}
	m.setSnapshot(restored.Stored)
	m.ID, m.Before, m.Time = m.Cluster, attr.OptionalString(restored.Before.Snapshot), rfc3339(restored.Time)
	m.Counts, m.After = countsOf(restored.Snapshot.Counts), countsOf(restored.After.Counts)
	if missing := fewer(restored.Snapshot.Counts, restored.After.Counts); missing != "" {
		resp.Diagnostics.AddWarning(
			"The cluster has less than the snapshot",
			fmt.Sprintf(
				"Cluster %s was restored, and has %s. Consul deletes tokens that have expired. It may also delete keys that are held by sessions of "+
					"nodes that no longer exist. Clients may have deleted others.",
				m.Cluster.ValueString(),
				missing,
			),
		)
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// compared are the kinds of records of which a cluster has as many after a restore as the snapshot,
// unless some are deleted.
var compared = []string{"KVS", "ACLToken", "ACLPolicy", "ACLRole", "ACLAuthMethod", "ACLBindingRule", "ConfigEntry", "PreparedQuery"}

// fewer names the kinds of records of which there are fewer than before, or returns "".
func fewer(before, after map[string]int64) string {
	var texts []string
	for _, kind := range compared {
		if after[kind] < before[kind] {
			texts = append(texts, fmt.Sprintf("%d of %d %s", after[kind], before[kind], kind))
		}
	}
	return strings.Join(texts, ", ")
}

func countsOf(counts map[string]int64) types.Map {
	values := map[string]tfattr.Value{}
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		values[kind] = types.Int64Value(counts[kind])
	}
	return types.MapValueMust(types.Int64Type, values)
}

// Read implements resource.Resource. A restore that has happened does not change.
func (*RestoreResource) Read(context.Context, resource.ReadRequest, *resource.ReadResponse) {}

// Update implements resource.Resource. A change that does not restore again changes nothing in the cluster.
func (*RestoreResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m restoreModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// Delete implements resource.Resource. The restored data stays.
func (*RestoreResource) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}
