package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// scriptTools are what the scripts of servers may use beside the commands that the documentation of image names.
var scriptTools = []string{"cat", "cp", "date", "grep", "ls", "mkdir", "mv", "rm", "sed", "sleep", "sort", "timeout", "touch", "tr"}

// image is an image with some commands: a PATH with these and no others, and the files of a pod.
type image struct {
	t    *testing.T
	root string
	pod  string // its name
}

func newImage(t *testing.T, tools ...string) image {
	t.Helper()
	i := image{t: t, root: t.TempDir(), pod: "consul-server-0"}
	for _, dir := range []string{"bin", "config", "data", "tmp", "gossip"} {
		if err := os.Mkdir(filepath.Join(i.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range tools {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skipf("no %s here", tool)
		}
		if err := os.Symlink(path, filepath.Join(i.root, "bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

// standIn is a command of the image that a shell script stands for.
func (i image) standIn(name, script string) {
	i.t.Helper()
	scripttest.Write(i.t, filepath.Join(i.root, "bin", name), "#!/bin/sh\n"+script)
}

func (i image) write(file, text string) {
	i.t.Helper()
	if err := os.WriteFile(filepath.Join(i.root, file), []byte(text), 0o600); err != nil {
		i.t.Fatal(err)
	}
}

// run runs a script of a server in the image.
func (i image) run(script string, args ...string) (out string, code int) {
	i.t.Helper()
	script = strings.NewReplacer(
		"/tmp/",
		i.root+"/tmp/",
		"/consul/",
		i.root+"/",
		"/dev/termination-log",
		i.root+"/tmp/termination-log",
	).Replace(
		script,
	)
	cmd := exec.CommandContext(i.t.Context(), "/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.Env = []string{"PATH=" + filepath.Join(i.root, "bin"), "POD_IP=10.0.0.1", "POD_NAME=" + i.pod, "ROOT=" + i.root}
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		i.t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

const (
	has10001 = `["10.0.0.1:8300","10.0.0.2:8300"]`
	without  = `["10.0.0.2:8300"]`
)

// The init container names what an image lacks, and does not wait for ever where it cannot ask anybody.
func TestAwaitPeerRemoval_saysWhatTheImageLacks(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		tools       []string
		established bool
		hasData     bool
		args        []string
		want        string // in the output
		code        int
	}{
		"everything, and data": {tools: append([]string{"wget"}, scriptTools...), established: true, hasData: true},
		"no client, and data": {tools: scriptTools, established: true, hasData: true, want: "lacks commands that its scripts need: wget " +
			"or curl."},
		"no client, a disk lost": {
			tools: scriptTools, established: true, want: "neither wget nor curl to ask the other servers", code: 1,
		},
		"TLS without curl": {
			tools: append([]string{"wget"}, scriptTools...), hasData: true, args: []string{"server.dc1.consul", "8501"},
			want: "lacks commands that its scripts need: curl.",
		},
		"no timeout and no sort": {
			tools:   []string{"wget", "cat", "cp", "date", "grep", "ls", "mkdir", "mv", "rm", "sed", "sleep", "touch", "tr"},
			hasData: true, want: "its scripts need: sort, timeout.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newImage(t)
			for _, tool := range tt.tools {
				if path, err := exec.LookPath(tool); err == nil {
					_ = os.Symlink(path, filepath.Join(i.root, "bin", tool))
				} else {
					i.standIn(tool, "exit 1")
				}
			}
			i.standIn("consul", "exit 1")
			if tt.established {
				i.write("config/established", "true")
			}
			if tt.hasData {
				_ = os.Mkdir(filepath.Join(i.root, "data", "raft"), 0o755)
			}
			out, code := i.run(waitScript, append([]string{"consul-server", "ns"}, tt.args...)...)
			if code != tt.code || (tt.want == "" && out != "") || !strings.Contains(out, tt.want) {
				t.Errorf("exit code %d, want %d; output %q, want something about %q", code, tt.code, out, tt.want)
			}
		})
	}
}

// A stopping server leaves whichever client its image has.
func TestLeave_seesThePeersWithWhateverTheImageHas(t *testing.T) {
	t.Parallel()
	const once = `[ -e "$ROOT/left" ] || { : >"$ROOT/asked"; echo '` + has10001 + `'; exit; }; echo '` + without + `'`
	info := strings.NewReplacer(
		has10001,
		"latest_configuration = [{Suffrage:Voter ID:a Address:10.0.0.1:8300}]",
		without,
		"latest_configuration = [{Suffrage:Voter ID:b Address:10.0.0.2:8300}]",
	)
	for name, client := range map[string]func(image){
		"wget":    func(i image) { i.standIn("wget", once) },
		"curl":    func(i image) { i.standIn("curl", once) },
		"neither": func(image) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newImage(t, "cat", "sed", "timeout", "tr")
			i.standIn("sleep", "")
			i.standIn("consul", `case $1 in leave) : >"$ROOT/left" ;; info) `+info.Replace(once)+` ;; esac`)
			client(i)
			victim := exec.CommandContext(t.Context(), "/bin/sleep", "60")
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { _ = victim.Wait(); close(ended) }()
			i.write("tmp/pid", strconv.Itoa(victim.Process.Pid))
			if out, code := i.run(leaveScript, "0"); code != 0 {
				t.Fatalf("exit code %d: %s", code, out)
			}
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Error("the server was not stopped when it was no peer any more")
			}
			if _, err := os.Stat(filepath.Join(i.root, "left")); err != nil {
				t.Error("the server did not leave")
			}
			if _, err := os.Stat(filepath.Join(i.root, "asked")); err != nil {
				t.Error("nobody was asked for the peers")
			}
		})
	}
}

// Servers that stop at the same moment take turns, and the leader is the last, whichever client its image has.
func TestLeave_theLeaderIsTheLast(t *testing.T) {
	t.Parallel()
	const peers = `[ ! -e "$ROOT/left" ] || exit 1; `
	for name, tt := range map[string]struct {
		leader, pod string
		slept       []string // 3 seconds until it is out of the Services, and then until it is its turn
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
			"{Suffrage:Voter ID:c Address:10.0.0.3:8300}]\\n\\tleader_addr = " + tt.leader + ":8300\\n'"
		for client, standIn := range map[string]func(image){
			"wget":    func(i image) { i.standIn("wget", http) },
			"curl":    func(i image) { i.standIn("curl", http) },
			"neither": func(image) {},
		} {
			t.Run(name+", "+client, func(t *testing.T) {
				t.Parallel()
				i := newImage(t, "cat", "sed", "timeout", "tr")
				i.pod = tt.pod
				i.standIn("sleep", `echo "$1" >>"$ROOT/slept"`)
				i.standIn("consul", `case $1 in leave) : >"$ROOT/left" ;; info) `+info+` ;; esac`)
				standIn(i)
				i.write("config/servers", "3")
				i.write("tmp/pid", "")
				if out, code := i.run("kill() { :; }\n"+leaveScript, "0"); code != 0 {
					t.Fatalf("exit code %d: %s", code, out)
				}
				text, err := os.ReadFile(filepath.Join(i.root, "slept"))
				slept := slices.DeleteFunc(strings.Fields(string(text)), func(s string) bool { return s == "0.1" }) // until it has left
				if err != nil || !slices.Equal(slept, tt.slept) {
					t.Errorf("it slept %q, want %q: %v", slept, tt.slept, err)
				}
			})
		}
	}
}

// A server is ready where the leader answers, also with a refusal.
func TestReady_aLeaderThatRefusesHasAnswered(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		tool, script string
		code         int
	}{
		"wget, an answer":         {"wget", "echo '{}'", 0},
		"wget, a refusal":         {"wget", "echo '  HTTP/1.1 403 Forbidden' >&2; exit 1", 0},
		"wget, no leader":         {"wget", "echo '  HTTP/1.1 500 Internal Server Error' >&2; exit 1", 1},
		"curl, a refusal":         {"curl", "echo 'curl: (22) The requested URL returned error: 403' >&2; exit 22", 0},
		"curl, no leader":         {"curl", "echo 'curl: (22) The requested URL returned error: 500' >&2; exit 22", 1},
		"consul, an answer":       {"consul", "exit 0", 0},
		"consul, a refusal":       {"consul", "echo 'Unexpected response code: 403 (Permission denied)' >&2; exit 1", 0},
		"consul, does not listen": {"consul", "echo 'connection refused' >&2; exit 1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newImage(t, "timeout")
			i.standIn(tt.tool, tt.script)
			if out, code := i.run(readyScript); code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, out)
			}
		})
	}
}

