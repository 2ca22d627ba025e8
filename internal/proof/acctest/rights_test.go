package acctest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/localcluster"
)

// The roles in the documentation are enough to apply, upgrade, plan, and destroy. The role for plans cannot apply.
func TestAccRights_documentedRolesSuffice(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	namespace := acctest.Namespace(t)
	version := acctest.OlderVersion
	main := func(role, more string) string {
		return fmt.Sprintf(`
terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
provider "consul" {
%s
}
resource "consul_k8s_cluster" "main" {
  name      = "consul"
  namespace = %q
  version   = %q
  replicas  = 1
  storage   = { size = "1Gi", retention = { when_deleted = "Delete" } }
  acl       = { enabled = true }
%s%s
}
resource "consul_k8s_acl_bootstrap" "main" {
  cluster = consul_k8s_cluster.main.id
}
data "consul_k8s_members" "main" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
}
resource "consul_k8s_policy" "main" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "main"
  rules   = "operator = \"read\""
}
resource "consul_k8s_token" "main" {
  cluster  = consul_k8s_acl_bootstrap.main.cluster
  policies = [consul_k8s_policy.main.name]
  secret   = { name = "delivered" }
}
resource "consul_k8s_auth_method" "main" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "main"
  type    = "kubernetes"
}
resource "consul_k8s_binding_rule" "main" {
  cluster     = consul_k8s_acl_bootstrap.main.cluster
  auth_method = consul_k8s_auth_method.main.name
  bind_type   = "policy"
  bind_name   = consul_k8s_policy.main.name
}
resource "consul_k8s_backup_schedule" "main" {
  cluster    = consul_k8s_acl_bootstrap.main.cluster
  repository = { volume_claim = "backups", credentials_secret = "restic" }
  retention  = { last = 1 }
  prune      = { schedule = "0 0 31 2 *" }
}
resource "consul_k8s_snapshot" "main" {
  cluster    = consul_k8s_backup_schedule.main.cluster
  name       = "main"
  repository = consul_k8s_backup_schedule.main.repository
}
resource "consul_k8s_restore" "main" {
  cluster    = consul_k8s_backup_schedule.main.cluster
  confirm    = "%[2]s/consul"
  repository = consul_k8s_backup_schedule.main.repository
  snapshot   = consul_k8s_snapshot.main.snapshot_id
}
`, credential(t, namespace, role), namespace, version, acctest.Small, more)
	}
	acctest.ClaimForBackups(t, namespace)
	cli := acctest.NewCLI(t, map[string]string{"main.tf": main("apply", "")})
	cli.Setenv("KUBE_CONFIG_PATH", "") // the kubeconfig of the administrator
	if out := cli.Must(t.Context(), "apply", "-auto-approve", "-no-color"); !strings.Contains(out, "The management token may be lost") {
		t.Errorf("no warning says that a restore may require a missing right:\n%s", out)
	}
	version = acctest.ConsulVersion
	cli.Write("main.tf", main("apply", ""))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")

	cli.Write("main.tf", main("plan", ""))
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	cli.Write("main.tf", main("plan", "  labels = { a = \"b\" }\n"))
	if out, code := cli.Run(t.Context(), "apply", "-auto-approve", "-no-color"); code == 0 || !strings.Contains(out, "forbidden") {
		t.Errorf("the plan's role can apply (exit code %d):\n%s", code, out)
	}

	// The credential of a pull request can read no Secret and reach no server, and can plan.
	const data = "data \"consul_k8s_members\" \"main\" {\n  cluster = consul_k8s_acl_bootstrap.main.cluster\n}\n"
	cli.Write("main.tf", strings.Replace(main("pull-request", "  labels = { a = \"b\" }\n"), data, "", 1))
	if out, code := cli.Run(t.Context(), "plan", "-refresh=false", "-no-color", "-detailed-exitcode"); code != 2 {
		t.Errorf("the role of a pull request cannot plan without a refresh (exit code %d):\n%s", code, out)
	}

	cli.Write("main.tf", main("apply", ""))
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	if left := holdings(t, namespace); len(left) > 0 {
		t.Errorf("the destroy left %q", left)
	}
}

