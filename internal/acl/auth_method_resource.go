package acl

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/cert"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

var (
	_ objectResource                      = &AuthMethodResource{}
	_ resource.ResourceWithValidateConfig = &AuthMethodResource{}
)

// AuthMethodResource is consul_k8s_auth_method.
type AuthMethodResource struct {
	envelope[authMethodModel, *authMethodModel]
}

const authMethodKind = "auth method"

// NewAuthMethodResource returns the resource consul_k8s_auth_method.
func NewAuthMethodResource() resource.Resource {
	r := &AuthMethodResource{}
	r.object, r.own = object{kind: authMethodKind, typeName: "consul_k8s_auth_method", importKey: "name"}, r
	return r
}

type authMethodModel struct {
	objectModel
	Name          types.String `tfsdk:"name"`
	Type          types.String `tfsdk:"type"`
	DisplayName   types.String `tfsdk:"display_name"`
	MaxTokenTTL   types.String `tfsdk:"max_token_ttl"`
	TokenLocality types.String `tfsdk:"token_locality"`
	Kubernetes    types.Object `tfsdk:"kubernetes"`
	ConfigJSON    types.String `tfsdk:"config_json"`
	TokenReviewer types.Object `tfsdk:"token_reviewer"`
	Drift         types.List   `tfsdk:"drift"`
}

func (m *authMethodModel) serial() types.String { return m.Name }

type kubernetesAuthModel struct {
	Host       types.String `tfsdk:"host"`
	CACert     types.String `tfsdk:"ca_cert"`
	JWT        types.String `tfsdk:"service_account_jwt_wo"`
	JWTVersion types.String `tfsdk:"service_account_jwt_wo_version"`
}

type tokenReviewerModel struct {
	Namespace      types.String `tfsdk:"namespace"`
	ServiceAccount types.String `tfsdk:"service_account"`
	Secret         types.String `tfsdk:"secret"`
	ClusterRole    types.String `tfsdk:"cluster_role"`
}

var (
	kubernetesAuthTypes = map[string]tfattr.Type{
		"host": types.StringType, "ca_cert": types.StringType, "service_account_jwt_wo": types.StringType,
		"service_account_jwt_wo_version": types.StringType,
	}
	tokenReviewerTypes = map[string]tfattr.Type{
		"namespace": types.StringType, "service_account": types.StringType, "secret": types.StringType, "cluster_role": types.StringType,
	}
	inSync = types.ListValueMust(types.StringType, nil)
)

