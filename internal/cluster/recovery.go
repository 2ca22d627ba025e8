package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
)

var recoveryTypes = map[string]tfattr.Type{"from": types.StringType, "trigger": types.StringType}

// remainsTimeout limits how long to look at servers that may not answer.
const remainsTimeout = 30 * time.Second

func recoveryAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "Recovery from the loss of the quorum. If the quorum is lost, the plan warns, reports what is left, and " +
			"recommends a recovery if one is possible. The recovery runs once each time this attribute is set or changed, and only while there " +
			"is no leader and no adoption is in progress. " +
			"`from = \"survivor\"` requires the right to `exec` in the pods of the servers. See the guide [Disasters](../guides/disasters.md).",
		Attributes: map[string]schema.Attribute{
			"from": schema.StringAttribute{
				Required: true, Validators: []validator.String{stringvalidator.OneOf(rollout.FromSurvivor, rollout.FromNothing)},
				MarkdownDescription: "What to recover from: `survivor` or `nothing`. With `survivor`, the server with data whose Raft log goes " +
					"furthest becomes the only voter, and the others join it. Writes that had not reached this server are lost. This recovery is " +
					"refused while servers that have data, or may have data, could be a quorum. A Raft peer without a pod counts as such a server " +
					"while its volume exists. " +
					"With `nothing`, no server has data, and all servers start as an empty cluster with the previous management token. Then restore a " +
					"backup (`consul_k8s_restore`).",
			},
			"trigger": schema.StringAttribute{
				Required: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
				MarkdownDescription: "Any text, such as the date. A change starts another recovery.",
			},
		},
	}
}

// recoveryFrom returns the recovery that a plan declares, or "" for none.
func (m model) recoveryFrom(before model) string {
	if m.Recovery.IsNull() || m.Recovery.IsUnknown() || m.Recovery.Equal(before.Recovery) {
		return ""
	}
	from, _ := m.Recovery.Attributes()["from"].(types.String)
	return from.ValueString()
}

// planRecovery refuses a recovery that the apply would refuse, and otherwise warns of what the recovery loses.
func (r *Resource) planRecovery(ctx context.Context, state, plan model, diags *diag.Diagnostics) {
	from := plan.recoveryFrom(state)
	if from == "" || r.clients == nil || r.clients.Unknown {
		return
	}
	d, err := r.deployment(ctx, state.Namespace.ValueString(), state.Name.ValueString())
	if err != nil {
		return // the apply reports this
	}
	ctx, cancel := context.WithTimeout(ctx, remainsTimeout)
	defer cancel()
	remains, err := d.Remains(ctx)
	if err != nil {
		return
	}
	at, id := path.Root("recovery"), state.ID.ValueString()
	switch reason := remains.Check(from); {
	case remains.Leader && remains.Recovering == from:
		diags.AddAttributeWarning(
			at,
			"An interrupted recovery is completed",
			fmt.Sprintf("Cluster %s has started empty, and the apply that recovered it was interrupted. This apply completes the recovery.", id),
		)
	case remains.Leader:
		diags.AddAttributeWarning(at, "There is nothing to recover", fmt.Sprintf("Cluster %s has a leader, so the recovery does nothing.", id))
	case reason != "":
		diags.Append(attr.Error(at.AtName("from"), "The cluster cannot be recovered this way", fmt.Sprintf("Cluster %s: %s.", id, reason)))
	case from == rollout.FromSurvivor:
		diags.AddAttributeWarning(
			at,
			"A survivor becomes the only voter",
			fmt.Sprintf(
				"Servers of %s %s. The server whose Raft log goes furthest becomes the leader, and the others get its data. Writes that had not "+
					"reached this server are lost.",
				id,
				remains,
			),
		)
	default:
		diags.AddAttributeWarning(
			at,
			"The cluster starts empty",
			fmt.Sprintf(
				"Servers of %s %s. They become an empty cluster. Restore a backup right after that, before clients use the empty cluster. A "+
					"consul_k8s_restore that is already in the state restores again when its triggers change.",
				id,
				remains,
			),
		)
	}
}

// warnLost warns if the servers will not elect a leader by themselves, and says what to do.
func warnLost(ctx context.Context, d lifecycle.Deployment, id string, diags *diag.Diagnostics) {
	ctx, cancel := context.WithTimeout(ctx, remainsTimeout)
	defer cancel()
	remains, err := d.Remains(ctx)
	if err != nil {
		tflog.Debug(ctx, "could not look for what is left of the servers: "+err.Error())
		return
	}
	if title, detail := lostText(id, remains, time.Now()); title != "" {
		diags.AddWarning(title, detail)
	}
}

// lostText says that the servers will not elect a leader by themselves, and what to do. It returns "" if they may elect one. It
// recommends only a recovery that the apply accepts.
func lostText(id string, remains rollout.Remains, now time.Time) (title, detail string) {
	const target = "If other resources of this configuration cannot be read until then, apply with -target=consul_k8s_cluster.<name>. See " +
		"the guide Disasters."
	block := func(from string) string {
		return fmt.Sprintf("  recovery = { from = %q, trigger = %q }\n\n", from, now.UTC().Format("2006-01-02 15:04"))
	}
	what := fmt.Sprintf("Cluster %s has no leader, and will not elect one by itself: servers %s.\n\n", id, remains)
	switch recovery := remains.Recovery(); {
	case remains.Leader || (!remains.Lost() && len(remains.Kept) == 0):
		return "", ""
	case !remains.Lost():
		return "Servers without a pod are Raft peers", fmt.Sprintf(
			"Cluster %s has no leader: servers %s. Of those, %s have a volume and no pod, and may be needed for a quorum.\n\n"+
				"Nothing is lost: the next apply starts these servers again with their volumes. If `replicas` is lower than the number of these "+
				"servers, the apply then removes servers one at a time. %s",
			id,
			remains,
			strings.Join(remains.Kept, ", "),
			target,
		)
	case recovery == rollout.FromSurvivor:
		return "The quorum is lost", what + "To recover the cluster, set\n\n" + block(recovery) + target
	case recovery == rollout.FromNothing:
		return "The quorum is lost", what + "To start an empty cluster, set\n\n" + block(recovery) +
			"Then restore the latest backup with consul_k8s_restore. Use -target to make sure that the restore comes next. " + target
	case len(remains.Data) > 0:
		return "The quorum is lost", what + "The cluster cannot be recovered now: " + remains.Check(rollout.FromSurvivor) + ". " + target
	default:
		return "The quorum is lost", what + "The cluster cannot be recovered now: " + remains.Check(rollout.FromNothing) + ". " + target
	}
}

// recoveryError explains why the quorum is not recovered, nil if err is about something else.
func recoveryError(id string, err error) diag.Diagnostic {
	var refused *lifecycle.RefusedRecoveryError
	var failed *lifecycle.RecoveryError
	switch {
	case errors.As(err, &refused):
		return attr.Error(path.Root("recovery").AtName("from"), "The cluster cannot be recovered this way",
			fmt.Sprintf("Cluster %s: %s. Nothing was changed.", id, refused.Reason))
	case errors.As(err, &failed):
		return diag.NewErrorDiagnostic("The quorum is not recovered",
			fmt.Sprintf("Cluster %s: %s\n\nThe next apply resumes the recovery.", id, failed))
	default:
		return nil
	}
}
