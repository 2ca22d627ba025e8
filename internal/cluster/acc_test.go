package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	tfjson "github.com/hashicorp/terraform-json"
	"github.com/hashicorp/terraform-plugin-testing/compare"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func TestMain(m *testing.M) { acctest.Main(m) }

const address = "consul_k8s_cluster.test"

// hcl is a small cluster with more attributes.
func hcl(namespace, more string) string {
	return fmt.Sprintf(
		"resource \"consul_k8s_cluster\" \"test\" {\n  name = \"consul\"\n  namespace = %q\n%s%s\n}\n",
		namespace,
		acctest.Small,
		more,
	)
}

func hclVersion(namespace, version, more string) string {
	return hcl(
		namespace,
		fmt.Sprintf("  version = %q\n  storage = { size = \"1Gi\", retention = { when_deleted = \"Delete\" } }\n%s", version, more),
	)
}

func test(t *testing.T, c resource.TestCase) {
	t.Helper()
	acctest.PreCheck(t)
	c.ProtoV6ProviderFactories = acctest.Factories()
	resource.Test(t, c)
}

// podUIDs returns the UID of each server pod by name.
func podUIDs(t *testing.T, namespace string) map[string]types.UID {
	t.Helper()
	return byPod(t, namespace, func(p corev1.Pod) types.UID { return p.UID })
}

// runs identifies the run of each server: it has another one after a restart with a new pod, and from when it was asked to restart in
// place.
func runs(t *testing.T, namespace string) map[string]types.UID {
	t.Helper()
	return byPod(t, namespace, func(p corev1.Pod) types.UID {
		return types.UID(string(p.UID) + p.Annotations[server.AnnotationTemplateHash] + p.Annotations[server.AnnotationRestart])
	})
}

func byPod(t *testing.T, namespace string, of func(corev1.Pod) types.UID) map[string]types.UID {
	t.Helper()
	pods, err := acctest.Consul(t, namespace, "consul").Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]types.UID{}
	for i := range pods {
		out[pods[i].Name] = of(pods[i])
	}
	return out
}

// voters checks that n servers are healthy voters with one leader.
func voters(t *testing.T, namespace string, n int) resource.TestCheckFunc {
	return func(*terraform.State) error {
		h, err := consul.ReadHealth(t.Context(), acctest.Consul(t, namespace, "consul"), "")
		if err != nil {
			return err
		}
		if m := h.MissingVoters(n); m != "" {
			return fmt.Errorf("not %d healthy voters: %s", n, m)
		}
		return nil
	}
}

