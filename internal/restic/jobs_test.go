package restic

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Every key of the Secret that is a valid name of a variable becomes one, and only the provider names the repository.
func TestRepositoryScript_credentials(t *testing.T) {
	t.Parallel()
	c := container(t, nil)
	c.Env = append(c.Env, "RESTIC_REPOSITORY=s3:https://host/bucket")
	for name, text := range map[string]string{
		"RESTIC_PASSWORD": "a b\n", "RESTIC_REPOSITORY": "s3:https://other", "key.pem": "x", "9LIVES": "x",
		"ca.crt": "ca", "tls.crt": "certificate", "tls.key": "key",
	} {
		c.Write("/credentials/"+name, text)
	}
	out, code := c.Run(repositoryScript + "env")
	lines := strings.Split(out, "\n")
	for _, want := range []string{
		"RESTIC_PASSWORD=a b", "RESTIC_REPOSITORY=s3:https://host/bucket",
		"RESTIC_CACERT=" + c.Path("/credentials/ca.crt"), "RESTIC_TLS_CLIENT_CERT=" + c.Path("/tmp/client.pem"),
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is missing, exit code %d: %s", want, code, out)
		}
	}
	if strings.Contains(out, "=x") {
		t.Errorf("a file whose name is not that of a variable became one: %s", out)
	}
	if got := c.Read("/tmp/client.pem"); got != "certificate\nkey" {
		t.Errorf("the client's certificate is %q", got)
	}
	if info, err := os.Stat(c.Path("/tmp/client.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the client's key has the mode %v, %v", info.Mode(), err)
	}
}

// restic reaches an SFTP server with the key and the known hosts of the Secret, and ignores the configuration of the
// image.
func TestRepositoryScript_ssh(t *testing.T) {
	t.Parallel()
	c := container(t, map[string]string{"ssh": `echo "$@"`})
	c.Write("/credentials/ssh-privatekey", "key")
	c.Write("/credentials/known_hosts", "host")
	out, code := c.Run(repositoryScript + "ssh consul@host -s sftp")
	for _, want := range []string{
		"-F none -i " + c.Path("/tmp/ssh-privatekey"), "StrictHostKeyChecking=yes", "UserKnownHostsFile=" + c.Path("/credentials/known_hosts"),
		"GlobalKnownHostsFile=none consul@host -s sftp\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is missing, exit code %d: %s", want, code, out)
		}
	}
	info, err := os.Stat(c.Path("/tmp/ssh-privatekey"))
	if err != nil || info.Mode().Perm() != 0o600 || c.Read("/tmp/ssh-privatekey") != "key\n" { // ssh requires the line break
		t.Errorf("the key is %q with the mode %v, %v", c.Read("/tmp/ssh-privatekey"), info.Mode(), err)
	}
}

// restic ends 15 seconds before Kubernetes ends the Job, so that the container can report the reason.
func TestRepositoryScript_endsBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		age  int // the age of the pod in seconds
		want string
	}{
		"soon":     {0, "585"},
		"later":    {400, "185"},
		"too late": {4000, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := container(t, map[string]string{"timeout": `echo "$@"`, "date": "echo 10000"})
			c.Write("/scratch/started", strconv.Itoa(10000-tt.age))
			if out, code := c.Run(repositoryScript + "restic prune"); out != tt.want+" restic prune\n" {
				t.Errorf("exit code %d: %s", code, out)
			}
		})
	}
}

// opener stands in for restic. Its answers about the repository are in the file answers, one per line: the exit code
// and the output. The last one is repeated.
const opener = `echo "$*" >>"$ROOT/calls"
case "$*" in *"cat config"*) ;; *) exit 0 ;; esac
line=$(sed -n "$(grep -c 'cat config' "$ROOT/calls")p" "$ROOT/answers")
[ -n "$line" ] || line=$(tail -n 1 "$ROOT/answers")
[ "$line" != hang ] || exec tail -f /dev/null
echo "${line#* }" >&2
exit "${line%% *}"`

