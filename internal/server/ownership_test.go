package server

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

// noDefaults stands in for the defaulting of Kubernetes, which owns nothing.
type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}

// fieldManager is the code by which the API server tracks the owners of fields.
func fieldManager(t *testing.T, o Object) *managedfields.FieldManager {
	t.Helper()
	kind := o.GetObjectKind().GroupVersionKind()
	m, err := managedfields.NewDefaultFieldManager(applyconfigurations.NewTypeConverter(scheme.Scheme),
		scheme.Scheme, noDefaults{}, scheme.Scheme, kind, kind.GroupVersion(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// applied is the live objects after the provider claims and applies what a spec renders.
func applied(t *testing.T, live Set, s Spec) Set {
	t.Helper()
	var out Set
	for _, o := range Objects(s).All() {
		kind := o.GetObjectKind().GroupVersionKind()
		var before runtime.Object
		if l := live.Like(o); l != nil {
			c := l.DeepCopyObject().(Object) //nolint:forcetypeassert // a copy
			claimed, err := Claim(kind.Kind, c.GetManagedFields())
			if err != nil {
				t.Fatal(err)
			}
			if claimed != nil {
				c.SetManagedFields(claimed)
			}
			before = c
		} else {
			empty, err := scheme.Scheme.New(kind)
			if err != nil {
				t.Fatal(err)
			}
			empty.GetObjectKind().SetGroupVersionKind(kind)
			before = empty
		}
		fields, err := Fields(o)
		if err != nil {
			t.Fatal(err)
		}
		after, err := fieldManager(t, o).Apply(before, &unstructured.Unstructured{Object: fields}, ManagedBy, true)
		if err != nil {
			t.Fatalf("applying %s: %v", objectKey(o), err)
		}
		put(t, &out, after)
	}
	return out
}

// changed is the live objects after an update by another manager.
func changed(t *testing.T, live Set, manager string, change func(*Set)) Set {
	t.Helper()
	var after, out Set
	for _, o := range live.All() {
		put(t, &after, o.DeepCopyObject())
	}
	change(&after)
	for _, o := range after.All() {
		n, err := fieldManager(t, o).Update(live.Like(o), o, manager)
		if err != nil {
			t.Fatal(err)
		}
		put(t, &out, n)
	}
	return out
}

func put(t *testing.T, set *Set, o runtime.Object) {
	t.Helper()
	switch o := o.(type) {
	case *corev1.Namespace:
		set.Namespace = o
	case *corev1.ServiceAccount:
		set.ServiceAccount = o
	case *corev1.ConfigMap:
		set.Config = o
	case *corev1.Service:
		if o.Spec.ClusterIP == corev1.ClusterIPNone {
			set.PeerService = o
		} else {
			set.ClientService = o
		}
	case *policyv1.PodDisruptionBudget:
		set.DisruptionBudget = o
	case *appsv1.StatefulSet:
		set.StatefulSet = o
	default:
		t.Fatalf("a set has no %T", o)
	}
}

// content is a set without managed fields.
func content(t *testing.T, s Set) map[string]any {
	t.Helper()
	out := map[string]any{}
	for _, o := range s.All() {
		fields, err := Fields(o)
		if err != nil {
			t.Fatal(err)
		}
		unstructured.RemoveNestedField(fields, "metadata", "managedFields")
		out[objectKey(o)] = fields
	}
	return out
}

const template = "StatefulSet consul-server: spec.template.spec."

func podOf(s *Set) *corev1.PodSpec { return &s.StatefulSet.Spec.Template.Spec }

// Whatever somebody adds to fields that the provider governs is named, and one apply removes it.
func TestClaim_oneApplyRemovesWhatOthersAdded(t *testing.T) {
	const by = " (added by somebody-else)"
	tests := map[string]struct {
		change func(*Set)
		want   []string
	}{
		"a limit": {func(s *Set) {
			podOf(s).Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}, []string{template + "containers[name=consul].resources.limits" + by}},
		"a limit of the init container": {func(s *Set) {
			podOf(s).InitContainers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}, []string{template + "initContainers[name=await-peer-removal].resources.limits" + by}},
		"one more request": {func(s *Set) {
			podOf(s).Containers[0].Resources.Requests["ephemeral-storage"] = resource.MustParse("1Gi")
		}, []string{template + "containers[name=consul].resources.requests.ephemeral-storage" + by}},
		"a toleration": {func(s *Set) {
			podOf(s).Tolerations = []corev1.Toleration{{Key: "a", Operator: "Exists"}}
		}, []string{template + "tolerations" + by}},
		"a node selector": {func(s *Set) {
			podOf(s).NodeSelector = map[string]string{"kubernetes.io/os": "linux"}
		}, []string{template + "nodeSelector" + by}},
		"node affinity": {func(s *Set) {
			podOf(s).Affinity.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "a", Operator: "Exists"}}}},
			}}
		}, []string{template + "affinity.nodeAffinity" + by}},
		"another anti-affinity": {func(s *Set) {
			podOf(s).Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{
				Weight: 1, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: "zone"},
			}}
		}, []string{template + "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution" + by}},
		"a term of the anti-affinity": {func(s *Set) {
			a := podOf(s).Affinity.PodAntiAffinity
			a.RequiredDuringSchedulingIgnoredDuringExecution = append(
				a.RequiredDuringSchedulingIgnoredDuringExecution,
				corev1.PodAffinityTerm{TopologyKey: "zone"},
			)
		}, []string{template + "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"}},
		"a topology spread": {func(s *Set) {
			podOf(s).TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
				{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: "ScheduleAnyway"},
			}
		}, []string{template + "topologySpreadConstraints" + by}},
		"a priority class": {func(s *Set) { podOf(s).PriorityClassName = "high" }, []string{template + "priorityClassName" + by}},
		"an environment variable": {func(s *Set) {
			podOf(s).Containers[0].Env = append(podOf(s).Containers[0].Env, corev1.EnvVar{Name: "GOGC", Value: "50"})
		}, []string{template + "containers[name=consul].env[name=GOGC]" + by}},
		"an argument": {func(s *Set) {
			podOf(s).Containers[0].Command = append(podOf(s).Containers[0].Command, "-log-level=trace")
		}, []string{template + "containers[name=consul].command"}},
		"a container": {func(s *Set) {
			podOf(s).Containers = append(podOf(s).Containers, corev1.Container{Name: "sidecar", Image: "x"})
		}, []string{template + "containers[name=sidecar]" + by}},
		"a volume and its mount": {func(s *Set) {
			podOf(s).Volumes = append(
				podOf(s).Volumes,
				corev1.Volume{Name: "x", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			)
			podOf(s).Containers[0].VolumeMounts = append(podOf(s).Containers[0].VolumeMounts, corev1.VolumeMount{Name: "x", MountPath: "/x"})
		}, []string{template + "containers[name=consul].volumeMounts[name=x]" + by, template + "volumes[name=x]" + by}},
		"a field of the pod that no attribute has": {func(s *Set) { podOf(s).HostNetwork = true }, []string{template + "hostNetwork" + by}},
		"another probe": {func(s *Set) {
			podOf(s).Containers[0].LivenessProbe.ProbeHandler = corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}}
		}, []string{
			template + "containers[name=consul].livenessProbe.httpGet", template + "containers[name=consul].livenessProbe.tcpSocket" + by,
		}},
		"a strategy that restarts pods": {func(s *Set) {
			s.StatefulSet.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{
				Type: "RollingUpdate", RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(0))},
			}
		}, []string{"StatefulSet consul-server: spec.updateStrategy.rollingUpdate" + by, "StatefulSet consul-server: spec.updateStrategy.type"}},
		"a port of a Service": {func(s *Set) {
			s.ClientService.Spec.Ports = append(s.ClientService.Spec.Ports, port("grpc", 8502, intstr.FromInt32(8502), "TCP"))
			s.PeerService.Spec.Ports = append(s.PeerService.Spec.Ports, port("", 8502, intstr.FromInt32(8502), "TCP"))
		}, []string{"Service consul-server: spec.ports[port=8502,protocol=TCP]" + by, "Service consul: spec.ports[name=grpc]" + by}},
		"another number of a port": {
			func(s *Set) { s.ClientService.Spec.Ports[0].Port = 81 },
			[]string{"Service consul: spec.ports[name=http].port"},
		},
		"a label that selects": {func(s *Set) {
			s.ClientService.Spec.Selector["canary"] = "yes"
		}, []string{"Service consul: spec.selector.canary" + by}},
		"ranges of a load balancer": {func(s *Set) {
			s.ClientService.Spec.LoadBalancerSourceRanges = []string{"10.0.0.0/8"}
		}, []string{"Service consul: spec.loadBalancerSourceRanges" + by}},
		"a key of the ConfigMap": {func(s *Set) {
			s.Config.Data["more.json"] = "{}"
			s.Config.BinaryData = map[string][]byte{"x": {1}}
		}, []string{"ConfigMap consul-server: binaryData" + by, "ConfigMap consul-server: data[more.json]" + by}},
		"a field of the disruption budget": {func(s *Set) {
			s.DisruptionBudget.Spec.UnhealthyPodEvictionPolicy = new(policyv1.AlwaysAllow)
			s.DisruptionBudget.Spec.Selector.MatchLabels["a"] = "b"
		}, []string{
			"PodDisruptionBudget consul-server: spec.selector.matchLabels.a" + by,
			"PodDisruptionBudget consul-server: spec.unhealthyPodEvictionPolicy" + by,
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := applied(t, Set{}, minimal())
			if drift := Drift(Objects(minimal()), before); len(drift) > 0 {
				t.Fatalf("drift without a change: %q", drift)
			}
			live := changed(t, before, "somebody-else", tt.change)
			if drift := Drift(Objects(minimal()), live); !slices.Equal(drift, tt.want) {
				t.Errorf("drift is %q, want %q", drift, tt.want)
			}
			healed := applied(t, live, minimal())
			if got, want := content(t, healed), content(t, before); !reflect.DeepEqual(got, want) {
				t.Errorf("after one apply: %v\nwant %v", got, want)
			}
			if drift := Drift(Objects(minimal()), healed); len(drift) > 0 {
				t.Errorf("drift after one apply: %q", drift)
			}
		})
	}
}

