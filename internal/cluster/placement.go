package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

type placementModel struct {
	AntiAffinity   types.String `tfsdk:"anti_affinity"`
	TopologySpread types.List   `tfsdk:"topology_spread"`
	attr.Placement
}

type topologySpreadModel struct {
	TopologyKey       types.String `tfsdk:"topology_key"`
	MaxSkew           types.Int64  `tfsdk:"max_skew"`
	WhenUnsatisfiable types.String `tfsdk:"when_unsatisfiable"`
}

var (
	placementTypes = attributeTypes(placementAttribute())
	spreadTypes    = map[string]tfattr.Type{
		"topology_key": types.StringType, "max_skew": types.Int64Type, "when_unsatisfiable": types.StringType,
	}
)

func placementAttribute() schema.Attribute {
	spread := server.DefaultTopologySpread
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "Placement of the servers on nodes. A change gives each server a new pod.",
		Attributes: attr.PlacementAttributes(map[string]schema.Attribute{
			"anti_affinity": textAttribute(
				"placement.anti_affinity",
				"Whether two servers may share a node: `required` or `preferred`. Defaults to {default}, which never places "+
					"two servers on one node and so requires as many nodes as servers. "+
					"`preferred` places two servers on one node if it must. The loss of one node may then lose the quorum.",
				stringvalidator.OneOf(server.AntiAffinityRequired, server.AntiAffinityPreferred),
			),
			"topology_spread": schema.ListNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Topology spread constraints, for example across zones.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"topology_key": schema.StringAttribute{
						Required: true, Validators: []validator.String{attr.LabelKey()},
						MarkdownDescription: "Node label to spread servers across, such as `topology.kubernetes.io/zone`.",
					},
					"max_skew": schema.Int64Attribute{
						Optional: true, Computed: true, Default: int64default.StaticInt64(int64(spread.MaxSkew)),
						Validators: []validator.Int64{int64validator.Between(1, server.MaxReplicas)},
						MarkdownDescription: describe(
							"Largest difference in the number of servers between two domains. Defaults to {default}.", spread.MaxSkew,
						),
					},
					"when_unsatisfiable": schema.StringAttribute{
						Optional: true, Computed: true, Default: stringdefault.StaticString(spread.WhenUnsatisfiable),
						Validators: []validator.String{stringvalidator.OneOf(string(corev1.DoNotSchedule), string(corev1.ScheduleAnyway))},
						MarkdownDescription: describe(
							"What to do if the constraint cannot be met: `DoNotSchedule` or `ScheduleAnyway`. Defaults to {default}.",
							spread.WhenUnsatisfiable,
						),
					},
				}},
			},
		}),
	})
}

func (m model) toPlacement(ctx context.Context, diags *diag.Diagnostics) server.Placement {
	var placement placementModel
	diags.Append(m.Placement.As(ctx, &placement, basetypes.ObjectAsOptions{})...)
	p := server.Placement{
		AntiAffinity:  placement.AntiAffinity.ValueString(),
		NodeSelector:  attr.ToStrings(placement.NodeSelector),
		Tolerations:   placement.ToTolerations(ctx, diags),
		PriorityClass: placement.PriorityClass.ValueString(),
	}
	for _, t := range attr.Objects[topologySpreadModel](ctx, placement.TopologySpread, diags) {
		p.TopologySpread = append(p.TopologySpread, server.TopologySpread{
			TopologyKey: t.TopologyKey.ValueString(), MaxSkew: int32(t.MaxSkew.ValueInt64()), //nolint:gosec // validated
			WhenUnsatisfiable: t.WhenUnsatisfiable.ValueString(),
		})
	}
	return p
}

func (m *model) fromPlacement(ctx context.Context, s server.Placement, diags *diag.Diagnostics) {
	var placement placementModel
	prior(ctx, m.Placement, &placement, diags)
	placement.AntiAffinity = types.StringValue(s.AntiAffinity)
	placement.Placement = placement.From(ctx, s.NodeSelector, s.Tolerations, s.PriorityClass, diags)
	var spreads []topologySpreadModel
	for _, t := range s.TopologySpread {
		spreads = append(spreads, topologySpreadModel{
			TopologyKey: types.StringValue(t.TopologyKey), MaxSkew: types.Int64Value(int64(t.MaxSkew)),
			WhenUnsatisfiable: types.StringValue(t.WhenUnsatisfiable),
		})
	}
	placement.TopologySpread = attr.FromList(ctx, placement.TopologySpread, types.ObjectType{AttrTypes: spreadTypes}, spreads, diags)
	m.Placement = attr.Object(ctx, placementTypes, placement, diags)
}

func validatePlacement(ctx context.Context, m model, diags *diag.Diagnostics) {
	var p placementModel
	if m.Placement.IsNull() || m.Placement.IsUnknown() {
		return
	}
	diags.Append(m.Placement.As(ctx, &p, basetypes.ObjectAsOptions{})...)
	required := p.AntiAffinity.IsNull() || p.AntiAffinity.ValueString() == server.AntiAffinityRequired
	replicas := int64(server.Default().Replicas)
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
