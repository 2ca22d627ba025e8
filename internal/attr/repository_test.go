package attr

import (
	"strings"
	"testing"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

// What is declared of a repository is what Jobs work with, and is read back as it was.
func TestRepository_isReadBack(t *testing.T) {
	t.Parallel()
	for _, want := range []restic.Repository{
		{URL: "s3:host/b", Secret: "s"},
		{Claim: "c", Secret: "s", Options: map[string]string{"local.connections": "2"}},
		{URL: "s3:host/b", Secret: "s", ServiceAccount: restic.ServiceAccount{Name: "a", TokenAudience: "sts.amazonaws.com"}},
		{URL: "gs:b:/", Secret: "s", ServiceAccount: restic.ServiceAccount{Annotations: map[string]string{"a": "b"}}},
	} {
		var diags diag.Diagnostics
		r, ok := ParseRepository(t.Context(), RepositoryObject(want), &diags)
		if diags.HasError() || !ok || !r.IsKnown() {
			t.Fatalf("%+v: %v", want, diags)
		}
		if got := RepositoryObject(r.Spec()); !got.Equal(RepositoryObject(want)) {
			t.Errorf("%s, want %+v", got, want)
		}
	}
}

func TestRepository_Validate(t *testing.T) {
	t.Parallel()
	account := func(name, audience string, annotations map[string]string) types.Object {
		return types.ObjectValueMust(accountTypes, map[string]tfattr.Value{
			"name": OptionalString(name), "token_audience": OptionalString(audience), "annotations": FromStrings(types.MapNull(types.StringType), annotations),
		})
	}
	unknown := types.ObjectValueMust(accountTypes, map[string]tfattr.Value{
		"name": types.StringUnknown(), "token_audience": types.StringNull(), "annotations": types.MapNull(types.StringType),
	})
	annotated := account("", "", map[string]string{"a": "b"})
	option := func(name, value string) types.Map {
		return FromStrings(types.MapNull(types.StringType), map[string]string{name: value})
	}
	s3 := types.StringValue("s3:host/b")
	for name, tt := range map[string]struct {
		r                  Repository
		ofSchedule, others string
	}{
		"plain":            {Repository{URL: s3}, "", ""},
		"two":              {Repository{URL: s3, Claim: s3}, "Set either url or volume_claim", "Set either url or volume_claim"},
		"an account":       {Repository{URL: s3, Account: account("a", "", nil)}, "", ""},
		"one that is made": {Repository{URL: s3, Account: annotated}, "", "Only a consul_k8s_backup_schedule creates one"},
		"both":             {Repository{URL: s3, Account: account("a", "", map[string]string{"a": "b"})}, "Set either name", "Set either name"},
		"neither":          {Repository{URL: s3, Account: account("", "x", nil)}, "Set either name", "Set either name"},
		"not known yet":    {Repository{URL: s3, Account: unknown}, "", ""},
		"an option":        {Repository{URL: s3, Options: option("s3.bucket-lookup", "dns")}, "", ""},
		"of another store": {Repository{URL: s3, Options: option("gs.region", "eu")}, `those begin with "s3."`, `those begin with "s3."`},
		"of any store":     {Repository{URL: types.StringUnknown(), Options: option("gs.region", "eu")}, "", ""},
	} {
		for want, validate := range map[*string]func(path.Path, *diag.Diagnostics){&tt.ofSchedule: tt.r.ValidateOfSchedule, &tt.others: tt.r.Validate} {
			var diags diag.Diagnostics
			validate(path.Root("repository"), &diags)
			text := ""
			for _, d := range diags {
				text += d.Detail()
			}
			if (*want == "") != (text == "") || !strings.Contains(text, *want) {
				t.Errorf("%s: %q, want %q", name, text, *want)
			}
		}
	}
}
