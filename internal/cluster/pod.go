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
	securityContextTypes   = map[string]tfattr.Type{"run_as_user": types.Int64Type, "run_as_group": types.Int64Type, "fs_group": types.Int64Type}
	serviceAccountTypes    = map[string]tfattr.Type{"annotations": types.MapType{ElemType: types.StringType}}
	defaultSecurityContext = securityContextObject(server.DefaultRunAs())
)

func securityContextObject(r server.RunAs) types.Object {
	return types.ObjectValueMust(securityContextTypes, map[string]tfattr.Value{
		"run_as_user": types.Int64PointerValue(r.User), "run_as_group": types.Int64PointerValue(r.Group), "fs_group": types.Int64PointerValue(r.FSGroup),
	})
}

// maxID is the largest user or group ID that Kubernetes accepts.
const maxID = 1<<31 - 1

// podAttributes are those of the pods of servers and of Jobs, beside placement and resources.
func podAttributes() map[string]schema.Attribute {
	id := func(smallest int64, description string) schema.Attribute {
		return schema.Int64Attribute{Optional: true, Validators: []validator.Int64{int64validator.Between(smallest, maxID)}, MarkdownDescription: description}
	}
	return map[string]schema.Attribute{
		"security_context": schema.SingleNestedAttribute{
			Optional: true, Computed: true, Default: objectdefault.StaticValue(defaultSecurityContext),
			MarkdownDescription: "User and groups of the server pods and of every Job of the cluster. Default: user 100, group 1000, volumes of group 1000, as in the official image. " +
				"An attribute that is left out of the object is left to the platform, so `security_context = {}` suits platforms that assign IDs to each namespace, such as OpenShift. " +
				"Elsewhere, an image that runs as root needs `run_as_user`. A change restarts the servers.",
			Attributes: map[string]schema.Attribute{
				"run_as_user":  id(1, "User ID of the containers; not root."),
				"run_as_group": id(0, "Group ID of the containers."),
				"fs_group":     id(0, "Group ID that owns the volumes. A group that cannot write the existing data stops the servers from starting."),
			},
		},
		"share_process_namespace": schema.BoolAttribute{
			Optional: true, Computed: true, Default: booldefault.StaticBool(true),
			MarkdownDescription: "Whether the containers of a server pod share a process namespace. Default `true`. `false` suits policies that refuse it: a shell is then the parent process of Consul, " +
				"and containers of `extra_pod` and debug containers cannot see its processes. A change restarts the servers.",
		},
		"image_pull_secrets": schema.ListAttribute{
			Optional: true, ElementType: types.StringType, Validators: []validator.List{listvalidator.ValueStringsAre(attr.SecretName()), listvalidator.UniqueValues()},
			MarkdownDescription: "Names of Secrets in the cluster's namespace with the credentials for private registries, for the servers and for every Job of the cluster. A change restarts the servers.",
		},
		"service_account": schema.SingleNestedAttribute{
			Optional:            true,
			MarkdownDescription: "The service account `<name>-server`, which the servers and Jobs of the cluster run as. Its token is not mounted.",
			Attributes: map[string]schema.Attribute{
				"annotations": schema.MapAttribute{
					Optional: true, ElementType: types.StringType, Validators: []validator.Map{attr.Annotations()},
					MarkdownDescription: "Annotations of the service account, in addition to `annotations`, such as the cloud identity of the pods. A change restarts nothing: pods take it over when they start.",
				},
			},
		},
		"extra_pod": schema.StringAttribute{
			Optional: true, Validators: []validator.String{attr.Check("an addition to the pods of servers", server.CheckExtraPod)},
			PlanModifiers: []planmodifier.String{attr.KeepSameJSON()},
			MarkdownDescription: "A JSON object of the [Kubernetes API](https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/), added to the server pods, but not to Jobs: " +
				"`volumes`, `initContainers` (they run before the provider's own, in this order; with `restartPolicy = \"Always\"` they are native sidecars), `containers`, and for the container in which Consul runs `env`, `envFrom` and `volumeMounts`. " +
				"Unknown fields, and names that the provider uses, are refused at plan. Containers run under `security_context`; a namespace with the Pod Security standard `restricted` also requires their own `securityContext`. " +
				"It is stored in the state and in an annotation: no secrets, refer to them with `valueFrom`. A change restarts the servers.",
		},
	}
}

func (m model) toPod(ctx context.Context, diags *diag.Diagnostics) (p server.Pod) {
	var s securityContextModel
	diags.Append(m.SecurityContext.As(ctx, &s, basetypes.ObjectAsOptions{})...)
	p.RunAs = server.NewRunAs(server.RunAs{User: s.RunAsUser.ValueInt64Pointer(), Group: s.RunAsGroup.ValueInt64Pointer(), FSGroup: s.FSGroup.ValueInt64Pointer()})
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
