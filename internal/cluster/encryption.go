package cluster

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// What is said of the attributes gossip and tls alike, by their names.

// refuseOnDelete refuses to turn encryption on or off where others restart the servers,
// and reports whether it did.
func refuseOnDelete(ctx context.Context, name string, plan model, diags *diag.Diagnostics) bool {
	var update updateModel
	if !plan.Update.IsUnknown() {
		diags.Append(plan.Update.As(ctx, &update, basetypes.ObjectAsOptions{})...)
	}
	if update.Strategy.ValueString() != server.OnDelete {
		return false
	}
	diags.Append(attr.Error(nested(name, "enabled"), "The provider must restart the servers",
		"Encryption is turned on and off in several rolls, each complete before the next: set update.strategy = \"rolling\" for this change."))
	return true
}

// refuseInNewNamespace refuses a Secret in a namespace that the cluster makes.
func refuseInNewNamespace(at path.Path, plan model, secret string, diags *diag.Diagnostics) {
	diags.Append(attr.Error(at, "The Secret cannot exist", fmt.Sprintf(
		"The cluster makes the namespace %s, and needs the Secret %s in it at once. Make the namespace and the Secret elsewhere, or leave the attribute out at first.", plan.Namespace.ValueString(), secret)))
}

func warnNoSecret(at path.Path, plan model, secret string, diags *diag.Diagnostics) {
	diags.AddAttributeWarning(at, "The Secret does not exist yet", fmt.Sprintf(
		"There is no Secret %s/%s. The apply fails, before it touches a server, unless it is made before.", plan.Namespace.ValueString(), secret))
}

// warnNotRead says that a plan could not look at what the user brings.
func warnNotRead(at path.Path, err error, diags *diag.Diagnostics) {
	diags.AddAttributeWarning(at, "The Secret was not looked at", "The apply finds out whether the servers can use it: "+err.Error()+".")
}

// needed is what a client agent must have to go along with the servers.
var needed = map[string]func(cluster string) string{
	"gossip": func(cluster string) string {
		return fmt.Sprintf("The gossip key is in key %q of the Secret %s once the first roll has begun, and the apply goes no further than that roll while an agent lacks it.",
			server.PrimaryKey, server.GossipSecretName(cluster))
	},
	"tls": func(cluster string) string {
		return fmt.Sprintf("What to trust is in key %q of the ConfigMap %s once the first roll has begun.", server.TLSCAKey, server.CAName(cluster))
	},
}

// guides tell how they go along.
var guides = map[string]string{"gossip": "Encrypt the gossip", "tls": "Turn TLS on"}

// warnClientAgents names the agents that a change of the encryption may cut off.
func (r *Resource) warnClientAgents(ctx context.Context, name string, plan model, diags *diag.Diagnostics) {
	c, err := r.clients.Consul(ctx, plan.Namespace.ValueString(), plan.Name.ValueString())
	var others []string
	if err == nil {
		others, err = c.ClientAgents(ctx)
	}
	switch {
	case err != nil:
		diags.AddAttributeWarning(nested(name, "enabled"), "Who would be cut off is not known", "Consul could not be asked: "+err.Error())
	case len(others) > 0:
		diags.AddAttributeWarning(nested(name, "enabled"), "Client agents have to go along", fmt.Sprintf(
			"These agents are no servers of %s, and are cut off by the second roll unless they go along with the servers, as the guide %q says: %s. %s",
			plan.ID.ValueString(), guides[name], strings.Join(others, ", "), needed[name](plan.Name.ValueString())))
	}
}
