package localcluster

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestParseStat_namesWithParenthesesAndBlanks(t *testing.T) {
	state, start, err := parseStat([]byte("42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1000 1 18446744073709551615\n"))
	if err != nil || state != "S" || start != 98765 {
		t.Errorf("got %q, %d, %v; want S, 98765", state, start, err)
	}
	for _, broken := range []string{"", "42 (a", "42 (a) S 1"} {
		if _, _, err := parseStat([]byte(broken)); err == nil {
			t.Errorf("%q gives no error", broken)
		}
	}
}

// startSleep starts a process that runs until the test ends.
func startSleep(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func TestProcess_killSparesARecycledID(t *testing.T) {
	cmd := startSleep(t)
	ours, err := identify("sleep", cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for name, recorded := range map[string]process{
		"another start time": {PID: ours.PID, Start: ours.Start - 1, Boot: ours.Boot},
		"another boot":       {PID: ours.PID, Start: ours.Start, Boot: "another"},
	} {
		if recorded.alive() {
			t.Errorf("%s: taken for the recorded process", name)
		}
		if err := recorded.kill(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !ours.alive() {
		t.Fatal("the wrong process was killed")
	}
	if err := ours.kill(); err != nil {
		t.Fatal(err)
	}
	// It remains a zombie until something waits for it, which does not count as alive.
	if err := waitFor(t.Context(), "the end of the process", 10*time.Second, func(context.Context) error {
		if ours.alive() {
			return io.ErrNoProgress
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := ours.kill(); err != nil {
		t.Errorf("killing a dead process: %v", err)
	}
}

func TestStartProcess_isFoundWithoutItsRecord(t *testing.T) {
	t.Setenv(dirVariable, t.TempDir())
	c, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.path("logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	ended, err := c.startProcess(spec{name: "sleeper", argv: []string{"sleep", "600"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.readProcess("sleeper")
	if err != nil || !p.alive() {
		t.Fatalf("recorded %+v, %v", p, err)
	}
	// As if the starter died before it could write the record.
	if err := os.RemoveAll(filepath.Dir(c.recordPath("sleeper"))); err != nil {
		t.Fatal(err)
	}
	bystander, err := identify("bystander", startSleep(t).Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// Not killAll: the pods of a running cluster must not be killed.
	if err := killUntilGone(t.Context(), "the sleeper", c.ownProcesses); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the process still runs")
	}
	if !bystander.alive() {
		t.Error("a process of somebody else was killed")
	}
}

func TestParseMounts_unescapesNames(t *testing.T) {
	got := parseMounts("tmpfs /a\\040b tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n")
	if len(got) != 2 || got[0].point != "/a b" || got[1].kind != "cgroup" || got[1].options[1] != "cpuset" {
		t.Errorf("got %+v", got)
	}
}
