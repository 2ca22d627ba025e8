package restic

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// container returns a container of a Job, with stand-ins for the commands that its script calls, and without pauses.
func container(t *testing.T, commands map[string]string) *scripttest.Container {
	t.Helper()
	c := scripttest.Busybox(t, "/scratch", "/credentials", "/tmp")
	c.Env = []string{"DEADLINE=600"}
	c.StandIn("sleep", "")
	for name, text := range commands {
		c.StandIn(name, text)
	}
	return c
}

// keeper stands in for consul: it stores keys as files, and a restore deletes all of them. The results of restores
// are in the file answers, one per line: "ok", "lost" if it restores and does not report it, "refused" if it does
// neither.
const keeper = `
mkdir -p "$ROOT/keys"
[ "$1" != kv ] || [ ! -e "$ROOT/unknown" ] || { echo "Unexpected response code: 403 (ACL not found)" >&2; exit 1; }
case "$1 $2" in
  "kv put") for a; do key=$value value=$a; done; [ -z "$DEAF" ] || exit 1; echo "$value" >"$ROOT/keys/$(echo "$key" | tr / _)" ;;
  "kv get") for a; do key=$a; done
    for f in "$ROOT/keys/$(echo "$key" | tr / _)"*; do [ ! -e "$f" ] || basename "$f" | tr _ /; done ;;
  "kv delete") for a; do key=$a; done; rm -f "$ROOT/keys/$(echo "$key" | tr / _)" ;;
  "snapshot restore")
    echo restore >>"$ROOT/calls"
    answer=$(sed -n "$(wc -l <"$ROOT/calls")p" "$ROOT/answers")
    case $answer in
      ok) rm -f "$ROOT"/keys/* ;;
      lost) rm -f "$ROOT"/keys/*; exit 1 ;;
      replaced) rm -f "$ROOT"/keys/*; touch "$ROOT/unknown"; exit 1 ;;
      *) exit 1 ;;
    esac ;;
esac
`

// A restore whose answer was lost is not repeated: that would lose later writes.
func TestRestoreScript(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answers  string
		deaf     string
		restores int
		ok       bool
	}{
		"it works":                                   {answers: "ok", restores: 1, ok: true},
		"its answer is lost":                         {answers: "lost\nok", restores: 1, ok: true},
		"its answer is lost, with the token":         {answers: "replaced\nok", restores: 1, ok: true},
		"it is refused once":                         {answers: "refused\nok", restores: 2, ok: true},
		"it is refused, and then its answer is lost": {answers: "refused\nlost\nok", restores: 2, ok: true},
		"it is refused":                              {answers: "refused\nrefused\nrefused\nok", restores: 3},
		"the servers accept no key":                  {answers: "ok", deaf: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := container(t, map[string]string{"consul": keeper})
			c.Env = append(c.Env, "DEAF="+tt.deaf)
			c.Write("/answers", tt.answers+"\n")
			out, code := c.Run(inspectScript+restoreScript, c.Path("/scratch"), "http://consul", c.Path("/result"), "/token/token")
			if got := strings.Count(c.Read("/calls"), "restore"); got != tt.restores || (code == 0) != tt.ok {
				t.Errorf("%d restores, exit code %d: %s", got, code, out)
			}
			if done := c.Has("/result"); done != tt.ok {
				t.Errorf("there is a result: %v", done)
			}
			if left, _ := filepath.Glob(c.Path("/keys/*")); len(left) > 0 {
				t.Errorf("left are the keys %v", left)
			}
		})
	}
}

