package cluster

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

type securityContextModel struct {
	RunAsUser  types.Int64 `tfsdk:"run_as_user"`
	RunAsGroup types.Int64 `tfsdk:"run_as_group"`
	FSGroup    types.Int64 `tfsdk:"fs_group"`
}

type serviceAccountModel struct {
	Annotations types.Map `tfsdk:"annotations"`
}

var (
	securityContextTypes = map[string]tfattr.Type{
		"run_as_user":  types.Int64Type,
		"run_as_group": types.Int64Type,
		"fs_group":     types.Int64Type,
	}
	serviceAccountTypes    = map[string]tfattr.Type{"annotations": types.MapType{ElemType: types.StringType}}
	defaultSecurityContext = securityContextObject(server.DefaultRunAs())
)

func securityContextObject(r server.RunAs) types.Object {
	return types.ObjectValueMust(securityContextTypes, map[string]tfattr.Value{
		"run_as_user":  types.Int64PointerValue(r.User),
		"run_as_group": types.Int64PointerValue(r.Group), "fs_group": types.Int64PointerValue(r.FSGroup),
	})
}

// maxID is the largest user or group ID that Kubernetes accepts.
const maxID = 1<<31 - 1

// podAttributes returns the attributes of server pods and of Job pods, in addition to placement and resources.
func podAttributes() map[string]schema.Attribute {
	id := func(smallest int64, description string) schema.Attribute {
		return schema.Int64Attribute{
			Optional:            true,
			Validators:          []validator.Int64{int64validator.Between(smallest, maxID)},
			MarkdownDescription: description,
		}
	}
	return map[string]schema.Attribute{
		"security_context": schema.SingleNestedAttribute{
			Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultSecurityContext),
			MarkdownDescription: "User and groups of the server pods and of all Jobs of the cluster. Defaults to user 100, group 1000, and " +
				"volumes of group 1000, as in the official image. " +
				"If you leave an attribute out of the object, the platform sets it. Use `security_context = {}` on platforms that assign IDs to " +
				"each namespace, such as OpenShift. " +
				"On other platforms, an image that runs as root needs `run_as_user`. A change restarts the servers.",
			Attributes: map[string]schema.Attribute{
				"run_as_user":  id(1, "User ID of the containers. Must not be root."),
				"run_as_group": id(0, "Group ID of the containers."),
				"fs_group":     id(0, "Group ID that owns the volumes. If the group cannot write the existing data, the servers do not start."),
			},
		},
		"share_process_namespace": schema.BoolAttribute{
			Optional: true, Computed: true, Default: booldefault.StaticBool(true),
			MarkdownDescription: "Whether the containers of a server pod share a process namespace. Defaults to `true`. Set it to `false` if a " +
				"policy refuses a shared process namespace. A shell is then the parent process of Consul, " +
				"and containers of `extra_pod` and debug containers cannot see the processes of Consul. A change restarts the servers.",
		},
		"image_pull_secrets": schema.ListAttribute{
			Optional: true, ElementType: types.StringType,
			Validators: []validator.List{listvalidator.ValueStringsAre(attr.SecretName()), listvalidator.UniqueValues()},
			MarkdownDescription: "Names of Secrets in the cluster's namespace with the credentials for private registries, for the servers and " +
				"for all Jobs of the cluster. A change restarts the servers.",
		},
		"service_account": schema.SingleNestedAttribute{
			Optional:            true,
			MarkdownDescription: "ServiceAccount `<name>-server`, which the servers and Jobs of the cluster run as. Its token is not mounted.",
			Attributes: map[string]schema.Attribute{
				"annotations": schema.MapAttribute{
					Optional: true, ElementType: types.StringType, Validators: []validator.Map{attr.Annotations()},
					MarkdownDescription: "Annotations of the ServiceAccount, in addition to `annotations`, such as the cloud identity of the pods. A " +
						"change restarts nothing: pods use the new annotations when they start.",
				},
			},
		},
		"extra_pod": schema.StringAttribute{
			Optional: true, Validators: []validator.String{attr.Check("a valid addition to the server pods", server.CheckExtraPod)},
			PlanModifiers: []planmodifier.String{attr.KeepSameJSON()},
			MarkdownDescription: "JSON object of the [Kubernetes " +
				"API](https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/) that is added to the server pods, but not " +
				"to Jobs: " +
				"`volumes`, `initContainers` (they run before those of the provider, in this order; with `restartPolicy = \"Always\"` they are " +
				"native sidecars), `containers`, and, for the container in which Consul runs, `env`, `envFrom`, and `volumeMounts`. " +
				"The plan refuses unknown fields and names that the provider uses. Containers run under `security_context`. In a namespace with the " +
				"Pod Security standard `restricted`, they also need a `securityContext` of their own. " +
				"The object is stored in the state and in an annotation, so do not put secrets in it. Refer to secrets with `valueFrom`. A change " +
				"restarts the servers.",
		},
	}
}

func (m model) toPod(ctx context.Context, diags *diag.Diagnostics) (p server.Pod) {
	var s securityContextModel
	diags.Append(m.SecurityContext.As(ctx, &s, basetypes.ObjectAsOptions{})...)
	p.RunAs = server.NewRunAs(
		server.RunAs{User: s.RunAsUser.ValueInt64Pointer(), Group: s.RunAsGroup.ValueInt64Pointer(), FSGroup: s.FSGroup.ValueInt64Pointer()},
	)
	p.Separate = !m.ShareProcessNamespace.ValueBool()
	p.PullSecrets = attr.Texts(m.ImagePullSecrets)
	p.Extra = m.ExtraPod.ValueString()
	return p
}

func (m model) toServiceAccount(ctx context.Context, diags *diag.Diagnostics) map[string]string {
	var a serviceAccountModel
	if m.ServiceAccount.IsNull() || m.ServiceAccount.IsUnknown() {
		return nil
	}
	diags.Append(m.ServiceAccount.As(ctx, &a, basetypes.ObjectAsOptions{})...)
	return attr.ToStrings(a.Annotations)
}

func (m *model) fromPod(ctx context.Context, s server.Spec, diags *diag.Diagnostics) {
	m.SecurityContext = securityContextObject(s.Pod.Effective())
	m.ShareProcessNamespace = types.BoolValue(!s.Pod.Separate)
	m.ImagePullSecrets = attr.FromTexts(m.ImagePullSecrets, s.Pod.PullSecrets)
	m.ExtraPod = attr.OptionalString(s.Pod.Extra)
	var a serviceAccountModel
	switch {
	case !m.ServiceAccount.IsNull() && !m.ServiceAccount.IsUnknown():
		diags.Append(m.ServiceAccount.As(ctx, &a, basetypes.ObjectAsOptions{})...)
	case len(s.ServiceAccountAnnotations) == 0:
		m.ServiceAccount = types.ObjectNull(serviceAccountTypes)
		return
	}
	a.Annotations = attr.FromStrings(a.Annotations, s.ServiceAccountAnnotations)
	m.ServiceAccount = attr.Object(ctx, serviceAccountTypes, a, diags)
}
