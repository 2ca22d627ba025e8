package localcluster

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Versions of the parts of the cluster.
const (
	KubernetesVersion = "1.34.4"
	openTofuVersion   = "1.12.6"
	coreDNSVersion    = "1.12.4"
	localPathVersion  = "0.0.30"
	resticVersion     = "0.17.3"
	versitygwVersion  = "1.8.0"
	restServerVersion = "0.14.0"
)

// ConsulVersions returns the versions of Consul that the acceptance tests run. A cluster has their images after
// [Cluster.Up]. [Cluster.UpWith] starts a cluster with fewer, and [Cluster.AddConsulVersion] adds another one.
func ConsulVersions() []string { return []string{"1.21.0", "1.22.7"} }

// modules has a small Go module for each family of tools, so that their dependencies stay out of the go.mod of this
// project. The files end in .txt because a folder with a go.mod is a separate module, which cannot be embedded. See
// modules/README.md.
//
//go:embed modules
var modules embed.FS

// family is a set of programs that are built from the same Go module.
type family struct {
	name    string
	version string
	// packages are the main packages by the names of their binaries.
	packages map[string]string
	// variables are set at link time, mostly for the version of a program.
	variables []string
}

func kubernetesFamily() family {
	f := family{
		name: "kubernetes", version: KubernetesVersion, packages: map[string]string{},
		// Without these, the server reports v0.0.0-master, which some clients refuse.
		variables: []string{
			"k8s.io/component-base/version.gitVersion=v" + KubernetesVersion,
			"k8s.io/component-base/version.gitMajor=1",
			"k8s.io/component-base/version.gitMinor=34",
		},
	}
	for _, binary := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"} {
		f.packages[binary] = "k8s.io/kubernetes/cmd/" + binary
	}
	return f
}

func consulFamily(version string) family {
	return family{
		name: "consul", version: version,
		packages:  map[string]string{"consul": "github.com/hashicorp/consul"},
		variables: []string{"github.com/hashicorp/consul/version.GitDescribe=" + version},
	}
}

func coreDNSFamily() family {
	return family{name: "coredns", version: coreDNSVersion, packages: map[string]string{"coredns": "github.com/coredns/coredns"}}
}

func localPathFamily() family {
	return family{
		name: "local-path-provisioner", version: localPathVersion,
		packages: map[string]string{"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
	}
}

func openTofuFamily() family {
	return family{
		name: "opentofu", version: openTofuVersion,
		packages:  map[string]string{"tofu": "github.com/opentofu/opentofu/cmd/tofu"},
		variables: []string{"github.com/opentofu/opentofu/version.dev=no"},
	}
}

func resticFamily() family {
	return family{
		name: "restic", version: resticVersion,
		packages:  map[string]string{"restic": "github.com/restic/restic/cmd/restic"},
		variables: []string{"main.version=" + resticVersion},
	}
}

func versitygwFamily() family {
	return family{
		name: "versitygw", version: versitygwVersion,
		packages:  map[string]string{"versitygw": "github.com/versity/versitygw/cmd/versitygw"},
		variables: []string{"main.Version=" + versitygwVersion},
	}
}

func restServerFamily() family {
	return family{
		name: "rest-server", version: restServerVersion,
		packages: map[string]string{"rest-server": "github.com/restic/rest-server/cmd/rest-server"},
	}
}

// recipeFamilies returns all families of a cluster. All versions of Consul count, including those that the cluster
// lacks: it stays the same cluster when it gets them.
func recipeFamilies() []family {
	all := []family{kubernetesFamily(), coreDNSFamily(), localPathFamily()}
	for _, version := range ConsulVersions() {
		all = append(all, consulFamily(version))
	}
	return all
}

// names returns the names of the family's programs, sorted.
func (f family) names() []string { return slices.Sorted(maps.Keys(f.packages)) }

// ldflags are the flags of the linker: no symbol tables, which makes the images a third smaller, and the version.
func (f family) ldflags() string {
	flags := []string{"-s", "-w"}
	for _, v := range f.variables {
		flags = append(flags, "-X", v)
	}
	return strings.Join(flags, " ")
}

// moduleFiles returns go.mod and go.sum of the family.
func (f family) moduleFiles() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := modules.ReadFile(path.Join("modules", f.name+"-"+f.version, name+".txt"))
		if err != nil {
			return nil, fmt.Errorf("there is no recipe to build %s %s: %w", f.name, f.version, err)
		}
		files[name] = data
	}
	return files, nil
}