// Consul listens on IPv6 in a pod that has only that, and can be stopped from within a process namespace of its own.
func TestStart_flags(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]string{"10.0.0.1": "agent -advertise=x", "fd00::1": "agent -advertise=x -bind=:: -client=::"} {
		i := newImage(t, "rm", "cat", "ls")
		i.standIn("consul", `echo "$*"`)
		out, code := i.run("POD_IP="+ip+"\n"+startScript, "agent", "-advertise=x")
		if code != 0 || strings.TrimSpace(out) != want {
			t.Errorf("%s: exit code %d, started with %q, want %q", ip, code, out, want)
		}
	}
}

func TestStart_stopsInAProcessNamespaceOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		signal string
		code   int
	}{
		"killed by the stop hook":   {"KILL", 137},
		"told to end by Kubernetes": {"TERM", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newImage(t, "rm", "cat", "ls", "sleep")
			i.standIn("consul", `trap 'exit 3' TERM; : >"$ROOT/runs"; while :; do sleep 0.05; done`)
			target := `$(cat /tmp/pid)`
			if tt.signal == "TERM" {
				target = "$shell"
			}
			// Where the shell is the first process $$ is 1.
			script := strings.Replace(startScript, "[ $$ -ne 1 ]", "false", 1)
			out, code := i.run(
				`shell=$$; ( while [ ! -e "$ROOT/runs" ] || [ ! -s /tmp/pid ]; do sleep 0.05; done; kill -`+tt.signal+" "+target+" ) &\n"+script,
				"agent",
			)
			if code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, out)
			}
		})
	}
}

// Before a server counts as started without a vote there has been no leader for two minutes.
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
		"has no answer":               {"", true, "", 1},
		"never had a leader":          {noLeader, false, "", 0},
		"has its vote":                {voter, true, "", 0},
		"has no vote":                 {other, true, "0", 1},
		"no leader for now":           {noLeader, true, "", 1},
		"no leader since two minutes": {noLeader, true, "0", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newImage(t, "cat", "date", "grep", "rm")
			i.standIn("consul", map[bool]string{true: "exit 1", false: "printf '%s\\n' '" + tt.info + "'"}[tt.info == ""])
			if tt.established {
				i.write("config/established", "true")
			}
			if tt.since != "" {
				i.write("tmp/no-leader", tt.since)
			}
			if out, code := i.run(votesScript); code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, out)
			}
		})
	}
}
