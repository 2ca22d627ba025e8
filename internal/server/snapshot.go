package server

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Snapshot is a snapshot of the servers that was read back completely, and where it is.
type Snapshot struct {
	// Claim is the PersistentVolumeClaim, in the cluster's namespace, and File the
	// name of the file in its volume, "" in a repository.
	Claim string `json:"claim,omitempty"`
	File  string `json:"file,omitempty"`
	// URL of the repository that it is stored in, unless that is on the volume of Claim, and ID in it;
	// "" where it is a file.
	URL string `json:"url,omitempty"`
	ID  string `json:"id,omitempty"`
	// Version is the Consul version of the servers that it was taken from.
	Version string `json:"version"`
	// Index and Term are those of the last Raft log entry in it. The term may be 0:
	// unknown.
	Index uint64 `json:"index"`
	Term  uint64 `json:"term,omitempty"`
	// Size in bytes, of a file as it is, in a repository unpacked, and the SHA-256 of a file in hexadecimal.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	// Time is when it was taken, in UTC.
	Time time.Time `json:"time"`
}

const (
	snapshotVolume = "snapshots"
	snapshotDir    = "/snapshots"
	snapshotTokens = "token"
	snapshotCA     = "ca"

	// snapshotDeadline ends a Job that no apply waits for anymore, and snapshotTTL removes it.
	snapshotDeadline = 15 * time.Minute
	snapshotTTL      = time.Hour
)

// TerminationMessage is the file whose contents Kubernetes shows as the last words of a container.
const TerminationMessage = "/dev/termination-log"

// snapshotScript takes, verifies and keeps a snapshot.
//
//go:embed snapshot.sh
var snapshotScript string

// SnapshotClaimName is the PersistentVolumeClaim that keeps the snapshots which
// are taken before upgrades.
func SnapshotClaimName(cluster string) string { return cluster + "-snapshots" }

// SnapshotJobName is the Job that takes them.
func SnapshotJobName(cluster string) string { return cluster + "-snapshot" }

// SnapshotContainerName is the container of the Job whose last words ParseSnapshot reads.
const SnapshotContainerName = "snapshot"

// SnapshotLabels are on the Job, its pod, and the claim. They prove ownership like OwnerLabels, but do not
// select servers.
func SnapshotLabels(cluster string) map[string]string {
	l := OwnerLabels(cluster)
	l[LabelComponent] = "snapshot"
	return l
}

// SnapshotClaim renders the claim. Its volume has the class and size of the volume of a server: three
// snapshots, which are compressed, need less space than the data.
func SnapshotClaim(s Spec) *corev1.PersistentVolumeClaim {
	m := meta(s, SnapshotClaimName(s.Name))
	m.Labels = s.Labeled(SnapshotLabels(s.Name))
	claim := &corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: m,
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: s.Storage.Size},
			},
			StorageClassName: s.Storage.ClassName(),
		},
	}
	return claim
}

// SnapshotJob renders the Job that takes a snapshot of servers which run s, with the management token in a key
// of a Secret; secret is "" where ACLs are off. It runs where servers may run, with the same user, and accesses
// them as NewAccess says.
func SnapshotJob(s Spec, secret, key string) *batchv1.Job {
	m := meta(s, SnapshotJobName(s.Name))
	m.Labels = s.Labeled(SnapshotLabels(s.Name))
	access := NewAccess(s, secret, key)
	template := JobPod(s, SnapshotLabels(s.Name))
	template.Labels[LabelVersion] = s.Version
	template.Spec.Volumes = append([]corev1.Volume{
		{Name: snapshotVolume, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
			ClaimName: SnapshotClaimName(s.Name),
		}}},
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}, access.Volumes...)
	c := JobContainer(s, SnapshotContainerName, s.Image)
	c.Command = []string{"/bin/sh", "-c", snapshotScript}
	c.Args = append([]string{"sh", snapshotDir, s.Version, access.Address, TerminationMessage}, access.TokenFile...)
	c.Env = access.Env
	c.VolumeMounts = append([]corev1.VolumeMount{
		{Name: snapshotVolume, MountPath: snapshotDir},
		{Name: "tmp", MountPath: "/tmp"}, // the inspection unpacks there
	}, access.Mounts...)
	template.Spec.Containers = []corev1.Container{c}
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: m,
		Spec: batchv1.JobSpec{
			BackoffLimit:            new(int32(0)), // the script retries by itself
			ActiveDeadlineSeconds:   new(int64(snapshotDeadline.Seconds())),
			TTLSecondsAfterFinished: new(int32(snapshotTTL.Seconds())),
			Template:                template,
		},
	}
}

