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

// privateStarted is the key of the private state under which the versions are that
// servers were last seen to have started (rollout.State.Started).
const privateStarted = "started"

// privateState is the private state of a response.
type privateState interface {
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

// keepStarted leaves the versions for the next plan. Where none was seen, as while
// the only server cannot pull its image, those that were seen before stay: the data
// is theirs.
func keepStarted(ctx context.Context, private privateState, started []string) diag.Diagnostics {
	if len(started) == 0 {
		return nil
	}
	b, err := json.Marshal(started)
	if err != nil {
		return diag.Diagnostics{diag.NewWarningDiagnostic("The versions that run are not remembered", err.Error())} // an error would taint
	}
	return private.SetKey(ctx, privateStarted, b)
}

// checkUpgrade refuses a version that the servers which run cannot be changed to
// (server.CheckUpgrade), and warns where it takes an upgrade back.
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
		diags.Append(attr.Error(at, "Consul cannot be downgraded", fmt.Sprintf("The servers of %s run %s: %s.", id, strings.Join(running, " and "), err)))
	case errors.As(err, &jump):
		diags.Append(attr.Error(at, "The upgrade skips release lines", fmt.Sprintf("The servers of %s run %s: %s.", id, strings.Join(running, " and "), err)))
	case err != nil:
		diags.Append(attr.Error(at, "Invalid Consul version", err.Error()+"."))
	case takesBack:
		newest := running[len(running)-1]
		disks := ""
		if server.WritesAheadLog(newest) && !server.WritesAheadLog(to) {
			disks = fmt.Sprintf(" A server that got its disk from %s is one of those: its Raft log is in a form that %s does not read, "+
				"and it refuses to start empty.", newest, to)
		}
		diags.AddAttributeWarning(at, "An upgrade is taken back", fmt.Sprintf(
			"The upgrade of %[1]s from %[2]s to %[3]s is not complete. This takes it back: servers that run %[3]s already restart with %[4]s and the data that they have. "+
				"Consul has no downgrade: that goes well as long as %[2]s can read what %[3]s has written, of which there is little before a server with %[3]s leads. "+
				"A server that cannot does not come up, and the roll holds while the others go on serving: then complete the upgrade.", id, running[0], newest, to)+disks)
	}
}

// runningVersions are the versions that count for an upgrade, oldest first: what
// servers were last seen to have started, not what is declared. A version that never
// started, such as one without an image, has written nothing: it may be corrected to
// an older one. Of a cluster in which no server ever started nothing is known.
func runningVersions(state model, started []byte) []string {
	var versions []string
	switch {
	case json.Unmarshal(started, &versions) == nil && len(versions) > 0:
	case !state.RunningVersion.IsNull():
		versions = []string{state.RunningVersion.ValueString()}
	case state.Ready.ValueBool(): // then all ran it
		versions = []string{state.Version.ValueString()}
	}
	return server.SortVersions(versions)
}
