package localcluster

import (
	"context"
	"fmt"
	"io"
	"os/exec"
)

// CLI returns a program that runs Terraform configurations: terraform or tofu if one of them is on the PATH, else an OpenTofu that it builds from source and
// caches. A line for each part of longer work goes to w; nil discards them. No cluster is needed.
func CLI(ctx context.Context, w io.Writer) (path string, isOpenTofu bool, err error) {
	if path, err := exec.LookPath("terraform"); err == nil {
		return path, false, nil
	}
	if path, err := exec.LookPath("tofu"); err == nil {
		return path, true, nil
	}
	built, err := openTofuFamily().build(ctx, newProgress(w))
	if err != nil {
		return "", true, fmt.Errorf("neither terraform nor tofu is on the PATH: %w", err)
	}
	return built["tofu"].path, true, nil
}

// KubectlPath returns the path of the cluster's own kubectl. The file exists while the cluster is up.
func (c *Cluster) KubectlPath() string { return c.path("bin", "kubectl") }
