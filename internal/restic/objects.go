package restic

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

const (
	// Component is the component label of what belongs to a schedule.
	Component = "backup"
	// LabelSchedule has the name of the schedule.
	LabelSchedule = server.ManagedBy + "/schedule"
	// AnnotationSpec of the CronJob has the Spec.
	AnnotationSpec = server.ManagedBy + "/backup"

	workDir = "/scratch"
	// tokenKey is the key of the Secret with the token.
	tokenKey = "token"
	// startWithin is how late a backup may start, and history how many Jobs are kept.
	startWithin = 10 * time.Minute
	history     = 3
	// tries is how often a backup that fails is tried again, with growing pauses.
	tries = 2
)

var (
	//go:embed snapshot.sh
	snapshotScript string
	//go:embed backup.sh
	backupScript string
)

// CronJobName is the CronJob of a schedule, TokenSecretName the Secret with its token, and
// NowName the Job that runs at once.
func CronJobName(cluster, schedule string) string { return cluster + "-" + schedule }

// TokenSecretName is the Secret with the token of a schedule.
func TokenSecretName(cluster, schedule string) string {
	return cluster + "-backup-" + schedule + "-token"
}

// NowName is the Job that proves a schedule.
func NowName(cluster, schedule string) string { return CronJobName(cluster, schedule) + "-now" }

// Labels are on all that belongs to a schedule. They prove the ownership as
// server.OwnerLabels do.
func Labels(cluster, schedule string) map[string]string {
	l := server.OwnerLabels(cluster)
	l[server.LabelComponent], l[LabelSchedule] = Component, schedule
	return l
}

// Host is under what name restic stores the snapshots of a cluster.
func Host(namespace, cluster string) string { return namespace + "." + cluster }

// CronJob renders the CronJob of a schedule, for the servers that run.
func CronJob(s Spec, servers server.Spec) *batchv1.CronJob {
	annotation, _ := json.Marshal(s) // strings and numbers
	c := &batchv1.CronJob{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "CronJob"},
		ObjectMeta: metav1.ObjectMeta{
			Name: CronJobName(servers.Name, s.Name), Namespace: servers.Namespace,
			Labels: Labels(servers.Name, s.Name), Annotations: map[string]string{AnnotationSpec: string(annotation)},
		},
		Spec: batchv1.CronJobSpec{
			Schedule: s.Schedule, Suspend: new(s.Suspend),
			ConcurrencyPolicy:          batchv1.ForbidConcurrent,
			StartingDeadlineSeconds:    new(int64(startWithin.Seconds())),
			SuccessfulJobsHistoryLimit: new(int32(history)), FailedJobsHistoryLimit: new(int32(history)),
			JobTemplate: batchv1.JobTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: Labels(servers.Name, s.Name)},
				Spec:       jobSpec(s, servers, "existing"),
			},
		},
	}
	if s.TimeZone != "" {
		c.Spec.TimeZone = &s.TimeZone
	}
	return c
}

// Now renders the Job that does at once what a schedule does.
func Now(s Spec, servers server.Spec) *batchv1.Job {
	j := &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Name: NowName(servers.Name, s.Name), Namespace: servers.Namespace, Labels: Labels(servers.Name, s.Name),
		},
		Spec: jobSpec(s, servers, "new"),
	}
	j.Spec.BackoffLimit = new(int32(0)) // somebody waits for what it says
	return j
}

