package cluster

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// model is consul_k8s_cluster as Terraform sees it. Every declared attribute has a
// representation with its default filled in, so that reading the cluster back from
// Kubernetes does not depend on how the attribute was written.
type model struct {
	ID              types.String `tfsdk:"id"`
	Name            types.String `tfsdk:"name"`
	Namespace       types.String `tfsdk:"namespace"`
	CreateNamespace types.Bool   `tfsdk:"create_namespace"`

	Version    types.String `tfsdk:"version"`
	Image      types.String `tfsdk:"image"`
	Replicas   types.Int64  `tfsdk:"replicas"`
	Datacenter types.String `tfsdk:"datacenter"`
	Domain     types.String `tfsdk:"domain"`

	Storage     types.Object `tfsdk:"storage"`
	Resources   types.Object `tfsdk:"resources"`
	Placement   types.Object `tfsdk:"placement"`
	Performance types.Object `tfsdk:"performance"`
	Telemetry   types.Object `tfsdk:"telemetry"`
	Autopilot   types.Object `tfsdk:"autopilot"`
	Service     types.Object `tfsdk:"service"`
	ACL         types.Object `tfsdk:"acl"`
	Gossip      types.Object `tfsdk:"gossip"`
	TLS         types.Object `tfsdk:"tls"`
	UI          types.Bool   `tfsdk:"ui"`
	ExtraConfig types.String `tfsdk:"extra_config"`

	SecurityContext       types.Object `tfsdk:"security_context"`
	ShareProcessNamespace types.Bool   `tfsdk:"share_process_namespace"`
	ImagePullSecrets      types.List   `tfsdk:"image_pull_secrets"`
	ServiceAccount        types.Object `tfsdk:"service_account"`
	ExtraPod              types.String `tfsdk:"extra_pod"`

	Labels         types.Map `tfsdk:"labels"`
	Annotations    types.Map `tfsdk:"annotations"`
	PodLabels      types.Map `tfsdk:"pod_labels"`
	PodAnnotations types.Map `tfsdk:"pod_annotations"`

	NamespaceLabels      types.Map `tfsdk:"namespace_labels"`
	NamespaceAnnotations types.Map `tfsdk:"namespace_annotations"`

	Adopt              types.Object   `tfsdk:"adopt"`
	RestoreFrom        types.Object   `tfsdk:"restore_from"`
	Recovery           types.Object   `tfsdk:"recovery"`
	Update             types.Object   `tfsdk:"update"`
	Jobs               types.Object   `tfsdk:"jobs"`
	DeletionProtection types.Bool     `tfsdk:"deletion_protection"`
	Timeouts           timeouts.Value `tfsdk:"timeouts"`

	RunningVersion types.String `tfsdk:"running_version"`
	HTTPAddress    types.String `tfsdk:"http_address"`
	HTTPSAddress   types.String `tfsdk:"https_address"`
	DNSAddress     types.String `tfsdk:"dns_address"`
	Ready          types.Bool   `tfsdk:"ready"`
	Drift          types.List   `tfsdk:"drift"`
	Rollout        types.Object `tfsdk:"rollout"`

	CACertificate     types.String `tfsdk:"ca_certificate"`
	CertificateExpiry types.Object `tfsdk:"certificate_expiry"`
	UpgradeSnapshot   types.Object `tfsdk:"upgrade_snapshot"`
	Origin            types.Object `tfsdk:"origin"`
}

type storageModel struct {
	Size      types.String `tfsdk:"size"`
	Class     types.String `tfsdk:"class"`
	OnChange  types.String `tfsdk:"on_change"`
	Retention types.Object `tfsdk:"retention"`
}

type retentionModel struct {
	WhenDeleted types.String `tfsdk:"when_deleted"`
	WhenScaled  types.String `tfsdk:"when_scaled"`
}

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

type performanceModel struct {
	RaftMultiplier types.Int64  `tfsdk:"raft_multiplier"`
	LeaveDrainTime types.String `tfsdk:"leave_drain_time"`
	RPCHoldTimeout types.String `tfsdk:"rpc_hold_timeout"`
}

type autopilotModel struct {
	CleanupDeadServers      types.Bool   `tfsdk:"cleanup_dead_servers"`
	LastContactThreshold    types.String `tfsdk:"last_contact_threshold"`
	MaxTrailingLogs         types.Int64  `tfsdk:"max_trailing_logs"`
	ServerStabilizationTime types.String `tfsdk:"server_stabilization_time"`
}

