package localcluster

import (
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// The entrypoint of a Consul image runs commands and flags of Consul, and any other program.
func TestConsulEntrypoint(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"agent -dev":              "consul agent -data-dir=/consul/data -config-dir=/consul/config -dev",
		"-version":                "consul -version",
		"members -wan":            "consul members -wan",
		"consul agent -server":    "consul agent -server",
		"echo something entirely": "something entirely",
	} {
		c := scripttest.Busybox(t)
		c.StandIn("consul", `case $1 in
--help) case $2 in members) echo "Usage: consul members [options]" ;; *) echo "Usage: consul [--version] <command> [<args>]" ;; esac ;;
*) echo "consul $*" ;;
esac`)
		if out, code := c.Run(consulEntrypoint, strings.Fields(args)...); code != 0 || out != want+"\n" {
			t.Errorf("%s: exit code %d: %s", args, code, out)
		}
	}
}
