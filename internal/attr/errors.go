package attr

import (
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
)

// Error returns the error diagnostic of an attribute. The detail starts with the
// name of the attribute, because for a nested attribute Terraform shows only the
// line where the whole block starts.
func Error(at path.Path, summary, detail string) diag.Diagnostic {
	return diag.NewAttributeErrorDiagnostic(at, summary, Text(at)+": "+detail)
}

// Errorf is Error with a formatted detail.
func Errorf(at path.Path, summary, format string, args ...any) diag.Diagnostic {
	return Error(at, summary, fmt.Sprintf(format, args...))
}

// Text returns a path as a user writes it: "labels[\"a\"]", "placement.tolerations[0].key". An element of a set has no
// address, so it is written as the name of the set: "node_identities.datacenter".
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
