package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

type updateModel struct {
	Strategy       types.String `tfsdk:"strategy"`
	PauseAfter     types.Int64  `tfsdk:"pause_after"`
	OnFailure      types.String `tfsdk:"on_failure"`
	SnapshotBefore types.Bool   `tfsdk:"snapshot_before"`
	SnapshotTo     types.Object `tfsdk:"snapshot_to"`
	ServerTimeout  types.String `tfsdk:"server_timeout"`
}

var updateTypes = attributeTypes(updateAttribute())

func updateAttribute() schema.Attribute {
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "How changes that restart servers are rolled out. See the guide [Changes without an outage](../guides/changes.md).",
		Attributes: map[string]schema.Attribute{
			"strategy": textAttribute(
				"update.strategy",
				"How servers restart: `rolling`, `new_pods`, or `on_delete`. Defaults to {default}, which restarts servers one at a time: in "+
					"place where the change allows it, so that a server keeps its address and its sessions, and otherwise with a new pod. "+
					"`new_pods` also restarts servers one at a time, and always gives each server a new pod. "+
					"`on_delete` restarts no server: each server takes up the change when you delete its pod, for example in a maintenance window. "+
					"With each strategy, running servers reload what they can reload.",
				oneOf(server.Rolling, server.NewPods, server.OnDelete),
			),
			"pause_after": numberAttribute(
				"update.pause_after",
				"Number of servers after which a rollout pauses until the next apply, which completes it. `1` makes the first "+
					"follower a canary. While a rollout is paused, `ready` is false. Defaults to {default}, which never pauses.",
				int64validator.Between(0, server.MaxReplicas),
			),
			"on_failure": textAttribute(
				"update.on_failure",
				"What to do if a server does not come back within `server_timeout`: `hold` or `roll_back`. Defaults to {default}, "+
					"which leaves the server for you to look at and the others as they were. "+
					"`roll_back` brings back what ran before, unless a server with a newer version has been the leader.",
				oneOf(server.Hold, server.RollBack),
			),
			"snapshot_before": boolAttribute(
				"update.snapshot_before",
				"Whether to take and verify a snapshot before the first server gets another version. The snapshot is the only "+
					"way to revert an upgrade. Defaults to {default}. "+
					"The latest three snapshots are kept on a volume like that of a server, unless `snapshot_to` sets another location. See "+
					"`upgrade_snapshot`. With ACLs, the snapshot requires the management token of `consul_k8s_acl_bootstrap`.",
			),
			"snapshot_to": snapshotToAttribute(),
			"server_timeout": durationAttribute(
				"update.server_timeout", 10*time.Second, 24*time.Hour,
				"How long one step may take, such as from the restart of a server until it votes again. Defaults to {default}. "+
					"With many gigabytes of data, a step may need longer.",
			),
		},
	})
}

func (m model) toUpdate(ctx context.Context, diags *diag.Diagnostics) server.Update {
	var update updateModel
	diags.Append(m.Update.As(ctx, &update, basetypes.ObjectAsOptions{})...)
	return server.Update{
		Strategy:       update.Strategy.ValueString(),
		PauseAfter:     update.PauseAfter.ValueInt64(),
		OnFailure:      update.OnFailure.ValueString(),
		SnapshotBefore: update.SnapshotBefore.ValueBool(),
		SnapshotTo:     toSnapshotTo(ctx, update.SnapshotTo, diags),
		ServerTimeout:  toDuration(update.ServerTimeout),
	}
}

func (m *model) fromUpdate(ctx context.Context, s server.Update, diags *diag.Diagnostics) {
	var update updateModel
	prior(ctx, m.Update, &update, diags)
	m.Update = attr.Object(ctx, updateTypes, updateModel{
		Strategy:       types.StringValue(s.Strategy),
		PauseAfter:     types.Int64Value(s.PauseAfter),
		OnFailure:      types.StringValue(s.OnFailure),
		SnapshotBefore: types.BoolValue(s.SnapshotBefore),
		SnapshotTo:     fromSnapshotTo(ctx, update.SnapshotTo, s.SnapshotTo, diags),
		ServerTimeout:  fromDuration(update.ServerTimeout, s.ServerTimeout),
	}, diags)
}
