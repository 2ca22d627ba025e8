package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

const somebody = "somebody-else"

// access reads and writes one kind of object with a typed client.
type access[T any] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	Update(ctx context.Context, o T, opts metav1.UpdateOptions) (T, error)
}

// asSomebodyElse changes an object with another field manager.
func asSomebodyElse[T any](t *testing.T, a access[T], name string, change func(T)) {
	t.Helper()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		o, err := a.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(o)
		_, err = a.Update(t.Context(), o, metav1.UpdateOptions{FieldManager: somebody})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// generations returns the generation of the objects that have one: Kubernetes increments it with every change of a
// spec.
func generations(t *testing.T, namespace string) map[string]int64 {
	t.Helper()
	k := acctest.Kube(t)
	sts, err := k.AppsV1().StatefulSets(namespace).Get(t.Context(), "consul-server", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pdb, err := k.PolicyV1().PodDisruptionBudgets(namespace).Get(t.Context(), "consul-server", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]int64{"StatefulSet": sts.Generation, "PodDisruptionBudget": pdb.Generation}
}

// specs returns the live values of the fields that the provider governs.
func specs(t *testing.T, namespace string) map[string]string {
	t.Helper()
	k, ctx := acctest.Kube(t), t.Context()
	sts, err := k.AppsV1().StatefulSets(namespace).Get(ctx, "consul-server", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pdb, err := k.PolicyV1().PodDisruptionBudgets(namespace).Get(ctx, "consul-server", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cm, err := k.CoreV1().ConfigMaps(namespace).Get(ctx, "consul-server", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	out := map[string]string{
		"StatefulSet": text(sts.Spec), "PodDisruptionBudget": text(pdb.Spec),
		"ConfigMap": text([]any{cm.Data, cm.BinaryData}),
	}
	for _, name := range []string{"consul", "consul-server"} {
		svc, err := k.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out["Service "+name] = text(svc.Spec)
	}
	return out
}

func sameSpecs(t *testing.T, namespace string, before *map[string]string) resource.TestCheckFunc {
	return func(*terraform.State) error {
		after := specs(t, namespace)
		for name, want := range *before {
			if after[name] != want {
				return fmt.Errorf("%s is\n%s\nbefore somebody changed it, it was\n%s", name, after[name], want)
			}
		}
		return nil
	}
}

// What others add to fields that the provider governs shows in the plan, and one apply removes it. No server restarts
// if the pod template then matches what the servers run.
func TestAccCluster_removesWhatOthersAdd(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	k := acctest.Kube(t)
	statefulSets, services := k.AppsV1().StatefulSets(namespace), k.CoreV1().Services(namespace)
	config := hclVersion(namespace, acctest.ConsulVersion, "  replicas = 1\n")
	var pods map[string]types.UID
	var before map[string]string
	template := func(change func(*corev1.PodSpec)) {
		asSomebodyElse(t, statefulSets, "consul-server", func(s *appsv1.StatefulSet) { change(&s.Spec.Template.Spec) })
	}
	limit := func(p *corev1.PodSpec) {
		p.Containers[0].Resources.Limits = corev1.ResourceList{"memory": apiresource.MustParse("512Mi")}
	}
	const outdated = "Pod consul-server-0: made from another template than the StatefulSet's, will restart unless it runs what is declared"

	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config, Check: func(*terraform.State) error {
				pods, before = runs(t, namespace), specs(t, namespace)
				return nil
			}},
			{ // to fields that an attribute shows
				PreConfig: func() {
					template(func(p *corev1.PodSpec) {
						limit(p)
						p.NodeSelector = map[string]string{"kubernetes.io/os": "linux"}
						p.Tolerations = []corev1.Toleration{{Key: "example.com/a", Operator: "Exists"}}
						p.PriorityClassName = "system-cluster-critical"
						p.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
							MaxSkew: 1, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: "ScheduleAnyway",
							LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
						}}
					})
					asSomebodyElse(t, services, "consul", func(s *corev1.Service) {
						s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.Ports[0].NodePort = "NodePort", "Local", 0
					})
				},
				Config: config,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate),
					expectBefore{
						"resources",
						map[string]any{"limits": map[string]any{"memory": "512Mi"}, "requests": map[string]any{"cpu": "20m", "memory": "64Mi"}},
					},
					expectBefore{"placement", map[string]any{
						"anti_affinity": "required", "priority_class": "system-cluster-critical",
						"node_selector": map[string]any{"kubernetes.io/os": "linux"},
						"tolerations": []any{
							map[string]any{"key": "example.com/a", "operator": "Exists", "value": nil, "effect": nil, "toleration_seconds": nil},
						},
						"topology_spread": []any{
							map[string]any{"topology_key": "kubernetes.io/hostname", "max_skew": 1, "when_unsatisfiable": "ScheduleAnyway"},
						},
					}},
					expectBefore{"service", map[string]any{"type": "NodePort"}},
					expectBefore{"drift", []any{outdated}},
				}},
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 1), notRestarted(t, namespace, &pods), sameSpecs(t, namespace, &before)),
			},
			{Config: config, PlanOnly: true},
			{ // to fields that no attribute shows
				PreConfig: func() {
					template(func(p *corev1.PodSpec) {
						p.Containers[0].Env = append(p.Containers[0].Env, corev1.EnvVar{Name: "GOGC", Value: "50"})
						p.Containers = append(
							p.Containers,
							corev1.Container{Name: "sidecar", Image: "example.com/sidecar", SecurityContext: p.Containers[0].SecurityContext},
						)
						p.InitContainers[0].Resources.Limits = corev1.ResourceList{"cpu": apiresource.MustParse("1")}
						p.HostAliases = []corev1.HostAlias{{IP: "192.0.2.1", Hostnames: []string{"a"}}}
					})
					asSomebodyElse(t, services, "consul", func(s *corev1.Service) {
						s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "grpc", Port: 8502})
						s.Spec.Selector["example.com/a"] = "b"
					})
					asSomebodyElse(t, services, "consul-server", func(s *corev1.Service) {
						s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "grpc", Port: 8502})
					})
					asSomebodyElse(t, k.CoreV1().ConfigMaps(namespace), "consul-server", func(c *corev1.ConfigMap) {
						c.Data["more.json"] = "{}"
					})
					asSomebodyElse(t, k.PolicyV1().PodDisruptionBudgets(namespace), "consul-server", func(b *policyv1.PodDisruptionBudget) {
						b.Spec.UnhealthyPodEvictionPolicy = new(policyv1.AlwaysAllow)
					})
				},
				Config: config,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate),
					expectBefore{"drift", []any{
						"ConfigMap consul-server: data[more.json] (added by somebody-else)",
						"Service consul-server: spec.ports[name=grpc] (added by somebody-else)",
						"Service consul: spec.ports[name=grpc] (added by somebody-else)",
						"Service consul: spec.selector[example.com/a] (added by somebody-else)",
						"PodDisruptionBudget consul-server: spec.unhealthyPodEvictionPolicy (added by somebody-else)",
						"StatefulSet consul-server: spec.template.spec.containers[name=consul].env[name=GOGC] (added by somebody-else)",
						"StatefulSet consul-server: spec.template.spec.containers[name=sidecar] (added by somebody-else)",
						"StatefulSet consul-server: spec.template.spec.hostAliases (added by somebody-else)",
						"StatefulSet consul-server: spec.template.spec.initContainers[name=await-peer-removal].resources.limits (added by somebody-else)",
						outdated,
					}},
				}},
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 1), notRestarted(t, namespace, &pods), sameSpecs(t, namespace, &before)),
			},
			{Config: config, PlanOnly: true},
			{ // a field that has to be removed together with the restore of another
				PreConfig: func() {
					asSomebodyElse(t, statefulSets, "consul-server", func(s *appsv1.StatefulSet) {
						s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{
							Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(0))},
						}
						s.Spec.RevisionHistoryLimit = new(int32(3))
					})
				},
				Config: config,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{expectBefore{"drift", []any{
					"StatefulSet consul-server: spec.revisionHistoryLimit (added by somebody-else)",
					"StatefulSet consul-server: spec.updateStrategy.rollingUpdate (added by somebody-else)",
					"StatefulSet consul-server: spec.updateStrategy.type",
				}}}},
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 1), notRestarted(t, namespace, &pods), sameSpecs(t, namespace, &before)),
			},
			{Config: config, PlanOnly: true},
			{ // a server that already runs what was added restarts once
				PreConfig: func() {
					template(func(p *corev1.PodSpec) { // and is never ready
						limit(p)
						p.Containers[0].ReadinessProbe.ProbeHandler = corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"false"}}}
					})
					if err := k.CoreV1().Pods(namespace).Delete(t.Context(), "consul-server-0", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
					acctest.Wait(t, "the server to run what was added", func(ctx context.Context) (string, error) {
						pod, err := k.CoreV1().Pods(namespace).Get(ctx, "consul-server-0", metav1.GetOptions{})
						if err != nil || pod.UID == pods["consul-server-0"] || len(pod.Spec.Containers[0].Resources.Limits) == 0 {
							return "not yet", nil //nolint:nilerr // it is being replaced
						}
						pods = runs(t, namespace)
						return "", nil
					})
				},
				Config: config,
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 1), sameSpecs(t, namespace, &before), func(*terraform.State) error {
					pod, err := k.CoreV1().Pods(namespace).Get(t.Context(), "consul-server-0", metav1.GetOptions{})
					if err != nil {
						return err
					}
					if pod.UID == pods["consul-server-0"] || len(pod.Spec.Containers[0].Resources.Limits) > 0 {
						return fmt.Errorf("the server still has the limit %v", pod.Spec.Containers[0].Resources.Limits)
					}
					pods = runs(t, namespace)
					return nil
				}),
			},
			{Config: config, PlanOnly: true},
			{RefreshState: true, Check: notRestarted(t, namespace, &pods)},
			{ // only a pod gets another image
				PreConfig: func() {
					asSomebodyElse(t, k.CoreV1().Pods(namespace), "consul-server-0", func(p *corev1.Pod) {
						p.Spec.Containers[0].Image = "hashicorp/consul:" + acctest.ConsulVersion
					})
				},
				Config: config,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate),
					expectBefore{"drift", []any{fmt.Sprintf(
						"Pod consul-server-0: container consul has the image hashicorp/consul:%[1]s instead of docker.io/hashicorp/consul:%[1]s (changed "+
							"by somebody-else), will restart",
						acctest.ConsulVersion,
					)}},
				}},
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 1), func(*terraform.State) error {
					if gone := restarted(pods, runs(t, namespace)); len(gone) != 1 {
						return fmt.Errorf("restarted %q", gone)
					}
					return nil
				}),
			},
			{Config: config, PlanOnly: true},
		},
	})
}

