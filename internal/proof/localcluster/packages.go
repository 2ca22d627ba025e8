package localcluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// cniDir is where Debian puts the CNI plugins.
const cniDir = "/usr/lib/cni"

// debianPackages maps a file or a command that the cluster requires to its Debian package.
func debianPackages() map[string]string {
	return map[string]string{
		"etcd":                    "etcd-server",
		"containerd":              "containerd",
		"ctr":                     "containerd",
		"containerd-shim-runc-v2": "containerd",
		"runc":                    "runc",
		cniDir + "/bridge":        "containernetworking-plugins",
		cniDir + "/host-local":    "containernetworking-plugins",
		"socat":                   "socat",
		"iptables":                "iptables",
		"conntrack":               "conntrack",
		"ip":                      "iproute2",
		"busybox":                 "busybox-static",
		"curl":                    "curl",
		"ssh":                     "openssh-client",
		"dropbear":                "dropbear-bin",
		"dropbearkey":             "dropbear-bin",

		"/usr/lib/openssh/sftp-server": "openssh-sftp-server",
		"nsenter":                      "util-linux",
		"mount":                        "mount",
	}
}

// missingPackages returns the Debian packages whose files are not on this machine, sorted.
func missingPackages() []string {
	missing := map[string]bool{}
	for file, pkg := range debianPackages() {
		// LookPath does not search for an absolute path.
		if _, err := exec.LookPath(file); err != nil {
			missing[pkg] = true
		}
	}
	var names []string
	for pkg := range missing {
		names = append(names, pkg)
	}
	slices.Sort(names)
	return names
}

// ensurePackages installs the Debian packages that are missing.
func ensurePackages(ctx context.Context, p *progress) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	install := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("the local cluster needs the Debian packages %s; on a machine with apt-get: apt-get %s",
			strings.Join(missing, " "), strings.Join(install, " "))
	}
	return p.step(ctx, "install "+strings.Join(missing, " "), func(ctx context.Context) error {
		for _, args := range [][]string{{"update"}, install} {
			cmd := exec.CommandContext(ctx, "apt-get", args...)
			// RUNLEVEL=1 makes invoke-rc.d start nothing: the services etcd and containerd of the packages would use their usual ports.
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
			if _, err := runCommand(cmd); err != nil {
				return fmt.Errorf("installing Debian packages (try: apt-get %s): %w", strings.Join(install, " "), err)
			}
		}
		if still := missingPackages(); len(still) > 0 {
			return fmt.Errorf("apt-get succeeded, but files of %s are still missing", strings.Join(still, " "))
		}
		return nil
	})
}
