package restic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Client works on a repository, with Jobs that run where the servers of a cluster do.
type Client struct {
	Kube       *kube.Client
	Consul     *consul.Cluster
	Repository Repository
	// Image of restic.
	Image string
	// Deadline of one Job.
	Deadline time.Duration
}

const (
	// leftFor is for how long Kubernetes keeps a Job whose end nobody has waited for.
	leftFor = 10 * time.Minute
	// restoreLeftFor is the same for a restore: one that was carried out must not be
	// carried out again because of what was still to be done after it.
	restoreLeftFor = 24 * time.Hour
)

// Tasks of Jobs that do not belong to a schedule.
const (
	taskList     = "list"
	taskSnapshot = "snapshot"
	taskRestore  = "restore"
	taskInspect  = "inspect"
)

// AnnotationRestore of a Job has the Restore that it carries out.
const AnnotationRestore = server.ManagedBy + "/restore"

// Stored is a snapshot in a repository.
type Stored struct {
	ID   string
	Time time.Time
	// Cluster that it was taken of, "<namespace>/<name>".
	Cluster string
	// Schedule that has taken it, or Name of a snapshot that was asked for, or BeforeRestore: the ID of
	// the snapshot that was restored after it was taken.
	Schedule, Name, BeforeRestore string
	// Version of Consul, and Index of the last Raft log entry.
	Version string
	Index   int64
	// Size in bytes, unpacked, and Added, how much of it was new to the repository, packed.
	Size, Added int64
}

