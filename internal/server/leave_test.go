package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// A server that stops leaves the cluster unless fewer peers than a quorum of the declared servers
// would be left: then it stays the peer that it is, and ends without leaving.
func TestLeave_staysAPeerWhereAQuorumOfTheDeclaredServersIsNotLeft(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no shell")
	}
	const self = "10.0.0.1"
	alive := "consul-server-0  10.0.0.1:8301  alive  server\n"
	tests := map[string]struct {
		declared string
		peers    string
		members  string
		adopting bool
		leaves   bool
	}{
		"one of three":             {"3", `["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`, alive, false, true},
		"one of two that are left": {"3", `["10.0.0.1:8300","10.0.0.2:8300"]`, alive, false, false},
		"one of three while another leaves": {
			"3",
			`["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`,
			alive + "consul-server-2  10.0.0.3:8301  leaving  server\n",
			false,
			false,
		},
		"one of three while another has left": {
			"3",
			`["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`,
			alive + "consul-server-2  10.0.0.3:8301  left  server\n",
			false,
			false,
		},
		"a former self has left": {
			"3",
			`["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`,
			alive + "consul-server-0  10.0.0.9:8301  left  server\n",
			false,
			true,
		},
		"one of five": {
			"5",
			`["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300","10.0.0.4:8300","10.0.0.5:8300"]`,
			alive,
			false,
			true,
		},
		"one of three that are left of five": {"5", `["10.0.0.1:8300","10.0.0.2:8300","10.0.0.3:8300"]`, alive, false, false},
		"one of two, and one is declared":    {"1", `["10.0.0.1:8300","10.0.0.2:8300"]`, alive, false, true},
		"one of two, and nobody says":        {"", `["10.0.0.1:8300","10.0.0.2:8300"]`, alive, false, true},
		"no peer any more":                   {"3", `["10.0.0.2:8300","10.0.0.3:8300"]`, alive, false, true},
		"before the first leader":            {"3", `[]`, alive, false, true},
		"while servers are adopted":          {"3", `["10.0.0.1:8300","10.0.0.2:8300"]`, alive, true, true},
		"IPv6, one of three":                 {"3", `["[fd00::1]:8300","[fd00::2]:8300","[fd00::3]:8300"]`, alive, false, true},
		"IPv6, one of two that are left":     {"3", `["[fd00::1]:8300","[fd00::2]:8300"]`, alive, false, false},
		"IPv6, while another leaves": {
			"3",
			`["[fd00::1]:8300","[fd00::2]:8300","[fd00::3]:8300"]`,
			"a  [fd00::3]:8301  leaving  server\n",
			false,
			false,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write := func(name, text string) { scripttest.Write(t, filepath.Join(dir, name), text) }
			if tt.declared != "" {
				write("servers", tt.declared)
			}
			if tt.adopting {
				write("former-servers", "old-0")
			}
			write("pid", "12345")
			write("peers", tt.peers)
			write("members", "Node  Address  Status  Type\n"+tt.members)
			// Stand-ins: the server is no peer any more as soon as it has left.
			write("wget", "#!/bin/sh\ncase $4 in */peers) cat "+dir+"/peers ;; */leader) echo '\"10.0.0.2:8300\"' ;; esac\n")
			write("timeout", "#!/bin/sh\nshift\nexec \"$@\"\n")
			write("sleep", "#!/bin/sh\n")
			write(
				"consul",
				"#!/bin/sh\ncase $1 in\nleave) echo leave >>"+dir+"/did; echo '[]' >"+dir+"/peers ;;\nmembers) cat "+dir+"/members ;;\nesac\n",
			)
			script := strings.NewReplacer("/consul/config/", dir+"/", "/tmp/", dir+"/").Replace(leaveScript)
			script = "kill() { echo \"kill $1\" >>" + dir + "/did; }\n" + script
			ip := self
			if strings.Contains(tt.peers, "fd00") {
				ip = "fd00::1"
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", script, "leave.sh", "0")
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "POD_IP=" + ip, "POD_NAME=consul-server-0"}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			did, err := os.ReadFile(filepath.Join(dir, "did"))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if leaves := strings.Contains(string(did), "leave"); leaves != tt.leaves {
				t.Errorf("it did %q, and leaves is %t", did, tt.leaves)
			}
			if stays := strings.Contains(string(did), "kill -INT"); stays == tt.leaves {
				t.Errorf("it did %q", did)
			}
		})
	}
}