func TestAccCluster_lifecycle(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t) // it admits restricted pods only
	k := acctest.Kube(t)
	var before map[string]types.UID
	id := statecheck.CompareValue(compare.ValuesSame())
	config := hclVersion(namespace, acctest.ConsulVersion, "")
	labelled := hclVersion(
		namespace,
		acctest.ConsulVersion,
		"  labels = { team = \"platform\" }\n  service = { type = \"NodePort\", annotations = { note = \"x\" } }\n",
	)
	logged := hclVersion(
		namespace,
		acctest.ConsulVersion,
		"  labels = { team = \"platform\" }\n  extra_config = jsonencode({ log_json = true })\n",
	)

	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{
				Config: config,
				Check:  voters(t, namespace, 3),
				ConfigStateChecks: []statecheck.StateCheck{
					id.AddStateValue(address, tfjsonpath.New("id")),
					statecheck.ExpectKnownValue(address, tfjsonpath.New("id"), knownvalue.StringExact(namespace+"/consul")),
					statecheck.ExpectKnownValue(address, tfjsonpath.New("ready"), knownvalue.Bool(true)),
					statecheck.ExpectKnownValue(address, tfjsonpath.New("running_version"), knownvalue.StringExact(acctest.ConsulVersion)),
					statecheck.ExpectKnownValue(
						address,
						tfjsonpath.New("image"),
						knownvalue.StringExact("docker.io/hashicorp/consul:"+acctest.ConsulVersion),
					),
					statecheck.ExpectKnownValue(address, tfjsonpath.New("http_address"), knownvalue.StringExact("consul."+namespace+".svc:8500")),
				},
			},
			{Config: config, PlanOnly: true}, // the second plan is empty
			{
				ResourceName: address, ImportState: true, ImportStateId: namespace + "/consul", ImportStateVerify: true,
			},
			{ // drift, both in attributes and in the list of fields
				PreConfig: func() {
					before = runs(t, namespace)
					ctx := t.Context()
					if err := k.PolicyV1().PodDisruptionBudgets(namespace).Delete(ctx, "consul-server", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
					if err := k.CoreV1().ConfigMaps(namespace).Delete(ctx, "consul-server", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
					patch := `[{"op":"replace","path":"/spec/ports/0/port","value":81}]`
					if _, err := k.CoreV1().Services(namespace).Patch(
						ctx, "consul", types.JSONPatchType, []byte(patch), metav1.PatchOptions{FieldManager: "someone"},
					); err != nil {
						t.Fatal(err)
					}
					patch = `{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenScaled":"Delete","whenDeleted":"Delete"}}}`
					if _, err := k.AppsV1().StatefulSets(namespace).Patch(
						ctx, "consul-server", types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "someone"},
					); err != nil {
						t.Fatal(err)
					}
				},
				Config: config,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate),
					expectBefore{
						"drift",
						[]any{"ConfigMap consul-server: missing", "Service consul: spec.ports[name=http].port", "PodDisruptionBudget consul-server: missing"},
					},
					expectBefore{
						"storage",
						map[string]any{
							"size":      "1Gi",
							"class":     nil,
							"on_change": "grow",
							"retention": map[string]any{"when_deleted": "Delete", "when_scaled": "Delete"},
						},
					},
				}},
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), notRestarted(t, namespace, &before)),
			},
			{ // a change that needs no restart restarts nothing
				Config: labelled,
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), notRestarted(t, namespace, &before), func(*terraform.State) error {
					svc, err := k.CoreV1().Services(namespace).Get(t.Context(), "consul", metav1.GetOptions{})
					if err != nil {
						return err
					}
					if svc.Spec.Type != corev1.ServiceTypeNodePort || svc.Labels["team"] != "platform" || svc.Annotations["note"] != "x" {
						return fmt.Errorf("the Service is %s with labels %v and annotations %v", svc.Spec.Type, svc.Labels, svc.Annotations)
					}
					return nil
				}),
			},
			{ // a change that needs a restart restarts every server, and removed settings are gone
				Config: logged,
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), func(*terraform.State) error {
					after := runs(t, namespace)
					for name, uid := range before {
						if after[name] == uid {
							return fmt.Errorf("%s was not restarted", name)
						}
					}
					svc, err := k.CoreV1().Services(namespace).Get(t.Context(), "consul", metav1.GetOptions{})
					if err != nil {
						return err
					}
					if svc.Spec.Type != corev1.ServiceTypeClusterIP || svc.Annotations["note"] != "" {
						return fmt.Errorf("the Service is still %s with annotations %v", svc.Spec.Type, svc.Annotations)
					}
					return nil
				}),
				ConfigStateChecks: []statecheck.StateCheck{id.AddStateValue(address, tfjsonpath.New("id"))},
			},
			{Config: logged, PlanOnly: true},
		},
	})
}

func notRestarted(t *testing.T, namespace string, before *map[string]types.UID) resource.TestCheckFunc {
	return func(*terraform.State) error {
		if after := runs(t, namespace); !maps.Equal(*before, after) {
			return fmt.Errorf("servers were restarted: %v, before %v", after, *before)
		}
		return nil
	}
}

// expectBefore checks the value of an attribute in the refreshed state.
type expectBefore struct {
	attribute string
	want      any
}

