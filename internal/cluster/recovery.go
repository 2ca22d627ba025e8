package cluster

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
)

var recoveryTypes = map[string]tfattr.Type{"from": types.StringType, "trigger": types.StringType}

// remainsTimeout bounds the look at servers that may not answer.
const remainsTimeout = 30 * time.Second

func recoveryAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "The way back when the quorum is lost: a plan warns that it is, and says what is left. It is carried out once, each time this is set or changed, and only while there is no leader. " +
			"It takes the right to `exec` in the servers' pods. See the guide [Disasters](../guides/disasters.md).",
		Attributes: map[string]schema.Attribute{
			"from": schema.StringAttribute{
				Required: true, Validators: []validator.String{stringvalidator.OneOf(rollout.FromSurvivor, rollout.FromNothing)},
				MarkdownDescription: "`survivor`: the server with data whose Raft log goes furthest becomes the only voter, and the others join it; writes that had not reached it are lost. " +
					"`nothing`: no server has data, and all begin anew as an empty cluster, with the management token that there was; restore a backup then (`consul_k8s_restore`).",
			},
			"trigger": schema.StringAttribute{
				Required: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
				MarkdownDescription: "Any text, such as the date. A change recovers again.",
			},
		},
	}
}

// recoveryFrom is the way back that a plan asks for, "" for none.
func (m model) recoveryFrom(before model) string {
	if m.Recovery.IsNull() || m.Recovery.IsUnknown() || m.Recovery.Equal(before.Recovery) {
		return ""
	}
	from, _ := m.Recovery.Attributes()["from"].(types.String)
	return from.ValueString()
}

// planRecovery refuses a way back that is none, and warns of what is lost on the others.
func (r *Resource) planRecovery(ctx context.Context, state, plan model, diags *diag.Diagnostics) {
	from := plan.recoveryFrom(state)
	if from == "" || r.clients == nil || r.clients.Unknown {
		return
	}
	d, err := r.deployment(ctx, state.Namespace.ValueString(), state.Name.ValueString())
	if err != nil {
		return // the apply says so
	}
	ctx, cancel := context.WithTimeout(ctx, remainsTimeout)
	defer cancel()
	remains, err := d.Remains(ctx)
	if err != nil {
		return
	}
	at := path.Root("recovery")
	switch reason := remains.Check(from); {
	case remains.Leader && remains.Recovering == from:
		diags.AddAttributeWarning(at, "A recovery is finished", fmt.Sprintf("Cluster %s has begun anew, and the apply which did that did not come to its end.", state.ID.ValueString()))
	case remains.Leader:
		diags.AddAttributeWarning(at, "There is nothing to recover", fmt.Sprintf("Cluster %s has a leader: recovery does nothing.", state.ID.ValueString()))
	case reason != "":
		diags.Append(attr.Error(at.AtName("from"), "The cluster cannot be recovered this way", fmt.Sprintf("Cluster %s: %s.", state.ID.ValueString(), reason)))
	case from == rollout.FromSurvivor:
		diags.AddAttributeWarning(at, "A survivor becomes the only voter", fmt.Sprintf("Servers of %s %s. The one whose Raft log goes furthest leads, and the others get what it has. Writes that had not reached it are lost.", state.ID.ValueString(), remains))
	default:
		diags.AddAttributeWarning(at, "The cluster begins anew", fmt.Sprintf("Servers of %s %s. They become an empty cluster. Restore a backup then, before clients take it for what it was; a consul_k8s_restore that is in the state already restores when its triggers change.", state.ID.ValueString(), remains))
	}
}

// warnLost tells of a quorum that is lost, and of the way back.
func warnLost(ctx context.Context, d rollout.Deployment, id string, diags *diag.Diagnostics) {
	ctx, cancel := context.WithTimeout(ctx, remainsTimeout)
	defer cancel()
	remains, err := d.Remains(ctx)
	if err != nil {
		tflog.Debug(ctx, "what is left of the servers is not known: "+err.Error())
		return
	}
	if !remains.Lost() {
		return
	}
	from := rollout.FromSurvivor
	if len(remains.Data) == 0 {
		from = rollout.FromNothing
	}
	detail := fmt.Sprintf("Cluster %s has no leader, and will not elect one by itself: servers %s.\n\nThe way back is\n\n  recovery = { from = %q, trigger = %q }\n\n", id, remains, from, time.Now().UTC().Format("2006-01-02 15:04"))
	if from == rollout.FromNothing {
		detail += "and then consul_k8s_restore with the latest backup, of which -target makes sure that it comes next. "
	}
	diags.AddWarning("The quorum is lost", detail+"Where other resources of this configuration cannot be read meanwhile, apply with -target=consul_k8s_cluster.<name>. See the guide Disasters.")
}

// recoverQuorum goes the way back that a plan asks for, and reports whether the update may go on.
func recoverQuorum(ctx context.Context, d rollout.Deployment, m, before model, diags *diag.Diagnostics) bool {
	from := m.recoveryFrom(before)
	if from == "" {
		return true
	}
	spec, specDiags := m.toSpec(ctx)
	diags.Append(specDiags...)
	err := d.Recover(ctx, spec, from)
	var refused *rollout.RefusedRecoveryError
	switch {
	case errors.As(err, &refused):
		diags.Append(attr.Error(path.Root("recovery").AtName("from"), "The cluster cannot be recovered this way", fmt.Sprintf("Cluster %s: %s. Nothing was changed.", spec.ID(), refused.Reason)))
	case err != nil:
		diags.AddError("The quorum is not recovered", fmt.Sprintf("Cluster %s: %s\n\nThe next apply goes on.", spec.ID(), err))
	}
	return !diags.HasError()
}