type updateModel struct {
	Strategy       types.String `tfsdk:"strategy"`
	PauseAfter     types.Int64  `tfsdk:"pause_after"`
	OnFailure      types.String `tfsdk:"on_failure"`
	SnapshotBefore types.Bool   `tfsdk:"snapshot_before"`
	SnapshotTo     types.Object `tfsdk:"snapshot_to"`
	ServerTimeout  types.String `tfsdk:"server_timeout"`
}

type telemetryModel struct {
	PrometheusRetentionTime types.String `tfsdk:"prometheus_retention_time"`
}

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

type aclModel struct {
	Enabled       types.Bool   `tfsdk:"enabled"`
	DefaultPolicy types.String `tfsdk:"default_policy"`
}

var (
	retentionTypes = map[string]tfattr.Type{"when_deleted": types.StringType, "when_scaled": types.StringType}
	storageTypes   = map[string]tfattr.Type{
		"size": types.StringType, "class": types.StringType, "on_change": types.StringType,
		"retention": types.ObjectType{AttrTypes: retentionTypes},
	}
	spreadTypes = map[string]tfattr.Type{
		"topology_key": types.StringType, "max_skew": types.Int64Type, "when_unsatisfiable": types.StringType,
	}
	placementTypes = attr.PlacementTypes(map[string]tfattr.Type{
		"anti_affinity":   types.StringType,
		"topology_spread": types.ListType{ElemType: types.ObjectType{AttrTypes: spreadTypes}},
	})
	performanceTypes = map[string]tfattr.Type{
		"raft_multiplier": types.Int64Type, "leave_drain_time": types.StringType, "rpc_hold_timeout": types.StringType,
	}
	telemetryTypes = map[string]tfattr.Type{"prometheus_retention_time": types.StringType}
	autopilotTypes = map[string]tfattr.Type{
		"cleanup_dead_servers": types.BoolType, "last_contact_threshold": types.StringType,
		"max_trailing_logs": types.Int64Type, "server_stabilization_time": types.StringType,
	}
	updateTypes = map[string]tfattr.Type{
		"strategy": types.StringType, "pause_after": types.Int64Type, "on_failure": types.StringType,
		"snapshot_before": types.BoolType, "snapshot_to": types.ObjectType{AttrTypes: snapshotToTypes}, "server_timeout": types.StringType,
	}
	nodePortTypes = map[string]tfattr.Type{"http": types.Int64Type, "https": types.Int64Type, "dns": types.Int64Type}
	serviceTypes  = map[string]tfattr.Type{
		"type": types.StringType, "annotations": types.MapType{ElemType: types.StringType}, "load_balancer_class": types.StringType,
		"load_balancer_source_ranges": types.ListType{ElemType: types.StringType},
		"cluster_ip":                  types.StringType, "ip_families": types.ListType{ElemType: types.StringType},
		"ip_family_policy":        types.StringType,
		"external_traffic_policy": types.StringType, "node_ports": types.ObjectType{AttrTypes: nodePortTypes},
	}
	aclTypes = map[string]tfattr.Type{"enabled": types.BoolType, "default_policy": types.StringType}
)

