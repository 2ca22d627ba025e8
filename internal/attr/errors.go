package attr

import (
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
)

// Error is the diagnostic of an attribute. The detail begins with the
// attribute's name: Terraform shows the line of a nested attribute only as that
// of the whole block.
func Error(at path.Path, summary, detail string) diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(at, summary, Text(at)+": "+detail)
}

// Text is a path as a user writes it: "labels[\"a\"]", "placement.tolerations[0].key". An element of a set, which nobody
// can refer to, goes by the name of the set: "node_identities.datacenter".
func Text(at path.Path) string {
	var b strings.Builder
	for i, step := range at.Steps() {
		switch step := step.(type) {
		case path.PathStepElementKeyValue:
		case path.PathStepAttributeName:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(string(step))
		default:
			b.WriteString(step.String())
		}
	}
	return b.String()
}
