package localcluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // docker-entrypoint.sh
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// imageLayout is part of the key of cached images. Increment it when the format changes.
const imageLayout = "4"

// The images of every node besides Consul's (see [ConsulImage]), and those that can be added.
const (
	// BusyboxImage is a shell with the usual Unix tools.
	BusyboxImage = "docker.io/library/busybox:1.35"
	// ResticImage is the backup program, and the others are its storage servers: see [Cluster.AddBackupImages].
	ResticImage     = "docker.io/restic/restic:" + resticVersion
	S3Image         = "docker.io/versity/versitygw:v" + versitygwVersion
	RESTServerImage = "docker.io/restic/rest-server:" + restServerVersion
	SFTPImage       = "docker.io/localcluster/sftp:1"

	pauseImage     = "registry.k8s.io/pause:3.6"
	coreDNSImage   = "docker.io/coredns/coredns:" + coreDNSVersion
	localPathImage = "docker.io/rancher/local-path-provisioner:v" + localPathVersion
)

// ConsulImage is the name of the image of a Consul version, the same as that of the public one.
func ConsulImage(version string) string { return "docker.io/hashicorp/consul:" + version }

// image is an image in the cache, as the tar file that `docker save` would write.
type image struct {
	reference string
	path      string
}

// imageSpec is the content of an image.
type imageSpec struct {
	reference string
	// layers are written in order. A node stores equal layers of different images once.
	layers     []layer
	entrypoint []string
	command    []string
	env        []string
	workdir    string
}

// layer is a list of files. Its key identifies the content without reading it.
type layer struct {
	key     string
	entries []entry
}

// entry is a directory, a symbolic link, or a file with given content or that of a file on this machine.
type entry struct {
	name     string
	mode     int64
	uid, gid int
	dir      bool
	link     string
	content  []byte
	source   string
}

