package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// planRetained names the volume claims that the servers of a new cluster would use, and refuses a version that must not start
// with their data. A cluster that adopts servers or starts with a backup refuses such claims elsewhere.
func planRetained(config, plan model, claims []lifecycle.Retained, diags *diag.Diagnostics) {
	if !plan.RestoreFrom.IsNull() || !plan.Adopt.IsNull() {
		return
	}
	if !plan.Replicas.IsUnknown() {
		claims = slices.DeleteFunc(
			slices.Clone(claims),
			func(c lifecycle.Retained) bool { return int64(c.Ordinal) >= plan.Replicas.ValueInt64() },
		)
	}
	if len(claims) == 0 {
		return
	}
	version := ""
	if !plan.Version.IsUnknown() {
		version = plan.Version.ValueString()
		if err := lifecycle.CheckRetained(plan.Namespace.ValueString(), claims, version); err != nil {
			diags.Append(retainedError(versionPath(config), plan.ID.ValueString(), err))
			return
		}
	}
	diags.AddAttributeWarning(path.Root("storage"), "The servers start with existing data", retainedWarning(plan, version, claims))
}

// warnVolumesUnknown says that a plan lacks the right to look for volumes of an earlier cluster.
func warnVolumesUnknown(plan model, err error, diags *diag.Diagnostics) {
	if !plan.RestoreFrom.IsNull() || !plan.Adopt.IsNull() {
		return
	}
	diags.AddAttributeWarning(
		path.Root("storage"),
		"Could not check for volumes of an earlier cluster",
		classUnknown(errors.Join(lifecycle.ErrNoRight, err),
			"If there are volume claims of an earlier cluster of this name, the servers start with their data."),
	)
}

// retainedWarning names the volume claims that new servers use.
func retainedWarning(plan model, version string, claims []lifecycle.Retained) string {
	text := fmt.Sprintf(
		"These volume claims are left from an earlier cluster of this name, and the servers of %s start with their data:\n\n  %s\n\n"+
			"To start with an empty cluster instead, delete the volume claims before the apply:\n\n  kubectl -n %s delete pvc %s\n",
		plan.ID.ValueString(),
		strings.Join(texts(claims), "\n  "),
		plan.Namespace.ValueString(),
		strings.Join(lifecycle.ClaimNames(claims), " "),
	)
	if version != "" && slices.ContainsFunc(claims, func(c lifecycle.Retained) bool { return c.Version == "" }) {
		text += fmt.Sprintf("\nNot all of the volume claims record which version of Consul wrote the data. "+
			"Make sure that it is not newer than %s: Consul has no downgrade.", version)
	}
	return text
}

// versionPath returns the path of the attribute that declares the version.
func versionPath(config model) path.Path {
	if config.Version.IsNull() {
		return path.Root("image")
	}
	return path.Root("version")
}

// retainedError says why servers cannot start with the data on retained volumes.
func retainedError(at path.Path, id string, err error) diag.Diagnostic {
	summary := "The volumes hold data of a newer version"
	if jump := (*server.JumpError)(nil); errors.As(err, &jump) {
		summary = "The upgrade skips release lines"
	}
	return attr.Error(at, summary, fmt.Sprintf("Creating %s: %s.", id, err))
}