// toSpec converts a model whose declared attributes are all known. The caller sets
// what only a live cluster knows (Established, Creating, Resizing).
func (m model) toSpec(ctx context.Context) (server.Spec, diag.Diagnostics) {
	var diags diag.Diagnostics
	var storage storageModel
	var retention retentionModel
	var resources attr.Resources
	var placement placementModel
	var performance performanceModel
	var telemetry telemetryModel
	var autopilot autopilotModel
	var update updateModel
	var service serviceModel
	var acl aclModel
	as := func(o types.Object, target any) {
		diags.Append(o.As(ctx, target, basetypes.ObjectAsOptions{})...)
	}
	as(m.Storage, &storage)
	as(storage.Retention, &retention)
	as(m.Resources, &resources)
	as(m.Placement, &placement)
	as(m.Performance, &performance)
	as(m.Telemetry, &telemetry)
	as(m.Autopilot, &autopilot)
	as(m.Update, &update)
	as(m.Service, &service)
	as(m.ACL, &acl)
	if diags.HasError() {
		return server.Spec{}, diags
	}

	s := server.Spec{
		Name:               m.Name.ValueString(),
		Namespace:          m.Namespace.ValueString(),
		CreateNamespace:    m.CreateNamespace.ValueBool(),
		Version:            m.Version.ValueString(),
		Image:              m.Image.ValueString(),
		Replicas:           int32(m.Replicas.ValueInt64()), //nolint:gosec // validated to be at most 7
		Datacenter:         m.Datacenter.ValueString(),
		Domain:             m.Domain.ValueString(),
		UI:                 m.UI.ValueBool(),
		ExtraConfig:        m.ExtraConfig.ValueString(),
		DeletionProtection: m.DeletionProtection.ValueBool(),
		Storage: server.Storage{
			Size:  attr.ToQuantity(storage.Size),
			Class: storage.Class.ValueString(), NoClass: !storage.Class.IsNull() && storage.Class.ValueString() == "",
			OnChange:    storage.OnChange.ValueString(),
			WhenDeleted: retention.WhenDeleted.ValueString(), WhenScaled: retention.WhenScaled.ValueString(),
		},
		Resources: resources.Spec(),
		Placement: server.Placement{
			AntiAffinity:  placement.AntiAffinity.ValueString(),
			NodeSelector:  attr.ToStrings(placement.NodeSelector),
			Tolerations:   placement.ToTolerations(ctx, &diags),
			PriorityClass: placement.PriorityClass.ValueString(),
		},
		Performance: server.Performance{
			RaftMultiplier: performance.RaftMultiplier.ValueInt64(),
			LeaveDrainTime: toDuration(performance.LeaveDrainTime),
			RPCHoldTimeout: toDuration(performance.RPCHoldTimeout),
		},
		Telemetry: server.Telemetry{PrometheusRetentionTime: toDuration(telemetry.PrometheusRetentionTime)},
		Autopilot: server.Autopilot{
			CleanupDeadServers:      autopilot.CleanupDeadServers.ValueBool(),
			LastContactThreshold:    toDuration(autopilot.LastContactThreshold),
			MaxTrailingLogs:         uint64(autopilot.MaxTrailingLogs.ValueInt64()), //nolint:gosec // validated to be positive
			ServerStabilizationTime: toDuration(autopilot.ServerStabilizationTime),
		},
		Update: server.Update{
			Strategy:       update.Strategy.ValueString(),
			PauseAfter:     update.PauseAfter.ValueInt64(),
			OnFailure:      update.OnFailure.ValueString(),
			SnapshotBefore: update.SnapshotBefore.ValueBool(),
			SnapshotTo:     toSnapshotTo(ctx, update.SnapshotTo, &diags),
			ServerTimeout:  toDuration(update.ServerTimeout),
		},
		Service: server.Service{
			Type:                  service.Type.ValueString(),
			Annotations:           attr.ToStrings(service.Annotations),
			LoadBalancerClass:     service.LoadBalancerClass.ValueString(),
			ClusterIP:             service.ClusterIP.ValueString(),
			IPFamilyPolicy:        service.IPFamilyPolicy.ValueString(),
			ExternalTrafficPolicy: service.ExternalTrafficPolicy.ValueString(),
			NodePorts:             service.toNodePorts(ctx, &diags),
		},
		Jobs:           m.jobs(ctx, &diags).Spec(ctx, &diags),
		Adopt:          m.toAdopt(ctx, &diags),
		Gossip:         m.toGossip(ctx, &diags),
		TLS:            m.toTLS(ctx, &diags),
		ACL:            server.ACL{Enabled: acl.Enabled.ValueBool(), DefaultPolicy: acl.DefaultPolicy.ValueString()},
		Pod:            m.toPod(ctx, &diags),
		Labels:         attr.ToStrings(m.Labels),
		Annotations:    attr.ToStrings(m.Annotations),
		PodLabels:      attr.ToStrings(m.PodLabels),
		PodAnnotations: attr.ToStrings(m.PodAnnotations),

		ServiceAccountAnnotations: m.toServiceAccount(ctx, &diags),

		NamespaceLabels:      attr.ToStrings(m.NamespaceLabels),
		NamespaceAnnotations: attr.ToStrings(m.NamespaceAnnotations),
	}
	s.UpgradeSnapshot = toSnapshot(ctx, m.UpgradeSnapshot, &diags)
	s.Origin = toOrigin(ctx, m.Origin, &diags)
	s.Service.LoadBalancerSourceRanges, s.Service.IPFamilies = attr.Texts(service.LoadBalancerSourceRanges), attr.Texts(service.IPFamilies)
	for _, t := range attr.Objects[topologySpreadModel](ctx, placement.TopologySpread, &diags) {
		s.Placement.TopologySpread = append(s.Placement.TopologySpread, server.TopologySpread{
			TopologyKey: t.TopologyKey.ValueString(), MaxSkew: int32(t.MaxSkew.ValueInt64()), //nolint:gosec // validated
			WhenUnsatisfiable: t.WhenUnsatisfiable.ValueString(),
		})
	}
	return s, diags
}

