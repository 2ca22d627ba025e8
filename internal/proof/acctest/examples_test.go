package acctest_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

func TestMain(m *testing.M) { acctest.Main(m, acctest.BackupImages) }

// Every example of the documentation, and the quickstart, is applied as printed. The next plan is empty, the state
// does not contain the management token, and the example can be destroyed. The test only changes what would make two
// examples collide or prevent the cleanup.
func TestAccExamples(t *testing.T) {
	acctest.PreCheck(t)
	root := filepath.Join(acctest.Root(t), "examples")
	examples := map[string][]string{} // by folder
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".tf") {
			dir, relErr := filepath.Rel(root, filepath.Dir(path))
			examples[dir] = append(examples[dir], path)
			return relErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(examples) < 4 {
		t.Fatalf("only %d examples were found", len(examples))
	}
	for dir, paths := range examples {
		t.Run(strings.ReplaceAll(dir, string(filepath.Separator), "-"), func(t *testing.T) {
			t.Parallel()
			namespace := acctest.NamespaceName(t)
			files := map[string]string{}
			all := ""
			for _, p := range paths {
				text, err := os.ReadFile(p)
				if err != nil {
					t.Fatal(err)
				}
				all += string(text)
				files[filepath.Base(p)] = prepare(string(text), namespace)
			}
			if !strings.Contains(all, "required_providers") {
				t.Error("it does not declare the provider that it needs")
			}
			if strings.Contains(all, "https://s3.example.com") {
				prepareStore(t, namespace, files)
			}
			cli := acctest.NewCLI(t, files)
			cli.Must(t.Context(), "plan", "-no-color", "-out", "plan") // as CI does
			cli.Must(t.Context(), "apply", "-no-color", "plan")
			if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 0 {
				t.Errorf("the second plan is not empty (exit code %d):\n%s", code, out)
			}
			if !strings.Contains(all, "resource \"consul_k8s_") {
				return
			}
			token, _, err := consulacl.ManagementToken(t.Context(), acctest.Consul(t, namespace, "consul"))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(all, "consul_k8s_acl_bootstrap\"") && token == "" {
				t.Error("there is no management token")
			}
			if token != "" && strings.Contains(cli.State(), token) {
				t.Error("the state holds the management token")
			}
			cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
		})
	}
}

// prepare gives an example its own namespace, and allows its destroy with its data.
func prepare(text, namespace string) string {
	text = strings.ReplaceAll(text, "\"consul/consul\"", "\""+namespace+"/consul\"")
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		f := strings.Fields(l)
		switch {
		case len(f) == 3 && f[0] == "namespace" && f[2] == "\"consul\"":
			lines[i] = strings.Replace(l, "\"consul\"", "\""+namespace+"\"", 1)
		case len(f) > 1 && f[0] == "config_path":
			lines[i] = "config_path = " + strconv.Quote(os.Getenv("KUBE_CONFIG_PATH"))
		}
	}
	return strings.Join(lines, "\n")
}

// prepareStore creates what an example expects: the namespace, the Secret with the credentials, and the store, which
// has another address.
func prepareStore(t *testing.T, namespace string, files map[string]string) {
	t.Helper()
	k := acctest.Kube(t)
	if err := k.Apply(t.Context(), map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": namespace, "labels": map[string]any{"pod-security.kubernetes.io/enforce": "restricted"}},
	}); err != nil {
		t.Fatal(err)
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "restic"}, StringData: acctest.Credentials()}
	if _, err := k.CoreV1().Secrets(namespace).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	url := acctest.StartS3(t, namespace)
	for name, text := range files {
		files[name] = strings.ReplaceAll(text, "https://s3.example.com", url)
	}
}
