// Package localcluster runs a disposable but real Kubernetes on one Linux machine: etcd, the control plane, and three
// nodes, each in its own network namespace with containerd, kubelet, and kube-proxy. Everything is built from Go
// modules or comes from Debian packages, so it needs no image registry and no release download. The quickstart and
// every acceptance test of this project run on it.
//
// A machine has at most one such cluster. Its state is outside any checkout (see [New]), so that a fresh clone can
// use, replace, or remove what an earlier one left running.
//
// All nodes share the file system, the CPUs, and the memory of the machine. A host path is therefore visible on every
// node. Dynamic volumes of the class "local-path" have one folder per node.
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

// Addresses and ranges. They are fixed because a machine has only one cluster, and because manifests, routes, and
// certificates must agree.
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

	// The ports avoid the usual 6443, 2379, and 2380, which another Kubernetes on the machine may use.
	apiPort      = 16443
	etcdPort     = 12379
	etcdPeerPort = 12380
)

// Cluster is the cluster of the machine. Several processes may call its methods at the same time: those that change
// it take a lock on the machine.
type Cluster struct {
	dir      string
	progress *progress
}

// New returns a handle to the cluster of the machine, running or not. It writes a line for each part of longer work
// to w; nil discards them.
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

// Dir returns the folder with the state and the logs of the cluster.
func (c *Cluster) Dir() string { return c.dir }

// Kubeconfig returns the path of the kubeconfig of the administrator. The file exists while the cluster is up, and
// contains its certificates.
func (c *Cluster) Kubeconfig() string { return c.path("admin.kubeconfig") }

func (c *Cluster) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

// logPath returns the path of the output of a process.
func (c *Cluster) logPath(process string) string { return c.path("logs", process+".log") }

// Up makes the cluster run, and returns when all nodes, cluster DNS, and the default StorageClass are ready. Another
// call is cheap: it keeps a healthy cluster of the same recipe. It first removes anything else, such as the remains
// of a crash, a reboot, or another version of this package. It brings back nodes that were cut off or stopped (see
// [Cluster.CutNode], [Cluster.StopNode]), unless the process that did that still runs.
//
// A first call builds Kubernetes and Consul, which takes several minutes. The binaries are cached in the cache
// directory of the user. Up requires root.
func (c *Cluster) Up(ctx context.Context) error { return c.UpWith(ctx, ConsulVersions()...) }

// UpWith is [Cluster.Up] with some of [ConsulVersions]: it builds and loads only the images of these versions. It
// keeps a running cluster, and adds the versions that it lacks.
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

// start starts everything on a clean machine. Independent parts start at the same time, because each second saved
// here is saved in every test run.
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
	// This is written last: without it, the next Up treats the cluster as the remains of a crash.
	return writeFile(c.path("recipe"), []byte(c.recipe()), 0o644)
}

// healthy reports whether the cluster runs, has this recipe, and answers. If not, reason says what is wrong.
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
	// All processes run, so a NotReady node, or an API server that does not answer, most likely results from load: on
	// a busy machine, a cluster that other tests use must not be removed for that.
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

// processNames lists all processes of a complete cluster. Those of a node are named <node>.<process>.
func (c *Cluster) processNames() []string {
	names := []string{"etcd", "kube-apiserver", "api-forward", "kube-controller-manager", "kube-scheduler"}
	for _, n := range nodes() {
		names = append(names, n.process("containerd"), n.process("kubelet"), n.process("kube-proxy"))
	}
	return names
}

// node is one of the nodes, with the names and addresses that depend on its number.
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

// pods is the address range of the pods of the node.
func (n node) pods() string { return fmt.Sprintf("10.244.%d0.0/24", n.number) }

// netns is the name of the network namespace of the node, and of its link on the bridge.
func (n node) netns() string { return "lk-" + n.name }

// cgroup is the cgroup above all pods of the node.
func (n node) cgroup() string { return "lk-" + n.name }

// process names one of the node's processes.
func (n node) process(name string) string { return n.name + "." + name }

// writeFile writes a file atomically.
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