// ParseList reads what "restic snapshots --json" prints. Snapshots of something else are left out.
// The latest comes first.
func ParseList(text []byte) ([]Stored, error) {
	var list []struct {
		ID       string    `json:"id"`
		Time     time.Time `json:"time"`
		Hostname string    `json:"hostname"`
		Tags     []string  `json:"tags"`
		Summary  struct {
			Total int64 `json:"total_bytes_processed"`
			Added int64 `json:"data_added_packed"`
		} `json:"summary"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("restic's list of snapshots cannot be read: %w", err)
	}
	var all []Stored
	for _, l := range list {
		s := Stored{ID: l.ID, Time: l.Time, Size: l.Summary.Total, Added: l.Summary.Added}
		namespace, cluster, found := strings.Cut(l.Hostname, ".")
		for _, tag := range l.Tags {
			key, value, _ := strings.Cut(tag, "=")
			switch key + "=" {
			case tagSchedule:
				s.Schedule = value
			case tagName:
				s.Name = value
			case tagRestore:
				s.BeforeRestore = value
			case "version=":
				s.Version = value
			case "index=":
				_, _ = fmt.Sscan(value, &s.Index)
			}
		}
		if !found || s.Version == "" || s.Index == 0 {
			continue
		}
		s.Cluster = namespace + "/" + cluster
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b Stored) int { return b.Time.Compare(a.Time) })
	return all, nil
}

// Find returns the snapshot that an ID, or the beginning of one, names; Latest names the latest that
// a cluster's schedules, or those who asked for one, have taken. all comes from ParseList.
func Find(all []Stored, id, cluster string) (Stored, error) {
	var found []Stored
	for _, s := range all {
		if id == Latest && s.Cluster == cluster && s.BeforeRestore == "" {
			return s, nil
		}
		if strings.HasPrefix(s.ID, id) {
			found = append(found, s)
		}
	}
	switch {
	case id == Latest:
		return Stored{}, fmt.Errorf("the repository holds no snapshot of the cluster %s", cluster)
	case len(found) == 0:
		return Stored{}, fmt.Errorf("the repository holds no snapshot %q", id)
	case len(found) > 1:
		return Stored{}, fmt.Errorf("%q is the beginning of %d snapshots of the repository", id, len(found))
	}
	return found[0], nil
}

// CheckVersion returns an error where servers of a version do not take a snapshot of another: Consul
// promises a restore into the version that it was taken from
// (developer.hashicorp.com/consul/api-docs/snapshot). Releases of one minor version are taken for that.
func CheckVersion(snapshot, servers string) error {
	minor := func(version string) string {
		parts := strings.SplitN(version, ".", 3)
		return strings.Join(parts[:min(len(parts), 2)], ".")
	}
	if minor(snapshot) == minor(servers) {
		return nil
	}
	return fmt.Errorf("it was taken from Consul %s, and the servers run %s: Consul restores snapshots of its own version. Run the servers with version = %q, restore, and upgrade them then", snapshot, servers, snapshot)
}

// List returns the snapshots in the repository, the latest first. It returns a *FailedError, ErrNoSecret,
// ErrNoCluster.
func (c Client) List(ctx context.Context) ([]Stored, error) {
	p, err := c.pod(ctx, taskList, token{})
	if err != nil {
		return nil, err
	}
	text := []byte(nil)
	_, err = c.once(ctx, p, taskList, func(ctx context.Context, done *corev1.Pod) error {
		var err error
		text, err = c.Kube.CoreV1().Pods(done.Namespace).GetLogs(done.Name, &corev1.PodLogOptions{Container: containerRestic}).DoRaw(ctx)
		return err
	}, p.restic(containerRestic, listScript, ""))
	if err != nil {
		return nil, err
	}
	return ParseList(text)
}

// Snapshot takes a snapshot at once, and keeps it under a name, which no retention forgets. It
// returns a *FailedError, ErrNoSecret, ErrNoCluster.
func (c Client) Snapshot(ctx context.Context, name string, management consul.SecretRef) (Result, error) {
	p, err := c.pod(ctx, taskSnapshot, token{management.Name, management.Key})
	if err != nil {
		return Result{}, err
	}
	done, err := c.once(ctx, p, taskSnapshot, nil, p.snapshot(tagName+name, created, nil)...)
	if err != nil {
		return Result{}, err
	}
	return ParseResult(words(done, containerStore))
}

// Inspection is what is in a snapshot.
type Inspection struct {
	// Index of the last Raft log entry.
	Index int64 `json:"index"`
	// Counts are the numbers of records by kind, such as "KVS" and "ACLToken".
	Counts map[string]int64 `json:"counts"`
}

func parseInspection(message string) (Inspection, error) {
	var i Inspection
	if err := json.Unmarshal([]byte(message), &i); err != nil {
		return Inspection{}, fmt.Errorf("its result %q cannot be read: %w", message, err)
	}
	return i, nil
}

// Inspect says what the servers have, by a snapshot that is not kept.
func (c Client) Inspect(ctx context.Context, management consul.SecretRef) (Inspection, error) {
	p, err := c.pod(ctx, taskInspect, token{management.Name, management.Key})
	if err != nil {
		return Inspection{}, err
	}
	done, err := c.once(ctx, p, taskInspect, nil, p.asking(containerSnapshot, snapshotScript, workDir, p.servers.Version))
	if err != nil {
		return Inspection{}, err
	}
	return parseInspection(words(done, containerSnapshot))
}

// Restore is what is restored.
type Restore struct {
	// Snapshot is its ID, and Index that of the last Raft log entry in it.
	Snapshot string `json:"snapshot"`
	Index    int64  `json:"index"`
	// Repository that it comes from.
	Repository Repository `json:"repository"`
	// Trigger makes a restore of the same snapshot another one.
	Trigger string `json:"trigger,omitempty"`
}

// Restored is a restore that was carried out.
type Restored struct {
	// Before was taken of the cluster before, and stored in the repository.
	Before Result
	// Snapshot is what was restored.
	Snapshot Inspection
	Time     time.Time
}

// ErrRestoring says that another restore of the cluster is under way.
var ErrRestoring = errors.New("another restore of the cluster is under way")

// RestoreJobName is the Job that restores a snapshot into a cluster. There is one at a time.
func RestoreJobName(cluster string) string { return cluster + "-restore" }

// Restore reads a snapshot back, verifies it, takes and stores a snapshot of what the cluster has, and
// only then replaces that by the first. Where the very same has been carried out, and FinishRestore was not
// called, its result is returned. It returns a *FailedError, ErrNoSecret, ErrNoCluster, ErrRestoring. Until
// the last step, nothing of the cluster is changed.
func (c Client) Restore(ctx context.Context, r Restore, management consul.SecretRef) (Restored, error) {
	job, err := c.findRestore(ctx, r)
	if err != nil {
		return Restored{}, err
	}
	if job == nil {
		p, err := c.pod(ctx, taskRestore, token{management.Name, management.Key})
		if err != nil {
			return Restored{}, err
		}
		containers := append([]corev1.Container{
			p.restic(containerFetch, fetchScript, workDir, r.Snapshot),
			p.consul(containerVerify, verifyScript, workDir, number(r.Index), result),
		}, p.snapshot(tagRestore+r.Snapshot, existing, nil)...)
		job = c.job(p, "", append(containers, p.asking(containerRestore, restoreScript, workDir))...)
		annotation, _ := json.Marshal(r) // strings and numbers
		job.Name, job.GenerateName, job.Annotations = RestoreJobName(c.Consul.Name), "", map[string]string{AnnotationRestore: string(annotation)}
		job.Spec.TTLSecondsAfterFinished = new(int32(restoreLeftFor.Seconds()))
		if job, err = start(ctx, c.Kube, job); err != nil {
			return Restored{}, err
		}
	}
	done, err := await(ctx, c.Kube, job)
	if err != nil {
		if ctx.Err() == nil { // otherwise it may be carried out still
			err = errors.Join(err, c.FinishRestore(ctx))
		}
		return Restored{}, err
	}
	var restored Restored
	var at Done
	if restored.Before, err = ParseResult(words(done, containerStore)); err == nil {
		if restored.Snapshot, err = parseInspection(words(done, containerVerify)); err == nil {
			at, err = ParseDone(words(done, containerRestore))
			restored.Time = at.Time
		}
	}
	return restored, err
}

// Restoring reports whether a restore is being carried out, or has been, and FinishRestore was not called. It
// returns ErrRestoring where that is another one.
func (c Client) Restoring(ctx context.Context, r Restore) (bool, error) {
	job, err := c.findRestore(ctx, r)
	return job != nil, err
}

// findRestore returns the Job that carries out r, or has, nil if there is none. What is left of another
// one is removed.
func (c Client) findRestore(ctx context.Context, r Restore) (*batchv1.Job, error) {
	job, err := c.Kube.BatchV1().Jobs(c.Consul.Namespace).Get(ctx, RestoreJobName(c.Consul.Name), metav1.GetOptions{})
	found, err := kube.Found(err)
	if err != nil || !found {
		return nil, err
	}
	var is Restore
	at, failed := ended(job)
	switch err := json.Unmarshal([]byte(job.Annotations[AnnotationRestore]), &is); {
	case !c.owns(job):
		return nil, &ForeignError{"Job " + job.Namespace + "/" + job.Name}
	case err == nil && is == r && !failed && job.DeletionTimestamp == nil:
		return job, nil
	case at.IsZero() && job.DeletionTimestamp == nil:
		return nil, ErrRestoring
	}
	return nil, c.FinishRestore(ctx)
}

// FinishRestore removes the Job of a restore, whose consequences have been dealt with.
func (c Client) FinishRestore(ctx context.Context) error {
	return remove(ctx, c.Kube, c.Consul.Namespace, RestoreJobName(c.Consul.Name), c.owns)
}

func (c Client) owns(o metav1.Object) bool { return server.Owns(c.Consul.Name, o.GetLabels()) }

// pod prepares the pods of a task, for the servers that run.
func (c Client) pod(ctx context.Context, task string, t token) (pod, error) {
	servers, err := Servers(ctx, c.Kube, c.Consul)
	if err != nil {
		return pod{}, err
	}
	if !servers.ACL.Enabled {
		t = token{}
	}
	if err := checkSecret(ctx, c.Kube, c.Consul.Namespace, c.Repository); err != nil {
		return pod{}, err
	}
	l := server.OwnerLabels(c.Consul.Name)
	l[server.LabelComponent], l[LabelTask] = Component, task
	return pod{servers: servers, repository: c.Repository, image: c.Image, labels: l, token: t}, nil
}

func (c Client) job(p pod, task string, containers ...corev1.Container) *batchv1.Job {
	j := &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{GenerateName: c.Consul.Name + "-" + task + "-", Namespace: c.Consul.Namespace, Labels: p.labels},
		Spec:       p.job(c.Deadline, 0, containers...),
	}
	j.Spec.TTLSecondsAfterFinished = new(int32(leftFor.Seconds()))
	return j
}

// once runs a Job, and removes it when its pod was seen to, whatever came of it.
func (c Client) once(ctx context.Context, p pod, task string, see func(context.Context, *corev1.Pod) error, containers ...corev1.Container) (*corev1.Pod, error) {
	job, err := start(ctx, c.Kube, c.job(p, task, containers...))
	if err != nil {
		return nil, err
	}
	done, err := await(ctx, c.Kube, job)
	if err == nil && see != nil {
		err = see(ctx, done)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	// If this fails, Kubernetes removes it after a while.
	_ = c.Kube.BatchV1().Jobs(job.Namespace).Delete(ctx, job.Name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)})
	return done, err
}
