package provider_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/provider"
)

// samples are legal values of required attributes, by the path of the attribute without indexes, or by its name if
// that is enough.
var samples = map[string]any{
	"cluster": "prod/consul", "namespace": "prod", "name": "consul", "rules": `key_prefix "" { policy = "read" }`,
	"schedule": "0 * * * *", "credentials_secret": "restic", "consul_k8s_auth_method.type": "kubernetes",
	"auth_method": "pods", "bind_type": "policy", "bind_name": "app", "confirm": "prod/consul", "snapshot": "latest",
	"from": "survivor", "trigger": "2026-11-30", "topology_key": "topology.kubernetes.io/zone", "stateful_set": "former", "key": "key",
	"service_name": "app", "node_name": "node-1", "datacenter": "dc1", "template_name": "builtin/dns", "api_version": "v1", "command": "true",
	"last": 3, "consul_k8s_cluster.version": "1.22.7", "volume_claim": "backups", "restore_from.snapshot": "0a1b2c3d",
}

// also are attributes that a resource requires although its schema does not say so.
var also = map[string][]string{
	"consul_k8s_cluster":         {"version"},
	"consul_k8s_backup_schedule": {"repository.volume_claim", "retention.last"},
	"consul_k8s_snapshot":        {"repository.volume_claim"},
	"consul_k8s_restore":         {"repository.volume_claim"},
}

// attribute is one attribute of a resource, with its path.
type attribute struct {
	path   []string
	schema *tfprotov6.SchemaAttribute
}

// walk lists all attributes, each before its nested ones.
func walk(attributes []*tfprotov6.SchemaAttribute, at []string) []attribute {
	var all []attribute
	for _, a := range attributes {
		p := append(slices.Clone(at), a.Name)
		all = append(all, attribute{p, a})
		if a.NestedType != nil {
			all = append(all, walk(a.NestedType.Attributes, p)...)
		}
	}
	return all
}

// builder builds configurations of one resource.
type builder struct {
	t        *testing.T
	resource string
}

// object builds an object of attributes: the required ones, and those on the path to the attribute that is set.
func (b builder) object(attributes []*tfprotov6.SchemaAttribute, at, set []string, value any) tftypes.Value {
	types, values := map[string]tftypes.Type{}, map[string]tftypes.Value{}
	for _, a := range attributes {
		types[a.Name] = a.ValueType()
		p := append(slices.Clone(at), a.Name)
		rest := []string(nil)
		if len(set) > 0 && set[0] == a.Name {
			rest = set[1:]
		}
		values[a.Name] = b.attribute(a, p, len(set) > 0 && set[0] == a.Name, rest, value)
	}
	return tftypes.NewValue(tftypes.Object{AttributeTypes: types}, values)
}

func (b builder) attribute(a *tfprotov6.SchemaAttribute, at []string, onWay bool, rest []string, value any) tftypes.Value {
	if onWay && len(rest) == 0 {
		v, ok := value.(tftypes.Value)
		if !ok {
			b.t.Fatalf("%v is not a value", value)
		}
		return v
	}
	needed := slices.ContainsFunc(also[b.resource], func(p string) bool {
		return p == strings.Join(at, ".") || strings.HasPrefix(p, strings.Join(at, ".")+".")
	})
	switch {
	case !onWay && !a.Required && !needed:
		return tftypes.NewValue(a.ValueType(), nil)
	case a.NestedType != nil:
		o := b.object(a.NestedType.Attributes, at, rest, value)
		switch a.NestedType.Nesting {
		case tfprotov6.SchemaObjectNestingModeSingle:
			return o
		case tfprotov6.SchemaObjectNestingModeMap:
			return tftypes.NewValue(a.ValueType(), map[string]tftypes.Value{"x": o})
		default:
			return tftypes.NewValue(a.ValueType(), []tftypes.Value{o})
		}
	}
	for _, name := range []string{b.resource + "." + strings.Join(at, "."), strings.Join(at, "."), a.Name} {
		if s, ok := samples[name]; ok {
			return tftypes.NewValue(a.ValueType(), s)
		}
	}
	b.t.Fatalf("%s.%s is required: add a legal value to samples", b.resource, strings.Join(at, "."))
	return tftypes.Value{}
}

