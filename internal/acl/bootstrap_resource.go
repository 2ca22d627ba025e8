// Package acl contains the resources of Consul's ACL system.
package acl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/hashicorp/terraform-plugin-log/tflog"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

const (
	defaultTimeout = 10 * time.Minute
	defaultKey     = "token"
)

var (
	_ resource.ResourceWithConfigure   = &BootstrapResource{}
	_ resource.ResourceWithModifyPlan  = &BootstrapResource{}
	_ resource.ResourceWithImportState = &BootstrapResource{}
)

// BootstrapResource is consul_k8s_acl_bootstrap.
type BootstrapResource struct{ clients *session.Clients }

// NewBootstrapResource returns the resource consul_k8s_acl_bootstrap.
func NewBootstrapResource() resource.Resource { return &BootstrapResource{} }

type bootstrapModel struct {
	ID         types.String   `tfsdk:"id"`
	Cluster    types.String   `tfsdk:"cluster"`
	Secret     types.Object   `tfsdk:"secret"`
	Reset      types.String   `tfsdk:"reset"`
	AccessorID types.String   `tfsdk:"accessor_id"`
	Timeouts   timeouts.Value `tfsdk:"timeouts"`
}

type secretModel struct {
	Namespace types.String `tfsdk:"namespace"`
	Name      types.String `tfsdk:"name"`
	Key       types.String `tfsdk:"key"`
}

var secretTypes = map[string]tfattr.Type{"namespace": types.StringType, "name": types.StringType, "key": types.StringType}

// Metadata implements resource.Resource.
func (*BootstrapResource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_acl_bootstrap"
}

// Schema implements resource.Resource.
func (*BootstrapResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Bootstraps the ACL system of a cluster once, and gives every server an agent token of its own.\n\n" +
			"The provider first chooses the management token, then stores it in a Kubernetes Secret, and only then passes it to Consul. If a " +
			"step is interrupted, the token is not lost, and the next apply resumes. " +
			"The state contains the accessor ID and the name of the Secret, but never the token. Other resources find the token in the Secret.\n\n" +
			"Destroying only this resource changes nothing in Consul, because a bootstrap cannot be undone. The Secret stays as long as the " +
			"cluster does.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Same as `cluster`.",
			},
			"cluster": schema.StringAttribute{
				Required: true, Validators: []validator.String{attr.ClusterID()},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
				MarkdownDescription: "ID of the cluster, `<namespace>/<name>`. Its `acl.enabled` must be true. Refer to this attribute in other ACL " +
					"resources, so that they wait for the bootstrap.",
			},
			"secret": schema.SingleNestedAttribute{
				Optional: true, Computed: true,
				PlanModifiers: []planmodifier.Object{objectplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Secret with the management token, in the namespace of the cluster. This resource creates it. An existing " +
					"Secret is used if it has the labels of the cluster and the annotation that names the key. This is the case if the Secret is from " +
					"an earlier cluster of the same name, or if you bring the token (guide *Operating a cluster*). The plan refuses any other " +
					"existing Secret, and prints the labels and the annotation. A change of the name or key is refused.",
				Attributes: map[string]schema.Attribute{
					"namespace": schema.StringAttribute{Computed: true, MarkdownDescription: "Namespace of the cluster.",
						PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()}},
					"name": schema.StringAttribute{Optional: true, Computed: true, Validators: []validator.String{attr.DNSLabel(63, false)},
						PlanModifiers:       []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
						MarkdownDescription: "Name of the Secret. Defaults to `<name of the cluster>-bootstrap-token`."},
					"key": schema.StringAttribute{
						Optional:            true,
						Computed:            true,
						Default:             stringdefault.StaticString(defaultKey),
						Validators:          []validator.String{secretKey()},
						MarkdownDescription: "Key of the token in the Secret. Defaults to `token`.",
					},
				},
			},
			"reset": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Any text, such as a date. If it changes while the management token is lost, the ACLs are bootstrapped again " +
					"through the reset procedure of Consul, and the lost token is deleted. " +
					"This requires the right to `exec` in the pod of the leader. If the token is not lost, a change only gives the servers agent " +
					"tokens that they lack.",
			},
			"accessor_id": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "Accessor ID of the management token.",
			},
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{
				Create: true, Update: true,
				CreateDescription: "How long a create waits for a leader and for all voters. Defaults to `10m`.",
				UpdateDescription: "How long an update waits for a leader and for all voters. Defaults to `10m`.",
			}),
		},
	}
}

