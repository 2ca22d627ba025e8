package cluster

import (
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
)

func imagePullSecretsAttribute() schema.Attribute {
	return schema.ListAttribute{
		Optional: true, ElementType: types.StringType,
		Validators: []validator.List{listvalidator.ValueStringsAre(attr.SecretName()), listvalidator.UniqueValues()},
		MarkdownDescription: "Names of Secrets in the cluster's namespace with the credentials for private registries, for the servers and " +
			"for all Jobs of the cluster. A change gives each server a new pod.",
	}
}