// holdings lists what is in the namespace beside the credentials of the test.
func holdings(t *testing.T, namespace string) []string {
	t.Helper()
	all, err := acctest.Kube(t).NamespaceContents(t.Context(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, o := range all {
		if !strings.HasPrefix(o, "role") && !strings.HasPrefix(o, "serviceaccount/test-") && o != "persistentvolumeclaim/backups" &&
			o != "secret/restic" {
			left = append(left, o)
		}
	}
	return left
}

// clusterRole grants a service account a ClusterRole of the documentation.
func clusterRole(t *testing.T, namespace, account, role string) {
	t.Helper()
	k, ctx := acctest.Kube(t), context.WithoutCancel(t.Context())
	text, err := os.ReadFile(filepath.Join(acctest.Root(t), "examples", "rbac", role+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var r rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict(text, &r); err != nil {
		t.Fatal(err)
	}
	r.Name = namespace + ":" + role
	t.Cleanup(func() {
		_ = k.RbacV1().ClusterRoleBindings().Delete(ctx, r.Name, metav1.DeleteOptions{})
		_ = k.RbacV1().ClusterRoles().Delete(ctx, r.Name, metav1.DeleteOptions{})
	})
	if _, err := k.RbacV1().ClusterRoles().Create(ctx, &r, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = k.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: r.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: r.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: namespace}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// credential creates a service account with a role of the documentation, once, by the documented commands, and
// returns the arguments of a provider block that uses it.
func credential(t *testing.T, namespace, role string) string {
	t.Helper()
	k, ctx := acctest.Kube(t), context.WithoutCancel(t.Context())
	account := "test-" + role
	text, err := os.ReadFile(filepath.Join(acctest.Root(t), "examples", "rbac", "credential.sh"))
	if err != nil {
		t.Fatal(err)
	}
	commands := strings.Split(strings.TrimSpace(string(text)), "\n")
	if _, err := k.CoreV1().ServiceAccounts(namespace).Get(ctx, account, metav1.GetOptions{}); err == nil {
		commands = commands[len(commands)-1:] // only a token
	} else if role == "apply" || role == "plan" {
		clusterRole(t, namespace, account, "auth-method-"+role)
	}
	script := strings.NewReplacer(
		"-n consul ",
		"-n "+namespace+" ",
		"=consul:terraform",
		"="+namespace+":"+account,
		"terraform",
		account,
		"consul-apply",
		"consul-"+role,
		"apply.yaml",
		role+".yaml",
	).Replace(strings.Join(commands, "\n"))
	lines := strings.Split(strings.TrimSpace(kubectlScript(t, script)), "\n")
	file, err := clientcmd.LoadFromFile(os.Getenv("KUBE_CONFIG_PATH"))
	if err != nil {
		t.Fatal(err)
	}
	if err := clientcmdapi.FlattenConfig(file); err != nil {
		t.Fatal(err)
	}
	server := file.Clusters[file.Contexts[file.CurrentContext].Cluster]
	return fmt.Sprintf(
		"  host = %q\n  cluster_ca_certificate = %q\n  token = %q\n",
		server.Server,
		server.CertificateAuthorityData,
		lines[len(lines)-1],
	)
}

// kubectlScript runs commands of the documentation beside its manifests, with the kubectl of the local cluster or of
// the machine, and returns their output.
func kubectlScript(t *testing.T, script string) string {
	t.Helper()
	local, err := localcluster.New(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", script)
	cmd.Dir = filepath.Join(acctest.Root(t), "examples", "rbac")
	cmd.Env = append(
		os.Environ(),
		"KUBECONFIG="+os.Getenv("KUBE_CONFIG_PATH"),
		"PATH="+filepath.Dir(local.KubectlPath())+":"+os.Getenv("PATH"),
	)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return string(out)
}
