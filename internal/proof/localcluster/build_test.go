package localcluster

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFamily_everyRecipeIsEmbedded(t *testing.T) {
	families := append(recipeFamilies(), openTofuFamily(), consulFamily("1.18.2"), consulFamily("1.22.0"))
	for _, f := range families {
		files, err := f.moduleFiles()
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(string(files["go.mod"]), " v"+f.version) {
			t.Errorf("go.mod of %s does not require version %s", f.name, f.version)
		}
	}
	if _, err := consulFamily("0.0.1").moduleFiles(); err == nil || !strings.Contains(err.Error(), "consul 0.0.1") {
		t.Errorf("an unknown version gives the error %v", err)
	}
}

func TestFamily_keyFollowsRecipe(t *testing.T) {
	key := func(f family, name string) string {
		t.Helper()
		k, err := f.key(name)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	f := consulFamily("1.22.7")
	same := key(f, "consul")
	if same != key(consulFamily("1.22.7"), "consul") {
		t.Error("equal recipes have different keys")
	}
	if same == key(consulFamily("1.22.0"), "consul") {
		t.Error("another module gives the same key")
	}
	f.variables = nil
	if same == key(f, "consul") {
		t.Error("other linker flags give the same key")
	}
	k := kubernetesFamily()
	if key(k, "kubelet") == key(k, "kubectl") {
		t.Error("another package gives the same key")
	}
}

func TestFamily_cacheTrustsOnlyStampedBinaries(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	f := consulFamily("1.22.7")
	key, err := f.key("consul")
	if err != nil {
		t.Fatal(err)
	}
	path, err := cacheDir("consul-1.22.7", "consul")
	if err != nil {
		t.Fatal(err)
	}
	stale := func() bool {
		t.Helper()
		_, stale, err := f.cached()
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(stale, "consul")
	}
	if !stale() {
		t.Error("an empty cache is taken for valid")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path, data string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(path, "half a binary")
	if !stale() {
		t.Error("a binary without a stamp, as an interrupted build leaves it, is taken for valid")
	}
	write(path+".key", "another recipe")
	if !stale() {
		t.Error("a binary of another recipe is taken for valid")
	}
	write(path+".key", key)
	if stale() {
		t.Error("an up-to-date binary is not used")
	}
}

func TestBuildEnvironment_dropsWhatWouldChangeTheBuild(t *testing.T) {
	env := buildEnvironment([]string{"HOME=/h", "GOFLAGS=-mod=vendor", "GOWORK=/w", "CGO_ENABLED=1", "GOPROXY=p"})
	for _, want := range []string{"HOME=/h", "GOPROXY=p", "GOFLAGS=-mod=readonly", "GOWORK=off", "CGO_ENABLED=0"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing in %v", want, env)
		}
	}
	for _, not := range []string{"GOFLAGS=-mod=vendor", "GOWORK=/w", "CGO_ENABLED=1"} {
		if slices.Contains(env, not) {
			t.Errorf("%s is still in %v", not, env)
		}
	}
}
