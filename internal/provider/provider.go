// Package provider implements the provider block: its schema, its configuration,
// and the list of what the provider offers.
package provider

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hashicorp/terraform-plugin-framework-validators/providervalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"k8s.io/client-go/transport"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/acl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/backup"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/cluster"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

// name of the provider in the user agent.
const name = "terraform-provider-consul-k8s"

// Provider is the provider.
type Provider struct {
	version string
	// wrap is that of kube.Config.
	wrap transport.WrapperFunc
}

var (
	_ provider.Provider                       = &Provider{}
	_ provider.ProviderWithConfigValidators   = &Provider{}
	_ provider.ProviderWithEphemeralResources = &Provider{}
	_ provider.ProviderWithFunctions          = &Provider{}
)

// New returns a constructor of the provider in a version.
func New(version string) func() provider.Provider { return NewWrapped(version, nil) }

// NewWrapped is New with a function that sees every HTTP request to Kubernetes and to Consul, for tests.
func NewWrapped(version string, wrap transport.WrapperFunc) func() provider.Provider {
	return func() provider.Provider { return &Provider{version: version, wrap: wrap} }
}

type model struct {
	Host                  types.String `tfsdk:"host"`
	Username              types.String `tfsdk:"username"`
	Password              types.String `tfsdk:"password"`
	Insecure              types.Bool   `tfsdk:"insecure"`
	TLSServerName         types.String `tfsdk:"tls_server_name"`
	ClientCertificate     types.String `tfsdk:"client_certificate"`
	ClientKey             types.String `tfsdk:"client_key"`
	ClusterCACertificate  types.String `tfsdk:"cluster_ca_certificate"`
	ConfigPath            types.String `tfsdk:"config_path"`
	ConfigPaths           types.List   `tfsdk:"config_paths"`
	ConfigContext         types.String `tfsdk:"config_context"`
	ConfigContextAuthInfo types.String `tfsdk:"config_context_auth_info"`
	ConfigContextCluster  types.String `tfsdk:"config_context_cluster"`
	Token                 types.String `tfsdk:"token"`
	ProxyURL              types.String `tfsdk:"proxy_url"`
	Exec                  *execModel   `tfsdk:"exec"`
	ExpectedClusterUID    types.String `tfsdk:"expected_cluster_uid"`
}

type execModel struct {
	APIVersion types.String `tfsdk:"api_version"`
	Command    types.String `tfsdk:"command"`
	Args       types.List   `tfsdk:"args"`
	Env        types.Map    `tfsdk:"env"`
}

// Metadata implements provider.Provider.
func (p *Provider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "consul_k8s"
	resp.Version = p.version
}

