package acl

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework-validators/objectvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Bounds of the lifetime of a token. Consul refuses less than a minute
// (ACLTokenMinExpirationTTL). Its upper limit is 290 years since 1.16
// (ACLTokenMaxExpirationTTL in agent/consul/config.go of Consul 1.21), and was 24
// hours before, as its API documentation still says. The upper bound here finds mistakes.
const (
	minExpiry = time.Minute
	maxExpiry = 10 * 365 * 24 * time.Hour
)

const (
	// defaultGracePeriod is longer than a kubelet needs to bring a changed Secret
	// into a running pod: its sync period of a minute, and the delay of its cache.
	defaultGracePeriod = 2 * time.Minute
	maxGracePeriod     = time.Hour
)

type tokenModel struct {
	objectModel
	AccessorID      types.String `tfsdk:"accessor_id"`
	Roles           types.Set    `tfsdk:"roles"`
	Local           types.Bool   `tfsdk:"local"`
	ExpirationTime  types.String `tfsdk:"expiration_time"`
	ExpirationTTL   types.String `tfsdk:"expiration_ttl"`
	SecretID        types.String `tfsdk:"secret_id_wo"`
	SecretIDVersion types.String `tfsdk:"secret_id_wo_version"`
	Secret          types.Object `tfsdk:"secret"`
	Secrets         types.Set    `tfsdk:"secrets"`
	DeliveredTo     types.Set    `tfsdk:"delivered_to"`
	Rotation        types.Object `tfsdk:"rotation"`
	CreateTime      types.String `tfsdk:"create_time"`
	grantsModel
}

type rotationModel struct {
	Trigger     types.String
	After       types.String
	GracePeriod types.String
}

// from reads the attribute rotation, which may be null.
func (m *rotationModel) from(o types.Object) {
	get := func(name string) types.String {
		if v, ok := o.Attributes()[name].(types.String); ok {
			return v
		}
		return types.StringNull()
	}
	m.Trigger, m.After, m.GracePeriod = get("trigger"), get("after"), get("grace_period")
}

