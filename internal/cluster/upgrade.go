package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// privateStarted is the key of the private state for the versions that servers were
// last seen to have started (lifecycle.State.Started).
const privateStarted = "started"

// privateState is the private state of a response.
type privateState interface {
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

// keepStarted stores the versions for the next plan. If none was seen, for example
// because the only server cannot pull its image, the versions that were seen before
// stay, because they wrote the data.
func keepStarted(ctx context.Context, private privateState, started []string) diag.Diagnostics {
	if len(started) == 0 {
		return nil
	}
	b, err := json.Marshal(started)
	if err != nil {
		return diag.Diagnostics{diag.NewWarningDiagnostic("The running versions were not recorded", err.Error())} // an error would taint
	}
	return private.SetKey(ctx, privateStarted, b)
}

// checkUpgrade refuses a version that the running servers cannot change to
// (server.CheckUpgrade), and warns if the change reverts an upgrade.
func checkUpgrade(config, state, plan model, started []byte, diags *diag.Diagnostics) {
	if plan.Version.IsUnknown() || !plan.Name.Equal(state.Name) || !plan.Namespace.Equal(state.Namespace) { // or another cluster
		return
	}
	at := versionPath(config)
	to, id := plan.Version.ValueString(), state.ID.ValueString()
	running := runningVersions(state, started)
	takesBack, err := server.CheckUpgrade(running, to)
	var downgrade *server.DowngradeError
	var jump *server.JumpError
	switch {
	case errors.As(err, &downgrade):
		diags.Append(
			attr.Error(at, "Consul cannot be downgraded", fmt.Sprintf("The servers of %s run %s: %s.", id, strings.Join(running, " and "), err)),
		)
	case errors.As(err, &jump):
		diags.Append(
			attr.Error(at, "The upgrade skips release lines", fmt.Sprintf("The servers of %s run %s: %s.", id, strings.Join(running, " and "), err)),
		)
	case err != nil:
		diags.Append(attr.Error(at, "Invalid Consul version", err.Error()+"."))
	case takesBack:
		newest := running[len(running)-1]
		disks := ""
		if server.WritesAheadLog(newest) && !server.WritesAheadLog(to) {
			disks = fmt.Sprintf(" This applies to every server that got its volume from %s: its Raft log has a format that %s does not read, "+
				"and the server refuses to start empty.", newest, to)
		}
		diags.AddAttributeWarning(at, "An upgrade is reverted", fmt.Sprintf(
			"The upgrade of %[1]s from %[2]s to %[3]s is not complete. This change reverts it: servers that already run %[3]s restart with %[4]s "+
				"and the data that they have. "+
				"Consul has no downgrade, so this works only if %[2]s can read what %[3]s has written, which is little until a server with "+
				"%[3]s leads. "+
				"A server that cannot read the data does not start, and the rollout stops while the other servers continue to serve. In that case, "+
				"complete the upgrade.",
			id,
			running[0],
			newest,
			to,
		)+disks)
	}
}

// runningVersions returns the versions that count for an upgrade, oldest first: those
// that servers were last seen to have started, not those that are declared. A version
// that never started, such as one without an image, has written nothing, so it may be
// corrected to an older one. If no server of a cluster ever started, nothing is known.
func runningVersions(state model, started []byte) []string {
	var versions []string
	switch {
	case json.Unmarshal(started, &versions) == nil && len(versions) > 0:
	case !state.RunningVersion.IsNull():
		versions = []string{state.RunningVersion.ValueString()}
	case state.Ready.ValueBool(): // then all servers ran it
		versions = []string{state.Version.ValueString()}
	}
	return server.SortVersions(versions)
}
