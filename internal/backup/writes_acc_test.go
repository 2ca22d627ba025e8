package backup_test

import (
	"fmt"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// The writes for a schedule, a snapshot, and a restore, and for their destroy.
func TestAccLong_writesOfBackups(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	repository := fmt.Sprintf("url = \"s3:%s/bucket/consul\"", acctest.StartS3(t, namespace))
	putSecret(t, namespace, acctest.Credentials())
	const cluster = "consul_k8s_acl_bootstrap.test.cluster"
	base := clusterHCL(namespace, acctest.ConsulVersion, "acl = { enabled = true }") + `
resource "consul_k8s_acl_bootstrap" "test" {
  cluster = consul_k8s_cluster.test.id
}
`
	scheduled := base + scheduleHCL(cluster, repository, "")
	restored := scheduled + restoreHCL(cluster, namespace+"/consul", repository, `"latest"`, "")
	acctest.GoldenWrites(t, namespace, "backups.txt",
		acctest.WriteStep{Name: "create", Config: base},
		acctest.WriteStep{Name: "schedule", Config: scheduled},
		acctest.WriteStep{Name: "restore", Config: restored},
		acctest.WriteStep{Name: "destroy", Config: restored, Destroy: true},
	)
}
