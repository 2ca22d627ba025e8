package server

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

const (
	has10001 = `["10.0.0.1:8300","10.0.0.2:8300"]`
	without  = `["10.0.0.2:8300"]`
)

// A server that stops leaves the cluster unless fewer peers than a quorum of the declared servers would be left. Then
// it stays a peer, and ends without leaving.
func TestLeave_staysAPeerIfItsQuorumWouldBeLost(t *testing.T) {
	t.Parallel()
	alive := "consul-server-0  10.0.0.1:8301  alive  server\n"
	tests := map[string]struct {
		declared string
		peers    string
		members  string
		adopting bool
		leaves   bool
	}{
		"one of three":             {"3", `["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`, alive, false, true},
		"one of two that are left": {"3", `["10.0.0.1:8300","10.0.0.2:8300"]`, alive, false, false},
		"one of three while another leaves": {
			"3",
			`["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`,
			alive + "consul-server-2  10.0.0.3:8301  leaving  server\n",
			false,
			false,
		},
		"one of three while another has left": {
			"3",
			`["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`,
			alive + "consul-server-2  10.0.0.3:8301  left  server\n",
			false,
			false,
		},
		"a former self has left": {
			"3",
			`["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`,
			alive + "consul-server-0  10.0.0.9:8301  left  server\n",
			false,
			true,
		},
		"one of five": {
			"5",
			`["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300","10.0.0.4:8300","10.0.0.5:8300"]`,
			alive,
			false,
			true,
		},
		"one of three that are left of five": {"5", `["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`, alive, false, false},
		"one of two, and one is declared":    {"1", `["10.0.0.1:8300","10.0.0.2:8300"]`, alive, false, true},
		"one of two, and no number is known": {"", `["10.0.0.1:8300","10.0.0.2:8300"]`, alive, false, true},
		"no longer a peer":                   {"3", `["10.0.0.2:8300","10.0.0.3:8300"]`, alive, false, true},
		"before the first leader":            {"3", `[]`, alive, false, true},
		"while servers are adopted":          {"3", `["10.0.0.1:8300","10.0.0.2:8300"]`, alive, true, true},
		"IPv6, one of three":                 {"3", `["[fd00::1]:8300","[fd00::2]:8300","[fd00::3]:8300"]`, alive, false, true},
		"IPv6, one of two that are left":     {"3", `["[fd00::1]:8300","[fd00::2]:8300"]`, alive, false, false},
		"IPv6, while another leaves": {
			"3",
			`["[fd00::1]:8300","[fd00::2]:8300","[fd00::3]:8300"]`,
			"a  [fd00::3]:8301  leaving  server\n",
			false,
			false,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			if strings.Contains(tt.peers, "fd00") {
				c.Env = append(c.Env, "POD_IP=fd00::1")
			}
			if tt.declared != "" {
				c.Write("/consul/config/servers", tt.declared)
			}
			if tt.adopting {
				c.Write("/consul/config/former-servers", "old-0")
			}
			c.Write("/tmp/pid", "12345")
			c.Write("/peers", tt.peers)
			c.Write("/members", "Node  Address  Status  Type\n"+tt.members)
			c.StandIn("wget", `case $4 in */peers) cat "$ROOT/peers" ;; */leader) echo '"10.0.0.2:8300"' ;; esac`)
			c.StandIn("sleep", "")
			c.StandIn("kill", `echo "kill $1" >>"$ROOT/did"`)
			// The server is no longer a peer once it has left.
			c.StandIn("consul", `case $1 in leave) echo leave >>"$ROOT/did"; echo '[]' >"$ROOT/peers" ;; members) cat "$ROOT/members" ;; esac`)
			if out, code := c.Run(leaveScript, "0"); code != 0 {
				t.Fatalf("exit code %d: %s", code, out)
			}
			did := c.Read("/did")
			if isPeer := strings.Contains(tt.peers, "10.0.0.1:") || strings.Contains(tt.peers, "[fd00::1]:"); isPeer {
				did = killed(t, c)
			}
			if leaves := strings.Contains(did, "leave"); leaves != tt.leaves {
				t.Errorf("it did %q, and leaves is %t", did, tt.leaves)
			}
			if stays := strings.Contains(did, "kill -INT"); stays == tt.leaves {
				t.Errorf("it did %q", did)
			}
		})
	}
}

