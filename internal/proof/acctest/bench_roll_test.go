package acctest_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/load"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// filledMiB is the size of a filled store.
const filledMiB = 250

// rollScenario is a change of three servers that clients use meanwhile.
type rollScenario struct {
	name string
	// before changes the initial spec.
	before func(*server.Spec)
	do     func(context.Context, *roll) error
	// inPlace says that servers can take up the change in their pods. It is also made with new pods, for comparison.
	inPlace bool
	// encryption is HCL with which the servers are created. Only the provider can do that.
	encryption string
}

var rollScenarios = []rollScenario{
	{name: "nothing", do: func(_ context.Context, r *roll) error { // measures the noise
		r.load.More(3000)
		return nil
	}},
	{name: "restart", inPlace: true, do: func(ctx context.Context, r *roll) error {
		r.spec.UI = false
		return r.way.change(ctx, r.spec)
	}},
	{
		name: "upgrade", inPlace: true,
		before: func(s *server.Spec) { runVersion(s, acctest.OlderVersion) },
		do: func(ctx context.Context, r *roll) error {
			runVersion(&r.spec, acctest.ConsulVersion)
			return r.way.change(ctx, r.spec)
		},
	},
	{name: "drain", do: drainNodes},
	{
		name:   "scale",
		before: func(s *server.Spec) { s.Placement.AntiAffinity = server.AntiAffinityPreferred },
		do: func(ctx context.Context, r *roll) error {
			for _, replicas := range []int32{5, 3} {
				r.spec.Replicas = replicas
				if err := r.way.change(ctx, r.spec); err != nil {
					return err
				}
			}
			return nil
		},
	},
	encrypt("tls on", "tls = { enabled = false }", "tls = { enabled = true }"),
	encrypt("renewal", "tls = { enabled = true }", `tls = { enabled = true, dns_names = ["consul.example.com"] }`),
	encrypt("new ca", `tls = { enabled = true, ca_trigger = "1" }`, `tls = { enabled = true, ca_trigger = "2" }`),
	encrypt("gossip", "gossip = { enabled = false }", "gossip = { enabled = true }"),
	encrypt(
		"new key",
		`gossip = { enabled = true, rotation = { trigger = "1" } }`,
		`gossip = { enabled = true, rotation = { trigger = "2" } }`,
	),
}

// encrypt changes the encryption of the servers.
func encrypt(name, before, after string) rollScenario {
	return rollScenario{name: name, encryption: before, do: func(ctx context.Context, r *roll) error {
		r.encryption = after
		return r.way.change(ctx, r.spec)
	}}
}

func runVersion(s *server.Spec, version string) {
	s.Version, s.Image = version, "docker.io/hashicorp/consul:"+version
}

// rollWay is a way to run servers and to change them.
type rollWay interface {
	// create and change return once all servers run the spec and vote.
	create(ctx context.Context, spec server.Spec) error
	change(ctx context.Context, spec server.Spec) error
}

// roll is one scenario with one rollWay.
type roll struct {
	scenario, wayName, store string

	b       *testing.B
	kube    *kube.Client
	cluster *consul.Cluster
	way     rollWay
	spec    server.Spec
	load    *acctest.Load
	// encryption is the current rollScenario.encryption.
	encryption string

	// The results.
	report load.Report
	lost   []string
	raft   acctest.RaftTimeline
	took   time.Duration
	err    error
}

// The names of the ways.
const (
	wayChart    = "chart"
	wayProvider = "provider"
	wayNewPods  = "provider, new pods"
)

// ways are those that can make the change of a scenario, and differ in it.
func (s rollScenario) ways() []string {
	var out []string
	if s.encryption == "" {
		out = append(out, wayChart)
	}
	out = append(out, wayProvider)
	if s.inPlace {
		out = append(out, wayNewPods)
	}
	return out
}

