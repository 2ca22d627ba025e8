package lifecycle

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The script writes peers.json and the deadline of the recovery before it kills the agent. If the file cannot be
// written, nothing is left behind, and the agent keeps running.
func TestAloneScript(t *testing.T) {
	t.Parallel()
	const peers, kill = `[{"id":"a b","address":"10.0.0.1:8300"}]`, `[ ! -e "$ROOT` + server.RaftDir + `/peers.json" ] || echo "$*" >>"$ROOT/kills"`
	for name, tt := range map[string]struct {
		standIns map[string]string
		code     int
		kills    string // the arguments of kill while peers.json exists
	}{
		"the agent is killed":             {map[string]string{"kill": kill + `; [ "$1" != -0 ]`}, 0, "-KILL 123,-0 123"},
		"the first process survives KILL": {map[string]string{"kill": kill}, 0, "-KILL 123,-0 123,-QUIT 123"},
		"the disk is full":                {map[string]string{"kill": kill, "printf": "exit 1"}, 1, ""},
		"the agent may not be killed":     {map[string]string{"kill": kill + "; exit 1"}, 1, "-KILL 123"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := scripttest.Busybox(t, server.RaftDir, "/tmp")
			c.Write("/tmp/pid", "123\n")
			c.StandIn("sleep", "")
			c.StandIn("date", "echo 1000")
			for program, text := range tt.standIns {
				c.StandIn(program, text)
			}
			out, code := c.Run(aloneScript, peers, "360", c.Path(server.RaftDir), c.Path(server.RecoveryFile))
			if got := strings.Join(strings.Split(strings.TrimSpace(c.Read("/kills")), "\n"), ","); code != tt.code || got != tt.kills {
				t.Errorf("exit code %d, kills %q: %s", code, got, out)
			}
			written, marker := peers, "1360\n"
			if tt.kills == "" {
				written, marker = "", ""
			}
			if got, until := c.Read(server.RaftDir+"/peers.json"), c.Read(server.RecoveryFile); got != written || until != marker {
				t.Errorf("peers.json is %q until %q", got, until)
			}
			if c.Has(server.RaftDir + "/peers.new") {
				t.Error("peers.new is left behind")
			}
		})
	}
}

// The agent gets no chance to leave.
func TestAloneScript_killsTheAgent(t *testing.T) {
	t.Parallel()
	c := scripttest.Busybox(t, server.RaftDir, "/tmp")
	agent := exec.CommandContext(t.Context(), "sleep", "60")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	c.Write("/tmp/pid", strconv.Itoa(agent.Process.Pid))
	c.StandIn("sleep", "")
	if out, code := c.Run(aloneScript, "[]", "360", c.Path(server.RaftDir), c.Path(server.RecoveryFile)); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	select {
	case err := <-ended:
		if err == nil || err.Error() != "signal: killed" {
			t.Errorf("the agent ended with: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the agent was not killed")
	}
}
