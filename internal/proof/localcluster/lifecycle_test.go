package localcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// These tests replace and remove the cluster of the machine, so they only run on request.
const lifecycleVariable = "LOCALCLUSTER_TEST"

// crashVariable makes the test binary only run Up, in order to be killed.
const crashVariable = "LOCALCLUSTER_TEST_UP"

func TestMain(m *testing.M) {
	if os.Getenv(crashVariable) == "" {
		os.Exit(m.Run())
	}
	c, err := New(os.Stderr)
	if err == nil {
		err = c.Up(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func lifecycleCluster(t *testing.T) *Cluster {
	t.Helper()
	if os.Getenv(lifecycleVariable) != "1" {
		t.Skip("set " + lifecycleVariable + "=1 to let this test replace and remove the machine's cluster")
	}
	c, err := New(testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustUp(t *testing.T, c *Cluster) time.Duration {
	t.Helper()
	begin := time.Now()
	if err := c.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

func mustDown(t *testing.T, c *Cluster) {
	t.Helper()
	if err := c.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// machineSnapshot is everything that a cluster changes on a machine, by kind.
func machineSnapshot(t *testing.T, c *Cluster) map[string]string {
	t.Helper()
	snapshot := map[string]string{}
	for _, command := range []string{
		"ip -o link", "ip -o address", "ip route show table all", "ip netns list", "ip neigh show dev lk0",
		"iptables-save", "cat /proc/self/mounts", "ls -A /run /var/lib /opt /var/log /usr/libexec /etc",
	} {
		args := strings.Fields(command)
		out, _ := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
		// Without comments, which contain the time, counters, and life times, which always change.
		text := regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]|(valid_lft|preferred_lft) \S+| expires \S+`).ReplaceAllString(string(out), "")
		snapshot[command] = text
	}
	for _, name := range kubeletSysctls() {
		data, _ := os.ReadFile(filepath.Join("/proc/sys", name))
		snapshot["sysctl "+name] = string(data)
	}
	roots, err := cgroupRoots()
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range roots {
		dirs, _ := filepath.Glob(filepath.Join(root.point, "*lk-*"))
		snapshot["cgroups "+root.point] = strings.Join(dirs, "\n")
	}
	for _, path := range append(sharedPaths(), c.dir, c.dir+".lock") {
		found, _ := exec.CommandContext(t.Context(), "find", path).Output()
		snapshot["files "+path] = string(found)
	}
	out, err := exec.CommandContext(t.Context(), "ps", "-eo", "stat=,comm=").Output()
	if err != nil {
		t.Fatal(err)
	}
	var processes []string
	ours := regexp.MustCompile(`^[^Z]\S* +(etcd|containerd.*|runc.*|kube.*|socat|coredns|local-path.*|consul)\s`)
	for line := range strings.Lines(string(out)) {
		if name := ours.FindStringSubmatch(line); name != nil {
			processes = append(processes, name[1]+"\n")
		}
	}
	slices.Sort(processes)
	snapshot["processes"] = strings.Join(processes, "")
	return snapshot
}

func compareSnapshots(t *testing.T, before, after map[string]string) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(before)) {
		if before[what] != after[what] {
			t.Errorf("%s is not as before\n--- before\n%s\n--- after\n%s", what, before[what], after[what])
		}
	}
}

// kubectl runs the cluster's kubectl and returns its output.
func kubectl(t *testing.T, c *Cluster, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.KubectlPath(), append([]string{"--kubeconfig", c.Kubeconfig()}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func mustKubectl(t *testing.T, c *Cluster, stdin string, args ...string) string {
	t.Helper()
	out, err := kubectl(t, c, stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// workload is a headless Service with a web server on each node, each with its own volume, and restricted like the
// pods of Consul.
const workload = `
apiVersion: v1
kind: Namespace
metadata:
  name: lifecycle
  labels:
    pod-security.kubernetes.io/enforce: restricted
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: lifecycle}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: web}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web-cluster, namespace: lifecycle}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: lifecycle}
spec:
  serviceName: web
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      securityContext:
        runAsNonRoot: true
        runAsUser: 100
        runAsGroup: 1000
        fsGroup: 1000
        seccompProfile: {type: RuntimeDefault}
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - topologyKey: kubernetes.io/hostname
            labelSelector: {matchLabels: {app: web}}
      containers:
      - name: web
        image: docker.io/hashicorp/consul:1.22.7
        command: [sh, -c, "echo hello from $HOSTNAME > /data/index.html && exec busybox httpd -f -p 8080 -h /data"]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        resources: {limits: {memory: 64Mi, cpu: 500m}}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 1Mi}}
`

// proveItWorks uses the cluster like the provider and its tests.
func proveItWorks(t *testing.T, c *Cluster) {
	t.Helper()
	mustKubectl(t, c, workload, "apply", "-f", "-")
	mustKubectl(t, c, "", "-n", "lifecycle", "rollout", "status", "statefulset/web", "--timeout=120s")
	inPod := func(args ...string) string {
		t.Helper()
		return mustKubectl(t, c, "", append([]string{"-n", "lifecycle", "exec", "web-0", "--"}, args...)...)
	}
	if out := inPod("consul", "version"); !strings.Contains(out, "Consul v1.22.7") {
		t.Errorf("consul version says %s", out)
	}
	if out := inPod("nslookup", "kubernetes.default.svc.cluster.local"); !strings.Contains(out, apiServiceAddress) {
		t.Errorf("the name of a Service resolves to %s", out)
	}
	if out := inPod("nslookup", "web.lifecycle.svc.cluster.local"); strings.Count(out, "10.244.") != 3 {
		t.Errorf("the name of a headless Service resolves to %s", out)
	}
	// Pod to pod on other nodes, by the name of each, and through a Service.
	for i := range 3 {
		if out := inPod("timeout", "5", "wget", "-qO-", fmt.Sprintf("http://web-%d.web:8080/", i)); !strings.Contains(
			out,
			fmt.Sprintf("hello from web-%d", i),
		) {
			t.Errorf("web-%d answers %q", i, out)
		}
	}
	for range 6 {
		if out := inPod("timeout", "5", "wget", "-qO-", "http://web-cluster/"); !strings.Contains(out, "hello") {
			t.Errorf("the Service answers %q", out)
		}
	}
	if out := inPod("sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat "+
		"/sys/fs/cgroup/memory.max"); strings.TrimSpace(
		out,
	) != "67108864" {
		t.Errorf("the memory limit is %s", out)
	}
	if out := mustKubectl(t, c, "", "-n", "lifecycle", "get", "pvc", "-o", "jsonpath={.items[*].status.phase}"); out != "Bound Bound Bound" {
		t.Errorf("the claims are %s", out)
	}
	if _, err := kubectl(t, c, "", "-n", "lifecycle", "run", "root", "--image="+BusyboxImage, "--restart=Never"); err == nil {
		t.Error("a namespace with the restricted profile takes any pod")
	}
	provePortForward(t, c)
}

func provePortForward(t *testing.T, c *Cluster) {
	t.Helper()
	forward := exec.CommandContext(
		t.Context(),
		c.KubectlPath(),
		"--kubeconfig",
		c.Kubeconfig(),
		"-n",
		"lifecycle",
		"port-forward",
		"pod/web-1",
		"38080:8080",
	)
	if err := forward.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = forward.Process.Kill()
		_ = forward.Wait()
	}()
	if err := waitFor(t.Context(), "the port-forward", 20*time.Second, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:38080/", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && !strings.Contains(string(body), "hello from web-1") {
			err = giveUp(fmt.Errorf("got %q", body))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func pids(t *testing.T, c *Cluster) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, name := range c.processNames() {
		p, err := c.readProcess(name)
		if err != nil || !p.alive() {
			t.Errorf("%s does not run: %v", name, err)
		}
		all[name] = p.PID
	}
	return all
}

func TestLifecycle_upWorksAndDownLeavesNothing(t *testing.T) {
	c := lifecycleCluster(t)
	mustDown(t, c)
	before := machineSnapshot(t, c)
	t.Logf("up took %s", mustUp(t, c))
	proveItWorks(t, c)

	running := pids(t, c)
	t.Logf("second up took %s", mustUp(t, c))
	var group errgroup.Group
	for range 3 {
		group.Go(func() error {
			other, err := New(nil)
			if err != nil {
				return err
			}
			return other.Up(t.Context())
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if !maps.Equal(running, pids(t, c)) {
		t.Error("up restarted processes of a healthy cluster")
	}

	begin := time.Now()
	mustDown(t, c)
	t.Logf("down took %s", time.Since(begin))
	compareSnapshots(t, before, machineSnapshot(t, c))
	mustDown(t, c)
	compareSnapshots(t, before, machineSnapshot(t, c))
}

func TestLifecycle_upAddsTheConsulVersionsThatAreMissing(t *testing.T) {
	c := lifecycleCluster(t)
	mustDown(t, c)
	older, newer := ConsulVersions()[0], ConsulVersions()[1]
	expect := func(versions ...string) {
		t.Helper()
		for _, n := range nodes() {
			held, err := c.images(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			for _, version := range ConsulVersions() {
				if has, want := slices.Contains(held, ConsulImage(version)), slices.Contains(versions, version); has != want {
					t.Errorf("%s has Consul %s: %v, want %v", n.name, version, has, want)
				}
			}
		}
	}
	if err := c.UpWith(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	expect(newer)
	running := pids(t, c)
	mustUp(t, c)
	expect(older, newer)
	if err := c.UpWith(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(older, newer)
	if !maps.Equal(running, pids(t, c)) {
		t.Error("a cluster that gets another version was restarted")
	}
	proveItWorks(t, c)
}

func TestLifecycle_upRecoversWhenAllProcessesWereKilled(t *testing.T) {
	c := lifecycleCluster(t)
	mustDown(t, c)
	before := machineSnapshot(t, c)
	mustUp(t, c)
	proveItWorks(t, c)
	if err := c.killAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(nodes()[0].netnsPath()); err != nil {
		t.Fatalf("the kill was meant to leave the namespaces: %v", err)
	}
	t.Logf("recovery took %s", mustUp(t, c))
	proveItWorks(t, c)
	mustDown(t, c)
	compareSnapshots(t, before, machineSnapshot(t, c))
}

func TestLifecycle_upRecoversWhenOneProcessDied(t *testing.T) {
	c := lifecycleCluster(t)
	mustUp(t, c)
	for _, name := range []string{"etcd", "node-2.containerd"} {
		p, err := c.readProcess(name)
		if err == nil {
			err = p.kill()
		}
		if err != nil {
			t.Fatal(err)
		}
		mustUp(t, c)
		pids(t, c)
	}
}

func TestLifecycle_downCleansAfterACrashedUp(t *testing.T) {
	c := lifecycleCluster(t)
	mustDown(t, c)
	before := machineSnapshot(t, c)
	for _, after := range []time.Duration{500 * time.Millisecond, 2 * time.Second, 5 * time.Second, 9 * time.Second, 14 * time.Second} {
		crash := exec.CommandContext(t.Context(), os.Args[0])
		crash.Env = append(os.Environ(), crashVariable+"=1")
		if err := crash.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(after, func() { _ = crash.Process.Kill() })
		err := crash.Wait()
		timer.Stop()
		if err == nil {
			t.Logf("up was done within %s", after)
		}
		mustDown(t, c)
		t.Logf("after a crash at %s:", after)
		compareSnapshots(t, before, machineSnapshot(t, c))
	}
}

func TestLifecycle_upStartsAgainAfterACrashedUp(t *testing.T) {
	c := lifecycleCluster(t)
	mustDown(t, c)
	crash := exec.CommandContext(t.Context(), os.Args[0])
	crash.Env = append(os.Environ(), crashVariable+"=1")
	if err := crash.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(6*time.Second, func() { _ = crash.Process.Kill() })
	defer timer.Stop()
	if err := crash.Wait(); err == nil {
		t.Fatal("up was done before it could be killed")
	}
	mustUp(t, c)
	proveItWorks(t, c)
}

// TestLifecycle_nodesFailAndReturn leaves the cluster up.
func TestLifecycle_nodesFailAndReturn(t *testing.T) {
	c := lifecycleCluster(t)
	mustUp(t, c)
	proveItWorks(t, c)
	reach := func(from, to int) error {
		_, err := kubectl(
			t,
			c,
			"",
			"-n",
			"lifecycle",
			"exec",
			fmt.Sprintf("web-%d", from),
			"--",
			"timeout",
			"2",
			"wget",
			"-qO-",
			fmt.Sprintf("http://web-%d.web:8080/", to),
		)
		return err
	}
	on := func(pod int) string {
		return mustKubectl(t, c, "", "-n", "lifecycle", "get", "pod", fmt.Sprintf("web-%d", pod), "-o", "jsonpath={.spec.nodeName}")
	}

	victim := on(2)
	if err := c.CutNode(t.Context(), victim); err != nil {
		t.Fatal(err)
	}
	if reach(0, 2) == nil {
		t.Error("a pod on a cut node can be reached")
	}
	if err := reach(0, 1); err != nil {
		t.Errorf("the other nodes suffer: %v", err)
	}
	t.Logf("up with a node away took %s", mustUp(t, c))
	if _, isAway := c.nodesAway()[victim]; !isAway {
		t.Error("up brought back a node that a running test has cut off")
	}
	if err := c.HealNode(t.Context(), victim); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(t.Context(), "the healed node", 30*time.Second, func(context.Context) error { return reach(0, 2) }); err != nil {
		t.Error(err)
	}

	begin := time.Now()
	if err := c.StopNode(t.Context(), victim); err != nil {
		t.Fatal(err)
	}
	t.Logf("stop took %s", time.Since(begin))
	if reach(0, 2) == nil {
		t.Error("a pod on a stopped node can be reached")
	}
	n, err := nodeByName(victim)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := n.podProcesses(); err != nil || len(left) > 0 {
		t.Errorf("processes survive the loss of their node: %v, %v", left, err)
	}
	if err := c.HealNode(t.Context(), victim); err == nil {
		t.Error("a stopped node can be healed")
	}
	mustUp(t, c)
	begin = time.Now()
	if err := c.StartNode(t.Context(), victim); err != nil {
		t.Fatal(err)
	}
	t.Logf("start took %s", time.Since(begin))
	if err := waitFor(
		t.Context(), "the pod on the started node", 2*time.Minute, func(context.Context) error { return reach(0, 2) },
	); err != nil {
		t.Error(err)
	}

	// The process that cut off a node has ended: the next up repairs the node.
	if err := c.CutNode(t.Context(), victim); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.absencePath(victim), []byte(`{}`), 0o644); err != nil {
		t.Fatal(err)
	}
	mustUp(t, c)
	if err := waitFor(t.Context(), "the repaired node", 30*time.Second, func(context.Context) error { return reach(0, 2) }); err != nil {
		t.Error(err)
	}
	mustKubectl(t, c, "", "delete", "namespace", "lifecycle", "--timeout=60s")
	if err := waitFor(t.Context(), "the removal of the volumes", time.Minute, func(context.Context) error {
		left, err := filepath.Glob(c.path("node-*", "volumes", "*_lifecycle_*"))
		if err == nil && len(left) > 0 {
			err = errors.New(strings.Join(left, ", "))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
