// Package backup contains the resources that back up and restore clusters.
package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
	_ "time/tzdata" // the machine may have no database of its own

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

const (
	defaultName     = "backup"
	defaultDeadline = "30m"
	minDeadline     = time.Minute
	// defaultTimeout is longer than a backup may take by default.
	defaultTimeout = 40 * time.Minute
	defaultParts   = 7
	// planTimeout limits how long a plan waits for Kubernetes.
	planTimeout = 10 * time.Second
)

var (
	_ resource.ResourceWithConfigure      = &ScheduleResource{}
	_ resource.ResourceWithValidateConfig = &ScheduleResource{}
	_ resource.ResourceWithModifyPlan     = &ScheduleResource{}
	_ resource.ResourceWithImportState    = &ScheduleResource{}
)

// ScheduleResource is consul_k8s_backup_schedule.
type ScheduleResource struct{ clients *session.Clients }

// NewScheduleResource returns the resource consul_k8s_backup_schedule.
func NewScheduleResource() resource.Resource { return &ScheduleResource{} }

type scheduleModel struct {
	ID         types.String `tfsdk:"id"`
	Cluster    types.String `tfsdk:"cluster"`
	Name       types.String `tfsdk:"name"`
	Schedule   types.String `tfsdk:"schedule"`
	TimeZone   types.String `tfsdk:"time_zone"`
	Suspend    types.Bool   `tfsdk:"suspend"`
	Repository types.Object `tfsdk:"repository"`
	Retention  types.Object `tfsdk:"retention"`
	Prune      types.Object `tfsdk:"prune"`
	Check      types.Object `tfsdk:"check"`
	Drill      types.Object `tfsdk:"drill"`
	Image      types.String `tfsdk:"image"`
	Deadline   types.String `tfsdk:"deadline"`
	History    types.Int64  `tfsdk:"history"`
	attr.Jobs
	Placement types.Object   `tfsdk:"placement"`
	Drift     types.List     `tfsdk:"drift"`
	Last      types.Object   `tfsdk:"last_backup"`
	LastPrune types.Object   `tfsdk:"last_prune"`
	LastCheck types.Object   `tfsdk:"last_check"`
	LastDrill types.Object   `tfsdk:"last_drill"`
	Timeouts  timeouts.Value `tfsdk:"timeouts"`
}

type retentionModel struct {
	Last    types.Int64  `tfsdk:"last"`
	Hourly  types.Int64  `tfsdk:"hourly"`
	Daily   types.Int64  `tfsdk:"daily"`
	Weekly  types.Int64  `tfsdk:"weekly"`
	Monthly types.Int64  `tfsdk:"monthly"`
	Yearly  types.Int64  `tfsdk:"yearly"`
	Within  types.String `tfsdk:"within"`
}

type pruneModel struct {
	Schedule types.String `tfsdk:"schedule"`
}

type checkModel struct {
	Schedule types.String `tfsdk:"schedule"`
	Parts    types.Int64  `tfsdk:"parts"`
}

type drillModel struct {
	Schedule    types.String `tfsdk:"schedule"`
	SentinelKey types.String `tfsdk:"sentinel_key"`
}

var (
	retentionTypes = map[string]tfattr.Type{
		"last": types.Int64Type, "hourly": types.Int64Type, "daily": types.Int64Type, "weekly": types.Int64Type, "monthly": types.Int64Type,
		"yearly": types.Int64Type,
		"within": types.StringType,
	}
	pruneTypes = map[string]tfattr.Type{"schedule": types.StringType}
	checkTypes = map[string]tfattr.Type{"schedule": types.StringType, "parts": types.Int64Type}
	drillTypes = map[string]tfattr.Type{"schedule": types.StringType, "sentinel_key": types.StringType}

	lastTypes = map[string]tfattr.Type{
		"time": types.StringType, "snapshot": types.StringType, "version": types.StringType, "index": types.Int64Type, "size": types.Int64Type,
		"stored": types.Int64Type,
	}
	lastPruneTypes = map[string]tfattr.Type{"time": types.StringType}
	lastCheckTypes = map[string]tfattr.Type{"time": types.StringType, "part": types.Int64Type, "parts": types.Int64Type}
	lastDrillTypes = map[string]tfattr.Type{"time": types.StringType, "index": types.Int64Type, "seconds": types.Int64Type}

	noDrift = types.ListValueMust(types.StringType, nil)
)

// Metadata implements resource.Resource.
func (*ScheduleResource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_backup_schedule"
}

