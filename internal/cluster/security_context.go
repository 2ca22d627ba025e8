package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

type securityContextModel struct {
	RunAsUser  types.Int64 `tfsdk:"run_as_user"`
	RunAsGroup types.Int64 `tfsdk:"run_as_group"`
	FSGroup    types.Int64 `tfsdk:"fs_group"`
}

var securityContextTypes = map[string]tfattr.Type{
	"run_as_user":  types.Int64Type,
	"run_as_group": types.Int64Type,
	"fs_group":     types.Int64Type,
}

func securityContextObject(r server.RunAs) types.Object {
	return types.ObjectValueMust(securityContextTypes, map[string]tfattr.Value{
		"run_as_user":  types.Int64PointerValue(r.User),
		"run_as_group": types.Int64PointerValue(r.Group), "fs_group": types.Int64PointerValue(r.FSGroup),
	})
}

// maxID is the largest user or group ID that Kubernetes accepts.
const maxID = 1<<31 - 1

func securityContextAttribute() schema.Attribute {
	def := server.DefaultRunAs()
	id := func(smallest int64, description string) schema.Attribute {
		return schema.Int64Attribute{
			Optional:            true,
			Validators:          []validator.Int64{int64validator.Between(smallest, maxID)},
			MarkdownDescription: description,
		}
	}
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true, Default: objectdefault.StaticValue(securityContextObject(def)),
		MarkdownDescription: fmt.Sprintf(
			"User and groups of the server pods and of all Jobs of the cluster. Defaults to user %d, group %d, and "+
				"volumes of group %d, as in the official image. "+
				"If you leave an attribute out of the object, the platform sets it. Use `security_context = {}` on platforms that assign IDs to "+
				"each namespace, such as OpenShift. "+
				"On other platforms, an image that runs as root needs `run_as_user`. A change gives each server a new pod.",
			*def.User, *def.Group, *def.FSGroup,
		),
		Attributes: map[string]schema.Attribute{
			"run_as_user":  id(1, "User ID of the containers. Must not be root."),
			"run_as_group": id(0, "Group ID of the containers."),
			"fs_group":     id(0, "Group ID that owns the volumes. If the group cannot write the existing data, the servers do not start."),
		},
	}
}

func (m model) toSecurityContext(ctx context.Context, diags *diag.Diagnostics) *server.RunAs {
	var s securityContextModel
	diags.Append(m.SecurityContext.As(ctx, &s, basetypes.ObjectAsOptions{})...)
	return server.NewRunAs(
		server.RunAs{User: s.RunAsUser.ValueInt64Pointer(), Group: s.RunAsGroup.ValueInt64Pointer(), FSGroup: s.FSGroup.ValueInt64Pointer()},
	)
}
