package kube_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/localcluster"
)

func TestMain(m *testing.M) { acctest.Main(m) }

const (
	// port is the port of the server of a test.
	port = 8080
	// prompt is longer than anything takes that does not hang: a hang in these tests lasts 30 s.
	prompt = 15 * time.Second
	// crowd is the number of simultaneous connections: enough to reach every worker of a port-forward several times.
	crowd = 20
)

func TestAccPodDialer_refusedConnectionHarmsNoOther(t *testing.T) {
	k, pod := startPod(t, fmt.Sprintf("until [ -e /tmp/listen ]; do sleep 0.1; done; exec httpd -f -p %d -h /tmp", port))
	dialer := k.PodDialer(pod.Namespace, pod.Name)
	for round := range 3 {
		for i, err := range together(func() error { return get(t.Context(), dialer) }) {
			if err == nil || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("round %d, request %d: the server does not listen yet, and the error is: %v", round, i, err)
			}
		}
	}
	if _, err := k.Exec(t.Context(), pod.Namespace, pod.Name, "shell", nil, "touch", "/tmp/listen"); err != nil {
		t.Fatal(err)
	}
	acctest.Wait(t, "the server to listen", answers(dialer))
	for i, err := range together(func() error { return get(t.Context(), dialer) }) {
		if err != nil {
			t.Errorf("request %d to a server that listens: %v", i, err)
		}
	}
}

func TestAccPodDialer_unreadResponseHarmsNoOther(t *testing.T) {
	k, pod := startPod(
		t,
		fmt.Sprintf("dd if=/dev/zero of=/tmp/large bs=1024 count=4096; touch /tmp/listen; exec httpd -f -p %d -h /tmp", port),
	)
	dialer := k.PodDialer(pod.Namespace, pod.Name)
	acctest.Wait(t, "the server to listen", answers(dialer))
	for i, err := range together(func() error {
		_, err := request(t, dialer, "GET /large HTTP/1.0\r\n\r\n")
		return err
	}) {
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	for i, err := range together(func() error { return get(t.Context(), dialer) }) {
		if err != nil {
			t.Errorf("request %d beside unread responses: %v", i, err)
		}
	}
}

func TestAccPodDialer_connectionEndsWithThePod(t *testing.T) {
	k, pod := startPod(t, fmt.Sprintf("touch /tmp/listen; exec httpd -f -p %d -h /tmp", port))
	dialer := k.PodDialer(pod.Namespace, pod.Name)
	acctest.Wait(t, "the server to listen", answers(dialer))
	conns := make(chan net.Conn, crowd)
	for i, err := range together(func() error {
		c, err := request(t, dialer, "GET /listen HTTP/1.1\r\n") // an incomplete request, which gets no answer
		conns <- c
		return err
	}) {
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	if err := k.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	late := time.After(2 * prompt)
	for range crowd {
		c := <-conns
		ended := make(chan struct{})
		go func() {
			_, _ = io.Copy(io.Discard, c)
			close(ended)
		}()
		select {
		case <-ended:
		case <-late:
			t.Fatal("a connection to a pod that is gone does not end")
		}
	}
	if err := get(t.Context(), dialer); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request to a pod that is gone: %v", err)
	}
}

// request opens a connection, writes to it, and reads nothing. The connection is closed when the test ends.
func request(t *testing.T, dialer *kube.PodDialer, text string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.Context(), prompt)
	defer cancel()
	c, err := dialer.Dial(ctx, port)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, text)
	return c, err
}

// answers is a condition to wait for. A request that hangs ends the wait.
func answers(dialer *kube.PodDialer) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		err := get(ctx, dialer)
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			return "", err
		}
		return err.Error(), nil
	}
}

// get sends a request on a new connection.
func get(ctx context.Context, dialer *kube.PodDialer) error {
	ctx, cancel := context.WithTimeout(ctx, prompt)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.Dial(ctx, port)
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://pod/listen", nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// together calls a function many times at once and returns the errors.
func together(do func() error) []error {
	errs := make([]error, crowd)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = do() })
	}
	wg.Wait()
	return errs
}

// startPod starts a pod that runs a shell script, in its own namespace.
func startPod(t *testing.T, script string) (*kube.Client, *corev1.Pod) {
	t.Helper()
	acctest.PreCheck(t)
	k := acctest.Kube(t)
	pods := k.CoreV1().Pods(acctest.Namespace(t))
	pod, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "server"},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64),
			AutomountServiceAccountToken:  new(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65534)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "shell", Image: localcluster.BusyboxImage, Command: []string{"/bin/sh", "-c", script},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	acctest.Wait(t, "the pod to run", func(ctx context.Context) (string, error) {
		pod, err = pods.Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil || pod.Status.Phase == corev1.PodRunning {
			return "", err
		}
		return "it is " + string(pod.Status.Phase), nil
	})
	return k, pod
}