// Schema implements resource.Resource.
func (*ScheduleResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	count := func(what string) schema.Attribute {
		return schema.Int64Attribute{Optional: true, Validators: []validator.Int64{int64validator.Between(1, 100000)}, MarkdownDescription: what}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Takes snapshots of a cluster at fixed times, verifies each snapshot before it is stored, encrypted, in a " +
			"[restic](https://restic.net) repository, and forgets old snapshots.\n\n" +
			"A create, and every change of how backups are taken, first takes a backup with the new settings. The schedule is written only if " +
			"that backup was stored, so a schedule with a wrong password or a store that cannot be reached never takes effect. " +
			"See the guide [Back a cluster up](../guides/backup.md).",
		Attributes: attr.JobsAttributes(map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "ID of the schedule, `<namespace>/<cluster>/<name>`.",
			},
			"cluster": schema.StringAttribute{
				Required: true, Validators: []validator.String{attr.ClusterID()}, PlanModifiers: replace,
				MarkdownDescription: "ID of the cluster, `<namespace>/<name>`. With ACLs, refer to the `cluster` of its `consul_k8s_acl_bootstrap`. " +
					"A change replaces the schedule. Stored snapshots stay.",
			},
			"name": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(defaultName),
				Validators: []validator.String{attr.DNSLabel(30, false)}, PlanModifiers: replace,
				MarkdownDescription: "Name of the schedule among the schedules of the cluster. Defaults to `backup`. The name of the CronJob is " +
					"`<cluster>-<name>`. If that is too long for Kubernetes, a hash replaces its end. A change replaces the schedule.",
			},
			"schedule": schema.StringAttribute{
				Optional: true, Computed: true,
				Validators: []validator.String{attr.Check("a schedule in the five fields of cron", restic.CheckSchedule)},
				MarkdownDescription: "When backups start, in the five fields of cron, such as `40 * * * *`. Defaults to once an hour, at a minute " +
					"that follows from the names.",
			},
			"time_zone": schema.StringAttribute{
				Optional: true, Validators: []validator.String{attr.Check("a time zone, such as \"Europe/Paris\"", checkTimeZone)},
				MarkdownDescription: "IANA time zone of `schedule`, such as `Europe/Paris`. Defaults to the time zone of the Kubernetes control " +
					"plane, usually UTC.",
			},
			"suspend": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether the schedule is suspended. While it is `true`, no backup, prune, check, or drill starts. Defaults to " +
					"`false`.",
			},
			"repository": schema.SingleNestedAttribute{
				Required: true, MarkdownDescription: "Repository that stores the snapshots. It is created with the schedule if it does not exist. " +
					"Several schedules of a cluster may share one repository. Each Kubernetes cluster needs its own repository, or its own path.",
				Attributes: attr.RepositoryAttributes(),
			},
			"retention": schema.SingleNestedAttribute{
				Required: true, MarkdownDescription: "How many snapshots of this schedule to keep. A snapshot is kept if any rule keeps it. At " +
					"least one rule is required. Data that no snapshot refers to stays in the store until it is pruned (`prune`).",
				Attributes: map[string]schema.Attribute{
					"last":    count("Number of latest snapshots to keep."),
					"hourly":  count("Number of hourly snapshots to keep: the last one of each hour."),
					"daily":   count("Number of daily snapshots to keep."),
					"weekly":  count("Number of weekly snapshots to keep."),
					"monthly": count("Number of monthly snapshots to keep."), "yearly": count("Number of yearly snapshots to keep."),
					"within": schema.StringAttribute{
						Optional: true, Validators: []validator.String{attr.Check("an age, such as \"2y5m7d3h\"", restic.CheckWithin)},
						MarkdownDescription: "Age up to which all snapshots are kept, such as `2y5m7d3h`.",
					},
				},
			},
			"prune": schema.SingleNestedAttribute{
				Optional: true, MarkdownDescription: "When to remove forgotten data from the store. Backups wait during a prune. If several " +
					"schedules share a repository, one prune is enough.",
				Attributes: map[string]schema.Attribute{"schedule": taskSchedule("`0 3 * * 0`")},
			},
			"check": schema.SingleNestedAttribute{
				Optional: true, MarkdownDescription: "When to check the repository for damage.",
				Attributes: map[string]schema.Attribute{
					"schedule": taskSchedule("`0 4 * * *`"),
					"parts": schema.Int64Attribute{
						Optional: true, Computed: true, Default: int64default.StaticInt64(defaultParts),
						Validators: []validator.Int64{int64validator.Between(1, 256)},
						MarkdownDescription: "Number of parts into which the data is divided. Each check reads one part, a different one each time. `1` " +
							"reads all of the data. Defaults to `7`.",
					},
				},
			},
			"drill": schema.SingleNestedAttribute{
				Optional: true, MarkdownDescription: "When to restore the latest backup into a temporary server and compare the result with the " +
					"snapshot. Compared are keys, tokens, policies, roles, auth methods, binding rules, configuration entries, and prepared queries, " +
					"and, if the restore takes less than 50 seconds, nodes, services, and health checks. " +
					"The temporary server requests the resources of a server of the cluster. The apply runs a new drill once.",
				Attributes: map[string]schema.Attribute{
					"schedule": taskSchedule("`0 5 * * 1`"),
					"sentinel_key": schema.StringAttribute{
						Optional: true, Validators: []validator.String{stringvalidator.LengthBetween(1, 512)},
						MarkdownDescription: "Key in the key/value store that must exist after the restore.",
					},
				},
			},
			"image": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(restic.DefaultImage), Validators: []validator.String{attr.Image()},
				PlanModifiers:       []planmodifier.String{attr.KeepFormerResticImage()},
				MarkdownDescription: attr.ResticImageDescription + " Snapshots are taken with the image of the servers.",
			},
			"deadline": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(defaultDeadline),
				PlanModifiers:       []planmodifier.String{attr.KeepSameDuration()},
				Validators:          []validator.String{attr.DurationBetween(minDeadline, attr.MaxDeadline)},
				MarkdownDescription: "How long one backup, prune, check, or drill may take, including up to two more tries. Defaults to `30m`.",
			},
			"history": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(restic.DefaultHistory),
				Validators: []validator.Int64{int64validator.Between(1, 100)},
				MarkdownDescription: "Number of successful Jobs, and of failed Jobs, to keep for each task. `last_backup`, `last_prune`, " +
					"`last_check`, and `last_drill` come from these Jobs. Defaults to `3`.",
			},
			"placement": schema.SingleNestedAttribute{
				Optional: true, MarkdownDescription: "Placement of the Jobs on nodes. Defaults to the nodes that the servers " +
					"may use.", Attributes: attr.PlacementAttributes(nil),
			},
			"drift": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Fields of the CronJob that another tool or person has changed. The next apply reverts them.",
			},
			"last_backup": schema.SingleNestedAttribute{
				Computed: true, MarkdownDescription: "Latest backup that was stored, read from the Jobs that Kubernetes keeps. A plan warns if a " +
					"later backup failed, or if the latest one is older than it should be.",
				Attributes: map[string]schema.Attribute{
					"time":     schema.StringAttribute{Computed: true, MarkdownDescription: "When the backup was stored, in RFC 3339 format."},
					"snapshot": schema.StringAttribute{Computed: true, MarkdownDescription: "ID of the snapshot in the repository."},
					"version": schema.StringAttribute{
						Computed: true,
						MarkdownDescription: "Consul version of the snapshot. A restore requires servers of the same release line, or of a line that this " +
							"one can be upgraded to.",
					},
					"index":  schema.Int64Attribute{Computed: true, MarkdownDescription: "Index of the last Raft log entry in the snapshot."},
					"size":   schema.Int64Attribute{Computed: true, MarkdownDescription: "Size of the unpacked snapshot in bytes."},
					"stored": schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of bytes that the snapshot added to the repository."},
				},
			},
			"last_prune": schema.SingleNestedAttribute{
				Computed: true, MarkdownDescription: "Latest prune that succeeded, read from the Jobs that Kubernetes keeps. A plan warns if a " +
					"later prune failed.",
				Attributes: map[string]schema.Attribute{
					"time": schema.StringAttribute{Computed: true, MarkdownDescription: "When the prune ran, in RFC 3339 format."},
				},
			},
			"last_check": schema.SingleNestedAttribute{
				Computed: true, MarkdownDescription: "Latest check that succeeded. A plan warns if a later check failed.",
				Attributes: map[string]schema.Attribute{
					"time":  schema.StringAttribute{Computed: true, MarkdownDescription: "When the check ran, in RFC 3339 format."},
					"part":  schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of the part of the data that the check read."},
					"parts": schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of parts into which the data was divided."},
				},
			},
			"last_drill": schema.SingleNestedAttribute{
				Computed: true, MarkdownDescription: "Latest drill that succeeded. A plan warns if a later drill failed, or if the latest one is " +
					"older than it should be.",
				Attributes: map[string]schema.Attribute{
					"time":  schema.StringAttribute{Computed: true, MarkdownDescription: "When the drill ran, in RFC 3339 format."},
					"index": schema.Int64Attribute{Computed: true, MarkdownDescription: "Index of the last Raft log entry in the restored snapshot."},
					"seconds": schema.Int64Attribute{
						Computed:            true,
						MarkdownDescription: "Number of seconds that the server took to start, to restore the snapshot, and to be compared.",
					},
				},
			},
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{
				Create: true, Update: true, Delete: true,
				CreateDescription: "How long the backup that proves a new schedule may take. Defaults to `40m`.",
				UpdateDescription: "How long the backup that proves a changed schedule may take. Defaults to `40m`.",
				DeleteDescription: "How long to wait until everything is deleted. A backup that runs is ended. Defaults to `40m`.",
			}),
		}),
	}
}