func (e expectBefore) CheckPlan(_ context.Context, req plancheck.CheckPlanRequest, resp *plancheck.CheckPlanResponse) {
	for _, rc := range req.Plan.ResourceChanges {
		if rc.Address != address {
			continue
		}
		before, _ := rc.Change.Before.(map[string]any)
		if got := before[e.attribute]; fmt.Sprint(withoutNull(got)) != fmt.Sprint(withoutNull(e.want)) {
			resp.Error = fmt.Errorf("before the plan, %s is %v, want %v", e.attribute, got, e.want)
		}
		return
	}
	resp.Error = fmt.Errorf("no change of %s is planned", address)
}

// withoutNull is a value without the attributes of an object that are not set.
func withoutNull(v any) any {
	o, ok := v.(map[string]any)
	if !ok {
		return v
	}
	o = maps.Clone(o)
	maps.DeleteFunc(o, func(_ string, v any) bool { return v == nil })
	return o
}

func TestAccCluster_scalesOneServerAtATime(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	var before map[string]types.UID
	size := func(n int) string {
		return hclVersion(namespace, acctest.ConsulVersion, fmt.Sprintf("  replicas = %d\n", n))
	}
	changed := func(n int) string { return strings.Replace(size(n), "  replicas", "  ui = false\n  replicas", 1) }
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: size(1), Check: resource.ComposeTestCheckFunc(voters(t, namespace, 1), func(*terraform.State) error {
				before = runs(t, namespace)
				return nil
			})},
			{ // servers are added before the only one restarts
				Config: changed(3),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("steps"), knownvalue.ListExact([]knownvalue.Check{
						knownvalue.StringExact("scale to 2 servers (the others answer while consul-server-0 restarts)"),
						knownvalue.StringExact("scale to 3 servers (the others answer while consul-server-0 restarts)"),
						knownvalue.StringExact("transfer the leadership to consul-server-1"),
						knownvalue.StringExact("restart consul-server-0 in place (configuration)"),
					})),
				}},
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), func(*terraform.State) error {
					pods, err := acctest.Consul(t, namespace, "consul").Pods(t.Context())
					if err != nil {
						return err
					}
					if len(restarted(before, runs(t, namespace))) != 3 || lastChanged(pods[0]).Before(pods[2].CreationTimestamp.Time) {
						return fmt.Errorf("the first server did not restart after the others were added")
					}
					before = runs(t, namespace)
					return nil
				}),
			},
			{Config: changed(3), PlanOnly: true},
			{Config: changed(1), Check: resource.ComposeTestCheckFunc(voters(t, namespace, 1), func(*terraform.State) error {
				if after := runs(t, namespace); after["consul-server-0"] != before["consul-server-0"] {
					return fmt.Errorf("the first server was restarted by scaling")
				}
				return nil
			})},
			{Config: changed(1), PlanOnly: true},
		},
	})
}

// Three nodes have no room for five servers. A change back to three must not wait for the fourth.
func TestAccLong_removesServersThatNoNodeHasRoomFor(t *testing.T) {
	acctest.PreCheck(t)
	acctest.LocalCluster(t) // of three nodes
	namespace := acctest.Namespace(t)
	size := func(n int) string {
		return hclVersion(namespace, acctest.ConsulVersion, fmt.Sprintf("  replicas = %d\n  timeouts = { update = \"20s\" }\n", n))
	}
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: size(3)},
			{Config: size(5), ExpectError: acctest.Says("consul-server-3: Pending, not scheduled")},
			{Config: size(3), Check: voters(t, namespace, 3)},
			{Config: size(3), PlanOnly: true},
		},
	})
}

// ranAsPlanned checks that the servers were restarted in the planned order, the leader last.
type ranAsPlanned struct {
	t         *testing.T
	namespace string
}

