package backup_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

// If the disk of a store is full, the backup fails, and earlier ones are kept. A damaged index is found, and is
// repaired as the guide says.
func TestAccLong_aFullDiskAndADamagedIndex(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	repository := "s3:" + acctest.StartSmallS3(t, namespace, "32Mi") + "/bucket/consul"
	putSecret(t, namespace, acctest.Credentials())
	const never = `{ schedule = "0 0 31 2 *" }`
	config := clusterHCL(namespace, acctest.ConsulVersion, "") +
		scheduleHCL(
			"consul_k8s_cluster.test.id",
			fmt.Sprintf("url = %q", repository),
			"retention = { last = 9 }\n  check = "+strings.Replace(never, " }", ", parts = 1 }", 1)+"\n  drill = "+never+"\n  deadline = \"1m\"",
		)
	fails := func(task, says string) {
		t.Helper()
		if got := tryNow(t, namespace, task); !strings.Contains(got, says) {
			t.Errorf("the %s says %q, want %q", task, got, says)
		}
	}
	kept := func(want int) {
		t.Helper()
		if n := len(snapshots(t, namespace, repository)); n != want {
			t.Errorf("the repository has %d snapshots, want %d", n, want)
		}
	}
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: config, Check: func(*terraform.State) error {
			acctest.InS3(t, namespace, "dd if=/dev/zero of=/data/filler bs=1M 2>/dev/null || true")
			fails(restic.TaskBackup, "The snapshot was taken, and not stored.")
			kept(1)
			acctest.InS3(t, namespace, "rm /data/filler")
			runNow(t, namespace, restic.TaskBackup)
			kept(2)
			runNow(t, namespace, restic.TaskDrill)

			acctest.Damage(t, namespace, "/data/bucket/consul/index/*")
			fails(restic.TaskCheck, "The repository is damaged.")
			fails(restic.TaskDrill, "cannot be read back from the repository")
			fails(restic.TaskBackup, "The snapshot was taken, and not stored.")
			acctest.Restic(t, namespace, repository, "restic", "restic repair index")
			for _, task := range []string{restic.TaskCheck, restic.TaskBackup, restic.TaskDrill} {
				runNow(t, namespace, task)
			}
			kept(3)
			return nil
		}},
		{Config: config, PlanOnly: true},
	}})
}

// killIn deletes the pod of the restoring Job once a number of its containers have ended, and reports whether it did.
func killIn(ctx context.Context, t *testing.T, namespace string, ended int) bool {
	t.Helper()
	pods := acctest.Kube(t).CoreV1().Pods(namespace)
	w, err := pods.Watch(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + restic.RestoreJobName("consul")})
	if err != nil {
		t.Error(err)
		return false
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		p, ok := event.Object.(*corev1.Pod)
		if !ok || p.DeletionTimestamp != nil || p.Spec.NodeName == "" {
			continue
		}
		n := 0
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			if s.State.Terminated != nil {
				n++
			}
		}
		if n >= ended {
			return pods.Delete(context.WithoutCancel(ctx), p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}) == nil
		}
	}
	return false
}

// A restore whose pod is killed at any step has changed nothing, or the next apply completes it.
func TestAccLong_survivesAKillAtEachStep(t *testing.T) {
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	repository := fmt.Sprintf("url = \"s3:%s/bucket/consul\"", acctest.StartS3(t, namespace))
	putSecret(t, namespace, acctest.Credentials())
	config := func(more string) string {
		return acctest.RequiredProviders + clusterHCL(namespace, acctest.ConsulVersion, "acl = { enabled = true }") + `
resource "consul_k8s_acl_bootstrap" "test" {
  cluster = consul_k8s_cluster.test.id
}
` + more
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	putKeys(t, namespace, "kept", 300)
	cli.Write("main.tf", config(snapshotHCL("consul_k8s_acl_bootstrap.test.cluster", repository)))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")

	for ended, step := range map[int]string{0: "fetch", 2: "snapshot", 4: "restore"} {
		manage(t, namespace, func(client *api.Client) error {
			_, err := client.KV().Put(&api.KVPair{Key: "later/0", Value: []byte("x")}, nil)
			return err
		})
		cli.Write("main.tf", config(snapshotHCL("consul_k8s_acl_bootstrap.test.cluster", repository)+
			restoreHCL(
				"consul_k8s_acl_bootstrap.test.cluster",
				namespace+"/consul",
				repository,
				"consul_k8s_snapshot.test.snapshot_id",
				fmt.Sprintf("triggers = { n = %q }", step),
			)))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		killed := make(chan bool, 1)
		go func() { killed <- killIn(ctx, t, namespace, ended) }()
		out, code := cli.Run(t.Context(), "apply", "-auto-approve", "-no-color")
		cancel()
		switch was := <-killed; {
		case !was:
			t.Fatalf("%s: the pod was not killed:\n%s", step, out)
		case code == 0:
			t.Logf("%s: the pod was killed too late to matter", step)
		case strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(out, "│", "")), " "), "nothing in the cluster was changed"):
			if err := hasKeys(t, namespace, map[string]int{"kept": 300, "later": 1})(nil); err != nil {
				t.Errorf("%s: something was changed: %v\n%s", step, err, out)
			}
		default:
			t.Logf("%s: it is not known what was changed", step) // the pod no longer exists
		}
		cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
		for _, check := range []resource.TestCheckFunc{
			hasKeys(t, namespace, map[string]int{"kept": 300, "later": 0}), agentTokensWork(t, namespace),
		} {
			if err := check(nil); err != nil {
				t.Errorf("%s: %v", step, err)
			}
		}
		jobs, err := k.BatchV1().Jobs(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(jobs.Items) > 0 && jobs.Items[0].Name == restic.RestoreJobName("consul") {
			t.Errorf("%s: the Job still exists: %v", step, err)
		}
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}
