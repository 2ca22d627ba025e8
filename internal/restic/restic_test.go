package restic

import (
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func TestKindOf(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"s3:s3.amazonaws.com/bucket":       "",
		"s3:https://host:9000/bucket/path": "",
		"azure:container:/":                "",
		"gs:bucket:/path":                  "",
		"b2:bucket:path":                   "",
		"swift:container:/path":            "",
		"rest:https://host:8000/path":      "",
		"rest:host/path":                   "must begin with http",
		"rest:https://me@host/":            "user or a password",
		"s3:https://":                      "names no host",
		"s3:":                              "must begin with one of",
		"/folder":                          "repository.volume_claim",
		"sftp:me@host:/path":               "must begin with one of",
		"rclone:remote:path":               "must begin with one of",
	} {
		_, err := KindOf(url)
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

func TestCheckSecret(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		repository Repository
		keys, want string
	}{
		"whole":              {Repository{URL: "s3:host/b"}, "RESTIC_PASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY", ""},
		"no password":        {Repository{URL: "s3:host/b"}, "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY", "RESTIC_PASSWORD"},
		"half":               {Repository{URL: "s3:host/b"}, "RESTIC_PASSWORD AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"one of two ways":    {Repository{URL: "azure:c:/"}, "RESTIC_PASSWORD AZURE_ACCOUNT_NAME AZURE_ACCOUNT_SAS", ""},
		"neither of two":     {Repository{URL: "azure:c:/"}, "RESTIC_PASSWORD AZURE_ACCOUNT_NAME", ", or AZURE_ACCOUNT_NAME and AZURE_ACCOUNT_SAS"},
		"a volume":           {Repository{Claim: "c"}, "RESTIC_PASSWORD", ""},
		"a server for all":   {Repository{URL: "rest:http://host/"}, "RESTIC_PASSWORD", ""},
		"a volume, not even": {Repository{Claim: "c"}, "", "RESTIC_PASSWORD"},
	} {
		err := CheckSecret(tt.repository, strings.Fields(tt.keys))
		if (tt.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestOverdue(t *testing.T) {
	t.Parallel()
	friday := time.Date(2026, 11, 27, 3, 0, 30, 0, time.UTC)
	for name, tt := range map[string]struct {
		schedule, zone string
		ago            time.Duration // from the backup to now
		want           bool
	}{
		"an hour":             {"40 * * * *", "", 2 * time.Hour, false},
		"three hours":         {"40 * * * *", "", 3 * time.Hour, true},
		"over the weekend":    {"0 3 * * 1-5", "", 70 * time.Hour, false},
		"after the weekend":   {"0 3 * * 1-5", "", 98 * time.Hour, true},
		"in its zone":         {"0 3 * * *", "America/New_York", 29 * time.Hour, false},
		"late in its zone":    {"0 3 * * *", "America/New_York", 31 * time.Hour, true},
		"never":               {"0 0 31 2 *", "", 9000 * time.Hour, false},
		"no schedule":         {"nonsense", "", 9000 * time.Hour, false},
		"once an hour, ours":  {DefaultSchedule("ns", "consul", "backup"), "", 2 * time.Hour, false},
		"once an hour, late":  {DefaultSchedule("ns", "consul", "backup"), "", 4 * time.Hour, true},
		"in an unknown place": {"40 * * * *", "Nowhere", 9000 * time.Hour, false},
	} {
		if got := Overdue(tt.schedule, tt.zone, friday, friday.Add(tt.ago)); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if DefaultSchedule("ns", "consul", "backup") == DefaultSchedule("ns", "consul", "other") {
		t.Error("two schedules start in the same minute")
	}
}

// What a backup is, and why one failed, is read from the pods; a later success makes an
// earlier failure nothing.
func TestSummarize(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	hour := func(n int) metav1.Time { return metav1.NewTime(at.Add(time.Duration(n) * time.Hour)) }
	job := func(n int, condition batchv1.JobConditionType) batchv1.Job {
		j := batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: types.UID(strconv.Itoa(n)), CreationTimestamp: hour(n)}}
		if condition != "" {
			j.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue, LastTransitionTime: hour(n), Message: "Kubernetes' words"}}
		}
		return j
	}
	pod := func(n int, code int32, message string) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{UID: types.UID(strconv.Itoa(n)), Controller: new(true)}}},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				Name: "restic", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message}},
			}}},
		}
	}
	const good = `{"snapshot":"abc","version":"1.22.7","index":12,"size":100,"stored":10,"forgotten":true,"time":"2026-11-26T12:00:00Z"}`
	for name, tt := range map[string]struct {
		jobs         []batchv1.Job
		pods         []corev1.Pod
		last, reason string
	}{
		"nothing":            {},
		"it runs":            {jobs: []batchv1.Job{job(0, "")}},
		"stored":             {[]batchv1.Job{job(0, batchv1.JobComplete)}, []corev1.Pod{pod(0, 0, good)}, "abc", ""},
		"failed since":       {[]batchv1.Job{job(0, batchv1.JobComplete), job(1, batchv1.JobFailed)}, []corev1.Pod{pod(0, 0, good), pod(1, 1, "no way\n")}, "abc", "container restic: no way"},
		"failed before":      {[]batchv1.Job{job(0, batchv1.JobFailed), job(1, batchv1.JobComplete)}, []corev1.Pod{pod(0, 1, "no way"), pod(1, 0, good)}, "abc", ""},
		"its pod is gone":    {[]batchv1.Job{job(0, batchv1.JobFailed)}, nil, "", "Kubernetes' words"},
		"no result":          {[]batchv1.Job{job(0, batchv1.JobComplete)}, []corev1.Pod{pod(0, 0, `{"snapshot":""}`)}, "", ""},
		"failed, and it ran": {[]batchv1.Job{job(1, batchv1.JobFailed), job(2, "")}, []corev1.Pod{pod(1, 1, "no way")}, "", "container restic: no way"},
	} {
		got := Summarize(tt.jobs, tt.pods)
		last := ""
		if got.Last != nil {
			last = got.Last.Snapshot
		}
		if last != tt.last || got.Reason != tt.reason || (got.Reason == "") != got.Failed.IsZero() {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// No secret is in what describes the pods, and the Spec comes back as it was.
func TestCronJob(t *testing.T) {
	t.Parallel()
	servers := server.Spec{Name: "consul", Namespace: "ns", Version: "1.22.7", Image: "consul:1.22.7", ACL: server.ACL{Enabled: true}}
	s := Spec{
		Name: "hourly", Schedule: "40 * * * *", TimeZone: "Europe/Paris", Image: DefaultImage, Deadline: time.Hour,
		Repository: Repository{URL: "s3:https://host/bucket", Secret: "restic"}, Retention: Retention{Hourly: 24, Within: "7d"},
	}
	c := CronJob(s, servers)
	if got, err := ParseSpec(c); err != nil || got != s {
		t.Errorf("got %+v, %v", got, err)
	}
	p := c.Spec.JobTemplate.Spec.Template.Spec
	if got := strings.Join(p.Containers[0].Args, " "); got != "sh /scratch ns.consul hourly /dev/termination-log existing --keep-hourly=24 --keep-within=7d" {
		t.Errorf("the arguments of restic's container are %s", got)
	}
	if got := strings.Join(p.InitContainers[0].Args, " "); got != "sh /scratch 1.22.7 http://consul.ns.svc:8500 /token/token" {
		t.Errorf("the arguments of the snapshot's container are %s", got)
	}
	for _, e := range p.Containers[0].Env {
		if e.Name != "RESTIC_REPOSITORY" {
			t.Errorf("%s is in the environment", e.Name)
		}
	}
	s.Repository = Repository{Claim: "backups", Secret: "restic"}
	p = CronJob(s, servers).Spec.JobTemplate.Spec.Template.Spec
	if m := p.Containers[0].VolumeMounts; m[len(m)-1].MountPath != "/repository" || p.Containers[0].Env[0].Value != "/repository" {
		t.Errorf("the volume is mounted as %+v", m)
	}
}
