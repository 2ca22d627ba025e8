package localcluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ownerVariable marks every process that the cluster starts with the directory of the cluster. So a process is found
// even if its starter died before it could record it, and so are the shims that containerd starts.
const ownerVariable = "LOCALCLUSTER_OWNER"

// killLimit bounds the wait for the end of killed processes.
const killLimit = 30 * time.Second

// process identifies one process: another process may get the same process ID later, but not with the same start time
// within a boot.
type process struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// Start is in clock ticks since boot.
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

// identify returns the identity of a process that exists now.
func identify(name string, pid int) (process, error) {
	_, start, err := readStat(pid)
	if err != nil {
		return process{}, err
	}
	boot, err := bootID()
	if err != nil {
		return process{}, err
	}
	return process{Name: name, PID: pid, Start: start, Boot: boot}, nil
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

// readStat returns the state letter and the start time of a process.
func readStat(pid int) (state string, start uint64, err error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", 0, err
	}
	return parseStat(data)
}

// parseStat reads fields 3 and 22 of proc(5). The second field is the program's name in parentheses, and may contain spaces and
// parentheses.
func parseStat(data []byte) (state string, start uint64, err error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return "", 0, fmt.Errorf("no program name in %q", data)
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 {
		return "", 0, fmt.Errorf("too few fields in %q", data)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0], start, err
}

// alive reports whether this process still runs. A zombie does not.
func (p process) alive() bool {
	state, start, err := readStat(p.PID)
	if err != nil || start != p.Start || state == "Z" || state == "X" {
		return false
	}
	boot, err := bootID()
	return err == nil && boot == p.Boot
}

// kill sends SIGKILL to this process. The descriptor, which is opened first, keeps the identity check valid until the
// signal is sent.
func (p process) kill() error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening process %d (%s): %w", p.PID, p.Name, err)
	}
	defer unix.Close(fd)
	if !p.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing process %d (%s): %w", p.PID, p.Name, err)
	}
	return nil
}

// spec defines a long-lived process.
type spec struct {
	name string
	argv []string
	// node, if set, is the node in whose network namespace the process runs.
	node *node
}

// startProcess starts a long-lived process and records it. The process is detached (setsid), so that it survives the
// end of this program and of its terminal, and it writes to a log file. The returned channel is closed if the process
// ends while this program runs.
func (c *Cluster) startProcess(s spec) (ended <-chan struct{}, err error) {
	argv := s.argv
	if s.node != nil {
		// Not `ip netns exec`: that mounts another /sys, in which the kubelet does not find the cgroups. nsenter
		// becomes the program, so the ID stays the same.
		argv = append([]string{"nsenter", "--net=" + s.node.netnsPath(), "--"}, argv...)
	}
	log, err := os.OpenFile(c.logPath(s.name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.name, err)
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // the daemon outlives the command that starts it
	cmd.Dir = c.dir
	// Fewer garbage collections use more memory and less CPU time, which is scarcer.
	cmd.Env = append(daemonEnvironment(os.Environ()), ownerVariable+"="+c.dir, "GOGC="+cmp.Or(os.Getenv("GOGC"), "400"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.name, err)
	}
	done := make(chan struct{})
	p, err := identify(s.name, cmd.Process.Pid)
	go func() {
		// Without the wait, a process that ends early would remain a zombie of this program.
		_ = cmd.Wait()
		close(done)
	}()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w%s", s.name, err, c.logTail(s.name))
	}
	data, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return done, writeFile(c.recordPath(s.name), data, 0o644)
}

// daemonEnvironment is the environment of the caller without what would misconfigure the programs of the cluster:
// proxies, and settings of other clusters.
func daemonEnvironment(environ []string) []string {
	var kept []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		switch strings.ToUpper(name) {
		case "PATH", "LANG", "TZ", "TMPDIR":
			kept = append(kept, e)
		}
	}
	return kept
}

func (c *Cluster) recordPath(name string) string { return c.path("run", name+".json") }

// readProcess returns the recorded process with a name.
func (c *Cluster) readProcess(name string) (process, error) {
	data, err := os.ReadFile(c.recordPath(name))
	if err != nil {
		return process{}, err
	}
	var p process
	if err := json.Unmarshal(data, &p); err != nil {
		return process{}, fmt.Errorf("reading %s: %w", c.recordPath(name), err)
	}
	return p, nil
}

// logTail returns the end of the log of a process, for an error.
func (c *Cluster) logTail(name string) string {
	data, err := os.ReadFile(c.logPath(name))
	if err != nil || len(data) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return fmt.Sprintf("\nthe end of %s:\n%s", c.logPath(name), strings.Join(lines[max(0, len(lines)-8):], "\n"))
}

// startAndWait starts a process and waits until ready returns nil. It fails at once if the process ends.
func (c *Cluster) startAndWait(ctx context.Context, s spec, limit time.Duration, ready func(context.Context) error) error {
	return c.progress.step(ctx, "start "+s.name, func(ctx context.Context) error {
		ended, err := c.startProcess(s)
		if err != nil {
			return err
		}
		return waitFor(ctx, s.name, limit, func(ctx context.Context) error {
			select {
			case <-ended:
				return giveUp(fmt.Errorf("it ended%s", c.logTail(s.name)))
			default:
			}
			if err := ready(ctx); err != nil {
				return fmt.Errorf("%w%s", err, c.logTail(s.name))
			}
			return nil
		})
	})
}

// processesMarked returns all processes with the mark of this cluster in their environment for which keep returns
// true.
func (c *Cluster) processesMarked(keep func(environ []byte) bool) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	mark := []byte(ownerVariable + "=" + c.dir + "\x00")
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// Processes start and end meanwhile, so one that cannot be read is not an error.
		environ, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil || !bytes.Contains(append([]byte{0}, environ...), append([]byte{0}, mark...)) || !keep(environ) {
			continue
		}
		if p, err := identify(commandName(pid), pid); err == nil && p.alive() {
			found = append(found, p)
		}
	}
	return found, nil
}

func commandName(pid int) string {
	data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	return strings.TrimSpace(string(data))
}

// killUntilGone kills what list returns until it returns nothing. One pass is not enough: a process may start another
// one before it is killed.
func killUntilGone(ctx context.Context, what string, list func() ([]process, error)) error {
	return waitFor(ctx, "the end of "+what, killLimit, func(context.Context) error {
		found, err := list()
		if err != nil || len(found) == 0 {
			return err
		}
		var names []string
		for _, p := range found {
			if err := p.kill(); err != nil {
				return giveUp(err)
			}
			names = append(names, fmt.Sprintf("%s (%d)", p.Name, p.PID))
		}
		return fmt.Errorf("still there: %s", strings.Join(names, ", "))
	})
}
