package server

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
)

func takingOver() Spec {
	s := minimal()
	s.Creating, s.Established, s.Replicas = true, true, 1
	s.Adopt = &Adopt{StatefulSet: "old", Services: []string{"consul"}, TokenSecret: &SecretKey{Name: "token", Key: "value"}}
	s.Takeover = &Takeover{Replicas: 3, Join: []string{"old.prod.svc:8301", "10.0.0.1:8301", "[fd00::1]:8301"}}
	return s
}

// The end of an adoption must not restart or reload servers: they have just started.
func TestTakeover_isNotASettingOfTheServers(t *testing.T) {
	t.Parallel()
	during, after := takingOver(), takingOver()
	after.Takeover = nil
	if !reflect.DeepEqual(Objects(during).StatefulSet.Spec, Objects(after).StatefulSet.Spec) {
		t.Error("the StatefulSet differs")
	}
	if ConfigVersion(during) != ConfigVersion(after) {
		t.Error("agents would have to reload")
	}
	for i := range MaxReplicas {
		var c nodeConfig
		if err := json.Unmarshal([]byte(Objects(during).Config.Data[PodName("consul", i)+".json"]), &c); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(c.RetryJoin, during.Takeover.Join) || c.BootstrapExpect != 0 {
			t.Errorf("server %d: got %+v, want it to join the former servers, and never to expect a bootstrap", i, c)
		}
	}
	if got, want := Objects(during).Config.Data[formerKey], "old.prod.svc\n10.0.0.1\n[fd00::1]\n"; got != want {
		t.Errorf("hosts: got %q, want %q", got, want)
	}
	if d := Objects(after).Config.Data; d[formerKey] != "" || strings.Contains(d["consul-server-0.json"], "10.0.0.1") {
		t.Errorf("the former servers are still named: %q", d)
	}
}

func TestCheckAdoptVersion(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ former, wanted, says string }{
		"the same":     {"1.22.7", "1.22.7", ""},
		"an upgrade":   {"1.21.0", "1.22.7", ""},
		"a downgrade":  {"1.22.7", "1.21.0", "downgrade"},
		"a long jump":  {"1.15.0", "1.22.7", "1.17.x"},
		"too old":      {"1.7.2", "1.22.7", "upgrade them by hand first"},
		"Enterprise":   {"1.21.0+ent", "1.22.7", "Enterprise"},
		"a prerelease": {"1.22.0-rc1", "1.22.0", ""},
		"no version":   {"x", "1.22.0", "is not a version"},
	}
	for name, tt := range tests {
		err := CheckAdoptVersion(tt.former, tt.wanted)
		if !wanted.Error(err, tt.says) {
			t.Errorf("%s: got %v, want %q", name, err, tt.says)
		}
	}
}

// formerPod is a pod whose ports have the names of the Helm chart.
var formerPod = corev1.PodSpec{Containers: []corev1.Container{
	{Name: "exporter", Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9107}}},
	{Name: "consul", Ports: []corev1.ContainerPort{
		{Name: "http", ContainerPort: 8500}, {Name: "grpc", ContainerPort: 8502},
		{Name: "dns-tcp", ContainerPort: 8600}, {Name: "dns-udp", ContainerPort: 8600, Protocol: corev1.ProtocolUDP},
	}},
}}

func formerClientService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "consul", Namespace: "prod", Labels: map[string]string{"app": "consul", LabelName: "mine"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, Selector: map[string]string{"app": "consul", LabelComponent: "x"},
			Ports: []corev1.ServicePort{
				{Name: "ui", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http"), NodePort: 30000},
				{Name: "api", Port: 8500, Protocol: corev1.ProtocolTCP},
				{Name: "grpc", Port: 8502, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("grpc")},
				{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromString("dns-udp")},
			},
		},
	}
}