// fromSpec sets every declared attribute from what was read. If two ways of writing
// mean the same (no map and an empty map), the model's own value stays.
func (m *model) fromSpec(ctx context.Context, s server.Spec) diag.Diagnostics {
	var diags diag.Diagnostics
	var storage storageModel
	var resources attr.Resources
	var placement placementModel
	var performance performanceModel
	var telemetry telemetryModel
	var autopilot autopilotModel
	var update updateModel
	var service serviceModel
	prior := func(o types.Object, target any) {
		if !o.IsNull() && !o.IsUnknown() {
			diags.Append(o.As(ctx, target, basetypes.ObjectAsOptions{})...)
		}
	}
	prior(m.Storage, &storage)
	prior(m.Resources, &resources)
	prior(m.Placement, &placement)
	prior(m.Performance, &performance)
	prior(m.Telemetry, &telemetry)
	prior(m.Autopilot, &autopilot)
	prior(m.Update, &update)
	prior(m.Service, &service)

	m.ID = types.StringValue(s.ID())
	m.Name, m.Namespace = types.StringValue(s.Name), types.StringValue(s.Namespace)
	m.CreateNamespace = types.BoolValue(s.CreateNamespace)
	m.Version, m.Image = types.StringValue(s.Version), types.StringValue(s.Image)
	m.Replicas = types.Int64Value(int64(s.Replicas))
	m.Datacenter, m.Domain = types.StringValue(s.Datacenter), types.StringValue(s.Domain)
	m.UI = types.BoolValue(s.UI)
	m.DeletionProtection = types.BoolValue(s.DeletionProtection)
	m.ExtraConfig = attr.OptionalString(s.ExtraConfig)
	m.Labels = attr.FromStrings(m.Labels, s.Labels)
	m.Annotations = attr.FromStrings(m.Annotations, s.Annotations)
	m.PodLabels = attr.FromStrings(m.PodLabels, s.PodLabels)
	m.PodAnnotations = attr.FromStrings(m.PodAnnotations, s.PodAnnotations)
	m.NamespaceLabels = attr.FromStrings(m.NamespaceLabels, s.NamespaceLabels)
	m.NamespaceAnnotations = attr.FromStrings(m.NamespaceAnnotations, s.NamespaceAnnotations)

	storage.Size = attr.KeepQuantity(storage.Size, s.Storage.Size)
	storage.Class = types.StringPointerValue(s.Storage.ClassName())
	storage.OnChange = types.StringValue(cmp.Or(s.Storage.OnChange, server.GrowVolumes))
	storage.Retention = attr.Object(ctx, retentionTypes, retentionModel{
		WhenDeleted: types.StringValue(s.Storage.WhenDeleted), WhenScaled: types.StringValue(s.Storage.WhenScaled),
	}, &diags)
	m.Storage = attr.Object(ctx, storageTypes, storage, &diags)

	m.Resources = attr.Object(ctx, attr.ResourcesTypes, resources.From(s.Resources), &diags)

	placement.AntiAffinity = types.StringValue(s.Placement.AntiAffinity)
	placement.Placement = placement.From(ctx, s.Placement.NodeSelector, s.Placement.Tolerations, s.Placement.PriorityClass, &diags)
	var spreads []topologySpreadModel
	for _, t := range s.Placement.TopologySpread {
		spreads = append(spreads, topologySpreadModel{
			TopologyKey: types.StringValue(t.TopologyKey), MaxSkew: types.Int64Value(int64(t.MaxSkew)),
			WhenUnsatisfiable: types.StringValue(t.WhenUnsatisfiable),
		})
	}
	placement.TopologySpread = attr.FromList(ctx, placement.TopologySpread, types.ObjectType{AttrTypes: spreadTypes}, spreads, &diags)
	m.Placement = attr.Object(ctx, placementTypes, placement, &diags)

	m.Performance = attr.Object(ctx, performanceTypes, performanceModel{
		RaftMultiplier: types.Int64Value(s.Performance.RaftMultiplier),
		LeaveDrainTime: fromDuration(performance.LeaveDrainTime, s.Performance.LeaveDrainTime),
		RPCHoldTimeout: fromDuration(performance.RPCHoldTimeout, s.Performance.RPCHoldTimeout),
	}, &diags)
	m.Telemetry = attr.Object(ctx, telemetryTypes, telemetryModel{
		PrometheusRetentionTime: fromDuration(telemetry.PrometheusRetentionTime, s.Telemetry.PrometheusRetentionTime),
	}, &diags)

	m.Autopilot = attr.Object(ctx, autopilotTypes, autopilotModel{
		CleanupDeadServers:      types.BoolValue(s.Autopilot.CleanupDeadServers),
		LastContactThreshold:    fromDuration(autopilot.LastContactThreshold, s.Autopilot.LastContactThreshold),
		MaxTrailingLogs:         types.Int64Value(int64(s.Autopilot.MaxTrailingLogs)), //nolint:gosec // declared as an int64
		ServerStabilizationTime: fromDuration(autopilot.ServerStabilizationTime, s.Autopilot.ServerStabilizationTime),
	}, &diags)
	m.Update = attr.Object(ctx, updateTypes, updateModel{
		Strategy:       types.StringValue(s.Update.Strategy),
		PauseAfter:     types.Int64Value(s.Update.PauseAfter),
		OnFailure:      types.StringValue(s.Update.OnFailure),
		SnapshotBefore: types.BoolValue(s.Update.SnapshotBefore),
		SnapshotTo:     fromSnapshotTo(ctx, update.SnapshotTo, s.Update.SnapshotTo, &diags),
		ServerTimeout:  fromDuration(update.ServerTimeout, s.Update.ServerTimeout),
	}, &diags)

	service.Type = types.StringValue(s.Service.Type)
	service.Annotations = attr.FromStrings(service.Annotations, s.Service.Annotations)
	service.LoadBalancerClass = attr.OptionalString(s.Service.LoadBalancerClass)
	service.LoadBalancerSourceRanges = attr.FromTexts(service.LoadBalancerSourceRanges, s.Service.LoadBalancerSourceRanges)
	service.fromAddresses(ctx, s.Service, &diags)
	m.Service = attr.Object(ctx, serviceTypes, service, &diags)

	m.fromJobs(ctx, s.Jobs, &diags)
	m.fromPod(ctx, s, &diags)
	m.fromAdopt(ctx, s.Adopt, &diags)
	m.ACL = attr.Object(
		ctx,
		aclTypes,
		aclModel{Enabled: types.BoolValue(s.ACL.Enabled), DefaultPolicy: types.StringValue(s.ACL.DefaultPolicy)},
		&diags,
	)
	m.fromGossip(ctx, s.Gossip, &diags)
	m.fromTLS(ctx, s.TLS, &diags)
	m.setAddresses(ctx, &diags)
	m.UpgradeSnapshot = fromSnapshot(ctx, s.UpgradeSnapshot, &diags)
	m.Origin = fromOrigin(ctx, s.Origin, &diags)
	return diags
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

func httpAddress(namespace, name string) types.String {
	return types.StringValue(fmt.Sprintf("%s.%s.svc:%d", server.ClientServiceName(name), namespace, server.PortHTTP))
}

func dnsAddress(namespace, name string) types.String {
	return types.StringValue(fmt.Sprintf("%s.%s.svc:53", server.ClientServiceName(name), namespace))
}

// toDuration returns the duration. Validation has made sure that it parses.
func toDuration(s types.String) time.Duration {
	d, err := time.ParseDuration(s.ValueString())
	if err != nil {
		return 0
	}
	return d
}

// fromDuration returns prior if it is the same duration, so that it stays as it was written.
func fromDuration(prior types.String, d time.Duration) types.String {
	if p, err := time.ParseDuration(prior.ValueString()); err == nil && p == d {
		return prior
	}
	return types.StringValue(attr.ShortDuration(d))
}
