package server

import (
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

func TestCheckJob_golden(t *testing.T) {
	s := full()
	s.ExtraConfig = `{"dns_config":{"node_ttl":"5s"},"node_meta":{"price":"$(HOME) $5"}}`
	golden(t, "check", CheckJob(s))
}

// Only configuration that users write themselves is checked, and only if no server runs it yet.
func TestNeedsCheck(t *testing.T) {
	t.Parallel()
	with := func(change func(*Spec)) Spec {
		s := minimal()
		s.ExtraConfig = `{"log_level":"debug"}`
		change(&s)
		return s
	}
	same := with(func(*Spec) {})
	for name, tt := range map[string]struct {
		before, after Spec
		want          bool
	}{
		"a create":                    {Spec{}, same, true},
		"a create without":            {Spec{}, minimal(), false},
		"a create that is resumed":    {same, same, false},
		"what takes a reload":         {same, with(func(s *Spec) { s.ExtraConfig = `{"log_level":"info"}` }), true},
		"what takes a restart":        {same, with(func(s *Spec) { s.ExtraConfig = `{"log_json":true}` }), true},
		"extra_config is removed":     {same, minimal(), false},
		"an attribute beside it":      {same, with(func(s *Spec) { s.TLS.Stage = StageEncrypted }), true},
		"another version":             {same, with(func(s *Spec) { s.Version, s.Image = "1.22.8", "docker.io/hashicorp/consul:1.22.8" }), true},
		"another number of servers":   {same, with(func(s *Spec) { s.Replicas = 5 }), false},
		"the same, written otherwise": {same, with(func(s *Spec) { s.ExtraConfig = ` { "log_level" : "debug" }` }), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := NeedsCheck(tt.before, tt.after); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// Consul's words are found in its log, in every form, and an error of the environment does not count as one of the
// configuration.
func TestCheckWords(t *testing.T) {
	t.Parallel()
	const started = "==> Starting Consul agent...\n           Version: '1.22.7'\n==> \n==> Log data will now stream in as it occurs:\n\n" +
		"2026-01-02T03:04:05.678Z [WARN]  agent: something else\n"
	for name, tt := range map[string]struct{ log, want string }{
		"consul validate": {"Config validation failed: 2 errors occurred:\n\t* invalid config key a\n\t* invalid config " +
			"key b\n\n", "2 errors occurred:\n* invalid config key a\n* invalid config key b"},
		"before the log": {"==> Invalid log level: LOUD. Valid log levels are: [TRACE DEBUG]\n", "Invalid log level: LOUD. Valid log levels " +
			"are: [TRACE DEBUG]"},
		"in the log": {started + "2026-01-02T03:04:05.678Z [ERROR] agent: Error starting agent: error=\"Failed to start Consul " +
			"server: x\"\n", "agent: Error starting agent: error=\"Failed to start Consul server: x\""},
		"in JSON":        {`{"@level":"error","@message":"Error starting agent","error":"x"}` + "\n", "Error starting agent: x"},
		"a missing file": {"==> Failed to setup logging: open /logs/a: no such file or directory\n", ""},
		"nothing":        {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := CheckWords(tt.log); got != tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

// The script ends with 0 once an agent has started, with 1 if Consul refuses, and with 3 if the result is not known.
// It requires only Consul and the shell.
func TestCheckScript(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		validate, agent string
		code            int
		says            string
	}{
		"valid":                     {"exit 0", "echo 1 >pid; while [ -e pid ]; do :; done", 0, ""},
		"refused by validate":       {"echo bad key; exit 1", "exit 9", 1, "bad key"},
		"validate was killed":       {"exit 137", "exit 9", 3, ""},
		"refused at the start":      {"exit 0", "echo bad level; exit 1", 1, "bad level"},
		"a panic":                   {"exit 0", "echo panic; exit 2", 1, "panic"},
		"killed":                    {"exit 0", "exit 137", 3, ""},
		"a listener does not start": {"exit 0", "echo 1 >dying; echo 1 >pid; echo bad port; exit 1", 1, "bad port"},
	} {
		for image, c := range map[string]*scripttest.Container{"busybox": scripttest.Busybox(t, "/trial"), "bare": scripttest.Bare(t, nil, "/trial")} {
			t.Run(name+", "+image, func(t *testing.T) {
				t.Parallel()
				c.Env = []string{`CONFIG={"a":"%s\n"}`, "TRIAL={}", "EXTRA={}"}
				// An agent that dies does so during the question for its version.
				c.StandIn("consul", `case $1 in
validate) [ "$3 $4" = "config.json extra.json" ] || exit 9; `+tt.validate+` ;;
agent) `+tt.agent+` ;;
version) [ ! -e dying ] || until [ -e ended ]; do :; done ;;
esac`)
				out, code := c.Run(checkScript, c.Path("/trial"))
				if code != tt.code || !strings.Contains(out, tt.says) {
					t.Errorf("exit code %d: %s", code, out)
				}
				if got := c.Read("/trial/config.json"); got != `{"a":"%s\n"}` {
					t.Errorf("the configuration is %s", got)
				}
			})
		}
	}
}
