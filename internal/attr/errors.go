package attr

import (
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
)

// Error is the diagnostic of an attribute. The detail begins with the
// attribute's name: Terraform shows the line of a nested attribute only as that
// of the whole block.
func Error(at path.Path, summary, detail string) diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(at, summary, at.String()+": "+detail)
}
