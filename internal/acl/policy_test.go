package acl

import (
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

func TestTokensThatStay_namesLoginTokensByTheirAuthMethod(t *testing.T) {
	o := object{kind: authMethodKind, clients: session.NewClients()}
	cluster := types.StringValue("a/b")
	tokens := []*api.ACLTokenListEntry{
		{AccessorID: "1", Description: "of the web team"}, {AccessorID: "2"}, {AccessorID: "other"},
		{AccessorID: "3", AuthMethod: "pods"}, {AccessorID: "4", AuthMethod: "pods"}, {AccessorID: "5", AuthMethod: "ci"},
	}
	check := func(want ...string) {
		t.Helper()
		if got := o.tokensThatStay(cluster, tokens, func(t *api.ACLTokenListEntry) bool { return t.AccessorID != "other" }); !slices.Equal(
			got,
			want,
		) {
			t.Errorf("it names %q instead of %q", got, want)
		}
	}
	check("token 1 (of the web team)", "token 2", `login tokens of the auth method "pods"`, `login tokens of the auth method "ci"`)
	o.leave(cluster, types.StringValue("pods")) // its tokens are deleted with it
	check("token 1 (of the web team)", "token 2", `login tokens of the auth method "ci"`)
}
