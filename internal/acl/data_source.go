package acl

import (
	"context"

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

var _ datasource.DataSourceWithConfigure = &source[policySourceModel]{}

// source is the data source of a type of ACL object. M is its model.
type source[M any] struct {
	object
	schema schema.Schema
	// read finds the object, and fills in the model.
	read func(ctx context.Context, a *consulacl.ACL, m *M, diags *diag.Diagnostics) error
}

// Metadata implements datasource.DataSource.
func (s *source[M]) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = s.typeName
}

// Configure implements datasource.DataSourceWithConfigure.
func (s *source[M]) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	s.clients = clients
}

// Schema implements datasource.DataSource.
func (s *source[M]) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = s.schema
}

// Read implements datasource.DataSource.
func (s *source[M]) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m M
	var cluster types.String
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("cluster"), &cluster)...)
	if resp.Diagnostics.HasError() {
		return
	}
	a := s.changing(ctx, cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	if err := s.read(ctx, a, &m, &resp.Diagnostics); err != nil {
		resp.Diagnostics.Append(s.failed("read", "", err))
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
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

type policySourceModel struct {
	ID          types.String `tfsdk:"id"`
	Cluster     types.String `tfsdk:"cluster"`
	Name        types.String `tfsdk:"name"`
	Description types.String `tfsdk:"description"`
	Rules       types.String `tfsdk:"rules"`
	Datacenters types.Set    `tfsdk:"datacenters"`
}

// NewPolicyDataSource returns the data source consul_k8s_policy.
func NewPolicyDataSource() datasource.DataSource {
	return &source[policySourceModel]{object{kind: "policy", typeName: "consul_k8s_policy"}, schema.Schema{
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
	}, readPolicySource}
}

func readPolicySource(ctx context.Context, a *consulacl.ACL, m *policySourceModel, diags *diag.Diagnostics) error {
	id := m.ID.ValueString()
	if m.ID.IsNull() {
		entry, err := policyNamed(ctx, a, m.Name.ValueString())
		if err != nil {
			return err
		}
		id = entry.ID
	} else if _, err := a.Policies.Get(ctx, id); err != nil {
		return err
	}
	p, err := a.Policies.Read(ctx, id)
	if err != nil {
		return err
	}
	m.ID, m.Name = types.StringValue(p.ID), types.StringValue(p.Name)
	m.Description, m.Rules = types.StringValue(p.Description), types.StringValue(p.Rules)
	m.Datacenters = setOf(ctx, p.Datacenters, diags)
	return nil
}

type roleSourceModel struct {
	ID          types.String `tfsdk:"id"`
	Cluster     types.String `tfsdk:"cluster"`
	Name        types.String `tfsdk:"name"`
	Description types.String `tfsdk:"description"`
	grantsModel
}

// NewRoleDataSource returns the data source consul_k8s_role.
func NewRoleDataSource() datasource.DataSource {
	return &source[roleSourceModel]{object{kind: "role", typeName: "consul_k8s_role"}, schema.Schema{
		MarkdownDescription: "Reads an ACL role.",
		Attributes: nameOrID("role", grantsOfSource(map[string]schema.Attribute{
			"description": schema.StringAttribute{Computed: true, MarkdownDescription: "Description of the role."},
		})),
	}, readRoleSource}
}

func readRoleSource(ctx context.Context, a *consulacl.ACL, m *roleSourceModel, diags *diag.Diagnostics) (err error) {
	var role *api.ACLRole
	if m.ID.IsNull() {
		role, err = roleNamed(ctx, a, m.Name.ValueString())
	} else {
		role, err = a.Roles.Get(ctx, m.ID.ValueString())
	}
	if err != nil {
		return err
	}
	var read roleModel
	read.fromAPI(ctx, *role, diags)
	m.ID, m.Name, m.Description, m.grantsModel = read.ID, read.Name, read.Description, read.grantsModel
	return nil
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

// NewTokenDataSource returns the data source consul_k8s_token.
func NewTokenDataSource() datasource.DataSource {
	return &source[tokenSourceModel]{object{kind: "token", typeName: "consul_k8s_token"}, schema.Schema{
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
	}, readTokenSource}
}

func readTokenSource(ctx context.Context, a *consulacl.ACL, m *tokenSourceModel, diags *diag.Diagnostics) error {
	t, err := a.Tokens.Get(ctx, m.AccessorID.ValueString())
	if err != nil {
		return err
	}
	var read tokenModel
	read.fromAPI(ctx, listed(t), diags)
	m.ID, m.Description, m.Roles, m.Local, m.grantsModel = read.ID, read.Description, read.Roles, read.Local, read.grantsModel
	m.ExpirationTime, m.CreateTime, m.AuthMethod = read.ExpirationTime, read.CreateTime, attr.OptionalString(t.AuthMethod)
	return nil
}