// Schema implements resource.Resource.
func (*TokenResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	target := map[string]schema.Attribute{
		"namespace": schema.StringAttribute{Optional: true, Validators: []validator.String{attr.DNSLabel(63, false)},
			MarkdownDescription: "Namespace of the Secret. Defaults to the namespace of the cluster. The namespace must exist when the token is " +
				"created. If it is deleted later, each plan warns and includes the token, and the first apply after the namespace is back delivers " +
				"the token again."},
		"name": schema.StringAttribute{Required: true, Validators: []validator.String{attr.SecretName()},
			MarkdownDescription: "Name of the Secret. This resource creates the Secret. Other tokens may be delivered to other keys of it."},
		"key": schema.StringAttribute{Optional: true, Validators: []validator.String{targetKey()},
			MarkdownDescription: "Key in the Secret. Defaults to `token`."},
		"template": schema.StringAttribute{Optional: true, Validators: []validator.String{templateValidator{}},
			MarkdownDescription: "Value of the key as a [Go template](https://pkg.go.dev/text/template) with `{{.SecretID}}` and " +
				"`{{.AccessorID}}`, such as a whole configuration file. Defaults to the secret ID alone."},
		"type": schema.StringAttribute{Optional: true, Validators: []validator.String{attr.NotEmpty{}},
			MarkdownDescription: "[Type](https://kubernetes.io/docs/concepts/configuration/secret/#secret-types) of the Secret. Defaults to " +
				"`Opaque`. A change creates the Secret again."},
		"labels": schema.MapAttribute{
			Optional:    true,
			ElementType: types.StringType,
			Validators:  []validator.Map{attr.NotEmpty{}, attr.LabelsBeside(consulacl.TokenSecretLabels())},
			MarkdownDescription: "Labels of the Secret, in addition to the provider's own `app.kubernetes.io/managed-by` and " +
				"`app.kubernetes.io/component`.",
		},
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages an ACL token. Its secret ID goes into Kubernetes Secrets, and never into the state, a plan, or a log.\n\n" +
			"If Consul cannot change a token in place (`local`, its expiry, the chosen secret ID), or if its rotation is due, the token is " +
			"replaced without an outage. " +
			"A new token is created and delivered, the grace period passes, and only then the old token is revoked. The apply waits until this " +
			"is done.",
		Attributes: objectAttributes(ctx, "token", withGrants("token", map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, MarkdownDescription: "Same as `accessor_id`."},
			"accessor_id": schema.StringAttribute{
				Optional: true, Computed: true, Validators: []validator.String{uuidValidator{}},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplaceIfConfigured()},
				MarkdownDescription: "Accessor ID, a UUID. Usually, do not set it: a token with an accessor ID of your own cannot be rotated " +
					"in place. " +
					"Set `00000000-0000-0000-0000-000000000002` to manage the anonymous token, which determines what requests without a token may do. " +
					"Destroying the resource takes the rights of the anonymous token away.",
			},
			"roles": schema.SetAttribute{
				Optional: true, ElementType: types.StringType,
				Validators: []validator.Set{attr.NotEmpty{}, setvalidator.ValueStringsAre(attr.NotEmpty{})},
				MarkdownDescription: "Roles of the token, each by name or by ID. Refer to `consul_k8s_role.<name>.name`, so that the role is " +
					"created first.",
			},
			"local": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether the token is valid only in the datacenter of the cluster, and not replicated to others. Defaults to " +
					"`false`. A change rotates the token.",
			},
			"expiration_time": schema.StringAttribute{
				Optional: true, Computed: true,
				Validators: []validator.String{expiry(), stringvalidator.ConflictsWith(path.MatchRoot("expiration_ttl"))},
				MarkdownDescription: "When the token expires, in RFC 3339 format, such as `2030-01-31T12:00:00Z`. Must be from one minute to ten " +
					"years after the token is created. After the token has expired, plans warn, and the apply creates it again only if you set a later " +
					"time. With `expiration_ttl`, the next apply creates it again. " +
					"A change, or removing the attribute, rotates the token.",
			},
			"expiration_ttl": schema.StringAttribute{
				Optional: true, Validators: []validator.String{attr.DurationBetween(minExpiry, maxExpiry)},
				PlanModifiers: []planmodifier.String{attr.KeepSameDuration()},
				MarkdownDescription: "How long the token is valid, such as `8h`, instead of `expiration_time`. Must be from `1m` to `87600h`, or at " +
					"most `24h` before Consul 1.16. The next apply creates an expired token again. A change, or removing the attribute, rotates " +
					"the token.",
			},
			"secret_id_wo": schema.StringAttribute{
				Optional: true, WriteOnly: true, Sensitive: true,
				Validators: []validator.String{uuidValidator{}, stringvalidator.AlsoRequires(path.MatchRoot("secret_id_wo_version"))},
				MarkdownDescription: "Secret ID of your choice, a UUID. By default, one is generated. Write-only: requires Terraform 1.11 or later, " +
					"or OpenTofu 1.11 or later, and is not in any state or plan.",
			},
			"secret_id_wo_version": schema.StringAttribute{
				Optional: true, Validators: []validator.String{stringvalidator.AlsoRequires(path.MatchRoot("secret_id_wo"))},
				MarkdownDescription: "Any text. When it changes, or is set for the first time, the token is rotated to the secret ID in " +
					"`secret_id_wo`, which must be a different one. A token that was imported with that secret ID stays as it is.",
			},
			"secret": schema.SingleNestedAttribute{
				Optional: true, Attributes: target, Validators: []validator.Object{objectvalidator.ConflictsWith(path.MatchRoot("secrets"))},
				MarkdownDescription: "Kubernetes Secret that the secret ID is delivered to. If the Secret is deleted or edited, the plan shows it, " +
					"and the apply writes the Secret again. An existing Secret that does not belong to this provider is refused.",
			},
			"secrets": schema.SetNestedAttribute{
				Optional: true, NestedObject: schema.NestedAttributeObject{Attributes: target}, Validators: []validator.Set{attr.NotEmpty{}},
				MarkdownDescription: "Kubernetes Secrets that the secret ID is delivered to, instead of `secret`, for more than one Secret or key.",
			},
			"delivered_to": schema.SetAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Where the secret ID is, each as `<namespace>/<name>:<key>`. If a declared place is missing here, the next " +
					"apply delivers the secret ID to it.",
			},
			"rotation": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "When to replace the token with a new one.",
				Attributes: map[string]schema.Attribute{
					"trigger": schema.StringAttribute{
						Optional:            true,
						MarkdownDescription: "Any text, such as a date. When it changes, the token is rotated. The first text is only recorded.",
					},
					"after": schema.StringAttribute{Optional: true, Validators: []validator.String{attr.DurationBetween(time.Minute, 10*365*24*time.Hour)},
						MarkdownDescription: "Age at which the next apply rotates the token, such as `720h`."},
					"grace_period": schema.StringAttribute{Optional: true, Validators: []validator.String{attr.DurationBetween(0, maxGracePeriod)},
						MarkdownDescription: "How long the old token stays valid after the new token is delivered, up to `1h`. The apply waits that long. " +
							"Defaults to `2m`, because a kubelet takes a minute or more to bring a changed Secret into a running pod."},
				},
			},
			"create_time": schema.StringAttribute{Computed: true, MarkdownDescription: "When the token was created, in RFC 3339 format."},
		})),
	}
}

