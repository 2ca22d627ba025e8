package acctest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/load"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/localcluster"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Load is a pod that writes and reads keys through the client Service of the cluster "consul" at a steady rate,
// whether earlier requests have ended or not, and can hold a lock (package load).
type Load struct {
	t         testing.TB
	namespace string
	pod       string
	prefix    string
	report    *load.Report // at the end
}

// LoadOptions are the options of a Load.
type LoadOptions struct {
	// Secret whose key "token" has the token to use, as soon as it has reached the pod. "" uses none.
	Secret string
	// Rate is the number of writes per second, and that of reads. 0 means 50.
	Rate int
	// Lock says that it also holds a lock, as Vault does; see HoldsLock.
	Lock bool
}

const (
	// loadProgram is the path of the program in its pod.
	loadProgram = "/program/load"
	// loadScript starts the program once it exists.
	loadScript = `until [ -x ` + loadProgram + ` ]; do sleep 0.1; done; exec ` + loadProgram + ` "$@"`
	// loadCopy reads the n bytes of the program from standard input.
	loadCopy = `head -c "$1" >` + loadProgram + `.part && chmod 0755 ` + loadProgram + `.part && mv ` + loadProgram + `.part ` + loadProgram
)

// StartLoad starts a Load beside the servers, and returns when it sends requests. It ends by itself after half an
// hour.
func StartLoad(t testing.TB, namespace string, o LoadOptions) *Load {
	t.Helper()
	k := Kube(t)
	l := &Load{t: t, namespace: namespace, pod: "load-" + rand.String(5)}
	l.prefix = "written/" + l.pod + "/"
	service, err := k.CoreV1().Services(namespace).Get(t.Context(), server.ClientServiceName("consul"), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"-url=http://" + net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(server.PortHTTP)),
		"-prefix=" + l.prefix, "-rate=" + strconv.Itoa(cmp.Or(o.Rate, 50)),
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: l.pod},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			AutomountServiceAccountToken:  new(false),
			TerminationGracePeriodSeconds: new(int64(1)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65534)), RunAsGroup: new(int64(65534)), FSGroup: new(int64(65534)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "load", Image: localcluster.BusyboxImage,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "program", MountPath: filepath.Dir(loadProgram)}},
			}},
			Volumes: []corev1.Volume{{Name: "program", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
	container := &pod.Spec.Containers[0]
	if o.Lock {
		args = append(args, "-lock=lock/"+l.pod)
	}
	if o.Secret != "" {
		args = append(args, "-token-file=/token/token")
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "token", MountPath: "/token", ReadOnly: true})
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "token", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: o.Secret, Optional: new(true)},
		}})
	}
	container.Command = append([]string{"/bin/sh", "-c", loadScript, "load"}, args...)
	pods := k.CoreV1().Pods(namespace)
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	Wait(t, "the pod of the load to run", func(ctx context.Context) (string, error) {
		pod, err = pods.Get(ctx, l.pod, metav1.GetOptions{})
		if err != nil || pod.Status.Phase == corev1.PodRunning {
			return "", err
		}
		return "it is " + string(pod.Status.Phase), nil
	})
	node, err := k.CoreV1().Nodes().Get(t.Context(), pod.Spec.NodeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	program := buildLoad(t, node.Status.NodeInfo.Architecture)
	_, err = k.Exec(
		t.Context(),
		namespace,
		l.pod,
		"load",
		bytes.NewReader(program),
		"/bin/sh",
		"-c",
		loadCopy,
		"copy",
		strconv.Itoa(len(program)),
	)
	if err != nil {
		t.Fatal(err)
	}
	l.More(1)
	return l
}

// buildLoad builds the program for Linux. The program is copied into its pod, so it needs no registry and runs in any
// cluster.
func buildLoad(t testing.TB, architecture string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "load")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file,
		"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/load/cmd/load")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the load: %v: %s", err, out)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// latest reads the newest report.
func (l *Load) latest(ctx context.Context) (r load.Report, err error) {
	log, err := Kube(l.t).CoreV1().Pods(l.namespace).GetLogs(l.pod, &corev1.PodLogOptions{}).DoRaw(ctx)
	if err != nil {
		return r, fmt.Errorf("reading the log of the load: %w", err)
	}
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &r); err != nil {
		return r, fmt.Errorf("reading the report of the load %q: %w", lines[len(lines)-1], err)
	}
	return r, nil
}

// until waits for a report for which enough returns "".
func (l *Load) until(what string, enough func(load.Report) (missing string)) (r load.Report) {
	l.t.Helper()
	Wait(l.t, what, func(ctx context.Context) (missing string, err error) {
		if r, err = l.latest(ctx); err != nil {
			return err.Error(), nil
		}
		if missing = enough(r); missing != "" && r.Done {
			return "", fmt.Errorf("it has ended: %s", missing)
		}
		return missing, nil
	})
	return r
}

