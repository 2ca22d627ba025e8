package acctest

import (
	"regexp"
	"strings"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

// The writer numbers its writes, sends the newest token with each, and prints its result.
func TestWriterScript(t *testing.T) {
	t.Parallel()
	c := scripttest.Busybox(t, "/answers", "/requests")
	script := strings.ReplaceAll(writerScript, "/token/token", c.Path("/token/token"))
	c.Env = []string{"ADDRESS=10.0.0.1", "SCRIPT=" + script}
	const acknowledged = "HTTP/1.1 200 OK\r\n\r\ntrue"
	c.Write("/answers/1", acknowledged)
	c.Write("/answers/2", "HTTP/1.1 500 Internal Server Error\r\n\r\nleadership lost")
	c.Write("/answers/4", acknowledged) // nothing answers the third
	c.StandIn("nc", `[ "$1 $2 $3 $4 $5" = "-w 10 10.0.0.1 8500 -e" ] || exit 1
shift 6
cat "$ROOT/answers/$KEY" | sh "$@" >"$ROOT/requests/$KEY"`)
	// Between the writes, the Secret arrives and changes. After the fourth write, the pod is deleted.
	c.StandIn("sleep", `mkdir -p "$ROOT/token"
if [ -e "$ROOT/requests/4" ]; then kill -TERM $PPID
elif [ -e "$ROOT/requests/3" ]; then echo second >"$ROOT/token/token"
else printf first >"$ROOT/token/token"
fi`)
	out, code := c.Run(script)
	want := regexp.MustCompile(`^ok 1 [0-9.]+ [0-9.]+
token 1
failed 2, [0-9:]+: HTTP/1.1 500 Internal Server Error +leadership lost *
failed 3, [^\n]*
token 2
ok 4 [0-9.]+ [0-9.]+
$`)
	if code != 0 || !want.MatchString(out) {
		t.Errorf("exit code %d: %s", code, out)
	}
	for n, want := range map[string]string{
		"1": "Content-Length: 1\r\n\r\n1", "2": "Content-Length: 1\r\nX-Consul-Token: first\r\n\r\n2",
		"4": "Content-Length: 1\r\nX-Consul-Token: second\r\n\r\n4",
	} {
		want = "PUT /v1/kv/written/" + n + " HTTP/1.1\r\nHost: consul\r\nConnection: close\r\n" + want
		if got := c.Read("/requests/" + n); got != want {
			t.Errorf("the request is %q, want %q", got, want)
		}
	}
}
