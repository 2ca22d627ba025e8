package localcluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/template"
	"time"

	_ "embed"

	"golang.org/x/sync/errgroup"
)

// The configuration files of a node, as templates over [nodeConfig].
var (
	//go:embed manifests/containerd.toml.tmpl
	containerdTemplate string
	//go:embed manifests/kubelet.yaml.tmpl
	kubeletTemplate string
	//go:embed manifests/cni.conflist.tmpl
	cniTemplate string
)

// cniNetwork is the prefix of the names of the nodes' CNI networks, and so of the files that the CNI library leaves
// in /var/lib/cni.
const cniNetwork = "lk-pods-"

// nodeConfig is the data of the templates.
type nodeConfig struct {
	Node, Dir, ClusterDir, Address, Pods, Cgroup, CNIDir, CNINetwork, PauseImage, DNSAddress, Socket string
}

func (c *Cluster) nodeConfig(n node) nodeConfig {
	return nodeConfig{
		Node: n.name, Dir: c.path(n.name), ClusterDir: c.dir, Address: n.address(), Pods: n.pods(), Cgroup: "/" + n.cgroup(),
		CNIDir: cniDir, CNINetwork: cniNetwork + n.name, PauseImage: pauseImage, DNSAddress: DNSAddress, Socket: c.runtimeSocket(n),
	}
}

func (c *Cluster) runtimeSocket(n node) string { return c.path(n.name, "containerd.sock") }

// nodeFiles returns the configuration files of the node by their path below the state directory.
func (c *Cluster) nodeFiles(n node) (map[string][]byte, error) {
	files := map[string][]byte{}
	for path, text := range map[string]string{
		n.name + "/containerd.toml":      containerdTemplate,
		n.name + "/kubelet.yaml":         kubeletTemplate,
		n.name + "/cni/10-pods.conflist": cniTemplate,
	} {
		t, err := template.New(path).Option("missingkey=error").Parse(text)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, c.nodeConfig(n)); err != nil {
			return nil, err
		}
		files[path] = b.Bytes()
	}
	return files, nil
}

// nodeSpecs returns how to run each process of a node, in start order.
func (c *Cluster) nodeSpecs(n node) []spec {
	return []spec{
		{name: n.process("containerd"), node: &n, argv: []string{"containerd", "--config=" + c.path(n.name, "containerd.toml")}},
		{name: n.process("kubelet"), node: &n, argv: []string{
			c.path("bin", "kubelet"), "--config=" + c.path(n.name, "kubelet.yaml"), "--kubeconfig=" + c.path(n.name, "kubelet.kubeconfig"),
			"--root-dir=" + c.path(n.name, "kubelet"), "--cert-dir=" + c.path(n.name, "kubelet-pki"),
			"--hostname-override=" + n.name, "--node-ip=" + n.address(),
			// Every node is its own zone, so that rules about zones can be tested.
			fmt.Sprintf("--node-labels=topology.kubernetes.io/region=local,topology.kubernetes.io/zone=zone-%d", n.number),
		}},
		{name: n.process("kube-proxy"), node: &n, argv: []string{
			c.path("bin", "kube-proxy"), "--kubeconfig=" + c.path("kube-proxy.kubeconfig"), "--hostname-override=" + n.name,
			"--proxy-mode=iptables", "--cluster-cidr=" + podRange, "--iptables-localhost-nodeports=false",
			// These limits apply to the whole machine.
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
			"--metrics-bind-address=127.0.0.1:10249", "--healthz-bind-address=127.0.0.1:10256",
		}},
	}
}

// createNode writes the configuration of the node and creates its folders and cgroups.
func (c *Cluster) createNode(_ context.Context, n node) error {
	files, err := c.nodeFiles(n)
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := writeFile(c.path(name), data, 0o644); err != nil {
			return err
		}
	}
	for _, d := range []string{"kubelet", "pod-logs", "volumes", "volume-plugins", "manifests"} {
		if err := os.MkdirAll(c.path(n.name, d), 0o755); err != nil {
			return err
		}
	}
	return n.createCgroups()
}

// startRuntime starts the node's containerd and waits until it serves.
func (c *Cluster) startRuntime(ctx context.Context, n node) error {
	return c.startAndWait(ctx, c.nodeSpecs(n)[0], 30*time.Second, func(ctx context.Context) error {
		_, err := c.ctr(ctx, n, "version")
		return err
	})
}

