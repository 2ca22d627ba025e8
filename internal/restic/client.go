package restic

import (
	"cmp"
	"context"
	"crypto/sha256"
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
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Client works on a repository with Jobs in the namespace of a cluster.
type Client struct {
	Kube       *kube.Client
	Consul     *consul.Cluster
	Repository Repository
	// Image of restic.
	Image string
	// Deadline of one Job.
	Deadline time.Duration
	// Jobs are the declared settings for the pods of the Jobs. They override those of the cluster.
	Jobs server.JobSettings
	// Planned are the servers of a cluster that starts with a snapshot. They need not exist yet, nor be
	// restored.
	Planned *server.Spec
}

const (
	// leftFor is how long Kubernetes keeps a Job that ended while no provider waited for it.
	leftFor = 10 * time.Minute
	// restoreLeftFor is the same for a restore. A restore that succeeded must not run
	// again because the steps after it are not done.
	restoreLeftFor = 24 * time.Hour
)

// Tasks of Jobs that do not belong to a schedule.
const (
	taskList     = "list"
	taskSnapshot = "snapshot"
	taskUpgrade  = "upgrade"
	taskRestore  = "restore"
	taskInspect  = "inspect"
)

// AnnotationRestore of a Job contains the Restore that it runs.
const AnnotationRestore = server.ManagedBy + "/restore"

// Stored is a snapshot in a repository.
type Stored struct {
	ID   string
	Time time.Time
	// Cluster that it was taken from, "<namespace>/<name>".
	Cluster string
	// Schedule that took it; or Name of a consul_k8s_snapshot; or BeforeRestore: the ID of the snapshot that
	// was restored after it was taken; or BeforeUpgrade: the version that the servers were upgraded to after it
	// was taken.
	Schedule, Name, BeforeRestore, BeforeUpgrade string
	// Version of Consul, and Index of the last Raft log entry.
	Version string
	Index   int64
	// Restored names the latest restore of the cluster before it was taken, "" if there was none or it is not known.
	Restored string
	// Size in bytes, unpacked, and Added, how much of it was new to the repository, packed.
	Size, Added int64
}

// For returns what it was taken for.
func (s Stored) For() string {
	switch {
	case s.Schedule != "":
		return "schedule " + s.Schedule
	case s.Name != "":
		return "consul_k8s_snapshot " + s.Name
	case s.BeforeUpgrade != "":
		return "the moment before the upgrade to " + s.BeforeUpgrade
	default:
		return fmt.Sprintf("the moment before the restore of %.8s", s.BeforeRestore)
	}
}

// ParseList reads the output of "restic snapshots --json". It leaves out snapshots that are not of Consul.
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
		return nil, fmt.Errorf("the list of snapshots from restic cannot be read: %w", err)
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
			case tagUpgrade:
				s.BeforeUpgrade = value
			case tagRestored:
				s.Restored = value
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

// Find returns the snapshot with an ID, or with a prefix of its ID. Latest stands for the latest snapshot of
// a cluster, except those that were taken before a restore. all comes from ParseList.
func Find(all []Stored, id, cluster string) (Stored, error) {
	if id == Latest {
		return latest(all, cluster)
	}
	var found []Stored
	for _, s := range all {
		if strings.HasPrefix(s.ID, id) {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 0:
		return Stored{}, fmt.Errorf("the repository holds no snapshot %q", id)
	case len(found) > 1:
		return Stored{}, fmt.Errorf("%q is the beginning of the IDs of %d snapshots in the repository", id, len(found))
	}
	return found[0], nil
}

// together is how far apart snapshots of several schedules may be that were taken at the same time but stored in
// another order.
const together = 10 * time.Minute

// latest returns the latest snapshot of a cluster. A Raft log only grows, and after a restore it continues from the
// index of the restored snapshot. If the index has fallen and nothing was restored, the cluster has started empty, and
// the latest snapshot is probably not the one to restore.
func latest(all []Stored, cluster string) (Stored, error) {
	var last, highest, before Stored
	mark := ""
	for _, s := range slices.Backward(all) { // by time
		if s.Cluster == cluster && s.Restored != "" && s.Restored != mark {
			mark, highest, before = s.Restored, Stored{}, Stored{}
		}
		switch {
		case s.Cluster != cluster:
		case s.BeforeRestore != "":
			highest, before = Stored{}, Stored{}
		default:
			if s.Index < highest.Index/2 || (s.Index < highest.Index && s.Time.Sub(highest.Time) > together) {
				before = highest
			}
			if last = s; s.Index > highest.Index || before == highest {
				highest = s
			}
		}
	}
	switch {
	case last.ID == "":
		return Stored{}, fmt.Errorf("the repository holds no snapshot of the cluster %s", cluster)
	case before.ID != "":
		return Stored{}, fmt.Errorf(
			"the cluster %s started empty after the snapshot %.8s of %s, which has a higher index than later snapshots, and nothing was restored "+
				"since then. Set the ID of the snapshot to restore. The latest one is %.8s",
			cluster,
			before.ID,
			before.Time.UTC().Format(time.RFC3339),
			last.ID,
		)
	}
	return last, nil
}

// Choose finds the snapshot to restore into servers of a version. It returns an error if the snapshot is from
// another cluster than declared, or if the servers would not accept it.
func Choose(all []Stored, id, cluster, version string) (Stored, error) {
	s, err := Find(all, id, cluster)
	switch {
	case err != nil:
		return s, err
	case s.Cluster != cluster:
		return s, fmt.Errorf("snapshot %.8s was taken from cluster %s: to restore it, set from_cluster = %q", s.ID, s.Cluster, s.Cluster)
	}
	if _, err := CheckVersion(s.Version, version); err != nil {
		return s, fmt.Errorf("snapshot %.8s: %w", s.ID, err)
	}
	return s, nil
}

// CheckVersion returns an error if servers of a version do not accept a snapshot of another version, and reports whether
// the snapshot is from an older release line. Consul promises a restore into the version that the snapshot was taken from
// (developer.hashicorp.com/consul/api-docs/snapshot). All releases of one line count as this version. A server also accepts
// snapshots of versions that it can be upgraded from, because it finds such snapshots on its volume in an upgrade.
func CheckVersion(snapshot, servers string) (older bool, err error) {
	line := func(version string) string {
		parts := strings.SplitN(version, ".", 3)
		return strings.Join(parts[:min(len(parts), 2)], ".")
	}
	if line(snapshot) == line(servers) {
		return false, nil
	}
	_, err = server.CheckUpgrade([]string{snapshot}, servers)
	var downgrade *server.DowngradeError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &downgrade):
		err = errors.New("servers may not be able to read what a newer version has written")
	}
	return false, fmt.Errorf(
		"it was taken from Consul %s, and the servers run %s: %w. Restore it into servers with version = %q, such as a new cluster with "+
			"restore_from",
		snapshot,
		servers,
		err,
		snapshot,
	)
}

