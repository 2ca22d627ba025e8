package acctest

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/pki"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/localcluster"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

// BackupImages loads the images of restic and of an S3 server into the nodes of the disposable cluster.
func BackupImages(ctx context.Context, c *localcluster.Cluster) error {
	if err := c.AddBackupImages(ctx); err != nil {
		return err
	}
	return c.NameImage(ctx, localcluster.ResticImage, restic.DefaultImage)
}

// Credentials of the S3 server of StartS3, and of the repositories in it, as restic reads them.
func Credentials() map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID":     "backup",
		"AWS_SECRET_ACCESS_KEY": "secret-of-the-store",
		"RESTIC_PASSWORD":       "password-of-the-repository",
	}
}

// StartS3 starts an S3 server with a bucket "bucket" in a namespace, and returns its URL. Its data is lost with its
// pod, "s3".
func StartS3(t testing.TB, namespace string) string {
	t.Helper()
	return startS3(t, namespace, corev1.EmptyDirVolumeSource{})
}

// StartSmallS3 is StartS3 with a disk of a size.
func StartSmallS3(t testing.TB, namespace, size string) string {
	t.Helper()
	return startS3(t, namespace, corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse(size))})
}

func startS3(t testing.TB, namespace string, disk corev1.EmptyDirVolumeSource) string {
	t.Helper()
	c := Credentials()
	return "http://" + startStore(t, namespace, 7070, corev1.Container{
		Name: "s3", Image: localcluster.S3Image,
		Args: []string{"--port", ":7070", "posix", "--sidecar", "/sidecar", "/data"},
		Env: []corev1.EnvVar{
			{Name: "ROOT_ACCESS_KEY", Value: c["AWS_ACCESS_KEY_ID"]},
			{Name: "ROOT_SECRET_KEY", Value: c["AWS_SECRET_ACCESS_KEY"]},
		},
		Lifecycle: &corev1.Lifecycle{
			PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"mkdir", "/data/bucket"}}},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "sidecar", MountPath: "/sidecar"}},
	}, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &disk}},
		corev1.Volume{Name: "sidecar", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
}

// StartREST starts restic's REST server, which only serves HTTPS, in a namespace. It returns a repository on it and
// the Secret data that the repository requires: the authority to trust, a client certificate, a user, and a password.
func StartREST(t testing.TB, namespace string) (repository string, credentials map[string]string) {
	t.Helper()
	authority, err := pki.NewCA("ECDSA-P256", "store", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issue := func(name string) (chain, key []byte) {
		t.Helper()
		c, err := pki.NewServer(authority, "ECDSA-P256", name, []string{name + "." + namespace + ".svc"}, nil, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if chain, key, err = c.PEM(); err != nil {
			t.Fatal(err)
		}
		return chain, key
	}
	chain, key := issue("rest")
	clientChain, clientKey := issue("client")
	ca := pki.EncodeCertificates(authority.Chain)
	user, password := "backup", rand.String(20)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Kube(t).CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "rest-server"},
		Data:       map[string][]byte{"ca.crt": ca, "tls.crt": chain, "tls.key": key, "htpasswd": fmt.Appendf(nil, "%s:%s\n", user, hash)},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	host := startStore(t, namespace, 8000, corev1.Container{
		Name: "rest", Image: localcluster.RESTServerImage,
		Command: []string{"/bin/sh", "-euc", `rest-server --path=/tmp/data --listen=127.0.0.1:8001 --htpasswd-file=/etc/rest/htpasswd &
exec socat OPENSSL-LISTEN:8000,reuseaddr,fork,cert=/etc/rest/tls.crt,key=/etc/rest/tls.key,cafile=/etc/rest/ca.crt,verify=1 \
  TCP:127.0.0.1:8001`},
		VolumeMounts: []corev1.VolumeMount{{Name: "secret", MountPath: "/etc/rest"}},
	}, corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "rest-server"}}})
	return "rest:https://" + host + "/consul", map[string]string{
		"RESTIC_PASSWORD": "password-of-the-repository", "RESTIC_REST_USERNAME": user, "RESTIC_REST_PASSWORD": password,
		"ca.crt": string(ca), "tls.crt": string(clientChain), "tls.key": string(clientKey),
	}
}

