// Package cluster implements the resource consul_k8s_cluster and the data sources
// that describe a running cluster.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

var (
	_ resource.ResourceWithConfigure      = &Resource{}
	_ resource.ResourceWithValidateConfig = &Resource{}
	_ resource.ResourceWithModifyPlan     = &Resource{}
	_ resource.ResourceWithImportState    = &Resource{}
)

// Resource is consul_k8s_cluster.
type Resource struct{ clients *session.Clients }

// NewResource returns the resource consul_k8s_cluster.
func NewResource() resource.Resource { return &Resource{} }

// Metadata implements resource.Resource.
func (*Resource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_cluster"
}

// Configure implements resource.ResourceWithConfigure.
func (r *Resource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	r.clients = clients
}

func (r *Resource) deployment(ctx context.Context, namespace, name string) (lifecycle.Deployment, error) {
	k, err := r.clients.Kube(ctx)
	if err != nil {
		return lifecycle.Deployment{}, err
	}
	c, err := r.clients.Consul(ctx, namespace, name)
	return lifecycle.Deployment{Kube: k, Consul: c, Began: time.Now(), Report: func(a rollout.Action) {
		tflog.Info(ctx, a.String(), map[string]any{"cluster": namespace + "/" + name})
	}}, err
}

// Create implements resource.Resource. When the StatefulSet exists, Create returns
// no error, whatever happens: Terraform would mark the cluster as tainted, and the
// next apply would destroy it.
func (r *Resource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if m.RestoreFrom.IsNull() { // it may not have been known to the plan
		m.Origin = noOrigin
	}
	timeout, diags := m.Timeouts.Create(ctx, m.defaultCreateTimeout())
	resp.Diagnostics.Append(diags...)
	spec, diags := m.toSpec(ctx)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	d, err := r.deployment(ctx, spec.Namespace, spec.Name)
	if err != nil {
		resp.Diagnostics.Append(session.ConnectError(err))
		return
	}

	m.setOrigin(ctx, &d, spec, timeout, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}

	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d.Unchecked = uncheckedWarning(&resp.Diagnostics)
	err = d.Create(limited, spec)
	var unsettled *lifecycle.UnsettledError
	if err != nil && !errors.As(err, &unsettled) {
		resp.Diagnostics.Append(createError(spec, err))
		return
	}
	if unsettled != nil {
		resp.Diagnostics.AddWarning("The cluster is not up yet",
			"All objects of "+spec.ID()+" were created, but "+unsettledDetail(unsettled)+
				"\nNothing is lost, and nothing will be destroyed. Fix what is wrong, and apply again. Until then, ready is false.")
	}
	m.fromApplied(ctx, unsettled == nil, &resp.Diagnostics)
	m.readOrigin(ctx, d, &resp.Diagnostics)
	m.readCertificates(ctx, d.Consul, &resp.Diagnostics)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
	if unsettled == nil {
		resp.Diagnostics.Append(keepStarted(ctx, resp.Private, []string{m.Version.ValueString()})...)
		warnLeftover(ctx, d, spec, &resp.Diagnostics)
	}
}

// fromApplied fills in the computed attributes after an apply. Declared attributes
// stay as planned, even if something such as an admission webhook changed them on
// the way: Terraform reports any difference as an error of the provider, and marks
// the cluster as tainted after a create with an error. The next refresh shows the
// difference.
func (m *model) fromApplied(ctx context.Context, settled bool, diags *diag.Diagnostics) {
	m.ID = types.StringValue(m.Namespace.ValueString() + "/" + m.Name.ValueString())
	m.setAddresses(ctx, diags)
	m.Ready = types.BoolValue(settled)
	if m.RunningVersion.IsUnknown() {
		m.RunningVersion = types.StringNull()
		if settled {
			m.RunningVersion = m.Version
		}
	}
	m.Drift = noDrift
	if m.Rollout.IsUnknown() {
		m.Rollout = noRollout
	}
}

var noDrift = types.ListValueMust(types.StringType, nil)

