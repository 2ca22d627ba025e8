package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// storageHCL is a cluster with volumes of a size, and more arguments of storage.
func storageHCL(namespace, size, storage, more string) string {
	return hcl(
		namespace,
		fmt.Sprintf(
			"  version = %q\n  storage = { size = %q, retention = { when_deleted = \"Delete\" }%s }\n%s",
			acctest.ConsulVersion,
			size,
			storage,
			more,
		),
	)
}

// volume is the volume of a server.
type volume struct {
	claim       types.UID
	name, class string
	size        string
	capacity    string
}

func volumes(t *testing.T, namespace string) map[string]volume {
	t.Helper()
	claims, err := acctest.Kube(t).CoreV1().PersistentVolumeClaims(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]volume{}
	for _, c := range claims.Items {
		size, capacity := c.Spec.Resources.Requests[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
		out[c.Name] = volume{
			claim:    c.UID,
			name:     c.Spec.VolumeName,
			class:    *c.Spec.StorageClassName,
			size:     size.String(),
			capacity: capacity.String(),
		}
	}
	return out
}

// haveGrown checks that n volumes have 2Gi, and that those of added servers will have it.
func haveGrown(t *testing.T, namespace string, n int) resource.TestCheckFunc {
	return func(*terraform.State) error {
		const size = "2Gi"
		all := volumes(t, namespace)
		for name, v := range all {
			if v.size != size || v.capacity != size {
				return fmt.Errorf("%s asks for %s and has %s, want %s", name, v.size, v.capacity, size)
			}
		}
		template := statefulSet(t, namespace).Spec.VolumeClaimTemplates[0].Spec.Resources.Requests[corev1.ResourceStorage]
		if len(all) != n || template.String() != size {
			return fmt.Errorf("there are %d volumes, and new ones get %s, want %d and %s", len(all), template.String(), n, size)
		}
		return nil
	}
}

func statefulSet(t *testing.T, namespace string) *appsv1.StatefulSet {
	t.Helper()
	sts, err := acctest.Kube(t).AppsV1().StatefulSets(namespace).Get(t.Context(), "consul-server", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return sts
}

// adopted checks that all pods belong to the present StatefulSet, and were made from its template.
func adopted(t *testing.T, namespace string, n int) resource.TestCheckFunc {
	return func(*terraform.State) error {
		sts := statefulSet(t, namespace)
		pods, err := acctest.Consul(t, namespace, "consul").Pods(t.Context())
		if err != nil {
			return err
		}
		for i := range pods {
			owner := metav1.GetControllerOf(&pods[i])
			if owner == nil || owner.UID != sts.UID {
				return fmt.Errorf("%s belongs to %+v, and not to the StatefulSet %s", pods[i].Name, owner, sts.UID)
			}
			if r := pods[i].Labels[appsv1.StatefulSetRevisionLabel]; r != sts.Status.UpdateRevision {
				return fmt.Errorf("%s is of the revision %s, and the StatefulSet at %s", pods[i].Name, r, sts.Status.UpdateRevision)
			}
		}
		if len(pods) != n {
			return fmt.Errorf("there are %d pods, want %d", len(pods), n)
		}
		return nil
	}
}

// steps expects the steps of a plan. It ignores those that wait, which depend on the moment at which the servers were
// observed.
type steps []string

func (s steps) CheckPlan(_ context.Context, req plancheck.CheckPlanRequest, resp *plancheck.CheckPlanResponse) {
	for _, rc := range req.Plan.ResourceChanges {
		after, _ := rc.Change.After.(map[string]any)
		if rollout, ok := after["rollout"].(map[string]any); ok && rc.Address == address {
			all, _ := rollout["steps"].([]any)
			var got []string
			for _, step := range all {
				if text := fmt.Sprint(step); !strings.HasPrefix(text, "wait: ") {
					got = append(got, text)
				}
			}
			if !slices.Equal(got, s) {
				resp.Error = fmt.Errorf("the plan is to %q, want %q", got, []string(s))
			}
			return
		}
	}
	resp.Error = fmt.Errorf("no change of %s is planned", address)
}

// watchServers counts the ready servers until stop, which returns the lowest count.
func watchServers(t *testing.T, namespace string) (stop func() (fewest int)) {
	t.Helper()
	c := acctest.Consul(t, namespace, "consul")
	ctx, cancel := context.WithCancel(context.Background())
	fewest := 7
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			pods, err := c.Pods(ctx)
			if err != nil {
				continue
			}
			ready := 0
			for i := range pods {
				if consul.PodReady(&pods[i]) {
					ready++
				}
			}
			fewest = min(fewest, ready)
		}
	})
	t.Cleanup(cancel)
	return func() int {
		cancel()
		wait.Wait()
		return fewest
	}
}

