package server

import (
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// busybox returns the container of server 0 with the address 10.0.0.1, whose image has busybox, and with it wget.
func busybox(t *testing.T) *scripttest.Container {
	t.Helper()
	return serverContainer(scripttest.Busybox(t, serverFolders()...))
}

// image returns the container of such a server whose image has the given commands, and no others.
func image(t *testing.T, commands ...string) *scripttest.Container {
	t.Helper()
	return serverContainer(scripttest.Bare(t, commands, serverFolders()...))
}

func serverFolders() []string {
	return []string{"/consul/config", "/consul/data", "/consul/gossip", "/consul/tls", "/consul/pod", "/tmp"}
}

func serverContainer(c *scripttest.Container) *scripttest.Container {
	c.Env = []string{"POD_IP=10.0.0.1", "POD_NAME=consul-server-0"}
	return c
}

// A server is ready if the leader answers, even with a refusal.
func TestReady_aLeaderThatRefusesHasAnswered(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		tool, script string
		code         int
	}{
		"wget, an answer":         {"wget", "echo '{}'", 0},
		"wget, a refusal":         {"wget", "echo '  HTTP/1.1 403 Forbidden' >&2; exit 1", 0},
		"wget, no leader":         {"wget", "echo '  HTTP/1.1 500 Internal Server Error' >&2; exit 1", 1},
		"curl, an answer":         {"curl", "echo '{}'", 0},
		"curl, a refusal":         {"curl", "echo 'curl: (22) The requested URL returned error: 403' >&2; exit 22", 0},
		"curl, no leader":         {"curl", "echo 'curl: (22) The requested URL returned error: 500' >&2; exit 22", 1},
		"consul, an answer":       {"consul", "exit 0", 0},
		"consul, a refusal":       {"consul", "echo 'Unexpected response code: 403 (Permission denied)' >&2; exit 1", 0},
		"consul, does not listen": {"consul", "echo 'connection refused' >&2; exit 1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			if tt.tool != "wget" {
				c = image(t, "timeout")
			}
			c.StandIn(tt.tool, tt.script)
			if out, code := c.Run(readyScript); code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, out)
			}
		})
	}
}

// A server counts as started without a vote only after two minutes without a leader.
func TestVotes_waitsForALeader(t *testing.T) {
	t.Parallel()
	const voter, other, noLeader = "leader_addr = 10.0.0.2:8300\nlatest_configuration = [{Suffrage:Voter ID:a Address:10.0.0.1:8300}]",
		"leader_addr = 10.0.0.2:8300\nlatest_configuration = [{Suffrage:Nonvoter ID:a Address:10.0.0.1:8300}]", "leader_addr = \nlatest_configuration = []"
	for name, tt := range map[string]struct {
		info        string
		established bool
		since       string
		code        int
	}{
		"has no answer":             {"", true, "", 1},
		"never had a leader":        {noLeader, false, "", 0},
		"has its vote":              {voter, true, "", 0},
		"has no vote":               {other, true, "0", 1},
		"no leader for now":         {noLeader, true, "", 1},
		"no leader for two minutes": {noLeader, true, "0", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			c.StandIn("consul", map[bool]string{true: "exit 1", false: "printf '%s\\n' '" + tt.info + "'"}[tt.info == ""])
			if tt.established {
				c.Write("/consul/config/established", "true")
			}
			if tt.since != "" {
				c.Write("/tmp/no-leader", tt.since)
			}
			if out, code := c.Run(votesScript); code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, out)
			}
		})
	}
}
