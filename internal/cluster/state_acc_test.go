package cluster_test

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1 "k8s.io/client-go/applyconfigurations/core/v1"
	policyv1 "k8s.io/client-go/applyconfigurations/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

var updateState = flag.Bool("update-state", false, "write testdata/state again, after a change that the changelog tells users about")

// A new version of the provider reads the state and the objects that an earlier one wrote, and plans nothing: no
// object is rendered differently, and no server restarts.
func TestAccCluster_theStateOfAnEarlierCommitPlansNothing(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	const namespace = "an-earlier-state" // node IDs depend on it
	state := filepath.Join("testdata", "state", "current")
	if *updateState {
		cli := acctest.NewCLI(t, map[string]string{"main.tf": readFile(t, state, "main.tf")})
		cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
		cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
		for name, text := range map[string]string{"objects.yaml": appliedObjects(t, namespace), "state.json": cli.State()} {
			if err := os.WriteFile(filepath.Join(state, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
		return
	}
	cli := replay(t, state, namespace)
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 0 {
		t.Errorf("the plan is not empty (exit code %d):\n%s", code, out)
	}
	before := runs(t, namespace)
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if gone := restarted(before, runs(t, namespace)); len(gone) > 0 {
		t.Errorf("restarted %q", gone)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// A server that a version of the provider made which did not restart servers in place gets a new pod once.
func TestAccCluster_replacesThePodsOfAnEarlierVersionOnce(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	const namespace = "an-earlier-commit" // node IDs depend on it
	cli := replay(t, filepath.Join("testdata", "state", "without-restarts-in-place"), namespace)
	if out := cli.Must(t.Context(), "plan", "-no-color"); !acctest.Says("restart consul-server-0 with a new pod").MatchString(out) {
		t.Errorf("the plan does not say that the server gets a new pod:\n%s", out)
	}
	before := runs(t, namespace)
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if gone := restarted(before, runs(t, namespace)); len(gone) != 1 {
		t.Errorf("restarted %q", gone)
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replay creates a cluster from the objects in a folder, with the state and the configuration there.
func replay(t *testing.T, folder, namespace string) *acctest.CLI {
	t.Helper()
	established := readFile(t, folder, "objects.yaml")
	// As in a create: a server without data elects itself only if the cluster is not established.
	applyAs(
		t,
		server.ManagedBy,
		configKey.ReplaceAllString(strings.Replace(established, "  established: \"true\"\n", "", 1), "${0}      \"bootstrap_expect\": 1,\n"),
	)
	acctest.Wait(t, "the server to vote", func(ctx context.Context) (string, error) {
		return consul.Missing(ctx, acctest.Consul(t, namespace, "consul"), "", 1, 0)
	})
	autopilot := server.Autopilot{
		CleanupDeadServers:      true,
		LastContactThreshold:    200 * time.Millisecond,
		MaxTrailingLogs:         250,
		ServerStabilizationTime: 2 * time.Second,
	}
	if err := consul.SetAutopilot(t.Context(), acctest.Consul(t, namespace, "consul"), "", autopilot, 1); err != nil {
		t.Fatal(err)
	}
	applyAs(t, server.ManagedBy, established)
	cli := acctest.NewCLI(t, map[string]string{"main.tf": readFile(t, folder, "main.tf")})
	cli.Write("terraform.tfstate", readFile(t, folder, "state.json"))
	return cli
}

// configKey is the line with the key of the configuration that all servers share, and the line after it.
var configKey = regexp.MustCompile(`(?m)^  server-[0-9a-f]{16}\.json: \|\n    \{\n`)

// applyAs applies the documents of a YAML text with a field manager.
func applyAs(t *testing.T, fieldManager, text string) {
	t.Helper()
	k := acctest.KubeAs(t, fieldManager)
	for document := range strings.SplitSeq(text, "\n---\n") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatal(err)
		}
		if err := k.Apply(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// appliedObjects are the objects of a cluster as the provider applied them: the fields that its field manager owns.
func appliedObjects(t *testing.T, namespace string) string {
	t.Helper()
	k, ctx, name := acctest.Kube(t), t.Context(), server.StatefulSetName("consul")
	var documents []string
	add := func(o any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(o)
		if err == nil {
			b, err = yaml.JSONToYAML(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, string(b))
	}
	ns, err := k.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	add(corev1.ExtractNamespace(ns, server.ManagedBy))
	account, err := k.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	add(corev1.ExtractServiceAccount(account, server.ManagedBy))
	config, err := k.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	add(corev1.ExtractConfigMap(config, server.ManagedBy))
	for _, service := range []string{name, server.ClientServiceName("consul")} {
		s, err := k.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		add(corev1.ExtractService(s, server.ManagedBy))
	}
	budget, err := k.PolicyV1().PodDisruptionBudgets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	add(policyv1.ExtractPodDisruptionBudget(budget, server.ManagedBy))
	sts, err := k.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	add(appsv1.ExtractStatefulSet(sts, server.ManagedBy))
	return strings.Join(documents, "---\n")
}
