package acctest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/localcluster"
)

// benchCluster applies a cluster without ACLs, and returns a function that changes it.
func benchCluster(b *testing.B, namespace string, replicas int) (*acctest.CLI, func(more string)) {
	b.Helper()
	cli := acctest.NewCLI(b, nil)
	apply := func(more string) {
		b.Helper()
		cli.Write("main.tf", acctest.RequiredProviders+fmt.Sprintf(`
resource "consul_k8s_cluster" "bench" {
  name      = "consul"
  namespace = %q
  version   = %q
  replicas  = %d
  storage   = { size = "1Gi", retention = { when_deleted = "Delete" } }
%s
}
`, namespace, acctest.ConsulVersion, replicas, acctest.Small)+more)
		cli.Must(b.Context(), "apply", "-auto-approve", "-no-color")
	}
	apply("")
	return cli, apply
}

// BenchmarkRestore times a snapshot and a restore by "terraform apply", for several sizes of the store.
func BenchmarkRestore(b *testing.B) {
	if os.Getenv("TF_ACC") == "" {
		b.Skip("benchmarks run on a real cluster: make bench")
	}
	type row struct {
		mib               int
		snapshot, restore time.Duration
	}
	var rows []row
	for _, mib := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			for b.Loop() {
				namespace := acctest.Namespace(b)
				acctest.ClaimForBackups(b, namespace)
				cli, apply := benchCluster(b, namespace, 3)
				if err := fill(b.Context(), acctest.Consul(b, namespace, "consul"), mib); err != nil {
					b.Fatal(err)
				}
				const repository = `{ volume_claim = "backups", credentials_secret = "restic" }`
				snapshot := fmt.Sprintf(
					"resource \"consul_k8s_snapshot\" \"bench\" {\n  cluster    = consul_k8s_cluster.bench.id\n  name       = \"bench\"\n  repository "+
						"= %s\n}\n",
					repository,
				)
				start := time.Now()
				apply(snapshot)
				r := row{mib: mib, snapshot: time.Since(start)}
				start = time.Now()
				apply(
					snapshot + fmt.Sprintf(
						"resource \"consul_k8s_restore\" \"bench\" {\n  cluster    = consul_k8s_cluster.bench.id\n  confirm    = \"%s/consul\"\n  "+
							"repository = %s\n  snapshot   = consul_k8s_snapshot.bench.snapshot_id\n}\n",
						namespace,
						repository,
					),
				)
				r.restore = time.Since(start)
				rows = append(rows, r)
				cli.Must(b.Context(), "destroy", "-auto-approve", "-no-color")
			}
		})
	}
	fmt.Printf("\n%-12s %24s %24s\n", "store", "terraform apply: snapshot", "restore, with all checks")
	for _, r := range rows {
		fmt.Printf("%8d MiB %22.1f s %22.1f s\n", r.mib, r.snapshot.Seconds(), r.restore.Seconds())
	}
}

// benchBackups is the number of backups of a store, as many as hourly ones of two days, and benchMiB is the size of
// the store.
const (
	benchBackups = 48
	benchMiB     = 100
	benchValue   = 32 << 10
)

