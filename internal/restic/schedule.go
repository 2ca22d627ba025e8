package restic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Errors of a Schedule.
var (
	// ErrNoSchedule reports that there is no CronJob.
	ErrNoSchedule = errors.New("there is no such schedule")
	// ErrExists reports that a schedule with the name exists.
	ErrExists = errors.New("the schedule already exists")
	// ErrNoCluster reports that there are no servers to back up.
	ErrNoCluster = errors.New("the cluster does not exist")
	// ErrNoConfig reports that the configuration of the servers is gone. The next apply of the cluster creates it again.
	ErrNoConfig = errors.New("the configuration of the servers is gone")
	// ErrNoSecret reports that there is no Secret with the credentials.
	ErrNoSecret = errors.New("the Secret does not exist")
	// ErrNoClaim reports that there is no PersistentVolumeClaim with the repository.
	ErrNoClaim = errors.New("the PersistentVolumeClaim does not exist")
)

// KeysError reports what the Secret with the credentials of a repository lacks.
type KeysError struct {
	Secret string
	Err    error
}

// Error implements error.
func (e *KeysError) Error() string {
	return "the credentials in Secret " + e.Secret + ": " + e.Err.Error()
}

// Unwrap returns what is missing.
func (e *KeysError) Unwrap() error { return e.Err }

// Schedule is one schedule of a cluster.
type Schedule struct {
	Kube   *kube.Client
	Consul *consul.Cluster
	Name   string
}

// Live is a schedule as it exists in Kubernetes.
type Live struct {
	Spec Spec
	// Drift names fields that differ from what the Spec renders for the running servers.
	Drift []string
	State State
}

// Read reads the schedule, or returns ErrNoSchedule.
func (s Schedule) Read(ctx context.Context) (Live, error) {
	all, err := s.cronJobs(ctx)
	if err != nil {
		return Live{}, err
	}
	c := all[CronJobName(s.Consul.Name, s.Name)]
	if c == nil {
		return Live{}, ErrNoSchedule
	}
	var live Live
	if live.Spec, err = ParseSpec(c); err != nil {
		return Live{}, err
	}
	servers, err := Servers(ctx, s.Kube, s.Consul)
	switch {
	case errors.Is(err, ErrNoCluster), errors.Is(err, ErrNoConfig), errors.Is(err, consulacl.ErrNotRestored): // nothing to compare it with
	case err != nil:
		return Live{}, err
	default:
		if live.Drift, err = drift(live.Spec, servers, all); err != nil {
			return Live{}, err
		}
		account, err := s.accountDrift(ctx, live.Spec)
		if err != nil {
			return Live{}, err
		}
		live.Drift = append(live.Drift, account...)
		token, err := s.tokenDrift(ctx, servers)
		if err != nil {
			return Live{}, err
		}
		live.Drift = append(live.Drift, token...)
	}
	live.State, err = s.state(ctx)
	return live, err
}

// drift names the fields of the CronJobs that differ from what a Spec renders.
func drift(spec Spec, servers server.Spec, live map[string]*batchv1.CronJob) ([]string, error) {
	var all []string
	want := CronJobs(spec, servers)
	for i, c := range want {
		got := live[c.Name]
		if got == nil {
			all = append(all, "CronJob "+c.Name+": missing, will be made")
			continue
		}
		fields, err := server.ObjectDrift(c, got)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			for j := range fields {
				fields[j] = "CronJob " + c.Name + ": " + fields[j]
			}
		}
		all = append(all, fields...)
	}
	return all, nil
}

// accountDrift names the fields of the ServiceAccount of the Jobs that differ from what a Spec renders.
func (s Schedule) accountDrift(ctx context.Context, spec Spec) ([]string, error) {
	want := spec.account(s.Consul.Namespace, s.Consul.Name)
	if want == nil {
		return nil, nil
	}
	got, err := s.Kube.CoreV1().ServiceAccounts(want.Namespace).Get(ctx, want.Name, metav1.GetOptions{})
	switch found, err := kube.Found(err); {
	case err != nil:
		return nil, fmt.Errorf("reading ServiceAccount %s/%s: %w", want.Namespace, want.Name, err)
	case !found:
		return []string{"ServiceAccount " + want.Name + ": missing, will be created"}, nil
	}
	got.SetGroupVersionKind(want.GroupVersionKind())
	fields, err := server.ObjectDrift(want, got)
	for i := range fields {
		fields[i] = "ServiceAccount " + want.Name + ": " + fields[i]
	}
	return fields, err
}

