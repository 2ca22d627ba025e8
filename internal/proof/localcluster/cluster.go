// Package localcluster runs a disposable but real Kubernetes on one Linux machine: etcd, the control plane, and three nodes, each in a
// network
// namespace of its own with containerd, kubelet and kube-proxy. Everything is built from Go modules or comes from Debian packages, so no
// image
// registry and no release download is needed. The quickstart and every acceptance test of this project run on it.
//
// A machine holds at most one such cluster. Its state is kept outside of any checkout (see [New]), so that a fresh clone can use, replace
// or
// remove what an earlier one left running.
//
// All nodes share the machine's file system, CPUs and memory. A host path is therefore visible on every node; dynamic volumes of the class
// "local-path" have a folder a node.
package localcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// DefaultDir is where the cluster keeps its state, unless the environment variable LOCALCLUSTER_DIR names another absolute path.
const DefaultDir = "/var/lib/terraform-provider-consul-k8s/localcluster"

// dirVariable overrides [DefaultDir].
const dirVariable = "LOCALCLUSTER_DIR"

// Addresses and ranges. They are fixed because only one cluster fits on a machine, and because a manifest, a route and a certificate must
// agree.
const (
	nodeCount = 3

	bridgeAddress = "10.89.0.1"
	bridgePrefix  = 24
	podRange      = "10.244.0.0/16"
	serviceRange  = "10.96.0.0/16"
	// apiServiceAddress is the first address of serviceRange: Kubernetes gives it to the Service "kubernetes".
	apiServiceAddress = "10.96.0.1"
	// DNSAddress is the cluster IP of CoreDNS.
	DNSAddress = "10.96.0.10"

	// The ports avoid the usual 6443, 2379 and 2380, which another Kubernetes on the machine may hold.
	apiPort      = 16443
	etcdPort     = 12379
	etcdPeerPort = 12380
)

// Cluster is the machine's cluster. Its methods may be called from several processes at the same time: those that change it take a lock on
// the machine.
type Cluster struct {
	dir      string
	progress *progress
}

// New returns a handle to the machine's cluster, running or not. A line for each part of longer work goes to w; nil discards them.
func New(w io.Writer) (*Cluster, error) {
	dir := os.Getenv(dirVariable)
	if dir == "" {
		dir = DefaultDir
	}
	if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
		return nil, fmt.Errorf("%s must be an absolute path below the root, not %q", dirVariable, dir)
	}
	return &Cluster{dir: filepath.Clean(dir), progress: newProgress(w)}, nil
}

// Nodes returns the names of the cluster's nodes: node-1 to node-3.
func Nodes() []string {
	names := make([]string, 0, nodeCount)
	for _, n := range nodes() {
		names = append(names, n.name)
	}
	return names
}

// Dir returns the folder that holds the cluster's state and logs.
func (c *Cluster) Dir() string { return c.dir }

// Kubeconfig returns the path of the administrator's kubeconfig. The file exists while the cluster is up and carries its certificates
// inline.
func (c *Cluster) Kubeconfig() string { return c.path("admin.kubeconfig") }

func (c *Cluster) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

// logPath returns where the process with the given name writes its output.
func (c *Cluster) logPath(process string) string { return c.path("logs", process+".log") }

// Up makes the cluster run and returns when all nodes, cluster DNS and the default StorageClass are ready. It is cheap to call again: a
// healthy cluster
// of the same recipe is left alone. Whatever else it finds, such as the remains of a crash, of a reboot or of another version of this
// package, it
// removes first. Nodes that were cut off or stopped (see [Cluster.CutNode], [Cluster.StopNode]) are brought back, unless the process that
// did it still runs.
//
// A first call builds Kubernetes and Consul, which takes several minutes; the binaries are cached in the user's cache directory. Up needs
// root.
func (c *Cluster) Up(ctx context.Context) error { return c.UpWith(ctx, ConsulVersions()...) }

// UpWith is [Cluster.Up] with some of [ConsulVersions]: it builds and loads only the images of these versions. A cluster that runs is
// kept, and gets the versions that it lacks.
func (c *Cluster) UpWith(ctx context.Context, consulVersions ...string) error {
	// The first build takes minutes, so a version that cannot be built is refused before it.
	for _, version := range consulVersions {
		if _, err := consulFamily(version).moduleFiles(); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("the local cluster needs root: it makes network namespaces, mounts and cgroups")
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()

	healthy, reason := c.healthy(ctx)
	if healthy {
		if err := c.repairNodes(ctx); err != nil {
			return err
		}
		if err := c.addMissingConsul(ctx, consulVersions); err != nil {
			return err
		}
		c.progress.line("the cluster is running")
		return nil
	}
	if err := ensurePackages(ctx, c.progress); err != nil {
		return err
	}
	binaries, err := c.buildAll(ctx)
	if err != nil {
		return err
	}
	images, err := c.buildImages(ctx, consulVersions)
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.dir); err == nil {
		c.progress.line("removing what was there: " + reason)
		if err := c.clean(ctx); err != nil {
			return fmt.Errorf("removing the remains of an earlier cluster: %w", err)
		}
	}
	return c.progress.step(ctx, "cluster up", func(ctx context.Context) error {
		return c.start(ctx, binaries, images)
	})
}

