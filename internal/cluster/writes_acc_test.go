package cluster_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The writes for a cluster: for each kind of change, and for its destroy.
func TestAccLong_writesOfACluster(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	config := func(version string, replicas int, trigger, more string) string {
		return hclVersion(namespace, version, fmt.Sprintf(`  replicas = %d
  acl    = { enabled = true }
  gossip = { enabled = true, rotation = { trigger = %q } }
  tls    = { enabled = true, ca_trigger = %q }
%s`, replicas, trigger, trigger, more)) + bootstrapHCL("")
	}
	last := config(acctest.ConsulVersion, 1, "2", "  ui = false\n")
	acctest.GoldenWrites(
		t,
		namespace,
		"cluster.txt",
		acctest.WriteStep{Name: "create", Config: config(acctest.OlderVersion, 3, "1", "")},
		acctest.WriteStep{Name: "write", Config: config(acctest.OlderVersion, 3, "1", "  labels = { team = \"a\" }\n")},
		acctest.WriteStep{
			Name:   "reload",
			Config: config(acctest.OlderVersion, 3, "1", "  extra_config = jsonencode({ log_level = \"debug\" })\n"),
		},
		acctest.WriteStep{Name: "restart", Config: config(acctest.OlderVersion, 3, "1", "  ui = false\n")},
		acctest.WriteStep{Name: "upgrade", Config: config(acctest.ConsulVersion, 3, "1", "  ui = false\n")},
		acctest.WriteStep{Name: "rotate", Config: config(acctest.ConsulVersion, 3, "2", "  ui = false\n")},
		acctest.WriteStep{Name: "scale down", Config: last, Before: func() { leadFirst(t, namespace) }},
		acctest.WriteStep{Name: "scale up", Config: config(acctest.ConsulVersion, 3, "2", "  ui = false\n")},
		acctest.WriteStep{Name: "destroy", Config: config(acctest.ConsulVersion, 3, "2", "  ui = false\n"), Destroy: true},
	)
}

// The writes when encryption and ACLs are turned on, and off again.
func TestAccLong_writesOfEncryptionTurnedOnAndOff(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	config := func(more string) string { return hclVersion(namespace, acctest.ConsulVersion, more) }
	acctest.GoldenWrites(t, namespace, "encryption.txt",
		acctest.WriteStep{Name: "create", Config: config("")},
		acctest.WriteStep{Name: "gossip on", Config: config("  gossip = { enabled = true }\n")},
		acctest.WriteStep{Name: "gossip off", Config: config("")},
		acctest.WriteStep{Name: "TLS on", Config: config("  tls = { enabled = true }\n")},
		acctest.WriteStep{Name: "TLS off", Config: config("")},
		acctest.WriteStep{Name: "ACLs on", Config: config("  acl = { enabled = true, default_policy = \"allow\" }\n") + bootstrapHCL("")},
		acctest.WriteStep{Name: "deny", Config: config("  acl = { enabled = true }\n") + bootstrapHCL("")},
		acctest.WriteStep{Name: "destroy", Config: config("  acl = { enabled = true }\n") + bootstrapHCL(""), Destroy: true},
	)
}

// The writes of an adoption.
func TestAccLong_writesOfAnAdoption(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	startOld(t, namespace, "handmade", "consul", "", "VERSION", acctest.ConsulVersion)
	config := hclVersion(namespace, acctest.ConsulVersion, "  adopt = { stateful_set = \"consul\", services = [\"consul\"] }\n")
	acctest.GoldenWrites(
		t,
		namespace,
		"adoption.txt",
		acctest.WriteStep{Name: "adopt", Config: config},
		acctest.WriteStep{Name: "destroy", Config: config, Destroy: true},
	)
}

// The writes when a cluster recovers from the loss of its quorum, and of all its data.
func TestAccLong_writesOfARecovery(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	config := func(from string) string {
		recovery := ""
		if from != "" {
			recovery = fmt.Sprintf("  recovery = { from = %q, trigger = %q }\n", from, from)
		}
		return hclVersion(namespace, acctest.ConsulVersion, recovery)
	}
	lose := func(ordinals ...int) func() {
		return func() {
			var pods []string
			for _, o := range ordinals {
				pods = append(pods, server.PodName("consul", o))
			}
			loseVolumes(t, namespace, pods...)
		}
	}
	acctest.GoldenWrites(t, namespace, "recovery.txt",
		acctest.WriteStep{Name: "create", Config: config("")},
		acctest.WriteStep{Name: "from a survivor", Config: config("survivor"), Before: lose(0, 2)},
		acctest.WriteStep{Name: "from nothing", Config: config("nothing"), Before: lose(0, 1, 2)},
		acctest.WriteStep{Name: "destroy", Config: config("nothing"), Destroy: true},
	)
}

// leadFirst makes the server the leader that stays when the cluster shrinks.
func leadFirst(t *testing.T, namespace string) {
	t.Helper()
	c, token, first := acctest.Consul(t, namespace, "consul"), managementToken(t, namespace), server.PodName("consul", 0)
	pods, err := c.Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if leader, err := consul.LeaderPod(t.Context(), c, pods); err != nil {
		t.Fatal(err)
	} else if leader.Name == first {
		return
	}
	if err := consul.TransferLeadership(t.Context(), c, token, first); err != nil {
		t.Fatal(err)
	}
	acctest.Wait(t, "all servers to vote", func(ctx context.Context) (string, error) { return consul.Missing(ctx, c, token, 3, 0) })
}
