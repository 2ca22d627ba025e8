package restic

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
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
		"sftp:me@host:/path":               "",
		"sftp://me@host:2222//path":        "",
		"sftp://me@[::1]:2222//path":       "",
		"sftp:host:/path":                  "sftp:user@host:/path",
		"sftp://me:secret@host//path":      "sftp:user@host:/path",
		"sftp:-oProxyCommand=x@host:/path": "sftp:user@host:/path",
		"rclone:remote:path":               "must begin with one of",
	} {
		_, err := KindOf(url)
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

func TestCheckKeys(t *testing.T) {
	t.Parallel()
	named, withToken := ServiceAccount{Name: "a"}, ServiceAccount{Name: "a", TokenAudience: "sts.amazonaws.com"}
	for name, tt := range map[string]struct {
		repository Repository
		keys, want string
	}{
		"whole":           {Repository{URL: "s3:host/b"}, "RESTIC_PASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY", ""},
		"no password":     {Repository{URL: "s3:host/b"}, "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY", "RESTIC_PASSWORD"},
		"half":            {Repository{URL: "s3:host/b"}, "RESTIC_PASSWORD AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"one of two ways": {Repository{URL: "azure:c:/"}, "RESTIC_PASSWORD AZURE_ACCOUNT_NAME AZURE_ACCOUNT_SAS", ""},
		"neither of two": {Repository{URL: "azure:c:/"}, "RESTIC_PASSWORD AZURE_ACCOUNT_NAME", ", or AZURE_ACCOUNT_NAME and " +
			"AZURE_ACCOUNT_SAS"},
		"a volume":           {Repository{Claim: "c"}, "RESTIC_PASSWORD", ""},
		"a key alone":        {Repository{URL: "sftp:me@host:/path"}, "RESTIC_PASSWORD ssh-privatekey", "ssh-privatekey and known_hosts"},
		"a server for all":   {Repository{URL: "rest:http://host/"}, "RESTIC_PASSWORD", ""},
		"a volume, not even": {Repository{Claim: "c"}, "", "RESTIC_PASSWORD"},

		"a principal": {Repository{URL: "azure:c:/"}, "RESTIC_PASSWORD AZURE_ACCOUNT_NAME AZURE_TENANT_ID AZURE_CLIENT_ID " +
			"AZURE_CLIENT_SECRET", ""},
		"a role, S3": {Repository{URL: "s3:host/b", ServiceAccount: named}, "RESTIC_PASSWORD", ""},
		"a role that is made, S3": {Repository{
			URL: "s3:host/b", ServiceAccount: ServiceAccount{Annotations: map[string]string{"a": "b"}},
		}, "RESTIC_PASSWORD", ""},
		"a role, and half of a key": {Repository{
			URL: "s3:host/b", ServiceAccount: named,
		}, "RESTIC_PASSWORD AWS_ACCESS_KEY_ID", "add AWS_SECRET_ACCESS_KEY"},
		"a role, and keys": {Repository{URL: "s3:host/b", ServiceAccount: named}, "RESTIC_PASSWORD AWS_ACCESS_KEY_ID " +
			"AWS_SECRET_ACCESS_KEY", ""},
		"a role, no password":         {Repository{URL: "s3:host/b", ServiceAccount: named}, "", "RESTIC_PASSWORD"},
		"a token, S3":                 {Repository{URL: "s3:host/b", ServiceAccount: withToken}, "RESTIC_PASSWORD AWS_ROLE_ARN", ""},
		"a token of no role, S3":      {Repository{URL: "s3:host/b", ServiceAccount: withToken}, "RESTIC_PASSWORD", "AWS_ROLE_ARN"},
		"a role, Azure":               {Repository{URL: "azure:c:/", ServiceAccount: named}, "RESTIC_PASSWORD AZURE_ACCOUNT_NAME", ""},
		"a role of no account, Azure": {Repository{URL: "azure:c:/", ServiceAccount: named}, "RESTIC_PASSWORD", "AZURE_ACCOUNT_NAME"},
		"a token, Azure": {Repository{URL: "azure:c:/", ServiceAccount: withToken}, "RESTIC_PASSWORD AZURE_ACCOUNT_NAME " +
			"AZURE_TENANT_ID AZURE_CLIENT_ID", ""},
		"a token of no client, Azure": {Repository{URL: "azure:c:/", ServiceAccount: withToken}, "RESTIC_PASSWORD AZURE_ACCOUNT_NAME " +
			"AZURE_TENANT_ID", "AZURE_CLIENT_ID"},
		"a role, Google":               {Repository{URL: "gs:b:/", ServiceAccount: named}, "RESTIC_PASSWORD", ""},
		"a role and a project, Google": {Repository{URL: "gs:b:/", ServiceAccount: named}, "RESTIC_PASSWORD GOOGLE_PROJECT_ID", ""},
		"no role, Google":              {Repository{URL: "gs:b:/"}, "RESTIC_PASSWORD GOOGLE_PROJECT_ID", "set repository.service_account"},
		"a role where there is no such": {Repository{
			URL: "b2:b:p", ServiceAccount: named,
		}, "RESTIC_PASSWORD", "B2_ACCOUNT_ID and B2_ACCOUNT_KEY"},
		"anonymous": {Repository{
			URL: "s3:host/b", Options: map[string]string{"s3.unsafe-anonymous-auth": "true"},
		}, "RESTIC_PASSWORD", ""},
	} {
		err := CheckKeys(tt.repository, strings.Fields(tt.keys))
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

// The pods show the last backup, and why one failed. A later success cancels an earlier failure.
func TestSummarize(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	hour := func(n int) metav1.Time { return metav1.NewTime(at.Add(time.Duration(n) * time.Hour)) }
	job := func(n int, condition batchv1.JobConditionType) batchv1.Job {
		j := batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: types.UID(strconv.Itoa(n)), CreationTimestamp: hour(n)}}
		j.Spec.Template.Spec.Containers = []corev1.Container{{Name: "restic"}}
		if condition != "" {
			j.Status.Conditions = []batchv1.JobCondition{
				{Type: condition, Status: corev1.ConditionTrue, LastTransitionTime: hour(n), Message: "Kubernetes' words"},
			}
		}
		return j
	}
	pod := func(n int, code int32, message string) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{UID: types.UID(strconv.Itoa(n)), Controller: new(true)}}},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				Name:  "restic",
				State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message, FinishedAt: hour(n)}},
			}}},
		}
	}
	const good = `{"snapshot":"abc","version":"1.22.7","index":12,"size":100,"stored":10,"forgotten":true,"time":"2026-11-26T12:00:00Z"}`
	for name, tt := range map[string]struct {
		jobs         []batchv1.Job
		pods         []corev1.Pod
		last, reason string
	}{
		"nothing": {},
		"it runs": {jobs: []batchv1.Job{job(0, "")}},
		"stored":  {[]batchv1.Job{job(0, batchv1.JobComplete)}, []corev1.Pod{pod(0, 0, good)}, "abc", ""},
		"failed since": {[]batchv1.Job{
			job(0, batchv1.JobComplete), job(1, batchv1.JobFailed),
		}, []corev1.Pod{pod(0, 0, good), pod(1, 1, "no way\n")}, "abc", "container restic: no way"},
		"failed before": {[]batchv1.Job{
			job(0, batchv1.JobFailed), job(1, batchv1.JobComplete),
		}, []corev1.Pod{pod(0, 1, "no way"), pod(1, 0, good)}, "abc", ""},
		"its pod is gone": {[]batchv1.Job{job(0, batchv1.JobFailed)}, nil, "", "Kubernetes' words"},
		"no result":       {[]batchv1.Job{job(0, batchv1.JobComplete)}, []corev1.Pod{pod(0, 0, `{"snapshot":""}`)}, "", ""},
		"failed, and it ran": {[]batchv1.Job{
			job(1, batchv1.JobFailed), job(2, ""),
		}, []corev1.Pod{pod(1, 1, "no way")}, "", "container restic: no way"},
	} {
		state := Summarize(tt.jobs, tt.pods)
		got, last := state.Backup, ""
		if got.Last != nil {
			last = got.Last.Snapshot
		}
		if last != tt.last || got.Reason != tt.reason || (got.Reason == "") != got.Failed.IsZero() {
			t.Errorf("%s: got %+v", name, got)
		}
		if drill := state.Tasks[TaskDrill]; drill.Last != nil || drill.Reason != "" {
			t.Errorf("%s: a backup counts as a drill: %+v", name, drill)
		}
	}
	drill := job(1, batchv1.JobComplete)
	drill.Labels = map[string]string{LabelTask: TaskDrill}
	got := Summarize([]batchv1.Job{drill}, []corev1.Pod{pod(1, 0, `{"time":"2026-11-26T13:00:00Z","seconds":7,"index":12}`)})
	if last := got.Tasks[TaskDrill].Last; last == nil || last.Seconds != 7 || got.Backup.Last != nil {
		t.Errorf("a drill: %+v", got)
	}
}

