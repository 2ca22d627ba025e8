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

// Down removes the cluster and restores the machine to its state before [Cluster.Up]: it leaves no process,
// container, mount, network namespace, link, route, firewall rule, or cgroup of the cluster, and restores changed
// settings. It may be called at any time, also after an Up that was killed half-way, or without a cluster. It keeps
// the caches of built programs and images. Down requires root.
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

// clean does the work of Down. It does not rely on complete records: it also searches by names and marks. Errors do
// not stop it, but they keep the state directory, so that the next attempt has the same information.
func (c *Cluster) clean(ctx context.Context) error {
	machine, err := c.readMachine()
	if err != nil {
		return err
	}
	// First what could still create mounts and files has to end.
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

// ownProcesses are those that were recorded, and those with the mark of the cluster. The processes of pods are
// identified by their cgroups, whose names do not depend on the state directory.
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
		// A record that cannot be read was never complete; its process has the mark.
		p, err := c.readProcess(strings.TrimSuffix(filepath.Base(record), ".json"))
		if err == nil && p.alive() {
			found = append(found, p)
		}
	}
	return found, nil
}

// unmountAll detaches all mounts below the state directory. It must succeed before the directory is removed:
// otherwise a volume that is still mounted there would lose its content.
func (c *Cluster) unmountAll() error { return unmountBelow(c.dir) }

func unmountBelow(dir string) error {
	list := func() ([]string, error) {
		all, err := mounts()
		var points []string
		for _, m := range all {
			// The kernel marks mounts of removed files.
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
	// The newest first, because it may be on top of an older one.
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

// shimSockets returns the sockets of the containers' shims, which are outside the state directory.
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

// loopbackResults returns what the CNI library records about the loopback links of pods. The names of these files do
// not show their owner, but the files contain the names of sandboxes, and containerd has a folder for each sandbox.
func (c *Cluster) loopbackResults() []string {
	var results []string
	sandboxes, _ := filepath.Glob(c.path("node-*", "containerd", "root", "io.containerd.grpc.v1.cri", "sandboxes", "*"))
	for _, sandbox := range sandboxes {
		results = append(results, "/var/lib/cni/results/cni-loopback-"+filepath.Base(sandbox)+"-lo")
	}
	return results
}

// removeShared removes what the programs of the cluster left outside the state directory: the given files, and what
// it finds by name. These files cause no harm, so a failure to remove them is not an error.
func (c *Cluster) removeShared(machine *machineState, files []string) {
	for _, file := range files {
		os.Remove(file)
	}
	// The kubelet links the log of each container to its file in the state directory.
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
			// There was no other kubelet before, so these are the socket and the checkpoint of ours, which are gone.
			removeFiles(filepath.Join(path, "device-plugins"))
		case "/run/containerd":
			// Sockets of shims whose containers were removed half-way are no longer listed, and nothing listens on them.
			removeFiles(filepath.Join(path, "s"))
		case "/run/xtables.lock":
			os.Remove(path)
		}
		removeEmpty(path)
	}
}

// removeFiles removes the files of a directory, but not its directories.
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
