package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-log/tflog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
)

// planVolumes says which volumes of an earlier cluster exist for a new cluster. If the StatefulSet exists, the volumes are in use:
// the apply resumes a create, or refuses.
func (r *Resource) planVolumes(ctx context.Context, config, plan model, diags *diag.Diagnostics) {
	if r.clients == nil || r.clients.Unknown || plan.ID.IsUnknown() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	d, err := r.deployment(ctx, plan.Namespace.ValueString(), plan.Name.ValueString())
	if err != nil {
		return // the apply reports this
	}
	sts, err := d.Consul.StatefulSet(ctx)
	switch {
	case err == nil && sts == nil:
		claims, err := d.Retained(ctx)
		switch {
		case apierrors.IsForbidden(err):
			warnVolumesUnknown(plan, err, diags)
		case err != nil: // the apply reports this
			tflog.Debug(ctx, "could not look at the volume claims: "+err.Error())
		default:
			planSurplus(plan, claims, diags)
			planRetained(config, plan, claims, diags)
		}
	case apierrors.IsForbidden(err):
		warnVolumesUnknown(plan, err, diags)
	}
}

// planSurplus warns if volumes exist for more servers than a create starts: they may belong to a cluster in which the servers
// that start are not a quorum.
func planSurplus(plan model, claims []lifecycle.Retained, diags *diag.Diagnostics) {
	if plan.Replicas.IsUnknown() {
		return
	}
	claims = slices.DeleteFunc(
		slices.Clone(claims),
		func(c lifecycle.Retained) bool { return int64(c.Ordinal) < plan.Replicas.ValueInt64() || !c.Bound },
	)
	if len(claims) > 0 {
		diags.AddAttributeWarning(
			path.Root("replicas"),
			"Volumes of more servers exist",
			surplusText(plan.ID.ValueString(), plan.Namespace.ValueString(), plan.Replicas.ValueInt64(), claims),
		)
	}
}

// surplusText names the volume claims, and says what to do.
func surplusText(id, namespace string, replicas int64, claims []lifecycle.Retained) string {
	return fmt.Sprintf("%s starts %d servers, but volume claims of other servers exist:\n\n  %s\n\n"+
		"If servers with these volumes are Raft peers of an earlier cluster, the servers that start may not be a quorum without them. "+
		"To keep the data, set replicas to the number of servers that the earlier cluster had, and apply. Then lower replicas. If you do not "+
		"need the data on these volumes, delete it:\n\n  kubectl -n %s delete pvc %s",
		id, replicas, strings.Join(texts(claims), "\n  "), namespace, strings.Join(lifecycle.ClaimNames(claims), " "))
}