// key identifies the sources of a binary of the family. A cached binary with another key is out of date.
func (f family) key(binary string) (string, error) {
	files, err := f.moduleFiles()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n", f.packages[binary], f.ldflags(), runtime.GOARCH)
	for _, name := range []string{"go.mod", "go.sum"} {
		fmt.Fprintf(h, "%s %d\n", name, len(files[name]))
		h.Write(files[name])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// cacheDir is the folder for everything that is expensive to make and the same for all checkouts.
func cacheDir(elem ...string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w", err)
	}
	return filepath.Join(append([]string{dir, "terraform-provider-consul-k8s"}, elem...)...), nil
}

// binary is a program in the cache.
type binary struct {
	path string
	// key identifies this build; see [family.key].
	key string
}

// binaries are programs by name.
type binaries map[string]binary

// link creates a link to each program in dir, so that a running cluster keeps its programs when the cache is emptied
// or gets newer ones.
func (b binaries) link(dir string) error {
	for name, program := range b {
		target := filepath.Join(dir, name)
		if err := os.Link(program.path, target); err == nil {
			continue
		}
		// Cache and state may be on different file systems.
		data, err := os.ReadFile(program.path)
		if err != nil {
			return fmt.Errorf("reading %s: %w", program.path, err)
		}
		if err := writeFile(target, data, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// build returns the programs of the family, from the cache if they are up to date. A stamp with their key, which is
// written last, makes cached programs valid: an interrupted build leaves no stamp.
func (f family) build(ctx context.Context, p *progress) (binaries, error) {
	built, stale, err := f.cached()
	if err != nil {
		return nil, err
	}
	title := f.name + " " + f.version
	if len(stale) == 0 {
		p.line("cached " + title)
		return built, nil
	}
	dir, err := cacheDir(f.name + "-" + f.version)
	if err != nil {
		return nil, err
	}
	unlock, err := lockFile(ctx, dir+".lock", p)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Another process may have built them while this one waited.
	if built, stale, err = f.cached(); err != nil || len(stale) == 0 {
		return built, err
	}
	err = p.step(ctx, "build "+title, func(ctx context.Context) error { return f.compile(ctx, p, dir, stale) })
	if err != nil {
		return nil, err
	}
	if built, stale, err = f.cached(); err == nil && len(stale) > 0 {
		err = fmt.Errorf("building %s: %s vanished from the cache", title, strings.Join(stale, ", "))
	}
	return built, err
}

// cached returns the programs in the cache, and the names of those that must be built.
func (f family) cached() (valid binaries, stale []string, err error) {
	valid = binaries{}
	for _, name := range f.names() {
		key, err := f.key(name)
		if err != nil {
			return nil, nil, err
		}
		file, err := cacheDir(f.name+"-"+f.version, name)
		if err != nil {
			return nil, nil, err
		}
		stamp, err := os.ReadFile(file + ".key")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, fmt.Errorf("reading the cache: %w", err)
		}
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() || string(stamp) != key {
			stale = append(stale, name)
			continue
		}
		valid[name] = binary{path: file, key: key}
	}
	return valid, stale, nil
}

// compile builds the named programs into dir.
func (f family) compile(ctx context.Context, p *progress, dir string, names []string) error {
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("building needs the go command: %w", err)
	}
	files, err := f.moduleFiles()
	if err != nil {
		return err
	}
	// On the same file system as the cache, so that a complete program moves there in one step.
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".build-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(work, name), data, 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		key, err := f.key(name)
		if err != nil {
			return err
		}
		build := func(ctx context.Context) error {
			cmd := exec.CommandContext(
				ctx,
				"go",
				"build",
				"-buildvcs=false",
				"-trimpath",
				"-ldflags",
				f.ldflags(),
				"-o",
				filepath.Join(work, name),
				f.packages[name],
			)
			cmd.Dir = work
			cmd.Env = buildEnvironment(os.Environ())
			_, err := runCommand(cmd)
			return err
		}
		if len(names) > 1 {
			err = p.step(ctx, "build "+name, build)
		} else {
			err = build(ctx)
		}
		if err != nil {
			return err
		}
		target := filepath.Join(dir, name)
		if err := os.RemoveAll(target + ".key"); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(work, name), target); err != nil {
			return err
		}
		if err := writeFile(target+".key", []byte(key), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// buildEnvironment is the environment of the caller without what would change the build. Modules of hashicorp are not
// looked up in the public checksum database, which lacks some of them. go.sum pins them all the same.
func buildEnvironment(environ []string) []string {
	var kept []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "CGO_ENABLED", "GOFLAGS", "GOWORK", "GONOSUMDB", "GOOS", "GOARCH", "GOEXPERIMENT":
		default:
			kept = append(kept, e)
		}
	}
	return append(kept, "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off", "GONOSUMDB=github.com/hashicorp/*")
}

// buildAll returns the programs of a cluster. Families are built one after the other: the compiler itself uses all
// processors.
func (c *Cluster) buildAll(ctx context.Context) (binaries, error) {
	return buildFamilies(ctx, c.progress, kubernetesFamily())
}

func buildFamilies(ctx context.Context, p *progress, families ...family) (binaries, error) {
	all := binaries{}
	for _, f := range families {
		built, err := f.build(ctx, p)
		if err != nil {
			return nil, err
		}
		for name, b := range built {
			all[name] = b
		}
	}
	return all, nil
}