// What somebody adds to the fields of an attribute is read back with the addition.
func TestParse_showsWhatOthersAddedToAnAttribute(t *testing.T) {
	live := changed(t, applied(t, Set{}, full()), "somebody-else", func(s *Set) {
		podOf(s).Containers[0].Resources.Limits["cpu"] = resource.MustParse("1")
		podOf(s).NodeSelector["kubernetes.io/os"] = "linux"
		podOf(s).Tolerations = append(podOf(s).Tolerations, corev1.Toleration{Key: "a", Operator: "Exists"})
		podOf(s).TopologySpreadConstraints = append(podOf(s).TopologySpreadConstraints,
			corev1.TopologySpreadConstraint{MaxSkew: 2, TopologyKey: "rack", WhenUnsatisfiable: "DoNotSchedule"})
		s.StatefulSet.Spec.Template.Labels["mesh"] = "on"
		s.StatefulSet.Labels["team"] = "other"
		s.ClientService.Spec.LoadBalancerSourceRanges = []string{"0.0.0.0/0"}
	})
	want := full()
	want.Resources.Limits["cpu"] = resource.MustParse("1")
	want.Placement.NodeSelector["kubernetes.io/os"] = "linux"
	want.Placement.Tolerations = append(want.Placement.Tolerations, corev1.Toleration{Key: "a", Operator: "Exists"})
	want.Placement.TopologySpread = append(
		want.Placement.TopologySpread,
		TopologySpread{MaxSkew: 2, TopologyKey: "rack", WhenUnsatisfiable: "DoNotSchedule"},
	)
	want.PodLabels["mesh"], want.Labels["team"] = "on", "other"
	want.Service.LoadBalancerSourceRanges = []string{"0.0.0.0/0"}
	got, err := Parse(live, full())
	if err != nil {
		t.Fatal(err)
	}
	normalize(&got)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got, want := content(t, applied(t, live, full())), content(t, applied(t, Set{}, full())); !reflect.DeepEqual(got, want) {
		t.Errorf("after one apply: %v\nwant %v", got, want)
	}
}

