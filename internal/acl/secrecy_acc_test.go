package acl_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/acctest"
)

// No secret ID, of whatever token, is in the state, in a plan, in what Terraform
// prints, or in a log of everything that Terraform and the provider do, from the
// first apply over a rotation to the destroy.
func TestAccToken_noSecretIDIsWrittenAnywhere(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	hcl := func(trigger, version string) string {
		return `terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}
variable "chosen" {
  type      = string
  ephemeral = true
}
` + f.policy("a", "name = \"a\"\nrules = \"key_prefix \\\"\\\" { policy = \\\"write\\\" }\"") +
			f.tokenHCL("a", "policies = [consul_k8s_policy.a.name]\nsecrets = [{ name = \"a\" }, { name = \"a\", key = \"file\", template = \"token = {{.SecretID}}\" }]\nrotation = { trigger = \""+trigger+"\", grace_period = \"1s\" }") +
			f.tokenHCL("b", "secret_id_wo = var.chosen\nsecret_id_wo_version = \""+version+"\"\nrotation = { grace_period = \"1s\" }") +
			`data "consul_k8s_token" "a" {
  cluster     = consul_k8s_token.a.cluster
  accessor_id = consul_k8s_token.a.accessor_id
}
ephemeral "consul_k8s_token" "a" {
  cluster     = consul_k8s_token.a.cluster
  accessor_id = consul_k8s_token.a.accessor_id
}
ephemeral "consul_k8s_token" "short" {
  cluster  = consul_k8s_token.a.cluster
  policies = [consul_k8s_policy.a.id]
}
`
	}
	secrets := map[string]bool{}
	collect := func() {
		f.do(func(acl *api.ACL) error {
			list, _, err := acl.TokenList(nil)
			for _, token := range list {
				if token.SecretID != "anonymous" {
					secrets[token.SecretID] = true
				}
			}
			return err
		})
	}
	const first, second = "1f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c01", "1f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c02"
	cli := acctest.NewCLI(t, map[string]string{"main.tf": hcl("1", "1")})
	log := filepath.Join(t.TempDir(), "log")
	cli.Setenv("TF_LOG", "TRACE")
	cli.Setenv("TF_LOG_PATH", log)
	written := &strings.Builder{}
	run := func(chosen string, args ...string) {
		t.Helper()
		cli.Setenv("TF_VAR_chosen", chosen)
		written.WriteString(cli.Must(t.Context(), args...))
		written.WriteString(cli.State())
		collect()
	}
	for _, step := range []struct{ trigger, version, chosen string }{{"1", "1", first}, {"2", "2", second}} {
		cli.Write("main.tf", hcl(step.trigger, step.version))
		run(step.chosen, "plan", "-no-color", "-out", "plan")
		run(step.chosen, "show", "-json", "plan")
		run(step.chosen, "apply", "-no-color", "plan")
		run(step.chosen, "plan", "-no-color", "-detailed-exitcode")
	}
	run(second, "show", "-json")
	run(second, "destroy", "-no-color", "-auto-approve")
	if err := f.userTokens(0)(nil); err != nil { // the short-lived ones are revoked
		t.Error(err)
	}
	trace, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets) < 6 || !secrets[first] || !secrets[second] || len(trace) < 100_000 {
		t.Fatalf("%d secret IDs were looked for in a log of %d bytes", len(secrets), len(trace))
	}
	for secret := range secrets {
		for where, text := range map[string]string{"the log": string(trace), "the state, a plan or the output": written.String()} {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("a secret ID is in %s: …%s", where, strings.ReplaceAll(text[max(0, i-200):i], secret, "***"))
			}
		}
	}
}
