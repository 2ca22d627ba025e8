package restic

import (
	_ "embed" // the scripts
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The scripts of containers. Scripts in restic's image begin with repositoryScript, and scripts in
// the servers' image with inspectScript.
var (
	//go:embed repository.sh
	repositoryScript string
	//go:embed store.sh
	storeScript string
	//go:embed list.sh
	listScript string
	//go:embed fetch.sh
	fetchScript string
	//go:embed prune.sh
	pruneScript string
	//go:embed check.sh
	checkScript string

	//go:embed inspect.sh
	inspectScript string
	//go:embed snapshot.sh
	snapshotScript string
	//go:embed verify.sh
	verifyScript string
	//go:embed restore.sh
	restoreScript string
	//go:embed drill.sh
	drillScript string
)

// Names of containers.
const (
	containerSnapshot = "snapshot"
	containerStore    = "store"
	containerFetch    = "fetch"
	containerVerify   = "verify"
	containerRestore  = "restore"
	containerRestic   = "restic"
	containerDrill    = "drill"
)

// workDir is the mount path of the volume that the containers of a pod share. restic
// stores the path with the snapshot.
const workDir = "/scratch"

// result is the file where a container writes its result.
const result = server.TerminationMessage

// Tags that say what a snapshot in the repository is for.
const (
	tagSchedule = "schedule="
	tagName     = "snapshot="
	tagRestore  = "before-restore="
	tagUpgrade  = "before-upgrade="
	tagRestored = "restored="
)

// Latest stands for the ID of the latest snapshot.
const Latest = "latest"

// existing and created say whether a repository must exist or may be created.
const (
	existing = "existing"
	created  = "new"
)

// annotationPasswd of a pod contains the file /etc/passwd of restic's containers. The command ssh, which restic starts, must know
// the user that it runs as, and restic's image has no user with the number that the servers, and so the Jobs, run as.
const (
	annotationPasswd = server.ManagedBy + "/passwd"
)

// The token of the Jobs' ServiceAccount, which a cloud accepts for a role. The kubelet renews it.
const (
	identityVolume        = "identity"
	identityDir           = "/identity"
	identityFile          = "token"
	identitySeconds int64 = 3600
)

// passwd returns the file /etc/passwd with the user that ssh must know. It is "" if the platform chooses the user and adds it to
// the file of the image.
func passwd(servers server.Spec) string {
	run := servers.Pod.Effective()
	if run.User == nil {
		return ""
	}
	group := *run.User
	if run.Group != nil {
		group = *run.Group
	}
	return fmt.Sprintf("consul:x:%d:%d:consul:/tmp:/bin/false\n", *run.User, group)
}

// token is the key of a Secret with the token for the servers, or "" if ACLs are disabled.
type token struct{ secret, key string }

// pod renders the pods of Jobs, whose containers run one after the other.
type pod struct {
	servers    server.Spec
	repository Repository
	image      string // restic's
	labels     map[string]string
	token      token
	alone      bool // there are no servers, and no ServiceAccount of theirs
	placement  *Placement
}

// restic renders a container that works on the repository.
func (p pod) restic(name, script string, args ...string) corev1.Container {
	c := server.JobContainer(p.servers, name, p.image)
	c.Command = []string{"/bin/sh", "-c", repositoryScript + script}
	c.Args = append([]string{"sh"}, args...)
	c.Env = []corev1.EnvVar{{Name: "RESTIC_REPOSITORY", Value: p.repository.location()}}
	c.VolumeMounts = []corev1.VolumeMount{
		{Name: "work", MountPath: workDir},
		{Name: "tmp", MountPath: "/tmp"},
		{Name: "credentials", MountPath: "/credentials", ReadOnly: true},
	}
	if p.repository.Claim != "" {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "repository", MountPath: p.repository.location()})
	}
	if flags := p.repository.flags(); flags != "" {
		c.Env = append(c.Env, corev1.EnvVar{Name: "OPTIONS", Value: flags})
	}
	if p.repository.ServiceAccount.TokenAudience != "" {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: identityVolume, MountPath: identityDir, ReadOnly: true})
		if kind, err := KindOf(p.repository.URL); err == nil && kind.role != nil && kind.role.tokenEnv != "" {
			c.Env = append(c.Env, corev1.EnvVar{Name: kind.role.tokenEnv, Value: identityDir + "/" + identityFile})
		}
	}
	if p.repository.usesSSH() && passwd(p.servers) != "" {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "passwd", MountPath: "/etc/passwd", SubPath: "passwd", ReadOnly: true})
	}
	return c
}

// consul renders a container that handles snapshots without the servers.
func (p pod) consul(name, script string, args ...string) corev1.Container {
	c := server.JobContainer(p.servers, name, p.servers.Image)
	c.Command = []string{"/bin/sh", "-c", inspectScript + script}
	c.Args = append([]string{"sh"}, args...)
	c.VolumeMounts = []corev1.VolumeMount{{Name: "work", MountPath: workDir}, {Name: "tmp", MountPath: "/tmp"}}
	return c
}