// ValidateConfig implements resource.ResourceWithValidateConfig.
func (*TokenResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m tokenModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	var rotation rotationModel
	rotation.from(m.Rotation)
	set := func(v types.String) bool { return !v.IsNull() && !v.IsUnknown() }
	rotates := set(rotation.Trigger) || set(rotation.After)
	if rotates && set(m.AccessorID) {
		resp.Diagnostics.Append(attr.Error(path.Root("rotation"), "A chosen accessor ID cannot be rotated",
			"leave accessor_id out, because a rotation creates a token with a new accessor ID."))
	}
	if rotates && set(m.SecretID) {
		resp.Diagnostics.Append(attr.Error(path.Root("rotation"), "A chosen secret ID is rotated by its version",
			"leave trigger and after out. To rotate the token, change secret_id_wo_version together with secret_id_wo."))
	}
	seen := map[string]bool{}
	targets, _ := m.targets(ctx, &resp.Diagnostics)
	for _, t := range targets {
		if seen[t.String()] {
			resp.Diagnostics.Append(attr.Errorf(path.Root("secrets"), "Duplicate key",
				"the key %s of Secret %s/%s is declared twice.", t.Key, t.Namespace, t.Name))
		}
		seen[t.String()] = true
	}
	if m.isAnonymous() {
		if !m.Secret.IsNull() || !m.Secrets.IsNull() || !m.SecretID.IsNull() || !m.ExpirationTime.IsNull() || !m.ExpirationTTL.IsNull() ||
			m.Local.ValueBool() {
			resp.Diagnostics.Append(attr.Error(path.Root("accessor_id"), "The anonymous token has no secret ID",
				"leave out secret, secrets, secret_id_wo, local, expiration_time, and expiration_ttl."))
		}
	}
}

func (m tokenModel) isAnonymous() bool {
	return m.AccessorID.ValueString() == consulacl.AnonymousAccessorID
}

// gracePeriod is how long a rotated token stays valid.
func (m *tokenModel) gracePeriod() time.Duration {
	var r rotationModel
	r.from(m.Rotation)
	if d, err := time.ParseDuration(r.GracePeriod.ValueString()); err == nil {
		return d
	}
	return defaultGracePeriod
}

// targets returns the declared Secrets, in an order that depends only on them. known
// is false while some of them are not known.
func (m tokenModel) targets(ctx context.Context, diags *diag.Diagnostics) (targets []consulacl.Target, known bool) {
	if m.Cluster.IsUnknown() || m.Secret.IsUnknown() || m.Secrets.IsUnknown() {
		return nil, false
	}
	var models []types.Object
	if !m.Secret.IsNull() {
		models = append(models, m.Secret)
	}
	if !m.Secrets.IsNull() {
		for _, e := range m.Secrets.Elements() {
			if o, ok := e.(types.Object); ok {
				models = append(models, o)
			}
		}
	}
	namespace, _, _ := server.ParseID(m.Cluster.ValueString()) // the validator has checked it
	known = true
	for _, o := range models {
		t, ok := targetFrom(ctx, o, namespace, diags)
		if !ok {
			known = false
			continue
		}
		t.Declared = m.declared()
		targets = append(targets, t)
	}
	slices.SortFunc(targets, func(a, b consulacl.Target) int { return cmp.Compare(a.String(), b.String()) })
	return targets, known
}