// patched applies a JSON merge patch, which replaces lists as a whole.
func patched(t *testing.T, svc *corev1.Service, patch []byte) *corev1.Service {
	t.Helper()
	var before, change map[string]any
	b, err := json.Marshal(svc)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(patch, &change); err != nil {
		t.Fatal(err)
	}
	var apply func(into, from map[string]any)
	apply = func(into, from map[string]any) {
		for k, v := range from {
			m, isMap := v.(map[string]any)
			old, wasMap := into[k].(map[string]any)
			switch {
			case v == nil:
				delete(into, k)
			case isMap && wasMap:
				apply(old, m)
			default:
				into[k] = v
			}
		}
	}
	apply(before, change)
	b, err = json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	after := &corev1.Service{}
	if err := json.Unmarshal(b, after); err != nil {
		t.Fatal(err)
	}
	return after
}

func TestSwitchService_routesToTheClusterAndBack(t *testing.T) {
	t.Parallel()
	before := formerClientService()
	svc := patched(t, before, RecordFormer(before))
	if LeadsTo(svc, "main") || !IsSwitched(svc) {
		t.Error("the record is missing, or the Service routes elsewhere")
	}
	svc = patched(t, svc, SwitchService(svc, formerPod, "main"))
	if !LeadsTo(svc, "main") {
		t.Errorf("the selector is %v", svc.Spec.Selector)
	}
	var ports []int32
	for _, p := range svc.Spec.Ports {
		ports = append(ports, p.TargetPort.IntVal)
	}
	if !slices.Equal(ports, []int32{8500, 8500, 8502, 8600}) || svc.Spec.Ports[0].NodePort != 30000 {
		t.Errorf("the ports are %+v", svc.Spec.Ports)
	}
	// As the client Service of the cluster, it has labels too.
	for k, v := range OwnerLabels("main") {
		svc.Labels[k] = v
	}
	_, patch, err := RestoreService(svc)
	if err != nil {
		t.Fatal(err)
	}
	after := patched(t, svc, patch)
	after.Annotations = before.Annotations
	if !reflect.DeepEqual(after, before) {
		t.Errorf("given back:\n%+v\nwas:\n%+v", after, before)
	}
}

func TestUnserved(t *testing.T) {
	t.Parallel()
	s := minimal()
	if got := Unserved(s, formerClientService(), formerPod); !slices.Equal(got, []string{"grpc"}) {
		t.Errorf("got %q", got)
	}
	s.ExtraConfig = `{"ports":{"grpc":8502}}`
	if got := Unserved(s, formerClientService(), formerPod); len(got) > 0 {
		t.Errorf("got %q, although extra_config serves it", got)
	}
}

func TestCheckClientService(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*corev1.Service)
		says   string
	}{
		"a ClusterIP with the API alone": {func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[1:2] }, ""},
		"headless":                       {func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }, "headless"},
		"another type":                   {func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, "service.type"},
		"more ports":                     {func(*corev1.Service) {}, "80/TCP, 8502/TCP"},
	}
	for name, tt := range tests {
		svc := formerClientService()
		tt.change(svc)
		err := CheckClientService(minimal(), svc)
		if !wanted.Error(err, tt.says) {
			t.Errorf("%s: got %v, want %q", name, err, tt.says)
		}
	}
}

// An EndpointSlice has the ports of the Service by their new names, as the pods serve them.
func TestBridge_routesToThePodsByTheNewNames(t *testing.T) {
	t.Parallel()
	spec := full()
	pod := corev1.Pod{Spec: Objects(spec).StatefulSet.Spec.Template.Spec, Status: corev1.PodStatus{PodIP: "fd00::1"}}
	slice := Bridge(Objects(spec).ClientService, []corev1.Pod{pod}, nil)
	got := map[string]int32{}
	for _, p := range slice.Ports {
		got[*p.Name] = *p.Port
	}
	if want := map[string]int32{"https": 9501, "dns-tcp": PortDNS, "dns-udp": PortDNS}; !reflect.DeepEqual(got, want) {
		t.Errorf("the ports are %v, want %v", got, want)
	}
	if slice.AddressType != "IPv6" || slice.Endpoints[0].Addresses[0] != "fd00::1" || slice.Labels["kubernetes.io/service-name"] != "consul" {
		t.Errorf("it routes to %+v", slice)
	}
}
