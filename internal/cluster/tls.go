package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/pki"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

type tlsModel struct {
	Enabled           types.Bool   `tfsdk:"enabled"`
	HTTPSOnly         types.Bool   `tfsdk:"https_only"`
	HTTPSPort         types.Int64  `tfsdk:"https_port"`
	MinVersion        types.String `tfsdk:"min_version"`
	VerifyClients     types.Bool   `tfsdk:"verify_clients"`
	CertificateSecret types.String `tfsdk:"certificate_secret"`
	CASecret          types.String `tfsdk:"ca_secret"`
	CAValidity        types.String `tfsdk:"ca_validity"`
	CATrigger         types.String `tfsdk:"ca_trigger"`
	KeyAlgorithm      types.String `tfsdk:"key_algorithm"`
	Validity          types.String `tfsdk:"validity"`
	RenewBefore       types.String `tfsdk:"renew_before"`
	DNSNames          types.List   `tfsdk:"dns_names"`
	IPAddresses       types.List   `tfsdk:"ip_addresses"`
}

var tlsTypes = attributeTypes(tlsAttribute())

// defaultRenewBefore is a percentage of the validity.
var defaultRenewBefore = fmt.Sprintf("%d%%", server.DefaultRenewBeforePercent)

// How long certificates may be valid, and how long before it expires a certificate may be renewed.
const (
	minValidity    = time.Hour
	maxValidity    = 10 * 365 * 24 * time.Hour
	maxCAValidity  = 30 * 365 * 24 * time.Hour
	minRenewBefore = time.Minute
)

