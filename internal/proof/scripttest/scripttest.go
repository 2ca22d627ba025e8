// Package scripttest runs shell scripts as a container does, with stand-ins for the programs that they call.
package scripttest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Container stands for a container: a file system, and the programs of an image.
type Container struct {
	// Env is the environment of scripts, without PATH.
	Env []string

	t       testing.TB
	root    string
	mounts  *regexp.Regexp
	shell   []string
	applets []string // commands that the shell runs without looking for them on the PATH
	path    []string
}

// Busybox returns a container of a small image, such as Consul's public one: its shell and all its commands are those of
// busybox. Each of the absolute paths becomes an empty folder of the container.
func Busybox(t testing.TB, folders ...string) *Container {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("scripts are tested under busybox, which is not installed: apt-get install busybox-static")
	}
	c := newContainer(t, folders, busybox, "sh")
	list, err := exec.CommandContext(t.Context(), busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	c.applets = strings.Fields(string(list))
	if _, code := c.Run("command -v cat"); code == 0 { // this shell runs all commands itself, as on Debian
		return c
	}
	links := filepath.Join(c.root, "busybox")
	c.mkdir(links)
	for _, applet := range c.applets {
		c.link(busybox, filepath.Join(links, applet))
	}
	c.path = append(c.path, links)
	return c
}

// Bare returns a container of an image that has only a POSIX shell and the given commands, which are those of this
// machine.
func Bare(t testing.TB, commands []string, folders ...string) *Container {
	t.Helper()
	c := newContainer(t, folders, "/bin/sh")
	for _, command := range commands {
		path, err := exec.LookPath(command)
		if err != nil {
			t.Fatalf("the test needs the command %s: %v", command, err)
		}
		c.link(path, filepath.Join(c.path[0], command))
	}
	return c
}

func newContainer(t testing.TB, folders []string, shell ...string) *Container {
	t.Helper()
	c := &Container{t: t, root: t.TempDir(), shell: shell}
	c.path = []string{filepath.Join(c.root, "bin")}
	c.mkdir(c.path[0])
	var mounts []string
	for _, folder := range folders {
		c.mkdir(c.Path(folder))
		mounts = append(mounts, regexp.QuoteMeta(folder))
	}
	c.mounts = regexp.MustCompile(`(^|[^\w/.}])(` + strings.Join(append(mounts, "/dev/termination-log"), "|") + `)\b`)
	c.mkdir(c.Path("/dev"))
	return c
}

func (c *Container) mkdir(path string) {
	c.t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		c.t.Fatal(err)
	}
}

func (c *Container) link(to, path string) {
	c.t.Helper()
	if err := os.Symlink(to, path); err != nil {
		c.t.Fatal(err)
	}
}

// StandIn adds a program that a script runs instead of the real one. It also replaces a command of busybox, unless
// the script runs that by exec.
func (c *Container) StandIn(name, script string) {
	c.t.Helper()
	Write(c.t, filepath.Join(c.path[0], name), "#!"+strings.Join(c.shell, " ")+"\n"+script+"\n")
}

// Path returns the path on this machine of a path of the container.
func (c *Container) Path(path string) string { return filepath.Join(c.root, path) }

// Write writes a file of the container.
func (c *Container) Write(path, text string) {
	c.t.Helper()
	c.mkdir(filepath.Dir(c.Path(path)))
	if err := os.WriteFile(c.Path(path), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// Read returns the text of a file of the container, "" if the file does not exist.
func (c *Container) Read(path string) string {
	c.t.Helper()
	text, err := os.ReadFile(c.Path(path))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return string(text)
}

// Has reports whether the container has a file or a folder.
func (c *Container) Has(path string) bool {
	_, err := os.Lstat(c.Path(path))
	return err == nil
}

// Run runs a script, and returns what it prints and its exit code. In the script, but not in its arguments, the folders of
// the container and /dev/termination-log mean those of the container. Stand-ins find its root in ROOT.
func (c *Container) Run(script string, args ...string) (out string, code int) {
	c.t.Helper()
	script = c.functions() + c.mounts.ReplaceAllString(script, "${1}"+c.root+"${2}")
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.shell[0], slices.Concat(c.shell[1:], []string{"-c", script, "sh"}, args)...)
	cmd.Env = slices.Concat(c.Env, []string{"PATH=" + strings.Join(c.path, ":"), "ROOT=" + c.root})
	output, err := os.Create(filepath.Join(c.root, "output")) // a pipe would end with the last process that the script leaves behind
	if err != nil {
		c.t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	defer c.endWith(cmd)()
	if err := cmd.Run(); cmd.ProcessState == nil || ctx.Err() != nil {
		c.t.Fatalf("the script does not end: %v: %s", err, c.Read("/output"))
	}
	return c.Read("/output"), cmd.ProcessState.ExitCode()
}

// endWith lets the programs that a script leaves behind end with the container, before its file system is removed. The function that it
// returns is to be called when the script has ended.
func (c *Container) endWith(cmd *exec.Cmd) func() {
	left, inherited, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.SysProcAttr, cmd.ExtraFiles = &syscall.SysProcAttr{Setpgid: true}, []*os.File{inherited}
	return func() {
		inherited.Close()
		c.t.Cleanup(func() {
			defer left.Close()
			if cmd.Process != nil {
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nothing may be left
			}
			_, _ = left.Read(make([]byte, 1)) // until the last one has ended
		})
	}
}

// functions makes the shell, and its timeout, run stand-ins instead of its own commands: the busybox of Debian
// prefers its own, whatever the PATH.
func (c *Container) functions() string {
	names := slices.DeleteFunc(slices.Clone(c.applets), func(applet string) bool { return !c.Has("/bin/" + applet) })
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%s() { %s/%[1]s \"$@\"; }\n", name, c.path[0])
	}
	if len(names) > 0 && !slices.Contains(names, "timeout") {
		fmt.Fprintf(&b, "timeout() { local s=$1 c=$2; shift 2; case $c in %s) c=%s/$c ;; esac; command timeout \"$s\" \"$c\" \"$@\"; }\n",
			strings.Join(names, " | "), c.path[0])
	}
	return b.String()
}

// Write writes a program that can be run at once. Meanwhile this process starts no other program: that one would hold
// the file open for writing, and the kernel refuses to run such a file (go.dev/issue/22315).
func Write(t testing.TB, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