// fromState sets everything from what was read. settled says whether the cluster was
// settled so far. If a server runs anything other than what is declared, it is not.
func (m *model) fromState(ctx context.Context, s lifecycle.State, settled bool) diag.Diagnostics {
	diags := m.fromSpec(ctx, s.Spec)
	m.Ready = types.BoolValue(settled && len(s.Outdated) == 0 && !s.Spec.Origin.Pending())
	m.RunningVersion = attr.OptionalString(s.RunningVersion)
	drift, d := types.ListValueFrom(ctx, types.StringType, append([]string{}, s.Drift...))
	m.Drift = drift
	diags.Append(d...)
	if m.Rollout.IsNull() {
		m.Rollout = noRollout
	}
	if m.Recovery.IsNull() { // as after an import
		m.Recovery = types.ObjectNull(recoveryTypes)
	}
	if m.RestoreFrom.IsNull() {
		m.RestoreFrom = types.ObjectNull(restoreFromTypes)
	}
	return diags
}

func unsettledDetail(e *lifecycle.UnsettledError) string {
	return e.Err.Error() + ".\n\n" + e.Explanation
}

func createError(spec server.Spec, err error) diag.Diagnostic {
	var foreign *lifecycle.ForeignError
	var refused *lifecycle.RefusedError
	var denied *lifecycle.DeniedError
	var origin *lifecycle.OriginError
	var retained *lifecycle.RetainedDataError
	var config *lifecycle.ConfigError
	switch {
	case errors.As(err, &retained):
		return retainedError(path.Root("version"), spec.ID(), retained)
	case errors.As(err, &config):
		return configError(spec, config)
	case errors.As(err, &origin):
		return originError(spec, origin.Err)
	case errors.As(err, &refused):
		return refusedError(spec, refused)
	case errors.Is(err, lifecycle.ErrExists):
		return diag.NewErrorDiagnostic("The cluster already exists", fmt.Sprintf(
			"Cluster %s exists. The apply that created it finished, or was interrupted and left something other than what is declared now, such as "+
				"another number of servers. The provider does not adopt it silently. Import it into this state:\n\n"+
				"  terraform import consul_k8s_cluster.<name> %s\n\nOr choose another name.",
			spec.ID(),
			spec.ID(),
		))
	case errors.As(err, &denied):
		return diag.NewErrorDiagnostic("Kubernetes refuses the cluster", fmt.Sprintf(
			"Nothing was changed: %s.\n\nChange the settings that the policy, the quota, or Pod Security of the namespace %s does not accept, or "+
				"have that restriction changed. See the guide Stricter Kubernetes clusters.",
			denied,
			spec.Namespace,
		))
	case errors.As(err, &foreign):
		return diag.NewErrorDiagnostic("Objects of the same name exist", fmt.Sprintf(
			"Nothing was changed: %s. Choose another name or namespace, or delete these objects if nothing uses them.%s", err, foreignHint(spec)))
	case errors.Is(err, lifecycle.ErrNamespaceExists):
		return diag.NewAttributeErrorDiagnostic(path.Root("create_namespace"), "The namespace already exists", fmt.Sprintf(
			"This cluster did not create the namespace %s. To use the namespace as it is, set create_namespace = false.", spec.Namespace))
	case apierrors.IsNotFound(err) && strings.Contains(err.Error(), "namespaces"):
		return diag.NewAttributeErrorDiagnostic(path.Root("namespace"), "The namespace does not exist", fmt.Sprintf(
			"There is no namespace %s. Create it, or set create_namespace = true.", spec.Namespace))
	default:
		return diag.NewErrorDiagnostic("Cannot create the cluster", fmt.Sprintf("Creating %s: %s", spec.ID(), err))
	}
}