func tlsAttribute() schema.Attribute {
	duration := func(name string, low, high time.Duration, text string) schema.Attribute {
		return durationAttribute(
			name, low, high, fmt.Sprintf("%s From `%s` to `%s`. Defaults to {default}.", text, attr.ShortDuration(low), attr.ShortDuration(high)),
		)
	}
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "TLS between agents, and HTTPS for clients. See the guide [Turn TLS on](../guides/tls.md).",
		Attributes: map[string]schema.Attribute{
			"enabled": boolAttribute(
				"tls.enabled",
				"Whether agents use TLS with each other, verify each other, and refuse connections without TLS. Defaults to {default}. "+
					"Clients find the certificate authority to trust in the key `ca.crt` of the ConfigMap `<name>-ca`. On a running cluster, a change "+
					"takes two rollouts across all servers, so that all servers understand each other throughout. Client agents must follow.",
			),
			"https_only": boolAttribute(
				"tls.https_only",
				"Whether to close HTTP. If `true`, HTTP answers only inside the server pods, and the Services have no port "+
					"8500. Defaults to {default}. A change gives each server a new pod. "+
					"Clients that still use HTTP are cut off when the apply starts.",
			),
			"https_port": numberAttribute(
				"tls.https_port",
				"HTTPS port of the servers and the Services. Defaults to {default}. A change gives each server a new pod, and clients must use the "+
					"new port at once.",
				int64validator.Between(1024, 65535),
			),
			"min_version": textAttribute(
				"tls.min_version",
				"Oldest TLS version that the servers accept: `"+server.TLS12+"` or `"+server.TLS13+"`. Defaults to {default}. "+
					"A change restarts the servers in place.",
				oneOf(server.TLS12, server.TLS13),
			),
			"verify_clients": boolAttribute(
				"tls.verify_clients",
				"Whether HTTPS accepts only clients with a certificate from the certificate authority of the servers. Defaults "+
					"to {default}. A change restarts the servers in place. Cannot be combined with `https_only`, because Kubernetes has no "+
					"certificate for readiness probes.",
			),
			"certificate_secret": schema.StringAttribute{
				Optional: true, Validators: []validator.String{attr.SecretName()},
				MarkdownDescription: "Secret in the cluster's namespace with a certificate for all servers, issued elsewhere. Its keys are " +
					"`tls.crt`, `tls.key`, and `ca.crt`. If the Secret gets another certificate or another `ca.crt`, the next apply replaces the one " +
					"in use, without a restart. " +
					"The certificate must be valid for servers and clients, and have the names `server.<datacenter>.<domain>` and " +
					"`<name>.<namespace>.svc`. By default, the provider issues a certificate.",
			},
			"ca_secret": schema.StringAttribute{
				Optional: true, Validators: []validator.String{attr.SecretName()},
				MarkdownDescription: "Secret in the cluster's namespace with a certificate authority of your own, root or intermediate. Its keys " +
					"are `tls.crt`, `tls.key`, and, if `tls.crt` does not end with the root, `ca.crt`. cert-manager writes such Secrets. " +
					"The authority must be able to issue certificates for servers and clients with all names of the servers. Every plan tries this. " +
					"If the Secret gets another authority, that authority replaces the one in use. To revert a replacement that a server refused, put " +
					"the old authority back. By default, the provider creates an authority and keeps it in the Secret `<name>-ca`.",
			},
			"ca_validity": duration(
				"tls.ca_validity",
				2*minValidity,
				maxCAValidity,
				"How long a certificate authority that the provider creates is valid. It is replaced if it would expire before a new server "+
					"certificate.",
			),
			"ca_trigger": schema.StringAttribute{
				Optional: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
				MarkdownDescription: "Any text. Whenever it changes, the certificate authority that the provider created is replaced, without a " +
					"restart. The first text is only recorded. Clients must trust the new authority when it is replaced: see the guide.",
			},
			"key_algorithm": textAttribute(
				"tls.key_algorithm",
				"Algorithm of the private keys that the provider creates: `"+strings.Join(pki.Algorithms(), "`, `")+
					"`. Defaults to {default}. A change also replaces the certificate authority, if "+
					"the provider created it.",
				oneOf(pki.Algorithms()...),
			),
			"validity": duration("tls.validity", minValidity, maxValidity, "How long the certificate of the servers is valid."),
			"renew_before": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(defaultRenewBefore),
				PlanModifiers: []planmodifier.String{attr.KeepSameDuration()}, Validators: []validator.String{renewBeforeValidator{}},
				MarkdownDescription: "How long before the certificate expires a plan shows its replacement, as a duration or a percentage of " +
					"`validity`. The next apply then replaces the certificate, without a restart. Make sure that an apply runs within that time. " +
					"Defaults to `" + defaultRenewBefore + "`.",
			},
			"dns_names": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				Validators: []validator.List{
					listvalidator.SizeAtLeast(1),
					listvalidator.UniqueValues(),
					listvalidator.ValueStringsAre(dnsNameValidator{}),
				},
				MarkdownDescription: "Additional names in the certificate of the servers, such as `consul.example.com`. The names that pods use " +
					"(those of the Services and pods, and `localhost`) are included anyway.",
			},
			"ip_addresses": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				Validators: []validator.List{
					listvalidator.SizeAtLeast(1),
					listvalidator.UniqueValues(),
					listvalidator.ValueStringsAre(ipValidator{}),
				},
				MarkdownDescription: "Additional IP addresses in the certificate of the servers, such as that of a load balancer. The loopback " +
					"addresses are included anyway.",
			},
		},
	})
}

// tls returns what is known of the attribute.
func (m model) tls(ctx context.Context, diags *diag.Diagnostics) (t tlsModel) {
	if !m.TLS.IsNull() && !m.TLS.IsUnknown() {
		diags.Append(m.TLS.As(ctx, &t, basetypes.ObjectAsOptions{})...)
	}
	return t
}

