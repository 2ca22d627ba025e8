package acctest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// CLI is a working directory in which a real Terraform or OpenTofu runs the real provider binary, as for a user. It
// shows what the in-process provider of plugin-testing cannot, such as a killed apply.
type CLI struct {
	t    testing.TB
	path string
	dir  string
	env  []string
}

// build is the directory with the provider. All packages with acceptance tests use the same one, so that only the first of them
// links the provider.
var build struct {
	once sync.Once
	dir  string
	err  error
}

func buildProvider(t testing.TB) (dir string, err error) {
	t.Helper()
	root := Root(t)
	build.once.Do(func() {
		build.dir = filepath.Join(root, ".local", "acceptance")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(build.dir, "terraform-provider-consul-k8s"), ".")
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("building the provider: %w: %s", err, out)
		}
	})
	return build.dir, build.err
}

// NewCLI builds the provider, once per process, and writes files into a new working directory. The files refer to the
// provider by the source registry.terraform.io/consul-k8s/consul-k8s.
func NewCLI(t testing.TB, files map[string]string) *CLI {
	t.Helper()
	binary, err := buildProvider(t)
	if err != nil {
		t.Fatal(err)
	}
	c := &CLI{t: t, path: os.Getenv("TF_ACC_TERRAFORM_PATH"), dir: t.TempDir()}
	files = mergeFiles(files, map[string]string{"cli.tfrc": fmt.Sprintf(
		"provider_installation {\n  dev_overrides { \"registry.terraform.io/consul-k8s/consul-k8s\" = %q }\n  direct {}\n}\n", binary)})
	for name, text := range files {
		c.Write(name, text)
	}
	c.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+filepath.Join(c.dir, "cli.tfrc"), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1")
	return c
}

func mergeFiles(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// Write writes a file into the working directory.
func (c *CLI) Write(name, text string) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// Setenv adds a variable to the environment of later runs.
func (c *CLI) Setenv(key, value string) { c.env = append(c.env, key+"="+value) }

// Run runs a command such as "apply", and returns its output and exit code.
func (c *CLI) Run(ctx context.Context, args ...string) (output string, code int) {
	c.t.Helper()
	cmd := c.command(ctx, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// Must runs a command that has to succeed.
func (c *CLI) Must(ctx context.Context, args ...string) string {
	c.t.Helper()
	out, code := c.Run(ctx, args...)
	if code != 0 {
		c.t.Fatalf("%s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// RequiredProviders is the block that names the provider, for configurations that a CLI applies.
const RequiredProviders = `
terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
`

// RunAndKill starts "apply" or "destroy", and kills it and the provider by SIGKILL as soon as when returns true. It
// reports whether the command was still running.
func (c *CLI) RunAndKill(
	ctx context.Context,
	command string,
	when func(context.Context) bool,
	args ...string,
) (killed bool, output string) {
	c.t.Helper()
	cmd := c.command(ctx, append([]string{command, "-auto-approve", "-no-color", "-lock=false"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the provider is in the group
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return false, out.String()
		case <-tick.C:
		}
		if when(ctx) {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
			return true, out.String()
		}
	}
}

func (c *CLI) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.path, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	return cmd
}

// State returns the raw state file, "" if the file does not exist.
func (c *CLI) State() string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "terraform.tfstate"))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return string(b)
}