// Of three servers, only the one that runs what somebody added restarts, once, however it was added.
func TestAccLong_restartsOnlyServersThatRunWhatOthersAdded(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	k := acctest.Kube(t)
	config := hclVersion(namespace, acctest.ConsulVersion, "")
	const victim = "consul-server-1"
	var pods map[string]types.UID
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config},
			{
				PreConfig: func() {
					ctx := t.Context()
					err := k.Apply(ctx, map[string]any{ // server-side, with a field manager of the tests
						"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "consul-server", "namespace": namespace},
						"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
							"tolerations": []any{map[string]any{"key": "example.com/a", "operator": "Exists"}},
							"containers":  []any{map[string]any{"name": "consul", "env": []any{map[string]any{"name": "GOGC", "value": "50"}}}},
						}}},
					})
					if err != nil {
						t.Fatal(err)
					}
					old := runs(t, namespace)[victim]
					if err := k.CoreV1().Pods(namespace).Delete(ctx, victim, metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
					acctest.Wait(t, "the server to run what was added", func(ctx context.Context) (string, error) {
						pod, err := k.CoreV1().Pods(namespace).Get(ctx, victim, metav1.GetOptions{})
						if err != nil || pod.UID == old || len(pod.Spec.Containers[0].Env) != 3 {
							return "not yet", nil //nolint:nilerr // it is being replaced
						}
						h, err := consul.ReadHealth(ctx, acctest.Consul(t, namespace, "consul"), "")
						if err != nil {
							return err.Error(), nil
						}
						return h.MissingVoters(3), nil
					})
					pods = runs(t, namespace)
				},
				Config: config,
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 3), func(*terraform.State) error {
					for name, uid := range runs(t, namespace) {
						if restarted := uid != pods[name]; restarted != (name == victim) {
							return fmt.Errorf("%s was restarted: %v", name, restarted)
						}
						pod, err := k.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
						if err != nil {
							return err
						}
						if env := pod.Spec.Containers[0].Env; len(env) != 2 {
							return fmt.Errorf("%s still has %v", name, env)
						}
					}
					return nil
				}),
			},
			{Config: config, PlanOnly: true},
		},
	})
}