func (c ranAsPlanned) CheckState(ctx context.Context, req statecheck.CheckStateRequest, resp *statecheck.CheckStateResponse) {
	i := slices.IndexFunc(req.State.Values.RootModule.Resources, func(r *tfjson.StateResource) bool { return r.Address == address })
	value, err := tfjsonpath.Traverse(req.State.Values.RootModule.Resources[i].AttributeValues, tfjsonpath.New("rollout").AtMapKey("steps"))
	if err != nil {
		resp.Error = err
		return
	}
	steps, _ := value.([]any)
	var planned, done []string
	for _, s := range steps {
		if step := strings.Fields(fmt.Sprint(s)); step[0] == "restart" { // "restart <pod> in place (<why>)"
			planned = append(planned, step[1])
		}
	}
	pods, err := acctest.Consul(c.t, c.namespace, "consul").Pods(ctx)
	if err != nil {
		resp.Error = err
		return
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return lastChanged(a).Compare(lastChanged(b)) })
	for i := range pods {
		done = append(done, pods[i].Name)
	}
	// Another follower may be furthest behind by then.
	for _, order := range [][]string{planned, done} {
		slices.Sort(order[:max(0, len(order)-1)])
	}
	if !slices.Equal(planned, done) {
		resp.Error = fmt.Errorf("planned %q, and restarted %q", planned, done)
	}
}

// lastChanged is when the provider changed a pod for the last time, or when it was created.
func lastChanged(p corev1.Pod) time.Time {
	last := p.CreationTimestamp.Time
	for _, e := range p.ManagedFields {
		if e.Manager == server.ManagedBy && e.Time != nil && e.Time.After(last) {
			last = e.Time.Time
		}
	}
	return last
}