func (m model) toTLS(ctx context.Context, diags *diag.Diagnostics) server.TLS {
	if m.TLS.IsNull() { // the state is older than the attribute tls
		return server.TLS{TLSSettings: server.DefaultTLS}
	}
	t := m.tls(ctx, diags)
	s := server.TLS{TLSSettings: server.TLSSettings{
		HTTPSOnly: t.HTTPSOnly.ValueBool(), HTTPSPort: int(t.HTTPSPort.ValueInt64()), MinVersion: t.MinVersion.ValueString(),
		VerifyClients:     t.VerifyClients.ValueBool(),
		CertificateSecret: t.CertificateSecret.ValueString(),
		CASecret:          t.CASecret.ValueString(), KeyAlgorithm: t.KeyAlgorithm.ValueString(), CAValidity: toDuration(t.CAValidity),
		CATrigger: t.CATrigger.ValueString(),
		Validity:  toDuration(t.Validity), RenewBefore: renewBefore(t.RenewBefore.ValueString(), toDuration(t.Validity)),
	}}
	s.DNSNames, s.IPAddresses = attr.Texts(t.DNSNames), attr.Texts(t.IPAddresses)
	if t.Enabled.ValueBool() {
		s.Stage = server.StageEncrypted
	}
	return s
}

func (m *model) fromTLS(ctx context.Context, s server.TLS, diags *diag.Diagnostics) {
	t := m.tls(ctx, diags)
	// While a change is half-way, enabled stays as it was declared, and the rest shows as drift.
	if !s.Stage.HalfWay() || t.Enabled.IsNull() || t.Enabled.IsUnknown() {
		t.Enabled = types.BoolValue(s.Stage == server.StageEncrypted)
	}
	t.HTTPSOnly, t.HTTPSPort = types.BoolValue(s.HTTPSOnly), types.Int64Value(int64(s.HTTPSPort))
	t.MinVersion = types.StringValue(s.MinVersion)
	t.VerifyClients, t.CertificateSecret = types.BoolValue(s.VerifyClients), attr.OptionalString(s.CertificateSecret)
	t.CASecret, t.CATrigger = attr.OptionalString(s.CASecret), attr.OptionalString(s.CATrigger)
	t.KeyAlgorithm = types.StringValue(s.KeyAlgorithm)
	t.CAValidity, t.Validity = fromDuration(t.CAValidity, s.CAValidity), fromDuration(t.Validity, s.Validity)
	for _, text := range []string{t.RenewBefore.ValueString(), defaultRenewBefore, attr.ShortDuration(s.RenewBefore)} {
		if t.RenewBefore = types.StringValue(text); renewBefore(text, s.Validity) == s.RenewBefore {
			break
		}
	}
	t.DNSNames = attr.FromTexts(t.DNSNames, s.DNSNames)
	t.IPAddresses = attr.FromTexts(t.IPAddresses, s.IPAddresses)
	m.TLS = attr.Object(ctx, tlsTypes, t, diags)
}

// fullyKnown reports whether all attributes of an object are known.
func fullyKnown(o types.Object) bool {
	if o.IsUnknown() {
		return false
	}
	for _, v := range o.Attributes() {
		if v.IsUnknown() {
			return false
		}
	}
	return true
}

// renewBefore converts a duration, or a percentage of the validity. It returns 0 for any other text.
func renewBefore(text string, validity time.Duration) time.Duration {
	if part, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.Atoi(part)
		if err != nil {
			return 0
		}
		return validity / 100 * time.Duration(percent)
	}
	return toDuration(types.StringValue(text))
}

// renewBeforeValidator validates a duration, or a percentage.
type renewBeforeValidator struct{}

// Description implements validator.String.
func (renewBeforeValidator) Description(context.Context) string {
	return fmt.Sprintf("a duration of at least %s, or a percentage of validity from \"1%%\" to \"90%%\"", attr.ShortDuration(minRenewBefore))
}

// MarkdownDescription implements validator.String.
func (v renewBeforeValidator) MarkdownDescription(ctx context.Context) string {
	return v.Description(ctx)
}

// ValidateString implements validator.String.
func (v renewBeforeValidator) ValidateString(ctx context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if !strings.HasSuffix(req.ConfigValue.ValueString(), "%") {
		attr.DurationBetween(minRenewBefore, maxValidity).ValidateString(ctx, req, resp)
		return
	}
	if d := renewBefore(req.ConfigValue.ValueString(), 100); d < 1 || d > 90 {
		resp.Diagnostics.Append(
			attr.Error(req.Path, "Value out of range", fmt.Sprintf("%q must be %s.", req.ConfigValue.ValueString(), v.Description(ctx))),
		)
	}
}

