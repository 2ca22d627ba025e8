package restic

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// shell runs scripts with stand-ins for the commands that they call.
type shell struct{ dir string }

func newShell(t *testing.T, commands map[string]string) shell {
	t.Helper()
	s := shell{t.TempDir()}
	for _, d := range []string{"bin", "scratch/fetched", "scratch/backup", "tmp"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range commands {
		scripttest.Write(t, filepath.Join(s.dir, "bin", name), "#!/bin/sh\n"+text)
	}
	return s
}

func (s shell) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s shell) write(t *testing.T, text string, elem ...string) {
	t.Helper()
	if err := os.WriteFile(s.path(elem...), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s shell) read(elem ...string) string {
	text, _ := os.ReadFile(s.path(elem...)) // "" where it was not written
	return string(text)
}

// run runs a script, whose folders are those of the test, without its pauses.
func (s shell) run(t *testing.T, script string, env []string, args ...string) (string, error) {
	t.Helper()
	script = strings.NewReplacer(
		"/scratch",
		s.path("scratch"),
		"/credentials",
		s.path("credentials"),
		"/tmp/",
		s.path("tmp")+"/",
		"sleep 3",
		"sleep 0",
		"sleep 1",
		"sleep 0",
	).Replace(
		script,
	)
	cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.Env = append(append(os.Environ(), "PATH="+s.path("bin")+":"+os.Getenv("PATH"), "DIR="+s.dir, "DEADLINE=600"), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// keeper stands in for consul: it keeps keys as files, and a restore takes them all away. The answers that restores give are in
// the file answers, one a line: "ok", "lost" where it restores and does not say so, "refused" where it does neither.
const keeper = `
mkdir -p "$DIR/keys"
[ "$1" != kv ] || [ ! -e "$DIR/unknown" ] || { echo "Unexpected response code: 403 (ACL not found)" >&2; exit 1; }
case "$1 $2" in
  "kv put") for a; do key=$value value=$a; done; [ -z "$DEAF" ] || exit 1; echo "$value" >"$DIR/keys/$(echo "$key" | tr / _)" ;;
  "kv get") for a; do key=$a; done
    for f in "$DIR/keys/$(echo "$key" | tr / _)"*; do [ ! -e "$f" ] || basename "$f" | tr _ /; done ;;
  "kv delete") for a; do key=$a; done; rm -f "$DIR/keys/$(echo "$key" | tr / _)" ;;
  "snapshot restore")
    echo restore >>"$DIR/calls"
    answer=$(sed -n "$(wc -l <"$DIR/calls")p" "$DIR/answers")
    case $answer in
      ok) rm -f "$DIR"/keys/* ;;
      lost) rm -f "$DIR"/keys/*; exit 1 ;;
      replaced) rm -f "$DIR"/keys/*; touch "$DIR/unknown"; exit 1 ;;
      *) exit 1 ;;
    esac ;;
esac
`

// A restore whose answer was lost is not done once more: it would take along what was written since.
func TestRestoreScript(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answers  string
		deaf     string
		restores int
		ok       bool
	}{
		"it works":                           {answers: "ok", restores: 1, ok: true},
		"its answer is lost":                 {answers: "lost\nok", restores: 1, ok: true},
		"its answer is lost, with the token": {answers: "replaced\nok", restores: 1, ok: true},
		"it is refused once":                 {answers: "refused\nok", restores: 2, ok: true},
		"it is refused, and then the answer": {answers: "refused\nlost\nok", restores: 2, ok: true},
		"it is refused":                      {answers: "refused\nrefused\nrefused\nok", restores: 3},
		"the servers take no key":            {answers: "ok", deaf: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShell(t, map[string]string{"consul": keeper})
			s.write(t, tt.answers+"\n", "answers")
			out, err := s.run(
				t,
				inspectScript+restoreScript,
				[]string{"DEAF=" + tt.deaf},
				s.path("scratch"),
				"http://consul",
				s.path("result"),
				"/token/token",
			)
			if got := strings.Count(s.read("calls"), "restore"); got != tt.restores || (err == nil) != tt.ok {
				t.Errorf("%d restores, %v: %s", got, err, out)
			}
			if done := s.read("result") != ""; done != tt.ok {
				t.Errorf("there is a result: %v", done)
			}
			if left, _ := filepath.Glob(s.path("keys", "*")); len(left) > 0 {
				t.Errorf("left are the keys %v", left)
			}
		})
	}
}

// versions stands in for consul where servers run different versions. The file leaders has which server leads at each question.
const versions = `
case "$1 $2" in
  "operator raft")
    [ -z "$DENIED" ] || exit 1
    echo asked >>"$DIR/asked"
    leader=$(sed -n "$(wc -l <"$DIR/asked")p" "$DIR/leaders")
    [ -n "$leader" ] || leader=$(tail -n 1 "$DIR/leaders")
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

// A backup has the version of the server that it was taken from, whatever is declared: during an upgrade another one may lead.
func TestSnapshotScript_version(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ leaders, denied, want string }{
		"an outdated leader":       {leaders: "0", want: "1.21.5"},
		"an upgraded leader":       {leaders: "1", want: "1.22.7"},
		"another leader meanwhile": {leaders: "0\n1\n1\n1", want: "1.22.7"},
		"nobody may ask":           {leaders: "0", denied: "1", want: "1.22.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShell(t, map[string]string{"consul": versions})
			s.write(t, tt.leaders+"\n", "leaders")
			out, err := s.run(
				t,
				inspectScript+snapshotScript,
				[]string{"DENIED=" + tt.denied},
				s.path("scratch"),
				"1.22.0",
				"http://consul",
				s.path("result"),
			)
			if got := strings.TrimSpace(s.read("scratch", "version")); err != nil || got != tt.want {
				t.Errorf("the version is %q, want %q: %v: %s", got, tt.want, err, out)
			}
		})
	}
}

// store stands in for restic: its list is the file list, and a retention is carried out in the file forgotten.
const store = `
echo "$*" >>"$DIR/calls"
case "$*" in
  *" backup "*) echo '{"message_type":"summary","total_bytes_processed":100,"data_added_packed":10,"snapshot_id":"abcdef"}' ;;
  *" snapshots "*) cat "$DIR/list" ;;
  *" forget "*) touch "$DIR/forgotten" ;;