// A create that cannot finish explains why and taints nothing, and the next apply resumes it.
func TestAccCluster_timeoutExplainsAndTheNextApplyResumes(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	namespace := acctest.NamespaceName(t)
	config := func(image, timeout string) string {
		return required + hcl(namespace, fmt.Sprintf(`
  create_namespace = true
  replicas = 1
  version  = %q
  image    = %q
  storage  = { size = "1Gi", retention = { when_deleted = "Delete" } }
  timeouts = { create = %q, update = "5m" }
`, acctest.ConsulVersion, image, timeout))
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("docker.io/hashicorp/consul:no-such-tag", "10m")})
	out := cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	// The wait for the image ends long before the timeout.
	for _, want := range []string{"The cluster is not up yet", "waiting longer does not help", "consul-server-0", "no-such-tag", "ImagePull"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) && !strings.Contains(out, want) {
			t.Errorf("the warning does not say %q:\n%s", want, out)
		}
	}
	out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	if code != 2 || !strings.Contains(out, "1 to change, 0 to destroy") {
		t.Fatalf("the next plan (exit code %d) does not resume the create:\n%s", code, out)
	}
	cli.Write("main.tf", config("docker.io/hashicorp/consul:"+acctest.ConsulVersion, "10m"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if err := voters(t, namespace, 1)(nil); err != nil {
		t.Error(err)
	}
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 0 {
		t.Errorf("the plan after that is not empty:\n%s", out)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

const required = acctest.RequiredProviders

func namespaceGone(t *testing.T, namespace string) {
	t.Helper()
	ns, err := acctest.Kube(t).CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
	if err == nil {
		t.Errorf("the namespace that the cluster created still exists: %s", ns.Name)
	}
}

// Terraform and the provider are killed at several moments of a create. The next apply always completes it, without
// destroying anything.
func TestAccCluster_resumesAfterKilledCreate(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	k := acctest.Kube(t)
	moments := map[string]func(ctx context.Context, namespace string) bool{
		"objects": func(ctx context.Context, ns string) bool { // some objects exist, perhaps without the StatefulSet
			_, err := k.CoreV1().ConfigMaps(ns).Get(ctx, "consul-server", metav1.GetOptions{})
			return err == nil
		},
		"pods": func(ctx context.Context, ns string) bool { // the servers are starting
			_, err := k.CoreV1().Pods(ns).Get(ctx, "consul-server-0", metav1.GetOptions{})
			return err == nil
		},
		"leader": func(ctx context.Context, ns string) bool { // a server is ready: there is a leader
			pod, err := k.CoreV1().Pods(ns).Get(ctx, "consul-server-0", metav1.GetOptions{})
			return err == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			})
		},
	}
	for name, moment := range moments {
		t.Run(name, func(t *testing.T) {
			namespace := acctest.NamespaceName(t)
			cli := acctest.NewCLI(
				t,
				map[string]string{"main.tf": required + hclVersion(namespace, acctest.ConsulVersion, "  create_namespace = true\n")},
			)
			killed, out := cli.RunAndKill(t.Context(), "apply", func(ctx context.Context) bool { return moment(ctx, namespace) })
			if !killed {
				t.Fatalf("the apply ended before it could be killed:\n%s", out)
			}
			out = cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
			if !strings.Contains(out, "0 destroyed") {
				t.Errorf("the second apply destroyed something:\n%s", out)
			}
			if err := voters(t, namespace, 3)(nil); err != nil {
				t.Error(err)
			}
			if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 0 {
				t.Errorf("the plan after that is not empty:\n%s", out)
			}
			cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
			namespaceGone(t, namespace)
		})
	}
}

// A change that is killed half-way shows in the next plan, and the next apply resumes it.
func TestAccLong_resumesAfterKilledUpdate(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(ui bool) string {
		return required + hclVersion(namespace, acctest.ConsulVersion, fmt.Sprintf("  create_namespace = true\n  ui = %v\n", ui))
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config(true)})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	before := runs(t, namespace)
	cli.Write("main.tf", config(false))
	killed, out := cli.RunAndKill(t.Context(), "apply", func(context.Context) bool { return !maps.Equal(before, runs(t, namespace)) })
	if !killed {
		t.Fatalf("the apply ended before it could be killed:\n%s", out)
	}
	out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode", "-lock=false")
	if code != 2 || !strings.Contains(out, "1 to change, 0 to destroy") {
		t.Fatalf("the unfinished roll does not show in the plan (exit code %d):\n%s", code, out)
	}
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
	for name, uid := range runs(t, namespace) {
		if before[name] == uid {
			t.Errorf("%s was not restarted", name)
		}
	}
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 0 {
		t.Errorf("the plan after that is not empty:\n%s", out)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}

// A destroy that is killed half-way is not forgotten: the next one resumes it, and nothing is left behind.
func TestAccCluster_resumesAfterKilledDestroy(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	namespace := acctest.NamespaceName(t)
	k := acctest.Kube(t)
	cli := acctest.NewCLI(
		t,
		map[string]string{"main.tf": required + hclVersion(namespace, acctest.ConsulVersion, "  create_namespace = true\n  replicas = 1\n")},
	)
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	killed, out := cli.RunAndKill(t.Context(), "destroy", func(ctx context.Context) bool {
		pod, err := k.CoreV1().Pods(namespace).Get(ctx, "consul-server-0", metav1.GetOptions{})
		return err != nil || pod.DeletionTimestamp != nil
	})
	if !killed {
		t.Fatalf("the destroy ended before it could be killed:\n%s", out)
	}
	if out := cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color", "-lock=false"); !strings.Contains(out, "1 destroyed") {
		t.Errorf("the cluster was forgotten:\n%s", out)
	}
	namespaceGone(t, namespace)
}