// Configure implements resource.ResourceWithConfigure.
func (r *BootstrapResource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	r.clients = clients
}

// ModifyPlan implements resource.ResourceWithModifyPlan.
func (r *BootstrapResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan bootstrapModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() || plan.Cluster.IsUnknown() {
		return
	}
	namespace, name, err := server.ParseID(plan.Cluster.ValueString())
	if err != nil {
		return // the validator reports it
	}
	if req.State.Raw.IsNull() {
		r.checkCluster(ctx, plan.Cluster.ValueString(), &resp.Diagnostics)
	}
	plan.ID = plan.Cluster
	secret := secretModel{Name: types.StringUnknown(), Key: types.StringUnknown()}
	if !plan.Secret.IsUnknown() && !plan.Secret.IsNull() {
		resp.Diagnostics.Append(plan.Secret.As(ctx, &secret, basetypes.ObjectAsOptions{})...)
	}
	var config bootstrapModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if config.Secret.IsUnknown() {
		return
	}
	secret.Namespace = types.StringValue(namespace)
	var declared secretModel
	if !config.Secret.IsNull() {
		resp.Diagnostics.Append(config.Secret.As(ctx, &declared, basetypes.ObjectAsOptions{})...)
	}
	secret.Name, secret.Key = declared.Name, declared.Key
	if declared.Name.IsNull() {
		secret.Name = types.StringValue(consulacl.DefaultSecretRef(name).Name)
	}
	if declared.Key.IsNull() {
		secret.Key = types.StringValue(defaultKey)
	}
	plan.Secret = objectFrom(ctx, secret, &resp.Diagnostics)
	if req.State.Raw.IsNull() {
		r.checkSecret(ctx, plan.Cluster.ValueString(), secret, &resp.Diagnostics)
	}

	if !req.State.Raw.IsNull() {
		var state bootstrapModel
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
		if plan.Cluster.Equal(state.Cluster) {
			var old secretModel
			resp.Diagnostics.Append(state.Secret.As(ctx, &old, basetypes.ObjectAsOptions{})...)
			if (!secret.Name.IsUnknown() && !secret.Name.Equal(old.Name)) || (!secret.Key.IsUnknown() && !secret.Key.Equal(old.Key)) {
				resp.Diagnostics.Append(attr.Errorf(path.Root("secret"), "The Secret cannot be moved",
					"the management token is in key %q of Secret %s/%s. Keep this Secret and key.", old.Key.ValueString(),
					old.Namespace.ValueString(), old.Name.ValueString()))
			}
			plan.AccessorID = state.AccessorID
			if !plan.Reset.Equal(state.Reset) && !plan.Reset.IsNull() {
				plan.AccessorID = types.StringUnknown()
			}
		}
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// checkCluster refuses to bootstrap a cluster that is planned without ACLs, and
// warns about a cluster that does not exist.
func (r *BootstrapResource) checkCluster(ctx context.Context, id string, diags *diag.Diagnostics) {
	if r.clients == nil || r.clients.Unknown {
		return
	}
	if planned, ok := r.clients.Claims.PlannedCluster(id); ok {
		if !planned.ACLs {
			diags.Append(bootstrapError(id, consulacl.ErrACLDisabled))
		}
		return
	}
	cluster, err := r.cluster(ctx, id)
	if err != nil {
		return // the apply reports it
	}
	if exists, err := cluster.Exists(ctx); err == nil && !exists {
		warnOfNoCluster(r.clients, id, diags)
	}
}

// secretTimeout limits how long a plan waits for Kubernetes.
const secretTimeout = 10 * time.Second

// checkSecret refuses a Secret that the bootstrap cannot use, if the plan can read it.
func (r *BootstrapResource) checkSecret(ctx context.Context, id string, secret secretModel, diags *diag.Diagnostics) {
	if r.clients == nil || r.clients.Unknown || secret.Name.IsUnknown() || secret.Key.IsUnknown() {
		return
	}
	cluster, err := r.cluster(ctx, id)
	if err != nil {
		return // the apply reports it
	}
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	err = consulacl.CheckSecret(ctx, cluster, consulacl.SecretRef{Name: secret.Name.ValueString(), Key: secret.Key.ValueString()})
	if errors.As(err, new(*consulacl.SecretError)) {
		diags.Append(bootstrapError(id, err))
	}
}

func objectFrom(ctx context.Context, s secretModel, diags *diag.Diagnostics) types.Object {
	o, d := types.ObjectValueFrom(ctx, secretTypes, s)
	diags.Append(d...)
	return o
}

// Create implements resource.Resource.
func (r *BootstrapResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m bootstrapModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Create(ctx, defaultTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	// An error leaves nothing in the state. The next apply creates the resource
	// again, and continues with what exists.
	if r.apply(ctx, &m, timeout, "", !m.Reset.IsNull(), &resp.Diagnostics) {
		resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
	}
}

// Update implements resource.Resource.
func (r *BootstrapResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m, state bootstrapModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	timeout, diags := m.Timeouts.Update(ctx, defaultTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	reset := !m.Reset.IsNull() && !m.Reset.Equal(state.Reset)
	if r.apply(ctx, &m, timeout, state.AccessorID.ValueString(), reset, &resp.Diagnostics) {
		resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
	}
}

// apply bootstraps, or resets, and sets the agent tokens. It reports whether it
// succeeded.
func (r *BootstrapResource) apply(
	ctx context.Context,
	m *bootstrapModel,
	timeout time.Duration,
	lostAccessor string,
	reset bool,
	diags *diag.Diagnostics,
) bool {
	cluster, err := r.cluster(ctx, m.Cluster.ValueString())
	if err != nil {
		diags.Append(session.ConnectError(err))
		return false
	}
	var secret secretModel
	diags.Append(m.Secret.As(ctx, &secret, basetypes.ObjectAsOptions{})...)
	if diags.HasError() {
		return false
	}
	ref := consulacl.SecretRef{Name: secret.Name.ValueString(), Key: secret.Key.ValueString()}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	accessor, err := consulacl.EnsureBootstrap(ctx, cluster, ref, consulacl.BootstrapOptions{Reset: reset, LostAccessor: lostAccessor})
	if err != nil {
		diags.Append(bootstrapError(m.Cluster.ValueString(), err))
		return false
	}
	m.AccessorID = types.StringValue(accessor)
	tflog.Info(ctx, "ACLs are bootstrapped", map[string]any{"cluster": m.Cluster.ValueString(), "accessor_id": accessor})
	// Backup schedules that are older than the ACLs need tokens from now on.
	k, err := r.clients.Kube(ctx)
	if err == nil {
		err = restic.EnsureTokens(ctx, k, cluster)
	}
	if err != nil {
		diags.AddWarning(
			"Backups have no token",
			fmt.Sprintf(
				"The ACLs of %s are bootstrapped, but the tokens of its backup schedules could not be created. The next apply of the schedules "+
					"creates them. Until then, the schedules fail. %s",
				m.Cluster.ValueString(),
				err,
			),
		)
	}
	return true
}

func bootstrapError(cluster string, err error) diag.Diagnostic {
	var secret *consulacl.SecretError
	switch {
	case errors.As(err, &secret):
		return attr.Error(path.Root("secret"), "The Secret cannot be used", secret.Error()+".")
	case errors.Is(err, consulacl.ErrNoCluster):
		return attr.Error(path.Root("cluster"), "There is no such cluster",
			fmt.Sprintf("There is no cluster %s. Use the id attribute of a consul_k8s_cluster, so that it is created first.", cluster))
	case errors.Is(err, consulacl.ErrNotRestored):
		return attr.NotRestored(cluster)
	case errors.Is(err, consulacl.ErrACLDisabled):
		return diag.NewAttributeErrorDiagnostic(
			path.Root("cluster"),
			"ACLs are not enabled",
			fmt.Sprintf(
				"Cluster %s has no ACLs to bootstrap: set acl = { enabled = true, default_policy = \"allow\" } on the cluster. A new cluster can "+
					"start with \"deny\".",
				cluster,
			),
		)
	case errors.Is(err, consulacl.ErrSecretLost):
		return diag.NewAttributeErrorDiagnostic(
			path.Root("reset"),
			"The management token is lost",
			fmt.Sprintf(
				"Cluster %s: %s. Put the valid token back into the Secret. Or set reset to a new value, such as today's date, to bootstrap the "+
					"ACLs again.",
				cluster,
				err,
			),
		)
	default:
		return diag.NewErrorDiagnostic("Cannot bootstrap ACLs",
			fmt.Sprintf("Cluster %s: %s\n\nNothing is lost. The next apply resumes the bootstrap.", cluster, err))
	}
}

// Read implements resource.Resource. A lost Secret is a warning and not an error,
// because only a plan can fix it.
func (r *BootstrapResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m bootstrapModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if r.clients.Unknown { // where the cluster is: the state stays as it is
		if m.Cluster.IsNull() {
			resp.Diagnostics.Append(session.ConnectError(session.ErrUnknown)) // an import has none yet
		}
		return
	}
	cluster, err := r.cluster(ctx, m.ID.ValueString())
	if err != nil {
		resp.Diagnostics.Append(session.ConnectError(err))
		return
	}
	exists, err := cluster.Exists(ctx)
	if err != nil {
		resp.Diagnostics.AddError("Cannot read the ACL bootstrap", err.Error())
		return
	}
	if !exists {
		resp.State.RemoveResource(ctx)
		return
	}
	imported := m.Cluster.IsNull()
	m.Cluster = m.ID
	token, ref, err := consulacl.ManagementToken(ctx, cluster)
	if err != nil {
		resp.Diagnostics.AddError("Cannot read the ACL bootstrap", err.Error())
		return
	}
	switch accessor, err := consulacl.VerifyToken(ctx, cluster, token); {
	case err == nil:
		m.AccessorID = types.StringValue(accessor)
		m.Secret = objectFrom(ctx, secretModel{
			Namespace: types.StringValue(cluster.Namespace), Name: types.StringValue(ref.Name), Key: types.StringValue(ref.Key),
		}, &resp.Diagnostics)
	case imported:
		resp.Diagnostics.AddError("Cannot import the ACL bootstrap", fmt.Sprintf("Cluster %s: %s. "+
			"The Secret with the management token must have the labels of the cluster. If there is no such Secret, create the resource instead "+
			"of importing it.", cluster.ID(), err))
		return
	case errors.Is(err, consulacl.ErrSecretLost):
		resp.Diagnostics.Append(lostWarning(cluster.ID(), err))
	default: // Consul cannot be reached: the state stays as it is
		tflog.Warn(ctx, "the management token was not verified: "+err.Error())
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// lostWarning reports what is wrong with the Secret. A refresh does not know
// whether a reset is planned.
func lostWarning(cluster string, err error) diag.Diagnostic {
	reason := err.Error()
	var lost *consulacl.LostError
	if errors.As(err, &lost) {
		reason = lost.Reason
	}
	return diag.NewAttributeWarningDiagnostic(path.Root("secret"), "The management token is not in its Secret", fmt.Sprintf(
		"Cluster %s: %s. The servers continue to run, but nothing that needs the management token can be read or changed. "+
			"Put the token back into the Secret, or set reset to a new value to bootstrap the ACLs again, unless this plan "+
			"does so.", cluster, reason))
}

// Delete implements resource.Resource. A bootstrap of Consul cannot be undone, and
// only the token gives access. Both stay until the cluster is deleted.
func (r *BootstrapResource) Delete(ctx context.Context, req resource.DeleteRequest, _ *resource.DeleteResponse) {
	var m bootstrapModel
	_ = req.State.Get(ctx, &m)
	tflog.Info(
		ctx,
		"the management token stays in its Secret until the cluster is deleted",
		map[string]any{"cluster": m.Cluster.ValueString()},
	)
}

// ImportState implements resource.ResourceWithImportState.
func (*BootstrapResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	if _, _, err := server.ParseID(req.ID); err != nil {
		resp.Diagnostics.AddError("Invalid import ID", "The ID "+err.Error()+".")
		return
	}
	resource.ImportStatePassthroughID(ctx, path.Root("id"), req, resp)
}

func (r *BootstrapResource) cluster(ctx context.Context, id string) (*consul.Cluster, error) {
	namespace, name, err := server.ParseID(id)
	if err != nil {
		return nil, err
	}
	return r.clients.Consul(ctx, namespace, name)
}

// secretKey validates the key of a Secret.
func secretKey() validator.String {
	return attr.CheckAs("a key of a Secret", "Invalid key", checkSecretKey)
}

func checkSecretKey(text string) error {
	if p := validation.IsConfigMapKey(text); len(p) > 0 {
		return errors.New("Kubernetes would refuse " + strconv.Quote(text) + ": " + p[0])
	}
	return nil
}