// versions stands in for consul if servers run different versions. The file leaders has the leader at each question.
const versions = `
case "$1 $2" in
  "operator raft")
    [ -z "$DENIED" ] || exit 1
    echo asked >>"$ROOT/asked"
    leader=$(sed -n "$(wc -l <"$ROOT/asked")p" "$ROOT/leaders")
    [ -n "$leader" ] || leader=$(tail -n 1 "$ROOT/leaders")
    echo "Node      ID    Address          State     Voter  RaftProtocol  Commit Index  Trails Leader By"
    for n in 0 1 2; do
      state=follower; [ $n != "$leader" ] || state=leader
      echo "consul-$n  $n-id  [fd00::$n]:8300  $state  true   3  12  -"
    done ;;
  "members "*)
    echo "Node      Address          Status  Type    Build   Protocol  DC   Partition  Segment"
    echo "client-1  10.0.0.9:8301    alive   client  1.20.0  2         dc1  default    <default>"
    echo "consul-0  [fd00::0]:8301   alive   server  1.21.5  2         dc1  default    <all>"
    echo "consul-1  [fd00::1]:8301   alive   server  1.22.7  2         dc1  default    <all>"
    echo "consul-2  [fd00::2]:8301   alive   server  1.21.5  2         dc1  default    <all>" ;;
  "snapshot save") for a; do file=$a; done; echo data | gzip >"$file" ;;
  "snapshot inspect") printf '{\n "Index": 42,\n}\n' ;;
esac
`

// A backup records the version of the server that it was taken from, whatever is declared: during an upgrade, another
// one may be the leader.
func TestSnapshotScript_version(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ leaders, denied, want string }{
		"an outdated leader":          {leaders: "0", want: "1.21.5"},
		"an upgraded leader":          {leaders: "1", want: "1.22.7"},
		"another leader meanwhile":    {leaders: "0\n1\n1\n1", want: "1.22.7"},
		"the right to ask is missing": {leaders: "0", denied: "1", want: "1.22.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := container(t, map[string]string{"consul": versions})
			c.Env = append(c.Env, "DENIED="+tt.denied)
			c.Write("/leaders", tt.leaders+"\n")
			out, code := c.Run(inspectScript+snapshotScript, c.Path("/scratch"), "1.22.0", "http://consul", c.Path("/result"))
			if got := strings.TrimSpace(c.Read("/scratch/version")); code != 0 || got != tt.want {
				t.Errorf("the version is %q, want %q: exit code %d: %s", got, tt.want, code, out)
			}
			if got := c.Read("/scratch/backup/consul.tar"); got != "data\n" { // compressed data would be stored again each time
				t.Errorf("left for the next container is %q", got)
			}
		})
	}
}

// store stands in for restic: its list is the file list, and it records a retention in the file forgotten.
const store = `
echo "$*" >>"$ROOT/calls"
case "$*" in
  *" backup "*) echo '{"message_type":"summary","total_bytes_processed":100,"data_added_packed":10,"snapshot_id":"abcdef"}' ;;
  *" snapshots "*) cat "$ROOT/list" ;;
  *" forget "*) touch "$ROOT/forgotten" ;;
esac
`

// listed is a snapshot of the schedule hourly in restic's list.
func listed(index int, tags ...string) map[string]any {
	return map[string]any{
		"id": "x", "hostname": "ns.consul", "time": "2026-11-26T12:00:00Z", "summary": map[string]int{"total_bytes_processed": 1},
		"tags": append([]string{"schedule=hourly", "version=1.22.7", fmt.Sprintf("index=%d", index)}, tags...),
	}
}