// A server that lost its disk while it is still a Raft peer must not vote with an empty log: it waits until it is
// removed, and then joins as a new peer. The test cuts the power of a node, so it does not run beside others, and
// only on the local cluster, whose nodes it can stop.
func TestAccCluster_serverWithoutDataRejoinsAsANewPeer(t *testing.T) {
	acctest.PreCheck(t)
	nodes := acctest.LocalCluster(t)
	namespace := acctest.Namespace(t)
	k, c := acctest.Kube(t), acctest.Consul(t, namespace, "consul")
	cleanup := func(dead bool) { // dead says whether autopilot removes failed servers
		err := c.Any(t.Context(), "", func(client *api.Client) error {
			conf, err := client.Operator().AutopilotGetConfiguration(nil)
			if err != nil {
				return err
			}
			conf.CleanupDeadServers = dead
			return client.Operator().AutopilotSetConfiguration(conf, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	loseDisk := func() {
		ctx := t.Context()
		cleanup(false)
		h, err := consul.ReadHealth(ctx, c, "")
		if err != nil {
			t.Fatal(err)
		}
		victim := h.Servers[slices.IndexFunc(h.Servers, func(s consul.ServerHealth) bool { return !s.Leader })].Name
		pod, err := k.CoreV1().Pods(namespace).Get(ctx, victim, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := nodes.StopNode(ctx, pod.Spec.NodeName); err != nil {
			t.Fatal(err)
		}
		emptyVolume(t, namespace, "data-"+victim)
		if err := nodes.StartNode(ctx, pod.Spec.NodeName); err != nil {
			t.Fatal(err)
		}
		acctest.Wait(t, "the server to report that it waits", func(ctx context.Context) (string, error) {
			log, err := k.CoreV1().Pods(namespace).GetLogs(victim, &corev1.PodLogOptions{Container: "await-peer-removal"}).DoRaw(ctx)
			if err != nil {
				return err.Error(), nil
			}
			if !strings.Contains(string(log), "these Raft peers do not answer: "+pod.Status.PodIP+":8300") {
				return fmt.Sprintf("it says %q", log), nil
			}
			return "", nil
		})
		if pod, err = k.CoreV1().Pods(namespace).Get(ctx, victim, metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, s := range pod.Status.ContainerStatuses {
			if s.State.Running != nil {
				t.Errorf("Consul runs in the server without data, which is still a peer: %+v", s)
			}
		}
		cleanup(true)
		acctest.Wait(t, "the server to rejoin", func(ctx context.Context) (string, error) {
			h, err := consul.ReadHealth(ctx, c, "")
			if err != nil {
				return err.Error(), nil
			}
			return h.MissingVoters(3), nil
		})
	}
	config := hclVersion(namespace, acctest.ConsulVersion, "")
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps:        []resource.TestStep{{Config: config}, {Config: config, PreConfig: loseDisk, PlanOnly: true}},
	})
}

// emptyVolume empties a volume of the local cluster.
func emptyVolume(t *testing.T, namespace, claim string) {
	t.Helper()
	core := acctest.Kube(t).CoreV1()
	c, err := core.PersistentVolumeClaims(namespace).Get(t.Context(), claim, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := core.PersistentVolumes().Get(t.Context(), c.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := ""
	switch {
	case v.Spec.HostPath != nil:
		path = v.Spec.HostPath.Path
	case v.Spec.Local != nil:
		path = v.Spec.Local.Path
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) == 0 {
		t.Fatalf("the volume at %q holds %d entries, %v", path, len(entries), err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAccCluster_touchesNothingThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	k := acctest.Kube(t)
	config := hclVersion(namespace, acctest.ConsulVersion, "  replicas = 1\n")
	foreign := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "consul", Namespace: namespace},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}},
	}
	if _, err := k.CoreV1().Services(namespace).Create(t.Context(), foreign, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: config, ExpectError: acctest.Says("Service " + namespace + "/consul")},
		{
			PreConfig: func() {
				left, err := k.NamespaceContents(t.Context(), namespace)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(left, []string{"service/consul"}) {
					t.Errorf("the refused create left %q", left)
				}
				if err := k.CoreV1().Services(namespace).Delete(t.Context(), "consul", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			},
			Config: config,
		},
		{ // a second declaration does not adopt a finished cluster
			Config:      config + strings.Replace(config, `"test"`, `"other"`, 1),
			ExpectError: acctest.Says("already exists"),
		},
	}})
}

func TestAccCluster_namespaceMustFit(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	existing := acctest.Namespace(t)
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{
			Config:      hclVersion(existing, acctest.ConsulVersion, "  create_namespace = true\n"),
			ExpectError: acctest.Says("create_namespace = false"),
		},
		{Config: hclVersion("no-such-namespace", acctest.ConsulVersion, ""), ExpectError: acctest.Says("create_namespace = true")},
	}})
}