// StartSFTP starts an SFTP server in a namespace. It returns a repository on it and the Secret data that the
// repository requires: a private key that the server accepts, and the public key of the server.
func StartSFTP(t testing.TB, namespace string) (repository string, credentials map[string]string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "backup")
	if err != nil {
		t.Fatal(err)
	}
	let, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	host := startStore(t, namespace, 2222, corev1.Container{
		Name: "sftp", Image: localcluster.SFTPImage,
		Command: []string{"/bin/sh", "-euc", `umask 077; mkdir -p /consul/.ssh; echo "$AUTHORIZED" >/consul/.ssh/authorized_keys
dropbearkey -t ed25519 -f /tmp/host-key >/dev/null; exec dropbear -F -E -s -p 2222 -r /tmp/host-key -P /tmp/pid`},
		Env: []corev1.EnvVar{{Name: "AUTHORIZED", Value: string(ssh.MarshalAuthorizedKey(let))}},
	})
	known, err := Kube(t).Exec(t.Context(), namespace, "sftp", "sftp", nil, "/bin/sh", "-c", "dropbearkey -y -f /tmp/host-key | grep ^ssh-")
	if err != nil {
		t.Fatal(err)
	}
	name, port, _ := strings.Cut(host, ":")
	return "sftp://consul@" + host + "//consul/data/repository", map[string]string{
		"RESTIC_PASSWORD": "password-of-the-repository", "ssh-privatekey": string(pem.EncodeToMemory(block)),
		"known_hosts": fmt.Sprintf("[%s]:%s %s", name, port, known),
	}
}

// startStore starts a server of one container in a pod, behind a Service with the name of the container, and returns
// its host and port.
func startStore(t testing.TB, namespace string, port int32, c corev1.Container, volumes ...corev1.Volume) string {
	t.Helper()
	k := Kube(t)
	c.ReadinessProbe = &corev1.Probe{
		PeriodSeconds: 1,
		ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}},
	}
	pod := restricted(namespace, c.Name, c, volumes...)
	pod.Labels = map[string]string{"app": c.Name}
	if _, err := k.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: c.Name},
		Spec:       corev1.ServiceSpec{Selector: pod.Labels, Ports: []corev1.ServicePort{{Port: port}}},
	}
	if _, err := k.CoreV1().Services(namespace).Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	Wait(t, "the server "+c.Name, func(ctx context.Context) (string, error) {
		p, err := k.CoreV1().Pods(namespace).Get(ctx, c.Name, metav1.GetOptions{})
		if err != nil || len(p.Status.ContainerStatuses) == 0 || !p.Status.ContainerStatuses[0].Ready {
			return "it is not ready", err
		}
		return "", nil
	})
	return fmt.Sprintf("%s.%s.svc:%d", c.Name, namespace, port)
}

// InS3 runs a shell script in the pod of the S3 server, whose bucket is below /data, and returns its output.
func InS3(t testing.TB, namespace, script string, args ...string) string {
	t.Helper()
	out, err := Kube(t).Exec(t.Context(), namespace, "s3", "s3", nil, append([]string{"/bin/sh", "-euc", script, "sh"}, args...)...)
	if err != nil {
		t.Fatalf("%s: %v %s", script, err, out)
	}
	return out
}

// Damage overwrites a byte in the middle of the files of the S3 server that match a pattern.
func Damage(t testing.TB, namespace, pattern string) {
	t.Helper()
	if InS3(
		t,
		namespace,
		`for f in $1; do printf X | dd of="$f" bs=1 seek=$(($(stat -c %s "$f") / 2)) conv=notrunc 2>/dev/null; echo "$f"; done`,
		pattern,
	) == "" {
		t.Fatalf("there is nothing to damage: %s", pattern)
	}
}

// ClaimForBackups creates a volume claim "backups", and the Secret "restic" with the credentials of a repository on
// it.
func ClaimForBackups(t testing.TB, namespace string) {
	t.Helper()
	k := Kube(t)
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "backups"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("100Mi")}},
		},
	}
	if _, err := k.CoreV1().PersistentVolumeClaims(namespace).Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "restic"}, StringData: Credentials()}
	if _, err := k.CoreV1().Secrets(namespace).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Restic runs a shell script in a pod that has restic, with the repository and the keys of a Secret in its
// environment, and returns its output.
func Restic(t testing.TB, namespace, repository, secret, script string) string {
	t.Helper()
	k := Kube(t)
	pod := restricted(namespace, "restic-"+rand.String(5), corev1.Container{
		Name: "restic", Image: localcluster.ResticImage, Command: []string{"/bin/sh", "-euc", script},
		Env:     []corev1.EnvVar{{Name: "RESTIC_REPOSITORY", Value: repository}, {Name: "RESTIC_CACHE_DIR", Value: "/tmp/cache"}},
		EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}}},
	})
	if _, err := k.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var phase corev1.PodPhase
	Wait(t, "restic", func(ctx context.Context) (string, error) {
		p, err := k.CoreV1().Pods(namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if phase = p.Status.Phase; phase == corev1.PodSucceeded || phase == corev1.PodFailed {
			return "", nil
		}
		return "it runs", nil
	})
	out, err := k.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil || phase != corev1.PodSucceeded {
		t.Fatalf("restic: %v\n%s", err, out)
	}
	if err := k.CoreV1().Pods(namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// restricted is a pod that the Pod Security standard "restricted" admits.
func restricted(namespace, name string, c corev1.Container, volumes ...corev1.Volume) *corev1.Pod {
	c.SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: new(false), TerminationGracePeriodSeconds: new(int64(1)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(100)), RunAsGroup: new(int64(1000)), FSGroup: new(int64(1000)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{c}, Volumes: volumes,
		},
	}
}