// busyboxLayer is a small Unix: all tools of busybox, the users root and consul, and the folders of Consul's public
// image.
func busyboxLayer(ctx context.Context) (layer, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return layer{}, fmt.Errorf("making images: %w", err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return layer{}, fmt.Errorf("making images: %w", err)
	}
	applets, err := run(ctx, path, "--list")
	if err != nil {
		return layer{}, fmt.Errorf("making images: %w", err)
	}
	l := layer{key: fmt.Sprintf("busybox %x", sha256.Sum256(program))}
	for _, d := range []string{"bin", "etc", "root", "usr", "usr/bin", "usr/local", "usr/local/bin", "var", "var/run"} {
		l.entries = append(l.entries, entry{name: d, dir: true, mode: 0o755})
	}
	l.entries = append(
		l.entries,
		entry{name: "tmp", dir: true, mode: 0o1777},
		entry{name: "consul", dir: true, mode: 0o755, uid: consulUID, gid: consulGID},
		entry{name: "consul/data", dir: true, mode: 0o755, uid: consulUID, gid: consulGID},
		entry{name: "consul/config", dir: true, mode: 0o755, uid: consulUID, gid: consulGID},
		entry{
			name:    "etc/passwd",
			mode:    0o644,
			content: []byte("root:x:0:0:root:/root:/bin/sh\nconsul:x:100:1000:consul:/consul:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
		},
		entry{name: "etc/group", mode: 0o644, content: []byte("root:x:0:\nconsul:x:1000:consul\nnobody:x:65534:\n")},
		entry{name: "bin/busybox", mode: 0o755, content: program},
	)
	for applet := range strings.FieldsSeq(applets) {
		if applet != "busybox" {
			l.entries = append(l.entries, entry{name: "bin/" + applet, link: "/bin/busybox"})
		}
	}
	return l, nil
}

// machineLayer has programs of this machine with their libraries, by their path in the image, with their name on this
// machine.
func machineLayer(ctx context.Context, programs map[string]string) (layer, error) {
	l := layer{key: "machine"}
	there := map[string]bool{}
	add := func(name, source string) error {
		if name = strings.TrimPrefix(name, "/"); there[name] {
			return nil
		}
		there[name] = true
		content, err := os.ReadFile(source)
		if err != nil {
			return fmt.Errorf("making images: %w", err)
		}
		l.key += fmt.Sprintf(" %s %x", name, sha256.Sum256(content))
		l.entries = append(l.entries, entry{name: name, mode: 0o755, content: content})
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		path, err := exec.LookPath(programs[name])
		if err != nil {
			return layer{}, fmt.Errorf("making images: %w", err)
		}
		libraries, err := run(ctx, "ldd", path)
		if err != nil {
			return layer{}, fmt.Errorf("making images: %w", err)
		}
		if err := add(name, path); err != nil {
			return layer{}, err
		}
		for word := range strings.FieldsSeq(libraries) { // name => path (address)
			if filepath.IsAbs(word) {
				if err := add(word, word); err != nil {
					return layer{}, err
				}
			}
		}
	}
	return l, nil
}

// The user and group of Consul's public image.
const (
	consulUID = 100
	consulGID = 1000
)

// consulEntrypoint does what the entrypoint of Consul's public image does with arguments only: `agent -dev` means
// `consul agent -dev`.
//
//go:embed docker-entrypoint.sh
var consulEntrypoint string

func programLayer(b binary, name string) layer {
	return layer{key: b.key, entries: []entry{{name: name, mode: 0o755, source: b.path}}}
}

// consulImageSpec is the content of the image of a Consul version. It builds that version, unless the cache has it.
func (c *Cluster) consulImageSpec(ctx context.Context, version string) (imageSpec, error) {
	built, err := consulFamily(version).build(ctx, c.progress)
	if err != nil {
		return imageSpec{}, err
	}
	base, err := busyboxLayer(ctx)
	if err != nil {
		return imageSpec{}, err
	}
	curl, err := machineLayer(ctx, map[string]string{"bin/curl": "curl"}) // Consul's public image has it too
	if err != nil {
		return imageSpec{}, err
	}
	l := programLayer(built["consul"], "bin/consul")
	l.entries = append(l.entries, entry{name: "usr/local/bin/docker-entrypoint.sh", mode: 0o755, content: []byte(consulEntrypoint)})
	return imageSpec{
		reference: ConsulImage(version), layers: []layer{base, curl, l},
		entrypoint: []string{"docker-entrypoint.sh"}, command: []string{"agent", "-dev", "-client", "0.0.0.0"},
	}, nil
}

// buildImages returns the tar files of all images of a cluster with these Consul versions, from the cache if they are
// up to date.
func (c *Cluster) buildImages(ctx context.Context, consulVersions []string) ([]image, error) {
	base, err := busyboxLayer(ctx)
	if err != nil {
		return nil, err
	}
	specs := []imageSpec{
		// containerd refuses the image of a sandbox without an entrypoint, which only has to keep running.
		{reference: pauseImage, layers: []layer{base}, entrypoint: []string{"/bin/sleep", "2147483647"}},
		{reference: BusyboxImage, layers: []layer{base}, command: []string{"sh"}},
	}
	for _, version := range consulVersions {
		spec, err := c.consulImageSpec(ctx, version)
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	built, err := buildFamilies(ctx, c.progress, coreDNSFamily(), localPathFamily())
	if err != nil {
		return nil, err
	}
	specs = append(
		specs,
		imageSpec{
			reference:  coreDNSImage,
			layers:     []layer{base, programLayer(built["coredns"], "bin/coredns")},
			entrypoint: []string{"/bin/coredns"},
		},
		imageSpec{
			reference: localPathImage, entrypoint: []string{"/bin/local-path-provisioner"},
			layers: []layer{base, programLayer(built["local-path-provisioner"], "bin/local-path-provisioner")},
		},
	)
	var images []image
	for _, s := range specs {
		i, err := s.cached(ctx, c.progress)
		if err != nil {
			return nil, err
		}
		images = append(images, i)
	}
	return images, nil
}

// key identifies the image's content.
func (s imageSpec) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%q\n%q\n%q\n%q\n%s\n", imageLayout, s.reference, s.entrypoint, s.command, s.env, s.workdir, runtime.GOARCH)
	for _, l := range s.layers {
		fmt.Fprintf(h, "%s\n", l.key)
		for _, e := range l.entries {
			fmt.Fprintf(h, "%s %o %d %d %q %x\n", e.name, e.mode, e.uid, e.gid, e.link, sha256.Sum256(e.content))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// cached returns the tar file of the image, and writes it if the cache lacks it.
func (s imageSpec) cached(ctx context.Context, p *progress) (image, error) {
	name := strings.NewReplacer("/", "_", ":", "_").Replace(s.reference)
	path, err := cacheDir("images", name+"-"+s.key()[:16]+".tar")
	if err != nil {
		return image{}, err
	}
	if _, err := os.Stat(path); err == nil {
		return image{reference: s.reference, path: path}, nil
	}
	err = p.step(ctx, "image "+s.reference, func(context.Context) error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		tmp, err := os.CreateTemp(filepath.Dir(path), ".image-*")
		if err != nil {
			return err
		}
		defer os.Remove(tmp.Name())
		defer tmp.Close()
		if err := s.write(tmp); err != nil {
			return err
		}
		if err := tmp.Close(); err != nil {
			return err
		}
		if err := os.Rename(tmp.Name(), path); err != nil {
			return err
		}
		// Images of the same name with another key are no longer needed.
		old, _ := filepath.Glob(filepath.Join(filepath.Dir(path), name+"-*.tar"))
		for _, o := range old {
			if o != path {
				os.Remove(o)
			}
		}
		return nil
	})
	return image{reference: s.reference, path: path}, err
}

// write writes the image as a docker archive: a manifest, the configuration of the image, and one tar file per layer.
func (s imageSpec) write(w io.Writer) error {
	out := tar.NewWriter(w)
	var digests, names []string
	for _, l := range s.layers {
		digest, err := l.writeTo(out)
		if err != nil {
			return fmt.Errorf("writing a layer of %s: %w", s.reference, err)
		}
		digests = append(digests, "sha256:"+digest)
		names = append(names, digest+"/layer.tar")
	}
	config, err := json.Marshal(s.config(digests))
	if err != nil {
		return err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{s.reference}, "Layers": names}})
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{configName: config, "manifest.json": manifest} {
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
	return out.Close()
}

// config is the image's configuration, in Docker's format.
func (s imageSpec) config(digests []string) map[string]any {
	history := make([]map[string]string, len(digests))
	for i := range history {
		history[i] = map[string]string{"created_by": "localcluster"}
	}
	return map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config": map[string]any{
			"Env":        append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, s.env...),
			"Entrypoint": s.entrypoint,
			"Cmd":        s.command,
			"WorkingDir": s.workdir,
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": digests},
		"history": history,
	}
}

