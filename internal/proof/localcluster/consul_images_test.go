package localcluster

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// fakeMachine puts stand-ins on the PATH for the programs in the images, and for the client of containerd, which
// keeps the images of each node in a file. A build fails. It returns a cluster without processes, and the folder of
// these files.
func fakeMachine(t *testing.T) (c *Cluster, nodeImages string) {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(dirVariable, t.TempDir())
	bin, nodeImages := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"busybox": "echo sh",
		"curl":    "",
		"ldd":     "",
		"go":      "echo 'nothing is built here' >&2; exit 1",
		// ctr --address SOCKET --namespace k8s.io images list|import …
		"ctr": `node=` + nodeImages + `/$(basename "$(dirname "$2")")
case "$5 $6" in
"images list") cat "$node" 2>/dev/null || : ;;
"images import") echo "$(tar -xOf "$7" manifest.json | sed 's/.*"RepoTags":\["\([^"]*\)".*/\1/')" >>"$node" ;;
*) exit 1 ;;
esac`,
	} {
		scripttest.Write(t, filepath.Join(bin, name), "#!/bin/sh\n"+text+"\n")
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	c, err := New(testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	return c, nodeImages
}

func TestBuildImages_onlyOfTheVersionsAskedFor(t *testing.T) {
	c, _ := fakeMachine(t)
	fillCache(t, consulFamily("1.22.7"), coreDNSFamily(), localPathFamily())
	consul := func(versions ...string) (references []string) {
		t.Helper()
		images, err := c.buildImages(t.Context(), versions)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range images {
			if strings.HasPrefix(i.reference, ConsulImage("")) {
				references = append(references, i.reference)
			}
		}
		return references
	}
	if got := consul("1.22.7"); !slices.Equal(got, []string{ConsulImage("1.22.7")}) {
		t.Errorf("for one version, the images are %v", got)
	}
	if got := consul(); len(got) > 0 {
		t.Errorf("for no version, the images are %v", got)
	}
	if _, err := c.buildImages(t.Context(), ConsulVersions()); err == nil || !strings.Contains(err.Error(), "nothing is built here") {
		t.Errorf("the version that is not in the cache was not built: %v", err)
	}
}

func TestAddMissingConsul_loadsWhatANodeLacks(t *testing.T) {
	c, nodeImages := fakeMachine(t)
	fillCache(t, consulFamily("1.21.0"), consulFamily("1.22.7"))
	file := func(node string) string { return filepath.Join(nodeImages, node) }
	add := func(versions ...string) {
		t.Helper()
		if err := c.addMissingConsul(t.Context(), versions); err != nil {
			t.Fatal(err)
		}
	}
	// The files list each load: an image that was loaded twice is listed twice.
	expect := func(node string, versions ...string) {
		t.Helper()
		data, _ := os.ReadFile(file(node))
		var want []string
		for _, v := range versions {
			want = append(want, ConsulImage(v))
		}
		if got := strings.Fields(string(data)); !slices.Equal(got, want) {
			t.Errorf("%s loaded %v, not %v", node, got, want)
		}
	}

	add()
	expect("node-1")
	add("1.22.7")
	for _, n := range Nodes() {
		expect(n, "1.22.7")
	}
	add(ConsulVersions()...)
	add(ConsulVersions()...)
	add("1.22.7")
	for _, n := range Nodes() {
		expect(n, "1.22.7", "1.21.0")
	}

	if err := os.Remove(file("node-2")); err != nil {
		t.Fatal(err)
	}
	add("1.21.0")
	expect("node-2", "1.21.0")

	// A stopped node cannot be asked, and another test may have stopped it.
	n, err := nodeByName("node-3")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.recordAbsence(n, true); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file("node-3")); err != nil {
		t.Fatal(err)
	}
	add("1.21.0")
	expect("node-3")
}

func TestUpWith_refusesAVersionWithoutARecipeBeforeItBuilds(t *testing.T) {
	c, _ := fakeMachine(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing must happen on this machine if the version is not refused
	if err := c.UpWith(ctx, "1.22.7", "0.0.1"); err == nil || !strings.Contains(err.Error(), "no recipe to build consul 0.0.1") {
		t.Errorf("the error is %v", err)
	}
}