// The reasons why a repository cannot be opened are distinguished. One that does not answer now may answer later.
func TestOpenRepository(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		may     string // whether it may be created
		answers string
		fails   string // the output, "" if it is opened
		inits   bool
		short   bool // only three seconds are left
	}{
		"it exists":                {may: existing, answers: "0 config"},
		"a new one exists":         {may: created, answers: "0 config"},
		"it does not exist":        {may: existing, answers: "10 no repository", fails: "There is no repository there."},
		"a new one does not exist": {may: created, answers: "10 no repository", inits: true},
		"another password":         {may: created, answers: "12 wrong password", fails: "The password is not that of the repository."},
		"no right":                 {may: created, answers: "1 Access Denied", fails: "Access Denied\nThe repository cannot be opened."},
		"another host key":         {may: existing, answers: "1 Host key verification failed, EOF", fails: "The repository cannot be opened."},
		"refused for a while":      {may: existing, answers: "1 connection refused\n1 connection reset by peer\n0 config"},
		"refused forever":          {may: existing, answers: "1 connection refused", fails: "The repository does not answer.", short: true},
		"silent":                   {may: created, answers: "hang", fails: "The repository does not answer.", short: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := container(t, map[string]string{"restic": opener})
			if tt.short {
				c.Env = append(c.Env, "DEADLINE=18")
			}
			c.Write("/answers", tt.answers+"\n")
			out, code := c.Run(repositoryScript + "open_repository " + tt.may)
			if code == 0 != (tt.fails == "") || !strings.Contains(out, tt.fails) {
				t.Errorf("exit code %d: %s", code, out)
			}
			calls := c.Read("/calls")
			if inits := strings.Contains(calls, "init"); inits != tt.inits {
				t.Errorf("it calls %s", calls)
			}
			if !strings.HasPrefix(calls, "--no-cache --no-lock cat config\n") { // a lock that was left behind does not matter
				t.Errorf("it calls %s", calls)
			}
		})
	}
}

// A container prints what restic prints, and its pod reports the reason when restic fails.
func TestListAndFetchScripts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script string
		args   []string
		call   string
		says   string // if it fails
	}{
		"all":       {listScript, []string{""}, "--no-cache --no-lock snapshots --json", "The snapshots cannot be listed."},
		"of a host": {listScript, []string{"ns.consul"}, "--no-cache --no-lock snapshots --json --host=ns.consul", "The snapshots cannot be listed."},
		"the latest": {
			fetchScript, []string{"WORK", Latest, "ns.consul", "schedule=hourly"},
			"--no-cache --no-lock dump --host=ns.consul --tag=schedule=hourly latest WORK/backup/consul.tar",
			"Snapshot latest cannot be read back from the repository.",
		},
		"one": {
			fetchScript, []string{"WORK", "abcdef"}, "--no-cache --no-lock dump abcdef WORK/backup/consul.tar",
			"Snapshot abcdef cannot be read back from the repository.",
		},
	} {
		for _, fails := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, fails=%v", name, fails), func(t *testing.T) {
				t.Parallel()
				c := container(t, map[string]string{"restic": `case "$*" in *"cat config"*) exit ;; esac
echo "$*" >"$ROOT/call"
[ -z "$FAILS" ] || { echo damaged >&2; exit 1; }
echo content`})
				if fails {
					c.Env = append(c.Env, "FAILS=1")
				}
				work := strings.NewReplacer("WORK", c.Path(workDir))
				var args []string
				for _, a := range tt.args {
					args = append(args, work.Replace(a))
				}
				out, code := c.Run(repositoryScript+tt.script, args...)
				if got := strings.TrimSpace(c.Read("/call")); got != work.Replace(tt.call) {
					t.Errorf("it calls %q, want %q", got, tt.call)
				}
				if fails {
					if want := "damaged\n" + tt.says + "\n"; code == 0 || out != want {
						t.Errorf("exit code %d: %s", code, out)
					}
				} else if got := out + c.Read(workDir+"/fetched/consul.tar"); code != 0 || got != "content\n" {
					t.Errorf("exit code %d: %q", code, got)
				}
			})
		}
	}
}