// Metadata that others add is theirs, in the pod template too, and so is what the controllers of a load balancer
// write into a Service: it is not drift, and is kept.
func TestClaim_leavesToOthersWhatIsTheirs(t *testing.T) {
	lb := full()
	lb.Service.LoadBalancerClass, lb.Service.ExternalTrafficPolicy, lb.Service.NodePorts = "", "", NodePorts{}
	theirs := func(s *Set) {
		for _, o := range s.All() {
			o.SetLabels(merged(o.GetLabels(), map[string]string{"theirs": "yes"}))
			o.SetAnnotations(merged(o.GetAnnotations(), map[string]string{"tool.example/note": "x"}))
			o.SetFinalizers([]string{"service.kubernetes.io/load-balancer-cleanup"})
		}
		m := &s.StatefulSet.Spec.Template.ObjectMeta
		m.Labels = merged(m.Labels, map[string]string{"theirs": "yes"})
		m.Annotations = merged(m.Annotations, map[string]string{"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"})
		s.ServiceAccount.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
		s.ClientService.Spec.LoadBalancerClass = new("service.k8s.aws/nlb")
		s.ClientService.Spec.LoadBalancerIP = "192.0.2.1"
		s.ClientService.Spec.ExternalTrafficPolicy = "Local"
		for i := range s.ClientService.Spec.Ports {
			s.ClientService.Spec.Ports[i].NodePort = int32(30000 + i)
		}
	}
	for name, spec := range map[string]Spec{"minimal": minimal(), "load balancer": lb} {
		t.Run(name, func(t *testing.T) {
			live := changed(t, applied(t, Set{}, spec), "somebody-else", theirs)
			for _, known := range []Spec{spec, {CreateNamespace: spec.CreateNamespace}} {
				got, err := Parse(live, known)
				if err != nil {
					t.Fatal(err)
				}
				normalize(&got)
				if want := spec; !reflect.DeepEqual(got, want) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
			}
			if drift := Drift(Objects(spec), live); len(drift) > 0 {
				t.Errorf("drift is %q", drift)
			}
			want := content(t, live)
			got := content(t, applied(t, live, spec))
			// Kubernetes keeps the number, no matter which client chose it.
			for _, c := range []map[string]any{got, want} {
				service := c["Service consul"].(map[string]any) //nolint:forcetypeassert // content made it
				ports, _, _ := unstructured.NestedSlice(service, "spec", "ports")
				for _, p := range ports {
					delete(p.(map[string]any), "nodePort") //nolint:forcetypeassert // a port
				}
				_ = unstructured.SetNestedSlice(service, ports, "spec", "ports")
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("after an apply: %v\nwant %v", got, want)
			}
		})
	}
}

