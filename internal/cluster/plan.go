package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

// ModifyPlan implements resource.ResourceWithModifyPlan. It fills in what follows
// from the configuration, refuses what is impossible, shows unfinished work and
// drift as an update, and says what the update does to the servers. It makes
// requests for a new cluster, for changes of the default policy, the volumes, and
// encryption, and for Secrets with certificates that the user provides. Other plans
// make no requests.
func (r *Resource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	var config, state, plan model
	if req.Plan.Raw.IsNull() {
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
		if state.DeletionProtection.ValueBool() {
			resp.Diagnostics.Append(protectedError(state))
		}
		return
	}
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	planVersion(config, &plan)
	if !plan.Name.IsUnknown() && !plan.Namespace.IsUnknown() {
		plan.ID = types.StringValue(plan.Namespace.ValueString() + "/" + plan.Name.ValueString())
		plan.setAddresses(ctx, &resp.Diagnostics)
		if r.clients != nil { // for the ACL resources that refer to the cluster
			r.clients.Claims.PlanCluster(
				plan.ID.ValueString(),
				session.PlannedCluster{ACLs: plan.mayHaveACLs(), Version: plan.Version.ValueString()},
			)
			if plan.CreateNamespace.ValueBool() {
				r.clients.Claims.PlanNamespace(plan.Namespace.ValueString())
			}
		}
	}
	if req.State.Raw.IsNull() {
		plan.Ready, plan.RunningVersion = types.BoolUnknown(), types.StringUnknown()
		plan.Drift, plan.Rollout, plan.UpgradeSnapshot = noDrift, noRollout, noSnapshot
		r.planAdopt(ctx, &plan, &resp.Diagnostics)
		r.planOrigin(ctx, &plan, &resp.Diagnostics)
		r.planVolumes(ctx, config, plan, &resp.Diagnostics)
		r.checkGossip(ctx, nil, plan, &resp.Diagnostics)
		r.checkTLS(ctx, nil, plan, &resp.Diagnostics)
		if r.clients != nil && !r.clients.Unknown && !resp.Diagnostics.HasError() {
			r.checkCreate(ctx, plan, &resp.Diagnostics)
		}
		plan.planCertificates(ctx, nil, nil, &resp.Diagnostics)
		resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
		return
	}
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if r.clients != nil && !r.clients.Unknown && !r.clients.Claims.WasRead("cluster "+state.ID.ValueString()) {
		// Terraform plans again when it applies, and would print the warnings of the plan a second time.
		defer func() { resp.Diagnostics = resp.Diagnostics.Errors() }()
	}
	checkChange(state, plan, &resp.Diagnostics)
	if !plan.ID.Equal(state.ID) { // a new cluster replaces this one
		r.planVolumes(ctx, config, plan, &resp.Diagnostics)
	}
	keepDoneAdopt(state, &plan, &resp.Diagnostics)
	started, diags := req.Private.GetKey(ctx, privateStarted)
	resp.Diagnostics.Append(diags...)
	checkUpgrade(config, state, plan, started, &resp.Diagnostics)
	r.checkStorage(ctx, state, plan, &resp.Diagnostics)
	r.checkACL(ctx, state, plan, &resp.Diagnostics)
	r.checkGossip(ctx, &state, plan, &resp.Diagnostics)
	r.checkTLS(ctx, &state, plan, &resp.Diagnostics)
	r.planRecovery(ctx, state, plan, &resp.Diagnostics)
	r.checkSnapshotTo(ctx, state, plan, &resp.Diagnostics)

	// Computed attributes are known unless there is something to do.
	plan.Ready, plan.RunningVersion, plan.Drift, plan.Rollout = state.Ready, state.RunningVersion, state.Drift, state.Rollout
	plan.UpgradeSnapshot = state.UpgradeSnapshot
	plan.keepOrigin(state, &resp.Diagnostics)
	plan.HTTPSAddress, plan.CACertificate, plan.CertificateExpiry = state.HTTPSAddress, state.CACertificate, state.CertificateExpiry
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	changed := !resp.Plan.Raw.Equal(req.State.Raw)
	if changed || !state.Ready.ValueBool() || len(state.Drift.Elements()) > 0 {
		// An update that does not reach this state ends with an error.
		plan.Ready, plan.Drift = types.BoolValue(true), noDrift
		if plan.mayPause() { // a pause is not an error
			plan.Ready, plan.Drift = types.BoolUnknown(), types.ListUnknown(types.StringType)
		}
		if !state.Ready.ValueBool() || !plan.Version.Equal(state.RunningVersion) {
			plan.RunningVersion = types.StringUnknown()
		}
		if plan.takesSnapshot(state) {
			plan.UpgradeSnapshot = types.ObjectUnknown(snapshotTypes)
		}
		if plan.isUnrestored() {
			plan.Origin = types.ObjectUnknown(originTypes)
		}
		plan.Rollout = types.ObjectUnknown(rolloutTypes)
		world, diags := req.Private.GetKey(ctx, privateWorld)
		resp.Diagnostics.Append(diags...)
		w := seen(world)
		if resp.Plan.Raw.IsFullyKnown() {
			plan.planRollout(ctx, state, w, &resp.Diagnostics)
		}
		plan.planCertificates(ctx, &state, w, &resp.Diagnostics)
		resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	}
}

// checkChange refuses changes that are impossible on a running cluster.
func checkChange(state, plan model, diags *diag.Diagnostics) {
	replaced := (!plan.Name.IsUnknown() && !plan.Name.Equal(state.Name)) ||
		(!plan.Namespace.IsUnknown() && !plan.Namespace.Equal(state.Namespace))
	if replaced {
		if state.DeletionProtection.ValueBool() {
			diags.Append(protectedError(state))
		}
		return
	}
	if !plan.Datacenter.IsUnknown() && !plan.Datacenter.Equal(state.Datacenter) {
		diags.Append(attr.Error(path.Root("datacenter"), "The datacenter cannot be changed", fmt.Sprintf(
			"The data of %s belongs to datacenter %q. Servers of another datacenter refuse to start with this data, and clients and tokens refer "+
				"to the datacenter by name. Keep %q. To move to another datacenter, create a second cluster and restore a snapshot into it.",
			state.ID.ValueString(),
			state.Datacenter.ValueString(),
			state.Datacenter.ValueString(),
		)))
	}
	if !plan.CreateNamespace.IsUnknown() && plan.CreateNamespace.ValueBool() && !state.CreateNamespace.ValueBool() {
		diags.Append(attr.Error(path.Root("create_namespace"), "The namespace already exists",
			fmt.Sprintf("This cluster did not create the namespace %s: leave create_namespace false.", state.Namespace.ValueString())))
	}
	if !plan.CreateNamespace.IsUnknown() && !plan.CreateNamespace.ValueBool() && state.CreateNamespace.ValueBool() {
		diags.Append(attr.Error(
			path.Root("create_namespace"),
			"The namespace belongs to the cluster",
			fmt.Sprintf(
				"This cluster created the namespace %s, and the namespace is deleted with the cluster: keep create_namespace = true.",
				state.Namespace.ValueString(),
			),
		))
	}
}