// variations are values of a type to try, with a description of each.
func variations(t tftypes.Type) map[string]tftypes.Value {
	all := map[string]tftypes.Value{"null": tftypes.NewValue(t, nil), "unknown": tftypes.NewValue(t, tftypes.UnknownValue)}
	add := func(name string, v any) { all[name] = tftypes.NewValue(t, v) }
	switch {
	case t.Is(tftypes.String):
		for name, s := range map[string]string{
			"empty": "", "a space": " ", "63 letters": strings.Repeat("a", 63), "64 letters": strings.Repeat("a", 64),
			"253 letters": strings.Repeat("a", 253),
			"254 letters": strings.Repeat("a", 254), "upper case": "A",
			"a dot": "a.b", "a slash": "a/b", "a number": "1", "a duration": "-1s", "not ASCII": "ä", "JSON": `{"a":1}`, "HCL": "a = 1",
		} {
			add(name, s)
		}
	case t.Is(tftypes.Number):
		for _, n := range []int64{-1, 0, 1, 2, 65535, 65536, 1 << 31, 1<<62 + 1} {
			add(fmt.Sprint(n), n)
		}
	case t.Is(tftypes.Bool):
		add("true", true)
		add("false", false)
	case t.Is(tftypes.List{}), t.Is(tftypes.Set{}):
		add("empty", []tftypes.Value{})
		for name, e := range variations(elementOf(t)) {
			add("with "+name, []tftypes.Value{e})
		}
	case t.Is(tftypes.Map{}):
		add("empty", map[string]tftypes.Value{})
		add("an empty key", map[string]tftypes.Value{"": tftypes.NewValue(elementOf(t), nil)})
		for name, e := range variations(elementOf(t)) {
			add("with "+name, map[string]tftypes.Value{"a": e})
		}
	}
	return all
}

func elementOf(t tftypes.Type) tftypes.Type {
	switch t := t.(type) {
	case tftypes.List:
		return t.ElementType
	case tftypes.Set:
		return t.ElementType
	case tftypes.Map:
		return t.ElementType
	}
	return nil
}

// Whatever the value of an attribute is, the plan accepts it, or refuses it in the words of the provider and names
// the attribute. It plans no other value than the written one. Numbers are whole: the framework itself refuses
// fractions.
func TestSchemas_everyAttributeTakesOrRefusesEveryValue(t *testing.T) {
	t.Parallel()
	_, schemas, _ := unknownProvider(t)
	for name, schema := range schemas.ResourceSchemas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, configure := unknownProvider(t)
			b := builder{t, name}
			try := func(what string, root string, config tftypes.Value, legal bool) {
				t.Helper()
				defer func() {
					if r := recover(); r != nil {
						t.Errorf("%s: panic: %v", what, r)
					}
				}()
				configure() // a provider that has planned nothing yet
				check(t, s, name, schema.ValueType(), what, root, config, legal)
			}
			try("what is required", "", b.object(schema.Block.Attributes, nil, nil, nil), true)
			for _, a := range walk(schema.Block.Attributes, nil) {
				if !a.schema.Required && !a.schema.Optional {
					continue
				}
				for what, v := range variations(a.schema.ValueType()) {
					config := b.object(schema.Block.Attributes, nil, a.path, v)
					try(strings.Join(a.path, ".")+": "+what, a.path[0], config, false)
				}
			}
		})
	}
}

// unknownProvider is the provider with a block of unknown values: it connects to nothing.
func unknownProvider(t *testing.T) (s tfprotov6.ProviderServer, schemas *tfprotov6.GetProviderSchemaResponse, configure func()) {
	t.Helper()
	s, err := providerserver.NewProtocol6WithError(provider.New("test")())()
	if err != nil {
		t.Fatal(err)
	}
	schemas, err = s.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]tftypes.Value{}
	for _, a := range schemas.Provider.Block.Attributes {
		values[a.Name] = tftypes.NewValue(a.ValueType(), nil)
		if a.Name == "host" {
			values[a.Name] = tftypes.NewValue(a.ValueType(), tftypes.UnknownValue)
		}
	}
	typ := schemas.Provider.ValueType()
	config := dynamic(t, typ, tftypes.NewValue(typ, values))
	return s, schemas, func() {
		t.Helper()
		configured, err := s.ConfigureProvider(t.Context(), &tfprotov6.ConfigureProviderRequest{TerraformVersion: "1.11.4", Config: config})
		if err != nil || len(configured.Diagnostics) > 0 {
			t.Fatal(err, configured)
		}
	}
}

