package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

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
