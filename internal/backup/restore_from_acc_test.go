package backup_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

// beginning is the attribute restore_from.
func beginning(repository, snapshot, from string) string {
	return fmt.Sprintf(
		"restore_from = { repository = { %s, credentials_secret = \"restic\" }, snapshot = %q, from_cluster = %q }\n",
		repository,
		snapshot,
		from,
	)
}

// endpoints is the number of servers to which the client Service routes.
func endpoints(ctx context.Context, t *testing.T, namespace string) (n int) {
	t.Helper()
	list, err := acctest.Kube(
		t,
	).DiscoveryV1().EndpointSlices(
		namespace,
	).List(
		ctx,
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=consul"},
	)
	if err != nil {
		t.Error(err)
		return -1
	}
	for _, s := range list.Items {
		n += len(s.Endpoints)
	}
	return n
}

// snapshotHCL takes a snapshot of the cluster with the management token.
func snapshotHCL(cluster, repository string) string {
	return fmt.Sprintf(`
resource "consul_k8s_snapshot" "test" {
  cluster    = %s
  name       = "by-hand"
  repository = { %s, credentials_secret = "restic" }
}
`, cluster, repository)
}

// says runs a command that fails, and checks its output.
func says(t *testing.T, cli *acctest.CLI, what string, args ...string) {
	t.Helper()
	out, code := cli.Run(t.Context(), append(args, "-no-color")...)
	if words := strings.Join(strings.Fields(strings.ReplaceAll(out, "│", "")), " "); code == 0 || !strings.Contains(words, what) {
		t.Errorf("%v ended with exit code %d and does not say %q:\n%s", args, code, what, out)
	}
}

// A new cluster with another name has the data of a backup before a client or another resource uses it, even if the
// provider is killed meanwhile. Its management token is where the bootstrap declares it.
func TestAccCluster_startsFromABackup(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace, elsewhere, k := acctest.Namespace(t), acctest.Namespace(t), acctest.Kube(t)
	repository := fmt.Sprintf("url = \"s3:%s/bucket/consul\"", acctest.StartS3(t, namespace))
	putSecret(t, namespace, acctest.Credentials())
	const bootstrap = `
resource "consul_k8s_acl_bootstrap" "test" {
  cluster = consul_k8s_cluster.test.id
  secret  = { name = "management" }
}
resource "consul_k8s_policy" "test" {
  cluster = consul_k8s_acl_bootstrap.test.cluster
  name    = "test"
  rules   = "key_prefix \"\" { policy = \"read\" }"
}
`
	config := func(namespace, beginning, more string) string {
		return acctest.RequiredProviders + clusterHCL(
			namespace,
			acctest.ConsulVersion,
			"acl = { enabled = true, default_policy = \"deny\" }\n  tls = { enabled = true }\n  "+beginning,
		) + bootstrap + more
	}
	old := acctest.NewCLI(t, map[string]string{"main.tf": config(namespace, "", snapshotHCL("consul_k8s_policy.test.cluster", repository))})
	old.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-target=consul_k8s_policy.test")
	putKeys(t, namespace, "kept", 300)
	old.Must(t.Context(), "apply", "-auto-approve", "-no-color")

	from := namespace + "/consul"
	begin := func(snapshot, from string) string {
		return strings.Replace(config(
			elsewhere,
			beginning(repository, snapshot, from),
			scheduleHCL(
				"consul_k8s_acl_bootstrap.test.cluster",
				repository,
				"",
			),
		), "replicas  = 1", "replicas  = 3\n  service = { type = \"NodePort\", annotations = { team = \"platform\" } }", 1)
	}
	fresh := acctest.NewCLI(t, map[string]string{"main.tf": begin("latest", from)})
	// Without the Secret, nothing is created, and a plan says what the repository lacks.
	says(t, fresh, "the Secret does not exist", "apply", "-auto-approve")
	if left, err := k.NamespaceContents(t.Context(), elsewhere); err != nil || len(left) > 0 {
		t.Errorf("an apply without credentials left %q: %v", left, err)
	}
	putSecret(t, elsewhere, acctest.Credentials())
	for _, wrong := range []struct{ snapshot, from, says string }{
		{"0123456789", from, `the repository holds no snapshot "0123456789"`},
		{"latest", "elsewhere/consul", "the repository holds no snapshot of the cluster elsewhere/consul"},
	} {
		fresh.Write("main.tf", begin(wrong.snapshot, wrong.from))
		says(t, fresh, wrong.says, "plan")
	}
	if left, err := k.NamespaceContents(t.Context(), elsewhere); err != nil || fmt.Sprint(left) != "[secret/restic]" {
		t.Errorf("plans left %q: %v", left, err)
	}
	fresh.Write("main.tf", begin("latest", from))
	out := fresh.Must(t.Context(), "plan", "-no-color")
	if !strings.Contains(out, "The cluster starts with a backup") {
		t.Errorf("the plan does not say what the cluster starts from:\n%s", out)
	}
	met := 0
	for _, when := range []struct {
		what string
		is   func(ctx context.Context) bool
	}{
		{"the first server is there", func(ctx context.Context) bool {
			met = max(met, endpoints(ctx, t, elsewhere))
			_, err := k.CoreV1().Pods(elsewhere).Get(ctx, "consul-server-0", metav1.GetOptions{})
			return err == nil
		}},
		{"it is restored", func(ctx context.Context) bool {
			met = max(met, endpoints(ctx, t, elsewhere))
			j, err := k.BatchV1().Jobs(elsewhere).Get(ctx, restic.RestoreJobName("consul"), metav1.GetOptions{})
			return err == nil && j.Status.Succeeded > 0
		}},
	} {
		if killed, out := fresh.RunAndKill(t.Context(), "apply", when.is); !killed {
			t.Fatalf("the apply ended before it could be killed when %s:\n%s", when.what, out)
		}
	}
	if met > 0 {
		t.Errorf("clients were routed to %d servers that were not restored", met)
	}
	fresh.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	for _, check := range []resource.TestCheckFunc{hasKeys(t, elsewhere, map[string]int{"kept": 300}), agentTokensWork(t, elsewhere)} {
		if err := check(nil); err != nil {
			t.Error(err)
		}
	}
	if n := endpoints(t.Context(), t, elsewhere); n != 3 {
		t.Errorf("clients are routed to %d servers", n)
	}
	if _, ref, err := consulacl.ManagementToken(t.Context(), acctest.Consul(t, elsewhere, "consul")); err != nil ||
		ref != (consulacl.SecretRef{Name: "management", Key: "token"}) {
		t.Errorf("the management token is in %v: %v", ref, err)
	}
	left, err := k.NamespaceContents(t.Context(), elsewhere)
	if err != nil || strings.Contains(fmt.Sprint(left), "secret/consul-bootstrap-token") ||
		strings.Contains(fmt.Sprint(left), "job/consul-restore") {
		t.Errorf("a Secret or a Job of the restore still exists: %q %v", left, err)
	}
	fresh.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	// It only counts for the create, and may be removed.
	manage(t, elsewhere, func(client *api.Client) error {
		_, err := client.KV().Put(&api.KVPair{Key: "later/0", Value: []byte("x")}, nil)
		return err
	})
	fresh.Write("main.tf", strings.Replace(begin("latest", from), beginning(repository, "latest", from), "", 1))
	fresh.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if err := hasKeys(t, elsewhere, map[string]int{"kept": 300, "later": 1})(nil); err != nil {
		t.Error(err)
	}
	for _, cli := range []*acctest.CLI{fresh, old} {
		cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	}
	if left, err := k.NamespaceContents(context.WithoutCancel(t.Context()), elsewhere); err != nil || fmt.Sprint(left) != "[secret/restic]" {
		t.Errorf("the destroy left %q: %v", left, err)
	}
}

