package cluster

import (
	"fmt"

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