// validateTLS refuses durations that contradict each other, ca_trigger for an authority
// that the user provides, and an authority in the provider's own Secrets.
func validateTLS(ctx context.Context, m model, diags *diag.Diagnostics) {
	t := m.tls(ctx, diags)
	if t.HTTPSOnly.ValueBool() && !t.Enabled.IsUnknown() && !t.Enabled.ValueBool() {
		diags.Append(
			attr.Error(
				nested("tls", "https_only"),
				"There is no HTTPS",
				"https_only = true needs enabled = true: otherwise no client can reach the servers.",
			),
		)
	}
	set := func(s types.String) bool { return !s.IsNull() && !s.IsUnknown() }
	if taken := server.Ports(); !t.HTTPSPort.IsNull() && slices.Contains(taken, t.HTTPSPort.ValueInt64()) {
		diags.Append(
			attr.Error(
				nested("tls", "https_port"),
				"The port is taken",
				fmt.Sprintf("Every server listens on %d for something else. Choose a port other than %v.", t.HTTPSPort.ValueInt64(), taken),
			),
		)
	}
	if t.HTTPSOnly.ValueBool() && t.VerifyClients.ValueBool() {
		diags.Append(attr.Error(
			nested("tls", "verify_clients"),
			"https_only and verify_clients exclude each other",
			"With https_only, Kubernetes probes the readiness of the servers over HTTPS, and it has no client certificate: leave one of "+
				"https_only and verify_clients out.",
		))
	}
	for attribute, name := range map[string]types.String{"ca_secret": t.CASecret, "certificate_secret": t.CertificateSecret} {
		for _, own := range []string{server.CAName(m.Name.ValueString()), server.TLSSecretName(m.Name.ValueString())} {
			if !m.Name.IsUnknown() && name.ValueString() == own {
				diags.Append(attr.Error(nested("tls", attribute), "The name is taken",
					fmt.Sprintf("The provider itself keeps certificates in the Secret %s: give yours another name.", own)))
			}
		}
	}
	if set(t.CertificateSecret) {
		for attribute, isSet := range map[string]bool{
			"ca_secret": set(t.CASecret), "ca_trigger": set(t.CATrigger), "dns_names": !t.DNSNames.IsNull(), "ip_addresses": !t.IPAddresses.IsNull(),
		} {
			if isSet {
				diags.Append(attr.Error(
					nested("tls", attribute),
					"certificate_secret and "+attribute+" exclude each other",
					"The servers use the certificate of certificate_secret as it is: leave "+attribute+" out. Or leave certificate_secret out: the "+
						"provider then issues a certificate.",
				))
			}
		}
	}
	if set(t.CASecret) && set(t.CATrigger) {
		diags.Append(attr.Error(
			nested("tls", "ca_trigger"),
			"Two ways to replace the certificate authority",
			"To replace a certificate authority of your own, put another one into its Secret, and leave ca_trigger out. Or leave ca_secret out: "+
				"the provider then creates the authority and replaces it.",
		))
	}
	or := func(s types.String, def time.Duration) time.Duration { // the configuration has no defaults
		if s.IsNull() {
			return def
		}
		return toDuration(s)
	}
	validity, ca := or(t.Validity, server.DefaultTLS.Validity), or(t.CAValidity, server.DefaultTLS.CAValidity)
	before := renewBefore(t.RenewBefore.ValueString(), validity)
	if t.Validity.IsUnknown() || validity == 0 || m.TLS.IsNull() || m.TLS.IsUnknown() {
		return
	}
	if !t.RenewBefore.IsUnknown() && !strings.HasSuffix(t.RenewBefore.ValueString(), "%") && before >= validity {
		diags.Append(attr.Error(
			nested("tls", "renew_before"),
			"The certificate would always be renewed",
			fmt.Sprintf(
				"renew_before (%s) must be less than validity (%s): otherwise every plan replaces the certificate.",
				attr.ShortDuration(before),
				attr.ShortDuration(validity),
			),
		))
	}
	if !t.CAValidity.IsUnknown() && t.CASecret.IsNull() && t.CertificateSecret.IsNull() && ca < 2*validity {
		diags.Append(attr.Error(nested("tls", "ca_validity"), "The certificate authority expires too early",
			fmt.Sprintf("ca_validity (%s) must be at least twice validity (%s).", attr.ShortDuration(ca), attr.ShortDuration(validity))))
	}
}