// A task that fails has no result, and the lock of a killed Job does not stop the next one.
func TestPruneAndCheckScripts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script, call, says string
	}{
		"prune": {pruneScript, "--no-cache --retry-lock 15m prune", "The repository cannot be pruned."},
		"check": {checkScript, "--no-cache --retry-lock 15m check --read-data-subset=", "The repository is damaged."},
	} {
		for _, fails := range []string{"", name} {
			t.Run(fmt.Sprintf("%s, fails=%v", name, fails != ""), func(t *testing.T) {
				t.Parallel()
				c := container(t, map[string]string{"restic": `echo "$*" >>"$ROOT/calls"
case "$*" in *" $FAILS"*) echo damaged >&2; exit 1 ;; esac`})
				c.Env = append(c.Env, "FAILS="+fails+map[bool]string{true: "nothing"}[fails == ""])
				out, code := c.Run(repositoryScript+tt.script, c.Path("/result"), "7", "86400")
				calls := strings.Split(c.Read("/calls"), "\n")
				if len(calls) != 4 || calls[1] != "--no-cache unlock" || !strings.HasPrefix(calls[2], tt.call) {
					t.Errorf("it calls %q", calls)
				}
				if fails != "" {
					if want := "damaged\n" + tt.says + "\n"; code == 0 || out != want || c.Has("/result") {
						t.Errorf("exit code %d: %s", code, out)
					}
				} else if d, err := ParseDone(c.Read("/result")); code != 0 || err != nil || (name == "check" && (d.Parts != 7 || d.Part == 0)) {
					t.Errorf("exit code %d, %+v, %v: %s", code, d, err, out)
				}
			})
		}
	}
}

// As many checks as there are parts read all data, even if a check runs only every seventh time, for example on
// Mondays.
func TestCheckScript_readsEveryPart(t *testing.T) {
	t.Parallel()
	for _, every := range []int{1, 7} {
		read := map[int64]bool{}
		c := container(t, map[string]string{"restic": "", "date": `case $1 in +*) echo "$NOW" ;; *) echo 2026-11-26T12:00:00Z ;; esac`})
		for day := range 7 {
			c.Env = append(c.Env, fmt.Sprintf("NOW=%d", (700+day*every)*86400+3600))
			out, code := c.Run(repositoryScript+checkScript, c.Path("/result"), "7", "86400")
			d, err := ParseDone(c.Read("/result"))
			if code != 0 || err != nil {
				t.Fatalf("exit code %d, %v: %s", code, err, out)
			}
			read[d.Part] = true
		}
		if got := slices.Sorted(maps.Keys(read)); !slices.Equal(got, []int64{1, 2, 3, 4, 5, 6, 7}) {
			t.Errorf("every %d days: the parts %v are read", every, got)
		}
	}
}

// inspection is what Consul prints about a snapshot, with the number of records of each kind.
func inspection(index int, counts map[string]int) string {
	text := fmt.Sprintf("{\n  \"Meta\": {\n    \"Index\": %d,\n    \"Term\": 2\n  },\n  \"Stats\": [\n", index)
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		text += fmt.Sprintf("    {\n      \"Name\": \"%s\",\n      \"Sum\": 99,\n      \"Count\": %d\n    },\n", kind, counts[kind])
	}
	return text + "  ]\n}\n"
}

// The repository returns what was stored, which is a snapshot that Consul can read.
func TestVerifyScript(t *testing.T) {
	t.Parallel()
	const inspects = `case "$1 $2" in "snapshot inspect") gunzip -c "$4" | grep -q '^data' && cat "$ROOT/info" ;; esac`
	for name, tt := range map[string]struct {
		index, tar, fails string
	}{
		"what was stored":   {index: "42", tar: "data"},
		"the latest":        {index: "0", tar: "data"},
		"another index":     {index: "41", tar: "data", fails: "the snapshot has the index 42, and was stored as 41\n"},
		"nothing of Consul": {index: "42", tar: "other", fails: "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := container(t, map[string]string{"consul": inspects})
			c.Write("/info", inspection(42, map[string]int{"KVS": 5, "Register": 3}))
			c.Write("/scratch/fetched/consul.tar", tt.tar)
			out, code := c.Run(inspectScript+verifyScript, c.Path("/scratch"), tt.index, c.Path("/result"))
			if tt.fails != "" {
				if code == 0 || !strings.Contains("\n"+out, tt.fails) || c.Has("/result") {
					t.Errorf("exit code %d: %s", code, out)
				}
			} else if got := c.Read("/result"); code != 0 || got != `{"index":42,"counts":{"KVS":5,"Register":3}}` {
				t.Errorf("exit code %d: %s; the result is %s", code, out, got)
			}
		})
	}
}

