package cluster

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lifecycle"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// configError quotes why Consul refuses extra_config, the only part of the configuration that the schema does not check.
func configError(spec server.Spec, err *lifecycle.ConfigError) diag.Diagnostic {
	return attr.Error(path.Root("extra_config"), "Consul refuses the configuration", fmt.Sprintf(
		"Consul %s refuses the declared configuration of %s, and nothing was changed:\n\n%s\n\nCorrect extra_config and apply again.",
		spec.Version,
		spec.ID(),
		err.Words,
	))
}

// uncheckedWarning warns that Consul could not check a configuration before the servers get it.
func uncheckedWarning(diags *diag.Diagnostics) func(error) {
	return func(why error) {
		diags.AddAttributeWarning(path.Root("extra_config"), "The configuration was not checked", fmt.Sprintf(
			"Consul checks extra_config in a Job before any server gets it, but the check was not possible: %s. A mistake shows only when the "+
				"first server gets the configuration, and the rollout stops there.",
			why,
		))
	}
}
