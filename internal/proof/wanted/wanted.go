// Package wanted compares what a test got with what it wanted.
package wanted

import "strings"

// Error reports whether an error is the one that a test wants: none for "", and otherwise one that contains the text.
func Error(err error, text string) bool {
	if err == nil || text == "" {
		return err == nil && text == ""
	}
	return strings.Contains(err.Error(), text)
}
