package cluster

import (
	"context"
	"fmt"
	"time"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

var (
	snapshotTypes = map[string]tfattr.Type{
		"claim": types.StringType, "file": types.StringType, "version": types.StringType, "index": types.Int64Type,
		"size": types.Int64Type, "sha256": types.StringType, "time": types.StringType,
	}
	noSnapshot = types.ObjectNull(snapshotTypes)
)

func upgradeSnapshotAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Computed: true,
		MarkdownDescription: "The snapshot that was taken before the latest upgrade (`update.snapshot_before`); null before the first. " +
			"[Operating a cluster](../guides/operating.md#the-snapshot-before-an-upgrade) says how to restore it. It holds every secret that Consul holds.",
		Attributes: map[string]schema.Attribute{
			"claim":   schema.StringAttribute{Computed: true, MarkdownDescription: "PersistentVolumeClaim, in the cluster's namespace, with the volume that it is on."},
			"file":    schema.StringAttribute{Computed: true, MarkdownDescription: "Name of the file in the root of that volume."},
			"version": schema.StringAttribute{Computed: true, MarkdownDescription: "Consul version of the leader that it was taken from."},
			"index":   schema.Int64Attribute{Computed: true, MarkdownDescription: "Index of the last Raft log entry in it."},
			"size":    schema.Int64Attribute{Computed: true, MarkdownDescription: "Size of the file in bytes."},
			"sha256":  schema.StringAttribute{Computed: true, MarkdownDescription: "SHA-256 of the file, in hexadecimal."},
			"time":    schema.StringAttribute{Computed: true, MarkdownDescription: "When it was taken, in UTC (RFC 3339)."},
		},
	}
}

type snapshotModel struct {
	Claim   string `tfsdk:"claim"`
	File    string `tfsdk:"file"`
	Version string `tfsdk:"version"`
	Index   uint64 `tfsdk:"index"`
	Size    int64  `tfsdk:"size"`
	SHA256  string `tfsdk:"sha256"`
	Time    string `tfsdk:"time"`
}

func fromSnapshot(ctx context.Context, s *server.Snapshot, diags *diag.Diagnostics) types.Object {
	if s == nil {
		return noSnapshot
	}
	return object(ctx, snapshotTypes, snapshotModel{
		Claim: s.Claim, File: s.File, Version: s.Version, Index: s.Index, Size: s.Size, SHA256: s.SHA256, Time: s.Time.Format(time.RFC3339),
	}, diags)
}

// toSnapshot is what the state knows, for the case that the StatefulSet is lost.
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
	return &server.Snapshot{Claim: m.Claim, File: m.File, Version: m.Version, Index: m.Index, Size: m.Size, SHA256: m.SHA256, Time: at}
}

// takesSnapshot reports whether an update starts with a snapshot, or may.
func (m model) takesSnapshot(state model) bool {
	before, ok := m.Update.Attributes()["snapshot_before"].(types.Bool)
	return !m.Version.Equal(state.Version) && (!ok || before.IsUnknown() || before.ValueBool())
}

// readSnapshot fills in the snapshot after an update that may have taken one.
func (m *model) readSnapshot(ctx context.Context, d rollout.Deployment, diags *diag.Diagnostics) {
	if !m.UpgradeSnapshot.IsUnknown() {
		return
	}
	s, err := d.UpgradeSnapshot(ctx)
	if err != nil {
		diags.AddWarning("The snapshot cannot be read", fmt.Sprintf(
			"The upgrade of %s is complete. Which snapshot was taken before could not be read, the next refresh will: %s", m.ID.ValueString(), err))
	}
	m.UpgradeSnapshot = fromSnapshot(ctx, s, diags)
}

func snapshotError(spec server.Spec, e *rollout.SnapshotError) diag.Diagnostic {
	detail := fmt.Sprintf("Nothing was changed, because no snapshot of %s could be taken before: %s.", spec.ID(), e.Err)
	if e.Explanation != "" {
		detail += "\n\n" + e.Explanation
	}
	return diag.NewAttributeErrorDiagnostic(path.Root("update").AtName("snapshot_before"), "No snapshot before the upgrade",
		detail+"\nMend that and apply again. To upgrade without a way back, set update = { snapshot_before = false }.")
}