// Schema implements resource.Resource.
func (*AuthMethodResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages an auth method, through which pods, and other clients that can prove who they are, log in to Consul and " +
			"get a token of their own. `consul_k8s_binding_rule` determines what they may do.\n\n" +
			"With `type = \"kubernetes\"` and no other settings, the auth method is for the pods of the Kubernetes cluster that the servers run " +
			"in. The resource then creates what the servers need to check the token of a pod: " +
			"a ServiceAccount, a Secret with its token, and a ClusterRole with a ClusterRoleBinding, which allow it to review tokens and read " +
			"ServiceAccounts. This requires [rights](../guides/rights.md) in the whole Kubernetes cluster.\n\n" +
			"Destroying the auth method deletes its binding rules and every token that a login through it created.",
		Attributes: objectAttributes(ctx, authMethodKind, map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Same as `name`.",
			},
			"name": schema.StringAttribute{
				Required:      true,
				Validators:    []validator.String{authMethodName},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
				MarkdownDescription: "Name of the auth method, which a login must state. Must be unique in the cluster, with up to 128 letters, " +
					"digits, `-`, and `_`. A change replaces the auth method.",
			},
			"type": schema.StringAttribute{
				Required: true, Validators: []validator.String{authMethodType()},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
				MarkdownDescription: "Type of the auth method: `kubernetes` for pods, `jwt` for clients that have a [JSON web " +
					"token](https://developer.hashicorp.com/consul/docs/reference/acl/auth-method/jwt), " +
					"or `aws-iam` for [IAM users and roles](https://developer.hashicorp.com/consul/docs/secure/acl/auth-method/aws). OIDC requires " +
					"Consul Enterprise. A change replaces the auth method.",
			},
			"display_name": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(""),
				MarkdownDescription: "Display name, which a user interface may show instead of `name`.",
			},
			"max_token_ttl": schema.StringAttribute{
				Optional: true, Validators: []validator.String{attr.DurationBetween(minExpiry, maxExpiry)},
				PlanModifiers: []planmodifier.String{attr.KeepSameDuration()},
				MarkdownDescription: "How long a token from a login is valid, such as `8h`. Must be from `1m` to `87600h`, or at most `24h` before " +
					"Consul 1.16. If not set, a token is valid until it is logged out. A change applies to later logins.",
			},
			"token_locality": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("local"),
				Validators: []validator.String{stringvalidator.OneOf("local", "global")},
				MarkdownDescription: "Where tokens are valid: `local` or `global`. Defaults to `local`, which is this datacenter only. With " +
					"`global`, tokens are replicated to other datacenters.",
			},
			"kubernetes": schema.SingleNestedAttribute{
				Optional: true,
				MarkdownDescription: "Kubernetes cluster that the pods are in, for `type = \"kubernetes\"`. Defaults to the one that the " +
					"servers run in.",
				Attributes: map[string]schema.Attribute{
					"host": schema.StringAttribute{
						Optional: true, Validators: []validator.String{apiServerHost()},
						MarkdownDescription: "Address of the Kubernetes API server as the servers reach it, `https://host:port`. " +
							"Defaults to `" + server.KubernetesHost + "`.",
					},
					"ca_cert": schema.StringAttribute{
						Optional: true, Validators: []validator.String{certificates()},
						MarkdownDescription: "Certificate authority of the API server, in PEM format. Defaults to the one that Kubernetes gives to its " +
							"service accounts.",
					},
					"service_account_jwt_wo": schema.StringAttribute{
						Optional: true, WriteOnly: true, Sensitive: true,
						Validators: []validator.String{jsonWebToken(), stringvalidator.AlsoRequires(
							path.MatchRelative().AtParent().AtName(
								"host",
							),
							path.MatchRelative().AtParent().AtName("ca_cert"),
							path.MatchRelative().AtParent().AtName("service_account_jwt_wo_version"),
						)},
						MarkdownDescription: "Token of a service account, with which the servers may review tokens and read ServiceAccounts in another " +
							"Kubernetes cluster. If it is set, this resource creates nothing in Kubernetes. " +
							"Write-only: requires Terraform 1.11 or later, or OpenTofu 1.11 or later, and is not in any state or plan.",
					},
					"service_account_jwt_wo_version": schema.StringAttribute{
						Optional:   true,
						Validators: []validator.String{stringvalidator.AlsoRequires(path.MatchRelative().AtParent().AtName("service_account_jwt_wo"))},
						MarkdownDescription: "Any text. When it changes, or when another tool or person gave Consul another token, the token in " +
							"`service_account_jwt_wo` is written.",
					},
				},
			},
			"config_json": schema.StringAttribute{
				Optional: true, PlanModifiers: []planmodifier.String{attr.KeepSameJSON()},
				MarkdownDescription: "Configuration of the types `jwt` and `aws-iam`, as a JSON object with the keys of the type " +
					"([jwt](https://developer.hashicorp.com/consul/docs/reference/acl/auth-method/jwt), " +
					"[aws-iam](https://developer.hashicorp.com/consul/docs/secure/acl/auth-method/aws)), such as `JWKSURL`. " +
					"The plan refuses a key that the type does not have. Times such as `ExpirationLeeway` are numbers of nanoseconds. A different " +
					"notation of the same configuration is not a change.",
			},
			"token_reviewer": schema.SingleNestedAttribute{
				Computed:            true,
				MarkdownDescription: "Objects that this resource creates in Kubernetes. Null if it creates none.",
				Attributes: map[string]schema.Attribute{
					"namespace": schema.StringAttribute{
						Computed:            true,
						MarkdownDescription: "Namespace of the ServiceAccount and the Secret, which is the namespace of the cluster.",
					},
					"service_account": schema.StringAttribute{Computed: true, MarkdownDescription: "Name of the ServiceAccount."},
					"secret": schema.StringAttribute{
						Computed:            true,
						MarkdownDescription: "Name of the Secret with the token of the ServiceAccount.",
					},
					"cluster_role": schema.StringAttribute{Computed: true, MarkdownDescription: "Name of the ClusterRole and the ClusterRoleBinding."},
				},
			},
			"drift": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Changes that another tool or person made and that no attribute shows: to the objects in Kubernetes, such as " +
					"`ClusterRoleBinding …: missing`, and to the access of Consul to Kubernetes, such as `auth method: Config.Host`. The next apply " +
					"fixes them.",
			},
		}),
	}
}

