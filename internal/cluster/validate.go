package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// minVersion is the oldest supported Consul version: the first that accepts a
// chosen bootstrap secret and transfers the leadership on request.
var minVersion = version.Must(version.NewVersion("1.15.0"))

type versionValidator struct{}

func (versionValidator) Description(context.Context) string {
	return "a Consul version, 1.15 or later"
}
func (v versionValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (versionValidator) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := checkVersion(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.Append(attr.Error(req.Path, "Invalid Consul version", err.Error()))
	}
}

// checkVersion refuses a text that is not a full semantic version, and a version that is too old.
func checkVersion(text string) error {
	v, err := server.ParseVersion(text)
	if err != nil {
		return err
	}
	if v.Core().LessThan(minVersion) {
		return fmt.Errorf(
			"%q is older than %s, the oldest Consul version that can be bootstrapped and restarted safely: use a later version",
			text,
			minVersion,
		)
	}
	return nil
}

// checkStorageClass refuses a text that cannot be the name of a storage class. "" means no class.
func checkStorageClass(text string) error {
	if p := validation.IsDNS1123Subdomain(text); text != "" && len(p) > 0 {
		return fmt.Errorf("%q would be refused by Kubernetes: %s", text, p[0])
	}
	return nil
}

type replicasValidator struct{}

func (replicasValidator) Description(context.Context) string               { return "1, 3, 5, or 7" }
func (v replicasValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (replicasValidator) ValidateInt64(_ context.Context, req validator.Int64Request, resp *validator.Int64Response) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	n := req.ConfigValue.ValueInt64()
	switch {
	case n < 1 || n > server.MaxReplicas:
		resp.Diagnostics.Append(
			attr.Error(req.Path, "Invalid number of servers", fmt.Sprintf("%d servers are not possible: use 1, 3, 5, or 7.", n)),
		)
	case n%2 == 0:
		resp.Diagnostics.Append(attr.Error(req.Path, "Even number of servers",
			fmt.Sprintf("%d servers survive the loss of no more servers than %d do, and need one more for a quorum: use 1, 3, 5, or 7.", n, n-1)))
	}
}

type extraConfigValidator struct{}

func (extraConfigValidator) Description(context.Context) string {
	return "a JSON object without keys that the provider sets"
}
func (v extraConfigValidator) MarkdownDescription(ctx context.Context) string {
	return v.Description(ctx)
}

func (extraConfigValidator) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := server.CheckExtraConfig(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.Append(attr.Error(req.Path, "Invalid extra_config", err.Error()+"."))
	}
}

// oneOf returns a validator whose message says which values are possible.
func oneOf(values ...string) validator.String { return oneOfValidator{values: values} }

type oneOfValidator struct{ values []string }

