package restic

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

const (
	// Component is the component label of what belongs to a schedule.
	Component = "backup"
	// LabelSchedule has the name of the schedule.
	LabelSchedule = server.ManagedBy + "/schedule"
	// LabelTask has the task of a schedule's CronJob.
	LabelTask = server.ManagedBy + "/task"
	// AnnotationSpec of the CronJob has the Spec.
	AnnotationSpec = server.ManagedBy + "/backup"

	// tokenKey is the key of the Secret with the token.
	tokenKey = "token"
	// startWithin is how late a task may start at most.
	startWithin = 10 * time.Minute
	// tries is how often a failed task is tried again, with growing pauses.
	tries = 2
)

// Tasks of a schedule.
const (
	TaskBackup = "backup"
	TaskPrune  = "prune"
	TaskCheck  = "check"
	TaskDrill  = "drill"
)

// CronJobName returns the name of the CronJob that takes the backups of a schedule.
func CronJobName(cluster, schedule string) string { return TaskName(cluster, schedule, TaskBackup) }

// TaskName returns the name of the CronJob of any task of a schedule.
func TaskName(cluster, schedule, task string) string {
	return named(cluster, schedule, strings.TrimSuffix("-"+task, "-"+TaskBackup), server.MaxCronJob)
}

// named joins the names of a cluster and a schedule, and shortens them if they would not fit together with the suffix.
func named(cluster, schedule, suffix string, longest int) string {
	return server.Shorten(cluster+"-"+schedule, longest-len(suffix)) + suffix
}

// TokenSecretName returns the name of the Secret with the token of a schedule.
func TokenSecretName(cluster, schedule string) string {
	return cluster + "-backup-" + schedule + "-token"
}

// AccountName returns the name of the ServiceAccount that a schedule creates for its Jobs.
func AccountName(cluster, schedule string) string { return cluster + "-backup-" + schedule }

// account renders the ServiceAccount that a schedule creates, or nil if it creates none.
func (s Spec) account(namespace, cluster string) *corev1.ServiceAccount {
	if len(s.Repository.ServiceAccount.Annotations) == 0 {
		return nil
	}
	return &corev1.ServiceAccount{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: metav1.ObjectMeta{
			Name: AccountName(cluster, s.Name), Namespace: namespace,
			Labels: Labels(cluster, s.Name), Annotations: s.Repository.ServiceAccount.Annotations,
		},
		AutomountServiceAccountToken: new(false),
	}
}

// NowName returns the name of the Job that proves a task of a schedule.
func NowName(cluster, schedule, task string) string {
	return named(cluster, schedule, strings.TrimSuffix("-now-"+task, "-"+TaskBackup), server.MaxLabel)
}

// Labels returns the labels of all objects of a schedule. Like server.OwnerLabels,
// they prove ownership.
func Labels(cluster, schedule string) map[string]string {
	l := server.OwnerLabels(cluster)
	l[server.LabelComponent], l[LabelSchedule] = Component, schedule
	return l
}

// Host returns the host name under which restic stores the snapshots of a cluster.
func Host(namespace, cluster string) string { return namespace + "." + cluster }

// CronJobs renders the CronJobs of a schedule for the running servers. The first one takes
// the backups.
func CronJobs(s Spec, servers server.Spec) []*batchv1.CronJob {
	all := []*batchv1.CronJob{cronJob(s, servers, TaskBackup, s.Schedule)}
	for _, t := range []struct{ task, schedule string }{
		{TaskPrune, s.Prune.Schedule}, {TaskCheck, s.Check.Schedule}, {TaskDrill, s.Drill.Schedule},
	} {
		if t.schedule != "" {
			all = append(all, cronJob(s, servers, t.task, t.schedule))
		}
	}
	all[0].Annotations = map[string]string{AnnotationSpec: s.annotation()}
	return all
}

