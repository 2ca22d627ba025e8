package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	goversion "github.com/hashicorp/go-version"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Adopt names the servers that a new cluster adopts, which another tool made. It is declared, and has no effect
// once the adoption is complete.
type Adopt struct {
	// StatefulSet of the former servers, in the namespace of the cluster.
	StatefulSet string `json:"stateful_set"`
	// Services of the former servers that clients continue to use.
	Services []string `json:"services,omitempty"`
	// TokenSecret holds a management token of the former servers, nil if ACLs are off.
	TokenSecret *SecretKey `json:"token_secret,omitempty"`
}

// SecretKey is one key of a Secret in the namespace of the cluster.
type SecretKey struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// Takeover is an adoption that is not complete. Only the live objects record it.
type Takeover struct {
	// Replicas is how many servers there were before.
	Replicas int32 `json:"replicas"`
	// Join are the gossip addresses of the former servers, "<host>:<port>".
	Join []string `json:"join"`
}

// hosts are the addresses without their ports, as in a URL, one per line.
func (t Takeover) hosts() string {
	var b strings.Builder
	for _, address := range t.Join {
		host, _, err := net.SplitHostPort(address)
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		if err == nil {
			b.WriteString(host + "\n")
		}
	}
	return b.String()
}

// annotateAdopt records what is declared for an adoption, and how far the adoption is.
func annotateAdopt(annotations map[string]string, s Spec) {
	if s.Adopt != nil {
		annotations[AnnotationAdopt] = compactJSON(s.Adopt)
	}
	if s.Takeover != nil {
		annotations[AnnotationTakeover] = compactJSON(s.Takeover)
	}
}

// parseAdopt is the inverse of annotateAdopt. A value that is not readable counts as missing.
func parseAdopt(annotations map[string]string) (*Adopt, *Takeover) {
	adopt := annotated[*Adopt](annotations[AnnotationAdopt], nil)
	takeover := annotated[*Takeover](annotations[AnnotationTakeover], nil)
	return adopt, takeover
}

// IsTakeover reports whether the objects are those of a cluster whose adoption is not complete.
func (o Set) IsTakeover() bool {
	return o.StatefulSet != nil && o.StatefulSet.Annotations[AnnotationTakeover] != ""
}

// minAdoptVersion is the first version of Consul that transfers the leadership on request.
var minAdoptVersion = goversion.Must(goversion.NewVersion("1.15.0"))

// CheckAdoptVersion returns an error that says why servers of one version cannot adopt those of a former
// version: because that is too old, or because an upgrade could not do it either (UpgradePath).
func CheckAdoptVersion(former, wanted string) error {
	from, err := goversion.NewVersion(former)
	if err != nil {
		return fmt.Errorf("%q is not a version: %w", former, err)
	}
	switch {
	case strings.Contains(from.Metadata(), "ent"):
		return fmt.Errorf("the servers run Consul Enterprise %s, which is not supported", former)
	case from.Core().LessThan(minAdoptVersion):
		return fmt.Errorf(
			"the servers run Consul %s, and the leadership can only be transferred as of %s: upgrade them by hand first",
			former,
			minAdoptVersion,
		)
	}
	path, err := UpgradePath(from.Core().String(), wanted)
	if err == nil && len(path) > 1 {
		err = &JumpError{From: former, Path: path}
	}
	return err
}

// formerService is a Service of the former servers as it was, in AnnotationFormer.
type formerService struct {
	Labels   map[string]string    `json:"labels,omitempty"`
	Selector map[string]string    `json:"selector"`
	Ports    []corev1.ServicePort `json:"ports"`
}

// LeadsTo reports whether a Service routes to the servers of a cluster.
func LeadsTo(svc *corev1.Service, cluster string) bool {
	return maps.Equal(svc.Spec.Selector, ServingLabels(cluster))
}

// IsSwitched reports whether a Service belongs to the former servers and routes to the cluster, so that it can
// be given back.
func IsSwitched(svc *corev1.Service) bool { return svc.Annotations[AnnotationFormer] != "" }

// RecordFormer returns the JSON merge patch that records on a Service what it was.
func RecordFormer(svc *corev1.Service) []byte {
	record := compactJSON(formerService{Labels: svc.Labels, Selector: svc.Spec.Selector, Ports: svc.Spec.Ports})
	return []byte(compactJSON(map[string]any{"metadata": map[string]any{"annotations": map[string]any{AnnotationFormer: record}}}))
}

// SwitchService returns the JSON merge patch that routes a Service of the former servers to those of the
// cluster. former is the template of the former pods: a named port is replaced by its number, because other
// pods use another name for it.
func SwitchService(svc *corev1.Service, former corev1.PodSpec, cluster string) []byte {
	ports := slices.Clone(svc.Spec.Ports)
	for i := range ports {
		ports[i].TargetPort = intstr.FromInt32(targetPort(ports[i], former))
	}
	return []byte(compactJSON(map[string]any{"spec": map[string]any{
		"selector": replacement(svc.Spec.Selector, ServingLabels(cluster)), "ports": ports,
	}}))
}

