package localcluster

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// fillCache writes a text to the cache in place of each program of the families, as if they were built.
func fillCache(t *testing.T, families ...family) {
	t.Helper()
	for _, f := range families {
		for _, name := range f.names() {
			key, err := f.key(name)
			if err != nil {
				t.Fatal(err)
			}
			path, err := cacheDir(f.name+"-"+f.version, name)
			if err != nil {
				t.Fatal(err)
			}
			for path, text := range map[string]string{path: name + " " + f.version, path + ".key": key} {
				if err := writeFile(path, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestCLI_takesTheFirstOnThePathThatIsNewEnough(t *testing.T) {
	says := func(version string) string {
		return "#!/bin/sh\n[ \"$*\" = 'version -json' ] && echo '{\"terraform_version\": \"" + version + "\"}'\n"
	}
	for name, test := range map[string]struct{ terraform, tofu, want, line string }{
		"both":                   {says("1.11.0"), says("1.12.0"), "terraform", ""},
		"only terraform":         {says("1.20.1"), "", "terraform", ""},
		"only tofu":              {"", says("1.11.0"), "tofu", ""},
		"an old terraform":       {says("1.5.7"), says("1.12.0"), "tofu", "it is version 1.5.7, and 1.11.0 or later is needed"},
		"a preview of terraform": {says("1.11.0-rc1"), says("1.12.0"), "tofu", "it is version 1.11.0-rc1"},
		"two old ones":           {says("1.5.7"), says("1.10.9"), "built", "it is version 1.10.9"},
		"a wrapper of nothing":   {"#!/bin/sh\necho 'no version is set' >&2\nexit 1\n", says("1.12.0"), "tofu", "no version is set"},
		"something else":         {"#!/bin/sh\necho Terraform v0.12.0\n", "", "built", "reading its version"},
		"neither":                {"", "", "built", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			fillCache(t, openTofuFamily())
			built, err := cacheDir("opentofu-"+openTofuVersion, "tofu")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			t.Setenv("PATH", dir)
			for program, text := range map[string]string{"terraform": test.terraform, "tofu": test.tofu} {
				if text != "" {
					scripttest.Write(t, filepath.Join(dir, program), text)
				}
			}
			var out bytes.Buffer
			path, isOpenTofu, err := CLI(t.Context(), &out, MinimumCLI)
			if err != nil {
				t.Fatal(err)
			}
			want := filepath.Join(dir, test.want)
			if test.want == "built" {
				want = built
			}
			if path != want || isOpenTofu != (test.want != "terraform") {
				t.Errorf("it is %s, OpenTofu: %v; want %s", path, isOpenTofu, want)
			}
			if !strings.Contains(out.String(), test.line) {
				t.Errorf("it does not say %q:\n%s", test.line, out.String())
			}
		})
	}
	t.Run("a lower minimum", func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv("PATH", dir)
		scripttest.Write(t, filepath.Join(dir, "terraform"), says("1.5.7"))
		if path, _, err := CLI(t.Context(), nil, "1.2.0"); err != nil || path != filepath.Join(dir, "terraform") {
			t.Errorf("it is %q, %v", path, err)
		}
	})
	if _, _, err := CLI(t.Context(), nil, "one"); err == nil {
		t.Error("a minimum that is no version is no error")
	}
}
