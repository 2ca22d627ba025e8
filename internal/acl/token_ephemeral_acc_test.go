package acl_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	dsschema "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	fwresource "github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	"github.com/hashicorp/terraform-plugin-testing/tfversion"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// probe is another provider of a user: it gets a secret ID in its provider block. Its data source <name>_token shows
// the answer of Consul to that at /v1/acl/token/self.
type probe struct {
	name string
	read func(ctx context.Context, secretID string) (*api.ACLToken, error)
}

func (p *probe) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = p.name
}

func (*probe) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{Attributes: map[string]schema.Attribute{"secret_id": schema.StringAttribute{Required: true, Sensitive: true}}}
}

func (*probe) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var secretID types.String
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("secret_id"), &secretID)...)
	resp.DataSourceData = secretID.ValueString()
}

func (*probe) Resources(context.Context) []func() fwresource.Resource { return nil }

func (p *probe) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{func() datasource.DataSource { return &probedToken{probe: p} }}
}

// probedToken is the data source of a probe.
type probedToken struct {
	*probe
	secretID string
}

func (d *probedToken) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = d.name + "_token"
}

func (*probedToken) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = dsschema.Schema{Attributes: map[string]dsschema.Attribute{
		"description": dsschema.StringAttribute{Computed: true}, "policy": dsschema.StringAttribute{Computed: true},
	}}
}

func (d *probedToken) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	d.secretID, _ = req.ProviderData.(string)
}

func (d *probedToken) Read(ctx context.Context, _ datasource.ReadRequest, resp *datasource.ReadResponse) {
	token, err := d.read(ctx, d.secretID)
	if err != nil {
		resp.Diagnostics.AddError("Consul refuses the token", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("description"), token.Description)...)
	for _, p := range token.Policies {
		resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("policy"), p.Name)...)
	}
}

// Another provider can use the secret IDs of an existing token and of a short-lived one during the run. Then the
// short-lived one is revoked.
func TestAccTokenEphemeral_givesAValidSecretID(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	var existing *api.ACLToken
	f.do(func(acl *api.ACL) (err error) {
		existing, _, err = acl.TokenCreate(&api.ACLToken{Description: "of the web team"}, nil)
		return err
	})
	var mu sync.Mutex
	seen := map[string]map[string]bool{"existing": {}, "short": {}} // secret IDs, by probe
	factories := acctest.Factories()
	for name := range maps.Keys(seen) {
		factories[name] = providerserver.NewProtocol6WithError(
			&probe{name: name, read: func(_ context.Context, secretID string) (self *api.ACLToken, err error) {
				mu.Lock()
				seen[name][secretID] = true
				mu.Unlock()
				err = f.Any(context.Background(), secretID, func(client *api.Client) (err error) {
					self, _, err = client.ACL().TokenReadSelf(nil)
					return err
				})
				return self, err
			}},
		)
	}
	hcl := fmt.Sprintf(`
ephemeral "consul_k8s_token" "existing" {
  cluster     = %[1]q
  accessor_id = %[2]q
}
ephemeral "consul_k8s_token" "short" {
  cluster  = %[1]q
  policies = ["builtin/global-read-only"]
}
provider "existing" {
  secret_id = ephemeral.consul_k8s_token.existing.secret_id
}
provider "short" {
  secret_id = ephemeral.consul_k8s_token.short.secret_id
}
data "existing_token" "a" {}
data "short_token" "a" {}
`, f.ID(), existing.AccessorID)
	acctest.PreCheck(t)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: factories,
		TerraformVersionChecks:   []tfversion.TerraformVersionCheck{tfversion.SkipBelow(tfversion.Version1_10_0)},
		Steps: []resource.TestStep{{
			Config: hcl,
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue("data.existing_token.a", tfjsonpath.New("description"), knownvalue.StringExact("of the web team")),
				statecheck.ExpectKnownValue("data.short_token.a", tfjsonpath.New("description"), knownvalue.StringExact("For one Terraform run")),
				statecheck.ExpectKnownValue("data.short_token.a", tfjsonpath.New("policy"), knownvalue.StringExact("builtin/global-read-only")),
			},
			Check: resource.ComposeTestCheckFunc(f.userTokens(1), func(*terraform.State) error {
				mu.Lock()
				defer mu.Unlock()
				if len(seen["existing"]) != 1 || !seen["existing"][existing.SecretID] {
					return fmt.Errorf("%d secret IDs of the existing token were given", len(seen["existing"]))
				}
				if len(seen["short"]) == 0 {
					return errors.New("no short-lived token was given")
				}
				for secretID := range seen["short"] {
					if known, err := f.knows(secretID); err != nil || known {
						return fmt.Errorf("a short-lived token is known after its run: %t, %w", known, err)
					}
				}
				return nil
			}),
		}},
	})
}

// The error about a short-lived token that cannot be created says what is missing, and where.
func TestAccTokenEphemeral_refusals(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	token := func(cluster, more string) string {
		return fmt.Sprintf("ephemeral \"consul_k8s_token\" \"a\" {\n  cluster = %q\n  %s\n}\n", cluster, more)
	}
	refused := func(hcl, says string) resource.TestStep {
		return resource.TestStep{Config: hcl, PlanOnly: true, ExpectError: acctest.Says(says)}
	}
	const unknown = "8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55"
	test(t, resource.TestCase{
		TerraformVersionChecks: []tfversion.TerraformVersionCheck{tfversion.SkipBelow(tfversion.Version1_10_0)},
		Steps: []resource.TestStep{
			refused(
				token(f.ID(), `policies = ["builtin/global-read-only", "nobody"]`),
				fmt.Sprintf(`policies: cluster %s has no policy "nobody". If the same apply creates it, refer to its attribute id`, f.ID()),
			),
			refused(token(f.ID(), `policies = ["`+unknown+`"]`), fmt.Sprintf(`has no policy %q`, unknown)),
			refused(token(f.ID(), `roles = ["nobody"]`), `roles: cluster `+f.ID()+` has no role "nobody"`),
			refused(token(f.Namespace+"/other", `roles = ["nobody"]`), "Cannot create the token"),
			refused(token(f.ID(), `accessor_id = "`+unknown+`"`), "Cannot read the token"),
			{Config: token(f.ID(), `policies = ["builtin/global-read-only"]`)},
		},
	})
}
