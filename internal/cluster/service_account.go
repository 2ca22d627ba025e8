package cluster

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
)

type serviceAccountModel struct {
	Annotations types.Map `tfsdk:"annotations"`
}

var serviceAccountTypes = attributeTypes(serviceAccountAttribute())

func serviceAccountAttribute() schema.Attribute {
	return schema.SingleNestedAttribute{
		Optional:            true,
		MarkdownDescription: "ServiceAccount `<name>-server`, which the servers and Jobs of the cluster run as. Its token is not mounted.",
		Attributes: map[string]schema.Attribute{
			"annotations": schema.MapAttribute{
				Optional: true, ElementType: types.StringType, Validators: []validator.Map{attr.Annotations()},
				MarkdownDescription: "Annotations of the ServiceAccount, in addition to `annotations`, such as the cloud identity of the pods. A " +
					"change restarts nothing: pods use the new annotations when they start.",
			},
		},
	}
}

func (m model) toServiceAccount(ctx context.Context, diags *diag.Diagnostics) map[string]string {
	var a serviceAccountModel
	if m.ServiceAccount.IsNull() || m.ServiceAccount.IsUnknown() {
		return nil
	}
	diags.Append(m.ServiceAccount.As(ctx, &a, basetypes.ObjectAsOptions{})...)
	return attr.ToStrings(a.Annotations)
}

func (m *model) fromServiceAccount(ctx context.Context, annotations map[string]string, diags *diag.Diagnostics) {
	var a serviceAccountModel
	switch {
	case !m.ServiceAccount.IsNull() && !m.ServiceAccount.IsUnknown():
		diags.Append(m.ServiceAccount.As(ctx, &a, basetypes.ObjectAsOptions{})...)
	case len(annotations) == 0:
		m.ServiceAccount = types.ObjectNull(serviceAccountTypes)
		return
	}
	a.Annotations = attr.FromStrings(a.Annotations, annotations)
	m.ServiceAccount = attr.Object(ctx, serviceAccountTypes, a, diags)
}