// startKubelet starts the processes that make the node join the cluster.
func (c *Cluster) startKubelet(ctx context.Context, n node) error {
	for _, s := range c.nodeSpecs(n)[1:] {
		if err := c.startAndWait(ctx, s, 10*time.Second, func(context.Context) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// ctr runs the client of containerd for a node, in the namespace in which Kubernetes keeps its images and containers.
func (c *Cluster) ctr(ctx context.Context, n node, args ...string) (string, error) {
	return run(ctx, "ctr", append([]string{"--address", c.runtimeSocket(n), "--namespace", "k8s.io"}, args...)...)
}

// importImages loads images into one node.
func (c *Cluster) importImages(ctx context.Context, n node, images []image) error {
	for _, i := range images {
		if _, err := c.ctr(ctx, n, "images", "import", i.path); err != nil {
			return fmt.Errorf("loading %s into %s: %w", i.path, n.name, err)
		}
	}
	return nil
}

// LoadImage loads a tar file, as `docker save` writes it or in OCI layout, into all running nodes.
func (c *Cluster) LoadImage(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("loading an image: %w", err)
	}
	away := c.nodesAway()
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes() {
		if away[n.name].Stopped {
			continue
		}
		group.Go(func() error { return c.importImages(ctx, n, []image{{path: path}}) })
	}
	return group.Wait()
}

// NameImage gives an image that all nodes have another name, such as one with a digest, which an image that was built
// here cannot have: Kubernetes then finds it without a registry.
func (c *Cluster) NameImage(ctx context.Context, reference, name string) error {
	if repository, digest, pinned := strings.Cut(name, "@"); pinned { // the runtime omits the tag
		if at := strings.LastIndex(repository, ":"); at > strings.LastIndex(repository, "/") {
			repository = repository[:at]
		}
		name = repository + "@" + digest
	}
	away := c.nodesAway()
	for _, n := range nodes() {
		if away[n.name].Stopped {
			continue
		}
		if _, err := c.ctr(ctx, n, "images", "tag", "--force", reference, name); err != nil {
			return fmt.Errorf("naming %s %s on %s: %w", reference, name, n.name, err)
		}
	}
	return nil
}

// AddConsulVersion builds a Consul version, unless the cache has it, and loads its image under its public name (see
// [ConsulImage]) into all nodes. Only versions with a folder in modules/ can be built.
func (c *Cluster) AddConsulVersion(ctx context.Context, version string) error {
	spec, err := c.consulImageSpec(ctx, version)
	if err != nil {
		return err
	}
	return c.addImage(ctx, spec)
}

// addMissingConsul adds the given Consul versions that a node lacks. It asks the nodes, so that it repeats an
// interrupted load.
func (c *Cluster) addMissingConsul(ctx context.Context, versions []string) error {
	for _, version := range versions {
		missing, err := c.anyNodeLacks(ctx, ConsulImage(version))
		if err != nil {
			return err
		}
		if !missing {
			continue
		}
		if err := c.AddConsulVersion(ctx, version); err != nil {
			return err
		}
	}
	return nil
}

// anyNodeLacks reports whether a running node does not have an image.
func (c *Cluster) anyNodeLacks(ctx context.Context, reference string) (bool, error) {
	away := c.nodesAway()
	for _, n := range nodes() {
		if away[n.name].Stopped {
			continue
		}
		held, err := c.images(ctx, n)
		if err != nil {
			return false, fmt.Errorf("listing the images of %s: %w", n.name, err)
		}
		if !slices.Contains(held, reference) {
			return true, nil
		}
	}
	return false, nil
}

// images returns the names of the images of a node, sorted.
func (c *Cluster) images(ctx context.Context, n node) ([]string, error) {
	out, err := c.ctr(ctx, n, "images", "list", "--quiet")
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.FieldsSeq(out) {
		// containerd also lists each image by its digest.
		if !strings.HasPrefix(name, "sha256:") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// AddBackupImages builds restic and its storage servers, unless the cache has them, and loads their images under
// their public names into all nodes. Like the public one, restic's image has the command ssh, and no user with the
// number that Consul runs as. The image of the REST server also has socat, which asks clients for a certificate: the
// server itself does not.
func (c *Cluster) AddBackupImages(ctx context.Context) error {
	if err := ensurePackages(ctx, c.progress); err != nil {
		return err
	}
	built, err := buildFamilies(ctx, c.progress, resticFamily(), versitygwFamily(), restServerFamily())
	if err != nil {
		return err
	}
	base, err := busyboxLayer(ctx)
	if err != nil {
		return err
	}
	ssh, err := machineLayer(ctx, map[string]string{"usr/bin/ssh": "ssh"})
	if err != nil {
		return err
	}
	sftp, err := machineLayer(
		ctx,
		map[string]string{
			"usr/sbin/dropbear":   "dropbear",
			"usr/bin/dropbearkey": "dropbearkey",
			"usr/lib/sftp-server": "/usr/lib/openssh/sftp-server",
		},
	)
	if err != nil {
		return err
	}
	tls, err := machineLayer(ctx, map[string]string{"usr/bin/socat": "socat"})
	if err != nil {
		return err
	}
	users := layer{key: "users", entries: []entry{{name: "etc/passwd", mode: 0o644, content: []byte("root:x:0:0:root:/root:/bin/sh\n")}}}
	for _, spec := range []imageSpec{
		{
			reference: ResticImage, layers: []layer{base, users, ssh, programLayer(built["restic"], "usr/bin/restic")},
			entrypoint: []string{"/usr/bin/restic"},
		},
		{
			reference: RESTServerImage, layers: []layer{base, tls, programLayer(built["rest-server"], "usr/bin/rest-server")},
			entrypoint: []string{"/usr/bin/rest-server"},
		},
		{reference: SFTPImage, layers: []layer{base, sftp}, entrypoint: []string{"/usr/sbin/dropbear"}},
		{
			reference: S3Image, layers: []layer{base, programLayer(built["versitygw"], "usr/local/bin/versitygw")},
			entrypoint: []string{"/usr/local/bin/versitygw"},
		},
	} {
		if err := c.addImage(ctx, spec); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) addImage(ctx context.Context, spec imageSpec) error {
	i, err := spec.cached(ctx, c.progress)
	if err != nil {
		return err
	}
	return c.progress.step(ctx, "load "+i.reference, func(ctx context.Context) error { return c.LoadImage(ctx, i.path) })
}
