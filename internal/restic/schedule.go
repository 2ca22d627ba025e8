package restic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Errors of a Schedule.
var (
	// ErrNoSchedule says that there is no CronJob.
	ErrNoSchedule = errors.New("there is no such schedule")
	// ErrExists says that a schedule of the name exists.
	ErrExists = errors.New("the schedule exists already")
	// ErrNoCluster says that there are no servers to back up.
	ErrNoCluster = errors.New("the cluster does not exist")
	// ErrNoSecret says that there is no Secret with the credentials.
	ErrNoSecret = errors.New("the Secret does not exist")
)

// ForeignError says that an object with a name that a schedule needs is somebody else's.
type ForeignError struct{ Object string }

// Error implements error.
func (e *ForeignError) Error() string {
	return e.Object + " exists and was not made by this provider for this schedule"
}

// FailedError says that a backup was tried, and why it failed.
type FailedError struct {
	Reason string
	// Explanation is what Kubernetes says of the Job's pod (kube.Client.Explain).
	Explanation string
}

// Error implements error.
func (e *FailedError) Error() string { return e.Reason }

const (
	interval = time.Second
	// cleanUpTimeout bounds what is done after a failure.
	cleanUpTimeout = 30 * time.Second
)

// Schedule is one schedule of a cluster.
type Schedule struct {
	Kube   *kube.Client
	Consul *consul.Cluster
	Name   string
}

// Live is a schedule as it is.
type Live struct {
	Spec Spec
	// Drift names fields that are not as the Spec renders them for the servers that run.
	Drift []string
	State State
}

// Read reads the schedule, or returns ErrNoSchedule.
func (s Schedule) Read(ctx context.Context) (Live, error) {
	c, err := s.cronJob(ctx)
	if err != nil {
		return Live{}, err
	}
	if c == nil {
		return Live{}, ErrNoSchedule
	}
	var live Live
	if live.Spec, err = ParseSpec(c); err != nil {
		return Live{}, err
	}
	servers, err := s.servers(ctx)
	switch {
	case errors.Is(err, ErrNoCluster): // nothing to compare it with
	case err != nil:
		return Live{}, err
	default:
		if live.Drift, err = server.ObjectDrift(CronJob(live.Spec, servers), c); err != nil {
			return Live{}, err
		}
		if servers.ACL.Enabled {
			_, err := s.Kube.CoreV1().Secrets(s.Consul.Namespace).Get(ctx, s.target().Name, metav1.GetOptions{})
			var drift string
			switch found, err := kube.Found(err); {
			case err != nil:
				return Live{}, fmt.Errorf("reading Secret %s/%s: %w", s.Consul.Namespace, s.target().Name, err)
			case !found:
				drift = "Secret " + s.target().Name + ": missing, will be made"
			default:
				drift = s.Consul.BackupTokenDrift(ctx, s.Name, s.target())
			}
			if drift != "" {
				live.Drift = append(live.Drift, drift)
			}
		}
	}
	live.State, err = s.state(ctx)
	return live, err
}

// Apply takes a backup as the schedule would, and only if that was stored puts the schedule in its
// place: one that cannot work never is. Where the backups are made as before, none is taken.
// isNew says that there shall be none yet. Beside errors that say that nothing was changed it
// returns a *FailedError, which says the same.
func (s Schedule) Apply(ctx context.Context, spec Spec, isNew bool) error {
	servers, err := s.servers(ctx)
	if err != nil {
		return err
	}
	c, err := s.cronJob(ctx)
	if err != nil {
		return err
	}
	same, exists := false, c != nil
	if exists {
		before, err := ParseSpec(c)
		if err != nil {
			return err
		}
		drift, err := server.ObjectDrift(CronJob(before, servers), c)
		if err != nil {
			return err
		}
		if isNew && before != spec { // otherwise it is what an interrupted create has left
			return ErrExists
		}
		same = sameBackups(before, spec) && len(drift) == 0
	}
	if err := s.CheckSecret(ctx, spec.Repository); err != nil {
		return fmt.Errorf("the credentials in Secret %s: %w", spec.Repository.Secret, err)
	}
	if servers.ACL.Enabled {
		if err := s.Consul.EnsureBackupToken(ctx, s.Name, s.target()); err != nil {
			if !exists {
				err = errors.Join(err, s.undo(ctx, false))
			}
			return err
		}
	}
	if !same {
		if err := s.prove(ctx, spec, servers); err != nil {
			if !exists {
				err = errors.Join(err, s.undo(ctx, !servers.ACL.Enabled))
			}
			return err
		}
	}
	fields, err := server.Fields(CronJob(spec, servers))
	if err != nil {
		return err
	}
	return s.Kube.Apply(ctx, fields)
}