// More waits until n more requests have ended, whether they succeeded or failed.
func (l *Load) More(n int) {
	l.t.Helper()
	from := -1
	l.until("more requests to end", func(r load.Report) string {
		if from < 0 {
			from = r.Requests
		}
		if r.Requests < from+n {
			return fmt.Sprintf("%d of %d have", r.Requests-from, n)
		}
		return ""
	})
}

// HasToken waits until requests use the nth token.
func (l *Load) HasToken(n int) {
	l.t.Helper()
	l.until(fmt.Sprintf("token %d to be used", n), func(r load.Report) string {
		if r.Tokens < n {
			return fmt.Sprintf("%d were seen so far", r.Tokens)
		}
		return ""
	})
}

// HoldsLock waits until the lock is held.
func (l *Load) HoldsLock() {
	l.t.Helper()
	l.until("the lock to be held", func(r load.Report) string {
		switch {
		case r.Lock == nil:
			return "the load has no lock"
		case !r.Lock.Held():
			return fmt.Sprintf("acquired %d times, lost %d times; latest error: %q", r.Lock.Acquired, r.Lock.Lost, r.Lock.Error)
		}
		return ""
	})
}

// Stop sends no more requests, waits for those in progress, deletes the pod, and returns the results of all of them.
func (l *Load) Stop() load.Report {
	l.t.Helper()
	if l.report != nil {
		return *l.report
	}
	k := Kube(l.t)
	if _, err := k.Exec(l.t.Context(), l.namespace, l.pod, "load", nil, "kill", "-TERM", "1"); err != nil {
		l.t.Logf("ending the load, which may have ended by itself: %v", err)
	}
	r := l.until("the load to end", func(r load.Report) string {
		if !r.Done {
			return fmt.Sprintf("%d requests have ended", r.Requests)
		}
		return ""
	})
	l.report = &r
	if err := k.CoreV1().Pods(l.namespace).Delete(l.t.Context(), l.pod, metav1.DeleteOptions{}); err != nil {
		l.t.Error(err)
	}
	l.t.Logf("%d of %d requests failed; half of all took less than %s, 99 of 100 less than %s, the slowest %s",
		r.Failed, r.Requests, round(r.P50), round(r.P99), round(r.Max))
	if r.Lock != nil {
		l.t.Logf("the lock was lost %d times; the longest time without a holder was %s", r.Lock.Lost, round(r.Lock.LongestWithout))
	}
	return r
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// Lost stops the Load and returns the keys whose write was acknowledged, and that do not have the written value.
func (l *Load) Lost(token string) (lost []string, err error) {
	l.t.Helper()
	r := l.Stop()
	written := map[string]string{}
	err = Consul(l.t, l.namespace, "consul").Any(l.t.Context(), token, func(c *api.Client) error {
		pairs, _, err := c.KV().List(l.prefix, &api.QueryOptions{RequireConsistent: true})
		for _, p := range pairs {
			written[p.Key] = string(p.Value)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading what the load wrote: %w", err)
	}
	for _, a := range r.Acknowledged {
		for n := a.First; n <= a.Last; n++ {
			if key := load.Key(l.prefix, n); written[key] != load.Value(key) {
				lost = append(lost, key)
			}
		}
	}
	return lost, nil
}

// Verify stops the Load and returns an error if more than some requests failed, a written key does not exist, or the
// lock was lost.
func (l *Load) Verify(token string, mayFail int) error {
	l.t.Helper()
	r := l.Stop()
	if r.Failed > mayFail || len(r.Acknowledged) == 0 {
		var texts []string
		for _, f := range r.Failures {
			texts = append(texts, fmt.Sprintf("%s %s, after %s: %s", f.Due.Format("15:04:05.000"), f.Kind, round(f.Took), f.Error))
		}
		return fmt.Errorf("%d of %d requests failed:\n%s", r.Failed, r.Requests, strings.Join(texts, "\n"))
	}
	if r.Lock != nil && (r.Lock.Lost > 0 || !r.Lock.Held()) {
		return fmt.Errorf("the lock was acquired %d times and lost %d times, and was without a holder for up to %s; latest error: %q",
			r.Lock.Acquired, r.Lock.Lost, round(r.Lock.LongestWithout), r.Lock.Error)
	}
	lost, err := l.Lost(token)
	if err == nil && len(lost) > 0 {
		err = fmt.Errorf("%d writes that were acknowledged are lost: %q", len(lost), lost[:min(10, len(lost))])
	}
	return err
}
