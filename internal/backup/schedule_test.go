package backup

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A plan warns of failed and of missing backups, and of nothing else.
func TestWarn(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	stored := func(ago time.Duration) *restic.Result {
		return &restic.Result{Snapshot: "abc", Version: "1.22.7", Index: 1, Size: 1, Forgotten: true, Time: now.Add(-ago)}
	}
	for name, tt := range map[string]struct {
		schedule string
		drill    string
		suspend  bool
		state    restic.State
		kept     *restic.Result // what an earlier refresh has read
		want     string
	}{
		"no problem": {schedule: "0 * * * *", state: restic.State{Backup: restic.Outcome[restic.Result]{Last: stored(2 * time.Hour)}}},
		"failed since": {schedule: "0 * * * *", state: restic.State{Backup: restic.Outcome[restic.Result]{Last: stored(time.Hour), Reason: "no way"}},
			want: "failed"},
		"old": {schedule: "0 * * * *", state: restic.State{Backup: restic.Outcome[restic.Result]{Last: stored(4 * time.Hour)}},
			want: "old"},
		"old, and forgotten": {schedule: "0 * * * *", kept: stored(4 * time.Hour), want: "old"},
		"not old for its time": {schedule: "0 3 * * *", state: restic.State{
			Backup: restic.Outcome[restic.Result]{Last: stored(30 * time.Hour)},
		}},
		"suspended": {schedule: "0 * * * *", suspend: true, state: restic.State{
			Backup: restic.Outcome[restic.Result]{Last: stored(40 * time.Hour)},
		}},
		"never due": {schedule: "0 0 31 2 *", state: restic.State{
			Backup: restic.Outcome[restic.Result]{Last: stored(40 * time.Hour)},
		}},
		"locked": {schedule: "0 * * * *", state: restic.State{Backup: restic.Outcome[restic.Result]{Last: &restic.Result{Snapshot: "abc", Time: now}}},
			want: "forgotten"},
		"started empty": {schedule: "0 * * * *", state: restic.State{Backup: restic.Outcome[restic.Result]{Last: &restic.Result{Snapshot: "abc", StartedEmpty: true, Time: now}}},
			want: "backups"},
		"nothing is known": {schedule: "0 * * * *"},
		"a drill failed": {schedule: "0 * * * *", drill: "0 5 * * *", state: restic.State{Tasks: map[string]restic.Outcome[restic.Done]{restic.TaskDrill: {Reason: "no way"}}},
			want: "failed"},
		"an old drill": {schedule: "0 * * * *", drill: "0 5 * * *", state: restic.State{
			Tasks: map[string]restic.Outcome[restic.Done]{restic.TaskDrill: {Last: &restic.Done{Time: now.Add(-90 * time.Hour)}}},
		}, want: "old"},
		"an outcome from before the change": {schedule: "0 * * * *", state: restic.State{
			Tasks: map[string]restic.Outcome[restic.Done]{restic.TaskDrill: {Reason: "no way"}},
		}},
		"old, and failed since": {schedule: "0 * * * *", state: restic.State{Backup: restic.Outcome[restic.Result]{Last: stored(9 * time.Hour), Reason: "no way"}},
			want: "failed old"},
	} {
		m := scheduleModel{
			ID:   types.StringValue("ns/consul/backup"),
			Name: types.StringValue("backup"), Schedule: types.StringValue(tt.schedule), Suspend: types.BoolValue(tt.suspend),
		}
		m.forget()
		if tt.drill != "" {
			m.Drill = types.ObjectValueMust(
				drillTypes,
				map[string]attr.Value{"schedule": types.StringValue(tt.drill), "sentinel_key": types.StringNull()},
			)
		}
		m.fromState(restic.State{Backup: restic.Outcome[restic.Result]{Last: tt.kept}})
		m.fromState(tt.state)
		var diags diag.Diagnostics
		m.warn(tt.state, now, &diags)
		var got []string
		for _, d := range diags {
			words := strings.Fields(d.Summary())
			got = append(got, words[len(words)-1])
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s: warns %q, want %q", name, text, tt.want)
		}
	}
}

// The Spec is read back as it was declared.
func TestFromSpec(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]restic.Spec{
		"all": {
			Name: "hourly", Schedule: "40 * * * *", TimeZone: "Etc/UTC", Suspend: true, Image: "restic:1", Deadline: 90 * time.Minute, History: 7,
			Repository: restic.Repository{URL: "s3:host/bucket", Secret: "restic"},
			Retention:  restic.Retention{Last: 1, Hourly: 2, Daily: 3, Weekly: 4, Monthly: 5, Yearly: 6, Within: "7d"},
			Resources: &server.Resources{
				Requests: map[string]resource.Quantity{"cpu": resource.MustParse("250m")},
				Limits:   map[string]resource.Quantity{"memory": resource.MustParse("1Gi")},
			},
			Placement: &restic.Placement{
				NodeSelector: map[string]string{"disk": "large"},
				Tolerations:  []corev1.Toleration{{Key: "backup", Operator: corev1.TolerationOpExists}}, PriorityClass: "low",
			},
		},
		"little": {Name: "backup", Schedule: "1 * * * *", Image: "restic:1", Deadline: 30 * time.Minute, History: restic.DefaultHistory, Repository: restic.Repository{Claim: "c", Secret: "s"}, Retention: restic.Retention{Last: 1}},
	} {
		var m scheduleModel
		var diags diag.Diagnostics
		m.fromSpec(t.Context(), s, &diags)
		if got := m.toSpec(t.Context(), &diags); !got.Equal(s) || diags.HasError() {
			t.Errorf("%s: got %+v, %v", name, got, diags)
		}
	}
}