// List returns the snapshots in the repository, the latest first. Its errors include *kube.JobError, ErrNoSecret, and
// ErrNoCluster.
func (c Client) List(ctx context.Context) ([]Stored, error) {
	p, err := c.pod(ctx, taskList, token{})
	if err != nil {
		return nil, err
	}
	text := []byte(nil)
	_, err = c.once(ctx, p, taskList, func(ctx context.Context, done *corev1.Pod) error {
		ctx, cancel := context.WithTimeout(ctx, cleanUpTimeout)
		defer cancel()
		// The kubelet may not have the log for a moment.
		return kube.Wait(ctx, "the log of Pod "+done.Namespace+"/"+done.Name, interval, func(ctx context.Context) (string, error) {
			var err error
			text, err = c.Kube.CoreV1().Pods(done.Namespace).GetLogs(done.Name, &corev1.PodLogOptions{Container: containerRestic}).DoRaw(ctx)
			if err != nil && !kube.Permanent(err) {
				return err.Error(), nil
			}
			return "", err
		})
	}, p.restic(containerRestic, listScript, ""))
	if err != nil {
		return nil, err
	}
	return ParseList(text)
}

// Snapshot takes a snapshot at once, and stores it under a name, so that no retention forgets it. Its errors
// include *kube.JobError, ErrNoSecret, and ErrNoCluster.
func (c Client) Snapshot(ctx context.Context, name string, management consulacl.SecretRef) (Result, error) {
	p, err := c.pod(ctx, taskSnapshot, token{management.Name, management.Key})
	if err != nil {
		return Result{}, err
	}
	return c.stored(ctx, p, taskSnapshot, tagName+name)
}