// putAccount writes the ServiceAccount of the Jobs, if the schedule has one of its own.
func (s Schedule) putAccount(ctx context.Context, spec Spec) error {
	want := spec.account(s.Consul.Namespace, s.Consul.Name)
	if want == nil {
		return nil
	}
	got, err := s.Kube.CoreV1().ServiceAccounts(want.Namespace).Get(ctx, want.Name, metav1.GetOptions{})
	if found, err := kube.Found(err); err != nil {
		return fmt.Errorf("reading ServiceAccount %s/%s: %w", want.Namespace, want.Name, err)
	} else if found && !s.owns(got) {
		return &ForeignError{"ServiceAccount " + want.Namespace + "/" + want.Name}
	}
	fields, err := server.Fields(want)
	if err != nil {
		return err
	}
	return s.Kube.Apply(ctx, fields)
}

// deleteAccount deletes the ServiceAccount that the schedule created. A credential that may not read ServiceAccounts has created none.
func (s Schedule) deleteAccount(ctx context.Context) error {
	accounts, name := s.Kube.CoreV1().ServiceAccounts(s.Consul.Namespace), AccountName(s.Consul.Name, s.Name)
	got, err := accounts.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsForbidden(err) {
		return nil
	}
	found, err := kube.Found(err)
	if err == nil && found && s.owns(got) {
		_, err = kube.Found(accounts.Delete(ctx, name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(got.UID))}))
	}
	if err != nil {
		return fmt.Errorf("deleting ServiceAccount %s/%s: %w", s.Consul.Namespace, name, err)
	}
	return nil
}

// tokenDrift reports what is wrong with the token of the backups.
func (s Schedule) tokenDrift(ctx context.Context, servers server.Spec) ([]string, error) {
	if !servers.ACL.Enabled {
		return nil, nil
	}
	_, err := s.Kube.CoreV1().Secrets(s.Consul.Namespace).Get(ctx, s.target().Name, metav1.GetOptions{})
	switch found, err := kube.Found(err); {
	case err != nil:
		return nil, fmt.Errorf("reading Secret %s/%s: %w", s.Consul.Namespace, s.target().Name, err)
	case !found:
		return []string{"Secret " + s.target().Name + ": missing, will be made"}, nil
	}
	if text := consulacl.BackupTokenDrift(ctx, s.Consul, s.Name, s.target()); text != "" {
		return []string{text}, nil
	}
	return nil, nil
}

// Apply takes a backup as the schedule would, and writes the schedule only if the backup was stored, so
// that a schedule that cannot work never takes effect. If backups are taken as before, it takes none. It
// also runs a new drill once. isNew says that the schedule must not exist yet. It returns a *kube.JobError if
// the backup or the drill fails; nothing was changed then.
func (s Schedule) Apply(ctx context.Context, spec Spec, isNew bool) error {
	servers, err := Servers(ctx, s.Kube, s.Consul)
	if err != nil {
		return err
	}
	all, err := s.cronJobs(ctx)
	if err != nil {
		return err
	}
	if err := s.checkFree(ctx, spec, servers); err != nil {
		return err
	}
	tasks := []string{TaskBackup, TaskDrill}
	c := all[CronJobName(s.Consul.Name, s.Name)]
	if c != nil {
		before, err := ParseSpec(c)
		if err != nil {
			return err
		}
		changed, err := drift(before, servers, all)
		if err != nil {
			return err
		}
		if isNew && !before.Equal(spec) { // an equal one is what an interrupted create left
			return ErrExists
		}
		tasks = toProve(before, spec, len(changed) > 0)
	}
	if err := CheckSecret(ctx, s.Kube, s.Consul.Namespace, spec.Repository); err != nil {
		return err
	}
	if servers.ACL.Enabled {
		if err := consulacl.EnsureBackupToken(ctx, s.Consul, s.Name, s.target()); err != nil {
			if c == nil {
				err = errors.Join(err, s.undo(ctx, false))
			}
			return err
		}
	}
	if err := s.putAccount(ctx, spec); err != nil {
		if c == nil {
			err = errors.Join(err, s.undo(ctx, !servers.ACL.Enabled))
		}
		return err
	}
	for _, task := range tasks {
		if task == TaskDrill && spec.Drill.Schedule == "" {
			continue
		}
		if err := s.prove(ctx, spec, servers, task); err != nil {
			if c == nil {
				err = errors.Join(err, s.undo(ctx, !servers.ACL.Enabled))
			}
			return err
		}
	}
	if err := s.put(ctx, spec, servers, all); err != nil || spec.account(s.Consul.Namespace, s.Consul.Name) != nil {
		return err
	}
	return s.deleteAccount(ctx)
}

