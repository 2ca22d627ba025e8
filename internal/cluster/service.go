package cluster

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

type serviceModel struct {
	Type                     types.String `tfsdk:"type"`
	Annotations              types.Map    `tfsdk:"annotations"`
	LoadBalancerClass        types.String `tfsdk:"load_balancer_class"`
	LoadBalancerSourceRanges types.List   `tfsdk:"load_balancer_source_ranges"`
	ClusterIP                types.String `tfsdk:"cluster_ip"`
	IPFamilies               types.List   `tfsdk:"ip_families"`
	IPFamilyPolicy           types.String `tfsdk:"ip_family_policy"`
	ExternalTrafficPolicy    types.String `tfsdk:"external_traffic_policy"`
	NodePorts                types.Object `tfsdk:"node_ports"`
}

type nodePortsModel struct {
	HTTP  types.Int64 `tfsdk:"http"`
	HTTPS types.Int64 `tfsdk:"https"`
	DNS   types.Int64 `tfsdk:"dns"`
}

var (
	serviceTypes  = attributeTypes(serviceAttribute())
	nodePortTypes = attributeTypes(serviceAttribute().Attributes["node_ports"])
)

func serviceAttribute() schema.SingleNestedAttribute {
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "Client Service: HTTP on port 8500, HTTPS on port `tls.https_port` if `tls.enabled` is true, and DNS on port 53.",
		Attributes: map[string]schema.Attribute{
			"type": textAttribute(
				"service.type",
				"Type of the Service: `ClusterIP`, `NodePort`, or `LoadBalancer`. Defaults to {default}. The other two "+
					"make Consul reachable from outside the Kubernetes cluster, so enable ACLs first.",
				stringvalidator.OneOf("ClusterIP", "NodePort", "LoadBalancer"),
			),
			"annotations": schema.MapAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Annotations of the client Service only, such as those that a load balancer reads.",
			},
			"load_balancer_class": schema.StringAttribute{
				Optional: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
				MarkdownDescription: "Implementation of the load balancer, only for type `LoadBalancer`. By default, the Kubernetes cluster " +
					"chooses it.",
			},
			"load_balancer_source_ranges": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "CIDR ranges that may use the load balancer, only for type `LoadBalancer`.",
			},
			"cluster_ip": schema.StringAttribute{
				Optional: true, Validators: []validator.String{ipValidator{}},
				MarkdownDescription: "Fixed address of the Service inside the Kubernetes cluster, such as one that node-local DNS forwards to. By " +
					"default, Kubernetes chooses an address. Kubernetes does not allow the address of an existing Service to change.",
			},
			"ip_families": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				Validators: []validator.List{
					listvalidator.ValueStringsAre(oneOf(string(corev1.IPv4Protocol), string(corev1.IPv6Protocol))),
					listvalidator.UniqueValues(),
					listvalidator.SizeBetween(1, 2),
				},
				MarkdownDescription: "IP families of the Service: `IPv4`, `IPv6`, or both, with the primary family first. Defaults to the family " +
					"of the Kubernetes cluster. With `IPv6`, the servers also listen on IPv6, so adding or removing `IPv6` restarts them in place. " +
					"Kubernetes does not allow the primary family of an existing Service to change.",
			},
			"ip_family_policy": schema.StringAttribute{
				Optional: true,
				Validators: []validator.String{
					oneOf(
						string(corev1.IPFamilyPolicySingleStack), string(corev1.IPFamilyPolicyPreferDualStack),
						string(corev1.IPFamilyPolicyRequireDualStack),
					),
				},
				MarkdownDescription: "IP family policy of the Service: `SingleStack`, `PreferDualStack`, or `RequireDualStack`. Defaults to " +
					"`SingleStack`, or to `RequireDualStack` with two `ip_families`. With any value other than `SingleStack`, the servers also " +
					"listen on IPv6.",
			},
			"external_traffic_policy": schema.StringAttribute{
				Optional: true,
				Validators: []validator.String{
					oneOf(string(corev1.ServiceExternalTrafficPolicyCluster), string(corev1.ServiceExternalTrafficPolicyLocal)),
				},
				MarkdownDescription: "Routing of external traffic, only for type `NodePort` or `LoadBalancer`: `Cluster` or `Local`. Defaults to " +
					"`Cluster`. `Local` keeps the addresses of clients, and only nodes with a server answer.",
			},
			"node_ports": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Ports on every node, only for type `NodePort` or `LoadBalancer`. By default, Kubernetes chooses them.",
				Attributes: map[string]schema.Attribute{
					"http":  nodePortAttribute("Port for HTTP."),
					"https": nodePortAttribute("Port for HTTPS, only with `tls.enabled`."),
					"dns":   nodePortAttribute("Port for DNS, over both TCP and UDP."),
				},
			},
		},
	})
}