// sameBackups reports whether two Specs differ at most in when backups are taken.
func sameBackups(a, b Spec) bool {
	a.Schedule, a.TimeZone, a.Suspend = b.Schedule, b.TimeZone, b.Suspend
	return a == b
}

// Refresh brings the schedules of a cluster in line with the servers that it runs by now:
// their version, how they are reached. It changes nothing else.
func Refresh(ctx context.Context, k *kube.Client, c *consul.Cluster) error {
	selector := server.OwnerLabels(c.Name)
	selector[server.LabelComponent] = Component
	list, err := k.BatchV1().CronJobs(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(selector).String()})
	if apierrors.IsForbidden(err) { // who may not see schedules has none
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing the backup schedules of %s: %w", c.ID(), err)
	}
	var errs []error
	for i := range list.Items {
		spec, err := ParseSpec(&list.Items[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		servers, err := Schedule{Kube: k, Consul: c, Name: spec.Name}.servers(ctx)
		if err != nil {
			return err
		}
		fields, err := server.Fields(CronJob(spec, servers))
		if err == nil {
			err = k.Apply(ctx, fields)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Delete removes the schedule with its Jobs and its token. What is stored stays.
func (s Schedule) Delete(ctx context.Context) error {
	c, err := s.cronJob(ctx)
	if err != nil {
		return err
	}
	if c != nil {
		err := s.Kube.BatchV1().CronJobs(c.Namespace).Delete(ctx, c.Name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)})
		if _, err := kube.Found(err); err != nil {
			return fmt.Errorf("deleting CronJob %s/%s: %w", c.Namespace, c.Name, err)
		}
	}
	err = kube.Wait(ctx, "the backups of schedule "+s.Name+" to end", interval, func(ctx context.Context) (string, error) {
		c, err := s.cronJob(ctx)
		if err != nil || c == nil {
			return "", err
		}
		return "CronJob " + c.Name + " is still there", nil
	})
	if err != nil {
		return err
	}
	servers, err := s.servers(ctx)
	if err != nil && !errors.Is(err, ErrNoCluster) {
		return err
	}
	return s.undo(ctx, err == nil && !servers.ACL.Enabled)
}

// undo removes the Job that proves the schedule, and the token, also where the context has
// ended. Where the servers are gone the Secret may be left.
func (s Schedule) undo(ctx context.Context, withoutACLs bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	errs := []error{s.deleteNow(ctx)}
	if !withoutACLs {
		errs = append(errs, s.Consul.DeleteBackupToken(ctx, s.Name, s.target()))
	}
	return errors.Join(errs...)
}

// CheckSecret returns an error that says what is wrong with the Secret with the credentials: ErrNoSecret
// where there is none, which may be made meanwhile.
func (s Schedule) CheckSecret(ctx context.Context, r Repository) error {
	secret, err := s.Kube.CoreV1().Secrets(s.Consul.Namespace).Get(ctx, r.Secret, metav1.GetOptions{})
	found, err := kube.Found(err)
	switch {
	case err != nil:
		return fmt.Errorf("reading Secret %s/%s: %w", s.Consul.Namespace, r.Secret, err)
	case !found:
		return ErrNoSecret
	}
	return CheckSecret(r, slices.Collect(maps.Keys(secret.Data)))
}

func (s Schedule) target() consul.Target {
	return consul.Target{Namespace: s.Consul.Namespace, Name: TokenSecretName(s.Consul.Name, s.Name), Key: tokenKey}
}

// cronJob reads the CronJob, nil if there is none. Somebody else's is an error.
func (s Schedule) cronJob(ctx context.Context) (*batchv1.CronJob, error) {
	c, err := s.Kube.BatchV1().CronJobs(s.Consul.Namespace).Get(ctx, CronJobName(s.Consul.Name, s.Name), metav1.GetOptions{})
	found, err := kube.Found(err)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the CronJob of schedule %s of %s: %w", s.Name, s.Consul.ID(), err)
	case !found:
		return nil, nil //nolint:nilnil // as documented
	case !s.owns(c):
		return nil, &ForeignError{"CronJob " + c.Namespace + "/" + c.Name}
	}
	c.SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("CronJob"))
	return c, nil
}

