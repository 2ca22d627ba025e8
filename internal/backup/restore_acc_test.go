package backup_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

const restoreAddress = "consul_k8s_restore.test"

// restoreHCL restores a snapshot into a cluster.
func restoreHCL(cluster, id, repository, snapshot, more string) string {
	return fmt.Sprintf(`
resource "consul_k8s_restore" "test" {
  cluster    = %s
  confirm    = %q
  repository = { %s, credentials_secret = "restic" }
  snapshot   = %s
  %s
}
`, cluster, id, repository, snapshot, more)
}

// manage calls do with the management token of the cluster in a namespace.
func manage(t *testing.T, namespace string, do func(*api.Client) error) {
	t.Helper()
	c := acctest.Consul(t, namespace, "consul")
	token, _, err := consulacl.ManagementToken(t.Context(), c)
	if err == nil {
		err = c.Any(t.Context(), token, do)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// putKeys writes the keys "<prefix>/0" to n-1, many in each transaction.
func putKeys(t *testing.T, namespace, prefix string, n int) {
	t.Helper()
	manage(t, namespace, func(client *api.Client) error {
		for i := 0; i < n; i += 64 {
			var ops api.KVTxnOps
			for j := i; j < min(i+64, n); j++ {
				ops = append(ops, &api.KVTxnOp{Verb: api.KVSet, Key: fmt.Sprintf("%s/%d", prefix, j), Value: []byte(prefix)})
			}
			if ok, _, _, err := client.KV().Txn(ops, nil); err != nil || !ok {
				return fmt.Errorf("the transaction failed: %w", err)
			}
		}
		return nil
	})
}

// hasKeys checks the number of keys below prefixes.
func hasKeys(t *testing.T, namespace string, want map[string]int) resource.TestCheckFunc {
	return func(*terraform.State) error {
		got := map[string]int{}
		manage(t, namespace, func(client *api.Client) error {
			for prefix := range want {
				keys, _, err := client.KV().Keys(prefix+"/", "", &api.QueryOptions{RequireConsistent: true})
				if err != nil {
					return err
				}
				got[prefix] = len(keys)
			}
			return nil
		})
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("the keys are %v, want %v", got, want)
		}
		return nil
	}
}

// agentTokensWork checks that each server is in the catalog as itself, and that its registrations are accepted: its
// token has the right.
func agentTokensWork(t *testing.T, namespace string) resource.TestCheckFunc {
	return func(*terraform.State) error {
		c := acctest.Consul(t, namespace, "consul")
		token, _, err := consulacl.ManagementToken(t.Context(), c)
		if err != nil {
			return err
		}
		pods, err := c.Pods(t.Context())
		if err != nil {
			return err
		}
		for i := range pods {
			client, err := c.Server(&pods[i], token)
			if err != nil {
				return err
			}
			// The agent registers it in the catalog with its own token.
			acctest.Wait(t, "server "+pods[i].Name+" to be in the catalog", func(context.Context) (string, error) {
				self, err := client.Agent().Self()
				if err != nil {
					return err.Error(), nil
				}
				node, _, err := client.Catalog().Node(pods[i].Name, &api.QueryOptions{RequireConsistent: true})
				switch {
				case err != nil:
					return err.Error(), nil
				case node == nil:
					return "it is not there", nil
				case node.Node.ID != self["Config"]["NodeID"]:
					return "somebody else has its name", nil
				case node.Services["consul"] == nil:
					return "it is no service", nil
				}
				return "", nil
			})
		}
		return nil
	}
}

// A restore restores the data of the snapshot, and removes what was written later. Tokens of all kinds work again,
// the former data is stored, and that can be restored too.
func TestAccRestore_bringsBackTheData(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	repository := fmt.Sprintf("url = \"s3:%s/bucket/consul\"", acctest.StartS3(t, namespace))
	putSecret(t, namespace, acctest.Credentials())
	base := func(reset int) string {
		return strings.Replace(
			clusterHCL(namespace, acctest.ConsulVersion, "acl = { enabled = true, default_policy = \"deny\" }\n  tls = { enabled = true }"),
			"replicas  = 1",
			"replicas  = 3",
			1,
		) +
			fmt.Sprintf(
				`
resource "consul_k8s_acl_bootstrap" "test" {
  cluster = consul_k8s_cluster.test.id
  reset   = %d
}
resource "consul_k8s_policy" "test" {
  cluster = consul_k8s_acl_bootstrap.test.cluster
  name    = "test"
  rules   = "key_prefix \"\" { policy = \"read\" }"
}
resource "consul_k8s_token" "test" {
  cluster  = consul_k8s_acl_bootstrap.test.cluster
  policies = [consul_k8s_policy.test.name]
  secret   = { name = "delivered" }
}
`,
				reset,
			) + scheduleHCL(
			"consul_k8s_acl_bootstrap.test.cluster",
			repository,
			"retention = { last = 20 }",
		)
	}
	id := namespace + "/consul"
	restore := func(snapshot, more string) string {
		return base(2) + restoreHCL("consul_k8s_acl_bootstrap.test.cluster", id, repository, snapshot, more)
	}
	var first, before string
	value := func(name string, into *string) resource.TestCheckFunc {
		return resource.TestCheckResourceAttrWith(restoreAddress, name, func(v string) error { *into = v; return nil })
	}
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: base(1)},
		{
			PreConfig: func() {
				putKeys(t, namespace, "kept", 500)
				runNow(t, namespace, restic.TaskBackup)
				// What is not in the snapshot: keys, another management token, a deleted token.
				putKeys(t, namespace, "later", 100)
				manage(t, namespace, func(client *api.Client) error {
					_, err := client.KV().DeleteTree("kept/1", nil)
					return err
				})
				loseToken(t, namespace)
			},
			Config: base(2), // the management token of the snapshot is no longer valid
		},
		{
			Config: restore(`"latest"`, ""),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectResourceAction(restoreAddress, plancheck.ResourceActionCreate),
			}},
			Check: resource.ComposeTestCheckFunc(
				value("snapshot_id", &first),
				value("before_snapshot_id", &before),
				hasKeys(t, namespace, map[string]int{"kept": 500, "later": 0}),
				agentTokensWork(t, namespace),
				resource.TestCheckResourceAttr(
					restoreAddress,
					"snapshot_counts.KVS",
					"500",
				),
				resource.TestCheckResourceAttr(restoreAddress, "counts.KVS", "500"),
				func(*terraform.State) error { runNow(t, namespace, restic.TaskBackup); return nil },
			),
		},
		{Config: restore(`"latest"`, ""), PlanOnly: true},
		{ // the data from before the first restore, which that restore stored
			Config: restore("reverse([for b in data.consul_k8s_backups.test.backups : b.id if b.before_restore != null])[0]", "") + fmt.Sprintf(`
data "consul_k8s_backups" "test" {
  cluster    = consul_k8s_acl_bootstrap.test.cluster
  repository = { %s, credentials_secret = "restic" }
}
`, repository),
			Check: resource.ComposeTestCheckFunc(
				func(s *terraform.State) error {
					a := s.RootModule().Resources[restoreAddress].Primary.Attributes
					if a["snapshot_id"] != before || a["before_snapshot_id"] == before || first == before {
						return fmt.Errorf("restored %s, but the first restore stored %s", a["snapshot_id"], before)
					}
					return nil
				},
				hasKeys(t, namespace, map[string]int{"kept": 389, "later": 100}), agentTokensWork(t, namespace),
			),
		},
	}})
}

