package acctest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/yaml"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/localcluster"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// benchRounds is how often each way is timed, in turns.
const benchRounds = 3

// BenchmarkCreate times a create from nothing to three voters with bootstrapped ACLs: by "terraform apply", which
// also plans and sets the agent tokens, and by "kubectl apply" of the same objects and "consul acl bootstrap". The
// namespaces already exist, and the images are on the nodes.
func BenchmarkCreate(b *testing.B) {
	if os.Getenv("TF_ACC") == "" {
		b.Skip("benchmarks run on a real cluster: make bench")
	}
	local, err := localcluster.New(os.Stderr)
	if err != nil {
		b.Fatal(err)
	}
	kubectl := local.KubectlPath()
	if path, err := exec.LookPath("kubectl"); err == nil && os.Getenv("KUBE_CONFIG_PATH") != local.Kubeconfig() {
		kubectl = path
	}
	for b.Loop() {
		var apply, by []time.Duration
		for range benchRounds {
			apply = append(apply, timeTerraform(b))
			by = append(by, timeKubectl(b, kubectl))
		}
		slices.Sort(apply)
		slices.Sort(by)
		a, k := apply[benchRounds/2], by[benchRounds/2]
		fmt.Printf("\n%-40s %10s %10s %10s\n", "from nothing to three voters with ACLs", "min", "median", "max")
		fmt.Printf("%-40s %10.1f %10.1f %10.1f s\n", "terraform apply", apply[0].Seconds(), a.Seconds(), apply[benchRounds-1].Seconds())
		fmt.Printf(
			"%-40s %10.1f %10.1f %10.1f s\n",
			"kubectl apply + consul acl bootstrap",
			by[0].Seconds(),
			k.Seconds(),
			by[benchRounds-1].Seconds(),
		)
		fmt.Printf("%-40s %21.2f   (goal: at most 1.25)\n\n", "ratio of the medians", a.Seconds()/k.Seconds())
		b.ReportMetric(a.Seconds(), "apply-s")
		b.ReportMetric(k.Seconds(), "kubectl-s")
		b.ReportMetric(a.Seconds()/k.Seconds(), "ratio")
	}
}

func timeTerraform(b *testing.B) time.Duration {
	b.Helper()
	namespace := "bench-" + rand.String(5)
	cli := acctest.NewCLI(b, map[string]string{"main.tf": fmt.Sprintf(`
terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
resource "consul_k8s_cluster" "bench" {
  name             = "consul"
  namespace        = %q
  create_namespace = true
  version          = %q
  storage          = { size = "1Gi", retention = { when_deleted = "Delete" } }
  acl              = { enabled = true }
  %s
}
resource "consul_k8s_acl_bootstrap" "bench" {
  cluster = consul_k8s_cluster.bench.id
}
`, namespace, acctest.ConsulVersion, acctest.Small)})
	start := time.Now()
	cli.Must(b.Context(), "apply", "-auto-approve", "-no-color")
	took := time.Since(start)
	cli.Must(b.Context(), "destroy", "-auto-approve", "-no-color")
	return took
}

func timeKubectl(b *testing.B, kubectl string) time.Duration {
	b.Helper()
	spec := server.Spec{
		Name: "consul", Namespace: "bench-" + rand.String(5), CreateNamespace: true,
		Version: acctest.ConsulVersion, Image: "docker.io/hashicorp/consul:" + acctest.ConsulVersion, Replicas: 3,
		Datacenter: "dc1", Domain: "consul", UI: true,
		Storage: server.Storage{Size: resource.MustParse("1Gi"), WhenDeleted: server.Delete, WhenScaled: server.Retain},
		Resources: server.Resources{
			Requests: map[string]resource.Quantity{"cpu": resource.MustParse("20m"), "memory": resource.MustParse("64Mi")},
		},
		Placement:   server.Placement{AntiAffinity: server.AntiAffinityRequired},
		Performance: server.Performance{RaftMultiplier: 1, LeaveDrainTime: 5 * time.Second, RPCHoldTimeout: 7 * time.Second},
		Autopilot:   server.DefaultAutopilot,
		Update:      server.DefaultUpdate,
		Telemetry:   server.Telemetry{PrometheusRetentionTime: time.Minute},
		Service:     server.Service{Type: "ClusterIP"},
		ACL:         server.ACL{Enabled: true, DefaultPolicy: "deny"},
	}
	var manifest strings.Builder
	for _, o := range server.Objects(spec).All() {
		fields, err := server.Fields(o)
		if err != nil {
			b.Fatal(err)
		}
		y, err := yaml.Marshal(fields)
		if err != nil {
			b.Fatal(err)
		}
		manifest.WriteString("---\n" + string(y))
	}
	file := filepath.Join(b.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	run := func(args ...string) {
		b.Helper()
		args = append([]string{"--kubeconfig", os.Getenv("KUBE_CONFIG_PATH")}, args...)
		if out, err := exec.CommandContext(b.Context(), kubectl, args...).CombinedOutput(); err != nil {
			b.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	config, err := kube.Config{ConfigPaths: []string{os.Getenv("KUBE_CONFIG_PATH")}}.RESTConfig()
	if err != nil {
		b.Fatal(err)
	}
	k, err := kube.NewClient(config, "benchmark")
	if err != nil {
		b.Fatal(err)
	}
	c := consul.NewConnector(k).Cluster(spec.Namespace, spec.Name)

	start := time.Now()
	run("apply", "-f", file)
	err = kube.Wait(
		b.Context(),
		"three voters",
		250*time.Millisecond,
		func(ctx context.Context) (string, error) { return consul.Missing(ctx, c, "", 3, 0) },
	)
	if err != nil {
		b.Fatal(err)
	}
	run("exec", "--namespace", spec.Namespace, "consul-server-0", "--container", "consul", "--", "consul", "acl", "bootstrap")
	took := time.Since(start)
	run("delete", "namespace", spec.Namespace)
	return took
}
