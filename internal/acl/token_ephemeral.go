package acl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

var (
	_ ephemeral.EphemeralResourceWithConfigure      = &tokenEphemeral{}
	_ ephemeral.EphemeralResourceWithClose          = &tokenEphemeral{}
	_ ephemeral.EphemeralResourceWithValidateConfig = &tokenEphemeral{}
)

// tokenEphemeral is the ephemeral resource consul_k8s_token.
type tokenEphemeral struct{ object }

// NewTokenEphemeral returns the ephemeral resource consul_k8s_token.
func NewTokenEphemeral() ephemeral.EphemeralResource {
	return &tokenEphemeral{object{kind: "token", typeName: "consul_k8s_token"}}
}

// defaultTTL limits the life of a token that its run does not revoke.
const defaultTTL = time.Hour

type tokenEphemeralModel struct {
	Cluster        types.String `tfsdk:"cluster"`
	AccessorID     types.String `tfsdk:"accessor_id"`
	Policies       types.Set    `tfsdk:"policies"`
	Roles          types.Set    `tfsdk:"roles"`
	TTL            types.String `tfsdk:"ttl"`
	SecretID       types.String `tfsdk:"secret_id"`
	ExpirationTime types.String `tfsdk:"expiration_time"`
}

// closing is what Close needs to know about a token that Open created.
type closing struct{ Cluster, AccessorID string }

const closingKey = "token"

// Metadata implements ephemeral.EphemeralResource.
func (e *tokenEphemeral) Metadata(_ context.Context, _ ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	resp.TypeName = e.typeName
}

// Configure implements ephemeral.EphemeralResourceWithConfigure.
func (e *tokenEphemeral) Configure(_ context.Context, req ephemeral.ConfigureRequest, resp *ephemeral.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	e.clients = clients
}

// Schema implements ephemeral.EphemeralResource.
func (*tokenEphemeral) Schema(_ context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	refs := func(what string) schema.SetAttribute {
		return schema.SetAttribute{
			Optional:    true,
			ElementType: types.StringType,
			Validators:  []validator.Set{setvalidator.SizeAtLeast(1), setvalidator.ConflictsWith(path.MatchRoot("accessor_id"))},
			MarkdownDescription: what + " of a short-lived token, each by name or by ID. For one that the same apply creates, refer to the " +
				"attribute `id`, which is known only after it is created.",
		}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Provides the secret ID of a token for the time of one Terraform run, without writing it to any state or plan. " +
			"It reads an existing token by its `accessor_id`, or it creates a short-lived token " +
			"with `policies` or `roles` for the run and revokes it at the end. Use the secret ID in provider blocks and write-only attributes. " +
			"Requires Terraform 1.10 or later, or OpenTofu 1.11 or later.",
		Attributes: map[string]schema.Attribute{
			"cluster": schema.StringAttribute{
				Required:            true,
				Validators:          []validator.String{attr.ClusterID()},
				MarkdownDescription: "ID of the cluster, `<namespace>/<name>`.",
			},
			"accessor_id": schema.StringAttribute{Optional: true, Computed: true, Validators: []validator.String{uuidValidator{}},
				MarkdownDescription: "Accessor ID of an existing token. If not set, this is the accessor ID of the short-lived token."},
			"policies": refs("Policies"),
			"roles":    refs("Roles"),
			"ttl": schema.StringAttribute{
				Optional: true,
				Validators: []validator.String{
					attr.DurationBetween(minExpiry, maxExpiry),
					stringvalidator.ConflictsWith(path.MatchRoot("accessor_id")),
				},
				MarkdownDescription: "How long a short-lived token is valid if the run does not revoke it. Must be from `1m` to `87600h`, or at " +
					"most `24h` before Consul 1.16. Defaults to `1h`.",
			},
			"secret_id": schema.StringAttribute{Computed: true, Sensitive: true, MarkdownDescription: "Secret ID of the token."},
			"expiration_time": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "When the token expires, in RFC 3339 format. Null if it never expires.",
			},
		},
	}
}

// ValidateConfig implements ephemeral.EphemeralResourceWithValidateConfig.
func (*tokenEphemeral) ValidateConfig(ctx context.Context, req ephemeral.ValidateConfigRequest, resp *ephemeral.ValidateConfigResponse) {
	var m tokenEphemeralModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if m.AccessorID.IsNull() && m.Policies.IsNull() && m.Roles.IsNull() {
		resp.Diagnostics.Append(attr.Error(path.Root("accessor_id"), "No token declared",
			"set accessor_id for an existing token, or policies or roles for a short-lived token."))
	}
}