// drilled stands in for consul in a drill. FAIL is what fails.
const drilled = `case "$1 $2" in
  "agent "*)
    echo "$*" >"$ROOT/agent"
    [ "$FAIL" != agent ] || { echo "bad setting"; exit 1; }
    while [ -e "$ROOT/bin" ]; do sleep 0.1; done ;;
  "kv put") [ "$FAIL" != put ] && [ "$FAIL" != agent ] ;;
  "kv get") [ "$3" = sentinel ] ;;
  "snapshot restore") [ "$FAIL" != restore ] ;;
  "snapshot save") for file; do :; done; : >"$file" ;;
  "snapshot inspect") cat "$ROOT/after" ;;
esac`

// A drill succeeds if the server has the data of the snapshot.
func TestDrillScript(t *testing.T) {
	t.Parallel()
	had := map[string]int{"KVS": 5, "Register": 3, "ACLToken": 2, "Tombstone": 9}
	with := func(counts map[string]int, more map[string]int) map[string]int {
		counts = maps.Clone(counts)
		maps.Copy(counts, more)
		return counts
	}
	for name, tt := range map[string]struct {
		had, has       map[string]int
		sentinel, fail string
		late           bool // the server leads for long enough to forget nodes
		fails          string
	}{
		"nothing is missing":     {had: had, has: map[string]int{"KVS": 6, "Register": 3, "ACLToken": 2}, sentinel: "sentinel"},
		"a token is missing":     {had: had, has: with(had, map[string]int{"ACLToken": 1}), fails: "of ACLToken there are 1 after the restore, and 2"},
		"all tokens are missing": {had: had, has: map[string]int{"KVS": 5, "Register": 3}, fails: "of ACLToken there are 0 after the restore, and 2"},
		"a node is missing":      {had: had, has: with(had, map[string]int{"Register": 2}), fails: "of Register there are 2"},
		"a node is forgotten":    {had: had, has: with(had, map[string]int{"Register": 2}), late: true},
		"a key is missing":       {had: had, has: with(had, map[string]int{"KVS": 4}), fails: "of KVS there are 4"},
		"keys of sessions":       {had: with(had, map[string]int{"Session": 1}), has: with(had, map[string]int{"KVS": 1})},
		"all keys, of sessions": {
			had: with(had, map[string]int{"Session": 1}), has: with(had, map[string]int{"KVS": 0}), fails: "of KVS there are 0",
		},
		"no sentinel":               {had: had, has: had, sentinel: "other", fails: "the key other is not there"},
		"the server does not start": {had: had, has: had, fail: "agent", fails: "bad setting\nthe server of the drill does not start"},
		"the server has no leader":  {had: had, has: had, fail: "put", fails: "the server of the drill has no leader"},
		"the snapshot is not taken": {had: had, has: had, fail: "restore", fails: "the snapshot cannot be restored"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := container(t, map[string]string{"consul": drilled})
			if tt.late { // the clock one minute later, once the server leads
				c.StandIn("date", `case $1 in +*) n=$(cat "$ROOT/clock"); echo $((n + 60)) | tee "$ROOT/clock" ;; *) echo 2026-11-26T12:00:00Z ;; esac`)
				c.Write("/clock", "1000")
			}
			c.Env = append(c.Env, "FAIL="+tt.fail)
			c.Write("/scratch/fetched/info.json", inspection(42, tt.had))
			c.Write("/after", inspection(50, tt.has))
			out, code := c.Run(inspectScript+drillScript, c.Path("/scratch"), c.Path("/result"), "dc9", tt.sentinel, "-hcl=more")
			if code == 0 != (tt.fails == "") || !strings.Contains(out, tt.fails) {
				t.Fatalf("exit code %d: %s", code, out)
			}
			if d, err := ParseDone(c.Read("/result")); tt.fails == "" && (err != nil || d.Index != 42) {
				t.Errorf("the result is %+v, %v", d, err)
			}
			if agent := c.Read("/agent"); tt.fails == "" && (!strings.Contains(agent, "-datacenter=dc9 ") || !strings.HasSuffix(agent, " -hcl=more\n")) {
				t.Errorf("the agent has the flags %s", agent)
			}
		})
	}
}