// BeforeUpgrade takes a snapshot of the running servers before they are upgraded to a version. No
// retention forgets it. Its errors include *kube.JobError and ErrNoSecret.
func (c Client) BeforeUpgrade(ctx context.Context, running server.Spec, version string, management consulacl.SecretRef) (Result, error) {
	p, err := c.podOf(ctx, running, taskUpgrade, token{management.Name, management.Key})
	if err != nil {
		return Result{}, err
	}
	return c.stored(ctx, p, taskUpgrade, tagUpgrade+version)
}

// stored takes a snapshot at once, and stores it under a tag that no retention forgets.
func (c Client) stored(ctx context.Context, p pod, task, tag string) (Result, error) {
	done, err := c.once(ctx, p, task, nil, p.snapshot(tag, created, nil)...)
	if err != nil {
		return Result{}, err
	}
	return ParseResult(kube.LastWords(done, containerStore))
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
		return Inspection{}, fmt.Errorf("the result %q of the Job cannot be read: %w", message, err)
	}
	return i, nil
}

// Inspect returns what the servers have. It takes a snapshot for this, which it does not keep.
func (c Client) Inspect(ctx context.Context, management consulacl.SecretRef) (Inspection, error) {
	p, err := c.pod(ctx, taskInspect, token{management.Name, management.Key})
	if err != nil {
		return Inspection{}, err
	}
	done, err := c.once(ctx, p, taskInspect, nil, p.asking(containerSnapshot, snapshotScript, workDir, p.servers.Version))
	if err != nil {
		return Inspection{}, err
	}
	return parseInspection(kube.LastWords(done, containerSnapshot))
}

// Restore is a restore as it is declared. Two that are equal are the same restore.
type Restore struct {
	// Snapshot is an ID, the beginning of one, or Latest; Cluster is the cluster that it was taken from.
	Snapshot string `json:"snapshot"`
	Cluster  string `json:"cluster"`
	// Location of the repository.
	Location string `json:"location"`
	// Trigger makes a restore of the same snapshot another one.
	Trigger string `json:"trigger,omitempty"`
}

// record is the annotation of a Job that restores.
type record struct {
	Restore Restore `json:"restore"`
	// Stored is the snapshot that was found.
	Stored Stored `json:"stored"`
}

// Asked prepares a restore from the repository.
func (c Client) Asked(snapshot, cluster, trigger string) Restore {
	if trigger != "" { // it may be any text, and is only compared
		trigger = fmt.Sprintf("%x", sha256.Sum256([]byte(trigger)))
	}
	return Restore{Snapshot: snapshot, Cluster: cluster, Location: cmp.Or(c.Repository.URL, "claim "+c.Repository.Claim), Trigger: trigger}
}

// Restored is a restore that succeeded.
type Restored struct {
	// Stored is the snapshot, and Snapshot what is in it.
	Stored   Stored
	Snapshot Inspection
	// Before is the snapshot of the cluster that was taken and stored before the restore. If the pod of the Job is
	// gone, Before and Snapshot are not known.
	Before Result
	Time   time.Time
}

// ErrRestoring reports that another restore of the cluster is in progress.
var ErrRestoring = errors.New("another restore of the cluster is under way")

// UncertainError reports that the last step of a restore failed. The cluster may have been changed.
type UncertainError struct{ Err error }

// Error implements error.
func (e *UncertainError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *UncertainError) Unwrap() error { return e.Err }

// RestoreJobName returns the name of the Job that restores a snapshot into a cluster. There is one at a time.
func RestoreJobName(cluster string) string { return cluster + "-restore" }

// Restoring is the Job of a restore.
type Restoring struct {
	// Stored is the snapshot.
	Stored Stored
	// Same reports that it is the restore that is asked for.
	Same bool
	// Ended reports that the Job has ended; Changed reports that the cluster may have been changed.
	Ended, Changed bool

	job *batchv1.Job
}