func (s Schedule) owns(o metav1.Object) bool {
	return server.Owns(s.Consul.Name, o.GetLabels()) && o.GetLabels()[LabelSchedule] == s.Name
}

// servers reads what runs, or returns ErrNoCluster.
func (s Schedule) servers(ctx context.Context) (server.Spec, error) {
	name := server.StatefulSetName(s.Consul.Name)
	sts, err := s.Kube.AppsV1().StatefulSets(s.Consul.Namespace).Get(ctx, name, metav1.GetOptions{})
	if found, err := kube.Found(err); err != nil {
		return server.Spec{}, fmt.Errorf("reading the StatefulSet of %s: %w", s.Consul.ID(), err)
	} else if !found || !server.Owns(s.Consul.Name, sts.Labels) {
		return server.Spec{}, ErrNoCluster
	}
	cm, err := s.Kube.CoreV1().ConfigMaps(s.Consul.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return server.Spec{}, fmt.Errorf("reading the configuration of %s: %w", s.Consul.ID(), err)
	}
	return server.Parse(server.Set{StatefulSet: sts, Config: cm}, server.Spec{})
}

// state says what came of the backups.
func (s Schedule) state(ctx context.Context) (State, error) {
	jobs, err := s.Kube.BatchV1().Jobs(s.Consul.Namespace).List(ctx, s.all())
	if err != nil {
		return State{}, fmt.Errorf("listing the backups of schedule %s of %s: %w", s.Name, s.Consul.ID(), err)
	}
	pods, err := s.pods(ctx)
	return Summarize(jobs.Items, pods), err
}

// prove takes a backup at once, with a Job that stays, because it says what was stored.
func (s Schedule) prove(ctx context.Context, spec Spec, servers server.Spec) error {
	if err := s.deleteNow(ctx); err != nil {
		return err
	}
	job := Now(spec, servers)
	made, err := s.Kube.BatchV1().Jobs(job.Namespace).Create(ctx, job, metav1.CreateOptions{FieldManager: server.ManagedBy})
	if apierrors.IsAlreadyExists(err) {
		return &ForeignError{"Job " + job.Namespace + "/" + job.Name}
	} else if err != nil {
		return fmt.Errorf("making the Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	var reasons string
	err = kube.Wait(ctx, fmt.Sprintf("the Job %s/%s", job.Namespace, job.Name), interval, func(ctx context.Context) (string, error) {
		job, err := s.Kube.BatchV1().Jobs(made.Namespace).Get(ctx, made.Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		at, failed := ended(job)
		if at.IsZero() {
			return "it has not ended", nil
		}
		pods, err := s.pods(ctx)
		switch {
		case err != nil:
			return "", err
		case failed:
			reasons = reason(job, pods)
			return "", nil
		}
		_, err = ParseResult(message(job, pods))
		return "", err
	})
	if err == nil && reasons == "" {
		return nil
	}
	failed := &FailedError{Reason: reasons}
	if err != nil {
		failed.Reason = err.Error()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	if err != nil { // it hangs: Kubernetes knows why
		failed.Explanation = s.Kube.Explain(ctx, job.Namespace, job.Name, Labels(s.Consul.Name, s.Name))
	}
	if err := s.deleteNow(ctx); err != nil {
		return errors.Join(failed, err)
	}
	return failed
}

// all selects what belongs to the schedule.
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

// deleteNow deletes the Job that proves the schedule, with its pod.
func (s Schedule) deleteNow(ctx context.Context) error {
	jobs, name := s.Kube.BatchV1().Jobs(s.Consul.Namespace), NowName(s.Consul.Name, s.Name)
	return kube.Wait(ctx, "the Job "+s.Consul.Namespace+"/"+name+" to go", interval, func(ctx context.Context) (string, error) {
		job, err := jobs.Get(ctx, name, metav1.GetOptions{})
		if found, err := kube.Found(err); err != nil || !found || !s.owns(job) {
			return "", err
		}
		if job.DeletionTimestamp == nil {
			err = jobs.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)})
			if _, err := kube.Found(err); err != nil {
				return "", err
			}
		}
		return "it is still there", nil
	})
}
