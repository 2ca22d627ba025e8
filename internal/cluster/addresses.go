package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func httpAddressAttribute() schema.Attribute {
	return schema.StringAttribute{
		Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
		MarkdownDescription: "Address of the HTTP API inside the Kubernetes cluster, `host:port`. Null if `tls.https_only` is true.",
	}
}

func httpsAddressAttribute() schema.Attribute {
	return schema.StringAttribute{
		Computed:            true,
		MarkdownDescription: "Address of the HTTP API over TLS inside the Kubernetes cluster, `host:port`. Null if `tls.enabled` is false.",
	}
}

func dnsAddressAttribute() schema.Attribute {
	return schema.StringAttribute{
		Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
		MarkdownDescription: "Address of Consul DNS inside the Kubernetes cluster, `host:port`.",
	}
}

func httpAddress(namespace, name string) types.String {
	return types.StringValue(fmt.Sprintf("%s.%s.svc:%d", server.ClientServiceName(name), namespace, server.PortHTTP))
}

func dnsAddress(namespace, name string) types.String {
	return types.StringValue(fmt.Sprintf("%s.%s.svc:53", server.ClientServiceName(name), namespace))
}

// setAddresses fills in the addresses at which clients reach the servers.
func (m *model) setAddresses(ctx context.Context, diags *diag.Diagnostics) {
	m.HTTPAddress = httpAddress(m.Namespace.ValueString(), m.Name.ValueString())
	m.DNSAddress = dnsAddress(m.Namespace.ValueString(), m.Name.ValueString())
	switch t := m.tls(ctx, diags); {
	case m.TLS.IsUnknown() || t.Enabled.IsUnknown() || t.HTTPSOnly.IsUnknown():
		m.HTTPAddress = types.StringUnknown()
	case t.Enabled.ValueBool() && t.HTTPSOnly.ValueBool():
		m.HTTPAddress = types.StringNull()
	}
}

func (m model) httpsAddress(ctx context.Context, diags *diag.Diagnostics) types.String {
	port := m.tls(ctx, diags).HTTPSPort
	if m.Namespace.IsUnknown() || m.Name.IsUnknown() || port.IsUnknown() {
		return types.StringUnknown()
	}
	return types.StringValue(
		fmt.Sprintf("%s.%s.svc:%d", server.ClientServiceName(m.Name.ValueString()), m.Namespace.ValueString(), port.ValueInt64()),
	)
}
