// Package acctest is what acceptance tests share: a real Kubernetes, the provider, and, where it matters, access to
// both that does not use the code of the provider.
package acctest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/localcluster"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/provider"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// ConsulVersion is the version of Consul that most tests run.
const ConsulVersion = "1.22.7"

// OlderVersion is the oldest version that has an image.
const OlderVersion = "1.21.0"

// Main is the TestMain of a package with acceptance tests. With TF_ACC, it ensures that there is a Kubernetes
// cluster, the one of KUBE_CONFIG_PATH or the disposable one of the machine, and a Terraform or OpenTofu. With
// TF_ACC_SECRECY, a folder, everything is logged there, and a secret ID in a log is a failure. prepare runs first on
// the disposable cluster.
func Main(m *testing.M, prepare ...func(context.Context, *localcluster.Cluster) error) {
	if os.Getenv("TF_ACC") != "" {
		if err := setUp(context.Background(), prepare); err != nil {
			fmt.Fprintln(os.Stderr, "acceptance tests:", err)
			os.Exit(1)
		}
	}
	run := m.Run
	if dir := os.Getenv("TF_ACC_SECRECY"); dir != "" {
		run = func() int {
			code, err := runLogged(dir, m.Run)
			if err != nil {
				fmt.Fprintln(os.Stderr, "acceptance tests:", err)
				return 1
			}
			return code
		}
	}
	code := run()
	if err := lent.deleteAll(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "acceptance tests: deleting the clusters that tests shared:", err)
		code = 1
	}
	os.Exit(code)
}

func setUp(ctx context.Context, prepare []func(context.Context, *localcluster.Cluster) error) error {
	if os.Getenv("KUBE_CONFIG_PATH") == "" {
		cluster, err := localcluster.New(os.Stderr)
		if err != nil {
			return err
		}
		if err := cluster.Up(ctx); err != nil {
			return fmt.Errorf("starting the local cluster: %w", err)
		}
		for _, f := range prepare {
			if err := f(ctx, cluster); err != nil {
				return fmt.Errorf("preparing the local cluster: %w", err)
			}
		}
		if err := os.Setenv("KUBE_CONFIG_PATH", cluster.Kubeconfig()); err != nil {
			return err
		}
	}
	// The CLI's warning about a missing configuration file confuses its callers.
	if _, err := os.Stat(os.Getenv("TF_CLI_CONFIG_FILE")); err != nil {
		if err := os.Unsetenv("TF_CLI_CONFIG_FILE"); err != nil {
			return err
		}
	}
	// TF_ACC_TERRAFORM_PATH selects another CLI than the first one found.
	cli := os.Getenv("TF_ACC_TERRAFORM_PATH")
	openTofu := filepath.Base(cli) == "tofu"
	if cli == "" {
		var err error
		if cli, openTofu, err = localcluster.CLI(ctx, os.Stderr, localcluster.MinimumCLI); err != nil {
			return err
		}
	}
	env := map[string]string{"TF_ACC_TERRAFORM_PATH": cli}
	if openTofu { // the registry of a provider without a source
		env["TF_ACC_PROVIDER_HOST"] = "registry.opentofu.org"
	}
	for k, v := range env {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	return nil
}

// Factories run the provider in the process of the test, under the local name that Terraform derives from the
// resource types.
func Factories() map[string]func() (tfprotov6.ProviderServer, error) {
	return map[string]func() (tfprotov6.ProviderServer, error){
		"consul": providerserver.NewProtocol6WithError(provider.New("test")()),
	}
}

// PreCheck skips the test unless acceptance tests are enabled.
func PreCheck(t testing.TB) {
	t.Helper()
	if os.Getenv("TF_ACC") == "" {
		t.Skip("acceptance tests run with TF_ACC=1: make testacc")
	}
}

// LocalCluster returns the local cluster, for a test that stops or cuts off nodes. Such a test cannot run on another
// cluster.
func LocalCluster(t *testing.T) *localcluster.Cluster {
	t.Helper()
	c, err := localcluster.New(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("KUBE_CONFIG_PATH") != c.Kubeconfig() {
		t.Skip("this test stops nodes: it only runs on the local cluster (unset KUBE_CONFIG_PATH)")
	}
	return c
}

// Kube returns a client of the Kubernetes cluster under test.
func Kube(t testing.TB) *kube.Client {
	t.Helper()
	return KubeAs(t, "acceptance-test")
}

// KubeAs is Kube with another field manager.
func KubeAs(t testing.TB, fieldManager string) *kube.Client {
	t.Helper()
	config, err := kube.Config{ConfigPaths: []string{os.Getenv("KUBE_CONFIG_PATH")}}.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	k, err := kube.NewClient(config, fieldManager)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Consul returns access to the servers of a cluster.
func Consul(t testing.TB, namespace, name string) *consul.Cluster {
	t.Helper()
	return consul.NewConnector(Kube(t)).Cluster(namespace, name)
}

// NamespaceName returns a unique name, for a test whose configuration creates the namespace.
func NamespaceName(t testing.TB) string {
	t.Helper()
	name := strings.ToLower(strings.TrimPrefix(t.Name(), "TestAcc"))
	name = strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			return r
		}
		return '-'
	}, name)
	name = name[:min(len(name), 40)] + "-" + rand.String(5)
	k := Kube(t) // read now: a test may change the environment
	t.Cleanup(func() { deleteNamespace(t, k, name) })
	return name
}