// ValidateConfig implements resource.ResourceWithValidateConfig.
func (*AuthMethodResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m authMethodModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || m.Type.IsUnknown() {
		return
	}
	kind := m.Type.ValueString()
	if supported(kind) != nil {
		return // the validator reports it
	}
	if kind == consulacl.AuthMethodKubernetes {
		if !m.ConfigJSON.IsNull() {
			resp.Diagnostics.Append(attr.Error(path.Root("config_json"), "Wrong attribute for this type",
				"the type kubernetes uses the attribute kubernetes instead."))
		}
		return
	}
	if !m.Kubernetes.IsNull() {
		resp.Diagnostics.Append(attr.Errorf(path.Root("kubernetes"), "Wrong attribute for this type",
			"the type %s uses config_json instead.", kind))
	}
	if m.ConfigJSON.IsNull() {
		resp.Diagnostics.Append(attr.Errorf(path.Root("config_json"), "Missing configuration",
			"the type %s needs to know whom to trust. Set config_json = jsonencode({ … }).", kind))
	}
	if m.ConfigJSON.IsNull() || m.ConfigJSON.IsUnknown() {
		return
	}
	config, err := m.config()
	if err == nil {
		err = consulacl.CheckAuthConfig(kind, config)
	}
	if err != nil {
		resp.Diagnostics.Append(attr.Error(path.Root("config_json"), "Invalid configuration", err.Error()+"."))
	}
}

func (*AuthMethodResource) isReplaced(plan, state authMethodModel) bool {
	return !plan.Cluster.Equal(state.Cluster) || !plan.Name.Equal(state.Name) || !plan.Type.Equal(state.Type)
}

func (r *AuthMethodResource) plan(ctx context.Context, p *planning[authMethodModel]) (done bool) {
	p.replaces = r.claimName(p.plan.Cluster, p.plan.Name, p.state.ID, p.req.Config, p.diags)
	r.claimType(p.plan)
	p.plan.ID, p.plan.Drift = p.plan.Name, inSync
	p.plan.TokenReviewer = r.plannedReviewer(ctx, p.plan, p.config, p.diags)
	p.set(ctx)
	return false
}

// check reports what is in the way of the token reviewer, and an auth method that already has the planned name.
func (r *AuthMethodResource) check(ctx context.Context, a *consulacl.ACL, p *planning[authMethodModel]) {
	if p.plan.Name.IsUnknown() {
		return
	}
	r.checkReviewer(ctx, a, p.plan, !p.exists, p.diags)
	if !p.exists && p.replaces == "" && !r.leaves(authMethodKind, p.plan.Cluster, p.plan.Name.ValueString()) {
		r.checkName(ctx, a, p.plan, p.config, p.diags)
	}
}

// isReviewed reports whether the pods are in the Kubernetes cluster that the
// servers run in. Only then does the resource create the token reviewer.
func (m authMethodModel) isReviewed(ctx context.Context, diags *diag.Diagnostics) bool {
	return m.Type.ValueString() == consulacl.AuthMethodKubernetes && m.kubernetes(ctx, diags).JWT.IsNull()
}

func (*AuthMethodResource) plannedReviewer(ctx context.Context, plan, config authMethodModel, diags *diag.Diagnostics) types.Object {
	switch {
	case config.Type.IsUnknown() || config.Kubernetes.IsUnknown():
		return types.ObjectUnknown(tokenReviewerTypes)
	case !config.isReviewed(ctx, diags):
		return types.ObjectNull(tokenReviewerTypes)
	case plan.Cluster.IsUnknown() || plan.Name.IsUnknown():
		return types.ObjectUnknown(tokenReviewerTypes)
	}
	return reviewerObject(ctx, plan, diags)
}