// start brings up everything on a clean machine. The parts that do not need each other start side by side, because a second saved here is
// saved in every
// test run.
func (c *Cluster) start(ctx context.Context, binaries binaries, images []image) error {
	if err := c.recordMachine(); err != nil {
		return err
	}
	for _, d := range []string{"run", "logs", "bin", "pki"} {
		if err := os.MkdirAll(c.path(d), 0o755); err != nil {
			return fmt.Errorf("making the state directory: %w", err)
		}
	}
	if err := c.writePKI(); err != nil {
		return err
	}
	if err := binaries.link(c.path("bin")); err != nil {
		return err
	}
	if err := c.progress.step(ctx, "network", c.createNetwork); err != nil {
		return err
	}

	group, gctx := errgroup.WithContext(ctx)
	apiReady := make(chan struct{})
	group.Go(func() error {
		if err := c.startControlPlane(gctx); err != nil {
			return err
		}
		close(apiReady)
		return c.progress.step(gctx, "addons applied", c.applyAddons)
	})
	for _, n := range nodes() {
		group.Go(func() error {
			if err := c.createNode(gctx, n); err != nil {
				return fmt.Errorf("preparing %s: %w", n.name, err)
			}
			if err := c.startRuntime(gctx, n); err != nil {
				return err
			}
			if err := c.progress.step(gctx, n.name+" images", func(ctx context.Context) error {
				return c.importImages(ctx, n, images)
			}); err != nil {
				return err
			}
			select {
			case <-apiReady:
			case <-gctx.Done():
				return gctx.Err()
			}
			return c.startKubelet(gctx, n)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := c.progress.step(ctx, "nodes ready", func(ctx context.Context) error {
		return c.waitNodesReady(ctx, c.allRun, Nodes()...)
	}); err != nil {
		return err
	}
	if err := c.progress.step(ctx, "addons ready", c.waitAddons); err != nil {
		return err
	}
	// The last thing written: without it, the next Up takes what it finds for the remains of a crash.
	return writeFile(c.path("recipe"), []byte(c.recipe()), 0o644)
}

// healthy tells whether the cluster runs, was made by this recipe, and answers. If not, reason says what is wrong.
func (c *Cluster) healthy(ctx context.Context) (ok bool, reason string) {
	made, err := os.ReadFile(c.path("recipe"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, "it was never completed"
	case err != nil:
		return false, err.Error()
	case string(made) != c.recipe():
		return false, "it was made by another version of this recipe"
	}
	if err := c.allRun(); err != nil {
		return false, err.Error()
	}
	away := c.nodesAway()
	var present []string
	for _, n := range Nodes() {
		if _, isAway := away[n]; !isAway {
			present = append(present, n)
		}
	}
	// All processes run, so a NotReady node or an API server that does not answer is most likely a matter of load: on a busy machine it is
	// wrong to
	// throw away a cluster that other tests are using.
	if err := c.waitNodesReady(ctx, c.allRun, present...); err != nil {
		return false, err.Error()
	}
	return true, ""
}

// allRun returns an error if a process of the cluster does not run, unless its node is stopped on purpose.
func (c *Cluster) allRun() error {
	away := c.nodesAway()
	for _, name := range c.processNames() {
		if node, _, ofNode := strings.Cut(name, "."); ofNode && away[node].Stopped {
			continue
		}
		if p, err := c.readProcess(name); err != nil || !p.alive() {
			return fmt.Errorf("%s does not run%s", name, c.logTail(name))
		}
	}
	return nil
}

// processNames lists all processes that make up a complete cluster. Those of a node are named <node>.<process>.
func (c *Cluster) processNames() []string {
	names := []string{"etcd", "kube-apiserver", "api-forward", "kube-controller-manager", "kube-scheduler"}
	for _, n := range nodes() {
		names = append(names, n.process("containerd"), n.process("kubelet"), n.process("kube-proxy"))
	}
	return names
}

// node is one of the nodes, with all names and addresses that follow from its number.
type node struct {
	number int
	name   string
}

func nodes() []node {
	all := make([]node, 0, nodeCount)
	for i := 1; i <= nodeCount; i++ {
		all = append(all, node{number: i, name: "node-" + strconv.Itoa(i)})
	}
	return all
}

func nodeByName(name string) (node, error) {
	for _, n := range nodes() {
		if n.name == name {
			return n, nil
		}
	}
	return node{}, fmt.Errorf("there is no node %q; the nodes are %s", name, strings.Join(Nodes(), ", "))
}

// address is the node's address on the bridge.
func (n node) address() string { return fmt.Sprintf("10.89.0.1%d", n.number) }

// pods is the range that the node's pods get their addresses from.
func (n node) pods() string { return fmt.Sprintf("10.244.%d0.0/24", n.number) }

// netns is the name of the node's network namespace, and also that of its link on the bridge.
func (n node) netns() string { return "lk-" + n.name }

// cgroup is the cgroup below which all pods of the node live.
func (n node) cgroup() string { return "lk-" + n.name }

// process names one of the node's processes.
func (n node) process(name string) string { return n.name + "." + name }

// writeFile writes a file so that a reader, or a crash, never sees half of it.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