func TestAccCluster_deletionProtection(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	protected := strings.Replace(hclVersion(namespace, acctest.ConsulVersion, "  replicas = 1\n"), "deletion_protection = false", "", 1)
	open := hclVersion(namespace, acctest.ConsulVersion, "  replicas = 1\n")
	refused := acctest.Says("deletion_protection = false")
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: protected},
			{Config: protected, Destroy: true, ExpectError: refused},
			{
				Config:             strings.Replace(protected, `"consul"`, `"other"`, 1),
				PlanOnly:           true,
				ExpectNonEmptyPlan: true,
				ExpectError:        refused,
			}, // a replacement
			{
				Config:             strings.Replace(protected, `  replicas = 1`, "  replicas = 1\n  datacenter = \"dc2\"", 1),
				PlanOnly:           true,
				ExpectNonEmptyPlan: true,
				ExpectError:        acctest.Says("datacenter cannot be changed"),
			},
			{
				Config:             strings.Replace(protected, `"1Gi"`, `"512Mi"`, 1),
				PlanOnly:           true,
				ExpectNonEmptyPlan: true,
				ExpectError:        acctest.Says("cannot shrink"),
			},
			{
				Config:             strings.Replace(protected, `"1Gi"`, `"2Gi"`, 1),
				PlanOnly:           true,
				ExpectNonEmptyPlan: true,
				ExpectError:        acctest.Says("cannot grow in place"),
			},
			{Config: strings.Replace(protected, `"1Gi"`, `"1024Mi"`, 1), PlanOnly: true}, // the same size
			{
				Config:             strings.Replace(protected, `size = "1Gi"`, `size = "1Gi", class = "other"`, 1),
				PlanOnly:           true,
				ExpectNonEmptyPlan: true,
				ExpectError:        acctest.Says("class cannot be changed"),
			},
			{Config: open},
		},
	})
}

func TestAccMembers(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	const data = "data.consul_k8s_members.test"
	test(t, resource.TestCase{
		Steps: []resource.TestStep{{
			// On a busy machine, a follower may be late, and unhealthy, for a moment.
			Config: hclVersion(
				namespace,
				acctest.ConsulVersion,
				"  autopilot = { last_contact_threshold = \"10s\" }\n",
			) + "data \"consul_k8s_members\" \"test\" { cluster = consul_k8s_cluster.test.id }\n",
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue(data, tfjsonpath.New("healthy"), knownvalue.Bool(true)),
				statecheck.ExpectKnownValue(data, tfjsonpath.New("failure_tolerance"), knownvalue.Int64Exact(1)),
				statecheck.ExpectKnownValue(data, tfjsonpath.New("leader"), knownvalue.StringRegexp(regexp.MustCompile(`^consul-server-[012]$`))),
				statecheck.ExpectKnownValue(data, tfjsonpath.New("servers"), knownvalue.ListSizeExact(3)),
				statecheck.ExpectKnownValue(
					data,
					tfjsonpath.New("servers").AtSliceIndex(2).AtMapKey("name"),
					knownvalue.StringExact("consul-server-2"),
				),
				statecheck.ExpectKnownValue(
					data,
					tfjsonpath.New("servers").AtSliceIndex(2).AtMapKey("node_id"),
					knownvalue.StringExact(server.NodeID(namespace, "consul", 2)),
				),
				statecheck.ExpectKnownValue(
					data,
					tfjsonpath.New("servers").AtSliceIndex(2).AtMapKey("version"),
					knownvalue.StringExact(acctest.ConsulVersion),
				),
			},
		}},
	})
}