// Labels, annotations, and finalizers that others add are theirs. Only a change of the pod template restarts servers,
// once, as "kubectl rollout restart" requests.
func TestAccCluster_leavesTheMetadataOfOthersAlone(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	k := acctest.Kube(t)
	statefulSets := k.AppsV1().StatefulSets(namespace)
	const restartedAt = "kubectl.kubernetes.io/restartedAt"
	config := hclVersion(
		namespace,
		acctest.ConsulVersion,
		"  replicas = 1\n  labels = { team = \"platform\" }\n  pod_labels = { mesh = \"off\" }\n",
	)
	dropped := hclVersion(namespace, acctest.ConsulVersion, "  replicas = 1\n  labels = { team = \"platform\" }\n")
	var pods map[string]types.UID
	var generation map[string]int64
	restarted := func(*terraform.State) error {
		after := runs(t, namespace)
		if after["consul-server-0"] == pods["consul-server-0"] {
			return fmt.Errorf("the server was not restarted")
		}
		pods = after
		return nil
	}
	theirs := func(template map[string]string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			sts, err := statefulSets.Get(t.Context(), "consul-server", metav1.GetOptions{})
			if err != nil {
				return err
			}
			labels := sts.Spec.Template.Labels
			for key, want := range template {
				if labels[key] != want {
					return fmt.Errorf("the label %s of the pod template is %q, want %q", key, labels[key], want)
				}
			}
			if sts.Labels["theirs"] != "yes" || sts.Annotations["tool.example/note"] != "x" || sts.Spec.Template.Annotations[restartedAt] == "" {
				return fmt.Errorf("what others added is gone: %v, %v, %v", sts.Labels, sts.Annotations, sts.Spec.Template.Annotations)
			}
			if sts.Labels["team"] != "platform" {
				return fmt.Errorf("the declared label is %q", sts.Labels["team"])
			}
			return nil
		}
	}

	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config, Check: func(*terraform.State) error {
				pods = runs(t, namespace)
				return nil
			}},
			{ // of objects: nothing to do
				PreConfig: func() {
					asSomebodyElse(t, statefulSets, "consul-server", func(s *appsv1.StatefulSet) {
						s.Labels["theirs"], s.Annotations["tool.example/note"] = "yes", "x"
					})
					asSomebodyElse(t, k.CoreV1().Services(namespace), "consul", func(s *corev1.Service) {
						s.Labels["theirs"], s.Annotations = "yes", map[string]string{"tool.example/note": "x"}
					})
				},
				Config: config, PlanOnly: true,
			},
			{ // of the pod template: the servers restart, and then there is nothing to do
				PreConfig: func() {
					asSomebodyElse(t, statefulSets, "consul-server", func(s *appsv1.StatefulSet) {
						s.Spec.Template.Labels["theirs"] = "yes"
						s.Spec.Template.Annotations[restartedAt] = "2026-01-01T00:00:00Z"
					})
				},
				Config: config,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					expectBefore{"drift", []any{"Pod consul-server-0: made from another template than the StatefulSet's, will restart"}},
					expectBefore{"pod_labels", map[string]any{"mesh": "off"}},
					expectBefore{"pod_annotations", nil},
				}},
				Check: resource.ComposeTestCheckFunc(
					voters(t, namespace, 1),
					restarted,
					theirs(map[string]string{"theirs": "yes", "mesh": "off"}),
					func(*terraform.State) error {
						generation = generations(t, namespace)
						return nil
					},
				),
			},
			{Config: config, PlanOnly: true},
			{RefreshState: true, Check: notRestarted(t, namespace, &pods)},
			{ // declared labels are restored all the same
				PreConfig: func() {
					asSomebodyElse(t, statefulSets, "consul-server", func(s *appsv1.StatefulSet) {
						s.Labels["team"], s.Spec.Template.Labels["mesh"] = "other", "on"
					})
				},
				Config: config,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					expectBefore{"labels", map[string]any{"team": "other"}},
					expectBefore{"pod_labels", map[string]any{"mesh": "on"}},
					expectBefore{
						"drift",
						[]any{"Pod consul-server-0: made from another template than the StatefulSet's, will restart unless it runs what is declared"},
					},
				}},
				Check: resource.ComposeTestCheckFunc(
					voters(t, namespace, 1),
					notRestarted(t, namespace, &pods),
					theirs(map[string]string{"mesh": "off"}),
					func(*terraform.State) error {
						if after := generations(t, namespace); after["StatefulSet"] != generation["StatefulSet"]+2 {
							return fmt.Errorf("the StatefulSet was changed more than once: generations %v, before %v", after, generation)
						}
						return nil
					},
				),
			},
			{Config: config, PlanOnly: true},
			{ // labels that are no longer declared are removed, although somebody wrote them last
				Config: dropped,
				Check:  resource.ComposeTestCheckFunc(voters(t, namespace, 1), restarted, theirs(map[string]string{"theirs": "yes", "mesh": ""})),
			},
			{Config: dropped, PlanOnly: true},
		},
	})
}

