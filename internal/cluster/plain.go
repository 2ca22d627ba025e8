package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/defaults"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// This file turns the plain settings of package server into attributes. The name of a setting is the path of its attribute.

// textAttribute is the attribute of a setting that is a text. In its description, {default} stands for the default.
func textAttribute(name, description string, checks ...validator.String) schema.StringAttribute {
	def := fmt.Sprint(server.SettingOf(name).Default())
	if d, ok := server.SettingOf(name).Default().(time.Duration); ok {
		def = attr.ShortDuration(d)
	}
	return schema.StringAttribute{
		Optional: true, Computed: true, Default: stringdefault.StaticString(def), Validators: checks,
		MarkdownDescription: describe(description, def),
	}
}

// durationAttribute is like textAttribute, for a duration in a range.
func durationAttribute(name string, low, high time.Duration, description string) schema.StringAttribute {
	a := textAttribute(name, description, attr.DurationBetween(low, high))
	a.PlanModifiers = []planmodifier.String{attr.KeepSameDuration()}
	return a
}

// boolAttribute is like textAttribute, for a boolean.
func boolAttribute(name, description string) schema.BoolAttribute {
	def, _ := server.SettingOf(name).Default().(bool)
	return schema.BoolAttribute{
		Optional: true, Computed: true, Default: booldefault.StaticBool(def), MarkdownDescription: describe(description, def),
	}
}

// numberAttribute is like textAttribute, for a number.
func numberAttribute(name, description string, checks ...validator.Int64) schema.Int64Attribute {
	def, _ := server.SettingOf(name).Default().(int64)
	return schema.Int64Attribute{
		Optional: true, Computed: true, Default: int64default.StaticInt64(def), Validators: checks,
		MarkdownDescription: describe(description, def),
	}
}

// describe puts a default into a description.
func describe(description string, def any) string {
	return strings.ReplaceAll(description, "{default}", fmt.Sprintf("`%v`", def))
}

// withDefaults completes an attribute with nested attributes: by default, each of these has its own default.
func withDefaults(a schema.SingleNestedAttribute) schema.SingleNestedAttribute {
	a.Optional, a.Computed, a.Default = true, true, nestedDefaults{a}
	return a
}

// nestedDefaults is the default of a block.
type nestedDefaults struct{ block schema.SingleNestedAttribute }

func (nestedDefaults) Description(context.Context) string               { return "the defaults of its attributes" }
func (d nestedDefaults) MarkdownDescription(ctx context.Context) string { return d.Description(ctx) }

func (d nestedDefaults) DefaultObject(ctx context.Context, _ defaults.ObjectRequest, resp *defaults.ObjectResponse) {
	values := map[string]tfattr.Value{}
	for name, nested := range d.block.Attributes {
		values[name] = defaultValue(ctx, nested)
	}
	resp.PlanValue = types.ObjectValueMust(attributeTypes(d.block), values)
}

// attributeTypes are the types of the nested attributes.
func attributeTypes(a schema.Attribute) map[string]tfattr.Type {
	t, _ := a.GetType().(types.ObjectType)
	return t.AttrTypes
}

// defaultValue is the default of an attribute, null if it has none.
func defaultValue(ctx context.Context, a schema.Attribute) tfattr.Value {
	switch a := a.(type) {
	case schema.StringAttribute:
		if a.Default != nil {
			var resp defaults.StringResponse
			a.Default.DefaultString(ctx, defaults.StringRequest{}, &resp)
			return resp.PlanValue
		}
	case schema.BoolAttribute:
		if a.Default != nil {
			var resp defaults.BoolResponse
			a.Default.DefaultBool(ctx, defaults.BoolRequest{}, &resp)
			return resp.PlanValue
		}
	case schema.Int64Attribute:
		if a.Default != nil {
			var resp defaults.Int64Response
			a.Default.DefaultInt64(ctx, defaults.Int64Request{}, &resp)
			return resp.PlanValue
		}
	case schema.MapAttribute:
		if a.Default != nil {
			var resp defaults.MapResponse
			a.Default.DefaultMap(ctx, defaults.MapRequest{}, &resp)
			return resp.PlanValue
		}
	case schema.SingleNestedAttribute:
		if a.Default != nil {
			var resp defaults.ObjectResponse
			a.Default.DefaultObject(ctx, defaults.ObjectRequest{}, &resp)
			return resp.PlanValue
		}
	}
	null, err := a.GetType().ValueFromTerraform(ctx, tftypes.NewValue(a.GetType().TerraformType(ctx), nil))
	if err != nil {
		panic(err) // every type has a null value
	}
	return null
}

// plain is an attribute of the cluster that is a plain setting, or a block of nothing else.
type plain struct {
	name      string
	attribute func() schema.Attribute
	// get and set are the field of the model.
	get func() tfattr.Value
	set func(tfattr.Value)
}

// newPlain is a plain attribute with its field in the model.
func newPlain[T tfattr.Value](name string, field *T, attribute func() schema.Attribute) plain {
	return plain{name, attribute, func() tfattr.Value { return *field }, func(v tfattr.Value) { *field, _ = v.(T) }}
}

// toSettings sets the settings of a plain attribute, which is known, in a spec.
func toSettings(name string, v tfattr.Value, s *server.Spec, diags *diag.Diagnostics) {
	if block, ok := v.(types.Object); ok {
		if block.IsNull() || block.IsUnknown() {
			diags.AddError("Incomplete configuration", name+" is not known. This is a bug in the provider.")
		}
		for nested, v := range block.Attributes() {
			toSettings(name+"."+nested, v, s, diags)
		}
		return
	}
	setting := server.SettingOf(name)
	switch v := v.(type) {
	case types.Bool:
		setting.Set(s, v.ValueBool())
	case types.Int64:
		setting.Set(s, v.ValueInt64())
	case types.String:
		if _, ok := setting.Default().(time.Duration); ok {
			setting.Set(s, toDuration(v))
		} else {
			setting.Set(s, v.ValueString())
		}
	}
}

// fromSettings is the inverse of toSettings for an attribute of a type. A duration stays as prior has it if it is the same.
func fromSettings(name string, prior tfattr.Value, t tfattr.Type, s server.Spec) tfattr.Value {
	if block, ok := t.(types.ObjectType); ok {
		before, _ := prior.(types.Object)
		values := map[string]tfattr.Value{}
		for nested, t := range block.AttrTypes {
			values[nested] = fromSettings(name+"."+nested, before.Attributes()[nested], t, s)
		}
		return types.ObjectValueMust(block.AttrTypes, values)
	}
	switch v := server.SettingOf(name).Get(s).(type) {
	case bool:
		return types.BoolValue(v)
	case int64:
		return types.Int64Value(v)
	case time.Duration:
		text, _ := prior.(types.String)
		return fromDuration(text, v)
	default:
		return types.StringValue(fmt.Sprint(v))
	}
}

// toDuration returns the duration. Validation has made sure that it parses.
func toDuration(s types.String) time.Duration {
	d, err := time.ParseDuration(s.ValueString())
	if err != nil {
		return 0
	}
	return d
}

// fromDuration returns prior if it is the same duration, so that it stays as it was written.
func fromDuration(prior types.String, d time.Duration) types.String {
	if p, err := time.ParseDuration(prior.ValueString()); err == nil && p == d {
		return prior
	}
	return types.StringValue(attr.ShortDuration(d))
}
