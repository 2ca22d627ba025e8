package cluster

import (
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

func autopilotAttribute() schema.Attribute {
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "[Autopilot](https://developer.hashicorp.com/consul/docs/manage/scale/autopilot) settings: which servers vote, " +
			"and which dead servers are removed. They are stored in Consul and set through its API. " +
			"A change that another tool or person makes appears in `drift` and is reverted. The number of voters that must stay (`min_quorum`) " +
			"follows from `replicas`. A change restarts nothing.",
		Attributes: map[string]schema.Attribute{
			"cleanup_dead_servers": boolAttribute(
				"autopilot.cleanup_dead_servers",
				"Whether a failed server is removed from the Raft peers. Defaults to {default}. A server that lost its volume "+
					"comes back only after its former peer is removed.",
			),
			"last_contact_threshold": durationAttribute(
				"autopilot.last_contact_threshold", time.Millisecond, time.Minute,
				"How long a healthy server may have been without contact from the leader. Defaults to {default}.",
			),
			"max_trailing_logs": numberAttribute(
				"autopilot.max_trailing_logs",
				"Number of Raft log entries that a healthy server may be behind the leader. Defaults to {default}.",
				int64validator.AtLeast(1),
			),
			"server_stabilization_time": durationAttribute(
				"autopilot.server_stabilization_time", 0, 10*time.Minute,
				"How long a server that joins must be healthy before it gets a vote. Defaults to {default}, while Consul itself "+
					"defaults to `10s`. Autopilot checks only every ten seconds anyway, "+
					"and a longer time makes each restart with a new pod that much longer.",
			),
		},
	})
}