esac
`

// listed is a snapshot of the schedule hourly in restic's list.
func listed(index int, tags ...string) map[string]any {
	return map[string]any{
		"id": "x", "hostname": "ns.consul", "time": "2026-11-26T12:00:00Z", "summary": map[string]int{"total_bytes_processed": 1},
		"tags": append([]string{"schedule=hourly", "version=1.22.7", fmt.Sprintf("index=%d", index)}, tags...),
	}
}

// The retention is carried out unless the cluster has started empty: one that was restored, also from another repository, has not.
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
			s := newShell(t, map[string]string{"restic": store})
			s.write(t, "1.22.7\n", "scratch", "version")
			s.write(t, "12\n", "scratch", "index")
			list, err := json.Marshal(tt.list)
			if err != nil {
				t.Fatal(err)
			}
			s.write(t, string(list), "list")
			out, err := s.run(t, repositoryScript+storeScript, []string{"RESTORED=" + tt.restored},
				s.path("scratch"), "ns.consul", "schedule=hourly", s.path("result"), existing, "--keep-last=3")
			r, parseErr := ParseResult(s.read("result"))
			if err != nil || parseErr != nil {
				t.Fatalf("%v, %v: %s", err, parseErr, out)
			}
			if forgot := s.read("forgotten") != "" || fileExists(s.path("forgotten")); forgot != tt.forgets || r.Forgotten != tt.forgets ||
				r.Anew == tt.forgets {
				t.Errorf("it forgot: %v, and says %+v", forgot, r)
			}
			if tagged := strings.Contains(s.read("calls"), "--tag restored="+tt.restored+" "); tagged != (tt.restored != "") {
				t.Errorf("it calls %s", s.read("calls"))
			}
		})
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// "latest" is what a restored cluster has stored since, also where its index is below that of what was stored before.
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

// What brings schedules in line with the servers does not let one run that somebody has suspended, nor at another time.
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
