package localcluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// machineState is the machine before the cluster: what must be restored, and what must not be removed.
type machineState struct {
	// Sysctls are values by their path below /proc/sys.
	Sysctls map[string]string `json:"sysctls"`
	// Absent are those of sharedPaths that did not exist.
	Absent []string `json:"absent"`
	// NetnsMounted says that netnsDir was a mount, which the first use of `ip netns` makes it.
	NetnsMounted bool `json:"netnsMounted"`
}

// kubeletSysctls returns the settings of the whole machine that a kubelet changes.
func kubeletSysctls() []string {
	return []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
		"kernel/keys/root_maxbytes",
		"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables",
	}
}

// sharedPaths returns the paths outside the state directory that the programs of the cluster use, and that cannot be
// configured.
func sharedPaths() []string {
	return []string{
		netnsDir, "/run/containerd", "/run/xtables.lock", "/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/var/log/pods",
		"/opt/containerd", "/opt/cni", "/usr/libexec/kubernetes",
	}
}

func (c *Cluster) machinePath() string { return c.path("machine.json") }

// recordMachine records the state of the machine before the first change to it.
func (c *Cluster) recordMachine() error {
	state := machineState{Sysctls: map[string]string{}}
	for _, name := range kubeletSysctls() {
		data, err := os.ReadFile(filepath.Join("/proc/sys", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading sysctl %s: %w", name, err)
		}
		state.Sysctls[name] = strings.TrimSpace(string(data))
	}
	for _, path := range sharedPaths() {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			state.Absent = append(state.Absent, path)
		}
	}
	all, err := mounts()
	if err != nil {
		return err
	}
	state.NetnsMounted = slices.ContainsFunc(all, func(m mount) bool { return m.point == netnsDir })
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(c.machinePath(), data, 0o644)
}

// readMachine returns the recorded state, or nil if Up did not record it. Then it changed nothing either.
func (c *Cluster) readMachine() (*machineState, error) {
	data, err := os.ReadFile(c.machinePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	state := &machineState{}
	if err := json.Unmarshal(data, state); err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.machinePath(), err)
	}
	return state, nil
}

// restore restores the settings of the machine.
func (s *machineState) restore() error {
	var errs []error
	for name, value := range s.Sysctls {
		path := filepath.Join("/proc/sys", name)
		now, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(now)) != value {
			err = os.WriteFile(path, []byte(value), 0o644)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("restoring sysctl %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// removeEmpty removes a directory and all directories below it that have no files.
func removeEmpty(path string) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			removeEmpty(filepath.Join(path, e.Name()))
		}
	}
	os.Remove(path) // fails if anything is left, as intended
}