// BridgeName is the EndpointSlice that Bridge renders.
func BridgeName(service string) string { return service + "-takeover" }

// Bridge renders the EndpointSlice that routes a Service to pods before Kubernetes does so. If the ports of a
// Service get other names, as in an adoption, kube-proxy refuses connections from when it is notified of the
// new names until it is notified of endpoints with them.
func Bridge(svc *corev1.Service, pods []corev1.Pod, declared map[string]string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: discoveryv1.SchemeGroupVersion.String(), Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{
			Name: BridgeName(svc.Name), Namespace: svc.Namespace,
			Labels: merged(declared, map[string]string{discoveryv1.LabelServiceName: svc.Name, discoveryv1.LabelManagedBy: ManagedBy}),
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, pod := range pods {
		if strings.Contains(pod.Status.PodIP, ":") {
			slice.AddressType = discoveryv1.AddressTypeIPv6
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{pod.Status.PodIP}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		})
	}
	for _, p := range svc.Spec.Ports {
		port := targetPort(p, pods[0].Spec)
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &port, Protocol: &p.Protocol})
	}
	return slice
}

// RestoreService returns what a Service was, and the JSON merge patch that reverts SwitchService, and the
// changes of the cluster if it became the client Service.
func RestoreService(svc *corev1.Service) (restored *corev1.Service, patch []byte, err error) {
	var was formerService
	if err := json.Unmarshal([]byte(svc.Annotations[AnnotationFormer]), &was); err != nil {
		return nil, nil, fmt.Errorf("reading the annotation %s of Service %s/%s: %w", AnnotationFormer, svc.Namespace, svc.Name, err)
	}
	labels := map[string]any{}
	for k := range OwnerLabels("") {
		labels[k] = nil
		if v, ok := was.Labels[k]; ok {
			labels[k] = v
		}
	}
	restored = svc.DeepCopy()
	restored.Spec.Selector, restored.Spec.Ports = was.Selector, was.Ports
	return restored, []byte(compactJSON(map[string]any{
		"metadata": map[string]any{"labels": labels, "annotations": map[string]any{AnnotationFormer: nil}},
		"spec":     map[string]any{"selector": replacement(svc.Spec.Selector, was.Selector), "ports": was.Ports},
	})), nil
}

// replacement is the merge patch that turns one map into another.
func replacement(from, to map[string]string) map[string]any {
	patch := map[string]any{}
	for k := range from {
		patch[k] = nil
	}
	for k, v := range to {
		patch[k] = v
	}
	return patch
}

// targetPort is the number of the port of a pod to which a port of a Service routes.
func targetPort(p corev1.ServicePort, pod corev1.PodSpec) int32 {
	if p.TargetPort.Type == intstr.Int {
		return cmp.Or(p.TargetPort.IntVal, p.Port)
	}
	for _, c := range pod.Containers {
		for _, port := range c.Ports {
			if port.Name == p.TargetPort.StrVal && cmp.Or(port.Protocol, corev1.ProtocolTCP) == cmp.Or(p.Protocol, corev1.ProtocolTCP) {
				return port.ContainerPort
			}
		}
	}
	return p.Port
}

// CheckClientService returns an error that says why the Service of the former
// servers cannot become the client Service of the cluster.
func CheckClientService(s Spec, svc *corev1.Service) error {
	want := clientService(s)
	switch {
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		return errors.New("it is headless, and the client Service of that name cannot be")
	case svc.Spec.Type != want.Spec.Type:
		return fmt.Errorf("its type is %s, and service.type is %s: declare the type of the Service", svc.Spec.Type, want.Spec.Type)
	}
	var missing []string
	for _, p := range svc.Spec.Ports {
		if !slices.ContainsFunc(want.Spec.Ports, func(w corev1.ServicePort) bool { return w.Port == p.Port && w.Protocol == p.Protocol }) {
			missing = append(missing, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("it has the ports %s, which the client Service of that name does not have", strings.Join(missing, ", "))
	}
	return nil
}

// Unserved names the ports of a Service behind which no server of the cluster
// listens.
func Unserved(s Spec, svc *corev1.Service, former corev1.PodSpec) []string {
	served := []int32{PortHTTP, PortServer, PortSerfLAN, PortDNS}
	if s.TLS.Stage != StagePlain {
		served = append(served, s.TLS.httpsPort())
	}
	for _, p := range extraPorts(s) {
		served = append(served, int32(p)) //nolint:gosec // at most 65535
	}
	var out []string
	for _, p := range svc.Spec.Ports {
		if !slices.Contains(served, targetPort(p, former)) {
			out = append(out, cmp.Or(p.Name, strconv.Itoa(int(p.Port))))
		}
	}
	return out
}
