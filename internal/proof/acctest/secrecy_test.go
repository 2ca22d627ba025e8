package acctest

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// A secret ID is found in a log, a state, a plan, and its JSON, but not in the configuration of a test.
func TestSecretIDs_leaks(t *testing.T) {
	key := strings.Repeat("0123456789abcdef", 4) // a line of a private key
	const id, other = "8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55", "8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e56"
	archive := func(name, text string) string {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for n, content := range map[string]string{name: text, "more": strings.Repeat(other+" ", 50)} {
			part, err := w.Create(n)
			if err == nil {
				_, err = part.Write([]byte(content))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	clean := map[string]string{"a/tfplan": archive("tfplan", other), "a/terraform.tfstate": `{"id": "` + other + `"}`}
	for name, test := range map[string]struct {
		path, text string
		leaks      bool
	}{
		"nothing":               {"log", other, false},
		"a log":                 {"log", "token=" + id + ".", true},
		"a config in a log":     {"log", `  | secret_id_wo = "` + id + `"`, false},
		"a state":               {"b/terraform.tfstate", `{"id": "` + id + `"}`, true},
		"a plan":                {"b/tfplan", archive("tfplan", id), true},
		"a plan's config":       {"b/tfplan", archive("tfconfig/m-/main.tf", id), false},
		"a plan as JSON":        {"b/printed", `{"planned_values": {"x": "` + id + `"}}`, true},
		"its config":            {"b/printed", `{"planned_values": {}, "configuration": {"x": "` + id + `"}}`, false},
		"what a command prints": {"b/printed", "id = " + id, true},
		"a private key":         {"log", "-----\n" + key + "\nAAAA", true},
		"one in JSON":           {"b/terraform.tfstate", `{"key": "-----\n` + key + `\nAAAA"}`, true},
		"a certificate":         {"b/terraform.tfstate", `{"key": "-----\n` + strings.Repeat("A", 64) + `\nAAAA"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, text := range mergeFiles(clean, map[string]string{test.path: test.text}) {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := (&secretIDs{seen: map[string]string{id: "ns/name:key", key: "ns/name:key"}}).leaks(dir)
			if (err != nil) != test.leaks ||
				(err != nil && (!strings.Contains(err.Error(), test.path+" contains the secret ID of ns/name:key") || strings.Contains(err.Error(), id))) {
				t.Errorf("it is %v", err)
			}
		})
	}
	ids, dir := &secretIDs{seen: map[string]string{id: "ns/name:key"}}, t.TempDir()
	if err := ids.leaks(dir); err != nil {
		t.Errorf("no test ran Terraform: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "run-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if ids.leaks(dir) == nil {
		t.Error("a run that left no state and no plan is not an error")
	}
}

// A recorded run has the output, the exit code, and the files of the CLI.
func TestRecordRuns(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	cli := filepath.Join(t.TempDir(), "tofu")
	scripttest.Write(t, cli, "#!/bin/sh\necho \"printed $2\"\necho state >terraform.tfstate\nexit 3\n")
	t.Setenv("TF_ACC_TERRAFORM_PATH", cli)
	if err := recordRuns(dir); err != nil {
		t.Fatal(err)
	}
	script := os.Getenv("TF_ACC_TERRAFORM_PATH")
	cmd := exec.CommandContext(t.Context(), script, "plan", "with  blanks")
	cmd.Dir = work
	out, _ := cmd.Output()
	if string(out) != "printed with  blanks\n" || cmd.ProcessState.ExitCode() != 3 || filepath.Base(script) != "tofu" {
		t.Errorf("%s printed %q and ended with exit code %d", script, out, cmd.ProcessState.ExitCode())
	}
	for name, want := range map[string]string{"printed": string(out), "terraform.tfstate": "state\n"} {
		found, err := filepath.Glob(filepath.Join(dir, "run-*", name))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v, %v", name, found, err)
		}
		if got, err := os.ReadFile(found[0]); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
}
