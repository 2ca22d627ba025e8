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

// The declared repository is what Jobs use, and is read back unchanged.
func TestRepository_isReadBack(t *testing.T) {
	t.Parallel()
	for _, want := range []restic.Repository{
		{URL: "s3:host/b", Secret: "s"},
		{Claim: "c", Secret: "s", Options: map[string]string{"local.connections": "2"}},
		{URL: "s3:host/b", Secret: "s", ServiceAccount: restic.ServiceAccount{Name: "a", TokenAudience: "sts.amazonaws.com"}},
		{URL: "gs:b:/", Secret: "s", ServiceAccount: restic.ServiceAccount{Annotations: map[string]string{"a": "b"}}},
	} {
		var diags diag.Diagnostics
		none := types.ObjectNull(RepositoryTypes)
		r, ok := ParseRepository(t.Context(), RepositoryObject(t.Context(), none, want, &diags), &diags)
		if diags.HasError() || !ok || !r.IsKnown() {
			t.Fatalf("%+v: %v", want, diags)
		}
		if got := RepositoryObject(t.Context(), none, r.Spec(), &diags); !got.Equal(RepositoryObject(t.Context(), none, want, &diags)) {
			t.Errorf("%s, want %+v", got, want)
		}
	}
}

// A null annotation or option counts as not set: it is read back as it was written, and is not a change.
func TestRepository_nullIsNotSet(t *testing.T) {
	t.Parallel()
	null := map[string]tfattr.Value{"a": types.StringNull()}
	written := types.ObjectValueMust(RepositoryTypes, map[string]tfattr.Value{
		"url": types.StringValue("s3:host/b"), "volume_claim": types.StringNull(), "credentials_secret": types.StringValue("s"),
		"service_account": types.ObjectValueMust(accountTypes, map[string]tfattr.Value{
			"name": types.StringValue("a"), "token_audience": types.StringNull(), "annotations": types.MapValueMust(types.StringType, null),
		}),
		"options": types.MapValueMust(types.StringType, null),
	})
	var diags diag.Diagnostics
	r, _ := ParseRepository(t.Context(), written, &diags)
	r.Validate(path.Root("repository"), &diags)
	if diags.HasError() {
		t.Fatal(diags)
	}
	if got := RepositoryObject(t.Context(), written, r.Spec(), &diags); !got.Equal(written) {
		t.Errorf("%s is read back, want %s", got, written)
	}
	other := r.Spec()
	other.Options = map[string]string{"s3.bucket-lookup": "dns"}
	if got := RepositoryObject(t.Context(), written, other, &diags); got.Equal(written) || diags.HasError() {
		t.Errorf("another option is not read back: %s, %v", got, diags)
	}
}

func TestRepository_Validate(t *testing.T) {
	t.Parallel()
	account := func(name, audience string, annotations map[string]string) types.Object {
		return types.ObjectValueMust(accountTypes, map[string]tfattr.Value{
			"name":           OptionalString(name),
			"token_audience": OptionalString(audience), "annotations": FromStrings(types.MapNull(types.StringType), annotations),
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
		"plain":               {Repository{URL: s3}, "", ""},
		"two":                 {Repository{URL: s3, Claim: s3}, "Set either url or volume_claim", "Set either url or volume_claim"},
		"an account":          {Repository{URL: s3, Account: account("a", "", nil)}, "", ""},
		"one that is created": {Repository{URL: s3, Account: annotated}, "", "Only a consul_k8s_backup_schedule creates one"},
		"both":                {Repository{URL: s3, Account: account("a", "", map[string]string{"a": "b"})}, "Set either name", "Set either name"},
		"neither":             {Repository{URL: s3, Account: account("", "x", nil)}, "Set either name", "Set either name"},
		"not known yet":       {Repository{URL: s3, Account: unknown}, "", ""},
		"an option":           {Repository{URL: s3, Options: option("s3.bucket-lookup", "dns")}, "", ""},
		"of another store": {Repository{URL: s3, Options: option("gs.region", "eu")},
			`its options begin with "s3."`, `its options begin with "s3."`},
		"of any store": {Repository{URL: types.StringUnknown(), Options: option("gs.region", "eu")}, "", ""},
	} {
		for want, validate := range map[*string]func(path.Path, *diag.Diagnostics){
			&tt.ofSchedule: tt.r.ValidateOfSchedule, &tt.others: tt.r.Validate,
		} {
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