// BenchmarkRoll restarts, upgrades, drains, scales, and encrypts three servers under the load of package load: by the
// StatefulSet controller with the settings of the Helm chart hashicorp/consul, and by this provider. It prints a
// table of all rows that ran. -bench selects rows by name, such as Roll/restart/empty/provider.
func BenchmarkRoll(b *testing.B) {
	if os.Getenv("TF_ACC") == "" {
		b.Skip("benchmarks run on a real cluster: make bench")
	}
	var rolls []*roll
	for _, scenario := range rollScenarios {
		b.Run(scenario.name, func(b *testing.B) {
			for _, mib := range []int{0, filledMiB} {
				if mib > 0 && scenario.encryption != "" { // the size of the store does not matter
					continue
				}
				store := "empty"
				if mib > 0 {
					store = fmt.Sprintf("%dMiB", mib)
				}
				b.Run(store, func(b *testing.B) {
					for _, way := range scenario.ways() {
						b.Run(way, func(b *testing.B) {
							r := &roll{scenario: scenario.name, wayName: way, store: store, b: b}
							rolls = append(rolls, r)
							for b.Loop() {
								r.run(scenario, mib)
							}
						})
					}
				})
			}
		})
	}
	if len(rolls) > 0 {
		printRolls(rolls)
	}
}

func (r *roll) run(scenario rollScenario, mib int) {
	b := r.b
	b.Helper()
	r.kube = acctest.Kube(b)
	namespace := ""
	b.Cleanup(func() { r.awaitNoPods(namespace) }) // once the namespace is deleted: the next row has the machine for itself
	namespace = acctest.Namespace(b)
	r.cluster = acctest.Consul(b, namespace, "consul")
	r.spec = server.Spec{
		Name: "consul", Namespace: namespace, Replicas: 3,
		Datacenter: "dc1", Domain: "consul", UI: true,
		Storage: server.Storage{Size: resource.MustParse("1Gi"), WhenDeleted: server.Delete, WhenScaled: server.Delete},
		Resources: server.Resources{
			Requests: map[string]resource.Quantity{"cpu": resource.MustParse("20m"), "memory": resource.MustParse("64Mi")},
		},
		Placement: server.Placement{AntiAffinity: server.AntiAffinityRequired},
		Autopilot: server.DefaultAutopilot,
		Update:    server.DefaultUpdate,
		Service:   server.Service{Type: "ClusterIP"},
		ACL:       server.ACL{DefaultPolicy: "allow"},
	}
	runVersion(&r.spec, acctest.ConsulVersion)
	if scenario.before != nil {
		scenario.before(&r.spec)
	}
	r.encryption = scenario.encryption
	switch r.wayName {
	case wayChart:
		r.way = byChart{r}
	case wayProvider:
		r.way = byProvider{r, acctest.NewCLI(b, nil)}
	case wayNewPods:
		r.spec.Update.Strategy = server.NewPods
		r.way = byProvider{r, acctest.NewCLI(b, nil)}
	}
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Minute)
	defer cancel()
	if err := r.way.create(ctx, r.spec); err != nil {
		b.Fatal(err)
	}
	if err := r.fill(ctx, mib); err != nil {
		b.Fatal(err)
	}
	r.load = acctest.StartLoad(b, namespace, acctest.LoadOptions{Lock: true})
	watch := acctest.WatchRaft(b, namespace, "consul", "")
	r.load.HoldsLock()
	r.load.More(500)
	start := time.Now()
	r.err = scenario.do(ctx, r)
	r.took = time.Since(start)
	r.load.More(500) // late failures count too
	if r.err == nil {
		r.load.HoldsLock() // so does all of the time without a holder
	}
	r.raft = watch.Stop()
	r.report = r.load.Stop()
	lost, err := r.load.Lost("")
	if err := errors.Join(r.err, err); err != nil {
		b.Error(err)
	}
	r.lost = lost
	b.ReportMetric(float64(r.report.Failed), "failed")
	b.ReportMetric(float64(r.report.Max.Milliseconds()), "max-ms")
	b.ReportMetric(float64(r.raft.FewestVoters), "voters")
	b.ReportMetric(float64(r.report.Lock.Lost), "locks-lost")
}

func (r *roll) awaitNoPods(namespace string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err := kube.Wait(ctx, "the pods of "+namespace+" to go", time.Second, func(ctx context.Context) (string, error) {
		pods, err := r.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil || namespace == "" || len(pods.Items) == 0 {
			return "", err
		}
		return fmt.Sprintf("%d are left", len(pods.Items)), nil
	})
	if err != nil {
		r.b.Error(err)
	}
}

// settled waits until there are n servers, all of them healthy voters.
func (r *roll) settled(ctx context.Context, n int32) error {
	return kube.Wait(ctx, "the servers to vote", 250*time.Millisecond, func(ctx context.Context) (string, error) {
		missing, err := consul.Missing(ctx, r.cluster, "", int(n), 0)
		if err != nil {
			return err.Error(), nil
		}
		return missing, nil
	})
}