// The description of the pods has no secret, and the Spec is read back unchanged.
func TestCronJobs(t *testing.T) {
	t.Parallel()
	servers := server.Spec{Name: "consul", Namespace: "ns", Version: "1.22.7", Image: "consul:1.22.7", ACL: server.ACL{Enabled: true}}
	s := Spec{
		Name: "hourly", Schedule: "40 * * * *", TimeZone: "Europe/Paris", Image: DefaultImage, Deadline: time.Hour,
		Repository: Repository{URL: "s3:https://host/bucket", Secret: "restic"}, Retention: Retention{Hourly: 24, Within: "7d"},
	}
	c := CronJobs(s, servers)[0]
	if got, err := ParseSpec(c); err != nil || !got.Equal(s) {
		t.Errorf("got %+v, %v", got, err)
	}
	p := c.Spec.JobTemplate.Spec.Template.Spec
	if got := strings.Join(p.Containers[0].Args, " "); got != "sh /scratch ns.consul schedule=hourly /dev/termination-log existing "+
		"--keep-hourly=24 --keep-within=7d" {
		t.Errorf("the arguments of restic's container are %s", got)
	}
	if got := strings.Join(p.InitContainers[0].Args, " "); got != "sh /scratch 1.22.7 http://consul.ns.svc:8500 /dev/termination-log "+
		"/token/token" {
		t.Errorf("the arguments of the snapshot's container are %s", got)
	}
	for _, e := range p.Containers[0].Env {
		if e.Name != "RESTIC_REPOSITORY" && e.Name != "DEADLINE" {
			t.Errorf("%s is in the environment", e.Name)
		}
	}
	s.Repository = Repository{Claim: "backups", Secret: "restic"}
	p = CronJobs(s, servers)[0].Spec.JobTemplate.Spec.Template.Spec
	if m := p.Containers[0].VolumeMounts; m[len(m)-1].MountPath != "/repository" || p.Containers[0].Env[0].Value != "/repository" {
		t.Errorf("the volume is mounted as %+v", m)
	}
}

