package localcluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

const quickstartDir = "../../../examples/quickstart"

// runQuickstart runs a copy of the quickstart's script beside a configuration, with stand-ins that do nothing, and
// returns the calls of the local cluster.
func runQuickstart(t *testing.T, command, configuration string, upFails bool) (calls string, err error) {
	t.Helper()
	root, bin := t.TempDir(), t.TempDir()
	script, err := os.ReadFile(filepath.Join(quickstartDir, "quickstart.sh"))
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, log := filepath.Join(root, ".local", "kubeconfig"), filepath.Join(root, "log")
	for path, text := range map[string]string{
		"examples/quickstart/quickstart.sh":   string(script),
		"examples/quickstart/main.tf":         configuration,
		"bin/terraform-provider-consul-k8s":   "",
		filepath.Join(".local", "kubeconfig"): "",
	} {
		if err := writeFile(filepath.Join(root, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	up := "echo " + kubeconfig
	if upFails {
		up = "exit 1"
	}
	scripttest.Write(t, filepath.Join(bin, "go"), `#!/bin/sh
[ "$1" = run ] || exit 0
shift 2
echo "$@" >>`+log+`
case $1 in
up) `+up+` ;;
cli) echo `+bin+`/terraform ;;
esac
`)
	scripttest.Write(t, filepath.Join(bin, "make"), "#!/bin/sh\n")
	scripttest.Write(t, filepath.Join(bin, "terraform"), "#!/bin/sh\necho \"terraform $1 $KUBE_CONFIG_PATH\" >>"+log+"\n")
	t.Setenv("KUBE_CONFIG_PATH", "")
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	out, err := exec.CommandContext(t.Context(), "sh", filepath.Join(root, "examples/quickstart/quickstart.sh"), command).CombinedOutput()
	t.Logf("%s", out)
	data, readErr := os.ReadFile(log)
	if readErr != nil {
		t.Fatal(readErr)
	}
	return strings.ReplaceAll(string(data), kubeconfig, "KUBECONFIG"), err
}

func TestQuickstart_buildsTheVersionsThatItDeclares(t *testing.T) {
	main, err := os.ReadFile(filepath.Join(quickstartDir, "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	const other = "\nresource \"consul_k8s_cluster\" \"other\" {\n  name    = \"other\"\n  version = \"1.21.0\" # older\n}\n\nmodule \"m\" " +
		"{\n  version = \"3.0.0\"\n}\n"
	for name, test := range map[string]struct{ command, configuration, want string }{
		"as it is":     {"up", string(main), "up -kubeconfig KUBECONFIG -consul=1.22.7\n"},
		"two clusters": {"up", string(main) + other, "up -kubeconfig KUBECONFIG -consul=1.22.7,1.21.0\n"},
		"a variable":   {"up", strings.Replace(string(main), `"1.22.7"`, "var.consul", 1), "up -kubeconfig KUBECONFIG\n"},
		"an expression": {"up", strings.Replace(string(main), `"1.22.7"`, `"${var.line}.7"`, 1),
			"up -kubeconfig KUBECONFIG\n"},
		"to destroy it": {"down", string(main), "up -kubeconfig KUBECONFIG -consul=\n"},
	} {
		t.Run(name, func(t *testing.T) {
			calls, err := runQuickstart(t, test.command, test.configuration, false)
			if err != nil {
				t.Error(err)
			}
			does := map[string]string{"up": "terraform apply KUBECONFIG\n", "down": "terraform destroy KUBECONFIG\n"}[test.command]
			if !strings.HasPrefix(calls, test.want) || !strings.Contains(calls, does) {
				t.Errorf("it ran\n%s\nand not\n%s…\n%s", calls, test.want, does)
			}
		})
	}
}

func TestQuickstart_endsIfTheLocalClusterFails(t *testing.T) {
	if calls, err := runQuickstart(t, "up", "", true); err == nil || strings.Contains(calls, "terraform") {
		t.Errorf("it went on: %s%v", calls, err)
	}
}
