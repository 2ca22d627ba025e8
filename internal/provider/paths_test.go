package provider_test

import (
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/provider"
)

// A diagnostic about an element of a set names it by the path that a user writes, without the whole element.
func TestDiagnostics_nameElementsOfSetsAsAUserDoes(t *testing.T) {
	t.Parallel()
	s, err := providerserver.NewProtocol6WithError(provider.New("test")())()
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := s.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for name, schema := range schemas.ResourceSchemas {
		kind, ok := schema.ValueType().(tftypes.Object)
		if !ok {
			t.Fatalf("%s is a %s", name, schema.ValueType())
		}
		for attribute, is := range kind.AttributeTypes {
			if !is.Is(tftypes.Set{}) {
				continue
			}
			for _, leaf := range []string{"", "-A b"} {
				values := map[string]tftypes.Value{}
				for other, kind := range kind.AttributeTypes {
					values[other] = tftypes.NewValue(kind, nil)
				}
				values[attribute] = filled(is, leaf)
				config, err := tfprotov6.NewDynamicValue(kind, tftypes.NewValue(kind, values))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := s.ValidateResourceConfig(t.Context(), &tfprotov6.ValidateResourceConfigRequest{TypeName: name, Config: &config})
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range resp.Diagnostics {
					if strings.Contains(d.Summary+d.Detail, "Value(") {
						t.Errorf("%s.%s: %s: %s", name, attribute, d.Summary, d.Detail)
					}
					if strings.HasPrefix(d.Detail, attribute) {
						told++
					}
				}
			}
		}
	}
	if told < 8 {
		t.Errorf("only %d diagnostics were about elements of sets", told)
	}
}

// filled is a value of a type in which each text is the same, and every collection has one element.
func filled(kind tftypes.Type, leaf string) tftypes.Value {
	switch kind := kind.(type) {
	case tftypes.Object:
		values := map[string]tftypes.Value{}
		for name, of := range kind.AttributeTypes {
			values[name] = filled(of, leaf)
		}
		return tftypes.NewValue(kind, values)
	case tftypes.Set:
		return tftypes.NewValue(kind, []tftypes.Value{filled(kind.ElementType, leaf)})
	case tftypes.List:
		return tftypes.NewValue(kind, []tftypes.Value{filled(kind.ElementType, leaf)})
	case tftypes.Map:
		return tftypes.NewValue(kind, map[string]tftypes.Value{leaf: filled(kind.ElementType, leaf)})
	}
	if kind.Is(tftypes.String) {
		return tftypes.NewValue(kind, leaf)
	}
	return tftypes.NewValue(kind, nil)
}
