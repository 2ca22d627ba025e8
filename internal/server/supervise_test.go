package server

import (
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// supervised is a container of a server that is to run the configuration "one". Its Consul writes its arguments to /runs, and ends on
// TERM with 3.
func supervised(t *testing.T) *scripttest.Container {
	t.Helper()
	c := busybox(t)
	c.Env = append(c.Env, "POD_NAME=consul-server-0")
	c.StandIn("consul", `echo "$*" >>"$ROOT/runs"
trap 'exit 3' TERM
while :; do sleep 0.05; done`)
	c.Write("/consul/config/start.sh", `echo $$ >"$ROOT/tmp/pid"; exec consul "$@"`)
	c.Write("/consul/pod/config-hash", "one")
	for _, hash := range []string{"one", "two"} {
		c.Write("/consul/config/server-"+hash+".json", "{}")
		c.Write("/consul/config/extra-"+hash+".json", "{}")
	}
	return c
}

// once waits in the background until Consul was started so many times, and then runs a command.
const once = `once() { ( while [ "$(cat "$ROOT/runs" 2>/dev/null | wc -l)" -lt "$1" ]; do sleep 0.05; done; sleep 0.3; eval "$2" ) & }
`

// A server restarts in its pod when the pod asks for that, with the configuration that the pod names then.
func TestSupervise_restartsOnRequest(t *testing.T) {
	t.Parallel()
	c := supervised(t)
	out, code := c.Run(once+`
once 1 'printf two >/consul/pod/config-hash; printf process-2 >/consul/pod/restart'
once 2 'kill -TERM $(cat /tmp/pid)'
`+superviseScript, "agent", "-advertise=x")
	runs := strings.Split(strings.TrimSpace(strings.ReplaceAll(c.Read("/runs"), c.Path(""), "")), "\n")
	want := func(restart, hash string) string {
		return "agent -advertise=x " + restart + "-config-file=/consul/config/server-" + hash + ".json -config-file=/consul/config/consul-server-0.json " +
			"-config-file=/tmp/token.json -config-file=/consul/config/extra-" + hash + ".json"
	}
	if code != 3 || len(runs) != 2 || runs[0] != want("", "one") || runs[1] != want("-node-meta="+MetaRestart+":process-2 ", "two") {
		t.Errorf("exit code %d: %s; Consul was started with\n%s", code, out, strings.Join(runs, "\n"))
	}
}

// Every other end of Consul ends the container, and so does the signal of Kubernetes.
func TestSupervise_endsWithConsul(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do   string
		code int
	}{
		"killed by the stop hook":            {"kill -KILL $(cat /tmp/pid)", 137},
		"told to end by Kubernetes":          {"kill -TERM $shell", 3},
		"replaced by one with another image": {"printf image-2 >/consul/pod/restart; sleep 1.5; kill -KILL $(cat /tmp/pid)", 137},
		"asked for what is not there yet": {
			"printf three >/consul/pod/config-hash; printf process-2 >/consul/pod/restart; sleep 1.5; kill -KILL $(cat /tmp/pid)", 137,
		},
		"a request that it was started with":  {"sleep 1.5; kill -KILL $(cat /tmp/pid)", 137},
		"a request that was taken back again": {"rm -f /consul/pod/restart; sleep 1.5; kill -KILL $(cat /tmp/pid)", 137},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := supervised(t)
			c.Write("/consul/pod/restart", "process-1")
			out, code := c.Run("shell=$$\n"+once+"once 1 '"+tt.do+"'\n"+superviseScript, "agent")
			if runs := strings.Count(c.Read("/runs"), "\n"); code != tt.code || runs != 1 {
				t.Errorf("exit code %d, want %d, after %d starts: %s", code, tt.code, runs, out)
			}
		})
	}
}

// A container that is told to end while it waits for its configuration ends.
func TestSupervise_endsWithoutItsConfiguration(t *testing.T) {
	t.Parallel()
	c := supervised(t)
	c.Write("/consul/pod/config-hash", "three")
	out, code := c.Run("shell=$$\n(sleep 0.5; kill -TERM $shell) &\n"+superviseScript, "agent")
	if code != 143 || c.Has("/runs") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// A start waits for its configuration, which reaches the pod with delay.
func TestSupervise_waitsForItsConfiguration(t *testing.T) {
	t.Parallel()
	c := supervised(t)
	c.Write("/consul/pod/config-hash", "three")
	out, code := c.Run(once+`
(sleep 0.5; for f in server extra; do echo "{}" >/consul/config/$f-three.json; done) &
once 1 'kill -KILL $(cat /tmp/pid)'
`+superviseScript, "agent")
	if code != 137 || !strings.Contains(c.Read("/runs"), "server-three.json") || !strings.Contains(out, "Waiting for the configuration three.") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
