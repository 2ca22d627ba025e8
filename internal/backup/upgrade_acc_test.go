package backup_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

// The snapshot before an upgrade is stored in the repository of a schedule, whose retention keeps it, and restores
// the former data. An upgrade that cannot store it does not start.
func TestAccLong_storesTheSnapshotBeforeAnUpgrade(t *testing.T) {
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	url := "s3:" + acctest.StartS3(t, namespace) + "/bucket/consul"
	repository := fmt.Sprintf("url = %q", url)
	putSecret(t, namespace, acctest.Credentials())
	wrong := acctest.Credentials()
	wrong["RESTIC_PASSWORD"] = "another"
	for name, data := range map[string]map[string]string{"wrong": wrong, "little": {"RESTIC_PASSWORD": "x"}} {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}
		if _, err := k.CoreV1().Secrets(namespace).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	config := func(version, secret, more string) string {
		update := fmt.Sprintf(
			"acl = { enabled = true }\n  update = { snapshot_to = { repository = { url = %q, credentials_secret = %q } } }",
			url,
			secret,
		)
		return clusterHCL(namespace, version, update) + `
resource "consul_k8s_acl_bootstrap" "test" {
  cluster = consul_k8s_cluster.test.id
}
` + scheduleHCL("consul_k8s_acl_bootstrap.test.cluster", repository, "retention = { last = 1 }") + more
	}
	const cluster = "consul_k8s_cluster.test"
	upgraded := config(acctest.ConsulVersion, "restic", "")
	var id string
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: config(acctest.OlderVersion, "restic", ""), Check: resource.TestCheckNoResourceAttr(cluster, "upgrade_snapshot")},
		{
			PreConfig: func() { putKeys(t, namespace, "kept", 300) },
			Config: config(
				acctest.ConsulVersion,
				"little",
				"",
			), PlanOnly: true, ExpectError: acctest.Says("it lacks the keys that a repository s3: needs"),
		},
		{Config: config(acctest.ConsulVersion, "missing", ""), ExpectError: acctest.Says("Nothing was changed, because no snapshot")},
		{Config: config(acctest.ConsulVersion, "wrong", ""), ExpectError: acctest.Says("The password is not that of the repository.")},
		{Config: config(acctest.OlderVersion, "restic", ""), PlanOnly: true},
		{
			Config: upgraded,
			Check: resource.ComposeTestCheckFunc(
				resource.TestCheckResourceAttr(
					cluster,
					"running_version",
					acctest.ConsulVersion,
				),
				resource.TestCheckResourceAttr(cluster, "upgrade_snapshot.url", url),
				resource.TestCheckResourceAttr(
					cluster,
					"upgrade_snapshot.version",
					acctest.OlderVersion,
				),
				resource.TestCheckNoResourceAttr(cluster, "upgrade_snapshot.file"),
				func(s *terraform.State) error {
					id = s.RootModule().Resources[cluster].Primary.Attributes["upgrade_snapshot.snapshot_id"]
					_, err := k.CoreV1().PersistentVolumeClaims(namespace).Get(t.Context(), "consul-snapshots", metav1.GetOptions{})
					if !apierrors.IsNotFound(err) {
						return fmt.Errorf("there is a claim for snapshots: %w", err)
					}
					putKeys(t, namespace, "later", 10)
					for range 2 { // the retention keeps one of these
						runNow(t, namespace, restic.TaskBackup)
					}
					all := snapshots(t, namespace, url)
					if len(all) != 2 || all[0].ID != id || !slices.Contains(all[0].Tags, "before-upgrade="+acctest.ConsulVersion) {
						return fmt.Errorf("the repository has %v, and not %s first", all, id)
					}
					return nil
				},
			),
		},
		{Config: upgraded, PlanOnly: true},
		{
			ResourceName:            cluster,
			ImportState:             true,
			ImportStateId:           namespace + "/consul",
			ImportStateVerify:       true,
			ImportStateVerifyIgnore: []string{"rollout", "timeouts"},
		},
		{
			Config: upgraded + fmt.Sprintf(`
data "consul_k8s_backups" "test" {
  cluster    = consul_k8s_cluster.test.id
  repository = { %s, credentials_secret = "restic" }
  version    = %q
}
`, repository, acctest.OlderVersion) + restoreHCL("consul_k8s_acl_bootstrap.test.cluster", namespace+"/consul", repository, "consul_k8s_cluster.test.upgrade_snapshot.snapshot_id", ""),
			Check: resource.ComposeTestCheckFunc(
				resource.TestCheckResourceAttr(
					"data.consul_k8s_backups.test",
					"backups.#",
					"1",
				),
				resource.TestCheckResourceAttr("data.consul_k8s_backups.test", "backups.0.before_upgrade", acctest.ConsulVersion),
				resource.TestCheckResourceAttr(
					"consul_k8s_restore.test",
					"version",
					acctest.OlderVersion,
				),
				hasKeys(t, namespace, map[string]int{"kept": 300, "later": 0}),
				agentTokensWork(t, namespace),
			),
		},
		{Config: upgraded}, // the restore is removed
		{Config: upgraded, PlanOnly: true},
	}})
}