// taskSchedule is the attribute that says when a task runs.
func taskSchedule(example string) schema.Attribute {
	return schema.StringAttribute{
		Required: true, Validators: []validator.String{attr.Check("a schedule in the five fields of cron", restic.CheckSchedule)},
		MarkdownDescription: "When to run, in the five fields of cron, such as " + example + ", in `time_zone`.",
	}
}

func checkTimeZone(text string) error {
	if text == "" || text == "Local" {
		return fmt.Errorf("%q is not the name of a time zone", text)
	}
	if _, err := time.LoadLocation(text); err != nil {
		return fmt.Errorf("%q is not a time zone of the IANA database", text)
	}
	return nil
}

// Configure implements resource.ResourceWithConfigure.
func (r *ScheduleResource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	r.clients = clients
}

// ValidateConfig implements resource.ResourceWithValidateConfig.
func (*ScheduleResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m scheduleModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if r, ok := attr.ParseRepository(ctx, m.Repository, &resp.Diagnostics); ok {
		r.ValidateOfSchedule(path.Root("repository"), &resp.Diagnostics)
	}
	m.Jobs.Validate(ctx, path.Empty(), &resp.Diagnostics)
	m.placement(ctx, &resp.Diagnostics).Validate(ctx, path.Root("placement"), &resp.Diagnostics)
	if m.Retention.IsUnknown() || m.Retention.IsNull() {
		return
	}
	for _, v := range m.Retention.Attributes() {
		if !v.IsNull() { // unknown is a rule too
			return
		}
	}
	resp.Diagnostics.Append(
		attr.Error(path.Root("retention"), "Nothing would be kept", "set at least one rule, such as hourly = 24 and daily = 7."),
	)
}