func cronJob(s Spec, servers server.Spec, task, schedule string) *batchv1.CronJob {
	labels, history := taskLabels(servers.Name, s.Name, task), cmp.Or(s.History, DefaultHistory)
	c := &batchv1.CronJob{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "CronJob"},
		ObjectMeta: metav1.ObjectMeta{Name: TaskName(servers.Name, s.Name, task), Namespace: servers.Namespace, Labels: servers.Labeled(labels)},
		Spec: batchv1.CronJobSpec{
			Schedule: schedule, Suspend: new(s.Suspend),
			ConcurrencyPolicy:          batchv1.ForbidConcurrent,
			StartingDeadlineSeconds:    new(int64(startWithin.Seconds())),
			SuccessfulJobsHistoryLimit: &history, FailedJobsHistoryLimit: &history,
			JobTemplate: batchv1.JobTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: servers.Labeled(labels)},
				Spec:       s.job(servers, task, existing, tries),
			},
		},
	}
	if s.TimeZone != "" {
		c.Spec.TimeZone = &s.TimeZone
	}
	return c
}

func taskLabels(cluster, schedule, task string) map[string]string {
	l := Labels(cluster, schedule)
	l[LabelTask] = task
	return l
}

// Now renders the Job that runs a task of a schedule at once.
func Now(s Spec, servers server.Spec, task string) *batchv1.Job {
	return &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Name: NowName(servers.Name, s.Name, task), Namespace: servers.Namespace, Labels: servers.Labeled(taskLabels(servers.Name, s.Name, task)),
		},
		Spec: s.job(servers, task, created, 0), // the provider waits for its result
	}
}

// job renders one run of a task. repository says whether the repository may be new or must exist: a CronJob
// that created a repository again would hide that all backups are gone.
func (s Spec) job(servers server.Spec, task, repository string, again int32) batchv1.JobSpec {
	servers.Jobs = servers.Jobs.With(s.JobSettings())
	p := pod{
		servers:    servers,
		repository: s.Repository,
		image:      s.Image,
		labels:     taskLabels(servers.Name, s.Name, task),
		placement:  s.Placement,
	}
	if len(s.Repository.ServiceAccount.Annotations) > 0 {
		p.repository.ServiceAccount.Name = AccountName(servers.Name, s.Name)
	}
	if servers.ACL.Enabled && task == TaskBackup {
		p.token = token{TokenSecretName(servers.Name, s.Name), tokenKey}
	}
	var containers []corev1.Container
	switch task {
	case TaskBackup:
		containers = p.snapshot(tagSchedule+s.Name, repository, s.Retention.flags())
	case TaskPrune:
		containers = []corev1.Container{p.restic(containerRestic, pruneScript, result)}
	case TaskCheck:
		containers = []corev1.Container{
			p.restic(containerRestic, checkScript, result, number(s.Check.Parts), number(int64(intervalOf(s.Check.Schedule).Seconds()))),
		}
	case TaskDrill:
		drill := p.consul(
			containerDrill,
			drillScript,
			append([]string{workDir, result, servers.Datacenter, s.Drill.SentinelKey}, server.LogStoreFlags(servers.Version)...)...)
		drill.Resources = servers.Resources.Requirements() // this container runs a server
		containers = []corev1.Container{
			p.restic(containerFetch, fetchScript, workDir, Latest, Host(servers.Namespace, servers.Name), tagSchedule+s.Name),
			p.consul(containerVerify, verifyScript, workDir, "0", result), drill,
		}
	}
	return p.job(s.Deadline, again, containers...)
}

// ParseSpec reads the Spec of a CronJob.
func ParseSpec(c *batchv1.CronJob) (Spec, error) {
	var s Spec
	if err := json.Unmarshal([]byte(c.Annotations[AnnotationSpec]), &s); err != nil {
		return Spec{}, fmt.Errorf("the annotation %s of CronJob %s/%s: %w", AnnotationSpec, c.Namespace, c.Name, err)
	}
	return s, nil
}

