package cluster

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
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

// plain lists the attributes that are plain settings, or blocks of nothing else. The schema, toSpec, and fromSpec follow
// from this list.
func (m *model) plain() []plain {
	return []plain{
		newPlain("create_namespace", &m.CreateNamespace, createNamespaceAttribute),
		newPlain("version", &m.Version, versionAttribute),
		newPlain("image", &m.Image, imageAttribute),
		newPlain("replicas", &m.Replicas, replicasAttribute),
		newPlain("datacenter", &m.Datacenter, datacenterAttribute),
		newPlain("domain", &m.Domain, domainAttribute),
		newPlain("performance", &m.Performance, performanceAttribute),
		newPlain("telemetry", &m.Telemetry, telemetryAttribute),
		newPlain("autopilot", &m.Autopilot, autopilotAttribute),
		newPlain("acl", &m.ACL, aclAttribute),
		newPlain("ui", &m.UI, uiAttribute),
		newPlain("share_process_namespace", &m.ShareProcessNamespace, shareProcessNamespaceAttribute),
		newPlain("deletion_protection", &m.DeletionProtection, deletionProtectionAttribute),
	}
}

// toSpec converts a model whose declared attributes are all known. The caller sets
// what only a live cluster knows (Established, Creating, Resizing).
func (m model) toSpec(ctx context.Context) (server.Spec, diag.Diagnostics) {
	var diags diag.Diagnostics
	s := server.Spec{
		Name:      m.Name.ValueString(),
		Namespace: m.Namespace.ValueString(),

		Storage:   m.toStorage(ctx, &diags),
		Resources: m.toResources(ctx, &diags),
		Placement: m.toPlacement(ctx, &diags),
		Service:   m.toService(ctx, &diags),
		Update:    m.toUpdate(ctx, &diags),
		Jobs:      m.jobs(ctx, &diags).Spec(ctx, &diags),
		Adopt:     m.toAdopt(ctx, &diags),
		Gossip:    m.toGossip(ctx, &diags),
		TLS:       m.toTLS(ctx, &diags),

		Pod: server.Pod{
			RunAs:       m.toSecurityContext(ctx, &diags),
			PullSecrets: attr.Texts(m.ImagePullSecrets),
			Extra:       m.ExtraPod.ValueString(),
		},
		ServiceAccountAnnotations: m.toServiceAccount(ctx, &diags),

		ExtraConfig:          m.ExtraConfig.ValueString(),
		Labels:               attr.ToStrings(m.Labels),
		Annotations:          attr.ToStrings(m.Annotations),
		PodLabels:            attr.ToStrings(m.PodLabels),
		PodAnnotations:       attr.ToStrings(m.PodAnnotations),
		NamespaceLabels:      attr.ToStrings(m.NamespaceLabels),
		NamespaceAnnotations: attr.ToStrings(m.NamespaceAnnotations),
	}
	for _, p := range m.plain() {
		toSettings(p.name, p.get(), &s, &diags)
	}
	s.UpgradeSnapshot = toSnapshot(ctx, m.UpgradeSnapshot, &diags)
	s.Origin = toOrigin(ctx, m.Origin, &diags)
	return s, diags
}

// fromSpec sets every declared attribute from what was read. If two ways of writing
// mean the same (no map and an empty map), the model's own value stays.
func (m *model) fromSpec(ctx context.Context, s server.Spec) diag.Diagnostics {
	var diags diag.Diagnostics
	m.ID = types.StringValue(s.ID())
	m.Name, m.Namespace = types.StringValue(s.Name), types.StringValue(s.Namespace)
	for _, p := range m.plain() {
		p.set(fromSettings(p.name, p.get(), p.attribute().GetType(), s))
	}
	m.fromStorage(ctx, s.Storage, &diags)
	m.fromResources(ctx, s.Resources, &diags)
	m.fromPlacement(ctx, s.Placement, &diags)
	m.fromService(ctx, s.Service, &diags)
	m.fromUpdate(ctx, s.Update, &diags)
	m.fromJobs(ctx, s.Jobs, &diags)
	m.fromAdopt(ctx, s.Adopt, &diags)
	m.fromGossip(ctx, s.Gossip, &diags)
	m.fromTLS(ctx, s.TLS, &diags)

	m.SecurityContext = securityContextObject(s.Pod.Effective())
	m.ImagePullSecrets = attr.FromTexts(m.ImagePullSecrets, s.Pod.PullSecrets)
	m.ExtraPod = attr.OptionalString(s.Pod.Extra)
	m.fromServiceAccount(ctx, s.ServiceAccountAnnotations, &diags)

	m.ExtraConfig = attr.OptionalString(s.ExtraConfig)
	m.Labels = attr.FromStrings(m.Labels, s.Labels)
	m.Annotations = attr.FromStrings(m.Annotations, s.Annotations)
	m.PodLabels = attr.FromStrings(m.PodLabels, s.PodLabels)
	m.PodAnnotations = attr.FromStrings(m.PodAnnotations, s.PodAnnotations)
	m.NamespaceLabels = attr.FromStrings(m.NamespaceLabels, s.NamespaceLabels)
	m.NamespaceAnnotations = attr.FromStrings(m.NamespaceAnnotations, s.NamespaceAnnotations)

	m.setAddresses(ctx, &diags)
	m.UpgradeSnapshot = fromSnapshot(ctx, s.UpgradeSnapshot, &diags)
	m.Origin = fromOrigin(ctx, s.Origin, &diags)
	return diags
}

// prior reads an object, if it is known, into a struct.
func prior(ctx context.Context, o types.Object, target any, diags *diag.Diagnostics) {
	if !o.IsNull() && !o.IsUnknown() {
		diags.Append(o.As(ctx, target, basetypes.ObjectAsOptions{})...)
	}
}