// toSpec requires that all values are known.
func (m scheduleModel) toSpec(ctx context.Context, diags *diag.Diagnostics) restic.Spec {
	r, _ := attr.ParseRepository(ctx, m.Repository, diags)
	var keep retentionModel
	diags.Append(m.Retention.As(ctx, &keep, basetypes.ObjectAsOptions{})...)
	deadline, err := time.ParseDuration(m.Deadline.ValueString())
	if err != nil {
		diags.AddAttributeError(path.Root("deadline"), "Not a duration", err.Error())
	}
	object := func(o types.Object, into any) {
		if !o.IsNull() {
			diags.Append(o.As(ctx, into, basetypes.ObjectAsOptions{})...)
		}
	}
	var prune pruneModel
	var check checkModel
	var drill drillModel
	object(m.Prune, &prune)
	object(m.Check, &check)
	object(m.Drill, &drill)
	spec := restic.Spec{
		Name: m.Name.ValueString(), Schedule: m.Schedule.ValueString(), TimeZone: m.TimeZone.ValueString(), Suspend: m.Suspend.ValueBool(),
		Repository: r.Spec(),
		Retention: restic.Retention{
			Last: keep.Last.ValueInt64(), Hourly: keep.Hourly.ValueInt64(), Daily: keep.Daily.ValueInt64(), Weekly: keep.Weekly.ValueInt64(),
			Monthly: keep.Monthly.ValueInt64(), Yearly: keep.Yearly.ValueInt64(), Within: keep.Within.ValueString(),
		},
		Prune: restic.Prune{Schedule: prune.Schedule.ValueString()},
		Check: restic.Check{Schedule: check.Schedule.ValueString(), Parts: check.Parts.ValueInt64()},
		Drill: restic.Drill{Schedule: drill.Schedule.ValueString(), SentinelKey: drill.SentinelKey.ValueString()},
		Image: m.Image.ValueString(), Deadline: deadline, History: int32(m.History.ValueInt64()), //nolint:gosec // at most 100
	}
	jobs := m.Jobs.Spec(ctx, diags)
	spec.Resources, spec.PodLabels, spec.PodAnnotations = jobs.Resources, jobs.PodLabels, jobs.PodAnnotations
	placement := m.placement(ctx, diags)
	if !m.Placement.IsNull() {
		spec.Placement = &restic.Placement{
			NodeSelector: attr.ToStrings(placement.NodeSelector),
			Tolerations:  placement.ToTolerations(ctx, diags), PriorityClass: placement.PriorityClass.ValueString(),
		}
	}
	return spec
}

