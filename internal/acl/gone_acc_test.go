package acl_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// Something that a token needs and somebody deletes, such as a policy or the namespace of its Secret, is drift of
// that token alone: every other plan, apply, and destroy works. The token is delivered again when its namespace is
// back.
func TestAccToken_missingObjectsBlockNoOtherResource(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	k, app := acctest.Kube(t), f.Namespace+"-app"
	namespaces := k.CoreV1().Namespaces()
	makeNamespace := func() {
		t.Helper()
		if _, err := namespaces.Create(
			t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: app}}, metav1.CreateOptions{},
		); err != nil {
			t.Fatal(err)
		}
	}
	deleteNamespace := func() {
		t.Helper()
		if err := namespaces.Delete(t.Context(), app, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		acctest.Wait(t, "the namespace to be deleted", func(ctx context.Context) (string, error) {
			_, err := namespaces.Get(ctx, app, metav1.GetOptions{})
			if found, err := kube.Found(err); found || err != nil {
				return "it is there", err
			}
			return "", nil
		})
	}
	makeNamespace()
	t.Cleanup(func() { _ = namespaces.Delete(context.WithoutCancel(t.Context()), app, metav1.DeleteOptions{}) })
	f.do(func(acl *api.ACL) error {
		_, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "by-hand", Rules: `operator = "read"`}, nil)
		return err
	})
	hcl := func(description string) string {
		return requiredProviders + f.tokenHCL("app", fmt.Sprintf(`description = "app"
  service_identities = [{ service_name = "app" }]
  secret = { namespace = %q, name = "consul-token", labels = { team = "web" }, template = "token = \"{{ .SecretID }}\"\n" }
  rotation = { trigger = "1", grace_period = "1s" }`, app)) +
			f.tokenHCL("b", fmt.Sprintf("description = %q\npolicies = [\"by-hand\"]\nsecret = { name = \"b\" }", description))
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": hcl("one")})
	run := func(want int, says []string, args ...string) {
		t.Helper()
		out, code := cli.Run(t.Context(), append(args, "-no-color")...)
		if code != want {
			t.Fatalf("%v ended with exit code %d:\n%s", args, code, out)
		}
		for _, s := range says {
			if !acctest.Says(s).MatchString(out) {
				t.Errorf("%v does not say %q:\n%s", args, s, out)
			}
		}
	}
	read := func() string {
		s, err := k.CoreV1().Secrets(app).Get(t.Context(), "consul-token", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return string(s.Data["token"])
	}
	run(0, nil, "apply", "-auto-approve")
	before := read()

	// The plan after an import is empty.
	_, id, _ := strings.Cut(cli.Must(t.Context(), "state", "show", "-no-color", "consul_k8s_token.app"), "accessor_id")
	id = strings.Split(id, "\"")[1]
	run(0, nil, "state", "rm", "consul_k8s_token.app")
	run(0, nil, "import", "consul_k8s_token.app", f.ID()+"/"+id)
	run(0, nil, "plan", "-detailed-exitcode")

	deleteNamespace()
	cli.Write("main.tf", hcl("two"))
	gone := []string{"The namespace of a Secret is gone", "the namespace " + app + " does not exist"}
	run(2, append(gone, "0 to add, 2 to change, 0 to destroy"), "plan", "-detailed-exitcode")
	run(0, []string{"2 changed"}, "apply", "-auto-approve")
	run(2, append(gone, "0 to add, 1 to change, 0 to destroy"), "plan", "-detailed-exitcode")
	makeNamespace()
	run(0, []string{"1 changed"}, "apply", "-auto-approve")
	if read() != before {
		t.Error("it is another token")
	}
	run(0, nil, "plan", "-detailed-exitcode")

	// Consul removes a deleted policy from the token.
	f.do(func(acl *api.ACL) error {
		p, _, err := acl.PolicyReadByName("by-hand", nil)
		if err == nil {
			_, err = acl.PolicyDelete(p.ID, nil)
		}
		return err
	})
	run(2, []string{"A policy is gone", "1 to change"}, "plan", "-detailed-exitcode")
	deleteNamespace()
	run(0, []string{"2 destroyed"}, "destroy", "-auto-approve")
	if err := f.userTokens(0)(nil); err != nil {
		t.Error(err)
	}
}
