// Package attr holds the attribute types, validators, and plan modifiers that several resource families share.
package attr

import (
	"context"
	"maps"
	"slices"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
)

// OptionalString returns null for "".
func OptionalString(s string) types.String {
	if s == "" {
		return types.StringNull()
	}
	return types.StringValue(s)
}

// ToStrings returns the elements of a map of texts, or nil if there are none. Null and unknown elements are left out.
func ToStrings(m types.Map) map[string]string {
	var out map[string]string
	for k, e := range m.Elements() {
		if s, ok := e.(interface{ ValueString() string }); ok && isSet(e) {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = s.ValueString()
		}
	}
	return out
}

// FromStrings is the inverse of ToStrings. It returns prior if prior means the same, even if prior has null elements or
// no elements at all.
func FromStrings(prior types.Map, m map[string]string) types.Map {
	if !prior.IsNull() && !prior.IsUnknown() && maps.Equal(ToStrings(prior), m) {
		return prior
	}
	if len(m) == 0 {
		return types.MapNull(types.StringType)
	}
	e := map[string]tfattr.Value{}
	for k, v := range m {
		e[k] = types.StringValue(v)
	}
	return types.MapValueMust(types.StringType, e)
}

// Texts returns the elements of a list or a set of texts. Null and unknown elements are left out.
func Texts(list interface{ Elements() []tfattr.Value }) []string {
	var out []string
	for _, e := range list.Elements() {
		if s, ok := e.(interface{ ValueString() string }); ok && isSet(e) {
			out = append(out, s.ValueString())
		}
	}
	return out
}

// FromTexts is the inverse of Texts for a list. It returns prior if prior means the same.
func FromTexts(prior types.List, v []string) types.List {
	if !prior.IsNull() && !prior.IsUnknown() && slices.Equal(Texts(prior), v) {
		return prior
	}
	if len(v) == 0 {
		return types.ListNull(types.StringType)
	}
	var e []tfattr.Value
	for _, s := range v {
		e = append(e, types.StringValue(s))
	}
	return types.ListValueMust(types.StringType, e)
}

// Objects returns the elements of a list or a set of objects. Null elements are left out. The caller has made sure that the others are
// known.
func Objects[T any](ctx context.Context, list interface{ Elements() []tfattr.Value }, diags *diag.Diagnostics) []T {
	var out []T
	for _, e := range list.Elements() {
		if o, ok := e.(types.Object); ok && isSet(e) {
			var v T
			diags.Append(o.As(ctx, &v, basetypes.ObjectAsOptions{})...)
			out = append(out, v)
		}
	}
	return out
}

func isSet(v tfattr.Value) bool { return !v.IsNull() && !v.IsUnknown() }

// FromList returns a list with the elements of a slice. It returns prior if prior means the same, even if prior has null elements
// or no elements at all.
func FromList[T any](ctx context.Context, prior types.List, elem tfattr.Type, v []T, diags *diag.Diagnostics) types.List {
	l, d := types.ListValueFrom(ctx, elem, v)
	diags.Append(d...)
	if !prior.IsNull() && !prior.IsUnknown() {
		set := slices.DeleteFunc(prior.Elements(), func(e tfattr.Value) bool { return e.IsNull() })
		if slices.EqualFunc(set, l.Elements(), tfattr.Value.Equal) {
			return prior
		}
	}
	if len(v) == 0 {
		return types.ListNull(elem)
	}
	return l
}

// Object returns an object with the fields of a struct.
func Object(ctx context.Context, t map[string]tfattr.Type, v any, diags *diag.Diagnostics) types.Object {
	o, d := types.ObjectValueFrom(ctx, t, v)
	diags.Append(d...)
	return o
}