// Access is what a container with the command consul needs to access the servers.
type Access struct {
	// Address of the client Service, a URL, or of the headless Service while the client Service selects no
	// server.
	Address string
	// TokenFile is the path of the token, "" without a token.
	TokenFile []string
	Env       []corev1.EnvVar
	Mounts    []corev1.VolumeMount
	Volumes   []corev1.Volume
}

// NewAccess returns the access to servers which run s, with the token in a key of a
// Secret; secret is "" where ACLs are off.
func NewAccess(s Spec, secret, key string) Access {
	service := ClientServiceName(s.Name)
	if s.Origin.Pending() {
		service = StatefulSetName(s.Name)
	}
	a := Access{Address: fmt.Sprintf("http://%s.%s.svc:%d", service, s.Namespace, PortHTTP)}
	if s.TLS.Stage == StageEncrypted {
		a.Address = fmt.Sprintf("https://%s.%s.svc:%d", service, s.Namespace, s.TLS.HTTPSPort)
	}
	switch {
	case s.TLS.Stage != StageEncrypted:
	case s.TLS.VerifyClients: // with the certificate of the servers
		a.Env = []corev1.EnvVar{
			{Name: "CONSUL_CACERT", Value: tlsDir + "/" + TLSCAKey},
			{Name: "CONSUL_CLIENT_CERT", Value: tlsDir + "/" + TLSCertKey},
			{Name: "CONSUL_CLIENT_KEY", Value: tlsDir + "/" + TLSKeyKey},
		}
		a.Volumes, a.Mounts = tlsVolumes(s)
	default:
		a.Env = []corev1.EnvVar{{Name: "CONSUL_CACERT", Value: "/ca/" + TLSCAKey}}
		a.Mounts = []corev1.VolumeMount{{Name: snapshotCA, MountPath: "/ca", ReadOnly: true}}
		a.Volumes = []corev1.Volume{{Name: snapshotCA, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: CAName(s.Name)},
		}}}}
	}
	if secret != "" {
		a.TokenFile = []string{"/token/token"}
		a.Mounts = append(a.Mounts, corev1.VolumeMount{Name: snapshotTokens, MountPath: "/token", ReadOnly: true})
		a.Volumes = append(a.Volumes, corev1.Volume{Name: snapshotTokens, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: secret, Items: []corev1.KeyToPath{{Key: key, Path: "token"}}, DefaultMode: new(int32(0o440)),
		}}})
	}
	return a
}

// JobSettings is what is declared for the pods of Jobs. The zero value uses what is declared for the servers.
type JobSettings struct {
	// Resources of each container; nil for those of a server.
	Resources *Resources `json:"resources,omitempty"`
	// PodLabels and PodAnnotations are put on the pods, which have none of those of the servers' pods.
	PodLabels      map[string]string `json:"pod_labels,omitempty"`
	PodAnnotations map[string]string `json:"pod_annotations,omitempty"`
}

// With returns the settings with others over them.
func (j JobSettings) With(over JobSettings) JobSettings {
	j.Resources = cmp.Or(over.Resources, j.Resources)
	j.PodLabels, j.PodAnnotations = merged(j.PodLabels, over.PodLabels), merged(j.PodAnnotations, over.PodAnnotations)
	return j
}

