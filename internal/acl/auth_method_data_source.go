package acl

import (
	"context"
	"encoding/json"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
)

type authMethodSourceModel struct {
	ID            types.String `tfsdk:"id"`
	Cluster       types.String `tfsdk:"cluster"`
	Name          types.String `tfsdk:"name"`
	Type          types.String `tfsdk:"type"`
	DisplayName   types.String `tfsdk:"display_name"`
	Description   types.String `tfsdk:"description"`
	MaxTokenTTL   types.String `tfsdk:"max_token_ttl"`
	TokenLocality types.String `tfsdk:"token_locality"`
	ConfigJSON    types.String `tfsdk:"config_json"`
}

// NewAuthMethodDataSource returns the data source consul_k8s_auth_method.
func NewAuthMethodDataSource() datasource.DataSource {
	return &source[authMethodSourceModel]{object{kind: authMethodKind, typeName: "consul_k8s_auth_method"}, schema.Schema{
		MarkdownDescription: "Reads an auth method, without its secrets.",
		Attributes: map[string]schema.Attribute{
			"cluster": clusterOfSource(),
			"name": schema.StringAttribute{
				Required:            true,
				Validators:          []validator.String{authMethodName},
				MarkdownDescription: "Name of the auth method.",
			},
			"id":           schema.StringAttribute{Computed: true, MarkdownDescription: "Same as `name`."},
			"type":         schema.StringAttribute{Computed: true, MarkdownDescription: "Type of the auth method, such as `kubernetes`."},
			"display_name": schema.StringAttribute{Computed: true, MarkdownDescription: "Display name of the auth method."},
			"description":  schema.StringAttribute{Computed: true, MarkdownDescription: "Description of the auth method."},
			"max_token_ttl": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "How long a token from a login is valid. Null if it is valid until logout.",
			},
			"token_locality": schema.StringAttribute{Computed: true, MarkdownDescription: "Where tokens are valid: `local` or `global`."},
			"config_json": schema.StringAttribute{
				Computed: true,
				MarkdownDescription: "Configuration, as a JSON object, without the token of the service account. For the type `kubernetes`, it has " +
					"the keys `Host` and `CACert`.",
			},
		},
	}, readAuthMethodSource}
}

func readAuthMethodSource(ctx context.Context, a *consulacl.ACL, m *authMethodSourceModel, diags *diag.Diagnostics) error {
	found, err := readAuthMethod(ctx, a, m.Name.ValueString())
	if err != nil {
		return err
	}
	var read authMethodModel
	read.fromAPI(ctx, *found, consulacl.ReviewerState{}, false, diags)
	m.ID, m.Type, m.DisplayName, m.Description = read.ID, read.Type, read.DisplayName, read.Description
	m.MaxTokenTTL, m.TokenLocality = read.MaxTokenTTL, read.TokenLocality
	text, err := json.Marshal(consulacl.PublicConfig(found.Type, found.Config))
	m.ConfigJSON = types.StringValue(string(text))
	return err
}
