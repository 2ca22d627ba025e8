package acl

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

// source is the common part of the data sources of single ACL objects.
type source struct{ object }

// Metadata implements datasource.DataSource.
func (s *source) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = s.typeName
}

// Configure implements datasource.DataSourceWithConfigure.
func (s *source) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	s.clients = clients
}

// clusterOfSource is the attribute cluster of a data source.
func clusterOfSource() schema.StringAttribute {
	return schema.StringAttribute{Required: true, Validators: []validator.String{attr.ClusterID()},
		MarkdownDescription: "ID of the cluster, `<namespace>/<name>`. Refer to the attribute `cluster` of its `consul_k8s_acl_bootstrap`, so " +
			"that ACLs are bootstrapped first."}
}

// nameOrID are the attributes by which a data source finds an object.
func nameOrID(kind string, attributes map[string]schema.Attribute) map[string]schema.Attribute {
	attributes["cluster"] = clusterOfSource()
	attributes["id"] = schema.StringAttribute{
		Optional:            true,
		Computed:            true,
		Validators:          []validator.String{stringvalidator.ExactlyOneOf(path.MatchRoot("id"), path.MatchRoot("name"))},
		MarkdownDescription: "ID of the " + kind + ". Set either this or `name`.",
	}
	attributes["name"] = schema.StringAttribute{
		Optional:            true,
		Computed:            true,
		MarkdownDescription: "Name of the " + kind + ". Set either this or `id`.",
	}
	return attributes
}

// grantsOfSource are the attributes of a grantsModel in a data source.
func grantsOfSource(attributes map[string]schema.Attribute) map[string]schema.Attribute {
	datacenters := schema.SetAttribute{
		Computed:            true,
		ElementType:         types.StringType,
		MarkdownDescription: "Datacenters in which the rights are valid. Null for all datacenters.",
	}
	attributes["policies"] = schema.SetAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "Names of the policies."}
	attributes["service_identities"] = schema.SetNestedAttribute{Computed: true, MarkdownDescription: "Service identities.",
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"service_name": schema.StringAttribute{Computed: true, MarkdownDescription: "Name of the service."},
			"datacenters":  datacenters,
		}}}
	attributes["node_identities"] = schema.SetNestedAttribute{Computed: true, MarkdownDescription: "Node identities.",
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"node_name":  schema.StringAttribute{Computed: true, MarkdownDescription: "Name of the node."},
			"datacenter": schema.StringAttribute{Computed: true, MarkdownDescription: "Datacenter of the node."},
		}}}
	attributes["templated_policies"] = schema.SetNestedAttribute{Computed: true, MarkdownDescription: "Templated policies.",
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"template_name": schema.StringAttribute{Computed: true, MarkdownDescription: "Name of the template."},
			"name":          schema.StringAttribute{Computed: true, MarkdownDescription: "Variable `name` of the template."},
			"datacenters":   datacenters,
		}}}
	return attributes
}

// notRead returns the diagnostic of a data source whose object does not exist or
// cannot be read.
func (s *source) notRead(err error) diag.Diagnostic { return s.failed("read", "", err) }

func missing(kind, key, cluster string) error {
	return fmt.Errorf("%s %s of %s: %w", kind, key, cluster, consulacl.ErrNotFound)
}

var (
	_ datasource.DataSourceWithConfigure = &policyDataSource{}
	_ datasource.DataSourceWithConfigure = &roleDataSource{}
	_ datasource.DataSourceWithConfigure = &tokenDataSource{}
)

type policyDataSource struct{ source }

// NewPolicyDataSource returns the data source consul_k8s_policy.
func NewPolicyDataSource() datasource.DataSource {
	return &policyDataSource{source{object{kind: "policy", typeName: "consul_k8s_policy"}}}
}

type policySourceModel struct {
	ID          types.String `tfsdk:"id"`
	Cluster     types.String `tfsdk:"cluster"`
	Name        types.String `tfsdk:"name"`
	Description types.String `tfsdk:"description"`
	Rules       types.String `tfsdk:"rules"`
	Datacenters types.Set    `tfsdk:"datacenters"`
}

// Schema implements datasource.DataSource.
func (*policyDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Reads an ACL policy, including a built-in one such as `global-management`.",
		Attributes: nameOrID("policy", map[string]schema.Attribute{
			"description": schema.StringAttribute{Computed: true, MarkdownDescription: "Description of the policy."},
			"rules":       schema.StringAttribute{Computed: true, MarkdownDescription: "Rules, as Consul stores them."},
			"datacenters": schema.SetAttribute{
				Computed:            true,
				ElementType:         types.StringType,
				MarkdownDescription: "Datacenters in which the policy is valid. Null for all datacenters.",
			},
		}),
	}
}