// writeTo adds the layer to an archive and returns its digest, which is also its name there. The layer is first
// written to a temporary file, because the archive needs its name and size before its first byte, and it can be too
// large for memory.
func (l layer) writeTo(out *tar.Writer) (digest string, err error) {
	tmp, err := os.CreateTemp("", "localcluster-layer-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	hash := sha256.New()
	inner := tar.NewWriter(io.MultiWriter(tmp, hash))
	for _, e := range l.entries {
		if err := e.writeTo(inner); err != nil {
			return "", fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if err := inner.Close(); err != nil {
		return "", err
	}
	size, err := tmp.Seek(0, io.SeekCurrent)
	if err != nil {
		return "", err
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	digest = hex.EncodeToString(hash.Sum(nil))
	if err := out.WriteHeader(&tar.Header{Name: digest + "/layer.tar", Mode: 0o644, Size: size}); err != nil {
		return "", err
	}
	_, err = io.Copy(out, tmp)
	return digest, err
}

func (e entry) writeTo(w *tar.Writer) error {
	header := &tar.Header{Name: e.name, Mode: e.mode, Uid: e.uid, Gid: e.gid, Typeflag: tar.TypeReg, Size: int64(len(e.content))}
	var content io.Reader = bytes.NewReader(e.content)
	switch {
	case e.dir:
		header.Typeflag, header.Name = tar.TypeDir, e.name+"/"
	case e.link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, e.link, 0o777
	case e.source != "":
		f, err := os.Open(e.source)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		header.Size, content = info.Size(), f
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	n, err := io.Copy(w, content)
	if err == nil && n != header.Size {
		err = errors.New("the file changed while it was read")
	}
	return err
}
