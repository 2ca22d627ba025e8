package acctest

import (
	"context"
	_ "embed" // writer.sh
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
)

// Writer is a pod that writes one key after another, below "written/", through the client Service of the cluster
// "consul", each on a new connection, and prints the results. It uses the token in the key "token" of a Secret as
// soon as that has reached the pod, and notices when it changes.
type Writer struct {
	t         *testing.T
	namespace string
}

// WriterRules grant a token exactly the writes of a Writer.
const WriterRules = `key_prefix "written/" { policy = "write" }`

//go:embed writer.sh
var writerScript string

// StartWriter starts a Writer beside the servers.
func StartWriter(t *testing.T, namespace, secret string) *Writer {
	t.Helper()
	return StartWriterTo(t, namespace, secret, "consul")
}

// StartWriterTo starts a Writer that writes through another Service.
func StartWriterTo(t *testing.T, namespace, secret, service string) *Writer {
	t.Helper()
	yes, no := true, false
	// Prefer the address to the name: a lost lookup is not a failed request.
	svc, err := Kube(t).CoreV1().Services(namespace).Get(t.Context(), service, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		service = svc.Spec.ClusterIP
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "writer", Namespace: namespace},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken:  &no,
			TerminationGracePeriodSeconds: new(int64(1)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: new(int64(100)), RunAsGroup: new(int64(1000)), FSGroup: new(int64(1000)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "writer", Image: "docker.io/hashicorp/consul:" + ConsulVersion,
				Command: []string{"/bin/sh", "-c", writerScript},
				Env:     []corev1.EnvVar{{Name: "SCRIPT", Value: writerScript}, {Name: "ADDRESS", Value: service}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no,
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "token", MountPath: "/token", ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{
				Secret: &corev1.SecretVolumeSource{SecretName: secret, Optional: &yes},
			}}},
		},
	}
	if _, err := Kube(t).CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return &Writer{t: t, namespace: namespace}
}

// Stop deletes the pod.
func (w *Writer) Stop() {
	if err := Kube(w.t).CoreV1().Pods(w.namespace).Delete(w.t.Context(), "writer", metav1.DeleteOptions{}); err != nil {
		w.t.Error(err)
	}
}

func (w *Writer) log(ctx context.Context) ([]string, error) {
	log, err := Kube(w.t).CoreV1().Pods(w.namespace).GetLogs("writer", &corev1.PodLogOptions{}).DoRaw(ctx)
	return strings.Split(strings.TrimSpace(string(log)), "\n"), err
}

// More waits for n more writes.
func (w *Writer) More(n int) {
	w.t.Helper()
	from := -1
	Wait(w.t, "the writer to write", func(ctx context.Context) (string, error) {
		lines, err := w.log(ctx)
		if err != nil {
			return err.Error(), nil
		}
		if from < 0 {
			from = len(lines)
		}
		if len(lines) < from+n {
			return fmt.Sprintf("%d of %d writes since: %q", len(lines)-from, n, lines[max(0, len(lines)-3):]), nil
		}
		return "", nil
	})
}

// HasToken waits until the writer uses its nth token.
func (w *Writer) HasToken(n int) {
	w.t.Helper()
	line := fmt.Sprintf("token %d", n)
	Wait(w.t, "the writer to have "+line, func(ctx context.Context) (string, error) {
		lines, err := w.log(ctx)
		if err == nil && slices.Contains(lines, line) {
			return "", nil
		}
		return fmt.Sprintf("it says %q, %v", lines[max(0, len(lines)-1):], err), nil
	})
}

// Verify returns an error unless every write was acknowledged and exists. A leader may refuse a few writes during a
// leadership transfer, which are logged: Consul cannot transfer the leadership without that.
func (w *Writer) Verify(token string) error {
	return w.VerifyWith(Consul(w.t, w.namespace, "consul"), token)
}

// whileTheLeaderMoves are the errors that a leader returns during a leadership transfer, each with the number of writes that may
// fail with it: for new writes, for a write that it has not committed yet, and for one that arrives when it has just stepped down
// (raft.ErrLeadershipTransferInProgress, raft.ErrLeadershipLost and raft.ErrNotLeader of hashicorp/raft). A transfer takes milliseconds.
var whileTheLeaderMoves = map[string]int{
	"leadership transfer in progress": 5, "leadership lost while committing log": 1, "raft apply failed: node is not the leader": 1,
}

// VerifyWith is Verify for the keys of other servers.
func (w *Writer) VerifyWith(servers *consul.Cluster, token string) error {
	acknowledged, failed, err := w.results()
	if err != nil {
		return err
	}
	left := maps.Clone(whileTheLeaderMoves)
	failed = slices.DeleteFunc(failed, func(l string) bool {
		for text, n := range left {
			if n > 0 && strings.Contains(l, text) {
				left[text]--
				w.t.Logf("tolerated: %s", l)
				return true
			}
		}
		return false
	})
	if len(failed) > 0 || len(acknowledged) == 0 {
		return fmt.Errorf("%d of %d writes failed: %q", len(failed), len(failed)+len(acknowledged), failed[:min(10, len(failed))])
	}
	return w.lost(servers, token, acknowledged)
}

// VerifyNoneLost returns an error unless every acknowledged write exists, however many were refused: for tests in
// which a server dies.
func (w *Writer) VerifyNoneLost(token string) error {
	acknowledged, failed, err := w.results()
	if err != nil {
		return err
	}
	if len(acknowledged) == 0 {
		return fmt.Errorf("no write was acknowledged: %q", failed[:min(10, len(failed))])
	}
	return w.lost(Consul(w.t, w.namespace, "consul"), token, acknowledged)
}

// results are the numbers of the acknowledged writes, and the errors of the others.
func (w *Writer) results() (acknowledged, failed []string, err error) {
	lines, err := w.log(w.t.Context())
	if err != nil {
		return nil, nil, err
	}
	slowest := 0.0
	for _, l := range lines {
		var n string
		var started, ended float64 // seconds
		if _, err := fmt.Sscanf(l, "ok %s %f %f", &n, &started, &ended); err == nil {
			acknowledged = append(acknowledged, n)
			slowest = max(slowest, ended-started)
		} else if !strings.HasPrefix(l, "token ") {
			failed = append(failed, l)
		}
	}
	w.t.Logf("%d writes acknowledged, %d failed, the slowest took %.2fs", len(acknowledged), len(failed), slowest)
	return acknowledged, failed, nil
}

// lost returns an error that names an acknowledged write that is missing.
func (w *Writer) lost(servers *consul.Cluster, token string, acknowledged []string) error {
	written := map[string]string{}
	err := servers.Any(w.t.Context(), token, func(c *api.Client) error {
		pairs, _, err := c.KV().List("written/", &api.QueryOptions{RequireConsistent: true})
		for _, p := range pairs {
			written[strings.TrimPrefix(p.Key, "written/")] = string(p.Value)
		}
		return err
	})
	for _, n := range acknowledged {
		if err == nil && written[n] != n {
			err = fmt.Errorf("the write of %s was acknowledged, but the key has %q", n, written[n])
		}
	}
	return err
}
