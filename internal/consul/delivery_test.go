package consul

import (
	"strings"
	"testing"
)

func TestTarget_Render(t *testing.T) {
	const accessorID, secretID = "8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55", "5f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c77"
	for template, want := range map[string]string{
		"":                                secretID,
		`{"token": "{{.SecretID}}"}`:      `{"token": "` + secretID + `"}`,
		"{{.AccessorID}} {{.SecretID}}\n": accessorID + " " + secretID + "\n",
	} {
		got, err := Target{Template: template}.Render(accessorID, secretID)
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", template, got, err)
		}
	}
}

// An error of a template may quote the value that it was given, or a part of it.
func TestTarget_Render_anErrorHasNothingOfTheSecretID(t *testing.T) {
	const secretID = "5f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c77"
	for _, template := range []string{
		"{{range .SecretID}}{{end}}", "{{range slice .SecretID 0 13}}{{end}}", "{{range printf \"%.18s\" .SecretID}}{{end}}",
		"{{range printf \"%x\" .SecretID}}{{end}}",
		"{{index .SecretID .SecretID}}", "{{.SecretID.Name}}", "{{call .SecretID}}", "{{.Nothing}}", "{{",
		`{{if eq (slice .SecretID 0 1) "5"}}{{range .SecretID}}{{end}}{{end}}`,
	} {
		out, err := Target{Template: template}.Render("accessor", secretID)
		if err == nil {
			t.Errorf("%s: it is %q", template, out)
			continue
		}
		for _, part := range []string{secretID[:8], "4dd1", "6f3f2b1a9c77", "3566366233663865"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q is in %q", template, part, err)
			}
		}
	}
}