// A repository may have snapshots of others. Ours are read back with all that their tags say.
func TestParseList(t *testing.T) {
	t.Parallel()
	got, err := ParseList([]byte(`[
		{"id":"aa","time":"2026-11-26T12:00:00Z","hostname":"ns.consul","tags":["schedule=hourly","version=1.22.7","index=12"],"summary":{"total_bytes_processed":100,"data_added_packed":10}},
		{"id":"bb","time":"2026-11-26T13:00:00Z","hostname":"ns.consul","tags":["before-restore=aa","version=1.22.7","index=13"]},
		{"id":"cc","time":"2026-11-26T11:00:00Z","hostname":"ns.other","tags":["snapshot=by-hand","version=1.21.0","index=3"]},
		{"id":"dd","time":"2026-11-26T14:00:00Z","hostname":"laptop","tags":null},
		{"id":"ee","time":"2026-11-26T14:00:00Z","hostname":"ns.consul","tags":["version=1.22.7"]}
	]`))
	if err != nil {
		t.Fatal(err)
	}
	at := func(hour int) time.Time { return time.Date(2026, 11, 26, hour, 0, 0, 0, time.UTC) }
	want := []Stored{
		{ID: "bb", Time: at(13), Cluster: "ns/consul", BeforeRestore: "aa", Version: "1.22.7", Index: 13},
		{ID: "aa", Time: at(12), Cluster: "ns/consul", Schedule: "hourly", Version: "1.22.7", Index: 12, Size: 100, Added: 10},
		{ID: "cc", Time: at(11), Cluster: "ns/other", Name: "by-hand", Version: "1.21.0", Index: 3},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	if _, err := ParseList([]byte("Fatal: no")); err == nil {
		t.Error("an invalid list was read")
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	all := []Stored{
		{
			ID:            "bb22",
			Cluster:       "ns/consul",
			BeforeRestore: "aa11",
			Index:         3,
		}, {ID: "aa11", Cluster: "ns/consul", Index: 90}, {ID: "aa33", Cluster: "ns/consul", Index: 80},
		{
			ID:      "cc44",
			Cluster: "ns/other",
			Index:   7,
		}, {ID: "ee55", Cluster: "ns/emptied", Index: 20}, {ID: "ff66", Cluster: "ns/emptied", Index: 900},
	}
	for name, tt := range map[string]struct{ id, cluster, want, says string }{
		"latest":                {Latest, "ns/consul", "aa11", ""}, // not the one that a restore has stored
		"latest of another":     {Latest, "ns/other", "cc44", ""},
		"latest of none":        {Latest, "ns/third", "", "no snapshot of the cluster ns/third"},
		"latest of one emptied": {Latest, "ns/emptied", "", "started empty after the snapshot ff66"},
		"a beginning":           {"bb", "ns/consul", "bb22", ""},
		"a whole ID":            {"aa33", "ns/consul", "aa33", ""},
		"a prefix of several":   {"aa", "ns/consul", "", "the beginning of the IDs of 2 snapshots"},
		"unknown":               {"dd", "ns/consul", "", "no snapshot \"dd\""},
	} {
		got, err := Find(all, tt.id, tt.cluster)
		if got.ID != tt.want || (tt.says == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		snapshot, servers string
		older             bool
		refused           string
	}{
		{"1.22.7", "1.22.7", false, ""}, {"1.22.7", "1.22.0", false, ""}, {"2.0.1", "2.0.4", false, ""},
		{"1.21.5", "1.22.7", true, ""}, {"1.20.0", "1.22.7", true, ""}, {"1.19.2", "1.22.7", false, "1.19.2"},
		{"1.22.7", "1.21.5", false, "may not be able to read"}, {"2.0.1", "1.22.7", false, "may not be able to read"},
	} {
		older, err := CheckVersion(tt.snapshot, tt.servers)
		if older != tt.older || !wanted.Error(err, tt.refused) {
			t.Errorf("%s into %s: %v, %v", tt.snapshot, tt.servers, older, err)
		}
	}
}

// The tasks that prove a change.
func TestToProve(t *testing.T) {
	t.Parallel()
	s := Spec{Name: "hourly", Schedule: "40 * * * *", Image: DefaultImage, Deadline: time.Hour, Retention: Retention{Hourly: 24}}
	with := func(change func(*Spec)) Spec { c := s; change(&c); return c }
	drill := with(func(s *Spec) { s.Drill = Drill{Schedule: "0 5 * * 1"} })
	for name, tt := range map[string]struct {
		before, after Spec
		drift         bool
		want          string
	}{
		"nothing":         {s, s, false, ""},
		"when":            {s, with(func(s *Spec) { s.Schedule, s.Suspend = "0 * * * *", true }), false, ""},
		"what is kept":    {s, with(func(s *Spec) { s.History = 9 }), false, ""},
		"how":             {s, with(func(s *Spec) { s.Retention.Daily = 7 }), false, TaskBackup},
		"drift":           {s, s, true, TaskBackup},
		"a check":         {s, with(func(s *Spec) { s.Check = Check{"0 4 * * *", 7} }), false, ""},
		"a drill":         {s, drill, false, TaskDrill},
		"its time":        {drill, with(func(s *Spec) { s.Drill.Schedule = "0 6 * * 1" }), false, ""},
		"its key":         {drill, with(func(s *Spec) { s.Drill = Drill{"0 5 * * 1", "canary"} }), false, TaskDrill},
		"no drill":        {drill, s, false, ""},
		"a drill and how": {s, with(func(s *Spec) { s.Drill, s.Retention.Last = drill.Drill, 3 }), false, TaskBackup + " " + TaskDrill},
	} {
		if got := strings.Join(toProve(tt.before, tt.after, tt.drift), " "); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// Each pod mounts only what its containers use: no credentials of the store if it only asks the servers, and no token
// if it only uses the repository.
func TestPod(t *testing.T) {
	t.Parallel()
	servers := server.Spec{Name: "consul", Namespace: "ns", Version: "1.22.7", Image: "consul:1.22.7", ACL: server.ACL{Enabled: true}}
	s := Spec{
		Name:       "hourly",
		Schedule:   "40 * * * *",
		Prune:      Prune{"0 3 * * 0"},
		Check:      Check{"0 4 * * *", 7},
		Drill:      Drill{"0 5 * * 1", "canary"},
		Repository: Repository{URL: "s3:https://host/bucket", Secret: "restic"},
	}
	volumes := func(spec corev1.PodSpec) string {
		var names []string
		for _, v := range spec.Volumes {
			names = append(names, v.Name)
		}
		return strings.Join(names, " ")
	}
	all := CronJobs(s, servers)
	for i, want := range []string{"work tmp credentials token", "work tmp credentials", "work tmp credentials", "work tmp credentials"} {
		if got := volumes(all[i].Spec.JobTemplate.Spec.Template.Spec); got != want {
			t.Errorf("%s has the volumes %s, want %s", all[i].Name, got, want)
		}
	}
	s.Resources = &server.Resources{Limits: map[string]resource.Quantity{"memory": resource.MustParse("1Gi")}}
	s.Placement = &Placement{NodeSelector: map[string]string{"disk": "large"}, PriorityClass: "low"}
	for _, c := range CronJobs(s, servers) {
		template := c.Spec.JobTemplate.Spec.Template.Spec
		if template.NodeSelector["disk"] != "large" || template.PriorityClassName != "low" {
			t.Errorf("%s is placed on %v, as %q", c.Name, template.NodeSelector, template.PriorityClassName)
		}
		for _, container := range slices.Concat(template.InitContainers, template.Containers) {
			if own := container.Resources.Limits.Memory().String() == "1Gi"; own == (container.Name == containerDrill) {
				t.Errorf("the container %s of %s has the resources %+v", container.Name, c.Name, container.Resources)
			}
		}
	}
	// A stored backup is not stored again because a sidecar was killed.
	if rules := all[0].Spec.JobTemplate.Spec.PodFailurePolicy.Rules; len(rules) != 3 || *rules[0].OnExitCodes.ContainerName != "snapshot" ||
		*rules[1].OnExitCodes.ContainerName != "store" || rules[1].Action != batchv1.PodFailurePolicyActionCount || rules[2].Action != batchv1.PodFailurePolicyActionFailJob {
		t.Errorf("it is repeated by the rules %+v", rules)
	}
	p := pod{servers: servers, repository: s.Repository, token: token{"secret", "token"}}
	if got := volumes(p.job(time.Hour, 0, p.asking("snapshot", snapshotScript)).Template.Spec); got != "work tmp token" {
		t.Errorf("the container that asks the servers has the volumes %s", got)
	}
	if got := strings.Join(all[2].Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args, " "); got != "sh /dev/termination-log 7 86400" {
		t.Errorf("the arguments of the check are %s", got)
	}
	if got := strings.Join(
		all[3].Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args[:5], " ",
	); got != "sh /scratch /dev/termination-log  canary" {
		t.Errorf("the arguments of the drill are %s", got)
	}
}

// The index of a cluster's snapshots falls when the cluster starts empty, until a restore, but not because two
// schedules run at once.
func TestLatest(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 11, 26, 12, minute, 0, 0, time.UTC) }
	s := func(id string, minute int, index int64) Stored {
		return Stored{ID: id, Cluster: "ns/consul", Time: at(minute), Index: index}
	}
	restored := func(minute int, index int64) Stored {
		return Stored{ID: "restored", Cluster: "ns/consul", Time: at(minute), Index: index, BeforeRestore: "a"}
	}
	for name, tt := range map[string]struct {
		all        []Stored // by time
		want, says string
	}{
		"grows":                         {[]Stored{s("a", 0, 100), s("b", 30, 120)}, "b", ""},
		"two at once":                   {[]Stored{s("a", 0, 101), s("b", 1, 100)}, "b", ""},
		"emptied":                       {[]Stored{s("a", 0, 1000), s("b", 30, 20)}, "", "started empty after the snapshot a"},
		"emptied, soon":                 {[]Stored{s("a", 0, 1000), s("b", 1, 20)}, "", "started empty after the snapshot a"},
		"emptied, a bit less":           {[]Stored{s("a", 0, 100), s("b", 30, 99)}, "", "started empty after the snapshot a"},
		"emptied, further by now":       {[]Stored{s("a", 0, 1000), s("b", 20, 20), s("c", 50, 2000)}, "", "started empty after the snapshot a"},
		"emptied, and restored":         {[]Stored{s("a", 0, 1000), s("b", 20, 20), restored(30, 25), s("c", 40, 1003)}, "c", ""},
		"restored what is not the last": {[]Stored{s("a", 0, 1000), restored(30, 25), s("c", 40, 903)}, "c", ""},
		"emptied again": {[]Stored{
			s("a", 0, 1000), restored(30, 25), s("c", 40, 1003), s("d", 55, 30),
		}, "", "started empty after the snapshot c"},
	} {
		slices.Reverse(tt.all)
		got, err := Find(tt.all, Latest, "ns/consul")
		if got.ID != tt.want || (tt.says == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}
