package cluster

import (
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
)

// versioned is a cluster of a version, reduced to what matters for an upgrade.
func versioned(version, running string, ready bool) model {
	return model{
		ID: types.StringValue("consul/consul"), Name: types.StringValue("consul"), Namespace: types.StringValue("consul"),
		Version: types.StringValue(version), RunningVersion: attr.OptionalString(running), Ready: types.BoolValue(ready),
	}
}

func TestCheckUpgrade(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		state     model
		started   string // the private state
		to        string
		byImage   bool
		err, warn string // part of the only diagnostic
	}{
		"the same":  {state: versioned("1.22.7", "1.22.7", true), started: `["1.22.7"]`, to: "1.22.7"},
		"two lines": {state: versioned("1.20.6", "1.20.6", true), started: `["1.20.6"]`, to: "1.22.7"},
		"a downgrade": {
			state:   versioned("1.22.7", "1.22.7", true),
			started: `["1.22.7"]`,
			to:      "1.21.0",
			err:     "version: The servers of consul/consul run 1.22.7: 1.21.0 is older",
		},
		"a downgrade by image": {
			state:   versioned("1.22.7", "1.22.7", true),
			started: `["1.22.7"]`,
			to:      "1.21.0",
			byImage: true,
			err:     "image: The servers of consul/consul run 1.22.7: 1.21.0 is older",
		},
		"four lines": {
			state:   versioned("1.21.0", "1.21.0", true),
			started: `["1.21.0"]`,
			to:      "1.25.0",
			err:     "1.21.0 -> 1.23.x -> 1.25.0.",
		},
		"far ahead": {
			state:   versioned("1.21.0", "1.21.0", true),
			started: `["1.21.0"]`,
			to:      "1.2100.0",
			err:     "there is no such version.",
		},
		"an upgrade reverted over a change of the Raft log": {
			state: versioned(
				"1.20.6",
				"1.19.2",
				false,
			), started: `["1.19.2","1.20.6"]`, to: "1.19.2", warn: "every server that got its volume from 1.20.6"},
		"an upgrade reverted": {
			state:   versioned("1.22.7", "1.21.0", false),
			started: `["1.21.0","1.22.7"]`,
			to:      "1.21.0",
			warn:    "servers that already run 1.22.7 restart with 1.21.0",
		},
		"an upgrade reverted to a newer version than before": {
			state:   versioned("1.22.7", "1.21.0", false),
			started: `["1.21.0","1.22.7"]`,
			to:      "1.21.5",
			err:     "run 1.21.0 and 1.22.7: 1.21.5 is older than 1.22.7, which servers already run",
		},
		"a revert is resumed": {
			state:   versioned("1.21.0", "1.21.0", false),
			started: `["1.21.0","1.22.7"]`,
			to:      "1.21.0",
			warn:    "An upgrade is reverted",
		},
		"an upgrade is resumed": {state: versioned("1.22.7", "1.21.0", false), started: `["1.21.0","1.22.7"]`, to: "1.22.7"},
		"an upgrade continues to a version that is too new for some servers": {
			state: versioned("1.21.0", "1.19.2", false), started: `["1.19.2","1.21.0"]`, to: "1.22.7", err: "1.19.2 -> 1.21.0 -> 1.22.7."},
		"a version without an image is corrected": {
			state:   versioned("1.22.77", "1.21.0", false),
			started: `["1.21.0"]`,
			to:      "1.22.7",
		},
		"a version without an image is corrected, with one server": {state: versioned("1.22.77", "", false), started: `["1.21.0"]`, to: "1.22.7"},
		"the correction is compared with what ran before": {
			state:   versioned("1.22.77", "", false),
			started: `["1.21.0"]`,
			to:      "1.20.6",
			err:     "run 1.21.0: 1.20.6 is older",
		},
		"a version without an image at creation is corrected": {state: versioned("1.22.77", "", false), to: "1.22.7"},
		"nothing is recorded": {
			state: versioned("1.22.7", "1.22.7", false), to: "1.21.0", err: "is older than 1.22.7"},
		"nothing is recorded, and no server runs": {
			state: versioned("1.22.7", "", true), to: "1.21.0", err: "is older than 1.22.7"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan := tt.state
			plan.Version = types.StringValue(tt.to)
			config, at := model{Version: plan.Version}, path.Root("version")
			if tt.byImage {
				config, at = model{Image: types.StringValue("consul:" + tt.to)}, path.Root("image")
			}
			var diags diag.Diagnostics
			checkUpgrade(config, tt.state, plan, []byte(tt.started), &diags)
			text, severity := tt.err, diag.SeverityError
			if tt.warn != "" {
				text, severity = tt.warn, diag.SeverityWarning
			}
			if text == "" && len(diags) == 0 {
				return
			}
			if text == "" || len(diags) != 1 {
				t.Fatalf("got %v, want %q", diags, text)
			}
			d, ok := diags[0].(diag.DiagnosticWithPath)
			if !ok || d.Severity() != severity || !d.Path().Equal(at) || !strings.Contains(d.Summary()+"\n"+d.Detail(), text) {
				t.Errorf("got %v, want %s of %s with %q", diags[0], severity, at, text)
			}
		})
	}
}

func TestCheckUpgrade_waitsForWhatIsUnknown(t *testing.T) {
	t.Parallel()
	state := versioned("1.22.7", "1.22.7", true)
	for name, change := range map[string]func(*model){
		"version":   func(m *model) { m.Version = types.StringUnknown() },
		"name":      func(m *model) { m.Name = types.StringUnknown() },
		"namespace": func(m *model) { m.Namespace = types.StringValue("other") }, // another cluster
	} {
		plan := versioned("1.15.0", "", false)
		change(&plan)
		var diags diag.Diagnostics
		checkUpgrade(plan, state, plan, []byte(`["1.22.7"]`), &diags)
		if len(diags) > 0 {
			t.Errorf("%s: %v", name, diags)
		}
	}
}
