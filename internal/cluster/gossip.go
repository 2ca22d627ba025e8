package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

type gossipModel struct {
	Enabled   types.Bool   `tfsdk:"enabled"`
	KeySecret types.Object `tfsdk:"key_secret"`
	Rotation  types.Object `tfsdk:"rotation"`
}

type rotationModel struct {
	Trigger types.String `tfsdk:"trigger"`
	After   types.String `tfsdk:"after"`
}

var (
	gossipTypes   = attributeTypes(gossipAttribute())
	rotationTypes = attributeTypes(gossipAttribute().Attributes["rotation"])
)

// Ages at which a gossip key may be replaced.
const (
	minKeyAge = time.Hour
	maxKeyAge = 10 * 365 * 24 * time.Hour
)

func gossipAttribute() schema.SingleNestedAttribute {
	notEmpty := []validator.String{stringvalidator.LengthAtLeast(1)}
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "Encryption of the gossip between agents. See the guide [Encrypt the gossip](../guides/gossip.md).",
		Attributes: map[string]schema.Attribute{
			"enabled": boolAttribute(
				"gossip.enabled",
				"Whether agents encrypt their gossip and refuse gossip that is not encrypted. Defaults to {default}. The gossip "+
					"keys are in the Secret `<name>-gossip`. Client agents need the one in `key`. "+
					"On a running cluster, a change takes three rollouts across all servers, so that all servers understand each other throughout. "+
					"Client agents must follow.",
			),
			"key_secret": schema.SingleNestedAttribute{
				Optional: true,
				MarkdownDescription: "Secret with a gossip key of your own: base64 of 16, 24, or 32 bytes, as `consul keygen` generates. " +
					"If the Secret gets another key, that key replaces the one in use, as `rotation` does. By default, the provider generates a key.",
				Attributes: map[string]schema.Attribute{
					"name": schema.StringAttribute{
						Required:            true,
						Validators:          []validator.String{attr.SecretName()},
						MarkdownDescription: "Name of the Secret in the cluster's namespace.",
					},
					"key": schema.StringAttribute{
						Required:            true,
						Validators:          notEmpty,
						MarkdownDescription: "Key in the Secret that contains the gossip key.",
					},
				},
			},
			"rotation": schema.SingleNestedAttribute{
				Optional: true,
				MarkdownDescription: "When to replace the gossip key with a new one. The servers continue to run and do not restart. Only for a key " +
					"that the provider generated.",
				Attributes: map[string]schema.Attribute{
					"trigger": schema.StringAttribute{
						Optional: true, Validators: notEmpty,
						MarkdownDescription: "Any text. Whenever it changes, the key is replaced. The first text is only recorded.",
					},
					"after": schema.StringAttribute{
						Optional: true, PlanModifiers: []planmodifier.String{attr.KeepSameDuration()},
						Validators:          []validator.String{attr.DurationBetween(minKeyAge, maxKeyAge)},
						MarkdownDescription: "Age at which the next apply replaces the key, such as `2160h`. Must be at least `1h`.",
					},
				},
			},
		},
	})
}

// gossip returns what is known of the attribute.
func (m model) gossip(ctx context.Context, diags *diag.Diagnostics) (g gossipModel, key secretKeyModel, rotation rotationModel) {
	as := func(o types.Object, target any) {
		if !o.IsNull() && !o.IsUnknown() {
			diags.Append(o.As(ctx, target, basetypes.ObjectAsOptions{})...)
		}
	}
	as(m.Gossip, &g)
	as(g.KeySecret, &key)
	as(g.Rotation, &rotation)
	return g, key, rotation
}

func (m model) toGossip(ctx context.Context, diags *diag.Diagnostics) server.Gossip {
	g, key, rotation := m.gossip(ctx, diags)
	s := server.Gossip{Rotation: server.KeyRotation{Trigger: rotation.Trigger.ValueString(), After: toDuration(rotation.After)}}
	if !g.KeySecret.IsNull() {
		s.KeySecret = &server.SecretKey{Name: key.Name.ValueString(), Key: key.Key.ValueString()}
	}
	if g.Enabled.ValueBool() {
		s.Stage = server.StageEncrypted
	}
	return s
}