// If a backup cannot be restored, everything that depends on the cluster waits, and the cluster is neither lost nor
// tainted. The restore resumes when its repository is fixed, or is given up.
func TestAccLong_waitsForItsBackup(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	url := acctest.StartS3(t, namespace)
	repository := fmt.Sprintf("url = \"s3:%s/bucket/consul\"", url)
	putSecret(t, namespace, acctest.Credentials())
	old := acctest.NewCLI(
		t,
		map[string]string{
			"main.tf": acctest.RequiredProviders + clusterHCL(
				namespace,
				acctest.ConsulVersion,
				"",
			) + snapshotHCL(
				"consul_k8s_cluster.test.id",
				repository,
			),
		},
	)
	old.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-target=consul_k8s_cluster.test")
	putKeys(t, namespace, "kept", 10)
	old.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	acctest.InS3(t, namespace, "cp -r /data/bucket/consul /data/whole")
	acctest.Damage(t, namespace, "/data/bucket/consul/data/*/*")

	for _, tt := range []struct {
		name string
		fix  func()
		says string
		keys int
		keep bool
	}{
		{"the restore is given up", func() {}, "The cluster starts without its backup", 0, false},
		{"the repository is fixed", func() {
			acctest.InS3(t, namespace, "rm -r /data/bucket/consul; mv /data/whole /data/bucket/consul")
		}, "Apply complete", 10, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			elsewhere := acctest.Namespace(t)
			putSecret(t, elsewhere, acctest.Credentials())
			begin := beginning(repository, "latest", namespace+"/consul")
			config := func(begin string) string {
				return acctest.RequiredProviders + clusterHCL(
					elsewhere,
					acctest.ConsulVersion,
					begin,
				) + scheduleHCL(
					"consul_k8s_cluster.test.id",
					fmt.Sprintf("url = \"s3:%s/bucket/%s\"", url, elsewhere),
					"",
				)
			}
			fresh := acctest.NewCLI(t, map[string]string{"main.tf": config(begin)})
			says(t, fresh, "The cluster is not restored yet", "apply", "-auto-approve")
			if n := endpoints(t.Context(), t, elsewhere); n != 0 {
				t.Errorf("clients are routed to %d servers that are not restored", n)
			}
			out := fresh.Must(t.Context(), "plan", "-no-color")
			if !strings.Contains(out, "not restored yet, will be") || strings.Contains(out, "must be replaced") {
				t.Errorf("the plan does not resume the restore:\n%s", out)
			}
			says(t, fresh, "cannot be read back from the repository", "apply", "-auto-approve")
			tt.fix()
			if !tt.keep {
				fresh.Write("main.tf", config(""))
			}
			if out := fresh.Must(t.Context(), "apply", "-auto-approve", "-no-color"); !strings.Contains(out, tt.says) {
				t.Errorf("the apply does not say %q:\n%s", tt.says, out)
			}
			if n := endpoints(t.Context(), t, elsewhere); n != 1 {
				t.Errorf("clients are routed to %d servers", n)
			}
			if err := hasKeys(t, elsewhere, map[string]int{"kept": tt.keys})(nil); err != nil {
				t.Error(err)
			}
			fresh.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
			fresh.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
		})
	}
	old.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
}
