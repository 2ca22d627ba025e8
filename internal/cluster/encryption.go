package cluster

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// This file has what the attributes gossip and tls have in common. name is the name of the attribute.

// refuseOnDelete refuses to turn encryption on or off if the provider does not restart
// the servers, and reports whether it did.
func refuseOnDelete(ctx context.Context, name string, plan model, diags *diag.Diagnostics) bool {
	var update updateModel
	if !plan.Update.IsUnknown() {
		diags.Append(plan.Update.As(ctx, &update, basetypes.ObjectAsOptions{})...)
	}
	if update.Strategy.ValueString() != server.OnDelete {
		return false
	}
	diags.Append(attr.Error(
		nested(name, "enabled"),
		"The provider must restart the servers",
		"Turning encryption on or off takes several rollouts, and each must be complete before the next one starts. Set update.strategy = "+
			"\"rolling\" for this change.",
	))
	return true
}

// refuseInNewNamespace refuses a Secret in a namespace that the cluster creates.
func refuseInNewNamespace(at path.Path, plan model, secret string, diags *diag.Diagnostics) {
	diags.Append(attr.Error(at, "The Secret cannot exist", fmt.Sprintf(
		"The cluster creates the namespace %s, and needs the Secret %s in it immediately. Create the namespace and the Secret outside of the "+
			"cluster resource, or leave the attribute out at first.",
		plan.Namespace.ValueString(),
		secret,
	)))
}

func warnNoSecret(at path.Path, plan model, secret string, diags *diag.Diagnostics) {
	diags.AddAttributeWarning(at, "The Secret does not exist yet", fmt.Sprintf(
		"There is no Secret %s/%s. If it is not created first, the apply fails before it touches a server.",
		plan.Namespace.ValueString(),
		secret,
	))
}

// warnNotRead says that a plan could not look at a Secret that the user provides.
func warnNotRead(at path.Path, err error, diags *diag.Diagnostics) {
	diags.AddAttributeWarning(
		at,
		"The Secret was not checked",
		"The apply checks whether the servers can use the Secret. The plan could not: "+err.Error()+".",
	)
}

// needed says what a client agent must have to follow the servers.
var needed = map[string]func(cluster string) string{
	"gossip": func(cluster string) string {
		return fmt.Sprintf(
			"When the first rollout has started, the gossip key is in key %q of the Secret %s. The apply does not continue after that rollout "+
				"until every agent has the key.",
			server.PrimaryKey,
			server.GossipSecretName(cluster),
		)
	},
	"tls": func(cluster string) string {
		return fmt.Sprintf(
			"When the first rollout has started, the certificate authority to trust is in key %q of the ConfigMap %s.",
			server.TLSCAKey,
			server.CAName(cluster),
		)
	},
}

// guides are the guides that say how client agents follow the servers.
var guides = map[string]string{"gossip": "Encrypt the gossip", "tls": "Turn TLS on"}

// warnClientAgents names the agents that a change of encryption may cut off.
func (r *Resource) warnClientAgents(ctx context.Context, name string, plan model, diags *diag.Diagnostics) {
	c, err := r.clients.Consul(ctx, plan.Namespace.ValueString(), plan.Name.ValueString())
	var others []string
	if err == nil {
		others, err = encryption.ClientAgents(ctx, c)
	}
	switch {
	case err != nil:
		diags.AddAttributeWarning(
			nested(name, "enabled"),
			"Could not check which clients would be cut off",
			"The provider could not query Consul: "+err.Error(),
		)
	case len(others) > 0:
		diags.AddAttributeWarning(nested(name, "enabled"), "Client agents must follow", fmt.Sprintf(
			"These agents are not servers of %s. The second rollout cuts them off unless they follow the servers as the guide %q says: %s. %s",
			plan.ID.ValueString(), guides[name], strings.Join(others, ", "), needed[name](plan.Name.ValueString())))
	}
}