// A tool that writes an object as a whole, such as the restore of a backup, owns all of it, including what Kubernetes
// fills in. That is no drift, and keeps nothing alive that is no longer declared.
func TestAccCluster_objectsThatOthersWroteWholeShowNoDrift(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	k := acctest.Kube(t)
	config := hclVersion(namespace, acctest.ConsulVersion, "  replicas = 1\n")
	tolerant := hclVersion(
		namespace,
		acctest.ConsulVersion,
		"  replicas = 1\n  placement = { tolerations = [{ key = \"example.com/a\", operator = \"Exists\" }] }\n",
	)
	var pods map[string]types.UID
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: tolerant, Check: func(*terraform.State) error {
				pods = runs(t, namespace)
				return nil
			}},
			{
				PreConfig: func() {
					ctx := t.Context()
					sts, err := k.AppsV1().StatefulSets(namespace).Get(ctx, "consul-server", metav1.GetOptions{})
					if err != nil {
						t.Fatal(err)
					}
					err = k.AppsV1().StatefulSets(
						namespace,
					).Delete(
						ctx,
						"consul-server",
						metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationOrphan)},
					)
					if err != nil {
						t.Fatal(err)
					}
					sts.ObjectMeta = metav1.ObjectMeta{Name: sts.Name, Namespace: namespace, Labels: sts.Labels, Annotations: sts.Annotations}
					acctest.Wait(t, "the StatefulSet to be created again", func(ctx context.Context) (string, error) {
						if _, err := k.AppsV1().StatefulSets(namespace).Create(ctx, sts, metav1.CreateOptions{FieldManager: somebody}); err != nil {
							return err.Error(), nil
						}
						return "", nil
					})
					acctest.Wait(t, "the StatefulSet to find its pods", func(ctx context.Context) (string, error) {
						sts, err := k.AppsV1().StatefulSets(namespace).Get(ctx, "consul-server", metav1.GetOptions{})
						if err != nil {
							return "", err
						}
						if sts.Status.ReadyReplicas != 1 || sts.Status.ObservedGeneration != sts.Generation {
							return fmt.Sprintf("its status is %+v", sts.Status), nil
						}
						return "", nil
					})
				},
				Config: tolerant, PlanOnly: true,
			},
			{
				Config: config,
				Check: resource.ComposeTestCheckFunc(voters(t, namespace, 1), func(*terraform.State) error {
					if after := runs(t, namespace); after["consul-server-0"] == pods["consul-server-0"] {
						return fmt.Errorf("the server was not restarted")
					}
					sts, err := k.AppsV1().StatefulSets(namespace).Get(t.Context(), "consul-server", metav1.GetOptions{})
					if err != nil {
						return err
					}
					if len(sts.Spec.Template.Spec.Tolerations) > 0 {
						return fmt.Errorf("the toleration is still there: %v", sts.Spec.Template.Spec.Tolerations)
					}
					return nil
				}),
			},
			{Config: config, PlanOnly: true},
		},
	})
}