func targetFrom(ctx context.Context, o types.Object, namespace string, diags *diag.Diagnostics) (t consulacl.Target, known bool) {
	if o.IsUnknown() {
		return t, false
	}
	a := o.Attributes()
	text := func(name, or string) string {
		v, _ := a[name].(types.String)
		if v.IsNull() {
			return or
		}
		return v.ValueString()
	}
	for _, v := range a {
		if v.IsUnknown() {
			return t, false
		}
		if m, ok := v.(types.Map); ok {
			for _, label := range m.Elements() {
				if label.IsUnknown() {
					return t, false
				}
			}
		}
	}
	t = consulacl.Target{
		Namespace: text("namespace", namespace),
		Name:      text("name", ""),
		Key:       text("key", defaultKey),
		Template:  text("template", ""),
		Type:      text("type", ""),
	}
	if m, ok := a["labels"].(types.Map); ok && !m.IsNull() {
		var all map[string]types.String
		diags.Append(m.ElementsAs(ctx, &all, false)...)
		for k, v := range all {
			if v.IsNull() { // not set
				continue
			}
			if t.Labels == nil {
				t.Labels = map[string]string{}
			}
			t.Labels[k] = v.ValueString()
		}
	}
	return t, true
}

// keepTargets keeps the Secrets of the state if the plan declares the same ones in another way. This happens after an import,
// which records the namespace and the key even if the configuration leaves them to their defaults.
func (m *tokenModel) keepTargets(ctx context.Context, state tokenModel, diags *diag.Diagnostics) {
	if m.Secret.IsNull() != state.Secret.IsNull() || m.Secrets.IsNull() != state.Secrets.IsNull() {
		return
	}
	after, known := m.targets(ctx, diags)
	before, _ := state.targets(ctx, diags)
	if known && slices.EqualFunc(after, before, consulacl.Target.Same) {
		m.Secret, m.Secrets = state.Secret, state.Secrets
	}
}

// declaredModel is the part of the configuration of a token that neither Consul nor its Secrets show. It is stored with the
// Secrets, for an import.
type declaredModel struct {
	Rotation        *declaredRotation `json:"rotation,omitempty"`
	ExpirationTTL   string            `json:"expirationTTL,omitempty"`
	SecretIDVersion string            `json:"secretIDVersion,omitempty"`
}

type declaredRotation struct {
	Trigger     *string `json:"trigger,omitempty"`
	After       *string `json:"after,omitempty"`
	GracePeriod *string `json:"gracePeriod,omitempty"`
}

// declared returns a declaredModel as JSON, or "" if nothing is declared.
func (m tokenModel) declared() string {
	d := declaredModel{ExpirationTTL: m.ExpirationTTL.ValueString(), SecretIDVersion: m.SecretIDVersion.ValueString()}
	if !m.Rotation.IsNull() && !m.Rotation.IsUnknown() {
		var r rotationModel
		r.from(m.Rotation)
		d.Rotation = &declaredRotation{
			Trigger:     r.Trigger.ValueStringPointer(),
			After:       r.After.ValueStringPointer(),
			GracePeriod: r.GracePeriod.ValueStringPointer(),
		}
	}
	if d == (declaredModel{}) {
		return ""
	}
	text, _ := json.Marshal(d) // texts always encode
	return string(text)
}

