package restic

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A policy that requires a label accepts what is rendered for a schedule.
func TestLabels_everyObjectHasThoseOfTheCluster(t *testing.T) {
	t.Parallel()
	servers := server.Spec{
		Name:      "consul",
		Namespace: "ns",
		Version:   "1.22.7",
		Image:     "consul:1.22.7",
		Labels:    map[string]string{"team": "platform"},
	}
	s := Spec{
		Name:       "hourly",
		Schedule:   "0 * * * *",
		Repository: Repository{Claim: "backups", Secret: "restic"},
		Prune:      Prune{Schedule: "0 3 * * 0"},
	}
	for _, c := range CronJobs(s, servers) {
		if c.Labels["team"] != "platform" || c.Spec.JobTemplate.Labels["team"] != "platform" {
			t.Errorf("CronJob %s has %v, its Jobs %v", c.Name, c.Labels, c.Spec.JobTemplate.Labels)
		}
	}
	if j := Now(s, servers, TaskBackup); j.Labels["team"] != "platform" {
		t.Errorf("the first Job has %v", j.Labels)
	}
	if j := (Client{Consul: consul.NewConnector(nil).Cluster("ns", "consul")}).job(
		pod{servers: servers}, "list", corev1.Container{Name: "restic"},
	); j.Labels["team"] != "platform" {
		t.Errorf("a Job that reads the repository has %v", j.Labels)
	}
}

// ssh requires a name for the user that it runs as, whatever its number.
func TestPasswd(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]server.Pod{
		"consul:x:100:1000:consul:/tmp:/bin/false\n":  {},
		"consul:x:2000:3000:consul:/tmp:/bin/false\n": {RunAs: &server.RunAs{User: new(int64(2000)), Group: new(int64(3000))}},
		"": {RunAs: &server.RunAs{}},
	} {
		if got := passwd(server.Spec{Pod: p}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
