package cluster

import (
	"context"
	"fmt"
	"reflect"
	"time"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

var expiryTypes = attributeTypes(certificateExpiryAttribute())

func caCertificateAttribute() schema.Attribute {
	return schema.StringAttribute{
		Computed: true,
		MarkdownDescription: "Certificate authority that clients must trust, in PEM format. While the authority is being replaced, this " +
			"contains both the old and the new one. The key `ca.crt` of the ConfigMap `<name>-ca` has the same content, which pods find there " +
			"without an apply.",
	}
}

func certificateExpiryAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Computed:            true,
		MarkdownDescription: "When certificates expire, in RFC 3339 format. Null if `tls.enabled` is false.",
		Attributes: map[string]schema.Attribute{
			"ca":     schema.StringAttribute{Computed: true, MarkdownDescription: "When the certificate authority expires."},
			"server": schema.StringAttribute{Computed: true, MarkdownDescription: "When the certificate of the servers expires."},
		},
	}
}

// planCertificates plans the computed attributes of the certificates. They change only if
// certificates are created or replaced.
func (m *model) planCertificates(ctx context.Context, state *model, w *rollout.World, diags *diag.Diagnostics) {
	enabled := m.tls(ctx, diags).Enabled
	if state != nil {
		isDrift := len(state.Drift.Elements()) > 0 && (w == nil || len(w.Certificates) > 0 || w.TLSStage.HalfWay())
		if m.TLS.Equal(state.TLS) && !isDrift {
			return
		}
		if !isDrift && fullyKnown(m.TLS) && sameCertificates(state.toTLS(ctx, diags), m.toTLS(ctx, diags)) {
			m.HTTPSAddress = m.httpsAddress(ctx, diags)
			return
		}
	}
	switch {
	case m.TLS.IsUnknown() || enabled.IsUnknown():
		m.HTTPSAddress, m.CACertificate, m.CertificateExpiry = types.StringUnknown(), types.StringUnknown(), types.ObjectUnknown(expiryTypes)
	case enabled.ValueBool():
		m.HTTPSAddress, m.CACertificate, m.CertificateExpiry = m.httpsAddress(ctx, diags), types.StringUnknown(), types.ObjectUnknown(expiryTypes)
	default:
		m.HTTPSAddress, m.CACertificate, m.CertificateExpiry = types.StringNull(), types.StringNull(), types.ObjectNull(expiryTypes)
	}
}

// sameCertificates reports whether a change leaves the certificates of running servers as
// they are.
func sameCertificates(before, after server.TLS) bool {
	if before.Stage == server.StagePlain {
		return false
	}
	before.HTTPSOnly, before.HTTPSPort = after.HTTPSOnly, after.HTTPSPort
	before.MinVersion, before.VerifyClients = after.MinVersion, after.VerifyClients
	return reflect.DeepEqual(before, after)
}

// readCertificates fills in the computed attributes of the certificates. Planned values
// stay, and the next refresh shows what is different.
func (m *model) readCertificates(ctx context.Context, c *consul.Cluster, diags *diag.Diagnostics) {
	if !m.HTTPSAddress.IsUnknown() && !m.CACertificate.IsUnknown() && !m.CertificateExpiry.IsUnknown() {
		return
	}
	var read *encryption.Certificates
	if m.toTLS(ctx, diags).Stage != server.StagePlain {
		var err error
		if read, err = encryption.ReadCertificates(ctx, c); err != nil {
			diags.AddWarning("The certificates cannot be read", err.Error())
		}
	}
	if m.HTTPSAddress = types.StringNull(); m.toTLS(ctx, diags).Stage != server.StagePlain {
		m.HTTPSAddress = m.httpsAddress(ctx, diags)
	}
	m.CACertificate, m.CertificateExpiry = types.StringNull(), types.ObjectNull(expiryTypes)
	if read != nil {
		m.CACertificate = types.StringValue(read.CA)
		m.CertificateExpiry = types.ObjectValueMust(expiryTypes, map[string]tfattr.Value{
			"ca": types.StringValue(read.CAExpires.UTC().Format(time.RFC3339)), "server": types.StringValue(read.Expires.UTC().Format(time.RFC3339)),
		})
	}
}

// forgetCertificates makes readCertificates fill in all of them.
func (m *model) forgetCertificates() {
	m.HTTPSAddress, m.CACertificate, m.CertificateExpiry = types.StringUnknown(), types.StringUnknown(), types.ObjectUnknown(expiryTypes)
}

// warnExpiry warns when something that the user provides expires soon, which no apply can
// renew: the certificate of the servers, or the authority that signs it.
func (m model) warnExpiry(ctx context.Context, now time.Time, diags *diag.Diagnostics) {
	tls := m.toTLS(ctx, diags)
	expiry := m.CertificateExpiry.Attributes()
	warn := func(what, key, attribute, secret string) {
		text, _ := expiry[key].(types.String)
		end, err := time.Parse(time.RFC3339, text.ValueString())
		if secret == "" || tls.Stage == server.StagePlain || err != nil || now.Before(end.Add(-tls.RenewBefore)) {
			return
		}
		diags.AddAttributeWarning(nested("tls", attribute), "A certificate of your own expires soon", fmt.Sprintf(
			"The %s in Secret %s/%s is valid until %s. Before that time, put another one into the Secret, and apply: the servers load it without "+
				"a restart. After that time, the servers refuse each other.",
			what,
			m.Namespace.ValueString(),
			secret,
			text.ValueString(),
		))
	}
	warn("certificate of the servers", "server", "certificate_secret", tls.CertificateSecret)
	warn("certificate authority", "ca", "ca_secret", tls.CASecret)
}