// Schema implements provider.Provider.
func (*Provider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	text := func(env, description string) schema.StringAttribute {
		return schema.StringAttribute{Optional: true, MarkdownDescription: description + " Environment variable `" + env + "`."}
	}
	secret := func(env, description string) schema.StringAttribute {
		a := text(env, description)
		a.Sensitive = true
		return a
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Runs HashiCorp Consul servers in Kubernetes: deploys them, secures them, and changes them without an outage. " +
			"The provider reaches Consul through the Kubernetes API server, so it needs access to Kubernetes and nothing else.",
		Attributes: map[string]schema.Attribute{
			"host":     text("KUBE_HOST", "Address of the Kubernetes API server, as a URL or `host:port`."),
			"username": text("KUBE_USER", "User name for basic authentication."),
			"password": secret("KUBE_PASSWORD", "Password for basic authentication."),
			"insecure": schema.BoolAttribute{
				Optional:            true,
				MarkdownDescription: "Whether to accept any certificate of the API server. Only for tests. Environment variable `KUBE_INSECURE`.",
			},
			"tls_server_name":        text("KUBE_TLS_SERVER_NAME", "Name to verify the certificate of the API server against."),
			"client_certificate":     text("KUBE_CLIENT_CERT_DATA", "Client certificate, in PEM format."),
			"client_key":             secret("KUBE_CLIENT_KEY_DATA", "Key of the client certificate, in PEM format."),
			"cluster_ca_certificate": text("KUBE_CLUSTER_CA_CERT_DATA", "Certificate authority of the API server, in PEM format."),
			"config_path":            text("KUBE_CONFIG_PATH", "Path of a kubeconfig file. The variable `KUBECONFIG` is not read."),
			"config_paths": schema.ListAttribute{
				Optional:            true,
				ElementType:         types.StringType,
				MarkdownDescription: "Paths of kubeconfig files, which are merged. Environment variable `KUBE_CONFIG_PATHS`, separated as in `PATH`.",
			},
			"config_context":           text("KUBE_CTX", "Context of the kubeconfig to use."),
			"config_context_auth_info": text("KUBE_CTX_AUTH_INFO", "User of the kubeconfig to use instead of the user of the context."),
			"config_context_cluster":   text("KUBE_CTX_CLUSTER", "Cluster of the kubeconfig to use instead of the cluster of the context."),
			"token":                    secret("KUBE_TOKEN", "Bearer token, such as the token of a ServiceAccount."),
			"proxy_url":                text("KUBE_PROXY_URL", "URL of an HTTP, HTTPS or SOCKS5 proxy to the API server."),
			"exec": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "[Credential plugin](https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins), such as `aws eks get-token`. Do not set `token` or `client_certificate` together with it.",
				Attributes: map[string]schema.Attribute{
					"api_version": schema.StringAttribute{
						Required:            true,
						MarkdownDescription: "API version that the plugin uses: `client.authentication.k8s.io/v1` or `client.authentication.k8s.io/v1beta1`.",
						Validators: []validator.String{
							stringvalidator.OneOf("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"),
						},
					},
					"command": schema.StringAttribute{
						Required:            true,
						MarkdownDescription: "Command to run.",
						Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
					},
					"args": schema.ListAttribute{Optional: true, ElementType: types.StringType, MarkdownDescription: "Arguments of the command."},
					"env": schema.MapAttribute{
						Optional:            true,
						Sensitive:           true,
						ElementType:         types.StringType,
						MarkdownDescription: "Additional environment variables of the command.",
					},
				},
			},
			"expected_cluster_uid": schema.StringAttribute{
				Optional:   true,
				Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
				MarkdownDescription: "UID that the Kubernetes cluster must have. To get it, run `kubectl get namespace kube-system -o " +
					"jsonpath={.metadata.uid}`. " +
					"Any other cluster is refused before anything is touched. Environment variable `KUBE_EXPECTED_CLUSTER_UID`.",
			},
		},
	}
}

// ConfigValidators implements provider.ProviderWithConfigValidators.
func (*Provider) ConfigValidators(context.Context) []provider.ConfigValidator {
	return []provider.ConfigValidator{
		providervalidator.Conflicting(path.MatchRoot("config_path"), path.MatchRoot("config_paths")),
		providervalidator.Conflicting(path.MatchRoot("exec"), path.MatchRoot("token")),
		providervalidator.Conflicting(path.MatchRoot("exec"), path.MatchRoot("client_certificate")),
	}
}

// Configure implements provider.Provider. It does not connect to anything.
func (p *Provider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	clients := session.NewClients()
	resp.DataSourceData, resp.ResourceData, resp.EphemeralResourceData = clients, clients, clients
	if !req.Config.Raw.IsFullyKnown() {
		// The Kubernetes cluster is created in the same apply. Terraform configures
		// the provider again, with everything known, before it applies anything.
		clients.Unknown = true
		if req.ClientCapabilities.DeferralAllowed {
			resp.Deferred = &provider.Deferred{Reason: provider.DeferredReasonProviderConfigUnknown}
		}
		return
	}
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	clients.Config = m.config(&resp.Diagnostics)
	clients.Config.UserAgent = fmt.Sprintf("%s/%s Terraform/%s", name, p.version, req.TerraformVersion)
	clients.Config.Wrap = p.wrap
	clients.ExpectedUID = or(m.ExpectedClusterUID, "KUBE_EXPECTED_CLUSTER_UID")
}

