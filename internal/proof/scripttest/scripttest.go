// Package scripttest writes the programs that a test lets a shell script run in place of real ones.
package scripttest

import (
	"os"
	"syscall"
	"testing"
)

// Write writes a program that can be run at once. While it is written, this process starts no other: that one would hold
// the file open for writing, and the kernel refuses to run such a file (go.dev/issue/22315).
func Write(t testing.TB, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