// reviewerObject is the attribute token_reviewer.
func reviewerObject(ctx context.Context, m authMethodModel, diags *diag.Diagnostics) types.Object {
	namespace, cluster, err := server.ParseID(m.Cluster.ValueString())
	if err != nil {
		return types.ObjectUnknown(tokenReviewerTypes) // the validator reports it
	}
	reviewer := server.TokenReviewer{Namespace: namespace, Cluster: cluster, AuthMethod: m.Name.ValueString()}
	o, d := types.ObjectValueFrom(ctx, tokenReviewerTypes, tokenReviewerModel{
		Namespace: types.StringValue(namespace), ServiceAccount: types.StringValue(reviewer.AccountName()),
		Secret: types.StringValue(reviewer.AccountName()), ClusterRole: types.StringValue(reviewer.RoleName()),
	})
	diags.Append(d...)
	return o
}

// claimType records the type for binding rules that are planned later. They
// need it to check their selectors and references.
func (r *AuthMethodResource) claimType(plan authMethodModel) {
	if r.clients != nil && !plan.Name.IsUnknown() && !plan.Type.IsUnknown() {
		r.clients.Claims.Claim(
			claimOf(plan.Type.ValueString()+" "+authMethodKind, plan.Cluster.ValueString(), plan.Name.ValueString()),
			plan.Name.ValueString(),
			"",
		)
	}
}

// checkReviewer reports objects that have the names of the token reviewer, but that another tool or person made. If the auth
// method exists, this is drift, and only a warning: it must not block the plan of other resources.
func (*AuthMethodResource) checkReviewer(
	ctx context.Context,
	a *consulacl.ACL,
	plan authMethodModel,
	creating bool,
	diags *diag.Diagnostics,
) {
	if plan.TokenReviewer.IsNull() || plan.TokenReviewer.IsUnknown() {
		return
	}
	s, err := consulacl.NewTokenReviewer(a.Cluster(), plan.Name.ValueString()).Read(ctx)
	if err != nil || len(s.Foreign) == 0 {
		return
	}
	d := reviewerFailed("create", &consulacl.ForeignReviewerError{Objects: s.Foreign})
	if !creating {
		d = diag.NewWarningDiagnostic(d.Summary(), d.Detail()+" Until you do, the apply of this auth method fails.")
	}
	diags.Append(d)
}

// checkName reports an auth method that already has the planned name. It is only
// a warning if the content is the same, as an interrupted create leaves it.
func (r *AuthMethodResource) checkName(ctx context.Context, a *consulacl.ACL, plan, config authMethodModel, diags *diag.Diagnostics) {
	if _, err := a.AuthMethods.Get(ctx, plan.Name.ValueString()); err != nil {
		return // it does not exist, or the apply reports the error
	}
	same := true
	for _, v := range []tfattr.Value{
		plan.Type, plan.DisplayName, plan.Description, plan.MaxTokenTTL, plan.TokenLocality, plan.ConfigJSON, config.Kubernetes,
	} {
		same = same && !v.IsUnknown()
	}
	if same {
		credential := consulacl.ReviewerCredential{}
		if !plan.TokenReviewer.IsNull() {
			if s, err := consulacl.NewTokenReviewer(a.Cluster(), plan.Name.ValueString()).Read(ctx); err == nil {
				credential = s.Credential
			}
		}
		same = a.AuthMethodIsFree(ctx, plan.toAPI(ctx, config, credential, diags)) == nil
	}
	r.nameTaken(plan.Cluster, plan.Name, same, diags)
}

// planDestroy warns how many tokens are deleted with the auth method.
func (r *AuthMethodResource) planDestroy(ctx context.Context, state authMethodModel, diags *diag.Diagnostics) {
	_, tokens, ok := r.forDestroy(ctx, state.Cluster)
	if !ok {
		return
	}
	n := 0
	for _, t := range tokens {
		if t.AuthMethod == state.Name.ValueString() {
			n++
		}
	}
	if n > 0 {
		diags.AddWarning("The auth method is in use", fmt.Sprintf(
			"If the auth method %q of %s is deleted, Consul also deletes the tokens that logins through it created: %d now. Clients that use "+
				"such a token must log in again.",
			state.Name.ValueString(),
			state.Cluster.ValueString(),
			n,
		))
	}
}

func (r *AuthMethodResource) write(ctx context.Context, c *change[authMethodModel]) error {
	reviewer := consulacl.NewTokenReviewer(c.acl.Cluster(), c.plan.Name.ValueString())
	if c.exists {
		return r.update(ctx, c, reviewer)
	}
	return r.create(ctx, c, reviewer)
}

