package cluster

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

var _ function.Function = &UpgradePathFunction{}

// UpgradePathFunction is the function upgrade_path.
type UpgradePathFunction struct{}

// NewUpgradePathFunction returns the function upgrade_path.
func NewUpgradePathFunction() function.Function { return &UpgradePathFunction{} }

// Metadata implements function.Function.
func (*UpgradePathFunction) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "upgrade_path"
}

// Definition implements function.Function.
func (*UpgradePathFunction) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "Versions of Consul to upgrade by",
		MarkdownDescription: "Returns the Consul versions to apply one after the other, in the fewest steps, to get from one version to " +
			"another. " +
			"One upgrade can advance at most two release lines, and 2.0 follows 1.22. An intermediate step is a release line, such as " +
			"`\"1.20.x\"`: for `x`, use the latest release of that line. " +
			"The last step is the target version. If one upgrade is enough, there is one step. If both versions are the same release, there are " +
			"no steps. A downgrade is an error, because Consul has no downgrade. " +
			"The function does not contact Consul or Kubernetes. Provider functions require Terraform 1.8 or later, or OpenTofu 1.7 or later.",
		Parameters: []function.Parameter{
			function.StringParameter{Name: "from", MarkdownDescription: "Version to start from, such as `\"1.18.2\"`. Must be 1.10 or later."},
			function.StringParameter{Name: "to", MarkdownDescription: "Version to upgrade to, such as `\"1.22.7\"`."},
		},
		Return: function.ListReturn{ElementType: types.StringType},
	}
}

// Run implements function.Function.
func (*UpgradePathFunction) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var from, to string
	if resp.Error = req.Arguments.Get(ctx, &from, &to); resp.Error != nil {
		return
	}
	for i, text := range []string{from, to} {
		if _, err := server.ParseVersion(text); err != nil {
			resp.Error = function.ConcatFuncErrors(resp.Error, function.NewArgumentFuncError(int64(i), err.Error()))
		}
	}
	if resp.Error != nil {
		return
	}
	path, err := server.UpgradePath(from, to)
	if err != nil {
		resp.Error = function.NewFuncError(err.Error())
		return
	}
	resp.Error = resp.Result.Set(ctx, append([]string{}, path...))
}
