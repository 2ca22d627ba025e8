package acctest

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Refusal is a configuration that a plan refuses, and what the error contains, as in [Says].
type Refusal struct {
	Config, Says string
}

// ExpectRefusals plans all configurations together, each as its own module, and checks that each is refused with its
// error. They share the provider that root configures, unless they have their own provider block. None has a block
// "terraform".
func ExpectRefusals(t *testing.T, root string, refusals []Refusal) {
	t.Helper()
	file := func(i int) string { return fmt.Sprintf("case%d.tf", i) }
	files := map[string]string{"main.tf": RequiredProviders + root}
	for i, r := range refusals {
		files[file(i)] = fmt.Sprintf("module \"case%d\" {\n  source = \"./case%d\"\n}\n", i, i)
		files[fmt.Sprintf("case%d/main.tf", i)] = RequiredProviders + r.Config
	}
	cli := NewCLI(t, files)
	cli.Must(t.Context(), "get")
	refused := map[int]bool{}
	for again := true; again; { // Terraform validates all resources before it plans the first
		again = false
		out, _ := cli.Run(t.Context(), "plan", "-json")
		for module, text := range planErrors(out) {
			i, err := strconv.Atoi(strings.TrimPrefix(module, "case"))
			if err != nil {
				t.Fatalf("an error of none of the configurations: %s", text)
			}
			if r := refusals[i]; !Says(r.Says).MatchString(text) {
				t.Errorf("the plan does not say %q, but:\n%s\nof:\n%s", r.Says, text, r.Config)
			}
			again = again || !refused[i]
			refused[i] = true
			cli.Write(file(i), "")
		}
	}
	for i, r := range refusals {
		if !refused[i] {
			t.Errorf("it is not refused (%q):\n%s", r.Says, r.Config)
		}
	}
}

// planErrors are the errors in the output of "plan -json", by module.
func planErrors(out string) map[string]string {
	errors := map[string]string{}
	for line := range strings.Lines(out) {
		var message struct {
			Diagnostic struct {
				Severity, Summary, Detail, Address string
				Range                              struct{ Filename string }
			}
		}
		if json.Unmarshal([]byte(line), &message) != nil || message.Diagnostic.Severity != "error" {
			continue
		}
		d := message.Diagnostic
		module, _, _ := strings.Cut(strings.TrimPrefix(d.Address, "module."), ".")
		if d.Range.Filename != "" {
			module = filepath.Dir(d.Range.Filename)
		}
		errors[module] += d.Summary + "\n" + d.Detail + "\n"
	}
	return errors
}