// placement reads the placement of the Jobs, or nothing if it is null or unknown.
func (m scheduleModel) placement(ctx context.Context, diags *diag.Diagnostics) (p attr.Placement) {
	if !m.Placement.IsNull() && !m.Placement.IsUnknown() {
		diags.Append(m.Placement.As(ctx, &p, basetypes.ObjectAsOptions{})...)
	}
	return p
}

func (m *scheduleModel) fromSpec(ctx context.Context, s restic.Spec, diags *diag.Diagnostics) {
	number := func(n int64) types.Int64 {
		if n == 0 {
			return types.Int64Null()
		}
		return types.Int64Value(n)
	}
	m.Name, m.Schedule = types.StringValue(s.Name), types.StringValue(s.Schedule)
	m.TimeZone, m.Suspend = attr.OptionalString(s.TimeZone), types.BoolValue(s.Suspend)
	m.Image, m.History = types.StringValue(s.Image), types.Int64Value(int64(cmp.Or(s.History, restic.DefaultHistory)))
	if d, err := time.ParseDuration(m.Deadline.ValueString()); err != nil || d != s.Deadline {
		m.Deadline = types.StringValue(attr.ShortDuration(s.Deadline))
	}
	m.Repository = attr.RepositoryObject(ctx, m.Repository, s.Repository, diags)
	m.Retention = types.ObjectValueMust(retentionTypes, map[string]tfattr.Value{
		"last":   number(s.Retention.Last),
		"hourly": number(s.Retention.Hourly), "daily": number(s.Retention.Daily), "weekly": number(s.Retention.Weekly),
		"monthly": number(s.Retention.Monthly), "yearly": number(s.Retention.Yearly), "within": attr.OptionalString(s.Retention.Within),
	})
	m.Jobs = m.From(ctx, s.JobSettings(), diags)
	placement := m.placement(ctx, diags)
	m.Placement = types.ObjectNull(attr.PlacementTypes(nil))
	if at := s.Placement; at != nil {
		m.Placement = attr.Object(
			ctx,
			attr.PlacementTypes(nil),
			placement.From(ctx, at.NodeSelector, at.Tolerations, at.PriorityClass, diags),
			diags,
		)
	}
	m.Prune, m.Check, m.Drill = types.ObjectNull(pruneTypes), types.ObjectNull(checkTypes), types.ObjectNull(drillTypes)
	if s.Prune != (restic.Prune{}) {
		m.Prune = types.ObjectValueMust(pruneTypes, map[string]tfattr.Value{"schedule": types.StringValue(s.Prune.Schedule)})
	}
	if s.Check != (restic.Check{}) {
		m.Check = types.ObjectValueMust(
			checkTypes,
			map[string]tfattr.Value{"schedule": types.StringValue(s.Check.Schedule), "parts": types.Int64Value(s.Check.Parts)},
		)
	}
	if s.Drill != (restic.Drill{}) {
		m.Drill = types.ObjectValueMust(
			drillTypes,
			map[string]tfattr.Value{"schedule": types.StringValue(s.Drill.Schedule), "sentinel_key": attr.OptionalString(s.Drill.SentinelKey)},
		)
	}
}

// fromState fills in what is computed. It keeps what Kubernetes no longer has.
func (m *scheduleModel) fromState(s restic.State) {
	if last := s.Backup.Last; last != nil && !last.Time.Before(timeOf(m.Last)) {
		m.Last = types.ObjectValueMust(lastTypes, map[string]tfattr.Value{
			"time": rfc3339(last.Time), "snapshot": types.StringValue(last.Snapshot), "version": types.StringValue(last.Version),
			"index": types.Int64Value(last.Index), "size": types.Int64Value(last.Size), "stored": types.Int64Value(last.Stored),
		})
	}
	for task, o := range m.done() {
		if last := s.Tasks[task].Last; last != nil && !last.Time.Before(timeOf(*o)) {
			all := map[string]tfattr.Value{
				"time": rfc3339(last.Time),
				"part": types.Int64Value(last.Part), "parts": types.Int64Value(last.Parts), "index": types.Int64Value(last.Index),
				"seconds": types.Int64Value(last.Seconds),
			}
			has := doneTypes(task)
			maps.DeleteFunc(all, func(name string, _ tfattr.Value) bool { return has[name] == nil })
			*o = types.ObjectValueMust(has, all)
		}
	}
	m.settle()
}