// Read implements resource.Resource.
func (r *Resource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m model
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if r.clients.Unknown { // it is not known where the cluster is: keep the state
		if m.Name.IsNull() {
			resp.Diagnostics.Append(session.ConnectError(session.ErrUnknown)) // an import has no state yet
		}
		return
	}
	r.clients.Claims.MarkRead("cluster " + m.ID.ValueString())
	namespace, name, err := server.ParseID(m.ID.ValueString())
	if err != nil {
		resp.Diagnostics.AddError("Invalid ID in the state", err.Error())
		return
	}
	d, err := r.deployment(ctx, namespace, name)
	if err != nil {
		resp.Diagnostics.Append(session.ConnectError(err))
		return
	}
	// Import sets only the ID. Everything else comes from what runs.
	imported := m.Name.IsNull()
	var known server.Spec
	if !imported {
		var diags diag.Diagnostics
		known, diags = m.toSpec(ctx)
		resp.Diagnostics.Append(diags...)
	}
	s, err := d.Read(ctx, known)
	if errors.Is(err, server.ErrNoStatefulSet) {
		if !imported {
			warnGone(ctx, d, m.ID.ValueString(), &resp.Diagnostics)
		}
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("Cannot read the cluster", fmt.Sprintf("Reading %s: %s", m.ID.ValueString(), err))
		return
	}
	if s.Terminating {
		warnTerminating(m.ID.ValueString(), namespace, &resp.Diagnostics)
	}
	settled := m.Ready.ValueBool() || imported
	world, raw := look(ctx, d, s)
	if world.Leader == "" { // even if nothing says that the cluster ever had a leader: its volumes may be those of an earlier cluster
		warnLost(ctx, d, m.ID.ValueString(), &resp.Diagnostics)
	}
	s.Drift = append(s.Drift, world.Drift()...)
	if world.Leader != "" {
		s.Drift = append(s.Drift, agentTokenDrift(ctx, d.Consul, s.Spec)...)
	}
	resp.Diagnostics.Append(m.fromState(ctx, s, settled)...)
	m.Rollout = noRollout // the change that it described is complete, or shows as drift
	m.forgetCertificates()
	m.readCertificates(ctx, d.Consul, &resp.Diagnostics)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, privateWorld, raw)...)
	resp.Diagnostics.Append(keepStarted(ctx, resp.Private, s.Started)...)
	if s.Spec.Creating && s.Elected {
		// The cluster is in the state, so Terraform knows that the create has ended.
		if err := d.MarkCreated(ctx); err != nil {
			tflog.Debug(ctx, err.Error())
		}
	}
}

// Update implements resource.Resource. An error does not taint the resource, and the
// next apply resumes where this one stopped.
func (r *Resource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m, before model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &before)...)
	if resp.Diagnostics.HasError() {
		return
	}
	timeout, diags := m.Timeouts.Update(ctx, defaultUpdateTimeout)
	resp.Diagnostics.Append(diags...)
	spec, diags := m.toSpec(ctx)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	d, err := r.deployment(ctx, spec.Namespace, spec.Name)
	if err != nil {
		resp.Diagnostics.Append(session.ConnectError(err))
		return
	}
	m.setOrigin(ctx, &d, spec, timeout, &resp.Diagnostics)
	known, diags := before.toSpec(ctx)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	d.Known = &known
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d.Unchecked = uncheckedWarning(&resp.Diagnostics)
	err = d.Update(limited, rollout.Wanted{Spec: spec, Recover: m.recoveryFrom(before)})
	if refused := unchangedError(spec, err); refused != nil { // keep the state
		resp.Diagnostics.Append(refused)
		return
	}
	if err == nil {
		started := []string{m.Version.ValueString()}
		if spec.Update.Strategy == server.OnDelete { // only the servers that others restarted run the change
			if s, readErr := d.Read(ctx, spec); readErr == nil {
				started = s.Started
				if m.RunningVersion.IsUnknown() {
					m.RunningVersion = attr.OptionalString(s.RunningVersion)
				}
			}
		}
		m.fromApplied(ctx, true, &resp.Diagnostics)
		resp.Diagnostics.Append(keepStarted(ctx, resp.Private, started)...)
		if !before.Ready.ValueBool() { // an interrupted adoption may have ended
			warnLeftover(ctx, d, spec, &resp.Diagnostics)
		}
	} else if s, readErr := d.Read(context.WithoutCancel(ctx), spec); readErr == nil {
		// The state has what was done. The next plan shows the rest.
		resp.Diagnostics.Append(m.fromState(ctx, s, errors.As(err, new(*lifecycle.RolledBackError)))...)
		if !errors.As(err, new(*rollout.PausedError)) { // a pause is a success: keep what was planned
			m.Rollout = noRollout
		}
		resp.Diagnostics.Append(keepStarted(ctx, resp.Private, s.Started)...)
	} else {
		m = model{} // keep the state
	}
	if !m.Name.IsNull() {
		m.readSnapshot(ctx, d, &resp.Diagnostics)
		m.readOrigin(ctx, d, &resp.Diagnostics)
		m.readCertificates(ctx, d.Consul, &resp.Diagnostics)
		resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
	}
	var unsettled *lifecycle.UnsettledError
	var paused *rollout.PausedError
	var rolledBack *lifecycle.RolledBackError
	switch {
	case errors.As(err, &paused):
		resp.Diagnostics.AddWarning("The rollout is paused", fmt.Sprintf(
			"Cluster %s runs the change on %d of its servers, as update.pause_after declares. Not done yet: %s.\nCheck the result for as long as "+
				"you like. The next apply completes the rollout. An apply with the previous settings reverts it.",
			spec.ID(),
			spec.Update.PauseAfter,
			paused.Left,
		))
	case errors.As(err, &rolledBack):
		detail := rolledBack.Error()
		if errors.As(err, &unsettled) {
			detail = unsettledDetail(unsettled)
		}
		resp.Diagnostics.AddError("The change was rolled back",
			"The change of "+spec.ID()+" failed, and all servers run what they ran before, as update.on_failure declares: "+detail)
	case errors.As(err, &unsettled):
		resp.Diagnostics.AddError("The change is not complete",
			"The change of "+spec.ID()+" was applied, but "+unsettledDetail(unsettled)+
				"\nServers that the change has not reached are untouched. Fix what is wrong, and apply again: the next apply resumes where this one "+
				"stopped.")
	case err != nil:
		resp.Diagnostics.AddError("Cannot change the cluster", fmt.Sprintf("Changing %s: %s", spec.ID(), err))
	}
}

