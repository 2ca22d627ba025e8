package acctest_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// farConsul is the extra latency of each round trip to Consul.
const farConsul = 50 * time.Millisecond

// planTimes are the measurements for one number of objects.
type planTimes struct {
	n     int // of policies, of roles, and of tokens
	apply time.Duration
	// consul and kubernetes are the requests of one plan.
	consul, kubernetes map[string]int
	floor, near, far   spent // by a plan; medians
}

// spent is what a command used: the elapsed time, and the CPU time, which depends less on other work of the machine.
type spent struct{ wall, cpu time.Duration }

// BenchmarkPlanACL times "terraform plan" without changes, for equal numbers of policies, roles, and tokens, above
// the floor that Terraform itself sets: a plan of as many terraform_data resources with the same references. It
// counts the requests to Consul and Kubernetes. BENCH_ACL_SIZES sets the numbers, such as "10,100".
func BenchmarkPlanACL(b *testing.B) {
	if os.Getenv("TF_ACC") == "" {
		b.Skip("benchmarks run on a real cluster: make bench")
	}
	sizes := []int{10, 100, 1000}
	if env := os.Getenv("BENCH_ACL_SIZES"); env != "" {
		sizes = nil
		for s := range strings.SplitSeq(env, ",") {
			n, err := strconv.Atoi(s)
			if err != nil {
				b.Fatal(err)
			}
			sizes = append(sizes, n)
		}
	}
	for b.Loop() {
		var all []planTimes
		for _, n := range sizes {
			all = append(all, timePlan(b, n))
		}
		fmt.Printf(
			"\nterraform plan without changes, of n policies, n roles and n tokens: calls to Consul and to Kubernetes, and seconds, median of %d\n",
			benchRounds,
		)
		fmt.Printf(
			"%6s %8s %8s %10s %14s %14s %14s %9s %9s\n",
			"n",
			"Consul",
			"Kube",
			"floor",
			"above it +0ms",
			"CPU above it",
			"above it +50ms",
			"whole",
			"apply",
		)
		for _, t := range all {
			fmt.Printf(
				"%6d %8d %8d %10.2f %14.2f %14.2f %14.2f %9.2f %9.1f\n",
				t.n,
				sum(t.consul),
				sum(t.kubernetes),
				t.floor.wall.Seconds(),
				(t.near.wall - t.floor.wall).Seconds(),
				(t.near.cpu - t.floor.cpu).Seconds(),
				(t.far.wall - t.floor.wall).Seconds(),
				t.near.wall.Seconds(),
				t.apply.Seconds(),
			)
		}
		fmt.Printf(
			"goal for n = 1000: at most 10 calls in all, 2 s at +0 ms, 3 s at +50 ms; hashicorp/consul 2.23 makes 7000 calls to Consul, and " +
				"takes 9.4 s and 27.9 s\n",
		)
		last := all[len(all)-1]
		fmt.Printf("calls to Consul for n = %d: %v; to Kubernetes: %v\n\n", last.n, last.consul, last.kubernetes)
		b.ReportMetric(float64(sum(last.consul)), "consul-calls")
		b.ReportMetric(float64(sum(last.kubernetes)), "kubernetes-calls")
		b.ReportMetric((last.near.wall - last.floor.wall).Seconds(), "s-above")
		b.ReportMetric((last.far.wall - last.floor.wall).Seconds(), "s-above-50ms")
	}
}

func sum(calls map[string]int) (n int) {
	for _, c := range calls {
		n += c
	}
	return n
}

func timePlan(b *testing.B, n int) planTimes {
	b.Helper()
	ctx := b.Context()
	c, token := acctest.Bootstrapped(b, acctest.ConsulVersion, func(s *server.Spec) {
		s.Replicas = 3
		s.Telemetry.PrometheusRetentionTime = 24 * time.Hour // keeps all counters
	})
	counter := newConsulCounter(b, c, token)
	proxy := acctest.NewKubeProxy(b)
	objects := acctest.NewCLI(b, map[string]string{"main.tf": aclObjectsHCL(c.ID(), n)})
	objects.Setenv("KUBE_CONFIG_PATH", proxy.Kubeconfig)
	floor := acctest.NewCLI(b, map[string]string{"main.tf": terraformDataHCL(n)})

	t := planTimes{n: n}
	floor.Must(ctx, "apply", "-auto-approve", "-no-color", "-parallelism=10")
	start := time.Now()
	objects.Must(ctx, "apply", "-auto-approve", "-no-color", "-parallelism=10")
	t.apply = time.Since(start)

	plan := func(cli *acctest.CLI) spent {
		b.Helper()
		start, cpu := time.Now(), childrenCPU(b)
		if out, code := cli.Run(ctx, "plan", "-no-color", "-detailed-exitcode"); code != 0 {
			b.Fatalf("plan: exit code %d\n%s", code, out[max(0, len(out)-4000):])
		}
		return spent{time.Since(start), childrenCPU(b) - cpu}
	}
	var floors, near, far []spent
	for range benchRounds {
		floors = append(floors, plan(floor))
		beforeConsul, beforeKube := counter.read(ctx), proxy.Requests()
		near = append(near, plan(objects))
		t.consul, t.kubernetes = minus(counter.read(ctx), beforeConsul), minus(proxy.Requests(), beforeKube)
		proxy.SetLatency(farConsul)
		far = append(far, plan(objects))
		proxy.SetLatency(0)
	}
	t.floor, t.near, t.far = median(floors), median(near), median(far)
	b.Logf("n = %d: floor %v, near %v, far %v, apply %v", n, floors, near, far, t.apply)
	return t
}