// Volumes grow while their servers run: no pod is replaced, no container restarts, and no write fails.
func TestAccVolumes_growthInPlaceRestartsNoServer(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace, class := acctest.Namespace(t), ", class = \""+acctest.ExpandableClass(t)+"\""
	acctest.StartResizer(t, namespace)
	var writer *acctest.Writer
	var before map[string]types.UID
	var set types.UID
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: storageHCL(namespace, "1Gi", class, ""), Check: func(*terraform.State) error {
				before, set = runs(t, namespace), statefulSet(t, namespace).UID
				writer = acctest.StartWriter(t, namespace, "no-token")
				writer.More(20)
				return nil
			}},
			{
				Config: storageHCL(namespace, "2Gi", class, ""),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate), steps{"grow the volumes to 2Gi"},
				}},
				Check: resource.ComposeTestCheckFunc(
					haveGrown(t, namespace, 3), notRestarted(t, namespace, &before), adopted(t, namespace, 3),
					func(*terraform.State) error {
						writer.More(20)
						sts := statefulSet(t, namespace)
						if sts.UID == set {
							return fmt.Errorf("the StatefulSet was not created again")
						}
						const deletes = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
						if policy := sts.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted; policy != deletes {
							return fmt.Errorf("volumes are now kept or deleted by %s", policy)
						}
						return noContainerRestarted(t, namespace)
					},
					func(*terraform.State) error { return writer.Verify("") },
				),
			},
			{Config: storageHCL(namespace, "2Gi", class, ""), PlanOnly: true},
			{PreConfig: func() { writer.Stop() }, Config: storageHCL(namespace, "2Gi", class, "")},
		},
	})
}

// When the StatefulSet is created again, it keeps what others added to it and to its pod template, so that no pod
// differs from it. The provider can still remove what it has set.
func TestAccLong_growthInPlaceKeepsWhatOthersAdded(t *testing.T) {
	acctest.PreCheck(t)
	namespace, class := acctest.Namespace(t), ", class = \""+acctest.ExpandableClass(t)+"\""
	acctest.StartResizer(t, namespace)
	config := func(size, more string) string { return storageHCL(namespace, size, class, "  replicas = 1\n"+more) }
	const labels = "  labels = { team = \"platform\" }\n"
	var before map[string]types.UID
	theirs := func(team string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			sts := statefulSet(t, namespace)
			if a, b := sts.Annotations["example.com/theirs"], sts.Spec.Template.Annotations["example.com/theirs"]; a != "stays" || b != "stays" {
				return fmt.Errorf("what others added is %q and %q", a, b)
			}
			if sts.Labels["team"] != team {
				return fmt.Errorf("the labels are %v", sts.Labels)
			}
			return nil
		}
	}
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config("1Gi", labels)},
			{ // the pod is created again with it
				PreConfig: func() {
					asSomebodyElse(t, acctest.Kube(t).AppsV1().StatefulSets(namespace), "consul-server", func(s *appsv1.StatefulSet) {
						metav1.SetMetaDataAnnotation(&s.ObjectMeta, "example.com/theirs", "stays")
						metav1.SetMetaDataAnnotation(&s.Spec.Template.ObjectMeta, "example.com/theirs", "stays")
					})
				},
				Config: config("1Gi", labels),
				Check: resource.ComposeTestCheckFunc(theirs("platform"), adopted(t, namespace, 1), func(*terraform.State) error {
					before = runs(t, namespace)
					return nil
				}),
			},
			{
				Config: config("2Gi", labels),
				Check: resource.ComposeTestCheckFunc(
					haveGrown(t, namespace, 1), notRestarted(t, namespace, &before), adopted(t, namespace, 1), theirs("platform")),
			},
			{Config: config("2Gi", labels), PlanOnly: true},
			{
				Config: config("2Gi", ""),
				Check:  resource.ComposeTestCheckFunc(notRestarted(t, namespace, &before), theirs("")),
			},
			{Config: config("2Gi", ""), PlanOnly: true},
		},
	})
}

