package server

import (
	"slices"
	"strings"
	"testing"
)

// The init container names the commands that an image lacks, and does not wait forever if it cannot ask any server.
func TestAwaitPeerRemoval_namesWhatTheImageLacks(t *testing.T) {
	t.Parallel()
	tools := []string{"cat", "cp", "date", "grep", "ls", "mkdir", "mv", "rm", "sed", "sleep", "sort", "timeout", "touch", "tr"}
	for name, tt := range map[string]struct {
		lacks   []string
		client  string // "" for none
		hasData bool
		args    []string
		want    string // in the output
		code    int
	}{
		"everything, and data": {client: "wget", hasData: true},
		"no client, and data":  {hasData: true, want: "lacks commands that its scripts need: wget or curl."},
		"no client, a disk lost": {
			want: "neither wget nor curl to ask the other servers", code: 1,
		},
		"TLS without curl": {
			client: "wget", hasData: true, args: []string{"server.dc1.consul", "8501"}, want: "lacks commands that its scripts need: curl.",
		},
		"no timeout and no sort": {
			lacks: []string{"sort", "timeout"}, client: "wget", hasData: true, want: "its scripts need: sort, timeout.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := image(t, slices.DeleteFunc(slices.Clone(tools), func(tool string) bool { return slices.Contains(tt.lacks, tool) })...)
			c.StandIn("consul", "exit 1")
			if tt.client != "" {
				c.StandIn(tt.client, "exit 1")
			}
			c.Write("/consul/config/established", "true")
			if tt.hasData {
				c.Write("/consul/data/raft/raft.db", "")
			}
			out, code := c.Run(waitScript, append([]string{"consul-server", "ns"}, tt.args...)...)
			if code != tt.code || (tt.want == "" && out != "") || !strings.Contains(out, tt.want) {
				t.Errorf("exit code %d, want %d; output %q, want something about %q", code, tt.code, out, tt.want)
			}
		})
	}
}

// A server without data that has to wait for others reports once, in its termination message, that it has no data.
func TestAwaitPeerRemoval_reportsThatThereIsNoData(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		data, established, lonely bool
		code                      int
		report                    string
	}{
		"it has data":                       {data: true, established: true, lonely: true},
		"the cluster was never elected":     {lonely: true},
		"others answer, and do not know it": {established: true},
		"it waits for others":               {established: true, lonely: true, code: 1, report: NoDataReport},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			if tt.data {
				c.Write("/consul/data/raft/raft.db", "")
			}
			if tt.established {
				c.Write("/consul/config/"+establishedKey, "true")
			}
			c.StandIn("consul", "exit 1")
			c.StandIn("curl", "exit 1")
			c.StandIn("wget", map[bool]string{true: "exit 1", false: `echo '["10.0.0.2:8300"]'`}[tt.lonely])
			out, code := c.Run(waitScript, "consul-server", "ns")
			if report := c.Read("/dev/termination-log"); code != tt.code || report != tt.report {
				t.Errorf("exit code %d, %q: %s", code, report, out)
			}
		})
	}
}

// A server without data starts once every Raft peer that the others name answers, so that none of them is its former
// self. It asks over HTTPS if they do not answer over HTTP.
func TestAwaitPeerRemoval_waitsUntilEveryPeerAnswers(t *testing.T) {
	t.Parallel()
	const other, gone = "consul-server-2.consul-server.ns.svc", "not answer: 10.0.0.9:8300."
	for name, tt := range map[string]struct {
		answers map[string]string // the answers of servers, by host
		former  string            // the servers that are adopted
		https   bool
		waits   string // the output if it waits
	}{
		"all answer":             {answers: map[string]string{other: `["10.0.0.2:8300","10.0.0.3:8300"]`, "10.0.0.2": "", "10.0.0.3": ""}},
		"all answer, on IPv6":    {answers: map[string]string{other: `["[fd00::2]:8300"]`, "[fd00::2]": ""}},
		"all answer, by HTTPS":   {answers: map[string]string{other: `["10.0.0.2:8300"]`, "10.0.0.2": ""}, https: true},
		"there are no peers":     {answers: map[string]string{other: `[]`}},
		"one does not":           {answers: map[string]string{other: `["10.0.0.2:8300","10.0.0.9:8300"]`, "10.0.0.2": ""}, waits: gone},
		"one does not, by HTTPS": {answers: map[string]string{other: `["10.0.0.9:8300"]`}, https: true, waits: gone},
		"it is a peer itself":    {answers: map[string]string{other: `["10.0.0.1:8300"]`, "10.0.0.1": ""}, waits: "not answer: 10.0.0.1:8300."},
		"a former server names one that does not": {
			answers: map[string]string{other: `[]`, "old-0": `["10.0.0.9:8300"]`}, former: "old-1 old-0", waits: gone,
		},
		"no other server answers": {waits: "no other server answers: waiting for one."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := busybox(t)
			c.Write("/consul/config/"+establishedKey, "true")
			c.Write("/consul/config/former-servers", tt.former)
			c.Write("/tmp/reported", "")
			for host, answer := range tt.answers {
				c.Write("/answers/"+host, answer)
			}
			c.StandIn("consul", "exit 1")
			args := []string{"consul-server", "ns"}
			if tt.https {
				args = append(args, "server.dc1.consul", "8501")
				c.StandIn("wget", "exit 1")
				c.StandIn("curl", `host=${7#::}; [ "$5" = "$ROOT/consul/tls/ca.crt" ] && exec cat "$ROOT/answers/${host%:8501}"`)
			} else {
				c.StandIn("wget", `host=${4#http://}; exec cat "$ROOT/answers/${host%:8500/*}"`)
			}
			c.StandIn("sleep", "kill -TERM $PPID") // instead of a second round
			out, code := c.Run(waitScript, args...)
			if code == 0 != (tt.waits == "") || !strings.Contains(out, tt.waits) {
				t.Errorf("exit code %d: %s", code, out)
			}
		})
	}
}

// The token that the init container creates is in the configuration of the agent, and each pod has another one.
func TestAwaitPeerRemoval_createsATokenForEachPod(t *testing.T) {
	t.Parallel()
	var tokens []string
	for range 2 {
		c := busybox(t)
		c.Write("/consul/data/raft/raft.db", "")
		c.StandIn("consul", "exit 1")
		out, code := c.Run(waitScript, "consul-server", "ns")
		token := strings.TrimSpace(c.Read("/tmp/token"))
		if want := `{"acl":{"tokens":{"agent_recovery":"` + token + `"}}}` + "\n"; len(token) != 36 || c.Read("/tmp/token.json") != want {
			t.Errorf("exit code %d: %s; token %q, configuration %q", code, out, token, c.Read("/tmp/token.json"))
		}
		tokens = append(tokens, token)
	}
	if tokens[0] == tokens[1] {
		t.Errorf("two pods have the token %s", tokens[0])
	}
}
