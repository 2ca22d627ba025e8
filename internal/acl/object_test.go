package acl

import (
	"fmt"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
)

func TestReadFailed_anImportSaysOnceThatThereIsNoSuchObject(t *testing.T) {
	o := object{kind: "policy"}
	for _, err := range []error{
		fmt.Errorf("policy a of b/c: %w", consulacl.ErrNotFound), fmt.Errorf("listing policies of b/c: %w", consulacl.ErrNoCluster),
	} {
		var diags diag.Diagnostics
		if o.readFailed(err, true, &diags) || len(diags) != 1 || diags[0].Detail() != err.Error()+"." {
			t.Errorf("%v: %v", err, diags)
		}
	}
}