func (m *model) fromGossip(ctx context.Context, s server.Gossip, diags *diag.Diagnostics) {
	g, _, rotation := m.gossip(ctx, diags)
	// While a change is half-way, enabled stays as it was declared, and the rest shows as drift.
	if s.Stage == server.StagePlain || s.Stage == server.StageEncrypted || g.Enabled.IsNull() || g.Enabled.IsUnknown() {
		g.Enabled = types.BoolValue(s.Stage == server.StageEncrypted)
	}
	g.KeySecret = types.ObjectNull(secretKeyTypes)
	if k := s.KeySecret; k != nil {
		g.KeySecret = attr.Object(ctx, secretKeyTypes, secretKeyModel{types.StringValue(k.Name), types.StringValue(k.Key)}, diags)
	}
	if s.Rotation != (server.KeyRotation{}) {
		rotation.Trigger = attr.OptionalString(s.Rotation.Trigger)
		if s.Rotation.After == 0 {
			rotation.After = types.StringNull()
		} else {
			rotation.After = fromDuration(rotation.After, s.Rotation.After)
		}
		g.Rotation = attr.Object(ctx, rotationTypes, rotation, diags)
	} else if g.Rotation.IsNull() || !rotation.Trigger.IsNull() || !rotation.After.IsNull() {
		g.Rotation = types.ObjectNull(rotationTypes)
	}
	m.Gossip = attr.Object(ctx, gossipTypes, g, diags)
}

// validateGossip refuses rotation of a key that the user provides, and a key in the
// provider's own Secret.
func validateGossip(ctx context.Context, m model, diags *diag.Diagnostics) {
	g, key, _ := m.gossip(ctx, diags)
	if own := server.GossipSecretName(m.Name.ValueString()); !m.Name.IsUnknown() && key.Name.ValueString() == own {
		diags.Append(attr.Error(nested("gossip", "key_secret"), "The name is taken",
			fmt.Sprintf("The provider itself keeps the keys of the servers in the Secret %s: give yours another name.", own)))
	}
	if g.KeySecret.IsUnknown() || g.Rotation.IsUnknown() || g.KeySecret.IsNull() || g.Rotation.IsNull() {
		return
	}
	diags.Append(attr.Error(
		nested("gossip", "rotation"),
		"Two ways to replace the gossip key",
		"To replace a key of your own, put another key into its Secret, and leave rotation out. Or leave key_secret out: the provider then "+
			"creates the key and replaces it.",
	))
}

// gossipTimeout limits how long a plan waits for Kubernetes and Consul.
const gossipTimeout = 10 * time.Second

// checkGossip checks the planned gossip: the key that the user provides, and which
// agents turning encryption on or off may cut off. state is nil if the plan creates the
// cluster. It makes requests only if the user provides a key, or if encryption changes on
// a running cluster.
func (r *Resource) checkGossip(ctx context.Context, state *model, plan model, diags *diag.Diagnostics) {
	if plan.Gossip.IsUnknown() || (state != nil && plan.Gossip.Equal(state.Gossip)) {
		return
	}
	g, key, _ := plan.gossip(ctx, diags)
	after := plan.toGossip(ctx, diags)
	before := after
	if state != nil && !g.Enabled.IsUnknown() {
		before = state.toGossip(ctx, diags)
	}
	if before.Stage != after.Stage && refuseOnDelete(ctx, "gossip", plan, diags) {
		return
	}
	if r.clients == nil || r.clients.Unknown || plan.Name.IsUnknown() || plan.Namespace.IsUnknown() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, gossipTimeout)
	defer cancel()
	declared := !g.KeySecret.IsNull() && !g.KeySecret.IsUnknown() && !key.Name.IsUnknown() && !key.Key.IsUnknown()
	switch {
	case !declared || after.Stage == server.StagePlain:
	case state == nil && plan.CreateNamespace.ValueBool():
		refuseInNewNamespace(nested("gossip", "key_secret"), plan, key.Name.ValueString(), diags)
	default:
		r.checkKeySecret(ctx, plan, after, diags)
	}
	if before.Stage != after.Stage {
		r.warnClientAgents(ctx, "gossip", plan, diags)
	}
}

// checkKeySecret refuses a key that the servers cannot use. If the Secret does not exist, it may still be created before the cluster.
func (r *Resource) checkKeySecret(ctx context.Context, plan model, gossip server.Gossip, diags *diag.Diagnostics) {
	c, err := r.clients.Consul(ctx, plan.Namespace.ValueString(), plan.Name.ValueString())
	if err != nil {
		return // the apply reports this
	}
	switch err := encryption.CheckBroughtKey(ctx, c, gossip); {
	case errors.Is(err, encryption.ErrNoBroughtKey):
		warnNoSecret(nested("gossip", "key_secret"), plan, gossip.KeySecret.Name, diags)
	case errors.As(err, new(*encryption.ReadError)):
		warnNotRead(nested("gossip", "key_secret"), err, diags)
	case err != nil:
		diags.Append(attr.Error(nested("gossip", "key_secret"), "No usable gossip key", err.Error()+"."))
	}
}
