package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
)

// A plan recommends only a recovery that the apply accepts, and otherwise says what to do instead.
func TestLostText(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		remains     rollout.Remains
		title       string
		says, never string
	}{
		"a leader":       {rollout.Remains{Leader: true, Data: []string{"s-0"}}, "", "", ""},
		"an election":    {rollout.Remains{Data: []string{"s-0", "s-1", "s-2"}}, "", "", ""},
		"they may start": {rollout.Remains{Data: []string{"s-0"}, Unknown: []string{"s-1", "s-2"}}, "", "", ""},
		"a survivor": {rollout.Remains{
			Data: []string{"s-0"}, Empty: []string{"s-1", "s-2"},
		}, "The quorum is lost", `recovery = { from = "survivor"`, "nothing"},
		"nothing left": {rollout.Remains{
			Empty: []string{"s-0", "s-1", "s-2"},
		}, "The quorum is lost", `recovery = { from = "nothing"`, "survivor"},
		"the only copy": {
			rollout.Remains{Empty: []string{"s-0", "s-1"}, Unknown: []string{"s-2"}}, "The quorum is lost", "s-2 may have the only copy",
			"recovery = {",
		},
		"peers whose volumes were kept": {
			rollout.Remains{Data: []string{"s-0", "s-1"}, Unknown: []string{"s-2", "s-3", "s-4"}, Kept: []string{"s-2", "s-3", "s-4"}},
			"Servers without a pod are Raft peers", "the next apply starts these servers again", "recovery = {",
		},
		"in an adoption": {
			rollout.Remains{Adopting: true, Data: []string{"s-0"}, Empty: []string{"s-1", "s-2"}}, "The quorum is lost",
			"an adoption is in progress", "recovery = {",
		},
	} {
		title, detail := lostText("ns/c", tt.remains, time.Unix(0, 0))
		if title != tt.title || !strings.Contains(detail, tt.says) || (tt.never != "" && strings.Contains(detail, tt.never)) {
			t.Errorf("%s: %s: %s", name, title, detail)
		}
	}
}
