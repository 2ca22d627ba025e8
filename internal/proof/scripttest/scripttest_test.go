package scripttest_test

import (
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// A stand-in replaces a command of busybox wherever a script runs it. A command without a stand-in is that of
// busybox.
func TestBusybox_standIns(t *testing.T) {
	t.Parallel()
	c := scripttest.Busybox(t)
	c.StandIn("wget", `echo "stand-in $*"`)
	c.StandIn("restic", `echo "restic $*"`)
	for script, want := range map[string]string{
		"wget -q x":                              "stand-in -q x",
		"timeout 2 wget -q x":                    "stand-in -q x",
		"echo $(timeout 2 wget x) | cat":         "stand-in x",
		"timeout 2 restic x":                     "restic x",
		"timeout 2 echo x":                       "x",
		"command -v restic":                      c.Path("/bin/restic"),
		"echo x | sed --version 2>&1 | head -n1": "This is not GNU sed version 4.0",
		"command -v dpkg-query || echo none":     "none",
	} {
		if out, code := c.Run(script); code != 0 || strings.TrimSpace(out) != want {
			t.Errorf("%s: exit code %d: %s", script, code, out)
		}
	}
}

// The image of a bare container has only the named commands, and the folders of a container are not those of this
// machine.
func TestContainer_isNotThisMachine(t *testing.T) {
	t.Parallel()
	bare := scripttest.Bare(t, []string{"cat"})
	if out, code := bare.Run("command -v sed || command -v wget || echo none | cat"); code != 0 || out != "none\n" {
		t.Errorf("exit code %d: %s", code, out)
	}
	c := scripttest.Busybox(t, "/tmp", "/consul/data")
	c.Env = []string{"work=/x"}
	script := `echo a >/tmp/a; echo b >"/consul/data/b"; echo c >/dev/null; printf d >/dev/termination-log; echo "$work/tmp/a" https://host/tmp`
	if out, code := c.Run(script); code != 0 || out != "/x/tmp/a https://host/tmp\n" {
		t.Errorf("exit code %d: %s", code, out)
	}
	if got := c.Read("/tmp/a") + c.Read("/consul/data/b") + c.Read("/dev/termination-log"); got != "a\nb\nd" {
		t.Errorf("written is %q", got)
	}
}
