package server

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// startRun runs the start script in a folder that stands for the root of a server's file
// system, with a consul that only says that it was started.
type startRun struct{ dir string }

func newStartRun(t *testing.T) startRun {
	t.Helper()
	r := startRun{dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(r.dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	scripttest.Write(t, filepath.Join(r.dir, "bin", "consul"), "#!/bin/sh\necho started \"$@\"\n")
	r.write(t, "tmp/token.json", "{}")
	return r
}

func (r startRun) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run returns what the script printed, and whether it started Consul.
func (r startRun) run(t *testing.T, files ...string) (out string, started bool) {
	t.Helper()
	script := strings.NewReplacer("/consul/", r.dir+"/consul/", "/tmp/", r.dir+"/tmp/").Replace(startScript)
	args := []string{"-c", script, "start.sh", "agent"}
	for _, f := range files {
		args = append(args, "-config-file="+filepath.Join(r.dir, f))
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", args...)
	cmd.Env = []string{"PATH=" + filepath.Join(r.dir, "bin") + ":" + os.Getenv("PATH")}
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	started = strings.HasPrefix(b.String(), "started agent")
	if started != (err == nil) {
		t.Errorf("it ended with %v, and printed %q", err, b.String())
	}
	return b.String(), started
}

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
		"one that is said to be read": {
			spec("1.18.2", `{"raft_logstore":{"verification":{"enabled":true},"Backend":"WAL"}}`),
			[]string{wal},
			true,
		},
		"one that is said not to be read": {spec("1.22.7", `{"raft_logstore":{"backend":"boltdb"}}`), []string{wal}, false},
		"the default":                     {spec("1.22.7", `{"raft_logstore":{"backend":"default"}}`), []string{wal}, true},
		"another setting of it":           {spec("1.22.7", `{"raft_logstore":{"verification":{"enabled":true}}}`), []string{wal}, true},
		"both":                            {spec("1.18.2", ""), []string{wal, bolt}, true}, // what BoltDB has counts, as it did before
		"an empty folder":                 {spec("1.18.2", ""), []string{"raft/wal/"}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newStartRun(t)
			for _, f := range tt.data {
				if strings.HasSuffix(f, "/") {
					if err := os.MkdirAll(filepath.Join(r.dir, "consul/data", f), 0o700); err != nil {
						t.Fatal(err)
					}
					continue
				}
				r.write(t, filepath.Join("consul/data", f), "data")
			}
			config := Objects(tt.spec).Config.Data
			for _, key := range []string{ConfigKey(tt.spec), PodName(tt.spec.Name, 0) + ".json", extraKey(tt.spec)} {
				r.write(t, "consul/config/"+key, config[key])
			}
			out, started := r.run(
				t,
				"consul/config/"+ConfigKey(tt.spec),
				"consul/config/"+PodName(tt.spec.Name, 0)+".json",
				"tmp/token.json",
				"consul/config/"+extraKey(tt.spec),
			)
			if started != tt.started || (!started && !strings.Contains(out, "the data was written with")) {
				t.Errorf("started: %v, want %v; it printed %q", started, tt.started, out)
			}
		})
	}
}