// Result is a backup that was stored.
type Result struct {
	// Snapshot is its ID in the repository.
	Snapshot string `json:"snapshot"`
	// Version of Consul that it was taken from, and Index of the last Raft log entry in it.
	Version string `json:"version"`
	Index   int64  `json:"index"`
	// Size is the unpacked size in bytes; Stored is how much of it was new to the repository, packed.
	Size   int64 `json:"size"`
	Stored int64 `json:"stored"`
	// Forgotten reports that the retention was applied; StartedEmpty reports that it was not, because older snapshots have a
	// higher index: the cluster has started empty since then.
	Forgotten    bool      `json:"forgotten"`
	StartedEmpty bool      `json:"anew"`
	Time         time.Time `json:"time"`
}

// ParseResult reads the termination message of a Job's pod.
func ParseResult(message string) (Result, error) {
	var r Result
	if err := json.Unmarshal([]byte(message), &r); err != nil {
		return Result{}, fmt.Errorf("the result %q of the Job cannot be read: %w", message, err)
	}
	if r.Snapshot == "" || r.Index == 0 || r.Size == 0 || r.Time.IsZero() {
		return Result{}, errors.New("the result of the Job is not that of a stored snapshot: " + message)
	}
	return r, nil
}

// Done is a task that succeeded. Which fields other than Time are set depends on the task.
type Done struct {
	Time time.Time `json:"time"`
	// Part of the Parts of the data that a check has read.
	Part  int64 `json:"part"`
	Parts int64 `json:"parts"`
	// Index of the last Raft log entry in the snapshot that a drill has restored, and the number of
	// seconds that this took.
	Index   int64 `json:"index"`
	Seconds int64 `json:"seconds"`
}

// ParseDone reads the termination message of a task other than a backup.
func ParseDone(message string) (Done, error) {
	var d Done
	if err := json.Unmarshal([]byte(message), &d); err != nil {
		return Done{}, fmt.Errorf("the result %q of the Job cannot be read: %w", message, err)
	}
	if d.Time.IsZero() {
		return Done{}, errors.New("the result of the Job has no time: " + message)
	}
	return d, nil
}

// Outcome is the outcome of one task.
type Outcome[T any] struct {
	// Last is the latest one that succeeded, nil if none is known.
	Last *T
	// Failed and Reason say when and why the latest one failed, if that is later than Last.
	Failed time.Time
	Reason string
}

// State is the outcome of the tasks of a schedule.
type State struct {
	Backup Outcome[Result]
	// Tasks are the other tasks, by name.
	Tasks map[string]Outcome[Done]
}

// Summarize returns the outcome of the Jobs of a schedule. pods are their pods.
func Summarize(jobs []batchv1.Job, pods []corev1.Pod) State {
	byTask := map[string][]batchv1.Job{}
	for _, j := range jobs {
		task := cmp.Or(j.Labels[LabelTask], TaskBackup)
		byTask[task] = append(byTask[task], j)
	}
	s := State{Backup: outcome(byTask[TaskBackup], pods, ParseResult), Tasks: map[string]Outcome[Done]{}}
	for _, task := range []string{TaskPrune, TaskCheck, TaskDrill} {
		s.Tasks[task] = outcome(byTask[task], pods, ParseDone)
	}
	return s
}

func outcome[T any](jobs []batchv1.Job, pods []corev1.Pod, parse func(string) (T, error)) (o Outcome[T]) {
	slices.SortFunc(jobs, func(a, b batchv1.Job) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	for i := range jobs {
		at, failed := kube.JobOutcome(&jobs[i], pods)
		switch {
		case at.IsZero(): // still running
		case failed:
			if o.Reason == "" {
				o.Failed, o.Reason = at, kube.JobReason(&jobs[i], pods)
			}
		default:
			if r, err := parse(kube.JobMessage(&jobs[i], pods)); err == nil {
				o.Last = &r
				return o
			}
		}
	}
	return o
}