// killed waits until the stop hook has killed the server, which it does in the background, and returns what it did.
func killed(t *testing.T, c *scripttest.Container) (did string) {
	t.Helper()
	c.Run(`n=0; until grep -q kill "$ROOT/did" || [ $n -ge 600 ]; do n=$((n + 1)); /bin/sleep 0.05; done`)
	if did = c.Read("/did"); !strings.Contains(did, "kill") {
		t.Errorf("it was not killed: it did %q", did)
	}
	return did
}

// A server whose container is replaced by one with another image does not leave, and does not wait: the provider has taken it out of the
// Service. In every other case, a server that stops leaves.
func TestLeave_staysAPeerWhenItsImageChanges(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		asked, started string
		before         time.Duration
		leaves         bool
	}{
		"another image":                        {"image-2.x", "", time.Second, false},
		"another image, after an earlier":      {"image-2.x", "image-1.x", time.Second, false},
		"another image, after a restart":       {"image-2.x", "process-1", time.Second, false},
		"a drain":                              {"", "", time.Second, true},
		"a drain after a restart":              {"process-1", "process-1", time.Second, true},
		"a drain after another image":          {"image-2.x", "image-2.x", time.Second, true},
		"a drain before the server is back":    {"process-2", "process-1", time.Second, true},
		"a drain after a request without more": {"image-2.x", "image-1.x", time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			c.Write("/consul/pod/restart", tt.asked)
			at := time.Now().Add(-tt.before)
			if err := os.Chtimes(c.Path("/consul/pod/restart"), at, at); err != nil {
				t.Fatal(err)
			}
			c.Write("/tmp/restart", tt.started+"\n")
			c.Write("/tmp/pid", "12345")
			c.Write("/consul/config/servers", "3")
			c.Write("/peers", `["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`)
			c.StandIn("wget", `case $4 in */peers) cat "$ROOT/peers" ;; */leader) echo '"10.0.0.2:8300"' ;; esac`)
			c.StandIn("sleep", "")
			c.StandIn("kill", `echo "kill $1" >>"$ROOT/did"`)
			c.StandIn("consul", `case $1 in leave) echo leave >>"$ROOT/did"; echo '[]' >"$ROOT/peers" ;; esac`)
			out, code := c.Run(leaveScript, "0")
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, out)
			}
			if did := killed(t, c); strings.Contains(did, "leave") != tt.leaves {
				t.Errorf("it did %q, want leave: %t", did, tt.leaves)
			}
		})
	}
}

// A stopping server leaves with any client that its image has.
func TestLeave_readsThePeersWithAnyClient(t *testing.T) {
	t.Parallel()
	const once = `[ -e "$ROOT/left" ] || { : >"$ROOT/asked"; echo '` + has10001 + `'; exit; }; echo '` + without + `'`
	info := strings.NewReplacer(
		has10001,
		"latest_configuration = [{Suffrage:Voter ID:a Address:10.0.0.1:8300}]",
		without,
		"latest_configuration = [{Suffrage:Voter ID:b Address:10.0.0.2:8300}]",
	)
	for client, c := range clients(t, once) {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			c.StandIn("sleep", "")
			c.StandIn("consul", `case $1 in leave) : >"$ROOT/left" ;; info) `+info.Replace(once)+` ;; esac`)
			victim := exec.CommandContext(t.Context(), "/bin/sleep", "60")
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { _ = victim.Wait(); close(ended) }()
			c.Write("/tmp/pid", strconv.Itoa(victim.Process.Pid))
			if out, code := c.Run(leaveScript, "0"); code != 0 {
				t.Fatalf("exit code %d: %s", code, out)
			}
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Error("the server was not stopped when it was no longer a peer")
			}
			if !c.Has("/left") {
				t.Error("the server did not leave")
			}
			if !c.Has("/asked") {
				t.Error("no server was asked for the peers")
			}
		})
	}
}