// BenchmarkBackupStorage compares how many bytes 48 backups take in a repository. The store has 100 MiB, of which one
// percent changes between two backups, in one place or spread over the store. The snapshots are stored unpacked, as
// backup schedules do, or as the archive that Consul writes.
func BenchmarkBackupStorage(b *testing.B) {
	if os.Getenv("TF_ACC") == "" {
		b.Skip("benchmarks run on a real cluster: make bench")
	}
	type row struct {
		churn                         string
		first, unpacked, firstArchive int64
		archive                       int64
	}
	var rows []row
	const keys = benchMiB << 20 / benchValue
	for _, churn := range []string{"together", "spread"} {
		b.Run(churn, func(b *testing.B) {
			for b.Loop() {
				namespace, ctx := acctest.Namespace(b), b.Context()
				cli, _ := benchCluster(b, namespace, 1)
				store := acctest.Consul(b, namespace, "consul")
				for i := range keys {
					if err := putRandom(ctx, store, fmt.Sprintf("key/%05d", i), benchValue); err != nil {
						b.Fatal(err)
					}
				}
				exec := startBackupPod(b, namespace)
				r := row{churn: churn}
				for n := range benchBackups {
					for i := range keys / 100 {
						key := (n*keys/100 + i) % keys
						if churn == "spread" {
							key = rand.IntN(keys) //nolint:gosec // which key is no secret
						}
						if err := putRandom(ctx, store, fmt.Sprintf("key/%05d", key), benchValue); err != nil {
							b.Fatal(err)
						}
					}
					exec(
						"consul",
						"rm -rf /bench/unpacked /bench/archive; mkdir /bench/unpacked /bench/archive; consul snapshot save /bench/archive/consul.snap; "+
							"gunzip -c /bench/archive/consul.snap >/bench/unpacked/consul.tar",
					)
					exec(
						"restic",
						"restic -q -r /bench/repository-unpacked backup /bench/unpacked; restic -q -r /bench/repository-archive backup /bench/archive",
					)
					if n == 0 {
						r.first, r.firstArchive = stored(b, exec, "unpacked"), stored(b, exec, "archive")
					}
				}
				r.unpacked, r.archive = stored(b, exec, "unpacked"), stored(b, exec, "archive")
				rows = append(rows, r)
				b.ReportMetric(float64(r.archive)/float64(r.unpacked), "ratio")
				cli.Must(ctx, "destroy", "-auto-approve", "-no-color")
			}
		})
	}
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	fmt.Printf(
		"\n%d backups of %d MiB, 1 %% changes between two\n%-12s %22s %22s %22s %22s %8s\n",
		benchBackups,
		benchMiB,
		"changes lie",
		"unpacked: first",
		"all",
		"archive: first",
		"all",
		"ratio",
	)
	for _, r := range rows {
		fmt.Printf(
			"%-12s %18.1f MiB %18.1f MiB %18.1f MiB %18.1f MiB %8.1f\n",
			r.churn,
			mib(r.first),
			mib(r.unpacked),
			mib(r.firstArchive),
			mib(r.archive),
			float64(r.archive)/float64(r.unpacked),
		)
	}
}

// startBackupPod starts a pod with the commands consul and restic, which share a folder, and returns a function that
// runs a script in one of its containers.
func startBackupPod(b *testing.B, namespace string) (exec func(container, script string) string) {
	b.Helper()
	k := acctest.Kube(b)
	restricted := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	container := func(name, image string) corev1.Container {
		return corev1.Container{
			Name: name, Image: image, Command: []string{"sleep", "86400"}, SecurityContext: restricted,
			Env: []corev1.EnvVar{
				{Name: "RESTIC_PASSWORD", Value: "bench"}, {Name: "RESTIC_CACHE_DIR", Value: "/tmp/cache"},
				{Name: "CONSUL_HTTP_ADDR", Value: "http://consul." + namespace + ".svc:8500"},
			},
			VolumeMounts: []corev1.VolumeMount{{Name: "work", MountPath: "/bench"}},
		}
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "bench"},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(1)), AutomountServiceAccountToken: new(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true),
				RunAsUser:    new(int64(100)), FSGroup: new(int64(1000)), SeccompProfile: &corev1.SeccompProfile{
					Type: corev1.SeccompProfileTypeRuntimeDefault,
				},
			},
			Containers: []corev1.Container{
				container("consul", "docker.io/hashicorp/consul:"+acctest.ConsulVersion),
				container("restic", localcluster.ResticImage),
			},
			Volumes: []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
	if _, err := k.CoreV1().Pods(namespace).Create(b.Context(), pod, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	acctest.Wait(b, "the pod", func(ctx context.Context) (string, error) {
		p, err := k.CoreV1().Pods(namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil || p.Status.Phase != corev1.PodRunning {
			return "it does not run", err
		}
		return "", nil
	})
	exec = func(container, script string) string {
		b.Helper()
		out, err := k.Exec(b.Context(), namespace, pod.Name, container, nil, "/bin/sh", "-euc", script)
		if err != nil {
			b.Fatalf("%s: %v\n%s", container, err, out)
		}
		return out
	}
	exec("restic", "restic -q -r /bench/repository-unpacked init; restic -q -r /bench/repository-archive init")
	return exec
}

// stored is the size of a repository in bytes.
func stored(b *testing.B, exec func(container, script string) string, what string) int64 {
	b.Helper()
	var stats struct {
		TotalSize int64 `json:"total_size"`
	}
	if err := json.Unmarshal(
		[]byte(exec("restic", "restic -q -r /bench/repository-"+what+" stats --mode raw-data --json")), &stats,
	); err != nil {
		b.Fatal(err)
	}
	return stats.TotalSize
}
