package provider_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

func TestMain(m *testing.M) { acctest.Main(m) }

func config(provider, namespace string) string {
	return fmt.Sprintf(`
provider "consul" {
%s
}
resource "consul_k8s_cluster" "test" {
  name      = "consul"
  namespace = %q
  version   = %q
  replicas  = 1
  storage   = { size = "1Gi", retention = { when_deleted = "Delete" } }
%s
}
`, provider, namespace, acctest.ConsulVersion, acctest.Small)
}

func test(t *testing.T, steps ...resource.TestStep) {
	t.Helper()
	acctest.PreCheck(t)
	resource.Test(t, resource.TestCase{ProtoV6ProviderFactories: acctest.Factories(), Steps: steps})
}

// withoutEnvironment removes every variable that names a Kubernetes cluster.
func withoutEnvironment(t *testing.T) (kubeconfig string) {
	t.Helper()
	acctest.PreCheck(t)
	kubeconfig = os.Getenv("KUBE_CONFIG_PATH")
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "KUBE_") {
			t.Setenv(name, "") // restored when the test ends
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kubeconfig
}

func TestAccProvider_notConfiguredSaysWhatToSet(t *testing.T) {
	kubeconfig := withoutEnvironment(t)
	// Neither of these is read.
	t.Setenv("KUBECONFIG", kubeconfig)
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "1")
	test(
		t,
		resource.TestStep{
			Config:      config("", "ns"),
			ExpectError: acctest.Says("set host (with token, client_certificate and client_key, or exec), or config_path"),
		},
	)
}

func TestAccProvider_missingKubeconfig(t *testing.T) {
	withoutEnvironment(t)
	test(t, resource.TestStep{Config: config(`config_path = "/no/such/file"`, "ns"), ExpectError: acctest.Says("/no/such/file")})
}

func TestAccProvider_wrongClusterIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	test(t, resource.TestStep{
		Config:      config(`expected_cluster_uid = "00000000-0000-0000-0000-000000000000"`, namespace),
		ExpectError: acctest.Says("Nothing was touched"),
	})
	left, err := acctest.Kube(t).NamespaceContents(t.Context(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("there is %q in the namespace", left)
	}
}

func TestAccProvider_expectedClusterAndHostWithCertificates(t *testing.T) {
	kubeconfig := withoutEnvironment(t)
	file, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	context := file.Contexts[file.CurrentContext]
	server, user := file.Clusters[context.Cluster], file.AuthInfos[context.AuthInfo]
	if len(user.ClientCertificateData) == 0 || len(server.CertificateAuthorityData) == 0 {
		t.Skip("the kubeconfig does not hold a client certificate and a certificate authority")
	}
	t.Setenv("KUBE_CONFIG_PATH", kubeconfig) // for the client of the test
	namespace := acctest.Namespace(t)
	uid, err := acctest.Kube(t).ClusterUID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Unsetenv("KUBE_CONFIG_PATH"); err != nil {
		t.Fatal(err)
	}
	test(t, resource.TestStep{Config: config(fmt.Sprintf(`
  host                   = %q
  cluster_ca_certificate = %q
  client_certificate     = %q
  client_key             = %q
  expected_cluster_uid   = %q
`, server.Server, server.CertificateAuthorityData, user.ClientCertificateData, user.ClientKeyData, uid), namespace)})
}

// A credential plugin provides the client certificate of the kubeconfig.
func TestAccProvider_exec(t *testing.T) {
	kubeconfig := withoutEnvironment(t)
	file, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	context := file.Contexts[file.CurrentContext]
	server, user := file.Clusters[context.Cluster], file.AuthInfos[context.AuthInfo]
	if len(user.ClientCertificateData) == 0 || len(server.CertificateAuthorityData) == 0 {
		t.Skip("the kubeconfig does not hold a client certificate and a certificate authority")
	}
	credential := filepath.Join(t.TempDir(), "credential.json")
	text := fmt.Sprintf(
		`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"clientCertificateData":%q,"clientKeyData":%q}}`,
		user.ClientCertificateData,
		user.ClientKeyData,
	)
	if err := os.WriteFile(credential, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	test(t, resource.TestStep{
		// The read of a namespace that does not exist shows that the credential is valid.
		Config: config(fmt.Sprintf(`
  host                   = %q
  cluster_ca_certificate = %q
  exec = {
    api_version = "client.authentication.k8s.io/v1"
    command     = "sh"
    args        = ["-c", "cat $CREDENTIAL"]
    env         = { CREDENTIAL = %q }
  }
`, server.Server, server.CertificateAuthorityData, credential), "no-such-namespace"),
		ExpectError: acctest.Says("There is no namespace no-such-namespace"),
	})
}

// The Kubernetes cluster may be created in the same apply: its address is not known at plan.
func TestAccProvider_unknownAtPlan(t *testing.T) {
	kubeconfig := withoutEnvironment(t)
	t.Setenv("KUBE_CONFIG_PATH", kubeconfig)
	namespace := acctest.Namespace(t)
	if err := os.Unsetenv("KUBE_CONFIG_PATH"); err != nil {
		t.Fatal(err)
	}
	unknown := func(revision int) string {
		return fmt.Sprintf("resource \"terraform_data\" \"kubernetes\" {\n  input = %q\n  triggers_replace = %d\n}\n", kubeconfig, revision) +
			config("  config_path = terraform_data.kubernetes.output", namespace)
	}
	test(t,
		resource.TestStep{Config: unknown(1)},
		// Unknown again, with a cluster in the state, which is neither removed nor replaced.
		resource.TestStep{Config: unknown(2)},
		resource.TestStep{Config: unknown(2), PlanOnly: true},
	)
}
