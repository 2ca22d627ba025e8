package acl

import (
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
)

func TestLostWarning_namesTheReasonAndTheWaysOut(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&consulacl.LostError{Reason: "the token x in the Secret lacks the policy global-management"}, "Cluster a/b: the token x in the " +
			"Secret lacks the policy global-management. The servers continue to run"},
		{errors.Join(&consulacl.LostError{Reason: "no Secret contains it"}), "Cluster a/b: no Secret contains it."},
	} {
		d := lostWarning("a/b", c.err)
		if d.Severity() != diag.SeverityWarning || strings.Contains(d.Summary()+d.Detail(), "lost") ||
			!strings.HasPrefix(d.Detail(), c.want) || !strings.HasSuffix(d.Detail(), "unless this plan does so.") {
			t.Errorf("%s: %s", d.Summary(), d.Detail())
		}
	}
}