// fromFound fills in the Secrets that an import finds for the token, and what is stored with them.
func (m *tokenModel) fromFound(ctx context.Context, found []consulacl.Found, diags *diag.Diagnostics) {
	if len(found) == 0 {
		return
	}
	object := m.Secret.AttributeTypes(ctx)
	var all []tfattr.Value
	for _, f := range found {
		key := attr.OptionalString(f.Key)
		if f.Key == defaultKey {
			key = types.StringNull()
		}
		o, d := types.ObjectValue(object, map[string]tfattr.Value{
			"namespace": types.StringValue(f.Namespace), "name": types.StringValue(f.Name), "key": key,
			"template": attr.OptionalString(f.Template), "type": attr.OptionalString(f.Type),
			"labels": attr.FromStrings(types.MapNull(types.StringType), f.Labels),
		})
		diags.Append(d...)
		all = append(all, o)
	}
	if o, ok := all[0].(types.Object); ok && len(all) == 1 {
		m.Secret = o
	} else {
		set, d := types.SetValue(types.ObjectType{AttrTypes: object}, all)
		diags.Append(d...)
		m.Secrets = set
	}
	var declared declaredModel
	for _, f := range found {
		if f.Declared != "" && json.Unmarshal([]byte(f.Declared), &declared) == nil { // anything else was not written here
			break
		}
	}
	m.ExpirationTTL, m.SecretIDVersion = attr.OptionalString(declared.ExpirationTTL), attr.OptionalString(declared.SecretIDVersion)
	if r := declared.Rotation; r != nil {
		o, d := types.ObjectValue(m.Rotation.AttributeTypes(ctx), map[string]tfattr.Value{
			"trigger": types.StringPointerValue(r.Trigger),
			"after":   types.StringPointerValue(r.After), "grace_period": types.StringPointerValue(r.GracePeriod),
		})
		diags.Append(d...)
		m.Rotation = o
	}
}

// takenRemedy says what to do if something else already holds a target.
func (r *TokenResource) takenRemedy(t consulacl.Target, h consulacl.Holder) string {
	const remedy = "Choose another name or key."
	if !h.Foreign {
		return remedy + " If it is this very token, import it: " + r.importCommand(h.Cluster, h.AccessorID)
	}
	return remedy + fmt.Sprintf(
		" Or delete the Secret, if nothing uses it. Or allow the provider to add the key, which the Secret must not have yet: kubectl label "+
			"secret -n %s %s %s=%s %s=%s",
		t.Namespace,
		t.Name,
		server.LabelManagedBy,
		server.ManagedBy,
		server.LabelComponent,
		consulacl.ComponentToken,
	)
}

// targetNames returns the attribute delivered_to, which is never null.
func targetNames(ctx context.Context, targets []consulacl.Target, diags *diag.Diagnostics) types.Set {
	names := []string{}
	for _, t := range targets {
		names = append(names, t.String())
	}
	set, d := types.SetValueFrom(ctx, types.StringType, names)
	diags.Append(d...)
	return set
}

func (m tokenModel) toAPI(ctx context.Context, diags *diag.Diagnostics) api.ACLToken {
	g := m.grantsModel.toAPI(ctx, diags)
	t := api.ACLToken{
		AccessorID: m.AccessorID.ValueString(), Description: m.Description.ValueString(), Local: m.Local.ValueBool(),
		Policies: g.policies, Roles: toLinks(ctx, m.Roles, diags),
		ServiceIdentities: g.serviceIdentities, NodeIdentities: g.nodeIdentities, TemplatedPolicies: g.templatedPolicies,
	}
	if !m.ExpirationTTL.IsNull() {
		t.ExpirationTTL, _ = time.ParseDuration(m.ExpirationTTL.ValueString())
	} else if at, err := time.Parse(time.RFC3339, m.ExpirationTime.ValueString()); err == nil {
		t.ExpirationTime = &at
	}
	return t
}