// Namespace creates a namespace that admits restricted pods only, and deletes
// it when the test ends.
func Namespace(t testing.TB) string {
	t.Helper()
	name := NamespaceName(t)
	if err := createNamespace(t.Context(), Kube(t), name); err != nil {
		t.Fatal(err)
	}
	return name
}

func createNamespace(ctx context.Context, k *kube.Client, name string) error {
	return k.Apply(ctx, map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{
			"name":   name,
			"labels": map[string]any{"pod-security.kubernetes.io/enforce": "restricted"},
		},
	})
}

func deleteNamespace(t testing.TB, k *kube.Client, name string) {
	t.Helper()
	if err := removeNamespace(context.Background(), k, name); err != nil {
		t.Errorf("cleaning up: %v", err)
	}
}

// removeNamespace has its own timeout: it runs when the test has ended.
func removeNamespace(ctx context.Context, k *kube.Client, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := k.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

// Small is HCL for a consul_k8s_cluster block that makes the cluster of a test small.
const Small = `
  resources = { requests = { cpu = "20m", memory = "64Mi" } }
  deletion_protection = false
`

// NothingLeft checks after a destroy that a namespace has no object of the cluster.
func NothingLeft(t *testing.T, namespace string) func(*terraform.State) error {
	return func(*terraform.State) error {
		t.Helper()
		left, err := Kube(t).NamespaceContents(context.Background(), namespace)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("the destroy left %q in %s", left, namespace)
		}
		return nil
	}
}

// Wait waits until check says that nothing is missing.
func Wait(t testing.TB, what string, check func(context.Context) (missing string, err error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := kube.Wait(ctx, what, 500*time.Millisecond, check); err != nil {
		t.Fatal(err)
	}
}

// Crash kills Consul in the pod of a server, like a lack of memory, and waits until it was started again in the same
// pod.
func Crash(t testing.TB, namespace, pod string) {
	t.Helper()
	k := Kube(t)
	restarts := func(ctx context.Context) (int32, error) {
		p, err := k.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
		if err != nil || len(p.Status.ContainerStatuses) == 0 {
			return 0, err
		}
		return p.Status.ContainerStatuses[0].RestartCount, nil
	}
	before, err := restarts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Exec(t.Context(), namespace, pod, server.ContainerName, nil, "/bin/sh", "-c", "kill -KILL $(cat /tmp/pid)"); err != nil {
		t.Log(err) // the command ends with the container
	}
	Wait(t, pod+" to be started again", func(ctx context.Context) (string, error) {
		now, err := restarts(ctx)
		if err == nil && now == before {
			return "it was not restarted", nil
		}
		return "", err
	})
}

// Says matches a diagnostic, however Terraform wraps it.
func Says(text string) *regexp.Regexp {
	return regexp.MustCompile(strings.Join(strings.Fields(regexp.QuoteMeta(text)), `\s+`))
}

// Root is the root of the repository.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("the repository's go.mod is not above the working directory")
	return ""
}