// Read implements datasource.DataSource.
func (s *policyDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m policySourceModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	a := s.changing(ctx, m.Cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	list, err := a.Policies.List(ctx)
	if err != nil {
		resp.Diagnostics.Append(s.notRead(err))
		return
	}
	i := slices.IndexFunc(list, func(p *api.ACLPolicyListEntry) bool {
		return p.ID == m.ID.ValueString() || p.Name == m.Name.ValueString()
	})
	if i < 0 {
		resp.Diagnostics.Append(s.notRead(missing("policy", m.ID.ValueString()+m.Name.ValueString(), m.Cluster.ValueString())))
		return
	}
	p, err := a.Policies.Read(ctx, list[i].ID)
	if err != nil {
		resp.Diagnostics.Append(s.notRead(err))
		return
	}
	m.ID, m.Name = types.StringValue(p.ID), types.StringValue(p.Name)
	m.Description, m.Rules = types.StringValue(p.Description), types.StringValue(p.Rules)
	m.Datacenters = setOf(ctx, p.Datacenters, &resp.Diagnostics)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

type roleDataSource struct{ source }

// NewRoleDataSource returns the data source consul_k8s_role.
func NewRoleDataSource() datasource.DataSource {
	return &roleDataSource{source{object{kind: "role", typeName: "consul_k8s_role"}}}
}

type roleSourceModel struct {
	ID          types.String `tfsdk:"id"`
	Cluster     types.String `tfsdk:"cluster"`
	Name        types.String `tfsdk:"name"`
	Description types.String `tfsdk:"description"`
	grantsModel
}

// Schema implements datasource.DataSource.
func (*roleDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Reads an ACL role.",
		Attributes: nameOrID("role", grantsOfSource(map[string]schema.Attribute{
			"description": schema.StringAttribute{Computed: true, MarkdownDescription: "Description of the role."},
		})),
	}
}

// Read implements datasource.DataSource.
func (s *roleDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m roleSourceModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	a := s.changing(ctx, m.Cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	list, err := a.Roles.List(ctx)
	if err != nil {
		resp.Diagnostics.Append(s.notRead(err))
		return
	}
	i := slices.IndexFunc(list, func(r *api.ACLRole) bool { return r.ID == m.ID.ValueString() || r.Name == m.Name.ValueString() })
	if i < 0 {
		resp.Diagnostics.Append(s.notRead(missing("role", m.ID.ValueString()+m.Name.ValueString(), m.Cluster.ValueString())))
		return
	}
	r := list[i]
	m.ID, m.Name, m.Description = types.StringValue(r.ID), types.StringValue(r.Name), types.StringValue(r.Description)
	m.fromAPI(
		ctx,
		grants{
			policies:          r.Policies,
			serviceIdentities: r.ServiceIdentities,
			nodeIdentities:    r.NodeIdentities,
			templatedPolicies: r.TemplatedPolicies,
		},
		&resp.Diagnostics,
	)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

type tokenDataSource struct{ source }

// NewTokenDataSource returns the data source consul_k8s_token.
func NewTokenDataSource() datasource.DataSource {
	return &tokenDataSource{source{object{kind: "token", typeName: "consul_k8s_token"}}}
}

type tokenSourceModel struct {
	ID             types.String `tfsdk:"id"`
	Cluster        types.String `tfsdk:"cluster"`
	AccessorID     types.String `tfsdk:"accessor_id"`
	Description    types.String `tfsdk:"description"`
	Roles          types.Set    `tfsdk:"roles"`
	Local          types.Bool   `tfsdk:"local"`
	AuthMethod     types.String `tfsdk:"auth_method"`
	ExpirationTime types.String `tfsdk:"expiration_time"`
	CreateTime     types.String `tfsdk:"create_time"`
	grantsModel
}

// Schema implements datasource.DataSource.
func (*tokenDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Reads an ACL token without its secret ID. To read the secret ID, use the ephemeral resource `consul_k8s_token`.",
		Attributes: grantsOfSource(map[string]schema.Attribute{
			"cluster": clusterOfSource(),
			"accessor_id": schema.StringAttribute{
				Required:            true,
				Validators:          []validator.String{uuidValidator{}},
				MarkdownDescription: "Accessor ID of the token.",
			},
			"id":          schema.StringAttribute{Computed: true, MarkdownDescription: "Same as `accessor_id`."},
			"description": schema.StringAttribute{Computed: true, MarkdownDescription: "Description of the token."},
			"roles":       schema.SetAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "Names of the roles."},
			"local":       schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether the token is valid in one datacenter only."},
			"auth_method": schema.StringAttribute{Computed: true, MarkdownDescription: "Auth method that created the token. Null if none did."},
			"expiration_time": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "When the token expires, in RFC 3339 format. Null if it never expires.",
			},
			"create_time": schema.StringAttribute{Computed: true, MarkdownDescription: "When the token was created, in RFC 3339 format."},
		}),
	}
}

// Read implements datasource.DataSource.
func (s *tokenDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m tokenSourceModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	a := s.changing(ctx, m.Cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	t, err := a.Tokens.Get(ctx, m.AccessorID.ValueString())
	if err != nil {
		resp.Diagnostics.Append(s.notRead(err))
		return
	}
	var read tokenModel
	read.fromAPI(ctx, api.ACLToken{
		AccessorID: t.AccessorID, Description: t.Description, Local: t.Local, CreateTime: t.CreateTime, ExpirationTime: t.ExpirationTime,
		Policies: t.Policies, Roles: t.Roles, ServiceIdentities: t.ServiceIdentities, NodeIdentities: t.NodeIdentities,
		TemplatedPolicies: t.TemplatedPolicies,
	}, &resp.Diagnostics)
	m.ID, m.Description, m.Roles, m.Local, m.grantsModel = read.ID, read.Description, read.Roles, read.Local, read.grantsModel
	m.ExpirationTime, m.CreateTime = read.ExpirationTime, read.CreateTime
	m.AuthMethod = types.StringNull()
	if t.AuthMethod != "" {
		m.AuthMethod = types.StringValue(t.AuthMethod)
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}