func (v oneOfValidator) Description(context.Context) string {
	return `"` + strings.Join(v.values, `" or "`) + `"`
}
func (v oneOfValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (v oneOfValidator) ValidateString(ctx context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() || slices.Contains(v.values, req.ConfigValue.ValueString()) {
		return
	}
	resp.Diagnostics.Append(
		attr.Error(req.Path, "Invalid value", fmt.Sprintf("%q is not possible: use %s.", req.ConfigValue.ValueString(), v.Description(ctx))),
	)
}

// dnsNameValidator accepts a DNS name, including a wildcard.
type dnsNameValidator struct{}

func (dnsNameValidator) Description(context.Context) string               { return "a DNS name" }
func (v dnsNameValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (dnsNameValidator) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	name := strings.TrimPrefix(req.ConfigValue.ValueString(), "*.")
	if p := validation.IsDNS1123Subdomain(name); len(p) > 0 {
		resp.Diagnostics.Append(
			attr.Error(req.Path, "Not a DNS name", fmt.Sprintf("%q is not a DNS name: %s.", req.ConfigValue.ValueString(), p[0])),
		)
	}
}

// ipValidator accepts an IP address.
type ipValidator struct{}

func (ipValidator) Description(context.Context) string               { return "an IP address" }
func (v ipValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (ipValidator) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if net.ParseIP(req.ConfigValue.ValueString()) == nil {
		resp.Diagnostics.Append(attr.Error(req.Path, "Not an IP address", fmt.Sprintf("%q is not an IP address.", req.ConfigValue.ValueString())))
	}
}

// ValidateConfig implements resource.ResourceWithValidateConfig. It checks what the
// validators of single attributes cannot check. The plan checks unknown values.
func (r *Resource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := server.CheckImage(m.Image.ValueString()); err != nil {
		resp.Diagnostics.Append(attr.Error(path.Root("image"), "Consul Enterprise is not supported", err.Error()+"."))
	} else if !m.Version.IsUnknown() && !m.Image.IsUnknown() {
		if _, _, err := versionAndImage(m.Version.ValueString(), m.Image.ValueString()); err != nil {
			resp.Diagnostics.Append(attr.Error(path.Root("version"), "No usable Consul version", err.Error()))
		}
	}
	validateNamespace(m, &resp.Diagnostics)
	validatePlacement(ctx, m, &resp.Diagnostics)
	validateService(ctx, m, &resp.Diagnostics)
	validateAdopt(ctx, m, &resp.Diagnostics)
	validateResources(ctx, m, &resp.Diagnostics)
	validateRestoreFrom(ctx, m, &resp.Diagnostics)
	validateSnapshotTo(ctx, m, &resp.Diagnostics)
	m.jobs(ctx, &resp.Diagnostics).Validate(ctx, path.Root("jobs"), &resp.Diagnostics)
	validateGossip(ctx, m, &resp.Diagnostics)
	validateTLS(ctx, m, &resp.Diagnostics)
}

// versionAndImage fills in whichever of the two is "".
func versionAndImage(v, image string) (string, string, error) {
	switch {
	case v == "" && image == "":
		return "", "", errors.New("set version, such as \"1.22.7\", or image")
	case image == "":
		return v, "docker.io/hashicorp/consul:" + v, nil
	}
	parsed, err := server.ParseImage(image)
	if err != nil {
		return "", "", fmt.Errorf("image: %w", err)
	}
	tag := parsed.Tag
	if v == "" {
		if err := checkVersion(tag); err != nil {
			return "", "", fmt.Errorf(
				"the image %q does not have a Consul version as its tag: set version to the Consul version in the image",
				image,
			)
		}
		return tag, image, nil
	}
	if t, err := version.NewSemver(tag); err == nil && strings.Count(tag, ".") == 2 && t.String() != v && !strings.HasPrefix(tag, v+"-") {
		return "", "", fmt.Errorf("version is %q but the tag of image says %q: make them agree, or leave version out", v, tag)
	}
	return v, image, nil
}

// validateNamespace refuses labels and annotations of a namespace that the cluster does not create.
func validateNamespace(m model, diags *diag.Diagnostics) {
	if m.CreateNamespace.IsUnknown() || m.CreateNamespace.ValueBool() {
		return
	}
	for name, declared := range map[string]types.Map{"namespace_labels": m.NamespaceLabels, "namespace_annotations": m.NamespaceAnnotations} {
		if len(declared.Elements()) > 0 {
			diags.Append(attr.Error(
				path.Root(name),
				"The namespace does not belong to the cluster",
				fmt.Sprintf(
					"The cluster does not create its namespace, so it does not change the namespace. Remove %s, or set create_namespace = true for a "+
						"namespace that does not exist yet.",
					name,
				),
			))
		}
	}
}

func validatePlacement(ctx context.Context, m model, diags *diag.Diagnostics) {
	var p placementModel
	if m.Placement.IsNull() || m.Placement.IsUnknown() {
		return
	}
	diags.Append(m.Placement.As(ctx, &p, basetypes.ObjectAsOptions{})...)
	required := p.AntiAffinity.IsNull() || p.AntiAffinity.ValueString() == server.AntiAffinityRequired
	replicas := int64(3)
	if !m.Replicas.IsNull() {
		replicas = m.Replicas.ValueInt64()
	}
	if host, ok := p.NodeSelector.Elements()[corev1.LabelHostname]; ok && required && !p.AntiAffinity.IsUnknown() && replicas > 1 {
		diags.Append(attr.Error(
			nested("placement", "node_selector"),
			"The placement contradicts itself",
			fmt.Sprintf(
				"node_selector puts all %d servers on the node %s, while anti_affinity = %q allows one server per node. Remove the selector, or set "+
					"anti_affinity = %q.",
				replicas,
				host,
				server.AntiAffinityRequired,
				server.AntiAffinityPreferred,
			),
		))
	}
	p.Validate(ctx, path.Root("placement"), diags)
	if p.TopologySpread.IsUnknown() {
		return
	}
	seen := map[string]bool{}
	for i, e := range p.TopologySpread.Elements() {
		o, ok := e.(types.Object)
		if !ok || o.IsUnknown() || o.IsNull() {
			continue
		}
		var t topologySpreadModel
		diags.Append(o.As(ctx, &t, basetypes.ObjectAsOptions{})...)
		if t.TopologyKey.IsUnknown() || t.WhenUnsatisfiable.IsUnknown() {
			continue
		}
		key := t.TopologyKey.ValueString() + "/" + t.WhenUnsatisfiable.ValueString()
		if seen[key] {
			diags.Append(attr.Error(
				nested("placement", "topology_spread").AtListIndex(i).AtName("topology_key"),
				"The placement contradicts itself",
				fmt.Sprintf(
					"Two topology_spread constraints have the topology_key %q and the same when_unsatisfiable: keep one.",
					t.TopologyKey.ValueString(),
				),
			))
		}
		seen[key] = true
	}
}

func validateService(ctx context.Context, m model, diags *diag.Diagnostics) {
	var s serviceModel
	if m.Service.IsNull() || m.Service.IsUnknown() {
		return
	}
	diags.Append(m.Service.As(ctx, &s, basetypes.ObjectAsOptions{})...)
	validateFamilies(s, diags)
	isExternal := s.Type.IsUnknown() || s.Type.ValueString() == string(corev1.ServiceTypeLoadBalancer) ||
		s.Type.ValueString() == string(corev1.ServiceTypeNodePort)
	if !isExternal && (!s.ExternalTrafficPolicy.IsNull() || !s.NodePorts.IsNull()) {
		diags.Append(
			attr.Error(
				nested("service", "type"),
				"The service contradicts itself",
				"external_traffic_policy and node_ports need type = \"NodePort\" or \"LoadBalancer\": set it, or remove them.",
			),
		)
	}
	if s.Type.IsUnknown() || s.Type.ValueString() == string(corev1.ServiceTypeLoadBalancer) {
		return
	}
	if !s.LoadBalancerClass.IsNull() || len(s.LoadBalancerSourceRanges.Elements()) > 0 {
		diags.Append(
			attr.Error(
				nested("service", "type"),
				"The service contradicts itself",
				"load_balancer_class and load_balancer_source_ranges need type = \"LoadBalancer\": set it, or remove them.",
			),
		)
	}
}

// validateFamilies refuses IP families that Kubernetes would refuse at apply.
func validateFamilies(s serviceModel, diags *diag.Diagnostics) {
	families := s.IPFamilies.Elements()
	if s.IPFamilies.IsUnknown() || s.IPFamilyPolicy.IsUnknown() {
		return
	}
	if s.IPFamilyPolicy.ValueString() == string(corev1.IPFamilyPolicySingleStack) && len(families) > 1 {
		diags.Append(
			attr.Error(
				nested("service", "ip_family_policy"),
				"The service contradicts itself",
				"SingleStack takes only one of ip_families: remove the other one, or use PreferDualStack or RequireDualStack.",
			),
		)
	}
	if s.ClusterIP.IsNull() || s.ClusterIP.IsUnknown() || len(families) == 0 {
		return
	}
	family := corev1.IPv4Protocol
	if strings.Contains(s.ClusterIP.ValueString(), ":") {
		family = corev1.IPv6Protocol
	}
	if first, ok := families[0].(types.String); ok && !first.IsUnknown() && first.ValueString() != string(family) {
		diags.Append(attr.Error(
			nested("service", "cluster_ip"),
			"The service contradicts itself",
			fmt.Sprintf(
				"%s is an %s address, but the first of ip_families is %s: make them agree.",
				s.ClusterIP.ValueString(),
				family,
				first.ValueString(),
			),
		))
	}
}

// validateResources refuses requests above their limits, including the default requests.
func validateResources(ctx context.Context, m model, diags *diag.Diagnostics) {
	var r attr.Resources
	if m.Resources.IsNull() || m.Resources.IsUnknown() {
		return
	}
	diags.Append(m.Resources.As(ctx, &r, basetypes.ObjectAsOptions{})...)
	if r.Requests.IsNull() {
		r.Requests = defaultRequests
	}
	r.Validate(path.Root("resources"), diags)
}
