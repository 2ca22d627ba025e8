package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

var (
	stringList   = types.ListType{ElemType: types.StringType}
	rolloutTypes = map[string]tfattr.Type{"changes": stringList, "steps": stringList}
	noRollout    = types.ObjectValueMust(rolloutTypes, map[string]tfattr.Value{"changes": noDrift, "steps": noDrift})
)

// privateWorld is the key of the private state under which a refresh stores the
// servers as it saw them. When Terraform applies a plan, it plans again, and reports
// a different plan as an error. So a plan must follow from the state alone.
const privateWorld = "world"

// look returns the servers, and their form for the private state, which is null if the
// servers could not be looked at.
func look(ctx context.Context, d lifecycle.Deployment, s lifecycle.State) (rollout.World, []byte) {
	w, err := d.Look(ctx, s.Spec)
	if err != nil {
		tflog.Debug(ctx, "could not look at the servers: "+err.Error())
		return rollout.World{}, []byte("null")
	}
	w.Pending = s.Pending
	b, err := json.Marshal(w)
	if err != nil {
		return rollout.World{}, []byte("null")
	}
	return w, b
}

// seen is what look saw last, nil if the servers were not seen.
func seen(private []byte) *rollout.World {
	var w *rollout.World
	if err := json.Unmarshal(private, &w); err != nil {
		return nil
	}
	return w
}

// mayPause reports whether an update may end before all servers run the change.
func (m model) mayPause() bool {
	after, ok := m.Update.Attributes()["pause_after"].(types.Int64)
	return !ok || after.IsUnknown() || after.ValueInt64() > 0
}

// planRollout sets the attribute rollout to what an update does to the servers, and
// adds a warning if servers restart.
func (m *model) planRollout(ctx context.Context, state model, w *rollout.World, diags *diag.Diagnostics) {
	before, d := state.toSpec(ctx)
	diags.Append(d...)
	after, d := m.toSpec(ctx)
	diags.Append(d...)
	before.Established = true // the state knows nothing else
	seen := rollout.Observed{Running: before, Applied: true, World: w}
	p := rollout.NewPlan(seen, rollout.Wanted{Spec: after, Recover: m.recoveryFrom(state)})
	changes := texts(p.Changes)
	var drift []string
	diags.Append(state.Drift.ElementsAs(ctx, &drift, false)...)
	for _, f := range drift {
		kind := "drift: "
		if w != nil && slices.Contains(w.Pending, f) {
			kind = "pending: "
		}
		changes = append(changes, kind+f)
	}
	steps := texts(p.Steps())
	m.Rollout = attr.Object(ctx, rolloutTypes, rolloutModel{Changes: changes, Steps: steps}, diags)
	if p.Restarts > 0 {
		diags.AddWarning(restartWarning(before, p, changes, steps))
	}
}

type rolloutModel struct {
	Changes []string `tfsdk:"changes"`
	Steps   []string `tfsdk:"steps"`
}

func rolloutAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Computed:            true,
		MarkdownDescription: "What the pending change does to the servers. The plan shows it before it happens. The next refresh clears it.",
		Attributes: map[string]schema.Attribute{
			"changes": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Settings that change, each with its old and new value and the kind of change: `write` touches no server, " +
					"`reload` makes each running server load the configuration, `rotate` replaces a key or a certificate while the servers run, " +
					"`resize` grows the volumes, `scale` adds or removes servers, `restart in place` restarts Consul in the pods of all servers, " +
					"`new pods` gives each server a new pod, and `rebuild` gives each a new pod and a new volume. " +
					"The list includes the entries of `drift`: `drift:` marks what another tool or person changed, and `pending:` marks the rest of " +
					"a change that was interrupted or paused.",
			},
			"steps": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "What happens to which server, and why, in the order known at the last refresh: followers first, and the " +
					"leader last, after it has transferred its leadership. " +
					"Before that come a snapshot before an upgrade, the recovery of a quorum, and new gossip keys and certificates. " +
					"The rollout checks the servers again before each step, and follows the leader if the leadership has moved. If the servers could " +
					"not be asked, the list lacks what happens to them.",
			},
		},
	}
}

func texts[T fmt.Stringer](list []T) []string {
	out := []string{}
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}

// restartWarning says how many servers restart, and what that means for clients.
func restartWarning(before server.Spec, p rollout.Plan, changes, steps []string) (summary, detail string) {
	summary = fmt.Sprintf("%d servers restart", p.Restarts)
	detail = "Servers restart one at a time, and the next one only when all servers are healthy voters again."
	switch {
	case p.Alone:
		summary, detail = "The only server restarts", "Clients get no answer until the server is back. With three servers, the others would "+
			"continue to answer."
	case p.Restarts == 1:
		summary = "1 server restarts"
	}
	if p.Rolls > 1 {
		summary += fmt.Sprintf(", %d times", p.Rolls)
	}
	if len(steps) > 0 {
		detail += "\n\nSteps known now: " + strings.Join(steps, ", ") + "."
	}
	return summary, fmt.Sprintf("%s\n\nChanges of %s:\n  %s", detail, before.ID(), strings.Join(changes, "\n  "))
}