// Open implements ephemeral.EphemeralResource.
func (e *tokenEphemeral) Open(ctx context.Context, req ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	var m tokenEphemeralModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	a := e.changing(ctx, m.Cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	token, err := e.open(ctx, a, m, &resp.Diagnostics)
	if err != nil {
		switch {
		case !m.AccessorID.IsNull():
			resp.Diagnostics.Append(e.failed("read", "", err))
		case !unknownLinks(ctx, a, m, &resp.Diagnostics):
			resp.Diagnostics.Append(e.failed("create", "", err))
		}
		return
	}
	if m.AccessorID.IsNull() {
		raw, err := json.Marshal(closing{Cluster: m.Cluster.ValueString(), AccessorID: token.AccessorID})
		if err == nil {
			resp.Diagnostics.Append(resp.Private.SetKey(ctx, closingKey, raw)...)
		}
	}
	m.AccessorID, m.SecretID = types.StringValue(token.AccessorID), types.StringValue(token.SecretID)
	m.ExpirationTime = types.StringNull()
	if token.ExpirationTime != nil {
		m.ExpirationTime = types.StringValue(token.ExpirationTime.UTC().Format(time.RFC3339))
	}
	resp.Diagnostics.Append(resp.Result.Set(ctx, &m)...)
}

// unknownLinks names, after a failed create, the policies and roles that do not
// exist. It reports whether there are any.
func unknownLinks(ctx context.Context, a *consulacl.ACL, m tokenEphemeralModel, diags *diag.Diagnostics) (found bool) {
	for _, of := range []linked{policyLinks(m.Policies, types.Set{}), roleLinks(m.Roles, types.Set{})} {
		known, err := of.refs(ctx, a)
		for _, ref := range texts(ctx, of.plan, diags) {
			if err != nil || known[ref] != "" {
				continue
			}
			found = true
			diags.Append(attr.Errorf(path.Root(of.attribute), "Unknown "+of.kind,
				"cluster %s has no %s %q. If the same apply creates it, refer to its attribute id, which is known only after it is created.",
				m.Cluster.ValueString(), of.kind, ref))
		}
	}
	return found
}

func (e *tokenEphemeral) open(
	ctx context.Context,
	a *consulacl.ACL,
	m tokenEphemeralModel,
	diags *diag.Diagnostics,
) (*api.ACLToken, error) {
	if !m.AccessorID.IsNull() {
		token, err := a.Tokens.Read(ctx, m.AccessorID.ValueString())
		if err == nil && token.SecretID == consulacl.HiddenSecretID {
			err = fmt.Errorf("reading the secret ID of %s: %w", token.AccessorID, &consul.PermissionError{Permission: "acl:write"})
		}
		return token, err
	}
	ttl := defaultTTL
	if !m.TTL.IsNull() {
		ttl, _ = time.ParseDuration(m.TTL.ValueString()) // the validator has checked it
	}
	token, err := a.Tokens.Create(ctx, api.ACLToken{
		AccessorID: uuid.NewString(), SecretID: uuid.NewString(), ExpirationTTL: ttl,
		Description: "For one Terraform run", Policies: toLinks(ctx, m.Policies, diags), Roles: toLinks(ctx, m.Roles, diags),
	})
	if err != nil {
		return nil, err
	}
	// The token is used at once, and possibly through any server.
	if err := a.AwaitToken(ctx, token.AccessorID); err != nil {
		return nil, errors.Join(err, a.Tokens.Delete(context.WithoutCancel(ctx), token.AccessorID))
	}
	return token, nil
}

// Close implements ephemeral.EphemeralResourceWithClose. It revokes the token that Open created.
func (e *tokenEphemeral) Close(ctx context.Context, req ephemeral.CloseRequest, resp *ephemeral.CloseResponse) {
	raw, diags := req.Private.GetKey(ctx, closingKey)
	resp.Diagnostics.Append(diags...)
	if len(raw) == 0 {
		return
	}
	var c closing
	if err := json.Unmarshal(raw, &c); err != nil {
		resp.Diagnostics.AddError("Cannot revoke the token", err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	a := e.changing(ctx, types.StringValue(c.Cluster), &resp.Diagnostics)
	if a == nil {
		return
	}
	if err := a.Tokens.Delete(ctx, c.AccessorID); err != nil && !errors.Is(err, consulacl.ErrNoCluster) {
		resp.Diagnostics.AddWarning(
			"The short-lived token was not revoked",
			"The token could not be revoked, and stays valid until it expires: "+err.Error()+".",
		)
	}
}
