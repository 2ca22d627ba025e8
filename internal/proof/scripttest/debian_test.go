package scripttest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// Only missing packages are installed. If that is not possible, the output says how to install them.
func TestDebian(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../tools/debian.sh")
	if err != nil {
		t.Fatal(err)
	}
	const hint = "missing Debian packages: apt-get install one two"
	for name, tt := range map[string]struct {
		has       []string // commands
		user      string
		noAptGet  bool
		installed string
		says      string // if it fails
	}{
		"all are there":           {has: []string{"first", "second"}, user: "1000", noAptGet: true},
		"one is missing":          {has: []string{"first"}, user: "0", installed: "update -qq\ninstall -qq -y --no-install-recommends two\n"},
		"both are missing":        {user: "0", installed: "update -qq\ninstall -qq -y --no-install-recommends one two\n"},
		"missing, without root":   {user: "1000", says: hint},
		"missing, on no Debian":   {user: "0", noAptGet: true, says: hint},
		"it cannot be downloaded": {user: "0", installed: "update -qq\n", says: "no network"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := scripttest.Bare(t, nil)
			for _, command := range tt.has {
				c.StandIn(command, "")
			}
			c.StandIn("id", "echo "+tt.user)
			if !tt.noAptGet {
				c.StandIn("apt-get", `echo "$*" >>"$ROOT/calls"
[ -z "$OFFLINE" ] || { echo "$OFFLINE"; exit 100; }`)
			}
			if tt.says == "no network" {
				c.Env = append(c.Env, "OFFLINE="+tt.says)
			}
			out, code := c.Run(string(script), "first=one", "second=two")
			if got := c.Read("/calls"); got != tt.installed || code == 0 != (tt.says == "") || !strings.Contains(out, tt.says) {
				t.Errorf("exit code %d, apt-get is called with %q: %s", code, got, out)
			}
		})
	}
}
