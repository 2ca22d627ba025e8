package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func replicasAttribute() schema.Attribute {
	return numberAttribute(
		"replicas",
		"Number of servers: 1, 3, 5, or 7. Defaults to {default}. Three servers survive the loss of one, five survive the "+
			"loss of two. "+
			"Servers are added or removed one at a time, without restarting the others.",
		replicasValidator{},
	)
}

type replicasValidator struct{}

func (replicasValidator) Description(context.Context) string               { return "1, 3, 5, or 7" }
func (v replicasValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (replicasValidator) ValidateInt64(_ context.Context, req validator.Int64Request, resp *validator.Int64Response) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	n := req.ConfigValue.ValueInt64()
	switch {
	case n < 1 || n > server.MaxReplicas:
		resp.Diagnostics.Append(
			attr.Error(req.Path, "Invalid number of servers", fmt.Sprintf("%d servers are not possible: use 1, 3, 5, or 7.", n)),
		)
	case n%2 == 0:
		resp.Diagnostics.Append(attr.Error(req.Path, "Even number of servers",
			fmt.Sprintf("%d servers survive the loss of no more servers than %d do, and need one more for a quorum: use 1, 3, 5, or 7.", n, n-1)))
	}
}
