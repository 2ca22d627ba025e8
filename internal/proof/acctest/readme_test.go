package acctest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// The sample in the README is what a newcomer applies first: it needs nothing but a Kubernetes cluster. The only
// namespace that it names is the one that it creates.
func TestREADME_theSampleNeedsNothingElse(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(acctest.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, sample, _ := strings.Cut(string(text), "```hcl\n")
	sample, _, found := strings.Cut(sample, "```")
	if !found || !strings.Contains(sample, "create_namespace = true") {
		t.Fatalf("there is no sample that creates its namespace: %q", sample)
	}
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`\bnamespace\s*=\s*"([^"]*)"`).FindAllStringSubmatch(sample, -1) {
		names[m[1]] = true
	}
	if len(names) != 1 {
		t.Errorf("it names the namespaces %v, and creates one", names)
	}
}