func (r *AuthMethodResource) create(ctx context.Context, c *change[authMethodModel], reviewer *consulacl.TokenReviewer) (err error) {
	c.importAs = c.plan.Name.ValueString()
	before, credential := consulacl.ReviewerState{}, consulacl.ReviewerCredential{}
	reviewed := c.config.isReviewed(ctx, c.diags)
	if reviewed {
		if before, err = reviewer.Read(ctx); err != nil {
			return c.fail(reviewerFailed("read", err))
		}
	}
	// Check before anything is changed.
	if err := c.acl.AuthMethodIsFree(ctx, c.plan.toAPI(ctx, c.config, before.Credential, c.diags)); err != nil {
		return err
	}
	if reviewed {
		defer func() {
			if err != nil {
				undo(ctx, reviewer, before, c.diags)
			}
		}()
		if credential, err = reviewer.Ensure(ctx); err != nil {
			return c.fail(reviewerFailed("create", err))
		}
	}
	wanted := c.plan.toAPI(ctx, c.config, credential, c.diags)
	made, err := c.acl.AuthMethods.Create(ctx, wanted)
	if err != nil {
		return err
	}
	r.written(ctx, c, wanted, *made, credential, reviewed)
	return nil
}

func (r *AuthMethodResource) update(ctx context.Context, c *change[authMethodModel], reviewer *consulacl.TokenReviewer) (err error) {
	credential, reviewed := consulacl.ReviewerCredential{}, c.config.isReviewed(ctx, c.diags)
	if reviewed {
		if credential, err = reviewer.Ensure(ctx); err != nil {
			return c.fail(reviewerFailed("create", err))
		}
	}
	wanted := c.plan.toAPI(ctx, c.config, credential, c.diags)
	changed, err := c.acl.ChangeAuthMethod(ctx, wanted)
	if err != nil {
		return err
	}
	if !reviewed && !c.state.TokenReviewer.IsNull() {
		if err := reviewer.Delete(ctx); err != nil {
			return c.fail(reviewerFailed("delete", err))
		}
	}
	r.written(ctx, c, wanted, *changed, credential, reviewed)
	return nil
}

// written copies what Consul has after a write to the state.
func (r *AuthMethodResource) written(
	ctx context.Context,
	c *change[authMethodModel],
	wanted, current api.ACLAuthMethod,
	credential consulacl.ReviewerCredential,
	reviewed bool,
) {
	r.warnIfNobodyCanLogIn(ctx, c.acl, wanted, c.diags)
	c.plan.fromAPI(ctx, current, consulacl.ReviewerState{Credential: credential}, reviewed, c.diags)
	hash := ""
	if wanted.Type == consulacl.AuthMethodKubernetes && !reviewed {
		hash = hashOf(wanted)
	}
	saveAs(ctx, c.private, jwtKey, hash, c.diags)
}