// unchangedError explains an error of an update that has changed nothing that is declared, nil for any other.
func unchangedError(spec server.Spec, err error) diag.Diagnostic {
	var unsaved *lifecycle.SnapshotError
	var config *lifecycle.ConfigError
	var tokens *lifecycle.AgentTokensError
	switch {
	case errors.As(err, &config):
		return configError(spec, config)
	case errors.As(err, &unsaved):
		return snapshotError(spec, unsaved)
	case errors.As(err, &tokens):
		return agentTokensError(spec.ID(), tokens)
	default:
		return recoveryError(spec.ID(), err)
	}
}

// Delete implements resource.Resource.
func (r *Resource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m model
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if m.DeletionProtection.ValueBool() {
		resp.Diagnostics.Append(protectedError(m))
		return
	}
	timeout, diags := m.Timeouts.Delete(ctx, defaultDeleteTimeout)
	resp.Diagnostics.Append(diags...)
	spec, diags := m.toSpec(ctx)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	d, err := r.deployment(ctx, spec.Namespace, spec.Name)
	if err != nil {
		resp.Diagnostics.Append(session.ConnectError(err))
		return
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	kept, err := d.Delete(limited, spec)
	if err != nil {
		resp.Diagnostics.AddError("Cannot delete the cluster", fmt.Sprintf("Deleting %s: %s", spec.ID(), err))
		return
	}
	if len(kept) > 0 {
		resp.Diagnostics.AddWarning(
			"Parts of the cluster are kept",
			fmt.Sprintf(
				"Cluster %s is deleted. As storage.retention declares, these are kept: %s. A new cluster of the same name starts with them. To "+
					"delete the data, delete them by hand.",
				spec.ID(),
				strings.Join(kept, "; "),
			),
		)
	}
}

func protectedError(m model) diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(
		path.Root("deletion_protection"),
		"The cluster is protected",
		fmt.Sprintf(
			"Deleting %s would stop Consul for everything that uses it. If that is what you want, set deletion_protection = false and apply, "+
				"then destroy.",
			m.ID.ValueString(),
		),
	)
}

// ImportState implements resource.ResourceWithImportState.
func (r *Resource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	if _, _, err := server.ParseID(req.ID); err != nil {
		resp.Diagnostics.AddError("Invalid import ID", "The ID "+err.Error()+".")
		return
	}
	resource.ImportStatePassthroughID(ctx, path.Root("id"), req, resp)
}