// put writes the CronJobs, and deletes those of tasks that are no longer declared.
func (s Schedule) put(ctx context.Context, spec Spec, servers server.Spec, live map[string]*batchv1.CronJob) error {
	keep := map[string]bool{}
	for _, c := range CronJobs(spec, servers) {
		keep[c.Name] = true
		fields, err := server.Fields(c)
		if err == nil {
			err = s.Kube.Apply(ctx, fields)
		}
		if err != nil {
			return err
		}
	}
	for name := range live {
		if !keep[name] {
			if err := s.deleteCronJob(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s Schedule) deleteCronJob(ctx context.Context, name string) error {
	err := s.Kube.BatchV1().CronJobs(
		s.Consul.Namespace,
	).Delete(
		ctx,
		name,
		metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)},
	)
	if _, err := kube.Found(err); err != nil {
		return fmt.Errorf("deleting CronJob %s/%s: %w", s.Consul.Namespace, name, err)
	}
	return nil
}

// toProve returns the tasks that must prove a change: a backup if a change or drift affects how backups are
// taken, and a drill that was not declared before.
func toProve(before, after Spec, drift bool) (tasks []string) {
	drill := after.Drill != before.Drill && (before.Drill == Drill{} || before.Drill.SentinelKey != after.Drill.SentinelKey)
	// When backups run, and which other tasks run, does not matter.
	before.Schedule, before.TimeZone, before.Suspend, before.History = after.Schedule, after.TimeZone, after.Suspend, after.History
	before.Prune, before.Check, before.Drill = after.Prune, after.Check, after.Drill
	if !before.Equal(after) || drift {
		tasks = append(tasks, TaskBackup)
	}
	if drill {
		tasks = append(tasks, TaskDrill)
	}
	return tasks
}

// Refresh adapts the schedules of a cluster to the servers that it runs now: their version, and how to reach them. It changes
// nothing else: when tasks start, and whether they are suspended, stays as it is. A CronJob that was deleted is not created again.
func Refresh(ctx context.Context, k *kube.Client, c *consul.Cluster) error {
	schedules, err := schedulesOf(ctx, k, c)
	if err != nil || len(schedules) == 0 {
		return err
	}
	servers, err := Servers(ctx, k, c)
	if err != nil {
		return err
	}
	var errs []error
	for _, spec := range schedules {
		s := Schedule{Kube: k, Consul: c, Name: spec.Name}
		errs = append(errs, s.refresh(ctx, spec, servers))
		if servers.ACL.Enabled {
			errs = append(errs, consulacl.RelabelBackupToken(ctx, c, s.Name, s.target()))
		}
	}
	return errors.Join(errs...)
}

// refresh renders the pods of the existing CronJobs for the running servers.
func (s Schedule) refresh(ctx context.Context, spec Spec, servers server.Spec) error {
	live, err := s.cronJobs(ctx)
	if err != nil {
		return err
	}
	for _, c := range CronJobs(spec, servers) {
		is := live[c.Name]
		if is == nil {
			continue
		}
		fields, err := server.Fields(asScheduled(c, is))
		if err == nil {
			err = s.Kube.Apply(ctx, fields)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// asScheduled returns a CronJob with the schedule of another one, and suspended if that one is.
func asScheduled(c, is *batchv1.CronJob) *batchv1.CronJob {
	c = c.DeepCopy()
	c.Spec.Schedule, c.Spec.TimeZone, c.Spec.Suspend = is.Spec.Schedule, is.Spec.TimeZone, is.Spec.Suspend
	return c
}

// EnsureTokens creates or repairs the tokens of all schedules of a cluster, after ACLs were bootstrapped, or replaced
// by those of a snapshot.
func EnsureTokens(ctx context.Context, k *kube.Client, c *consul.Cluster) error {
	schedules, err := schedulesOf(ctx, k, c)
	errs := []error{err}
	for _, spec := range schedules {
		errs = append(errs, consulacl.EnsureBackupToken(ctx, c, spec.Name, Schedule{Consul: c, Name: spec.Name}.target()))
	}
	return errors.Join(errs...)
}

// schedulesOf returns the schedules of a cluster. For one that cannot be read, it returns an error beside the others.
func schedulesOf(ctx context.Context, k *kube.Client, c *consul.Cluster) (all []Spec, err error) {
	selector := server.OwnerLabels(c.Name)
	selector[server.LabelComponent] = Component
	list, err := k.BatchV1().CronJobs(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(selector).String()})
	if apierrors.IsForbidden(err) { // a credential that may not list schedules has none
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the backup schedules of %s: %w", c.ID(), err)
	}
	var errs []error
	for i := range list.Items {
		if list.Items[i].Name != CronJobName(c.Name, list.Items[i].Labels[LabelSchedule]) {
			continue // the CronJob of another task
		}
		spec, err := ParseSpec(&list.Items[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, spec)
	}
	return all, errors.Join(errs...)
}

// Delete deletes the schedule with its Jobs and its token. Stored backups stay. An object that is already gone is no
// error. The CronJob of the backups is deleted last: as long as it exists, the schedule is known, and the next delete
// can finish one that failed.
func (s Schedule) Delete(ctx context.Context) error {
	all, err := s.cronJobs(ctx)
	if err != nil {
		return err
	}
	last := CronJobName(s.Consul.Name, s.Name)
	for name := range all {
		if name == last {
			continue
		}
		if err := s.deleteCronJob(ctx, name); err != nil {
			return err
		}
	}
	servers, err := Servers(ctx, s.Kube, s.Consul)
	known := true // whether there are ACLs
	switch {
	case errors.Is(err, ErrNoCluster), errors.Is(err, ErrNoConfig):
		known = false
	case err != nil && !errors.Is(err, consulacl.ErrNotRestored):
		return err
	}
	if err := s.undo(ctx, known && !servers.ACL.Enabled); err != nil {
		return err
	}
	if all[last] != nil {
		if err := s.deleteCronJob(ctx, last); err != nil {
			return err
		}
	}
	return kube.Wait(ctx, "the Jobs of schedule "+s.Name+" to end", interval, func(ctx context.Context) (string, error) {
		all, err := s.cronJobs(ctx)
		for name := range all {
			return "CronJob " + name + " still exists", nil
		}
		return "", err
	})
}

// undo removes the Jobs that prove the schedule, and the token, even if the context has
// ended. If the servers are gone, the Secret may be left.
func (s Schedule) undo(ctx context.Context, withoutACLs bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	var errs []error
	for _, task := range []string{TaskBackup, TaskDrill} {
		errs = append(errs, s.Kube.RemoveJob(ctx, s.Consul.Namespace, NowName(s.Consul.Name, s.Name, task), s.owns))
	}
	errs = append(errs, s.deleteAccount(ctx))
	if !withoutACLs {
		errs = append(errs, consulacl.DeleteBackupToken(ctx, s.Consul, s.Name, s.target()))
	}
	return errors.Join(errs...)
}

// CheckSecret returns an error that says what is wrong with the Secret with the credentials of a repository: ErrNoSecret if the
// Secret does not exist, and ErrNoClaim if the volume claim does not exist. Both may still be created.
func CheckSecret(ctx context.Context, k *kube.Client, namespace string, r Repository) error {
	secret, err := k.CoreV1().Secrets(namespace).Get(ctx, r.Secret, metav1.GetOptions{})
	found, err := kube.Found(err)
	switch {
	case err != nil:
		return fmt.Errorf("reading Secret %s/%s: %w", namespace, r.Secret, err)
	case !found:
		return fmt.Errorf("the credentials in Secret %s: %w", r.Secret, ErrNoSecret)
	}
	if err := CheckKeys(r, slices.Collect(maps.Keys(secret.Data))); err != nil {
		return &KeysError{Secret: r.Secret, Err: err}
	}
	if r.Claim == "" {
		return nil
	}
	_, err = k.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, r.Claim, metav1.GetOptions{})
	if apierrors.IsNotFound(err) { // without the right to look, the Job shows it when it does not start
		return fmt.Errorf("the repository on the volume of %s: %w", r.Claim, ErrNoClaim)
	}
	return nil
}

func (s Schedule) target() consulacl.Target {
	return consulacl.Target{Namespace: s.Consul.Namespace, Name: TokenSecretName(s.Consul.Name, s.Name), Key: tokenKey}
}

// cronJobs lists the CronJobs of the schedule, by name.
func (s Schedule) cronJobs(ctx context.Context) (map[string]*batchv1.CronJob, error) {
	list, err := s.Kube.BatchV1().CronJobs(s.Consul.Namespace).List(ctx, s.all())
	if err != nil {
		return nil, fmt.Errorf("listing the CronJobs of schedule %s of %s: %w", s.Name, s.Consul.ID(), err)
	}
	all := map[string]*batchv1.CronJob{}
	for i := range list.Items {
		c := &list.Items[i]
		c.SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("CronJob"))
		all[c.Name] = c
	}
	return all, nil
}

// checkFree returns an error if a CronJob that another tool or person made has a name that the schedule needs.
func (s Schedule) checkFree(ctx context.Context, spec Spec, servers server.Spec) error {
	for _, want := range CronJobs(spec, servers) {
		c, err := s.Kube.BatchV1().CronJobs(want.Namespace).Get(ctx, want.Name, metav1.GetOptions{})
		if found, err := kube.Found(err); err != nil {
			return fmt.Errorf("reading CronJob %s/%s: %w", want.Namespace, want.Name, err)
		} else if found && !s.owns(c) {
			return &ForeignError{"CronJob " + want.Namespace + "/" + want.Name}
		}
	}
	return nil
}

func (s Schedule) owns(o metav1.Object) bool {
	return server.Owns(s.Consul.Name, o.GetLabels()) && o.GetLabels()[LabelSchedule] == s.Name
}

// Servers reads the running servers of a cluster, or returns ErrNoCluster or ErrNoConfig. It returns the servers even with
// consulacl.ErrNotRestored.
func Servers(ctx context.Context, k *kube.Client, c *consul.Cluster) (server.Spec, error) {
	name := server.StatefulSetName(c.Name)
	sts, err := c.StatefulSet(ctx)
	if err != nil {
		return server.Spec{}, err
	}
	if sts == nil || !server.Owns(c.Name, sts.Labels) {
		return server.Spec{}, ErrNoCluster
	}
	cm, err := k.CoreV1().ConfigMaps(c.Namespace).Get(ctx, name, metav1.GetOptions{})
	if found, err := kube.Found(err); err != nil {
		return server.Spec{}, fmt.Errorf("reading the configuration of %s: %w", c.ID(), err)
	} else if !found {
		return server.Spec{}, fmt.Errorf("cluster %s: %w", c.ID(), ErrNoConfig)
	}
	spec, err := server.Parse(server.Set{StatefulSet: sts, Config: cm}, server.Spec{})
	if err == nil && spec.Origin.Pending() {
		err = consulacl.ErrNotRestored
	}
	return spec, err
}

// state returns the outcome of the tasks.
func (s Schedule) state(ctx context.Context) (State, error) {
	jobs, err := s.Kube.BatchV1().Jobs(s.Consul.Namespace).List(ctx, s.all())
	if err != nil {
		return State{}, fmt.Errorf("listing the backups of schedule %s of %s: %w", s.Name, s.Consul.ID(), err)
	}
	pods, err := s.pods(ctx)
	return Summarize(jobs.Items, pods), err
}

// prove runs a task at once, with a Job that stays, because it contains the outcome.
func (s Schedule) prove(ctx context.Context, spec Spec, servers server.Spec, task string) error {
	name := NowName(s.Consul.Name, s.Name, task)
	if err := s.Kube.RemoveJob(ctx, s.Consul.Namespace, name, s.owns); err != nil {
		return err
	}
	job, err := start(ctx, s.Kube, Now(spec, servers, task))
	if err != nil {
		return err
	}
	done, err := s.Kube.AwaitJob(ctx, job)
	if err == nil && task == TaskBackup {
		_, err = ParseResult(kube.LastWords(done, containerStore))
	}
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	if removeErr := s.Kube.RemoveJob(ctx, s.Consul.Namespace, name, s.owns); removeErr != nil {
		return errors.Join(err, removeErr)
	}
	return err
}

// all selects the objects of the schedule.
func (s Schedule) all() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: labels.SelectorFromSet(Labels(s.Consul.Name, s.Name)).String()}
}

func (s Schedule) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := s.Kube.CoreV1().Pods(s.Consul.Namespace).List(ctx, s.all())
	if err != nil {
		return nil, fmt.Errorf("listing the pods of schedule %s of %s: %w", s.Name, s.Consul.ID(), err)
	}
	return list.Items, nil
}