// byProvider is "terraform apply" with the defaults of the provider, or with another strategy.
type byProvider struct {
	*roll
	cli *acctest.CLI
}

func (w byProvider) create(ctx context.Context, spec server.Spec) error { return w.change(ctx, spec) }

func (w byProvider) change(ctx context.Context, spec server.Spec) error {
	w.cli.Write("main.tf", fmt.Sprintf(`
terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
resource "consul_k8s_cluster" "bench" {
  name      = %q
  namespace = %q
  version   = %q
  replicas  = %d
  storage   = { size = "1Gi", retention = { when_deleted = "Delete", when_scaled = "Delete" } }
  placement = { anti_affinity = %q }
  update    = { strategy = %q }
  ui        = %t
  %s
  %s
}
`, spec.Name, spec.Namespace, spec.Version, spec.Replicas, spec.Placement.AntiAffinity, spec.Update.Strategy, spec.UI,
		w.encryption, acctest.Small))
	if out, code := w.cli.Run(ctx, "apply", "-auto-approve", "-no-color"); code != 0 {
		return fmt.Errorf("terraform apply: exit code %d\n%s", code, out)
	}
	return w.settled(ctx, spec.Replicas)
}

// byChart is the StatefulSet controller with the settings of the Helm chart.
type byChart struct{ *roll }

func (w byChart) create(ctx context.Context, spec server.Spec) error { return w.change(ctx, spec) }

func (w byChart) change(ctx context.Context, spec server.Spec) error {
	set, err := chartObjects(spec)
	if err != nil {
		return err
	}
	for _, o := range set.All() {
		fields, err := server.Fields(o)
		if err != nil {
			return err
		}
		if err := w.kube.Apply(ctx, fields); err != nil {
			return err
		}
	}
	err = kube.Wait(ctx, "the StatefulSet controller to restart the servers", 250*time.Millisecond, func(ctx context.Context) (string, error) {
		sts, err := w.kube.AppsV1().StatefulSets(spec.Namespace).Get(ctx, server.StatefulSetName(spec.Name), metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		s := sts.Status
		if s.ObservedGeneration < sts.Generation || s.CurrentRevision != s.UpdateRevision || s.Replicas != spec.Replicas ||
			s.UpdatedReplicas != spec.Replicas ||
			s.ReadyReplicas != spec.Replicas {
			return fmt.Sprintf("%d of %d servers run the new template, %d are ready", s.UpdatedReplicas, spec.Replicas, s.ReadyReplicas), nil
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	return w.settled(ctx, spec.Replicas)
}

// chartObjects renders servers as the Helm chart hashicorp/consul runs them (templates/server-statefulset.yaml and
// server-config-configmap.yaml of hashicorp/consul-k8s 2.0.3): Consul's defaults except for what follows, a readiness
// probe that asks for a leader and no other probe, and a restart of all servers whenever the configuration changes,
// which includes the number of servers.
func chartObjects(spec server.Spec) (server.Set, error) {
	spec.Established = true // the shared configuration expects the bootstrap
	set := server.Objects(spec)
	settings := map[string]any{}
	if err := json.Unmarshal([]byte(set.Config.Data[server.ConfigKey(spec)]), &settings); err != nil {
		return server.Set{}, err
	}
	for _, ours := range []string{"performance", "ports", "retry_interval"} {
		delete(settings, ours)
	}
	settings["leave_on_terminate"] = true
	settings["bootstrap_expect"] = spec.Replicas
	settings["autopilot"] = map[string]any{"min_quorum": spec.Replicas/2 + 1, "disable_upgrade_migration": true}
	text, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return server.Set{}, err
	}
	set.Config.Data["server.json"] = string(text)

	set.StatefulSet.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
	set.StatefulSet.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType}
	template := &set.StatefulSet.Spec.Template
	template.Annotations[server.AnnotationConfigHash] = fmt.Sprintf("%x", sha256.Sum256(text))
	template.Spec.TerminationGracePeriodSeconds = new(int64(30))
	template.Spec.InitContainers = nil
	container := &template.Spec.Containers[0]
	// Not by the supervisor, which looks for the configuration of another checksum, and for what init containers write.
	const config = "-config-file=/consul/config/"
	container.Command = []string{
		"/bin/sh", "/consul/config/start.sh", "agent", "-advertise=$(POD_IP)", config + "server.json", config + "$(POD_NAME).json",
	}
	container.Lifecycle, container.StartupProbe, container.LivenessProbe = nil, nil, nil
	container.ReadinessProbe = &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{
			Command: []string{"/bin/sh", "-ec", `wget -q -O - http://127.0.0.1:8500/v1/status/leader | grep -E '".+"'`},
		}},
		InitialDelaySeconds: 5, PeriodSeconds: 3, TimeoutSeconds: 5, FailureThreshold: 2, SuccessThreshold: 1,
	}
	return set, nil
}

