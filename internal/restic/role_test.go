package restic

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func TestCheckOption(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ repository, name, value, want string }{
		{"s3:host/b", "s3.bucket-lookup", "dns", ""},
		{"", "local.connections", "4", ""},
		{"azure:c:/", "azure.access-tier", "Cool", ""},
		{"s3:host/b", "bucket-lookup", "dns", "is not an option: write"},
		{"s3:host/b", "azure.connections", "2", `its options begin with "s3."`},
		{"sftp:me@host:/p", "sftp.command", "sh", "is set by the provider"},
		{"sftp:me@host:/p", "sftp.args", "-v", "is set by the provider"},
		{"s3:host/b", "s3.region", "a b", "cannot be the value"},
		{"s3:host/b", "s3.region", "$(id)", "cannot be the value"},
		{"s3:host/b", "s3.region", "", "cannot be the value"},
	} {
		err := CheckOption(tt.repository, tt.name, tt.value)
		if (tt.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s, %s=%s: %v, want %q", tt.repository, tt.name, tt.value, err, tt.want)
		}
	}
}

// Jobs run as the ServiceAccount of the repository, with its token if one is declared. Without one, they do not
// change.
func TestSpec_serviceAccount(t *testing.T) {
	t.Parallel()
	annotations := map[string]string{"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}
	for name, tt := range map[string]struct {
		repository Repository
		want       string // the ServiceAccount
		env        string // the variable with the file of the token
		label      bool
		made       bool
	}{
		"none":  {repository: Repository{URL: "s3:host/b", Secret: "s"}, want: "consul-server"},
		"named": {repository: Repository{URL: "s3:host/b", Secret: "s", ServiceAccount: ServiceAccount{Name: "r"}}, want: "r"},
		"made": {repository: Repository{
			URL: "s3:host/b", Secret: "s", ServiceAccount: ServiceAccount{Annotations: annotations},
		}, want: "consul-backup-daily", made: true},
		"with a token, S3": {repository: Repository{
			URL: "s3:host/b", Secret: "s", ServiceAccount: ServiceAccount{Name: "r", TokenAudience: "a"},
		}, want: "r", env: "AWS_WEB_IDENTITY_TOKEN_FILE"},
		"with a token, Azure": {repository: Repository{
			URL: "azure:c:/", Secret: "s", ServiceAccount: ServiceAccount{Name: "r", TokenAudience: "a"},
		}, want: "r", env: "AZURE_FEDERATED_TOKEN_FILE", label: true},
	} {
		servers := server.Spec{Namespace: "ns", Name: "consul", Image: "consul:1.22.7", Version: "1.22.7"}
		spec := Spec{
			Name:       "daily",
			Schedule:   "0 * * * *",
			Repository: tt.repository,
			Image:      DefaultImage,
			Deadline:   time.Hour,
			Prune:      Prune{Schedule: "0 0 * * *"},
		}
		for _, c := range CronJobs(spec, servers) {
			pod := c.Spec.JobTemplate.Spec.Template
			if got := pod.Spec.ServiceAccountName; got != tt.want {
				t.Errorf("%s: %s runs as %s", name, c.Name, got)
			}
			if got := pod.Labels["azure.workload.identity/use"] == "true"; got != tt.label {
				t.Errorf("%s: the label of Azure's webhook: %v", name, got)
			}
			restic := pod.Spec.Containers[0]
			i := slices.IndexFunc(restic.Env, func(e corev1.EnvVar) bool { return e.Value == "/identity/token" })
			if (i >= 0) != (tt.env != "") || (i >= 0 && restic.Env[i].Name != tt.env) {
				t.Errorf("%s: the variables are %v", name, restic.Env)
			}
			mounts := slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Projected != nil })
			if mounts != (tt.repository.ServiceAccount.TokenAudience != "") {
				t.Errorf("%s: the token is mounted: %v", name, mounts)
			}
		}
		if a := spec.account("ns", "consul"); (a != nil) != tt.made ||
			(a != nil && (a.Name != tt.want || !reflect.DeepEqual(a.Annotations, annotations))) {
			t.Errorf("%s: the ServiceAccount is %+v", name, a)
		}
		if back := FromSnapshotTo(SnapshotTo(tt.repository, "image")); !tt.made && !reflect.DeepEqual(back, tt.repository) {
			t.Errorf("%s: it is read back as %+v", name, back)
		}
	}
}

// A schedule deletes the ServiceAccount that it has created, and no other.
func TestSchedule_deleteAccount(t *testing.T) {
	t.Parallel()
	for name, labels := range map[string]map[string]string{
		"its own": Labels("consul", "daily"), "another's": {"app": "other"}, "of another schedule": Labels("consul", "weekly"),
	} {
		k := fake.NewClientset(
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "consul-backup-daily", Labels: labels}},
		)
		client := &kube.Client{Interface: k}
		s := Schedule{Kube: client, Consul: consul.NewConnector(client).Cluster("ns", "consul"), Name: "daily"}
		for range 2 { // once more, when it is gone
			if err := s.deleteAccount(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err := k.CoreV1().ServiceAccounts("ns").Get(t.Context(), "consul-backup-daily", metav1.GetOptions{})
		if (err != nil) != (name == "its own") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Options are passed to every command of restic, and change nothing else.
func TestRepositoryScript_options(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ options, want string }{
		{"", "snapshots --json"},
		{Repository{Options: map[string]string{"s3.region": "eu", "s3.bucket-lookup": "dns"}}.flags(), "-o s3.bucket-lookup=dns -o " +
			"s3.region=eu snapshots --json"},
	} {
		c := container(t, map[string]string{"restic": `echo "$@"`})
		c.Env = append(c.Env, "OPTIONS="+tt.options)
		out, code := c.Run(repositoryScript + "restic snapshots --json")
		if got := strings.TrimSpace(out); code != 0 || got != tt.want {
			t.Errorf("%q: %q, exit code %d", tt.options, got, code)
		}
	}
}