func noContainerRestarted(t *testing.T, namespace string) error {
	t.Helper()
	pods, err := acctest.Consul(t, namespace, "consul").Pods(t.Context())
	if err != nil {
		return err
	}
	for i := range pods {
		for _, s := range pods[i].Status.ContainerStatuses {
			if s.RestartCount > 0 {
				return fmt.Errorf("a container of %s was restarted %d times", pods[i].Name, s.RestartCount)
			}
		}
	}
	return nil
}

// If the file system of a volume only grows when it is mounted again, its server restarts, and no other.
func TestAccLong_restartsOnlyTheServerWhoseFileSystemWaits(t *testing.T) {
	acctest.PreCheck(t)
	namespace, class := acctest.Namespace(t), ", class = \""+acctest.ExpandableClass(t)+"\""
	acctest.StartResizer(t, namespace, "consul-server-0", "consul-server-2")
	var writer *acctest.Writer
	var before map[string]types.UID
	var stop func() int
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: storageHCL(namespace, "1Gi", class, ""), Check: func(*terraform.State) error {
				before = runs(t, namespace)
				writer = acctest.StartWriter(t, namespace, "no-token")
				writer.More(20)
				stop = watchServers(t, namespace)
				return nil
			}},
			{
				Config: storageHCL(namespace, "2Gi", class, ""),
				Check: resource.ComposeTestCheckFunc(
					haveGrown(t, namespace, 3), adopted(t, namespace, 3),
					func(*terraform.State) error {
						if fewest := stop(); fewest != 2 {
							return fmt.Errorf("there were only %d servers at a time", fewest)
						}
						var restarted []string
						for name, uid := range runs(t, namespace) {
							if before[name] != uid {
								restarted = append(restarted, name)
							}
						}
						slices.Sort(restarted)
						if want := []string{"consul-server-0", "consul-server-2"}; !slices.Equal(restarted, want) {
							return fmt.Errorf("restarted %q, want %q", restarted, want)
						}
						writer.More(20)
						return writer.Verify("")
					},
				),
			},
			{Config: storageHCL(namespace, "2Gi", class, ""), PlanOnly: true},
			{PreConfig: func() { writer.Stop() }, Config: storageHCL(namespace, "2Gi", class, "")},
		},
	})
}

// What Kubernetes would refuse is refused at plan, with what works instead.
func TestAccVolumes_aClassThatCannotExpandIsRefusedAtPlan(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace, class := acctest.Namespace(t), acctest.DefaultClass(t)
	if class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion {
		t.Skip("the default class lets volumes grow")
	}
	config := func(size, storage string) string { return storageHCL(namespace, size, storage, "  replicas = 1\n") }
	refused := func(config, text string) resource.TestStep {
		return resource.TestStep{Config: config, PlanOnly: true, ExpectError: acctest.Says(text)}
	}
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config("1Gi", "")},
			refused(config("2Gi", ""), fmt.Sprintf("storage class %q, which does not allow it", class.Name)),
			refused(config("2Gi", ""), `storage.on_change = "rebuild"`),
			refused(config("1Gi", `, class = "other"`), `storage.on_change = "rebuild"`),
			refused(config("512Mi", ""), "cannot shrink"),
			refused(config("2Gi", `, on_change = "rebuild"`), "only copy of the data"),
			refused(
				strings.Replace(config("1Gi", `, class = "no-such-class", on_change = "rebuild"`), "replicas = 1", "replicas = 3", 1),
				`no storage class "no-such-class"`,
			),
			{Config: config("1Gi", ""), PlanOnly: true},
		},
	})
}

// Growth that does not end is explained, and the next apply resumes it.
func TestAccVolumes_growthThatDoesNotEndIsExplained(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace, class := acctest.Namespace(t), ", class = \""+acctest.ExpandableClass(t)+"\""
	config := func(size, timeout string) string {
		return storageHCL(namespace, size, class, fmt.Sprintf("  replicas = 1\n  timeouts = { update = %q }\n", timeout))
	}
	var before map[string]types.UID
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config("1Gi", "60m"), Check: func(*terraform.State) error {
				before = runs(t, namespace)
				return nil
			}},
			{Config: config("2Gi", "15s"), ExpectError: acctest.Says("Volume claim data-consul-server-0: it has 1Gi, and 2Gi is requested")},
			{
				PreConfig: func() { acctest.StartResizer(t, namespace) },
				Config:    config("2Gi", "60m"),
				Check:     resource.ComposeTestCheckFunc(haveGrown(t, namespace, 1), notRestarted(t, namespace, &before), adopted(t, namespace, 1)),
			},
			{Config: config("2Gi", "60m"), PlanOnly: true},
		},
	})
}