// jobSpec renders one backup, into a repository that may be "new" or has to be an "existing"
// one: a CronJob that made another one would hide that all backups are gone.
func jobSpec(s Spec, servers server.Spec, repository string) batchv1.JobSpec {
	secret := ""
	if servers.ACL.Enabled {
		secret = TokenSecretName(servers.Name, s.Name)
	}
	access := server.NewAccess(servers, secret, tokenKey)
	work := corev1.VolumeMount{Name: "work", MountPath: workDir}
	tmp := corev1.VolumeMount{Name: "tmp", MountPath: "/tmp"}
	empty := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}

	take := server.JobContainer(servers, "snapshot", servers.Image)
	take.Command = []string{"/bin/sh", "-c", snapshotScript}
	take.Args = append([]string{"sh", workDir, servers.Version, access.Address}, access.TokenFile...)
	take.Env = access.Env
	take.VolumeMounts = append([]corev1.VolumeMount{work, tmp}, access.Mounts...)

	store := server.JobContainer(servers, "restic", s.Image)
	store.Command = []string{"/bin/sh", "-c", backupScript}
	store.Args = append([]string{"sh", workDir, Host(servers.Namespace, servers.Name), s.Name, store.TerminationMessagePath, repository}, s.Retention.flags()...)
	store.Env = []corev1.EnvVar{{Name: "RESTIC_REPOSITORY", Value: s.Repository.location()}}
	store.VolumeMounts = []corev1.VolumeMount{work, tmp, {Name: "credentials", MountPath: "/credentials", ReadOnly: true}}

	template := server.JobPod(servers, Labels(servers.Name, s.Name))
	template.Spec.InitContainers, template.Spec.Containers = []corev1.Container{take}, []corev1.Container{store}
	template.Spec.Volumes = append([]corev1.Volume{
		{Name: "work", VolumeSource: empty}, {Name: "tmp", VolumeSource: empty},
		{Name: "credentials", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: s.Repository.Secret, DefaultMode: new(int32(0o440))}}},
	}, access.Volumes...)
	if s.Repository.Claim != "" {
		template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: "repository", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: s.Repository.Claim},
		}})
		c := &template.Spec.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "repository", MountPath: s.Repository.location()})
	}
	return batchv1.JobSpec{
		BackoffLimit:          new(int32(tries)),
		ActiveDeadlineSeconds: new(int64(s.Deadline.Seconds())),
		Template:              template,
	}
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
	// Size in bytes, unpacked, and Stored, how much of that was new to the repository, packed.
	Size   int64 `json:"size"`
	Stored int64 `json:"stored"`
	// Forgotten says that the retention was carried out.
	Forgotten bool      `json:"forgotten"`
	Time      time.Time `json:"time"`
}

// ParseResult reads the termination message of a Job's pod.
func ParseResult(message string) (Result, error) {
	var r Result
	if err := json.Unmarshal([]byte(message), &r); err != nil {
		return Result{}, fmt.Errorf("its result %q cannot be read: %w", message, err)
	}
	if r.Snapshot == "" || r.Index == 0 || r.Size == 0 || r.Time.IsZero() {
		return Result{}, errors.New("its result is not that of a stored snapshot: " + message)
	}
	return r, nil
}

// State is what came of a schedule's backups.
type State struct {
	// Last is the latest one that was stored, nil if none is known.
	Last *Result
	// Failed is when the latest one failed and Reason why, if that is later than Last.
	Failed time.Time
	Reason string
}

// Summarize says what came of the Jobs of a schedule, with their pods.
func Summarize(jobs []batchv1.Job, pods []corev1.Pod) State {
	slices.SortFunc(jobs, func(a, b batchv1.Job) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	var s State
	for i := range jobs {
		at, failed := ended(&jobs[i])
		switch {
		case at.IsZero(): // it runs
		case failed:
			if s.Reason == "" {
				s.Failed, s.Reason = at, reason(&jobs[i], pods)
			}
		default:
			if r, err := ParseResult(message(&jobs[i], pods)); err == nil {
				s.Last = &r
				return s
			}
		}
	}
	return s
}

// ended says when a Job ended, and whether it failed; the zero time if it has not.
func ended(j *batchv1.Job) (at time.Time, failed bool) {
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobFailed || c.Type == batchv1.JobComplete) {
			return c.LastTransitionTime.Time, c.Type == batchv1.JobFailed
		}
	}
	return time.Time{}, false
}

// message is what the pod of a Job says that did its work, "" if there is none.
func message(j *batchv1.Job, pods []corev1.Pod) string {
	for i := range pods {
		for _, c := range pods[i].Status.ContainerStatuses {
			if t := c.State.Terminated; t != nil && t.ExitCode == 0 && metav1.IsControlledBy(&pods[i], j) {
				return t.Message
			}
		}
	}
	return ""
}

// reason is why a Job failed: the last words of its latest pod, or what Kubernetes says.
func reason(j *batchv1.Job, pods []corev1.Pod) string {
	var latest *corev1.Pod
	for i := range pods {
		if metav1.IsControlledBy(&pods[i], j) && (latest == nil || latest.CreationTimestamp.Before(&pods[i].CreationTimestamp)) {
			latest = &pods[i]
		}
	}
	if latest != nil {
		for _, c := range slices.Concat(latest.Status.InitContainerStatuses, latest.Status.ContainerStatuses) {
			if t := c.State.Terminated; t != nil && t.ExitCode != 0 && strings.TrimSpace(t.Message) != "" {
				return "container " + c.Name + ": " + strings.TrimSpace(t.Message)
			}
		}
	}
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobFailed {
			return c.Message
		}
	}
	return "unknown"
}
