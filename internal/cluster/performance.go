package cluster

import (
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

func performanceAttribute() schema.Attribute {
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "[Performance](https://developer.hashicorp.com/consul/docs/reference/agent/configuration-file/general#performance) settings of Consul. A change restarts the servers in place.",
		Attributes: map[string]schema.Attribute{
			"raft_multiplier": numberAttribute(
				"performance.raft_multiplier",
				"Multiplier of the Raft timeouts, 1 to 10. Defaults to {default}, as Consul recommends for production: a lost leader "+
					"is replaced within a few seconds.",
				int64validator.Between(1, 10),
			),
			"leave_drain_time": durationAttribute(
				"performance.leave_drain_time", 0, 10*time.Second,
				"How long a server continues to run after it has left, `0s` to `10s`. Defaults to {default}. "+
					"During this time, the server has no vote and soon no leader, so it refuses requests on connections that clients keep open. A "+
					"longer time is rarely better. A change gives each server a new pod.",
			),
			"rpc_hold_timeout": durationAttribute(
				"performance.rpc_hold_timeout", 0, 10*time.Minute,
				"How long a request is held while there is no leader, instead of failing. Defaults to {default}.",
			),
		},
	})
}
