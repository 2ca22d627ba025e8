package acl_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// The secret ID of no token is in the state, in a plan, in the output of Terraform, or in a log of everything that
// Terraform and the provider do, from the first apply through a rotation to the destroy.
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
			f.tokenHCL(
				"a",
				"policies = [consul_k8s_policy.a.name]\nsecrets = [{ name = \"a\" }, { name = \"a\", key = \"file\", template = \"token = "+
					"{{.SecretID}}\" }]\nrotation = { trigger = \""+trigger+"\", grace_period = \"1s\" }",
			) +
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
resource "terraform_data" "until_collected" {
  triggers_replace = "` + trigger + `"
  provisioner "local-exec" {
    command     = "until [ -e \"$COLLECTED/$ACCESSOR_ID\" ]; do sleep 0.1; done"
    environment = { ACCESSOR_ID = ephemeral.consul_k8s_token.short.accessor_id }
  }
}
`
	}
	collected := t.TempDir() // a file for each short-lived token, named by its accessor ID
	secrets, shortLived := map[string]bool{}, map[string]bool{}
	// collecting reads all tokens again and again: short-lived ones are gone when a command ends.
	collecting := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				err := f.Any(ctx, f.token, func(client *api.Client) error {
					list, _, err := client.ACL().TokenList((&api.QueryOptions{}).WithContext(ctx))
					for _, token := range list {
						if token.SecretID != "anonymous" {
							secrets[token.SecretID] = true
						}
						if token.Description == "For one Terraform run" {
							shortLived[token.SecretID] = true
							if err := os.WriteFile(filepath.Join(collected, token.AccessorID), nil, 0o600); err != nil {
								t.Error(err)
							}
						}
					}
					return err
				})
				if err != nil && ctx.Err() == nil {
					t.Errorf("listing the tokens: %v", err)
				}
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
		return func() {
			cancel()
			done.Wait()
		}
	}
	const first, second = "1f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c01", "1f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c02"
	cli := acctest.NewCLI(t, map[string]string{"main.tf": hcl("1", "1")})
	log := filepath.Join(t.TempDir(), "log")
	cli.Setenv("TF_LOG", "TRACE")
	cli.Setenv("COLLECTED", collected)
	cli.Setenv("TF_LOG_PATH", log)
	written := &strings.Builder{}
	run := func(chosen string, args ...string) {
		t.Helper()
		cli.Setenv("TF_VAR_chosen", chosen)
		stop := collecting()
		defer stop()
		written.WriteString(cli.Must(t.Context(), args...))
		written.WriteString(cli.State())
	}
	for _, step := range []struct{ trigger, version, chosen string }{{"1", "1", first}, {"2", "2", second}} {
		cli.Write("main.tf", hcl(step.trigger, step.version))
		run(step.chosen, "plan", "-no-color", "-out", "plan")
		run(step.chosen, "show", "-json", "plan")
		run(step.chosen, "apply", "-no-color", "plan")
		run(step.chosen, "plan", "-no-color", "-detailed-exitcode")
	}
	run(second, "show", "-json")
	// A secret ID that is refused is not echoed.
	const bad = "9F6B3F8E-4D0A-4DD1-8E4E-6F3F2B1A9C03"
	secrets[bad] = true
	cli.Setenv("TF_VAR_chosen", bad)
	out, code := cli.Run(t.Context(), "plan", "-no-color")
	if code == 0 || !acctest.Says("secret_id_wo: it must be a UUID in lower case").MatchString(out) {
		t.Errorf("the plan ended with exit code %d: %s", code, out)
	}
	written.WriteString(out)
	run(second, "destroy", "-no-color", "-auto-approve")
	if err := f.userTokens(0)(nil); err != nil { // the short-lived ones are revoked
		t.Error(err)
	}
	trace, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	// The short-lived tokens are those of two applies, which wait for the collector, and those of plans that it saw
	// in time.
	if len(secrets)-len(shortLived) < 7 || len(shortLived) < 2 || !secrets[first] || !secrets[second] || len(trace) < 100_000 {
		t.Fatalf(
			"%d secret IDs, %d of them of short-lived tokens, were looked for in a log of %d bytes",
			len(secrets),
			len(shortLived),
			len(trace),
		)
	}
	for secret := range secrets {
		for where, text := range map[string]string{"the log": string(trace), "the state, a plan or the output": written.String()} {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("a secret ID is in %s: …%s", where, strings.ReplaceAll(text[max(0, i-200):i], secret, "***"))
			}
		}
	}
}
