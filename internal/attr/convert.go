package attr

import (
	"context"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// OptionalString is null for "".
func OptionalString(s string) types.String {
	if s == "" {
		return types.StringNull()
	}
	return types.StringValue(s)
}

// ToStrings reads a map whose values are known, nil where it is empty.
func ToStrings(ctx context.Context, m types.Map, diags *diag.Diagnostics) map[string]string {
	if len(m.Elements()) == 0 {
		return nil
	}
	out := map[string]string{}
	diags.Append(m.ElementsAs(ctx, &out, false)...)
	return out
}

// FromStrings is the inverse of ToStrings. Of no map and an empty one the prior stays.
func FromStrings(prior types.Map, m map[string]string) types.Map {
	if len(m) == 0 {
		if !prior.IsNull() && !prior.IsUnknown() && len(prior.Elements()) == 0 {
			return prior
		}
		return types.MapNull(types.StringType)
	}
	e := map[string]tfattr.Value{}
	for k, v := range m {
		e[k] = types.StringValue(v)
	}
	return types.MapValueMust(types.StringType, e)
}

// FromList is the list of what a slice holds. Of no list and an empty one the prior stays.
func FromList[T any](ctx context.Context, prior types.List, elem tfattr.Type, v []T, diags *diag.Diagnostics) types.List {
	if len(v) == 0 {
		if !prior.IsNull() && !prior.IsUnknown() && len(prior.Elements()) == 0 {
			return prior
		}
		return types.ListNull(elem)
	}
	l, d := types.ListValueFrom(ctx, elem, v)
	diags.Append(d...)
	return l
}

// Object is the object of what a struct holds.
func Object(ctx context.Context, t map[string]tfattr.Type, v any, diags *diag.Diagnostics) types.Object {
	o, d := types.ObjectValueFrom(ctx, t, v)
	diags.Append(d...)
	return o
}