// outOfMeshes returns the labels and annotations that keep service meshes from putting a sidecar into a pod: a sidecar would
// not end with the containers of a Job, and would keep the Job running until its deadline. Jobs work without a sidecar.
func outOfMeshes() (labels, annotations map[string]string) {
	return map[string]string{
			"sidecar.istio.io/inject":   "false",    // istio.io/latest/docs/setup/additional-setup/sidecar-injection
			"kuma.io/sidecar-injection": "disabled", // kuma.io/docs/latest/reference/kubernetes-annotations
		}, map[string]string{
			"sidecar.istio.io/inject":                "false",    // as older releases of Istio read it
			"linkerd.io/inject":                      "disabled", // linkerd.io/2/reference/proxy-configuration
			"consul.hashicorp.com/connect-inject":    "false",    // developer.hashicorp.com/consul/docs/reference/k8s/annotation-label
			"kuma.io/sidecar-injection":              "disabled",
			"appmesh.k8s.aws/sidecarInjectorWebhook": "disabled",
			"openservicemesh.io/sidecar-injection":   "disabled",
		}
}

// JobPod renders what pods of Jobs have in common: they run where servers may run, with the same user, and pass
// the Pod Security standard "restricted". They do not have the labels that select the servers' pods, and no
// sidecar of a service mesh. The result has no container.
func JobPod(s Spec, labels map[string]string) corev1.PodTemplateSpec {
	meshLabels, meshAnnotations := outOfMeshes()
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      merged(s.Labels, meshLabels, s.Jobs.PodLabels, labels),
			Annotations: merged(meshAnnotations, s.Jobs.PodAnnotations),
		},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			ServiceAccountName:            StatefulSetName(s.Name), // may have the credentials to pull the image
			AutomountServiceAccountToken:  new(false),
			EnableServiceLinks:            new(false),
			TerminationGracePeriodSeconds: new(int64(1)),
			NodeSelector:                  s.Placement.NodeSelector,
			Tolerations:                   s.Placement.Tolerations,
			ImagePullSecrets:              s.Pod.pullSecrets(),
			SecurityContext:               s.Pod.securityContext(),
		},
	}
}

// JobContainer renders what containers of Jobs have in common. It has no command.
func JobContainer(s Spec, name, image string) corev1.Container {
	return corev1.Container{
		Name:            name,
		Image:           image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Resources:       cmp.Or(s.Jobs.Resources, &s.Resources).Requirements(),
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		TerminationMessagePath:   TerminationMessage,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// ParseSnapshot reads the termination message of the Job's pod.
func ParseSnapshot(cluster, message string) (Snapshot, error) {
	var s Snapshot
	if err := json.Unmarshal([]byte(message), &s); err != nil {
		return Snapshot{}, fmt.Errorf("its result %q cannot be read: %w", message, err)
	}
	s.Claim = SnapshotClaimName(cluster)
	switch {
	case s.File == "" || strings.Contains(s.File, "/"):
		return Snapshot{}, fmt.Errorf("its result names no file: %q", message)
	case s.Index == 0 || s.Term == 0 || s.Size == 0 || len(s.SHA256) != 64:
		return Snapshot{}, errors.New("its result does not describe a complete snapshot: " + message)
	}
	return s, nil
}

// SnapshotManager is the field manager that records a snapshot on the ConfigMap: the provider's applies do not change what it has written.
const SnapshotManager = ManagedBy + "-snapshot"

// SnapshotPatch is a merge patch of the StatefulSet, and of the ConfigMap, that records a snapshot.
func SnapshotPatch(s Snapshot) []byte {
	return fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, AnnotationUpgradeSnapshot, compactJSON(s))
}

// SnapshotCopy reads Spec.UpgradeSnapshot from the ConfigMap, nil if that does not have it.
func (o Set) SnapshotCopy() *Snapshot {
	if o.Config == nil {
		return nil
	}
	return annotated[*Snapshot](o.Config.Annotations[AnnotationUpgradeSnapshot], nil)
}