func TestChartObjects_restartAllServersWhenTheirNumberChanges(t *testing.T) {
	hash := func(replicas int32) string {
		set, err := chartObjects(server.Spec{Name: "consul", Namespace: "ns", Replicas: replicas})
		if err != nil {
			t.Fatal(err)
		}
		return set.StatefulSet.Spec.Template.Annotations[server.AnnotationConfigHash]
	}
	if three, five := hash(3), hash(5); three == five || three != hash(3) {
		t.Errorf("the checksum is %s for three servers, then %s, and %s for five", three, hash(3), five)
	}
}

func TestChartObjects_startConsulWithWhatThePodHas(t *testing.T) {
	set, err := chartObjects(server.Spec{Name: "consul", Namespace: "ns", Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, arg := range set.StatefulSet.Spec.Template.Spec.Containers[0].Command {
		_, file, isConfig := strings.Cut(arg, "-config-file=")
		key := strings.Replace(strings.TrimPrefix(file, "/consul/config/"), "$(POD_NAME)", server.PodName("consul", 0), 1)
		if isConfig && set.Config.Data[key] == "" {
			t.Errorf("%s is not in the ConfigMap", file)
		}
	}
}

// fill fills the store, and waits until the servers are healthy again.
func (r *roll) fill(ctx context.Context, mib int) error {
	if err := fill(ctx, r.cluster, mib); err != nil {
		return err
	}
	return r.settled(ctx, r.spec.Replicas)
}

// fill writes values of the largest size that Consul accepts, until the store of a cluster without ACLs has this many
// MiB.
func fill(ctx context.Context, cluster *consul.Cluster, mib int) error {
	const size = 512 << 10 // kv_max_value_size in the limits of the agent's configuration
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for i := range mib << 20 / size {
		group.Go(func() error { return putRandom(groupCtx, cluster, fmt.Sprintf("filled/%d", i), size) })
	}
	return group.Wait()
}

// putRandom writes a random value of a size in bytes.
func putRandom(ctx context.Context, cluster *consul.Cluster, key string, size int) error {
	value := make([]byte, size)
	_, _ = rand.Read(value) // never fails
	return kube.Wait(ctx, "the store to be filled", time.Second, func(ctx context.Context) (string, error) {
		err := cluster.Any(ctx, "", func(c *api.Client) error {
			_, err := c.KV().Put(&api.KVPair{Key: key, Value: value}, (&api.WriteOptions{}).WithContext(ctx))
			return err
		})
		if err != nil { // on a busy machine, the leader may lose its followers
			return err.Error(), nil
		}
		return "", nil
	})
}

// drainNodes evicts the servers from one node after the other, as "kubectl drain" and "kubectl uncordon" do, and
// leaves other pods alone.
func drainNodes(ctx context.Context, r *roll) error {
	pods, err := r.cluster.Pods(ctx)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if err := r.drain(ctx, pod); err != nil {
			return fmt.Errorf("draining %s: %w", pod.Spec.NodeName, err)
		}
	}
	return r.settled(ctx, r.spec.Replicas)
}

func (r *roll) drain(ctx context.Context, pod corev1.Pod) error {
	cordon := func(ctx context.Context, cordoned bool) error {
		patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, cordoned)
		_, err := r.kube.CoreV1().Nodes().Patch(ctx, pod.Spec.NodeName, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	if err := cordon(ctx, true); err != nil {
		return err
	}
	err := r.evict(ctx, pod)
	if err := errors.Join(err, cordon(context.WithoutCancel(ctx), false)); err != nil {
		return err
	}
	return r.awaitPod(ctx, pod, "to be back", func(now *corev1.Pod) string {
		if now == nil || !consul.PodReady(now) {
			return "its successor is not ready"
		}
		return ""
	})
}

// evict evicts a pod as soon as the disruption budget allows, and waits until it is gone.
func (r *roll) evict(ctx context.Context, pod corev1.Pod) error {
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))},
	}
	err := kube.Wait(ctx, "the disruption budget to allow an eviction", 500*time.Millisecond, func(ctx context.Context) (string, error) {
		err := r.kube.PolicyV1().Evictions(pod.Namespace).Evict(ctx, eviction)
		if apierrors.IsTooManyRequests(err) {
			return err.Error(), nil
		}
		return "", err
	})
	if err != nil {
		return err
	}
	return r.awaitPod(ctx, pod, "to go", func(*corev1.Pod) string { return "" })
}