// A snapshot may have to wait for an election, and a leader may change while it is taken, but not forever.
func TestSnapshotScript_triesAgain(t *testing.T) {
	t.Parallel()
	const takes = `case "$1 $2" in
  "snapshot save") echo save >>"$ROOT/saves"; [ "$(wc -l <"$ROOT/saves")" -gt "$FAILS" ] || exit 1; for file; do :; done; echo data | gzip >"$file" ;;
  "snapshot inspect") printf '{\n "Index": %s,\n}\n' "$INDEX" ;;
esac`
	for name, tt := range map[string]struct {
		fails, index int
		ok           bool
	}{
		"at once":           {0, 42, true},
		"after an election": {4, 42, true},
		"never":             {5, 42, false},
		"an empty snapshot": {0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := container(t, map[string]string{"consul": takes})
			c.Env = append(c.Env, fmt.Sprintf("FAILS=%d", tt.fails), fmt.Sprintf("INDEX=%d", tt.index))
			out, code := c.Run(inspectScript+snapshotScript, c.Path("/scratch"), "1.22.0", "http://consul", c.Path("/result"))
			if code == 0 != tt.ok || c.Has("/result") != tt.ok {
				t.Errorf("exit code %d: %s", code, out)
			}
		})
	}
	c := container(t, map[string]string{"consul": versions})
	c.Write("/leaders", strings.Repeat("0\n1\n", 20))
	if out, code := c.Run(inspectScript+snapshotScript, c.Path("/scratch"), "1.22.0", "http://consul", c.Path("/result")); code == 0 ||
		!strings.Contains(out, "the leader changes again and again") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// A snapshot that is not stored is a failure. One after which nothing can be forgotten is not.
func TestStoreScript_failures(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ fails, summary, says string }{
		"it is stored":           {"nothing", `{"total_bytes_processed":100,"data_added_packed":10,"snapshot_id":"abcdef"}`, ""},
		"it is not stored":       {" backup ", "", "The snapshot was taken, and not stored."},
		"it is not known":        {"nothing", "{}", "restic does not say what it has stored."},
		"nothing can be listed":  {" snapshots ", `{"total_bytes_processed":100,"data_added_packed":10,"snapshot_id":"abcdef"}`, ""},
		"nothing can be removed": {" forget ", `{"total_bytes_processed":100,"data_added_packed":10,"snapshot_id":"abcdef"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := container(t, map[string]string{"restic": `case "$*" in
*"$FAILS"*) exit 1 ;;
*" backup "*) echo '` + tt.summary + `' ;;
esac`})
			c.Env = append(c.Env, "FAILS="+tt.fails)
			c.Write("/scratch/version", "1.22.7\n")
			c.Write("/scratch/index", "12\n")
			out, code := c.Run(
				repositoryScript+storeScript, c.Path("/scratch"), "ns.consul", "schedule=hourly", c.Path("/result"), created, "--keep-last=3")
			if tt.says != "" {
				if code == 0 || !strings.Contains(out, tt.says) || c.Has("/result") {
					t.Errorf("exit code %d: %s", code, out)
				}
				return
			}
			r, err := ParseResult(c.Read("/result"))
			want := Result{Snapshot: "abcdef", Version: "1.22.7", Index: 12, Size: 100, Stored: 10, Forgotten: tt.fails == "nothing"}
			r.Time = time.Time{}
			if code != 0 || err != nil || r != want {
				t.Errorf("exit code %d, %v: %+v: %s", code, err, r, out)
			}
		})
	}
}
