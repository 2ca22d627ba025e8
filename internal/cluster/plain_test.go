package cluster

import (
	"strings"
	"testing"
	"time"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func clusterSchema(t *testing.T) schema.Schema {
	t.Helper()
	var resp resource.SchemaResponse
	NewResource().Schema(t.Context(), resource.SchemaRequest{}, &resp)
	if resp.Diagnostics.HasError() {
		t.Fatal(resp.Diagnostics)
	}
	return resp.Schema
}

// Each plain setting has an attribute, and a default that is not empty is the one of package server.
func TestSettings_haveAnAttribute(t *testing.T) {
	t.Parallel()
	attributes := clusterSchema(t).Attributes
	for _, setting := range server.Settings() {
		at, found := attributes, schema.Attribute(nil)
		for name := range strings.SplitSeq(setting.Name, ".") {
			found = at[name]
			if block, ok := found.(schema.SingleNestedAttribute); ok {
				at = block.Attributes
			}
		}
		if found == nil {
			t.Errorf("%s has no attribute", setting.Name)
			continue
		}
		var want tfattr.Value
		switch def := setting.Default().(type) {
		case bool:
			want = types.BoolValue(def)
		case int64:
			want = types.Int64Value(def)
		case time.Duration:
			want = types.StringValue(attr.ShortDuration(def))
		case string:
			want = attr.OptionalString(def)
		}
		switch setting.Name {
		case "tls.renew_before":
			want = types.StringValue(defaultRenewBefore)
		case "update.snapshot_to.image", "update.snapshot_to.repository.options": // values of another form
			continue
		}
		if got := defaultValue(t.Context(), found); !got.Equal(want) {
			t.Errorf("%s has the default %v, want %v", setting.Name, got, want)
		}
	}
}

// A configuration with no optional attribute is the default Spec, and is read back unchanged.
func TestModel_defaults(t *testing.T) {
	t.Parallel()
	s := clusterSchema(t)
	ctx := t.Context()
	values := map[string]tftypes.Value{}
	for name, a := range s.Attributes {
		v, err := a.GetType().ValueFromTerraform(ctx, tftypes.NewValue(a.GetType().TerraformType(ctx), nil))
		if name != "timeouts" {
			v = defaultValue(ctx, a)
		}
		if err != nil {
			t.Fatal(err)
		}
		if values[name], err = v.ToTerraformValue(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var declared model
	if d := (tfsdk.Plan{Raw: tftypes.NewValue(s.Type().TerraformType(ctx), values), Schema: s}).Get(ctx, &declared); d.HasError() {
		t.Fatal(d)
	}
	spec, d := declared.toSpec(ctx)
	if d.HasError() {
		t.Fatal(d)
	}
	if changes := server.Changes(server.Default(), spec); len(changes) > 0 {
		t.Errorf("the defaults of the schema differ from those of the servers: %v", changes)
	}
	var read model
	if d := read.fromSpec(ctx, spec); d.HasError() {
		t.Fatal(d)
	}
	for name, v := range map[string][2]tfattr.Value{
		"storage": {declared.Storage, read.Storage}, "resources": {declared.Resources, read.Resources},
		"placement": {declared.Placement, read.Placement}, "service": {declared.Service, read.Service},
		"update": {declared.Update, read.Update}, "gossip": {declared.Gossip, read.Gossip}, "tls": {declared.TLS, read.TLS},
		"security_context": {declared.SecurityContext, read.SecurityContext},
	} {
		if !v[1].Equal(v[0]) {
			t.Errorf("%s: declared as %v, read as %v", name, v[0], v[1])
		}
	}
	for i, p := range declared.plain() {
		if p.name == "version" || p.name == "image" { // the plan derives them from each other
			continue
		}
		if got := read.plain()[i].get(); !got.Equal(p.get()) {
			t.Errorf("%s: declared as %v, read as %v", p.name, p.get(), got)
		}
	}
}