// What cannot be restored is refused at plan, or before anything was changed.
func TestAccRestore_refuses(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	url := "s3:" + acctest.StartS3(t, namespace) + "/bucket/consul"
	repository := fmt.Sprintf("url = %q", url)
	putSecret(t, namespace, acctest.Credentials())
	cluster := func(version, more string) string {
		return clusterHCL(namespace, version, "") + more
	}
	id := namespace + "/consul"
	restore := func(snapshot, more string) string {
		return restoreHCL("consul_k8s_cluster.test.id", id, repository, fmt.Sprintf("%q", snapshot), more)
	}
	snapshot := func(trigger string) string {
		return fmt.Sprintf(`
resource "consul_k8s_snapshot" "test" {
  cluster    = consul_k8s_cluster.test.id
  name       = "by-hand"
  repository = { %s, credentials_secret = "restic" }
  triggers   = { at = %q }
}
`, repository, trigger)
	}
	const address = "consul_k8s_snapshot.test"
	other := restoreHCL(`"`+namespace+`/other"`, namespace+"/other", repository, `"latest"`, "from_cluster = \""+id+"\"")
	keys := hasKeys(t, namespace, map[string]int{"kept": 10, "later": 10})
	recent := cluster(acctest.ConsulVersion, "")
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: cluster(acctest.OlderVersion, "")},
		{
			PreConfig: func() { putKeys(t, namespace, "kept", 10) },
			Config:    cluster(acctest.OlderVersion, snapshot("1")),
			Check: resource.ComposeTestCheckFunc(
				resource.TestCheckResourceAttr(
					address,
					"version",
					acctest.OlderVersion,
				),
				resource.TestCheckResourceAttrSet(address, "index"),
				resource.TestCheckResourceAttrSet(address, "size"),
			),
		},
		{Config: cluster(acctest.OlderVersion, snapshot("1")), PlanOnly: true},
		{Config: recent},
		{
			PreConfig: func() {
				putKeys(t, namespace, "later", 10)
				acctest.Restic(
					t,
					namespace,
					url,
					"restic",
					"restic -q backup --host "+namespace+".consul --tag snapshot=newer --tag version=1.99.0 --tag index=999999 /etc/passwd",
				)
			},
			Config: recent + restore("latest", ""), PlanOnly: true, ExpectError: acctest.Says("it was taken from Consul 1.99.0"),
		},
		{
			PreConfig: func() {
				acctest.Restic(t, namespace, url, "restic", "restic -q forget --unsafe-allow-remove-all --tag snapshot=newer")
			},
			Config: recent + restore("0123456789", ""), PlanOnly: true, ExpectError: acctest.Says(`the repository holds no snapshot "0123456789"`),
		},
		{
			Config:      recent + restore("latest", "from_cluster = \"elsewhere/consul\""),
			PlanOnly:    true,
			ExpectError: acctest.Says("the repository holds no snapshot of the cluster elsewhere/consul"),
		},
		{
			Config:      recent + restoreHCL("consul_k8s_cluster.test.id", "consul", repository, `"latest"`, ""),
			PlanOnly:    true,
			ExpectError: acctest.Says("this restore replaces all data of cluster " + id),
		},
		{Config: recent + restore("yesterday", ""), PlanOnly: true, ExpectError: acctest.Says(`"yesterday" is not a snapshot ID`)},
		{Config: recent + other, ExpectError: acctest.Says("There is no cluster " + namespace + "/other")},
		{Config: recent + snapshot("2"), Check: resource.TestCheckResourceAttr(address, "version", acctest.ConsulVersion)},
		{ // damaged in a way that the list does not show
			PreConfig:   func() { acctest.Damage(t, namespace, "/data/bucket/consul/data/*/*") },
			Config:      recent + snapshot("2") + restore("latest", ""),
			ExpectError: acctest.Says("cannot be read back from the repository"),
		},
		{Config: recent + snapshot("2"), Check: resource.ComposeTestCheckFunc(keys, func(*terraform.State) error {
			jobs, err := k.BatchV1().Jobs(namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, j := range jobs.Items {
				if j.Name != restic.RestoreJobName("consul") && j.Name != "consul-snapshot" {
					return fmt.Errorf("the Job %s still exists", j.Name)
				}
			}
			return nil
		})},
	}})
}