// Every server moves to a larger volume of another class, with its ACL token, while a client writes: no acknowledged
// write is lost.
func TestAccLong_rebuildLosesNoWrite(t *testing.T) {
	acctest.PreCheck(t)
	namespace, class := acctest.Namespace(t), acctest.ExpandableClass(t)
	config := func(size, storage string) string {
		return storageHCL(namespace, size, storage, stepDeny) + bootstrapHCL("") + clientHCL(namespace)
	}
	rebuilt := config("2Gi", fmt.Sprintf(", class = %q, on_change = \"rebuild\"", class))
	var writer *acctest.Writer
	var before map[string]volume
	var stop func() int
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config("1Gi", ""), Check: func(*terraform.State) error {
				before = volumes(t, namespace)
				writer = acctest.StartWriter(t, namespace, "client-token")
				writer.HasToken(1)
				writer.More(20)
				stop = watchServers(t, namespace)
				return nil
			}},
			{
				Config: rebuilt,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("changes"), knownvalue.ListExact([]knownvalue.Check{
						knownvalue.StringExact("storage.class: (none) -> " + class + " (rebuild)"),
						knownvalue.StringExact("storage.on_change: grow -> rebuild (write)"),
						knownvalue.StringExact("storage.size: 1Gi -> 2Gi (rebuild)"),
					})),
					plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("steps"), knownvalue.ListSizeExact(4)),
				}},
				Check: resource.ComposeTestCheckFunc(
					haveGrown(t, namespace, 3), adopted(t, namespace, 3),
					func(*terraform.State) error {
						if fewest := stop(); fewest != 2 {
							return fmt.Errorf("there were only %d servers at a time", fewest)
						}
						for name, v := range volumes(t, namespace) {
							if v.class != class || v.name == before[name].name {
								return fmt.Errorf("%s is %+v, before %+v", name, v, before[name])
							}
						}
						writer.More(20)
						return writer.Verify(managementToken(t, namespace))
					},
				),
			},
			{Config: rebuilt, PlanOnly: true},
			{PreConfig: func() { writer.Stop() }, Config: rebuilt},
		},
	})
}