func (m *tokenModel) fromAPI(ctx context.Context, t api.ACLToken, diags *diag.Diagnostics) {
	m.ID, m.AccessorID = types.StringValue(t.AccessorID), types.StringValue(t.AccessorID)
	m.Description, m.Local = types.StringValue(t.Description), types.BoolValue(t.Local)
	m.CreateTime = types.StringValue(t.CreateTime.UTC().Format(time.RFC3339Nano))
	expires := types.StringNull()
	if t.ExpirationTime != nil {
		expires = types.StringValue(t.ExpirationTime.UTC().Format(time.RFC3339Nano))
	}
	if m.ExpirationTime.IsUnknown() || !sameTime(m.ExpirationTime, expires) {
		m.ExpirationTime = expires
	}
	m.Roles = fromLinks(ctx, m.Roles, t.Roles, diags)
	m.grantsModel.fromAPI(ctx, grants{
		policies: t.Policies, serviceIdentities: t.ServiceIdentities, nodeIdentities: t.NodeIdentities,
		templatedPolicies: t.TemplatedPolicies,
	}, diags)
	m.SecretID = types.StringNull()
}

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func isUUID(s string) bool { return uuidPattern.MatchString(s) }

type uuidValidator struct{}

func (uuidValidator) Description(context.Context) string         { return "a UUID in lower case" }
func (uuidValidator) MarkdownDescription(context.Context) string { return "a UUID in lower case" }

func (uuidValidator) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	// The value may be a secret: it is not shown.
	v := req.ConfigValue.ValueString()
	switch {
	case uuid.Validate(v) != nil || !isUUID(v):
		resp.Diagnostics.Append(attr.Error(req.Path, "Not a UUID",
			"it must be a UUID in lower case, such as 8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55."))
	case strings.HasPrefix(v, "00000000-0000-0000-0000-0000000000") && v != consulacl.AnonymousAccessorID:
		resp.Diagnostics.Append(attr.Error(req.Path, "Reserved UUID",
			"UUIDs that begin with 00000000-0000-0000-0000-0000000000 are reserved for Consul."))
	}
}

// expiry validates the form of a time. Whether the time has passed matters only when a token is created (checkExpiry).
func expiry() validator.String {
	return attr.CheckAs("a time in RFC 3339 format", "Not a time", func(text string) error {
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			return fmt.Errorf("%q is not a time in RFC 3339 format, such as 2030-01-31T12:00:00Z", text)
		}
		return nil
	})
}

// checkExpiry returns why a token that is created now cannot expire at a time, or ""
// if it can, or if the time is not known. passed reports that the time has passed.
func checkExpiry(expires types.String, now time.Time) (passed bool, problem string) {
	at, err := time.Parse(time.RFC3339, expires.ValueString())
	switch left := at.Sub(now); {
	case err != nil:
		return false, ""
	case left <= 0:
		return true, fmt.Sprintf(
			"%s has passed, and Consul creates no token that has expired. Set a later time, or use expiration_ttl, which counts from the "+
				"creation of a token.",
			expires.ValueString(),
		)
	case left < minExpiry:
		return false, fmt.Sprintf(
			"%s is less than %s ahead, which Consul refuses. Set a later time, or use expiration_ttl, which counts from the creation of a token.",
			expires.ValueString(),
			minExpiry,
		)
	case left > maxExpiry:
		return false, fmt.Sprintf(
			"%s is more than ten years ahead. Set an earlier time, or leave expiration_time out for a token that does not expire.",
			expires.ValueString(),
		)
	}
	return false, ""
}

// targetKey is secretKey, and leaves room for the annotation that records the key.
func targetKey() validator.String {
	return attr.CheckAs("a key of a Secret", "Invalid key", func(text string) error {
		err := checkSecretKey(text)
		if p := validation.IsQualifiedName(server.ManagedBy + "/accessor-id." + text); err == nil && len(p) > 0 {
			return fmt.Errorf("the key %q must have at most 51 characters and end with a letter or a digit", text)
		}
		return err
	})
}

type templateValidator struct{}

func (templateValidator) Description(context.Context) string {
	return "a Go template with {{.SecretID}}"
}

func (v templateValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (templateValidator) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	const example = "00000000-1111-2222-3333-444444444444"
	out, err := consulacl.Target{Template: req.ConfigValue.ValueString()}.Render("accessor", example)
	switch {
	case err != nil:
		resp.Diagnostics.Append(attr.Error(req.Path, "Invalid template", "it is not a Go template: "+err.Error()+"."))
	case !strings.Contains(string(out), example):
		resp.Diagnostics.Append(attr.Error(req.Path, "The template has no secret ID",
			"it must have {{.SecretID}} where the secret ID belongs."))
	}
}