// done returns the attributes with the latest run of each task other than backups.
func (m *scheduleModel) done() map[string]*types.Object {
	return map[string]*types.Object{restic.TaskPrune: &m.LastPrune, restic.TaskCheck: &m.LastCheck, restic.TaskDrill: &m.LastDrill}
}

func doneTypes(task string) map[string]tfattr.Type {
	return map[string]map[string]tfattr.Type{
		restic.TaskPrune: lastPruneTypes, restic.TaskCheck: lastCheckTypes, restic.TaskDrill: lastDrillTypes,
	}[task]
}

// settle sets attributes that are still unknown to null.
func (m *scheduleModel) settle() {
	if m.Last.IsUnknown() {
		m.Last = types.ObjectNull(lastTypes)
	}
	for task, o := range m.done() {
		if o.IsUnknown() {
			*o = types.ObjectNull(doneTypes(task))
		}
	}
}

// forget makes everything that tasks fill in unknown.
func (m *scheduleModel) forget() {
	m.Last = types.ObjectUnknown(lastTypes)
	for task, o := range m.done() {
		*o = types.ObjectUnknown(doneTypes(task))
	}
}

// keepDone copies the results of tasks from another model.
func (m *scheduleModel) keepDone(from scheduleModel) {
	m.Last, m.LastPrune, m.LastCheck, m.LastDrill = from.Last, from.LastPrune, from.LastCheck, from.LastDrill
}

func rfc3339(t time.Time) types.String { return types.StringValue(t.UTC().Format(time.RFC3339)) }

// timeOf returns when a task was done, or the zero time if that is not known.
func timeOf(o types.Object) time.Time {
	text, _ := o.Attributes()["time"].(types.String)
	t, _ := time.Parse(time.RFC3339, text.ValueString()) // which leaves it zero
	return t
}

// warn warns about tasks that fail or do not run.
func (m *scheduleModel) warn(s restic.State, now time.Time, diags *diag.Diagnostics) {
	id := m.ID.ValueString()
	failed := func(what string, at time.Time, reason string) {
		if reason != "" {
			diags.AddWarning("The latest "+what+" failed", fmt.Sprintf("Backup schedule %s, at %s: %s", id, at.UTC().Format(time.RFC3339), reason))
		}
	}
	old := func(what, schedule string, last time.Time) {
		if !last.IsZero() && !m.Suspend.ValueBool() && restic.Overdue(schedule, m.TimeZone.ValueString(), last, now) {
			diags.AddWarning(
				"The latest "+what+" is old",
				fmt.Sprintf(
					"Backup schedule %s has completed none since %s, although two were due. Look at its Jobs: kubectl --namespace %s get jobs "+
						"--selector %s=%s",
					id,
					last.Format(time.RFC3339),
					strings.Split(id, "/")[0],
					restic.LabelSchedule,
					m.Name.ValueString(),
				),
			)
		}
	}
	failed("backup", s.Backup.Failed, s.Backup.Reason)
	old("backup", m.Schedule.ValueString(), timeOf(m.Last))
	switch last := s.Backup.Last; {
	case last == nil || last.Forgotten:
	case last.StartedEmpty:
		diags.AddWarning(
			"The cluster has started empty since older backups",
			fmt.Sprintf(
				"Older backups of schedule %s have a higher index than the latest backup, because the cluster has started empty since then. Until "+
					"one of the older backups is restored, no backup is forgotten, and a restore of \"latest\" is refused. If you no longer need the "+
					"older backups, forget them with restic.",
				id,
			),
		)
	default:
		diags.AddWarning(
			"Old backups were not forgotten",
			fmt.Sprintf(
				"The latest backup of schedule %s was stored, but no old backup was forgotten, because the repository was locked or could not be "+
					"changed. The next backup tries again.",
				id,
			),
		)
	}
	for _, t := range []struct {
		task     string
		declared types.Object
	}{{restic.TaskPrune, m.Prune}, {restic.TaskCheck, m.Check}, {restic.TaskDrill, m.Drill}} {
		if t.declared.IsNull() {
			continue
		}
		failed(t.task, s.Tasks[t.task].Failed, s.Tasks[t.task].Reason)
		schedule, _ := t.declared.Attributes()["schedule"].(types.String)
		old(t.task, schedule.ValueString(), timeOf(*m.done()[t.task]))
	}
}

