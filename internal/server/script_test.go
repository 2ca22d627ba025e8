package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// runScript runs a script of a pod in a directory that stands for its file system, with programs that stand for those of
// the image, and returns its output and its exit code.
func runScript(t *testing.T, root, script string, programs map[string]string, args ...string) (string, int) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no shell")
	}
	bin := filepath.Join(root, "bin")
	for _, dir := range []string{"bin", "tmp", "dev", "consul/config"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range programs {
		scripttest.Write(t, filepath.Join(bin, name), "#!/bin/sh\n"+text+"\n")
	}
	script = strings.NewReplacer(
		"/consul/",
		root+"/consul/",
		"/tmp/",
		root+"/tmp/",
		"/dev/termination-log",
		root+"/dev/termination-log",
	).Replace(
		script,
	)
	c := exec.CommandContext(t.Context(), "sh", append([]string{"-c", script, "sh"}, args...)...)
	c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "POD_NAME=c-server-0", "POD_IP=10.0.0.9")
	out, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// A peers.json makes a server the only voter during a recovery, and never afterwards: one that a failed recovery left behind
// is set aside.
func TestStart_takesPeersOnlyDuringARecovery(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
	for name, tt := range map[string]struct {
		marker string
		taken  bool
	}{
		"a recovery is in progress": {in(time.Minute), true},
		"it ended long ago":         {in(-time.Minute), false},
		"there was none":            {"", false},
		"the marker is damaged":     {"x", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			raft := filepath.Join(root, "consul/data/raft")
			if err := os.MkdirAll(raft, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(root, "tmp"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(raft, "peers.json"), []byte("[]"), 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.marker != "" {
				if err := os.WriteFile(filepath.Join(root, RecoveryFile), []byte(tt.marker+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			consul := map[string]string{"consul": "[ -e " + raft + "/peers.json ] && echo alone || echo with the others"}
			out, code := runScript(t, root, startScript, consul, "agent")
			if alone := strings.Contains(out, "alone"); alone != tt.taken || code != 0 {
				t.Errorf("exit code %d: %s", code, out)
			}
			if _, err := os.Stat(filepath.Join(root, RecoveryFile)); err == nil {
				t.Error("the marker is left")
			}
			// A later start finds no marker.
			if err := os.WriteFile(filepath.Join(raft, "peers.json"), []byte("[]"), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, code := runScript(t, root, startScript, consul, "agent"); strings.Contains(out, "alone") || code != 0 {
				t.Errorf("the next start: exit code %d: %s", code, out)
			}
		})
	}
}

// A server without data that has to wait for others says once, in its termination message, that it has none.
func TestAwaitPeerRemoval_reportsThatThereIsNoData(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		data, established, lonely bool
		code                      int
		report                    string
	}{
		"it has data":                    {data: true, established: true, lonely: true},
		"the cluster was never elected":  {lonely: true},
		"others answer, and know it not": {established: true},
		"it waits for others":            {established: true, lonely: true, code: 1, report: NoDataReport},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for _, dir := range []string{"tmp", "consul/config"} {
				if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if tt.data {
				if err := os.MkdirAll(filepath.Join(root, RaftDir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if tt.established {
				if err := os.WriteFile(filepath.Join(root, configDir, establishedKey), []byte("true"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			answer := `echo '["10.0.0.1:8300"]'`
			if tt.lonely {
				answer = "exit 1"
			}
			out, code := runScript(
				t,
				root,
				waitScript,
				map[string]string{"wget": answer, "curl": answer, "consul": answer, "sleep": "exit 0"},
				"c-server",
				"ns",
			)
			report, _ := os.ReadFile(filepath.Join(root, "dev/termination-log"))
			if code != tt.code || string(report) != tt.report {
				t.Errorf("exit code %d, %q: %s", code, report, out)
			}
		})
	}
}

// A server that leaves serves for as long as nodes may still send requests to it, unless it was removed from the Raft peers
// before: then it soon knows no leader.
func TestLeave_isShorterForAServerThatIsNoPeer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ peers, sleeps string }{
		"a peer":             {`echo '["10.0.0.1:8300","10.0.0.9:8300"]'; [ -e "$0.asked" ] && exit 1; touch "$0.asked"`, "3"},
		"removed before":     {`echo '["10.0.0.1:8300","10.0.0.10:8300"]'`, "1"},
		"it does not answer": {"exit 1", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "tmp"), 0o700); err != nil {
				t.Fatal(err)
			}
			agent := exec.CommandContext(t.Context(), "sleep", "60")
			if err := agent.Start(); err != nil {
				t.Skip(err)
			}
			if err := os.WriteFile(filepath.Join(root, "tmp/pid"), []byte(fmt.Sprint(agent.Process.Pid)), 0o600); err != nil {
				t.Fatal(err)
			}
			programs := map[string]string{"wget": tt.peers, "consul": "exit 0", "sleep": `echo "$1" >>` + root + "/sleeps"}
			if out, code := runScript(t, root, leaveScript, programs, "5"); code != 0 {
				t.Errorf("exit code %d: %s", code, out)
			}
			sleeps, _ := os.ReadFile(filepath.Join(root, "sleeps"))
			if got := strings.Join(strings.Fields(string(sleeps)), " "); got != tt.sleeps {
				t.Errorf("it sleeps %s, want %s", got, tt.sleeps)
			}
			if err := agent.Process.Signal(syscall.Signal(0)); err != nil { // the leader may have taken it back as a peer
				t.Errorf("the agent was killed before it had left: %v", err)
			}
			_ = agent.Process.Kill()
			_ = agent.Wait()
		})
	}
}
