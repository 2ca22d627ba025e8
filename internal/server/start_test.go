package server

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// A server never starts with an empty log beside its write-ahead log.
func TestStartScript_refusesAConsulThatWouldNotReadTheLog(t *testing.T) {
	t.Parallel()
	spec := func(version, extra string) Spec {
		s := minimal()
		s.Version, s.ExtraConfig = version, extra
		return s
	}
	const wal, bolt = "raft/wal/00000000000000000001.wal", "raft/raft.db"
	tests := map[string]struct {
		spec    Spec
		data    []string
		started bool
	}{
		"a new disk":                     {spec("1.18.2", ""), nil, true},
		"BoltDB":                         {spec("1.18.2", ""), []string{bolt}, true},
		"an upgrade of BoltDB":           {spec("1.22.7", ""), []string{bolt}, true},
		"a write-ahead log":              {spec("1.22.7", ""), []string{wal}, true},
		"a write-ahead log, before 1.20": {spec("1.18.2", ""), []string{wal}, false},
		"a backend that is configured": {
			spec("1.18.2", `{"raft_logstore":{"verification":{"enabled":true},"Backend":"WAL"}}`),
			[]string{wal},
			true,
		},
		"another backend that is configured": {spec("1.22.7", `{"raft_logstore":{"backend":"boltdb"}}`), []string{wal}, false},
		"the default":                        {spec("1.22.7", `{"raft_logstore":{"backend":"default"}}`), []string{wal}, true},
		"another setting of it":              {spec("1.22.7", `{"raft_logstore":{"verification":{"enabled":true}}}`), []string{wal}, true},
		"both":                               {spec("1.18.2", ""), []string{wal, bolt}, true}, // the data in BoltDB counts, as before
		"an empty folder":                    {spec("1.18.2", ""), []string{"raft/wal/"}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			c.StandIn("consul", `echo started "$@"`)
			c.Write("/tmp/token.json", "{}")
			for _, f := range tt.data {
				if strings.HasSuffix(f, "/") {
					if err := os.MkdirAll(c.Path("/consul/data/"+f), 0o700); err != nil {
						t.Fatal(err)
					}
					continue
				}
				c.Write("/consul/data/"+f, "data")
			}
			config := Objects(tt.spec).Config.Data
			args := []string{"agent", "-config-file=" + c.Path("/tmp/token.json")}
			for _, key := range []string{ConfigKey(tt.spec), PodName(tt.spec.Name, 0) + ".json", extraKey(tt.spec)} {
				c.Write("/consul/config/"+key, config[key])
				args = append(args, "-config-file="+c.Path("/consul/config/"+key))
			}
			out, code := c.Run(startScript, args...)
			started := strings.HasPrefix(out, "started agent")
			if started != (code == 0) {
				t.Errorf("exit code %d: %s", code, out)
			}
			if started != tt.started || (!started && !strings.Contains(out, "the data was written with")) {
				t.Errorf("started: %v, want %v; it printed %q", started, tt.started, out)
			}
		})
	}
}

// Consul listens on IPv6 in a pod that has only IPv6.
func TestStart_flags(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]string{"10.0.0.1": "agent -advertise=x", "fd00::1": "agent -advertise=x -bind=:: -client=::"} {
		c := busybox(t)
		c.Env = append(c.Env, "POD_IP="+ip)
		c.StandIn("consul", `echo "$*"`)
		out, code := c.Run(startScript, "agent", "-advertise=x")
		if code != 0 || strings.TrimSpace(out) != want {
			t.Errorf("%s: exit code %d, started with %q, want %q", ip, code, out, want)
		}
	}
}

// In its own process namespace, the shell stays the first process, and passes on the signals of Kubernetes and the
// stop hook.
func TestStart_stopsInItsOwnProcessNamespace(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		signal string
		code   int
	}{
		"killed by the stop hook":   {"KILL", 137},
		"told to end by Kubernetes": {"TERM", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			c.StandIn("consul", `trap 'exit 3' TERM; : >"$ROOT/runs"; while :; do sleep 0.05; done`)
			target := `$(cat /tmp/pid)`
			if tt.signal == "TERM" {
				target = "$shell"
			}
			// If the shell is the first process, $$ is 1.
			script := strings.Replace(startScript, "[ $$ -ne 1 ]", "false", 1)
			out, code := c.Run(
				`shell=$$; ( while [ ! -e "$ROOT/runs" ] || [ ! -s /tmp/pid ]; do sleep 0.05; done; kill -`+tt.signal+" "+target+" ) &\n"+script,
				"agent",
			)
			if code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, out)
			}
		})
	}
}

// A peers.json makes a server the only voter during a recovery, and never afterwards: one that a failed recovery left
// behind is moved away.
func TestStart_usesPeersOnlyDuringARecovery(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
	for name, tt := range map[string]struct {
		marker string
		taken  bool
	}{
		"a recovery is in progress": {in(time.Minute), true},
		"it ended long ago":         {in(-time.Minute), false},
		"there was no recovery":     {"", false},
		"the marker is damaged":     {"x", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			const peers = RaftDir + "/peers.json"
			c.Write(peers, "[]")
			if tt.marker != "" {
				c.Write(RecoveryFile, tt.marker+"\n")
			}
			c.StandIn("consul", `[ -e "$ROOT`+peers+`" ] && echo alone || echo with the others`)
			out, code := c.Run(startScript, "agent")
			if alone := strings.Contains(out, "alone"); alone != tt.taken || code != 0 {
				t.Errorf("exit code %d: %s", code, out)
			}
			if c.Has(RecoveryFile) {
				t.Error("the marker still exists")
			}
			// A later start finds no marker.
			c.Write(peers, "[]")
			if out, code := c.Run(startScript, "agent"); strings.Contains(out, "alone") || code != 0 {
				t.Errorf("the next start: exit code %d: %s", code, out)
			}
		})
	}
}

// Consul starts with the gossip keys of the Secret, unless the Secret is the same as at the last start: then the keys
// on disk, which a rotation may have changed since, are newer. Without a Secret, no keys are kept.
func TestStart_gossipKeys(t *testing.T) {
	t.Parallel()
	const ring = "/consul/data/serf/local.keyring"
	for name, tt := range map[string]struct {
		secret             string // "" without a Secret
		disk, lastSecret   string // "" if they are missing
		want, wantedSecret string
	}{
		"a new disk":                     {secret: "new", want: "new", wantedSecret: "new"},
		"the Secret has changed":         {secret: "new", disk: "old", lastSecret: "old", want: "new", wantedSecret: "new"},
		"the Secret has not changed":     {secret: "old", disk: "new", lastSecret: "old", want: "new", wantedSecret: "old"},
		"the last Secret is not known":   {secret: "new", disk: "old", want: "new", wantedSecret: "new"},
		"the keys on disk were lost":     {secret: "same", lastSecret: "same", want: "same", wantedSecret: "same"},
		"gossip is not encrypted":        {},
		"gossip is not encrypted, again": {disk: "old", lastSecret: "old"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			c.StandIn("consul", "")
			for file, text := range map[string]string{"/consul/gossip/keyring": tt.secret, ring: tt.disk, ring + ".secret": tt.lastSecret} {
				if text != "" {
					c.Write(file, text)
				}
			}
			out, code := c.Run(startScript, "agent")
			if got, secret := c.Read(ring), c.Read(ring+".secret"); code != 0 || got != tt.want || secret != tt.wantedSecret {
				t.Errorf("exit code %d: %s; the keys are %q of the Secret %q", code, out, got, secret)
			}
		})
	}
}
