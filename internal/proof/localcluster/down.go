package localcluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Down removes the cluster and leaves the machine as it was before [Cluster.Up]: no process, container, mount, network namespace, link,
// route, firewall
// rule or cgroup of the cluster stays, and settings that were changed get their old values. It may be called at any time, also after an Up
// that was
// killed half-way, and when nothing is there. The caches of built programs and images stay. Down needs root.
func (c *Cluster) Down(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("removing the local cluster needs root")
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.progress.step(ctx, "cluster down", c.clean)
}

// clean does the work of Down. It relies on no record being complete: what can be found by its name or mark is looked for. Errors do not
// stop it, but they
// keep the state directory, so that another try has the same knowledge.
func (c *Cluster) clean(ctx context.Context) error {
	machine, err := c.readMachine()
	if err != nil {
		return err
	}
	// Nothing can be unmounted or removed for good while something may still make more of it.
	if err := c.killAll(ctx); err != nil {
		return err
	}
	outside := append(c.shimSockets(), c.loopbackResults()...)
	if err := c.unmountAll(); err != nil {
		return err
	}
	errs := []error{c.removeNetwork(ctx)}
	for _, n := range nodes() {
		errs = append(
			errs,
			waitFor(ctx, "the end of the cgroups of "+n.name, killLimit, func(context.Context) error { return n.removeCgroups() }),
		)
	}
	if machine != nil {
		errs = append(errs, machine.restore())
	}
	c.removeShared(machine, outside)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("removing the state directory: %w", err)
	}
	return nil
}

// killAll ends all processes of the cluster: its own, and those in the nodes' cgroups.
func (c *Cluster) killAll(ctx context.Context) error {
	return killUntilGone(ctx, "the cluster's processes", func() ([]process, error) {
		found, err := c.ownProcesses()
		if err != nil {
			return nil, err
		}
		for _, n := range nodes() {
			inPods, err := n.podProcesses()
			if err != nil {
				return nil, err
			}
			found = append(found, inPods...)
		}
		return found, nil
	})
}

// ownProcesses are those that were recorded and those that carry the cluster's mark. Those of pods are told by their cgroups, whose names
// do not depend on
// the state directory.
func (c *Cluster) ownProcesses() ([]process, error) {
	found, err := c.processesMarked(func([]byte) bool { return true })
	if err != nil {
		return nil, err
	}
	records, err := filepath.Glob(c.recordPath("*"))
	if err != nil {
		return nil, err
	}
	for _, record := range records {
		// A record that cannot be read is one that was never finished; its process carries the mark.
		p, err := c.readProcess(strings.TrimSuffix(filepath.Base(record), ".json"))
		if err == nil && p.alive() {
			found = append(found, p)
		}
	}
	return found, nil
}

// unmountAll detaches all mounts below the state directory. It must succeed before the directory is removed: a volume that is still
// mounted there would
// lose its content.
func (c *Cluster) unmountAll() error { return unmountBelow(c.dir) }

func unmountBelow(dir string) error {
	list := func() ([]string, error) {
		all, err := mounts()
		var points []string
		for _, m := range all {
			// The kernel marks mounts of files that were removed meanwhile.
			point := strings.TrimSuffix(m.point, "//deleted")
			if strings.HasPrefix(point, dir+"/") {
				points = append(points, point)
			}
		}
		return points, err
	}
	points, err := list()
	if err != nil {
		return err
	}
	var errs []error
	// The youngest first, because it may lie on top of an older one.
	for _, point := range slices.Backward(points) {
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) &&
			!errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", point, err))
		}
	}
	if left, err := list(); err != nil {
		errs = append(errs, err)
	} else if len(left) > 0 {
		errs = append(errs, fmt.Errorf("still mounted: %s", strings.Join(left, ", ")))
	}
	return errors.Join(errs...)
}

// shimSockets returns the sockets of the containers' shims, which lie outside of the state directory.
func (c *Cluster) shimSockets() []string {
	var sockets []string
	files, _ := filepath.Glob(c.path("node-*", "containerd", "state", "io.containerd.runtime.v2.task", "*", "*", "address"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if path, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "unix://"); err == nil && ok {
			sockets = append(sockets, path)
		}
	}
	return sockets
}

// loopbackResults returns what the CNI library remembers about the loopback links of pods. The names of these files do not tell whose they
// are, but
// they hold the names of sandboxes, and containerd has a folder for each sandbox.
func (c *Cluster) loopbackResults() []string {
	var results []string
	sandboxes, _ := filepath.Glob(c.path("node-*", "containerd", "root", "io.containerd.grpc.v1.cri", "sandboxes", "*"))
	for _, sandbox := range sandboxes {
		results = append(results, "/var/lib/cni/results/cni-loopback-"+filepath.Base(sandbox)+"-lo")
	}
	return results
}

// removeShared removes what the cluster's programs left outside of the state directory: the given files, and what is found by its name.
// Nothing there can
// disturb anyone, so that it stays is no error.
func (c *Cluster) removeShared(machine *machineState, files []string) {
	for _, file := range files {
		os.Remove(file)
	}
	// The kubelet links each container's log to its file, which lies in the state directory.
	links, _ := filepath.Glob("/var/log/containers/*.log")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, c.dir+"/") {
			os.Remove(link)
		}
	}
	results, _ := filepath.Glob("/var/lib/cni/results/" + cniNetwork + "*")
	for _, result := range results {
		os.Remove(result)
	}
	if machine == nil {
		return
	}
	if !machine.NetnsMounted {
		if entries, err := os.ReadDir(netnsDir); err == nil && len(entries) == 0 {
			_ = unix.Unmount(netnsDir, unix.MNT_DETACH)
		}
	}
	for _, path := range machine.Absent {
		switch path {
		case "/var/lib/kubelet":
			// No other kubelet was here before, and ours are gone: its socket and its checkpoint are theirs.
			removeFiles(filepath.Join(path, "device-plugins"))
		case "/run/containerd":
			// Sockets of shims whose containers were removed half-way are no longer listed anywhere; nothing listens on them.
			removeFiles(filepath.Join(path, "s"))
		case "/run/xtables.lock":
			os.Remove(path)
		}
		removeEmpty(path)
	}
}

// removeFiles removes the files of a directory, but no directories.
func removeFiles(dir string) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, e := range entries {
		if !e.IsDir() {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
