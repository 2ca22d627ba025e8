package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

// checkCreateTimeout limits how long a plan of a new cluster waits for Kubernetes.
const checkCreateTimeout = 30 * time.Second

// checkCreate makes a plan report the error that the create would return. The provider block is known.
func (r *Resource) checkCreate(ctx context.Context, plan model, diags *diag.Diagnostics) {
	ctx, cancel := context.WithTimeout(ctx, checkCreateTimeout)
	defer cancel()
	if _, err := r.clients.Kube(ctx); err != nil {
		diags.Append(session.ConnectError(err))
		return
	}
	if plan.Name.IsUnknown() || plan.Namespace.IsUnknown() || !plan.Adopt.IsNull() { // planAdopt checks adoptions
		return
	}
	spec, ok := plan.knownSpec(ctx)
	if !ok {
		return
	}
	d, err := r.deployment(ctx, spec.Namespace, spec.Name)
	if err != nil {
		diags.Append(session.ConnectError(err))
		return
	}
	hasNamespace, err := d.CheckCreate(ctx, spec)
	switch {
	case apierrors.IsForbidden(err) && !errors.As(err, new(*lifecycle.DeniedError)):
		tflog.Debug(ctx, "could not look at the objects of a new cluster: "+err.Error())
	case errors.As(err, new(*url.Error)): // Kubernetes does not answer
		diags.Append(session.ConnectError(err))
	case err != nil:
		diags.Append(createError(spec, err))
	case !hasNamespace && !spec.CreateNamespace && !r.clients.Claims.PlannedNamespace(spec.Namespace):
		diags.AddAttributeWarning(path.Root("namespace"), "The namespace does not exist yet", fmt.Sprintf(
			"There is no namespace %s. If nothing else in this apply creates it before the cluster, the apply fails. In that case, set "+
				"create_namespace = true.",
			spec.Namespace,
		))
	}
}

// knownSpec converts the plan of a create, if everything that is declared is known.
func (m model) knownSpec(ctx context.Context) (server.Spec, bool) {
	m.UpgradeSnapshot, m.Origin = noSnapshot, noOrigin
	for _, p := range m.plain() {
		isNeeded := p.name != "deletion_protection" && p.name != "share_process_namespace" // no check of a create depends on these
		if isNeeded && p.get().IsUnknown() {
			return server.Spec{}, false
		}
	}
	for _, v := range []interface{ IsUnknown() bool }{
		m.ExtraConfig, m.Labels, m.Annotations, m.PodLabels, m.PodAnnotations, m.Storage, m.Resources, m.Placement, m.Service, m.Gossip, m.TLS,
		m.Update,
	} {
		if v.IsUnknown() {
			return server.Spec{}, false
		}
	}
	for _, v := range []tfattr.Value{
		m.Labels, m.Annotations, m.PodLabels, m.PodAnnotations, m.NamespaceLabels, m.NamespaceAnnotations, m.ImagePullSecrets, m.ServiceAccount,
		m.Resources, m.Placement, m.Service, m.TLS, m.Jobs,
	} {
		if hasUnknownElement(v) {
			return server.Spec{}, false
		}
	}
	spec, diags := m.toSpec(ctx)
	return spec, !diags.HasError()
}

// hasUnknownElement reports whether an element of a map, a list or a set in a value is unknown. A spec leaves unknown elements out.
func hasUnknownElement(v tfattr.Value) bool {
	var elements []tfattr.Value
	switch v := v.(type) {
	case types.Object:
		return slices.ContainsFunc(slices.Collect(maps.Values(v.Attributes())), hasUnknownElement)
	case types.Map:
		elements = slices.Collect(maps.Values(v.Elements()))
	case interface{ Elements() []tfattr.Value }:
		elements = v.Elements()
	}
	return slices.ContainsFunc(elements, func(e tfattr.Value) bool { return e.IsUnknown() || hasUnknownElement(e) })
}

// warnGone says what is left of a cluster that was deleted outside of Terraform, and how to get its data back.
func warnGone(ctx context.Context, d lifecycle.Deployment, id string, diags *diag.Diagnostics) {
	loss, err := d.Loss(ctx)
	if err != nil {
		tflog.Debug(ctx, "could not look for what is left of the cluster: "+err.Error())
		return
	}
	diags.AddWarning("The cluster is gone", goneText(id, d.Consul.Namespace, loss))
}

func goneText(id, namespace string, loss lifecycle.Loss) string {
	const restore = "To start with the latest backup instead, set restore_from before the apply. See the guide Disasters."
	text := fmt.Sprintf("Cluster %s was deleted outside of Terraform. The next apply creates it again", id)
	switch {
	case loss.NamespaceGone:
		return text + fmt.Sprintf(
			", and it starts empty: the namespace %s was deleted, with the volumes of the servers, the tokens, and the keys in it. All data is "+
				"lost, unless there is a backup.\n\n%s",
			namespace,
			restore,
		)
	case len(loss.Claims) == 0:
		return text + ", and it starts empty: no volumes of its servers are left. All data is lost, unless there is a backup.\n\n" + restore
	default:
		return text + fmt.Sprintf(
			", and its servers start with the data on the volumes that are left: %s.\n\n%s",
			strings.Join(loss.Claims, ", "),
			restore,
		)
	}
}

// warnTerminating says that the namespace of a cluster is being deleted.
func warnTerminating(id, namespace string, diags *diag.Diagnostics) {
	diags.AddWarning("The namespace of the cluster is being deleted", fmt.Sprintf(
		"Somebody deleted the namespace %s, and Kubernetes removes everything in it: the servers of %s, their volumes, the tokens, and the "+
			"keys. This cannot be stopped. "+
			"When the namespace is gone, the next plan creates the cluster again, and it starts empty. To start with the latest backup instead, "+
			"set restore_from before that apply. See the guide Disasters.",
		namespace,
		id,
	))
}