// checkTLS checks the planned TLS, as checkGossip checks the planned gossip.
func (r *Resource) checkTLS(ctx context.Context, state *model, plan model, diags *diag.Diagnostics) {
	if state != nil && state.tls(ctx, diags).Enabled.ValueBool() && !plan.Domain.IsUnknown() && !plan.Domain.Equal(state.Domain) {
		diags.Append(attr.Error(
			path.Root("domain"),
			"The domain cannot change while TLS is on",
			"Servers recognize each other by the name server.<datacenter>.<domain> in their certificates. Servers with the new name and servers "+
				"with the old name would refuse each other. Turn TLS off, change the domain, and turn TLS on again, each in an apply of its own.",
		))
	}
	if plan.TLS.IsUnknown() || (state != nil && plan.TLS.Equal(state.TLS)) {
		if state != nil {
			state.warnExpiry(ctx, time.Now(), diags)
		}
		if !plan.TLS.IsUnknown() { // the Secret may have another authority now
			r.checkAllBrought(ctx, state, plan, diags)
		}
		return
	}
	t := plan.tls(ctx, diags)
	after := plan.toTLS(ctx, diags)
	before := after
	if state != nil && !t.Enabled.IsUnknown() {
		before = state.toTLS(ctx, diags)
	}
	if before.Stage != after.Stage && refuseOnDelete(ctx, "tls", plan, diags) {
		return
	}
	if state != nil && before.Stage != after.Stage && plan.mayHaveACLs() && !state.mayHaveACLs() {
		diags.Append(attr.Error(
			nested("tls", "enabled"),
			"ACLs and TLS cannot be turned on together",
			"Between its two rollouts, turning TLS on reloads every server. The reload needs the management token, which does not exist before "+
				"ACLs are bootstrapped. Change acl.enabled and tls.enabled in separate applies.",
		))
		return
	}
	if state != nil && fullyKnown(plan.TLS) {
		warnTLSClients(plan.Name.ValueString(), before, after, diags)
	}
	r.checkAllBrought(ctx, state, plan, diags)
	if r.canAsk(plan) && before.Stage != after.Stage {
		ctx, cancel := context.WithTimeout(ctx, gossipTimeout)
		defer cancel()
		r.warnClientAgents(ctx, "tls", plan, diags)
	}
}

// canAsk reports whether it is possible to look at the planned cluster.
func (r *Resource) canAsk(plan model) bool {
	return r.clients != nil && !r.clients.Unknown && !plan.Name.IsUnknown() && !plan.Namespace.IsUnknown()
}

// checkAllBrought checks the Secrets with the certificate authority or the certificate that the user provides. state is nil if the
// plan creates the cluster.
func (r *Resource) checkAllBrought(ctx context.Context, state *model, plan model, diags *diag.Diagnostics) {
	t := plan.toTLS(ctx, diags)
	if !r.canAsk(plan) || t.Stage == server.StagePlain {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, gossipTimeout)
	defer cancel()
	for attribute, name := range map[string]string{"ca_secret": t.CASecret, "certificate_secret": t.CertificateSecret} {
		switch {
		case name == "":
		case state == nil && plan.CreateNamespace.ValueBool():
			refuseInNewNamespace(nested("tls", attribute), plan, name, diags)
		default:
			r.checkBrought(ctx, state, plan, attribute, name, diags)
		}
	}
}