// awaitPod waits until a pod is gone and missing returns "" for its successor, which is nil while it does not exist.
func (r *roll) awaitPod(ctx context.Context, pod corev1.Pod, what string, missing func(*corev1.Pod) string) error {
	return kube.Wait(ctx, pod.Name+" "+what, 100*time.Millisecond, func(ctx context.Context) (string, error) {
		now, err := r.kube.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		found, err := kube.Found(err)
		switch {
		case err != nil:
			return err.Error(), nil
		case !found:
			return missing(nil), nil
		case now.UID == pod.UID:
			return "it is still there", nil
		}
		return missing(now), nil
	})
}

// printRolls prints one row per roll, and the failures of each.
func printRolls(rolls []*roll) {
	fmt.Printf(
		"\nthree servers under %s\n",
		"50 writes and 50 consistent reads a second, half of them on a new connection, and a lock; latencies in ms, times in s",
	)
	fmt.Printf("%-8s %-7s %-18s %13s %5s %7s %7s %7s %7s %8s %8s %8s %10s %24s %7s\n",
		"", "store", "way", "failed of", "lost", "p50", "p99", "max", "voters", "below 3", "leaders", "without",
		"locks lost", "longest without a holder", "total")
	for _, r := range rolls {
		if r.report.Requests == 0 {
			fmt.Printf("%-8s %-7s %-18s %13s\n", r.scenario, r.store, r.wayName, "not measured")
			continue
		}
		fmt.Printf("%-8s %-7s %-18s %13s %5d %7.1f %7.1f %7.1f %7d %8.1f %8d %8.2f %10d %24.1f %7.1f\n",
			r.scenario, r.store, r.wayName, fmt.Sprintf("%d of %d", r.report.Failed, r.report.Requests), len(r.lost),
			milliseconds(r.report.P50), milliseconds(r.report.P99), milliseconds(r.report.Max),
			r.raft.FewestVoters, r.raft.Below(3).Seconds(), r.raft.LeaderChanges, r.raft.LongestWithoutLeader.Seconds(),
			r.report.Lock.Lost, r.report.Lock.LongestWithout.Seconds(), r.took.Seconds())
	}
	fmt.Println(
		"goals of the provider: none failed, none lost, no lock lost, never fewer than 2 voters, 1 change of leader, the slowest request below " +
			"250 ms, a restart with an empty store in at most 45 s",
	)
	fmt.Println(
		"lost: acknowledged writes that cannot be read afterwards; voters: the fewest alive at once; below 3: how long there were fewer " +
			"than three; " +
			"leaders: changes of leader; without: the longest time in which no majority knew a leader; locks lost and longest without a " +
			"holder: of a lock that an active client and a standby hold as Vault does",
	)
	for _, r := range rolls {
		if r.err != nil {
			fmt.Printf("%s %s %s did not end: %v\n", r.scenario, r.store, r.wayName, r.err)
		}
		if r.report.Failed == 0 {
			continue
		}
		var kinds []string
		for _, kind := range slices.Sorted(maps.Keys(r.report.Kinds)) {
			kinds = append(kinds, fmt.Sprintf("%d of %s", r.report.Kinds[kind].Failed, kind))
		}
		fmt.Printf("%s %s %s failed %s; the first ones:\n", r.scenario, r.store, r.wayName, strings.Join(kinds, ", "))
		for _, f := range r.report.Failures[:min(5, len(r.report.Failures))] {
			fmt.Printf("  %s %s, after %.1f ms: %s\n", f.Due.Format(time.TimeOnly), f.Kind, milliseconds(f.Took), f.Error)
		}
	}
	fmt.Println()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
