package cluster_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// A replacement of the gossip key, and one of the certificate authority, are killed in each of their phases. The next
// apply resumes each. Meanwhile no write fails, and no server restarts.
func TestAccLong_resumesAKilledRotation(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(key, ca string) string {
		return required + hclVersion(namespace, acctest.ConsulVersion, `
  create_namespace = true
  gossip = { enabled = true, rotation = { trigger = "`+key+`" } }
  tls    = { enabled = true, ca_trigger = "`+ca+`" }
`)
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("1", "1")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	client := acctest.StartWriter(t, namespace, "no-token")
	client.More(5)
	before := runs(t, namespace)
	keys, err := gossipKeys(t, namespace)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := publishedCA(t, namespace)
	if err != nil {
		t.Fatal(err)
	}
	killed := func(phase, secret string, reached func(*corev1.Secret) bool) {
		t.Helper()
		killed, out := cli.RunAndKill(t.Context(), "apply", func(ctx context.Context) bool {
			s, err := acctest.Kube(t).CoreV1().Secrets(namespace).Get(ctx, secret, metav1.GetOptions{})
			return err == nil && reached(s)
		})
		if !killed {
			t.Fatalf("the apply ended before it could be killed while %s:\n%s", phase, out)
		}
	}
	annotation := func(name, value string) func(*corev1.Secret) bool {
		return func(s *corev1.Secret) bool { return s.Annotations["terraform-provider-consul-k8s/"+name] == value }
	}
	has := func(key string) func(*corev1.Secret) bool {
		return func(s *corev1.Secret) bool { return len(s.Data[key]) > 0 }
	}

	cli.Write("main.tf", config("2", "1"))
	killed("the new key is installed", gossipSecret, annotation("keyring-phase", "install"))
	killed("the old key is removed", gossipSecret, annotation("keyring-phase", "retire"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
	var key string
	if err := encrypted(t, namespace, 3, &key)(nil); err != nil || key == keys[0] {
		t.Errorf("the key was replaced: %t, %v", key != keys[0], err)
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode", "-lock=false")

	cli.Write("main.tf", config("2", "2"))
	killed("the new authority is told to the servers", "consul-ca", has("next-tls.crt"))
	killed("it signs, and the former one is trusted too", "consul-ca", has("former-ca.crt"))
	killed("the servers load the new certificate", "consul-tls", annotation("unloaded", "true"))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
	after, err := publishedCA(t, namespace)
	if err != nil || len(after) != 1 || after[0].Equal(trusted[0]) {
		t.Errorf("%d authorities are trusted: %v", len(after), err)
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode", "-lock=false")

	if n := len(restarted(before, runs(t, namespace))); n > 0 {
		t.Errorf("%d servers restarted", n)
	}
	client.More(5)
	if err := client.Verify(""); err != nil {
		t.Error(err)
	}
	client.Stop()
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color", "-lock=false")
	namespaceGone(t, namespace)
}