func dynamic(t *testing.T, typ tftypes.Type, v tftypes.Value) *tfprotov6.DynamicValue {
	t.Helper()
	d, err := tfprotov6.NewDynamicValue(typ, v)
	if err != nil {
		t.Fatal(err)
	}
	return &d
}

// check validates and plans one configuration. root is the attribute that varies.
func check(t *testing.T, s tfprotov6.ProviderServer, name string, typ tftypes.Type, what, root string, config tftypes.Value, legal bool) {
	t.Helper()
	ctx := context.Background()
	value := dynamic(t, typ, config)
	validated, err := s.ValidateResourceConfig(ctx, &tfprotov6.ValidateResourceConfigRequest{TypeName: name, Config: value})
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if refused(t, what, root, validated.Diagnostics, legal) {
		return
	}
	planned, err := s.PlanResourceChange(ctx, &tfprotov6.PlanResourceChangeRequest{
		TypeName: name, Config: value, ProposedNewState: value, PriorState: dynamic(t, typ, tftypes.NewValue(typ, nil)),
	})
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if refused(t, what, root, planned.Diagnostics, legal) {
		return
	}
	state, err := planned.PlannedState.Unmarshal(typ)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	diffs, err := config.Diff(state)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	var defaults []string // what is not set may be computed, with everything in it
	for _, d := range diffs {
		steps := d.Path.Steps()
		if len(steps) == 0 || d.Value1 == nil || !d.Value1.IsNull() {
			continue
		}
		if _, ok := steps[len(steps)-1].(tftypes.AttributeName); ok {
			defaults = append(defaults, d.Path.String())
		}
	}
	for _, d := range diffs {
		if slices.ContainsFunc(defaults, func(at string) bool { return d.Path.String() == at || strings.HasPrefix(d.Path.String(), at+".") }) {
			continue
		}
		if v := d.Value1; v != nil {
			scalar := v.Type().Is(tftypes.String) || v.Type().Is(tftypes.Number) || v.Type().Is(tftypes.Bool)
			if !v.IsKnown() || (!scalar && !v.IsNull()) { // a container differs if something in it does
				continue
			}
		}
		t.Errorf("%s: %s is planned as %v", what, d.Path, d.Value2)
	}
}

// frameworkErrors are parts of texts that are written for developers of providers.
var frameworkErrors = []string{
	"Value Conversion", "unexpected error", "provider developer", "always an error in the provider",
	"bug in the provider", "Value({", "tftypes",
}

// requiredMissing is the framework's error about a missing attribute, which names the attribute.
const requiredMissing = "Missing Configuration for Required Attribute"

// refused reports whether there is an error, and fails if an error does not name the attribute, or is not in the
// words of the provider.
func refused(t *testing.T, what, root string, diags []*tfprotov6.Diagnostic, legal bool) bool {
	t.Helper()
	found := false
	for _, d := range diags {
		text := d.Summary + ": " + d.Detail
		for _, f := range frameworkErrors {
			if strings.Contains(text, f) && d.Summary != requiredMissing {
				t.Errorf("%s: an error of the framework: %s", what, text)
			}
		}
		if d.Severity != tfprotov6.DiagnosticSeverityError {
			continue
		}
		found = true
		if legal {
			t.Errorf("%s: refused: %s", what, text)
		}
		if named := strings.Contains(text, root) || (d.Attribute != nil && strings.Contains(d.Attribute.String(), root)); !named {
			t.Errorf("%s: the refusal does not name the attribute: %s (at %s)", what, text, d.Attribute)
		}
	}
	return found
}
