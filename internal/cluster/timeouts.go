package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

// Default timeouts. A create or an update that times out loses nothing: the next
// apply resumes it.
const (
	defaultCreateTimeout = 15 * time.Minute
	defaultUpdateTimeout = 60 * time.Minute
	defaultDeleteTimeout = 15 * time.Minute
)

func timeoutsAttribute(ctx context.Context) schema.Attribute {
	return timeouts.Attributes(ctx, timeouts.Opts{
		Create: true, Update: true, Delete: true,
		CreateDescription: "How long to wait until every server is a voter and `restore_from` is restored. Defaults to " +
			minutes(defaultCreateTimeout) + ", or to " + minutes(defaultUpdateTimeout) + " with `restore_from`.",
		UpdateDescription: "How long all restarts and resizes together may take. Defaults to " + minutes(defaultUpdateTimeout) + ".",
		DeleteDescription: "How long to wait until pods and volumes are gone. Defaults to " + minutes(defaultDeleteTimeout) + ".",
	})
}

// minutes formats a timeout for a description.
func minutes(d time.Duration) string { return fmt.Sprintf("`%dm`", d/time.Minute) }
