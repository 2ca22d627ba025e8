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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// planVolumes says which volumes a new cluster finds. Where its StatefulSet exists they are in use: the apply resumes a create, or
// refuses.
func (r *Resource) planVolumes(ctx context.Context, config, plan model, diags *diag.Diagnostics) {
	if r.clients == nil || r.clients.Unknown || plan.ID.IsUnknown() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	d, err := r.deployment(ctx, plan.Namespace.ValueString(), plan.Name.ValueString())
	if err != nil {
		return // the apply says so
	}
	_, err = d.Kube.AppsV1().StatefulSets(d.Consul.Namespace).Get(ctx, server.StatefulSetName(d.Consul.Name), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		claims, err := d.Retained(ctx)
		switch {
		case apierrors.IsForbidden(err):
			warnVolumesUnknown(plan, err, diags)
		case err != nil: // the apply says so
			tflog.Debug(ctx, "the volume claims were not seen: "+err.Error())
		default:
			planSurplus(plan, claims, diags)
			planRetained(config, plan, claims, diags)
		}
	case apierrors.IsForbidden(err):
		warnVolumesUnknown(plan, err, diags)
	}
}

// planSurplus warns of a create beside volumes of more servers than it starts: their data may be that of a cluster of which
// the servers that start are no quorum.
func planSurplus(plan model, claims []rollout.Retained, diags *diag.Diagnostics) {
	if plan.Replicas.IsUnknown() {
		return
	}
	claims = slices.DeleteFunc(slices.Clone(claims), func(c rollout.Retained) bool { return int64(c.Ordinal) < plan.Replicas.ValueInt64() || !c.Bound })
	if len(claims) > 0 {
		diags.AddAttributeWarning(path.Root("replicas"), "There are volumes of more servers", surplusText(plan.ID.ValueString(), plan.Namespace.ValueString(), plan.Replicas.ValueInt64(), claims))
	}
}

// surplusText names the volumes, and says what to do.
func surplusText(id, namespace string, replicas int64, claims []rollout.Retained) string {
	return fmt.Sprintf("%s starts %d servers, and there are volume claims of others:\n\n  %s\n\n"+
		"If the servers of an earlier cluster were Raft peers with these volumes, the servers that start may not be a quorum without them. "+
		"To keep the data, set replicas to the number of servers that the earlier cluster had, apply, and lower replicas then. If the data on these volumes is of no use, delete it:\n\n  kubectl -n %s delete pvc %s",
		id, replicas, strings.Join(texts(claims), "\n  "), namespace, strings.Join(rollout.ClaimNames(claims), " "))
}