// asking renders a container that sends requests to the servers. It adds their address, the file for the result, and the
// file of the token to the arguments.
func (p pod) asking(name, script string, args ...string) corev1.Container {
	access := server.NewAccess(p.servers, p.token.secret, p.token.key)
	c := p.consul(name, script, args...)
	c.Args = append(append(c.Args, access.Address, result), access.TokenFile...)
	c.Env = access.Env
	c.VolumeMounts = append(c.VolumeMounts, access.Mounts...)
	return c
}

// snapshot renders the two containers that take a snapshot and store it under a tag.
func (p pod) snapshot(tag, repository string, retention []string) []corev1.Container {
	store := p.restic(containerStore, storeScript, workDir, Host(p.servers.Namespace, p.servers.Name), tag)
	store.Args = append(append(store.Args, result, repository), retention...)
	if mark := p.servers.RestoredMark(); mark != "" {
		store.Env = append(store.Env, corev1.EnvVar{Name: "RESTORED", Value: mark})
	}
	return []corev1.Container{p.asking(containerSnapshot, snapshotScript, workDir, p.servers.Version), store}
}

// job renders the Job whose pod has the containers. again is how often a failed pod is tried again.
func (p pod) job(deadline time.Duration, again int32, containers ...corev1.Container) batchv1.JobSpec {
	template := server.JobPod(p.servers, p.labels)
	if p.alone {
		template.Spec.ServiceAccountName = ""
	}
	if account := p.repository.ServiceAccount; account.isSet() {
		template.Spec.ServiceAccountName = account.Name
		if strings.HasPrefix(p.repository.URL, "azure:") { // Azure's webhook gives a token to pods with this label
			metav1.SetMetaDataLabel(&template.ObjectMeta, "azure.workload.identity/use", "true")
		}
	}
	if at := p.placement; at != nil {
		template.Spec.NodeSelector, template.Spec.Tolerations, template.Spec.PriorityClassName = at.NodeSelector, at.Tolerations, at.PriorityClass
	}
	last := len(containers) - 1
	for i := range containers {
		containers[i].Env = append(containers[i].Env, corev1.EnvVar{Name: "DEADLINE", Value: number(int64(deadline.Seconds()))})
	}
	template.Spec.InitContainers, template.Spec.Containers = containers[:last], containers[last:]
	if text := passwd(p.servers); p.repository.usesSSH() && text != "" {
		template.Annotations = maps.Clone(template.Annotations)
		metav1.SetMetaDataAnnotation(&template.ObjectMeta, annotationPasswd, text)
	}
	empty := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	volumes := append([]corev1.Volume{
		{Name: "work", VolumeSource: empty}, {Name: "tmp", VolumeSource: empty},
		{
			Name:         "credentials",
			VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: p.repository.Secret, DefaultMode: new(int32(0o440))}},
		},
		{Name: "passwd", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{
			Path: "passwd", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + annotationPasswd + "']"},
		}}}}},
		{Name: identityVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: new(int32(0o440)),
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: p.repository.ServiceAccount.TokenAudience, ExpirationSeconds: new(identitySeconds), Path: identityFile,
			}}},
		}}},
		{
			Name:         "repository",
			VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: p.repository.Claim}},
		},
	}, server.NewAccess(p.servers, p.token.secret, p.token.key).Volumes...)
	for _, v := range volumes { // only those that a container mounts
		if slices.ContainsFunc(containers, func(c corev1.Container) bool {
			return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == v.Name })
		}) {
			template.Spec.Volumes = append(template.Spec.Volumes, v)
		}
	}
	// A pod that ends at its own deadline stays, with the messages of its containers. The pods of a Job that ends at its deadline
	// are deleted.
	template.Spec.ActiveDeadlineSeconds = new(int64(deadline.Seconds()))
	spec := batchv1.JobSpec{BackoffLimit: &again, ActiveDeadlineSeconds: new(int64((deadline + lateStart).Seconds())), Template: template}
	if again > 0 {
		spec.PodFailurePolicy = tryAgainAfter(containers)
	}
	return spec
}

// lateStart is how long a pod may wait until it is scheduled, so that its deadline comes before that of its Job.
const lateStart = time.Minute

// tryAgainAfter lets a Job try again if one of its containers failed, but not if only an injected sidecar failed, such as one that
// was still running at the deadline.
func tryAgainAfter(containers []corev1.Container) *batchv1.PodFailurePolicy {
	failed := func(action batchv1.PodFailurePolicyAction, container *string) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			ContainerName: container, Operator: batchv1.PodFailurePolicyOnExitCodesOpNotIn, Values: []int32{0},
		}}
	}
	policy := &batchv1.PodFailurePolicy{}
	for i := range containers {
		policy.Rules = append(policy.Rules, failed(batchv1.PodFailurePolicyActionCount, &containers[i].Name))
	}
	policy.Rules = append(policy.Rules, failed(batchv1.PodFailurePolicyActionFailJob, nil))
	return policy
}

// number formats a decimal argument.
func number(n int64) string { return strconv.FormatInt(n, 10) }