// A snapshot is restored into another cluster, whose servers have the same names. If the provider is killed after the
// restore, the next apply completes it without another restore. A destroy deletes the Job that the provider was
// waiting for.
func TestAccRestore_intoAnotherClusterAndInterrupted(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	elsewhere := acctest.Namespace(t)
	repository := fmt.Sprintf("url = \"s3:%s/bucket/consul\"", acctest.StartS3(t, namespace))
	for _, n := range []string{namespace, elsewhere} {
		putSecret(t, n, acctest.Credentials())
	}
	config := func(namespace, more string) string {
		return acctest.RequiredProviders + clusterHCL(namespace, acctest.ConsulVersion, "acl = { enabled = true }") + `
resource "consul_k8s_acl_bootstrap" "test" {
  cluster = consul_k8s_cluster.test.id
}
` + more
	}
	old := acctest.NewCLI(t, map[string]string{"main.tf": config(namespace, fmt.Sprintf(`
resource "consul_k8s_snapshot" "test" {
  cluster    = consul_k8s_acl_bootstrap.test.cluster
  name       = %q
  repository = { %s, credentials_secret = "restic" }
}
`, uuid.NewString(), repository))})
	old.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-target=consul_k8s_acl_bootstrap.test")
	putKeys(t, namespace, "kept", 300)
	old.Must(t.Context(), "apply", "-auto-approve", "-no-color")

	fresh := acctest.NewCLI(t, map[string]string{"main.tf": config(elsewhere, "")})
	fresh.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	restore := func(trigger string) {
		fresh.Write("main.tf", config(elsewhere, restoreHCL("consul_k8s_acl_bootstrap.test.cluster", elsewhere+"/consul", repository, `"latest"`,
			fmt.Sprintf("from_cluster = \"%s/consul\"\n  triggers = { n = %q }", namespace, trigger))))
	}
	restore("1")
	killed, out := fresh.RunAndKill(t.Context(), "apply", func(ctx context.Context) bool {
		list, err := k.BatchV1().Jobs(elsewhere).List(ctx, metav1.ListOptions{LabelSelector: restic.LabelTask + "=inspect"})
		return err == nil && len(list.Items) > 0
	})
	if !killed {
		t.Fatalf("the apply ended before it could be killed:\n%s", out)
	}
	// A second restore would lose the writes from now on.
	acctest.Wait(t, "a client to write", func(ctx context.Context) (string, error) {
		err := acctest.Consul(t, elsewhere, "consul").Any(ctx, oldToken(t, namespace), func(client *api.Client) error {
			_, err := client.KV().Put(&api.KVPair{Key: "later/0", Value: []byte("x")}, nil)
			return err
		})
		if err != nil {
			return err.Error(), nil
		}
		return "", nil
	})
	fresh.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	for _, check := range []resource.TestCheckFunc{
		hasKeys(t, elsewhere, map[string]int{"kept": 300, "later": 1}), agentTokensWork(t, elsewhere),
	} {
		if err := check(nil); err != nil {
			t.Error(err)
		}
	}
	fresh.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	restore("2")
	fresh.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if err := hasKeys(t, elsewhere, map[string]int{"kept": 300, "later": 0})(nil); err != nil {
		t.Error(err)
	}
	for _, cli := range []*acctest.CLI{fresh, old} {
		cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	}
	if left, err := k.NamespaceContents(context.WithoutCancel(t.Context()), elsewhere); err != nil || fmt.Sprint(left) != "[secret/restic]" {
		t.Errorf("the destroy left %q: %v", left, err)
	}
}

// loseToken replaces the management token by another one.
func loseToken(t *testing.T, namespace string) {
	t.Helper()
	_, ref, err := consulacl.ManagementToken(t.Context(), acctest.Consul(t, namespace, "consul"))
	if err == nil {
		patch := fmt.Appendf(nil, `{"stringData":{%q:%q}}`, ref.Key, uuid.NewString())
		_, err = acctest.Kube(t).CoreV1().Secrets(namespace).Patch(t.Context(), ref.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// oldToken is the management token of the cluster in a namespace.
func oldToken(t *testing.T, namespace string) string {
	t.Helper()
	token, _, err := consulacl.ManagementToken(t.Context(), acctest.Consul(t, namespace, "consul"))
	if err != nil {
		t.Fatal(err)
	}
	return token
}