func (r *ScheduleResource) schedule(ctx context.Context, cluster, name string) (restic.Schedule, error) {
	namespace, clusterName, err := server.ParseID(cluster)
	if err != nil {
		return restic.Schedule{}, err
	}
	k, err := r.clients.Kube(ctx)
	if err != nil {
		return restic.Schedule{}, err
	}
	c, err := r.clients.Consul(ctx, namespace, clusterName)
	return restic.Schedule{Kube: k, Consul: c, Name: name}, err
}

// ModifyPlan implements resource.ResourceWithModifyPlan.
func (r *ScheduleResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var config, plan scheduleModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	namespace, cluster, err := server.ParseID(plan.Cluster.ValueString())
	known := err == nil && !plan.Cluster.IsUnknown() && !plan.Name.IsUnknown()
	switch {
	case !config.Schedule.IsNull():
	case known:
		plan.Schedule = types.StringValue(restic.DefaultSchedule(namespace, cluster, plan.Name.ValueString()))
	default:
		plan.Schedule = types.StringUnknown()
	}
	if known {
		plan.ID = types.StringValue(plan.Cluster.ValueString() + "/" + plan.Name.ValueString())
	}
	isNew := req.State.Raw.IsNull()
	var state scheduleModel
	if !isNew {
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
		plan.Drift = state.Drift
		plan.keepDone(state)
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if changed := isNew || !resp.Plan.Raw.Equal(req.State.Raw) || len(state.Drift.Elements()) > 0; !changed {
		return
	}
	plan.Drift = noDrift
	plan.forget()
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	if known && !plan.Repository.Equal(state.Repository) {
		r.checkSecret(ctx, plan, &resp.Diagnostics)
	}
}

// checkSecret refuses incomplete credentials. A Secret that does not exist may still be created before the
// schedule.
func (r *ScheduleResource) checkSecret(ctx context.Context, plan scheduleModel, diags *diag.Diagnostics) {
	repository, ok := attr.ParseRepository(ctx, plan.Repository, diags)
	if !ok || repository.URL.IsUnknown() || repository.Secret.IsUnknown() || r.clients == nil || r.clients.Unknown {
		return
	}
	schedule, err := r.schedule(ctx, plan.Cluster.ValueString(), plan.Name.ValueString())
	if err != nil {
		return // the apply reports it
	}
	ctx, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	repository.CheckSecret(
		ctx,
		schedule.Kube,
		schedule.Consul.Namespace,
		path.Root("repository"),
		"Unless it is created before the schedule, the first backup fails.",
		diags,
	)
}

// Create implements resource.Resource.
func (r *ScheduleResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m scheduleModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Create(ctx, defaultTimeout)
	resp.Diagnostics.Append(diags...)
	if !resp.Diagnostics.HasError() && r.apply(ctx, &m, timeout, true, &resp.Diagnostics) {
		resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
	}
}

// Update implements resource.Resource.
func (r *ScheduleResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m scheduleModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	var state scheduleModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	m.keepDone(state) // keep what Kubernetes no longer has
	timeout, diags := m.Timeouts.Update(ctx, defaultTimeout)
	resp.Diagnostics.Append(diags...)
	if !resp.Diagnostics.HasError() && r.apply(ctx, &m, timeout, false, &resp.Diagnostics) {
		resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
	}
}

// apply reports whether the schedule was written.
func (r *ScheduleResource) apply(ctx context.Context, m *scheduleModel, timeout time.Duration, isNew bool, diags *diag.Diagnostics) bool {
	m.ID = types.StringValue(m.Cluster.ValueString() + "/" + m.Name.ValueString())
	if m.Schedule.IsUnknown() {
		namespace, cluster, _ := server.ParseID(m.Cluster.ValueString())
		m.Schedule = types.StringValue(restic.DefaultSchedule(namespace, cluster, m.Name.ValueString()))
	}
	spec := m.toSpec(ctx, diags)
	if diags.HasError() {
		return false
	}
	schedule, err := r.schedule(ctx, m.Cluster.ValueString(), m.Name.ValueString())
	if err != nil {
		diags.Append(session.ConnectError(err))
		return false
	}
	unlock, err := r.clients.Backups.Lock(ctx)
	if err != nil {
		diags.Append(attr.Interrupted("Waiting for another backup", err))
		return false
	}
	defer unlock()
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := schedule.Apply(limited, spec, isNew); err != nil {
		diags.Append(applyError(m.ID.ValueString(), m.Cluster.ValueString(), err))
		return false
	}
	live, err := schedule.Read(ctx)
	m.settle()
	if err != nil {
		diags.AddWarning(
			"The schedule cannot be read",
			fmt.Sprintf("Backup schedule %s was written, but reading it back failed: %s", m.ID.ValueString(), err),
		)
	}
	m.Drift = noDrift
	m.fromState(live.State)
	return true
}

func applyError(id, cluster string, err error) diag.Diagnostic {
	var failed *kube.JobError
	switch {
	case errors.Is(err, context.Canceled):
		return attr.Interrupted("Backup schedule "+id, err)
	case errors.As(err, &failed):
		detail := fmt.Sprintf(
			"To test the declared settings, a backup or a drill was run with them, and failed. Nothing was changed. %s",
			failed.Reason,
		)
		if failed.Explanation != "" {
			detail += "\n\n" + failed.Explanation
		}
		if joined := err.Error(); joined != failed.Error() {
			detail += "\n\n" + strings.TrimSpace(strings.TrimPrefix(joined, failed.Error()))
		}
		return diag.NewErrorDiagnostic("The backup does not work", detail)
	case errors.Is(err, restic.ErrExists):
		return diag.NewErrorDiagnostic("The schedule already exists", fmt.Sprintf(
			"A backup schedule %s already exists, and is not as declared. It is not adopted without your consent: import it with\n\n  terraform "+
				"import consul_k8s_backup_schedule.<name> %s\n\nor choose another name.",
			id,
			id,
		))
	case errors.Is(err, consulacl.ErrNotRestored):
		return attr.NotRestored(cluster)
	case errors.Is(err, restic.ErrNoCluster):
		return diag.NewAttributeErrorDiagnostic(
			path.Root("cluster"),
			"The cluster does not exist",
			"There is no cluster "+cluster+" to back up. Refer to the id of its consul_k8s_cluster.",
		)
	default:
		return diag.NewErrorDiagnostic("Cannot set up the backup schedule", fmt.Sprintf("Backup schedule %s: %s", id, err))
	}
}

// Read implements resource.Resource.
func (r *ScheduleResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m scheduleModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if r.clients.Unknown { // where the cluster is: the state stays as it is
		if m.Schedule.IsNull() {
			resp.Diagnostics.Append(session.ConnectError(session.ErrUnknown)) // an import has none yet
		}
		return
	}
	schedule, err := r.schedule(ctx, m.Cluster.ValueString(), m.Name.ValueString())
	if err != nil {
		resp.Diagnostics.Append(session.ConnectError(err))
		return
	}
	live, err := schedule.Read(ctx)
	switch {
	case errors.Is(err, restic.ErrNoSchedule):
		resp.State.RemoveResource(ctx)
		return
	case err != nil:
		resp.Diagnostics.AddError("Cannot read the backup schedule", fmt.Sprintf("Backup schedule %s: %s", m.ID.ValueString(), err))
		return
	}
	m.fromSpec(ctx, live.Spec, &resp.Diagnostics)
	drift, diags := types.ListValueFrom(ctx, types.StringType, append([]string{}, live.Drift...))
	resp.Diagnostics.Append(diags...)
	m.Drift = drift
	m.fromState(live.State)
	m.warn(live.State, time.Now(), &resp.Diagnostics)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// Delete implements resource.Resource.
func (r *ScheduleResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m scheduleModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Delete(ctx, defaultTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	schedule, err := r.schedule(ctx, m.Cluster.ValueString(), m.Name.ValueString())
	if err != nil {
		resp.Diagnostics.Append(session.ConnectError(err))
		return
	}
	unlock, err := r.clients.Backups.Lock(ctx)
	if err != nil {
		resp.Diagnostics.Append(attr.Interrupted("Waiting for another backup", err))
		return
	}
	defer unlock()
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := schedule.Delete(limited); err != nil {
		resp.Diagnostics.AddError("Cannot delete the backup schedule", fmt.Sprintf("Backup schedule %s: %s", m.ID.ValueString(), err))
	}
}

// ImportState implements resource.ResourceWithImportState.
func (*ScheduleResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	i := strings.LastIndex(req.ID, "/")
	if i < 0 {
		i = 0
	}
	cluster, name := req.ID[:i], strings.TrimPrefix(req.ID[i:], "/")
	if _, _, err := server.ParseID(cluster); err != nil || name == "" {
		resp.Diagnostics.AddError("Invalid import ID", fmt.Sprintf("%q is not of the form \"<namespace>/<cluster>/<schedule>\".", req.ID))
		return
	}
	for attribute, value := range map[string]string{"id": req.ID, "cluster": cluster, "name": name} {
		resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root(attribute), value)...)
	}
}
