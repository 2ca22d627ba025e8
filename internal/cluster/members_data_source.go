package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

var _ datasource.DataSourceWithConfigure = &membersDataSource{}

type membersDataSource struct{ clients *session.Clients }

// NewMembersDataSource returns the data source consul_k8s_members.
func NewMembersDataSource() datasource.DataSource { return &membersDataSource{} }

type membersModel struct {
	Cluster          types.String  `tfsdk:"cluster"`
	ID               types.String  `tfsdk:"id"`
	Healthy          types.Bool    `tfsdk:"healthy"`
	FailureTolerance types.Int64   `tfsdk:"failure_tolerance"`
	Leader           types.String  `tfsdk:"leader"`
	Servers          []memberModel `tfsdk:"servers"`
}

type memberModel struct {
	Name    types.String `tfsdk:"name"`
	NodeID  types.String `tfsdk:"node_id"`
	Address types.String `tfsdk:"address"`
	Version types.String `tfsdk:"version"`
	Status  types.String `tfsdk:"status"`
	Leader  types.Bool   `tfsdk:"leader"`
	Voter   types.Bool   `tfsdk:"voter"`
	Healthy types.Bool   `tfsdk:"healthy"`
}

// Metadata implements datasource.DataSource.
func (*membersDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_members"
}

// Schema implements datasource.DataSource.
func (*membersDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Lists the servers of a cluster as autopilot sees them now: which one is the leader, which ones vote, and which " +
			"ones are healthy.\n\n" +
			"With ACLs, the data source uses the management token that `consul_k8s_acl_bootstrap` stored, so it cannot be read before the " +
			"bootstrap.",
		Attributes: map[string]schema.Attribute{
			"cluster": schema.StringAttribute{
				Required:            true,
				Validators:          []validator.String{attr.ClusterID()},
				MarkdownDescription: "ID of the cluster, `<namespace>/<name>`.",
			},
			"id":      schema.StringAttribute{Computed: true, MarkdownDescription: "Same as `cluster`."},
			"healthy": schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether every server is healthy."},
			"failure_tolerance": schema.Int64Attribute{
				Computed:            true,
				MarkdownDescription: "Number of further servers that may fail before the quorum is lost.",
			},
			"leader": schema.StringAttribute{Computed: true, MarkdownDescription: "Name of the leader. Null while there is no leader."},
			"servers": schema.ListNestedAttribute{
				Computed:            true,
				MarkdownDescription: "Servers of the cluster, sorted by name.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"name":    schema.StringAttribute{Computed: true, MarkdownDescription: "Node name, which is also the name of the pod."},
					"node_id": schema.StringAttribute{Computed: true, MarkdownDescription: "Node ID, which is also the Raft ID."},
					"address": schema.StringAttribute{Computed: true, MarkdownDescription: "RPC address, `ip:port`."},
					"version": schema.StringAttribute{Computed: true, MarkdownDescription: "Consul version that the server runs."},
					"status":  schema.StringAttribute{Computed: true, MarkdownDescription: "Serf status: `alive`, `leaving`, `left`, or `failed`."},
					"leader":  schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether the server is the leader."},
					"voter": schema.BoolAttribute{
						Computed:            true,
						MarkdownDescription: "Whether the server votes. A server that has just joined does not vote for about ten seconds.",
					},
					"healthy": schema.BoolAttribute{
						Computed:            true,
						MarkdownDescription: "Whether the server is alive, in contact with the leader, and not far behind.",
					},
				}},
			},
		},
	}
}

// Configure implements datasource.DataSourceWithConfigure.
func (d *membersDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	d.clients = clients
}

// Read implements datasource.DataSource.
func (d *membersDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m membersModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	namespace, name, err := server.ParseID(m.Cluster.ValueString())
	if err != nil {
		resp.Diagnostics.AddError("Invalid cluster ID", err.Error())
		return
	}
	cluster, err := d.clients.Consul(ctx, namespace, name)
	if err != nil {
		resp.Diagnostics.Append(session.ConnectError(err))
		return
	}
	token, ref, err := consulacl.ManagementToken(ctx, cluster)
	if err != nil {
		resp.Diagnostics.AddError("Cannot read the members", err.Error())
		return
	}
	h, err := consul.ReadHealth(ctx, cluster, token)
	if err != nil {
		detail := err.Error()
		switch exists, existsErr := cluster.Exists(ctx); {
		case existsErr == nil && !exists:
			detail = fmt.Sprintf("There is no cluster %s. Use the id attribute of a consul_k8s_cluster, so that it is created first.", cluster.ID())
		case consul.IsForbidden(err) && token == "":
			detail += "\n\nACLs are on, and there is no Secret with a management token. If the cluster was never bootstrapped, add a " +
				"consul_k8s_acl_bootstrap and refer to it here: cluster = consul_k8s_acl_bootstrap.main.cluster. If the Secret was lost, put it " +
				"back, or set reset of the consul_k8s_acl_bootstrap to a new value."
		case consul.IsForbidden(err):
			detail += "\n\nConsul does not know the token in Secret " + ref.Name + ". Put the right token back, or set reset of the " +
				"consul_k8s_acl_bootstrap to a new value."
		}
		resp.Diagnostics.AddError("Cannot read the members", detail)
		return
	}
	m.ID = m.Cluster
	m.Healthy = types.BoolValue(h.Healthy)
	m.FailureTolerance = types.Int64Value(int64(h.FailureTolerance))
	m.Leader = types.StringNull()
	if l := h.Leader(); l != nil {
		m.Leader = types.StringValue(l.Name)
	}
	m.Servers = []memberModel{}
	for _, s := range h.Servers {
		m.Servers = append(m.Servers, memberModel{
			Name: types.StringValue(s.Name), NodeID: types.StringValue(s.ID), Address: types.StringValue(s.Address),
			Version: types.StringValue(s.Version), Status: types.StringValue(s.SerfStatus),
			Leader: types.BoolValue(s.Leader), Voter: types.BoolValue(s.Voter), Healthy: types.BoolValue(s.Healthy),
		})
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}