// The retention is applied unless the cluster has started empty. A cluster that was restored, even from another
// repository, has not.
func TestStoreScript_retention(t *testing.T) {
	t.Parallel()
	before := map[string]any{"id": "y", "hostname": "ns.consul", "tags": []string{"before-restore=aa", "version=1.22.7", "index=25"}}
	for name, tt := range map[string]struct {
		list     []map[string]any
		restored string
		forgets  bool
	}{
		"it grows":                {list: []map[string]any{listed(10), listed(20)}, forgets: true},
		"it started empty":        {list: []map[string]any{listed(1000), listed(20)}},
		"restored from here":      {list: []map[string]any{listed(1000), before, listed(503)}, forgets: true},
		"restored from elsewhere": {list: []map[string]any{listed(1000), listed(503, "restored=aa.1")}, restored: "aa.1", forgets: true},
		"a while ago": {list: []map[string]any{
			listed(1000), listed(503, "restored=aa.1"), listed(600, "restored=aa.1"),
		}, restored: "aa.1", forgets: true},
		"restored again": {list: []map[string]any{
			listed(1000), listed(503, "restored=aa.1"), listed(600, "restored=aa.1"), listed(401, "restored=bb.2"),
		}, restored: "bb.2", forgets: true},
		"restored, and started empty": {list: []map[string]any{listed(1000, "restored=aa.1"), listed(20, "restored=aa.1")}, restored: "aa.1"},
		"started empty since":         {list: []map[string]any{listed(1000), listed(503, "restored=aa.1"), listed(20)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := container(t, map[string]string{"restic": store})
			c.Env = append(c.Env, "RESTORED="+tt.restored)
			c.Write("/scratch/version", "1.22.7\n")
			c.Write("/scratch/index", "12\n")
			list, err := json.Marshal(tt.list)
			if err != nil {
				t.Fatal(err)
			}
			c.Write("/list", string(list))
			out, code := c.Run(
				repositoryScript+storeScript, c.Path("/scratch"), "ns.consul", "schedule=hourly", c.Path("/result"), existing, "--keep-last=3")
			r, err := ParseResult(c.Read("/result"))
			if code != 0 || err != nil {
				t.Fatalf("exit code %d, %v: %s", code, err, out)
			}
			if forgot := c.Has("/forgotten"); forgot != tt.forgets || r.Forgotten != tt.forgets || r.StartedEmpty == tt.forgets {
				t.Errorf("it forgot: %v, and says %+v", forgot, r)
			}
			if tagged := strings.Contains(c.Read("/calls"), "--tag restored="+tt.restored+" "); tagged != (tt.restored != "") {
				t.Errorf("it calls %s", c.Read("/calls"))
			}
		})
	}
}

// "latest" is what a restored cluster has stored since, even if its index is lower than that of earlier snapshots.
func TestLatest_restored(t *testing.T) {
	t.Parallel()
	const text = `[
		{"id":"aa","time":"2026-11-26T12:00:00Z","hostname":"ns.consul","tags":["schedule=hourly","version=1.22.7","index=1000"]},
		{"id":"bb","time":"2026-11-26T14:00:00Z","hostname":"ns.consul","tags":["schedule=hourly","version=1.22.7","index=503","restored=cc.1"]},
		{"id":"cc","time":"2026-11-26T15:00:00Z","hostname":"ns.consul","tags":["schedule=hourly","version=1.22.7","index=600","restored=cc.1"]}
	]`
	all, err := ParseList([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Find(all, Latest, "ns/consul"); err != nil || got.ID != "cc" || got.Restored != "cc.1" {
		t.Errorf("got %+v, %v", got, err)
	}
	all, err = ParseList([]byte(strings.ReplaceAll(text, `,"restored=cc.1"`, "")))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Find(all, Latest, "ns/consul"); err == nil {
		t.Errorf("of a cluster that started empty %+v is the latest", got)
	}
}

// The update of schedules to the servers does not start a suspended one, nor change its times.
func TestAsScheduled(t *testing.T) {
	t.Parallel()
	servers := server.Spec{Name: "consul", Namespace: "ns", Version: "1.22.7", Image: "consul:1.22.7"}
	s := Spec{
		Name:       "hourly",
		Schedule:   "40 * * * *",
		TimeZone:   "Europe/Paris",
		Repository: Repository{URL: "s3:https://host/bucket", Secret: "restic"},
	}
	is := CronJobs(s, servers)[0]
	is.Spec.Suspend, is.Spec.Schedule, is.Spec.TimeZone = new(true), "0 0 1 1 *", nil
	servers.Image = "consul:1.23.0"
	got := asScheduled(CronJobs(s, servers)[0], is)
	if !*got.Spec.Suspend || got.Spec.Schedule != "0 0 1 1 *" || got.Spec.TimeZone != nil {
		t.Errorf("it starts at %q, suspended: %v", got.Spec.Schedule, *got.Spec.Suspend)
	}
	if image := got.Spec.JobTemplate.Spec.Template.Spec.InitContainers[0].Image; image != "consul:1.23.0" {
		t.Errorf("its image is %s", image)
	}
	if want := (batchv1.CronJobSpec{}); got.Spec.ConcurrencyPolicy == want.ConcurrencyPolicy {
		t.Error("it is not rendered")
	}
}
