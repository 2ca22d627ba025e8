package cluster

import (
	"time"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

func telemetryAttribute() schema.Attribute {
	return withDefaults(schema.SingleNestedAttribute{
		MarkdownDescription: "Metrics of the servers.",
		Attributes: map[string]schema.Attribute{
			"prometheus_retention_time": durationAttribute(
				"telemetry.prometheus_retention_time", 0, 7*24*time.Hour,
				"How long `/v1/agent/metrics?format=prometheus` keeps metrics. Defaults to {default}. Set at least twice the "+
					"scrape interval. `0s` disables Prometheus metrics. A change restarts the servers in place.",
			),
		},
	})
}