// What is no longer declared is removed, even if a tool such as the restore of a backup has written the whole object,
// and so owns it.
func TestClaim_ownsWhatOthersRestored(t *testing.T) {
	live := applied(t, Set{}, full())
	for _, o := range live.All() {
		o.SetManagedFields(nil)
	}
	var restored Set
	for _, o := range live.All() {
		empty, err := scheme.Scheme.New(o.GetObjectKind().GroupVersionKind())
		if err != nil {
			t.Fatal(err)
		}
		empty.GetObjectKind().SetGroupVersionKind(o.GetObjectKind().GroupVersionKind())
		n, err := fieldManager(t, o).Update(empty, o, "restore")
		if err != nil {
			t.Fatal(err)
		}
		put(t, &restored, n)
	}
	podOf(&restored).DNSPolicy, podOf(&restored).RestartPolicy = "ClusterFirst", "Always"
	known, err := Parse(restored, full())
	if err != nil {
		t.Fatal(err)
	}
	normalize(&known)
	if want := full(); !reflect.DeepEqual(known, want) {
		t.Errorf("got  %+v\nwant %+v", known, want)
	}
	if drift := Drift(Objects(full()), restored); len(drift) > 0 {
		t.Errorf("drift of a restored object: %q", drift)
	}
	less := full()
	less.Resources.Limits, less.Placement.NodeSelector, less.Placement.Tolerations = nil, nil, nil
	healed := applied(t, restored, less)
	if drift := Drift(Objects(less), healed); len(drift) > 0 || len(podOf(&healed).Containers[0].Resources.Limits) > 0 ||
		podOf(&healed).Tolerations != nil {
		t.Errorf("what is no longer declared still exists: %q, %+v", drift, podOf(&healed))
	}
}

// The patches of the provider own fields apart from its applies. They must not keep what is no longer declared.
func TestClaim_mergesItsOwnUpdates(t *testing.T) {
	live := changed(t, applied(t, Set{}, minimal()), ManagedBy, func(s *Set) {
		s.StatefulSet.Spec.Replicas = new(int32(5))
		s.StatefulSet.Labels["left"] = "over"
	})
	healed := applied(t, live, minimal())
	if got := maps.Clone(healed.StatefulSet.Labels); got["left"] != "" || *healed.StatefulSet.Spec.Replicas != 3 {
		t.Errorf("labels %v, replicas %d", got, *healed.StatefulSet.Spec.Replicas)
	}
	if n := len(healed.StatefulSet.ManagedFields); n != 1 {
		t.Errorf("there are %d managers", n)
	}
}

func TestClaim_changesNothingWithoutNeed(t *testing.T) {
	live := applied(t, Set{}, minimal())
	fields := live.StatefulSet.ManagedFields
	fields = append(fields, metav1.ManagedFieldsEntry{
		Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "apps/v1", Subresource: "status",
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:replicas":{}}}`),
	}, metav1.ManagedFieldsEntry{
		Manager: "kubectl", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "apps/v1", Subresource: "scale",
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`),
	})
	if got, err := Claim("StatefulSet", fields); got != nil || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}