func nodePortAttribute(description string) schema.Attribute {
	return schema.Int64Attribute{
		Optional:            true,
		Validators:          []validator.Int64{int64validator.Between(1, 65535)},
		MarkdownDescription: description,
	}
}

func (m model) toService(ctx context.Context, diags *diag.Diagnostics) server.Service {
	var service serviceModel
	diags.Append(m.Service.As(ctx, &service, basetypes.ObjectAsOptions{})...)
	return server.Service{
		Type:                     service.Type.ValueString(),
		Annotations:              attr.ToStrings(service.Annotations),
		LoadBalancerClass:        service.LoadBalancerClass.ValueString(),
		LoadBalancerSourceRanges: attr.Texts(service.LoadBalancerSourceRanges),
		ClusterIP:                service.ClusterIP.ValueString(),
		IPFamilies:               attr.Texts(service.IPFamilies),
		IPFamilyPolicy:           service.IPFamilyPolicy.ValueString(),
		ExternalTrafficPolicy:    service.ExternalTrafficPolicy.ValueString(),
		NodePorts:                service.toNodePorts(ctx, diags),
	}
}

func (m *model) fromService(ctx context.Context, s server.Service, diags *diag.Diagnostics) {
	var service serviceModel
	prior(ctx, m.Service, &service, diags)
	service.Type = types.StringValue(s.Type)
	service.Annotations = attr.FromStrings(service.Annotations, s.Annotations)
	service.LoadBalancerClass = attr.OptionalString(s.LoadBalancerClass)
	service.LoadBalancerSourceRanges = attr.FromTexts(service.LoadBalancerSourceRanges, s.LoadBalancerSourceRanges)
	service.fromAddresses(ctx, s, diags)
	m.Service = attr.Object(ctx, serviceTypes, service, diags)
}

func (s serviceModel) toNodePorts(ctx context.Context, diags *diag.Diagnostics) server.NodePorts {
	var p nodePortsModel
	if s.NodePorts.IsNull() || s.NodePorts.IsUnknown() {
		return server.NodePorts{}
	}
	diags.Append(s.NodePorts.As(ctx, &p, basetypes.ObjectAsOptions{})...)
	return server.NodePorts{
		HTTP: int32(p.HTTP.ValueInt64()), HTTPS: int32(p.HTTPS.ValueInt64()), DNS: int32(p.DNS.ValueInt64()), //nolint:gosec // validated
	}
}

// fromAddresses sets the attributes that say where clients reach the Service.
func (s *serviceModel) fromAddresses(ctx context.Context, live server.Service, diags *diag.Diagnostics) {
	s.ClusterIP = attr.OptionalString(live.ClusterIP)
	s.IPFamilies = attr.FromTexts(s.IPFamilies, live.IPFamilies)
	s.IPFamilyPolicy = attr.OptionalString(live.IPFamilyPolicy)
	s.ExternalTrafficPolicy = attr.OptionalString(live.ExternalTrafficPolicy)
	if live.NodePorts == (server.NodePorts{}) && !s.NodePorts.IsUnknown() && s.toNodePorts(ctx, diags) == (server.NodePorts{}) {
		if s.NodePorts.IsNull() {
			s.NodePorts = types.ObjectNull(nodePortTypes)
		}
		return
	}
	port := func(n int32) types.Int64 {
		if n == 0 {
			return types.Int64Null()
		}
		return types.Int64Value(int64(n))
	}
	s.NodePorts = attr.Object(
		ctx,
		nodePortTypes,
		nodePortsModel{HTTP: port(live.NodePorts.HTTP), HTTPS: port(live.NodePorts.HTTPS), DNS: port(live.NodePorts.DNS)},
		diags,
	)
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
