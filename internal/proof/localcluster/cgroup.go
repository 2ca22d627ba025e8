package localcluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mount is one line of the table of mounts.
type mount struct {
	point   string
	kind    string
	options []string
}

// mounts returns the mounts that this process sees, in the order of their creation.
func mounts() ([]mount, error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("reading the mounts: %w", err)
	}
	return parseMounts(string(data)), nil
}

func parseMounts(table string) []mount {
	// The kernel writes blanks in names as octal escapes.
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var all []mount
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) >= 4 {
			all = append(all, mount{point: unescape.Replace(f[1]), kind: f[2], options: strings.Split(f[3], ",")})
		}
	}
	return all
}

// cgroupRoots returns the root of every cgroup hierarchy: many with cgroup v1, one with v2, and both kinds on hybrid machines.
func cgroupRoots() ([]mount, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	roots := slices.DeleteFunc(all, func(m mount) bool { return m.kind != "cgroup" && m.kind != "cgroup2" })
	if len(roots) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted")
	}
	return roots, nil
}

// createCgroups creates the cgroup of the node in every hierarchy, which the kubelet requires.
func (n node) createCgroups() error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root.point, n.cgroup())
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the cgroup of %s: %w", n.name, err)
		}
		if root.kind == "cgroup2" {
			if err := delegateControllers(root.point); err != nil {
				return err
			}
			continue
		}
		if !slices.Contains(root.options, "cpuset") {
			continue
		}
		// A cpuset of v1 starts empty, and no process can join an empty one.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			data, err := os.ReadFile(filepath.Join(root.point, file))
			if err != nil {
				return fmt.Errorf("reading the cpuset of the machine: %w", err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), data, 0o644); err != nil {
				return fmt.Errorf("setting the cpuset of %s: %w", n.name, err)
			}
		}
	}
	return nil
}

// delegateControllers lets the children of a v2 cgroup use all of its controllers. The kubelet does the same below.
func delegateControllers(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("reading the cgroup controllers: %w", err)
	}
	for _, name := range strings.Fields(string(data)) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0o644); err != nil {
			return fmt.Errorf("delegating the cgroup controller %s: %w", name, err)
		}
	}
	return nil
}

// eachCgroup calls f for the cgroups of the node and all below them, parents first.
func (n node) eachCgroup(f func(dir string)) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		err := filepath.WalkDir(filepath.Join(root.point, n.cgroup()), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it never existed, or was removed meanwhile
			}
			if err == nil && d.IsDir() {
				f(path)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("walking the cgroups of %s: %w", n.name, err)
		}
	}
	return nil
}

// podProcesses returns all processes in the cgroups of the node: those of its pods.
func (n node) podProcesses() ([]process, error) {
	seen := map[int]bool{}
	var found []process
	err := n.eachCgroup(func(dir string) {
		data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for field := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil || pid == 0 || seen[pid] {
				continue
			}
			seen[pid] = true
			if p, err := identify(commandName(pid), pid); err == nil && p.alive() {
				found = append(found, p)
			}
		}
	})
	return found, err
}

// removeCgroups removes the node's cgroups, whose processes must be gone.
func (n node) removeCgroups() error {
	var dirs []string
	if err := n.eachCgroup(func(dir string) { dirs = append(dirs, dir) }); err != nil {
		return err
	}
	var errs []error
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
