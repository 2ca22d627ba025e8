package localcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/hashicorp/go-version"
)

// MinimumCLI is the oldest version of Terraform, and of OpenTofu, that supports everything in this provider. Older
// versions have no write-only arguments: they generate other docs, and cannot run all tests.
const MinimumCLI = "1.11.0"

// CLI returns a program that runs Terraform configurations: terraform or tofu, if one of them is on the PATH in the
// minimum version or later, or an OpenTofu that it builds from source and caches. It writes a line for each part of
// longer work to w; nil discards them. It needs no cluster.
func CLI(ctx context.Context, w io.Writer, minimum string) (path string, isOpenTofu bool, err error) {
	oldest, err := version.NewVersion(minimum)
	if err != nil {
		return "", false, fmt.Errorf("the minimum version: %w", err)
	}
	p := newProgress(w)
	for _, name := range []string{"terraform", "tofu"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		// A version manager fails if no version is selected here. Another program may work.
		found, err := cliVersion(ctx, path)
		switch {
		case err != nil:
			p.line(fmt.Sprintf("not using %s: %v", path, err))
		case found.LessThan(oldest):
			p.line(fmt.Sprintf("not using %s: it is version %s, and %s or later is needed", path, found, oldest))
		default:
			return path, name == "tofu", nil
		}
	}
	built, err := openTofuFamily().build(ctx, p)
	if err != nil {
		return "", true, fmt.Errorf("neither terraform nor tofu of version %s or later is on the PATH: %w", oldest, err)
	}
	return built["tofu"].path, true, nil
}

// cliVersion asks a terraform or tofu for its version.
func cliVersion(ctx context.Context, path string) (*version.Version, error) {
	cmd := exec.CommandContext(ctx, path, "version", "-json")
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1") // otherwise it checks for a newer version on the internet
	out, err := runCommand(cmd)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Version string `json:"terraform_version"` // OpenTofu uses this name too
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("reading its version: %w", err)
	}
	found, err := version.NewVersion(answer.Version)
	if err != nil {
		return nil, fmt.Errorf("reading its version: %w", err)
	}
	return found, nil
}

// KubectlPath returns the path of the kubectl of the cluster. The file exists while the cluster is up.
func (c *Cluster) KubectlPath() string { return c.path("bin", "kubectl") }
