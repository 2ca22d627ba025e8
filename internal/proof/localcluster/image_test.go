package localcluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// readTar returns the headers and the contents of a tar file by name.
func readTar(t *testing.T, r io.Reader) (map[string]*tar.Header, map[string][]byte) {
	t.Helper()
	headers, contents := map[string]*tar.Header{}, map[string][]byte{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		headers[h.Name], contents[h.Name] = h, data
	}
}

func TestImage_isAValidDockerArchive(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := imageSpec{
		reference: "example.com/some/image:1", entrypoint: []string{"/bin/program"},
		layers: []layer{
			{entries: []entry{
				{name: "tmp", dir: true, mode: 0o1777},
				{name: "data", dir: true, mode: 0o755, uid: consulUID, gid: consulGID},
				{name: "etc/passwd", mode: 0o644, content: []byte("root")},
				{name: "bin/sh", link: "/bin/busybox"},
			}},
			programLayer(binary{path: program, key: "k"}, "bin/program"),
		},
	}
	var archive bytes.Buffer
	if err := spec.write(&archive); err != nil {
		t.Fatal(err)
	}
	_, contents := readTar(t, &archive)

	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(contents["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || len(manifest[0].RepoTags) != 1 || manifest[0].RepoTags[0] != spec.reference || len(manifest[0].Layers) != 2 {
		t.Fatalf("manifest is %s", contents["manifest.json"])
	}
	var config struct {
		Config struct{ Entrypoint []string }
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(contents[manifest[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	if len(config.Config.Entrypoint) != 1 {
		t.Error("the entrypoint is missing, without which an image cannot serve as a sandbox")
	}
	for i, name := range manifest[0].Layers {
		if want := fmt.Sprintf("sha256:%x", sha256.Sum256(contents[name])); config.RootFS.DiffIDs[i] != want {
			t.Errorf("diff_ids[%d] is %s, but the layer's digest is %s", i, config.RootFS.DiffIDs[i], want)
		}
	}

	headers, files := readTar(t, bytes.NewReader(contents[manifest[0].Layers[0]]))
	if h := headers["tmp/"]; h == nil || h.Typeflag != tar.TypeDir || h.Mode != 0o1777 {
		t.Errorf("tmp/ is %+v", h)
	}
	if h := headers["data/"]; h == nil || h.Uid != consulUID || h.Gid != consulGID {
		t.Errorf("data/ is %+v", h)
	}
	if h := headers["bin/sh"]; h == nil || h.Typeflag != tar.TypeSymlink || h.Linkname != "/bin/busybox" {
		t.Errorf("bin/sh is %+v", h)
	}
	if string(files["etc/passwd"]) != "root" {
		t.Errorf("etc/passwd holds %q", files["etc/passwd"])
	}
	headers, files = readTar(t, bytes.NewReader(contents[manifest[0].Layers[1]]))
	if h := headers["bin/program"]; h == nil || h.Mode != 0o755 || string(files["bin/program"]) != "a program" {
		t.Errorf("bin/program is %+v with %q", h, files["bin/program"])
	}
}

func TestImage_keyFollowsContent(t *testing.T) {
	keyAfter := func(change func(*imageSpec)) string {
		s := imageSpec{reference: "r", layers: []layer{{key: "l", entries: []entry{{name: "f", mode: 0o644, content: []byte("x")}}}}}
		change(&s)
		return s.key()
	}
	same := keyAfter(func(*imageSpec) {})
	if same != keyAfter(func(*imageSpec) {}) {
		t.Error("equal images have different keys")
	}
	for name, change := range map[string]func(*imageSpec){
		"reference":  func(s *imageSpec) { s.reference = "q" },
		"entrypoint": func(s *imageSpec) { s.entrypoint = []string{"e"} },
		"layer":      func(s *imageSpec) { s.layers[0].key = "m" },
		"content":    func(s *imageSpec) { s.layers[0].entries[0].content = []byte("y") },
		"mode":       func(s *imageSpec) { s.layers[0].entries[0].mode = 0o600 },
		"owner":      func(s *imageSpec) { s.layers[0].entries[0].uid = 1 },
	} {
		if keyAfter(change) == same {
			t.Errorf("another %s gives the same key, so a stale image would be used", name)
		}
	}
}