// clients returns the containers of servers by the client that their images have: a stand-in for wget of busybox, one
// for curl, or only Consul.
func clients(t *testing.T, standIn string) map[string]*scripttest.Container {
	t.Helper()
	all := map[string]*scripttest.Container{"wget": busybox(t)}
	for _, client := range []string{"curl", "consul"} {
		all[client] = image(t, "cat", "sed", "timeout", "tr")
	}
	for _, client := range []string{"wget", "curl"} {
		all[client].StandIn(client, standIn)
	}
	return all
}

// Servers that stop at the same time take turns, and the leader is the last, whichever client its image has.
func TestLeave_theLeaderIsTheLast(t *testing.T) {
	t.Parallel()
	const peers = `[ ! -e "$ROOT/left" ] || exit 1; `
	for name, tt := range map[string]struct {
		leader, pod string
		slept       []string // 3 seconds until the Services no longer route to it, and then until its turn
	}{
		"the leader":         {"10.0.0.1", "consul-server-2", []string{"3", "3"}},
		"the highest":        {"10.0.0.2", "consul-server-2", []string{"3"}},
		"the next":           {"10.0.0.2", "consul-server-1", []string{"3", "1"}},
		"the lowest":         {"10.0.0.2", "consul-server-0", []string{"3", "2"}},
		"no leader is known": {"", "consul-server-0", []string{"3", "2"}},
	} {
		http := `case "$*" in */leader) echo '"` + tt.leader + `:8300"' ;; *) ` + peers + `echo '["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]' ;; esac`
		info := peers + "printf '\\tlatest_configuration = [{Suffrage:Voter ID:a Address:10.0.0.1:8300} {Suffrage:Voter ID:b " +
			"Address:10.0.0.2:8300} " +
			"{Suffrage:Voter ID:c Address:10.0.0.3:8300}]\n\\tleader_addr = " + tt.leader + ":8300\\n'"
		for client, c := range clients(t, http) {
			t.Run(name+", "+client, func(t *testing.T) {
				t.Parallel()
				c.Env = append(c.Env, "POD_NAME="+tt.pod)
				c.StandIn("sleep", `echo "$1" >>"$ROOT/slept"`)
				c.StandIn("consul", `case $1 in leave) : >"$ROOT/left" ;; info) `+info+` ;; esac`)
				c.Write("/consul/config/servers", "3")
				c.Write("/tmp/pid", "")
				if out, code := c.Run("kill() { :; }\n"+leaveScript, "0"); code != 0 {
					t.Fatalf("exit code %d: %s", code, out)
				}
				slept := slices.DeleteFunc(strings.Fields(c.Read("/slept")), func(s string) bool { return s == "0.1" }) // until it has left
				if !slices.Equal(slept, tt.slept) {
					t.Errorf("it slept %q, want %q", slept, tt.slept)
				}
			})
		}
	}
}

// A leaving server serves as long as nodes may still send requests to it, unless it was removed from the Raft peers
// before: then it soon knows no leader.
func TestLeave_isShorterForAServerThatIsNotAPeer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ peers, sleeps string }{
		"a peer":             {`echo '["10.0.0.1:8300","10.0.0.9:8300"]'; [ -e "$0.asked" ] && exit 1; : >"$0.asked"`, "3"},
		"removed before":     {`echo '["10.0.0.9:8300","10.0.0.10:8300"]'`, "1"},
		"it does not answer": {"exit 1", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			agent := exec.CommandContext(t.Context(), "/bin/sleep", "60")
			if err := agent.Start(); err != nil {
				t.Fatal(err)
			}
			c.Write("/tmp/pid", strconv.Itoa(agent.Process.Pid))
			c.StandIn("wget", tt.peers)
			c.StandIn("consul", "exit 0")
			c.StandIn("sleep", `echo "$1" >>"$ROOT/sleeps"`)
			if out, code := c.Run(leaveScript, "5"); code != 0 {
				t.Errorf("exit code %d: %s", code, out)
			}
			if got := strings.Join(strings.Fields(c.Read("/sleeps")), " "); got != tt.sleeps {
				t.Errorf("it sleeps %s, want %s", got, tt.sleeps)
			}
			if err := agent.Process.Signal(syscall.Signal(0)); err != nil { // the leader may have added it as a peer again
				t.Errorf("the agent was killed before it had left: %v", err)
			}
			_ = agent.Process.Kill()
			_ = agent.Wait()
		})
	}
}