// undo deletes the token reviewer that a failed create made.
func undo(ctx context.Context, reviewer *consulacl.TokenReviewer, before consulacl.ReviewerState, diags *diag.Diagnostics) {
	if before.Exists {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := reviewer.Delete(ctx); err != nil {
		diags.AddWarning(
			"The token reviewer was not removed",
			"The auth method was not created, and its token reviewer could not be deleted: "+err.Error()+". The next apply uses the token reviewer.",
		)
	}
}

// warnIfNobodyCanLogIn lets the servers review a token, and warns if they cannot.
func (*AuthMethodResource) warnIfNobodyCanLogIn(ctx context.Context, a *consulacl.ACL, made api.ACLAuthMethod, diags *diag.Diagnostics) {
	if made.Type != consulacl.AuthMethodKubernetes {
		return
	}
	auth := consulacl.KubernetesAuthOf(made.Config)
	if err := a.CheckLogin(ctx, made.Name, auth.ServiceAccountJWT); err != nil {
		diags.AddWarning(
			"Nobody can log in yet",
			fmt.Sprintf("The auth method %q of %s exists, but the servers could not check a token at %s: %s.\n\n"+
				"The servers must be able to resolve and reach that address, and they must trust its certificate. Network policies must allow the "+
				"connection.", made.Name, a.Cluster().ID(), auth.Host, err),
		)
	}
}

// reviewerFailed returns the diagnostic of an error in Kubernetes.
func reviewerFailed(doing string, err error) diag.Diagnostic {
	summary := fmt.Sprintf("Cannot %s the token reviewer", doing)
	var foreign *consulacl.ForeignReviewerError
	switch {
	case errors.As(err, &foreign):
		return diag.NewErrorDiagnostic(summary, err.Error()+". Delete them, or give the auth method another name.")
	case apierrors.IsForbidden(err):
		return diag.NewErrorDiagnostic(summary, err.Error()+".\n\nThe guide \"Rights\" prints the ClusterRole that allows this. "+
			"Or let somebody else create the ServiceAccount, and set host, ca_cert, and service_account_jwt_wo in the attribute kubernetes.")
	}
	return diag.NewErrorDiagnostic(summary, err.Error()+".")
}

func (*AuthMethodResource) read(ctx context.Context, r *refresh[authMethodModel]) error {
	m := &r.model
	reviewer := consulacl.NewTokenReviewer(r.acl.Cluster(), m.ID.ValueString())
	current, err := readAuthMethod(ctx, r.acl, m.ID.ValueString())
	switch {
	case isGone(err) && !r.imported && !m.TokenReviewer.IsNull() && isLeft(ctx, reviewer):
		m.Drift = driftList(ctx, []string{"auth method: missing"}, r.diags)
		return nil
	case err != nil:
		return err
	}
	if err := supported(current.Type); err != nil && r.imported {
		r.diags.AddError("Cannot import the auth method", fmt.Sprintf("The auth method %q: %s.", current.Name, err))
		return errReported
	}
	r.acl.AuthMethods.Own(current.Name)
	reviewed, reviews := !m.TokenReviewer.IsNull(), consulacl.ReviewerState{}
	if current.Type == consulacl.AuthMethodKubernetes && (r.imported || reviewed) {
		reviews, err = reviewer.Read(ctx)
		switch {
		case err != nil && r.imported:
			r.diags.Append(reviewerFailed("read", err))
			return errReported
		case err != nil:
			r.diags.AddWarning("The token reviewer was not read", "The state of the token reviewer and of the auth method stays "+
				"as it is: "+err.Error()+".")
			return errReported
		case r.imported:
			reviewed = reviews.Exists && len(reviews.Foreign) == 0
			m.Kubernetes = importedKubernetes(ctx, *current, reviews, r.diags)
		}
	}
	if known := saved[string](ctx, r.private, jwtKey, r.diags); known != "" && !reviewed && known != hashOf(*current) {
		k := m.kubernetes(ctx, r.diags)
		k.JWTVersion = types.StringNull() // it is not the one that was written
		m.Kubernetes = kubernetesObject(ctx, k, r.diags)
	}
	m.fromAPI(ctx, *current, reviews, reviewed, r.diags)
	return nil
}

// isLeft reports whether a token reviewer may still be in Kubernetes, and so must stay in the state.
func isLeft(ctx context.Context, reviewer *consulacl.TokenReviewer) bool {
	left, err := reviewer.Read(ctx)
	return err != nil || (left.Exists && len(left.Foreign) == 0)
}

// importedKubernetes returns the attribute kubernetes of an imported auth method
// that has a token reviewer: null if the pods are in the cluster of the servers.
func importedKubernetes(
	ctx context.Context,
	current api.ACLAuthMethod,
	reviews consulacl.ReviewerState,
	diags *diag.Diagnostics,
) types.Object {
	auth, k := consulacl.KubernetesAuthOf(current.Config), kubernetesAuthModel{}
	if auth.Host != server.KubernetesHost {
		k.Host = types.StringValue(auth.Host)
	}
	if auth.CACert != reviews.Credential.CACert {
		k.CACert = types.StringValue(auth.CACert)
	}
	if k == (kubernetesAuthModel{}) {
		return types.ObjectNull(kubernetesAuthTypes)
	}
	return kubernetesObject(ctx, k, diags)
}

// readAuthMethod reads an auth method. It asks for the shared list first, which fails
// quickly if Consul does not answer.
func readAuthMethod(ctx context.Context, a *consulacl.ACL, name string) (*api.ACLAuthMethod, error) {
	if _, err := a.AuthMethods.Get(ctx, name); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return a.AuthMethods.Read(ctx, name)
}

// delete deletes the token reviewer last, because the auth method needs it.
func (*AuthMethodResource) delete(ctx context.Context, a *consulacl.ACL, m authMethodModel, diags *diag.Diagnostics) error {
	// The list reports whether the cluster exists.
	_, err := a.AuthMethods.List(ctx)
	if !errors.Is(err, consulacl.ErrNoCluster) {
		err = a.AuthMethods.Delete(ctx, m.Name.ValueString())
	}
	if err != nil && !errors.Is(err, consulacl.ErrNoCluster) {
		return err
	}
	if !m.TokenReviewer.IsNull() {
		if err := consulacl.NewTokenReviewer(a.Cluster(), m.Name.ValueString()).Delete(ctx); err != nil {
			diags.Append(reviewerFailed("delete", err))
		}
	}
	return nil
}

// jwtKey is where the private state keeps the hash of the service account's
// token that was written. It shows whether Consul has another token now.
const jwtKey = "service_account_jwt"

func hashOf(m api.ACLAuthMethod) string {
	sum := sha256.Sum256([]byte(consulacl.KubernetesAuthOf(m.Config).ServiceAccountJWT))
	return hex.EncodeToString(sum[:])
}

func (m authMethodModel) kubernetes(ctx context.Context, diags *diag.Diagnostics) (k kubernetesAuthModel) {
	if !m.Kubernetes.IsNull() && !m.Kubernetes.IsUnknown() {
		diags.Append(m.Kubernetes.As(ctx, &k, basetypes.ObjectAsOptions{})...)
	}
	return k
}

func kubernetesObject(ctx context.Context, k kubernetesAuthModel, diags *diag.Diagnostics) types.Object {
	o, d := types.ObjectValueFrom(ctx, kubernetesAuthTypes, k)
	diags.Append(d...)
	return o
}

// config is config_json.
func (m authMethodModel) config() (map[string]any, error) {
	var config map[string]any
	if err := json.Unmarshal([]byte(m.ConfigJSON.ValueString()), &config); err != nil || config == nil {
		return nil, errors.New("it is not a JSON object")
	}
	return config, nil
}

// toAPI takes the write-only token from the configuration.
func (m authMethodModel) toAPI(
	ctx context.Context,
	config authMethodModel,
	credential consulacl.ReviewerCredential,
	diags *diag.Diagnostics,
) api.ACLAuthMethod {
	ttl, _ := time.ParseDuration(m.MaxTokenTTL.ValueString()) // the validator has checked it
	out := api.ACLAuthMethod{
		Name: m.Name.ValueString(), Type: m.Type.ValueString(), DisplayName: m.DisplayName.ValueString(),
		Description: m.Description.ValueString(),
		MaxTokenTTL: ttl, TokenLocality: m.TokenLocality.ValueString(),
	}
	if out.Type == consulacl.AuthMethodKubernetes {
		k := config.kubernetes(ctx, diags)
		out.Config = consulacl.KubernetesAuth{
			Host:              cmp.Or(k.Host.ValueString(), server.KubernetesHost),
			CACert:            cmp.Or(k.CACert.ValueString(), credential.CACert),
			ServiceAccountJWT: cmp.Or(k.JWT.ValueString(), credential.ServiceAccountJWT),
		}.Config()
		return out
	}
	var err error
	if out.Config, err = m.config(); err != nil {
		diags.Append(attr.Error(path.Root("config_json"), "Invalid configuration", err.Error()+"."))
	}
	return out
}

// fromAPI keeps the notation of the state for values that mean the same. It only
// compares the token in the configuration, and never stores it.
func (m *authMethodModel) fromAPI(
	ctx context.Context,
	current api.ACLAuthMethod,
	reviews consulacl.ReviewerState,
	reviewed bool,
	diags *diag.Diagnostics,
) {
	m.ID, m.Name, m.Type = types.StringValue(current.Name), types.StringValue(current.Name), types.StringValue(current.Type)
	m.DisplayName, m.Description = types.StringValue(current.DisplayName), types.StringValue(current.Description)
	m.TokenLocality = types.StringValue(cmp.Or(current.TokenLocality, "local"))
	if ttl, err := time.ParseDuration(m.MaxTokenTTL.ValueString()); err != nil || ttl != current.MaxTokenTTL {
		m.MaxTokenTTL = types.StringNull()
		if current.MaxTokenTTL > 0 {
			m.MaxTokenTTL = types.StringValue(current.MaxTokenTTL.String())
		}
	}
	m.TokenReviewer = types.ObjectNull(tokenReviewerTypes)
	if current.Type != consulacl.AuthMethodKubernetes {
		m.Kubernetes, m.Drift = types.ObjectNull(kubernetesAuthTypes), inSync
		public := consulacl.PublicConfig(current.Type, current.Config)
		if written, err := m.config(); err != nil || !consulacl.SameConfig(written, public) {
			text, _ := json.Marshal(public) //nolint:errchkjson // it was JSON
			m.ConfigJSON = types.StringValue(string(text))
		}
		return
	}
	m.ConfigJSON = types.StringNull()
	k, auth := m.kubernetes(ctx, diags), consulacl.KubernetesAuthOf(current.Config)
	k.JWT = types.StringNull()
	if !reviewed {
		k.Host, k.CACert = types.StringValue(auth.Host), types.StringValue(auth.CACert)
		m.Kubernetes, m.Drift = kubernetesObject(ctx, k, diags), inSync
		return
	}
	m.TokenReviewer = reviewerObject(ctx, *m, diags)
	drift := reviews.Drift
	for _, o := range reviews.Foreign {
		drift = append(drift, o+": not this provider's")
	}
	if !k.Host.IsNull() {
		k.Host = types.StringValue(auth.Host)
	} else if auth.Host != server.KubernetesHost {
		drift = append(drift, "auth method: Config.Host")
	}
	if !k.CACert.IsNull() {
		k.CACert = types.StringValue(auth.CACert)
	} else if reviews.Credential.CACert != "" && auth.CACert != reviews.Credential.CACert {
		drift = append(drift, "auth method: Config.CACert")
	}
	if reviews.Credential.ServiceAccountJWT != "" && auth.ServiceAccountJWT != reviews.Credential.ServiceAccountJWT {
		drift = append(drift, "auth method: Config.ServiceAccountJWT")
	}
	if !m.Kubernetes.IsNull() {
		m.Kubernetes = kubernetesObject(ctx, k, diags)
	}
	m.Drift = driftList(ctx, drift, diags)
}

func driftList(ctx context.Context, drift []string, diags *diag.Diagnostics) types.List {
	l, d := types.ListValueFrom(ctx, types.StringType, append([]string{}, drift...))
	diags.Append(d...)
	return l
}

// supported returns an error unless Consul's community edition has a type of
// auth methods.
func supported(authMethodType string) error {
	switch authMethodType {
	case consulacl.AuthMethodKubernetes, consulacl.AuthMethodJWT, consulacl.AuthMethodAWS:
		return nil
	case "oidc":
		return errors.New("the type oidc requires Consul Enterprise; clients that already have a JSON web token can log in through the type jwt")
	}
	return fmt.Errorf("there is no type %q: use kubernetes, jwt, or aws-iam", authMethodType)
}

// authMethodType validates the type of an auth method.
func authMethodType() validator.String {
	return attr.CheckAs("kubernetes, jwt, or aws-iam", "Unknown type", supported)
}

// apiServerHost validates the address of a Kubernetes API server.
func apiServerHost() validator.String {
	const form = "https://host:port or host:port"
	return attr.CheckAs(form, "Invalid address", func(text string) error {
		address := text
		if !strings.Contains(text, "://") {
			address = "https://" + text
		}
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Hostname() == "" {
			return fmt.Errorf("%q is not an address of the form %s", text, form)
		}
		return nil
	})
}

// certificates validates PEM certificates.
func certificates() validator.String {
	return attr.CheckAs("PEM certificates", "Not a certificate", func(text string) error {
		if _, err := cert.ParseCertsPEM([]byte(text)); err != nil {
			return fmt.Errorf("it contains no PEM certificate: %w", err)
		}
		return nil
	})
}

// jsonWebToken validates the form of a token, and never shows it.
func jsonWebToken() validator.String {
	return attr.CheckAs("a JSON web token", "Not a token", func(text string) error {
		parts := strings.Split(text, ".")
		valid := len(parts) == 3
		for _, p := range parts {
			_, err := base64.RawURLEncoding.DecodeString(p)
			valid = valid && p != "" && err == nil
		}
		if !valid {
			return errors.New("it is not a JSON web token, which has three base64 parts with dots between them. The Secret of a service " +
				"account contains one in its key token")
		}
		return nil
	})
}