// median is the median of each of the two times.
func median(all []spent) spent {
	var wall, cpu []time.Duration
	for _, s := range all {
		wall, cpu = append(wall, s.wall), append(cpu, s.cpu)
	}
	slices.Sort(wall)
	slices.Sort(cpu)
	return spent{wall[len(wall)/2], cpu[len(cpu)/2]}
}

// childrenCPU is the CPU time of all commands that have ended, and of their children: Terraform and the provider.
func childrenCPU(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func minus(after, before map[string]int) map[string]int {
	out := map[string]int{}
	for name, n := range after {
		if n > before[name] {
			out[name] = n - before[name]
		}
	}
	return out
}

func aclObjectsHCL(cluster string, n int) string {
	var s strings.Builder
	s.WriteString(`
terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
`)
	for i := range n {
		fmt.Fprintf(&s, `
resource "consul_k8s_policy" "p%[2]d" {
  cluster     = %[1]q
  name        = "policy-%[2]d"
  description = "policy %[2]d"
  rules       = <<-EOT
    key_prefix "app-%[2]d/" {
      policy = "write"
    }
    session_prefix "" {
      policy = "write"
    }
  EOT
}
resource "consul_k8s_role" "r%[2]d" {
  cluster  = %[1]q
  name     = "role-%[2]d"
  policies = [consul_k8s_policy.p%[2]d.name]
}
resource "consul_k8s_token" "t%[2]d" {
  cluster     = %[1]q
  description = "token %[2]d"
  policies    = [consul_k8s_policy.p%[2]d.name]
  roles       = [consul_k8s_role.r%[2]d.name]
}
`, cluster, i)
	}
	return s.String()
}

func terraformDataHCL(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, `
resource "terraform_data" "p%[1]d" {
  input = {
    name        = "policy-%[1]d"
    description = "policy %[1]d"
    rules       = <<-EOT
      key_prefix "app-%[1]d/" {
        policy = "write"
      }
      session_prefix "" {
        policy = "write"
      }
    EOT
  }
}
resource "terraform_data" "r%[1]d" {
  input = {
    name     = "role-%[1]d"
    policies = [terraform_data.p%[1]d.output.name]
  }
}
resource "terraform_data" "t%[1]d" {
  input = {
    description = "token %[1]d"
    policies    = [terraform_data.p%[1]d.output.name]
    roles       = [terraform_data.r%[1]d.output.name]
  }
}
`, i)
	}
	return s.String()
}

// consulCounter reads from all servers how many HTTP requests they have answered: requests go through port-forwards,
// which the proxy cannot count.
type consulCounter struct {
	b       *testing.B
	token   string
	clients []*http.Client
}

func newConsulCounter(b *testing.B, c *consul.Cluster, token string) consulCounter {
	b.Helper()
	pods, err := c.Pods(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	counter := consulCounter{b: b, token: token}
	for _, pod := range pods {
		dialer := acctest.Kube(b).PodDialer(pod.Namespace, pod.Name)
		transport := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.Dial(ctx, server.PortHTTP) },
		}
		b.Cleanup(transport.CloseIdleConnections)
		counter.clients = append(counter.clients, &http.Client{Transport: transport})
	}
	return counter
}

var httpRequests = regexp.MustCompile(`^consul_api_http_count\{method="([^"]*)",path="([^"]*)"\} (\d+)`)

// notOurs are the requests of the kubelets, whose probes never end, and of the counter itself.
var notOurs = []string{"GET v1_agent_metrics", "GET v1_status_leader", "GET v1_health_service_"}

// read returns the number of requests so far, by method and path.
func (c consulCounter) read(ctx context.Context) map[string]int {
	c.b.Helper()
	out := map[string]int{}
	for _, client := range c.clients {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://consul/v1/agent/metrics?format=prometheus", nil)
		if err != nil {
			c.b.Fatal(err)
		}
		req.Header.Set("X-Consul-Token", c.token)
		resp, err := client.Do(req)
		if err != nil {
			c.b.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			m := httpRequests.FindStringSubmatch(lines.Text())
			if m == nil {
				continue
			}
			n, err := strconv.Atoi(m[3])
			if err != nil {
				c.b.Fatal(err)
			}
			if name := m[1] + " " + m[2]; !slices.Contains(notOurs, name) {
				out[name] += n
			}
		}
		if err := resp.Body.Close(); err != nil || lines.Err() != nil || resp.StatusCode != http.StatusOK {
			c.b.Fatal(resp.Status, err, lines.Err())
		}
	}
	return out
}