// config merges the block and the environment. An attribute takes precedence over its variable.
func (m model) config(diags *diag.Diagnostics) kube.Config {
	c := kube.Config{
		Host:                 or(m.Host, "KUBE_HOST"),
		Username:             or(m.Username, "KUBE_USER"),
		Password:             or(m.Password, "KUBE_PASSWORD"),
		TLSServerName:        or(m.TLSServerName, "KUBE_TLS_SERVER_NAME"),
		ClientCertificate:    or(m.ClientCertificate, "KUBE_CLIENT_CERT_DATA"),
		ClientKey:            or(m.ClientKey, "KUBE_CLIENT_KEY_DATA"),
		ClusterCACertificate: or(m.ClusterCACertificate, "KUBE_CLUSTER_CA_CERT_DATA"),
		Context:              or(m.ConfigContext, "KUBE_CTX"),
		ContextAuthInfo:      or(m.ConfigContextAuthInfo, "KUBE_CTX_AUTH_INFO"),
		ContextCluster:       or(m.ConfigContextCluster, "KUBE_CTX_CLUSTER"),
		Token:                or(m.Token, "KUBE_TOKEN"),
		ProxyURL:             or(m.ProxyURL, "KUBE_PROXY_URL"),
		Insecure:             m.Insecure.ValueBool(),
	}
	if v, ok := os.LookupEnv("KUBE_INSECURE"); ok && m.Insecure.IsNull() {
		insecure, err := strconv.ParseBool(v)
		if err != nil {
			diags.AddAttributeError(path.Root("insecure"), "Invalid KUBE_INSECURE", fmt.Sprintf("%q is neither true nor false.", v))
		}
		c.Insecure = insecure
	}
	switch {
	case !m.ConfigPaths.IsNull():
		c.ConfigPaths = attr.Texts(m.ConfigPaths)
	case !m.ConfigPath.IsNull():
		c.ConfigPaths = []string{m.ConfigPath.ValueString()}
	case os.Getenv("KUBE_CONFIG_PATHS") != "":
		c.ConfigPaths = filepath.SplitList(os.Getenv("KUBE_CONFIG_PATHS"))
	case os.Getenv("KUBE_CONFIG_PATH") != "":
		c.ConfigPaths = []string{os.Getenv("KUBE_CONFIG_PATH")}
	}
	if m.Exec != nil {
		c.Exec = &kube.Exec{APIVersion: m.Exec.APIVersion.ValueString(), Command: m.Exec.Command.ValueString()}
		c.Exec.Args, c.Exec.Env = attr.Texts(m.Exec.Args), attr.ToStrings(m.Exec.Env)
	}
	return c
}

// or returns the attribute, or the environment variable if the attribute is not set.
func or(v types.String, env string) string {
	if v.IsNull() {
		return os.Getenv(env)
	}
	return v.ValueString()
}

// Resources implements provider.Provider.
func (*Provider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		cluster.NewResource,
		acl.NewBootstrapResource,
		acl.NewPolicyResource,
		acl.NewRoleResource,
		acl.NewTokenResource,
		acl.NewAuthMethodResource,
		acl.NewBindingRuleResource,
		backup.NewScheduleResource,
		backup.NewSnapshotResource,
		backup.NewRestoreResource,
	}
}

// DataSources implements provider.Provider.
func (*Provider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{
		cluster.NewMembersDataSource,
		acl.NewPolicyDataSource,
		acl.NewRoleDataSource,
		acl.NewTokenDataSource,
		acl.NewAuthMethodDataSource,
		backup.NewBackupsDataSource,
	}
}

// EphemeralResources implements provider.ProviderWithEphemeralResources.
func (*Provider) EphemeralResources(context.Context) []func() ephemeral.EphemeralResource {
	return []func() ephemeral.EphemeralResource{
		acl.NewTokenEphemeral,
	}
}

// Functions implements provider.ProviderWithFunctions.
func (*Provider) Functions(context.Context) []func() function.Function {
	return []func() function.Function{
		acl.NewPolicyRulesFunction,
		cluster.NewUpgradePathFunction,
	}
}