// Restoring returns the restore whose last steps are not done (FinishRestore), or nil if there
// is none.
func (c Client) Restoring(ctx context.Context, r Restore) (*Restoring, error) {
	job, err := c.Kube.BatchV1().Jobs(c.Consul.Namespace).Get(ctx, RestoreJobName(c.Consul.Name), metav1.GetOptions{})
	found, err := kube.Found(err)
	switch {
	case err != nil:
		return nil, fmt.Errorf("looking for a restore of %s: %w", c.Consul.ID(), err)
	case !found:
		return nil, nil //nolint:nilnil // as documented
	case !c.owns(job):
		return nil, &ForeignError{"Job " + job.Namespace + "/" + job.Name}
	}
	var is record
	_ = json.Unmarshal([]byte(job.Annotations[AnnotationRestore]), &is) // if that fails, it is another restore
	pods, err := c.Kube.JobPods(ctx, job)
	if err != nil {
		return nil, fmt.Errorf("looking for a restore of %s: %w", c.Consul.ID(), err)
	}
	at, failed := kube.JobOutcome(job, pods)
	changed := !failed && !at.IsZero()
	if !changed {
		if changed, err = c.begun(ctx, job); err != nil {
			return nil, err
		}
	}
	return &Restoring{
		Stored:  is.Stored,
		Same:    is.Restore == r && !failed && job.DeletionTimestamp == nil,
		Ended:   !at.IsZero(),
		Changed: changed,
		job:     job,
	}, nil
}

// begun reports whether the last container of a Job that restores was started, or may have been.
func (c Client) begun(ctx context.Context, was *batchv1.Job) (bool, error) {
	job, err := c.Kube.BatchV1().Jobs(was.Namespace).Get(ctx, was.Name, metav1.GetOptions{})
	if found, err := kube.Found(err); err != nil {
		return true, fmt.Errorf("checking the progress of a restore of %s: %w", c.Consul.ID(), err)
	} else if !found || job.UID != was.UID {
		return true, nil // this cannot be known
	}
	pods, err := c.Kube.JobPods(ctx, job)
	if err != nil {
		return true, fmt.Errorf("checking the progress of a restore of %s: %w", c.Consul.ID(), err)
	}
	return kube.ReachedLast(job, pods) || (len(pods) == 0 && job.Status.Failed > 0), nil
}

// StartRestore creates the Job that reads a snapshot back, verifies it, takes and stores a snapshot of the current data of the
// cluster, and only then restores.
func (c Client) StartRestore(ctx context.Context, r Restore, snapshot Stored, management consulacl.SecretRef) (*Restoring, error) {
	p, err := c.pod(ctx, taskRestore, token{management.Name, management.Key})
	if err != nil {
		return nil, err
	}
	containers := append([]corev1.Container{
		p.restic(containerFetch, fetchScript, workDir, snapshot.ID),
		p.consul(containerVerify, verifyScript, workDir, number(snapshot.Index), result),
	}, p.snapshot(tagRestore+snapshot.ID, existing, nil)...)
	job := c.job(p, "", append(containers, p.asking(containerRestore, restoreScript, workDir))...)
	annotation, _ := json.Marshal(record{r, snapshot}) // strings and numbers
	job.Name, job.GenerateName, job.Annotations = RestoreJobName(c.Consul.Name), "", map[string]string{AnnotationRestore: string(annotation)}
	job.Spec.TTLSecondsAfterFinished = new(int32(restoreLeftFor.Seconds()))
	if job, err = start(ctx, c.Kube, job); err != nil {
		return nil, err
	}
	return &Restoring{Stored: snapshot, Same: true, job: job}, nil
}

// AwaitRestore waits for a restore. It returns a *kube.JobError, after which nothing in the cluster was changed, or an
// *UncertainError. If the context ends before the last step, the last step does not run.
func (c Client) AwaitRestore(ctx context.Context, r *Restoring) (Restored, error) {
	done, err := c.Kube.AwaitJob(ctx, r.job)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		begun, beginErr := c.begun(ctx, r.job)
		if begun || beginErr != nil {
			return Restored{}, &UncertainError{errors.Join(err, beginErr)}
		}
		if finishErr := c.FinishRestore(ctx); finishErr != nil { // then it may continue
			return Restored{}, &UncertainError{errors.Join(err, finishErr)}
		}
		return Restored{}, err
	}
	restored := Restored{Stored: r.Stored, Time: time.Now().UTC()}
	// The pod may be gone, and its messages with it, but the restore has succeeded.
	if before, err := ParseResult(kube.LastWords(done, containerStore)); err == nil {
		restored.Before = before
	}
	if inspection, err := parseInspection(kube.LastWords(done, containerVerify)); err == nil {
		restored.Snapshot = inspection
	}
	if at, err := ParseDone(kube.LastWords(done, containerRestore)); err == nil {
		restored.Time = at.Time
	}
	return restored, nil
}