// A rebuild that is killed before, and again after, the first server lost its volume shows in the plan, and the next
// apply resumes it with the remaining servers.
func TestAccLong_resumesAKilledRebuild(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	k := acctest.Kube(t)
	config := func(size, storage string) string {
		return required + storageHCL(namespace, size, storage, "  create_namespace = true\n")
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("1Gi", "")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	before := volumes(t, namespace)
	writer := acctest.StartWriter(t, namespace, "no-token")
	writer.More(20)
	stop := watchServers(t, namespace)
	cli.Write("main.tf", config("2Gi", `, on_change = "rebuild"`))
	claims := func(ctx context.Context, found func(corev1.PersistentVolumeClaim) bool) bool {
		list, err := k.CoreV1().PersistentVolumeClaims(namespace).List(ctx, metav1.ListOptions{})
		return err == nil && slices.ContainsFunc(list.Items, found)
	}
	moments := map[string]func(corev1.PersistentVolumeClaim) bool{
		"deleted":  func(c corev1.PersistentVolumeClaim) bool { return c.DeletionTimestamp != nil },
		"replaced": func(c corev1.PersistentVolumeClaim) bool { return before[c.Name].claim != c.UID },
	}
	for _, name := range slices.Sorted(maps.Keys(moments)) {
		killed, out := cli.RunAndKill(t.Context(), "apply", func(ctx context.Context) bool { return claims(ctx, moments[name]) })
		if !killed {
			t.Fatalf("the apply ended before it could be killed when a volume was %s:\n%s", name, out)
		}
		out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode", "-lock=false")
		if code != 2 || !strings.Contains(out, "1 to change, 0 to destroy") {
			t.Fatalf("after a kill when a volume was %s, the plan does not resume the rebuild (exit code %d):\n%s", name, code, out)
		}
	}
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
	for name, v := range volumes(t, namespace) {
		if v.capacity != "2Gi" || v.name == before[name].name {
			t.Errorf("%s is %+v, before %+v", name, v, before[name])
		}
	}
	if fewest := stop(); fewest != 2 {
		t.Errorf("there were only %d servers at a time", fewest)
	}
	writer.More(20)
	if err := writer.Verify(""); err != nil {
		t.Error(err)
	}
	writer.Stop()
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 0 {
		t.Errorf("the plan after that is not empty:\n%s", out)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}

// The provider is killed after it has deleted the StatefulSet and before it has created it again. The cluster is not
// forgotten: the plan is an update, which creates the StatefulSet for the same pods. What is left can also be
// destroyed.
func TestAccLong_resumesAfterAKillWithoutItsStatefulSet(t *testing.T) {
	acctest.PreCheck(t)
	namespace, class := acctest.NamespaceName(t), acctest.ExpandableClass(t)
	k := acctest.Kube(t)
	config := func(size string) string {
		return required + storageHCL(namespace, size, fmt.Sprintf(", class = %q", class), "  create_namespace = true\n")
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("1Gi")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	acctest.StartResizer(t, namespace)
	before := runs(t, namespace)

	// A finalizer keeps the StatefulSet until the provider is killed.
	const hold = "example.com/hold"
	statefulSets := k.AppsV1().StatefulSets(namespace)
	asSomebodyElse(t, statefulSets, "consul-server", func(s *appsv1.StatefulSet) { s.Finalizers = append(s.Finalizers, hold) })
	cli.Write("main.tf", config("2Gi"))
	killed, out := cli.RunAndKill(t.Context(), "apply", func(ctx context.Context) bool {
		sts, err := statefulSets.Get(ctx, "consul-server", metav1.GetOptions{})
		return err == nil && sts.DeletionTimestamp != nil && !slices.Contains(sts.Finalizers, metav1.FinalizerOrphanDependents)
	})
	if !killed {
		t.Fatalf("the apply ended before it could be killed:\n%s", out)
	}
	release := func() {
		t.Helper()
		asSomebodyElse(t, statefulSets, "consul-server", func(s *appsv1.StatefulSet) {
			s.Finalizers = slices.DeleteFunc(s.Finalizers, func(f string) bool { return f == hold })
		})
		acctest.Wait(t, "the StatefulSet to be deleted", func(ctx context.Context) (string, error) {
			if _, err := statefulSets.Get(ctx, "consul-server", metav1.GetOptions{}); err == nil {
				return "it is there", nil
			}
			return "", nil
		})
	}
	release()

	out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode", "-lock=false")
	if code != 2 || !strings.Contains(out, "0 to add, 1 to change, 0 to destroy") ||
		!strings.Contains(out, "StatefulSet consul-server: missing") {
		t.Fatalf("the plan does not create the StatefulSet again (exit code %d):\n%s", code, out)
	}
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
	for _, check := range []resource.TestCheckFunc{
		haveGrown(t, namespace, 3), notRestarted(t, namespace, &before), adopted(t, namespace, 3),
	} {
		if err := check(nil); err != nil {
			t.Error(err)
		}
	}
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 0 {
		t.Errorf("the plan after that is not empty:\n%s", out)
	}

	if err := statefulSets.Delete(
		t.Context(), "consul-server", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationOrphan)},
	); err != nil {
		t.Fatal(err)
	}
	acctest.Wait(t, "the StatefulSet to be deleted", func(ctx context.Context) (string, error) {
		if _, err := statefulSets.Get(ctx, "consul-server", metav1.GetOptions{}); err == nil {
			return "it is there", nil
		}
		return "", nil
	})
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// Only a plan that grows volumes reads storage classes.
func TestAccVolumes_onlyPlansThatGrowThemReadClasses(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	namespace, class := acctest.NamespaceName(t), acctest.ExpandableClass(t)
	config := func(size string) string {
		return required + storageHCL(namespace, size, fmt.Sprintf(", class = %q", class), "  create_namespace = true\n  replicas = 1\n")
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("1Gi")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	proxy := acctest.NewKubeProxy(t)
	administrator := os.Getenv("KUBE_CONFIG_PATH")
	cli.Setenv("KUBE_CONFIG_PATH", proxy.Kubeconfig)
	asked := func() (n int) {
		for request, count := range proxy.Requests() {
			if strings.Contains(request, "storageclasses") || strings.Contains(request, "persistentvolumeclaims") {
				n += count
			}
		}
		return n
	}
	cli.Must(t.Context(), "plan", "-no-color")
	if n := asked(); n > 0 {
		t.Errorf("a plan without a change made %d requests for volumes", n)
	}
	cli.Write("main.tf", config("2Gi"))
	cli.Must(t.Context(), "plan", "-no-color")
	if n := asked(); n != 2 {
		t.Errorf("a plan that grows volumes made %d requests for them, want 2", n)
	}
	cli.Setenv("KUBE_CONFIG_PATH", administrator)
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}