// warnTLSClients names the changes that clients of a running cluster must follow immediately.
func warnTLSClients(name string, before, after server.TLS, diags *diag.Diagnostics) {
	if after.Stage != server.StagePlain && after.HTTPSOnly && (before.Stage == server.StagePlain || !before.HTTPSOnly) {
		when := "as soon as the apply starts"
		if before.Stage == server.StagePlain {
			when = "before the last rollout"
		}
		diags.AddAttributeWarning(nested("tls", "https_only"), "HTTP clients are cut off", fmt.Sprintf(
			"The Services lose port %d %s. From then on, clients that use HTTP fail.", server.PortHTTP, when))
	}
	if before.Stage == server.StagePlain || after.Stage == server.StagePlain {
		return
	}
	replaced := ""
	switch {
	case before.CertificateSecret != after.CertificateSecret:
		replaced = "certificate_secret"
	case before.CASecret != after.CASecret:
		replaced = "ca_secret"
	case after.CASecret != "" || after.CertificateSecret != "":
	case before.CATrigger != "" && after.CATrigger != "" && before.CATrigger != after.CATrigger:
		replaced = "ca_trigger"
	case before.KeyAlgorithm != after.KeyAlgorithm:
		replaced = "key_algorithm"
	}
	if replaced != "" {
		diags.AddAttributeWarning(nested("tls", replaced), "Clients must trust another certificate authority", fmt.Sprintf(
			"No server restarts. A few seconds after the apply starts, all servers present a certificate of the new certificate authority. From "+
				"then on, clients that trust only the previous authority fail until they read the ConfigMap %s again. Client agents also need a "+
				"certificate of the new authority. "+
				"See \"Replace the certificate authority\" in the guide \"Turn TLS on\".",
			server.CAName(name),
		))
	}
	if after.VerifyClients && !before.VerifyClients {
		diags.AddAttributeWarning(
			nested("tls", "verify_clients"),
			"HTTPS clients need a certificate",
			"As soon as the first server has restarted, it refuses HTTPS clients that have no certificate of the servers' certificate authority.",
		)
	}
	if after.HTTPSPort != before.HTTPSPort {
		diags.AddAttributeWarning(nested("tls", "https_port"), "HTTPS clients must use another port", fmt.Sprintf(
			"The Services change port %d to %d as soon as the apply starts. From then on, clients that use the previous port fail.",
			before.HTTPSPort,
			after.HTTPSPort,
		))
	}
}

// checkBrought refuses a certificate authority or a certificate that the servers cannot use. It only warns if the cluster already
// has it, so that plans of other changes succeed. If the Secret does not exist, it may still be created before the cluster.
func (r *Resource) checkBrought(ctx context.Context, state *model, plan model, attribute, name string, diags *diag.Diagnostics) {
	if plan.Datacenter.IsUnknown() || plan.Domain.IsUnknown() {
		return
	}
	c, err := r.clients.Consul(ctx, plan.Namespace.ValueString(), plan.Name.ValueString())
	if err != nil {
		return // the apply reports this
	}
	spec := server.Spec{
		Namespace: plan.Namespace.ValueString(), Name: plan.Name.ValueString(), Datacenter: plan.Datacenter.ValueString(),
		Domain: plan.Domain.ValueString(), TLS: plan.toTLS(ctx, diags),
	}
	at := nested("tls", attribute)
	switch err := encryption.CheckBrought(ctx, c, spec); {
	case errors.Is(err, encryption.ErrNoBrought):
		warnNoSecret(at, plan, name, diags)
	case errors.As(err, new(*encryption.ReadError)):
		warnNotRead(at, err, diags)
	case err != nil && state != nil && plan.TLS.Equal(state.TLS):
		diags.AddAttributeWarning(at, "No usable certificate", fmt.Sprintf(
			"%s. The servers keep the certificates that they have until the Secret has one that they can use. Until then, an apply that changes "+
				"the cluster fails.",
			err,
		))
	case err != nil:
		diags.Append(attr.Error(at, "No usable certificate", err.Error()+"."))
	}
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