// FinishRestore removes the Job of a restore whose last steps are done.
func (c Client) FinishRestore(ctx context.Context) error {
	return c.Kube.RemoveJob(ctx, c.Consul.Namespace, RestoreJobName(c.Consul.Name), c.owns)
}

// AwaitOthers waits until no restore of the cluster is in progress.
func (c Client) AwaitOthers(ctx context.Context) error {
	return kube.Wait(ctx, "a restore of "+c.Consul.ID()+" to end", interval, func(ctx context.Context) (string, error) {
		r, err := c.Restoring(ctx, Restore{})
		var foreign *ForeignError
		switch {
		case errors.As(err, &foreign):
			return "", nil
		case err != nil && !kube.Permanent(err):
			return err.Error(), nil
		case err == nil && r != nil && !r.Ended:
			return "the Job " + RestoreJobName(c.Consul.Name) + " is still running", nil
		}
		return "", err
	})
}

func (c Client) owns(o metav1.Object) bool { return server.Owns(c.Consul.Name, o.GetLabels()) }

// pod prepares the pods of a task for the running servers.
func (c Client) pod(ctx context.Context, task string, t token) (pod, error) {
	servers, exist, err := c.servers(ctx)
	if err != nil {
		return pod{}, err
	}
	p, err := c.podOf(ctx, servers, task, t)
	p.alone = !exist
	return p, err
}

// podOf prepares the pods of a task for the given servers.
func (c Client) podOf(ctx context.Context, servers server.Spec, task string, t token) (pod, error) {
	if !servers.ACL.Enabled {
		t = token{}
	}
	if err := CheckSecret(ctx, c.Kube, c.Consul.Namespace, c.Repository); err != nil {
		return pod{}, err
	}
	servers.Jobs = servers.Jobs.With(c.Jobs)
	l := server.OwnerLabels(c.Consul.Name)
	l[server.LabelComponent], l[LabelTask] = Component, task
	return pod{servers: servers, repository: c.Repository, image: c.Image, labels: l, token: t}, nil
}

// servers returns the running servers, or the planned ones if none exist.
func (c Client) servers(ctx context.Context) (servers server.Spec, exist bool, err error) {
	servers, err = Servers(ctx, c.Kube, c.Consul)
	switch {
	case c.Planned != nil && errors.Is(err, consulacl.ErrNotRestored):
		return servers, true, nil
	case c.Planned != nil && errors.Is(err, ErrNoCluster):
		return *c.Planned, false, nil
	}
	return servers, true, err
}

func (c Client) job(p pod, task string, containers ...corev1.Container) *batchv1.Job {
	j := &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: c.Consul.Name + "-" + task + "-",
			Namespace:    c.Consul.Namespace,
			Labels:       p.servers.Labeled(p.labels),
		},
		Spec: p.job(c.Deadline, 0, containers...),
	}
	j.Spec.TTLSecondsAfterFinished = new(int32(leftFor.Seconds()))
	return j
}

// once runs a Job, passes its pod to see, and removes the Job whatever the outcome.
func (c Client) once(
	ctx context.Context,
	p pod,
	task string,
	see func(context.Context, *corev1.Pod) error,
	containers ...corev1.Container,
) (*corev1.Pod, error) {
	job, err := start(ctx, c.Kube, c.job(p, task, containers...))
	if err != nil {
		return nil, err
	}
	done, err := c.Kube.AwaitJob(ctx, job)
	if err == nil && done == nil {
		err = &kube.JobError{Reason: "the pod of the Job is gone, and its result with it"}
	}
	if err == nil && see != nil {
		err = see(ctx, done)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	// If this fails, Kubernetes removes it after a while.
	_ = c.Kube.BatchV1().Jobs(
		job.Namespace,
	).Delete(
		ctx,
		job.Name,
		metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)},
	)
	return done, err
}
