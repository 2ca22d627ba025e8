package cluster_test

import (
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// A stranger that joins is counted, a refused one is not, and neither stays.
func TestStrangerScript(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		keyring bool
		takenIn string // the keys of agents that are accepted
		want    string
	}{
		"without a key":      {takenIn: "", want: "1"},
		"without, refused":   {takenIn: "keys", want: "0"},
		"with the keys":      {keyring: true, takenIn: "keys", want: "1"},
		"with keys, refused": {keyring: true, takenIn: "others", want: "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := scripttest.Busybox(t, "/tmp", "/consul/gossip")
			c.Env = []string{"POD_IP=10.0.0.1", "TAKEN_IN=" + tt.takenIn}
			c.Write("/consul/gossip/keyring", "keys")
			c.StandIn("sleep", "sleep 0.3")
			c.StandIn("kill", `[ "$1" = -INT ] && kill -TERM "$2"`) // a shell in the background ignores INT, unlike Consul
			c.StandIn("consul", `echo "$*" >"$ROOT/call"
[ "$(cat "$ROOT/tmp/stranger/serf/local.keyring" 2>/dev/null)" != "$TAKEN_IN" ] || echo "agent: Join cluster completed. Synced with 1"
while [ -e "$ROOT/bin" ]; do sleep 0.05; done`)
			args := []string{"10.0.0.3"}
			if tt.keyring {
				args = append(args, c.Path("/consul/gossip/keyring"))
			}
			out, code := c.Run(strangerScript, args...)
			if code != 0 || !strings.HasPrefix(out, tt.want+"\n") {
				t.Errorf("exit code %d: %s", code, out)
			}
			if call := c.Read("/call"); !strings.Contains(call, "-bind=10.0.0.1 ") || !strings.Contains(call, "-retry-join=10.0.0.3:8301 ") {
				t.Errorf("consul was called with %s", call)
			}
			if c.Has("/tmp/stranger") {
				t.Error("its data still exists")
			}
		})
	}
}
