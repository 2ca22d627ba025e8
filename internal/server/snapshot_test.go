package server

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/scripttest"
)

func TestSnapshotJob_golden(t *testing.T) {
	golden(t, "snapshot", SnapshotClaim(full()), SnapshotJob(full(), "consul-bootstrap-token", "token"))
	golden(t, "snapshot-without-acls", SnapshotClaim(minimal()), SnapshotJob(minimal(), "", ""))
}

// The pod must not have what makes it a server: it would get requests of clients, and count for the disruption
// budget.
func TestSnapshotJob_isNotAServer(t *testing.T) {
	labels := SnapshotJob(full(), "", "").Spec.Template.Labels
	selected := true
	for k, v := range SelectorLabels("consul") {
		selected = selected && labels[k] == v
	}
	if selected {
		t.Errorf("%v selects the Job's pod", SelectorLabels("consul"))
	}
}

// A Job has the declared resources of Jobs, or those of a server: a LimitRange or a quota that admits the servers
// admits the Job too.
func TestJobContainer_resources(t *testing.T) {
	t.Parallel()
	memory := func(text string) *Resources {
		return &Resources{Requests: map[string]resource.Quantity{"memory": resource.MustParse(text)}}
	}
	for name, tt := range map[string]struct {
		servers        *Resources
		cluster, wants JobSettings
		want           string
	}{
		"those of a server":   {memory("1Gi"), JobSettings{}, JobSettings{}, "1Gi"},
		"those of the Jobs":   {memory("1Gi"), JobSettings{Resources: memory("256Mi")}, JobSettings{}, "256Mi"},
		"those of this Job":   {memory("1Gi"), JobSettings{Resources: memory("256Mi")}, JobSettings{Resources: memory("64Mi")}, "64Mi"},
		"nothing is declared": {&Resources{}, JobSettings{}, JobSettings{}, "0"},
	} {
		s := Spec{Resources: *tt.servers, Jobs: tt.cluster.With(tt.wants)}
		c := JobContainer(s, "snapshot", "image")
		if got := c.Resources.Requests[corev1.ResourceMemory]; got.Cmp(resource.MustParse(tt.want)) != 0 {
			t.Errorf("%s: asks for %s, want %s", name, got.String(), tt.want)
		}
	}
}

// The pods of Jobs have the labels of all objects and their own, none of the server pods, and are excluded from
// service meshes unless declared otherwise.
func TestJobPod_metadata(t *testing.T) {
	t.Parallel()
	s := Spec{
		Name: "consul", Labels: map[string]string{"team": "platform"}, PodLabels: map[string]string{"app": "consul"},
		PodAnnotations: map[string]string{"scrape": "yes"},
		Jobs:           JobSettings{PodLabels: map[string]string{"cost": "low"}, PodAnnotations: map[string]string{"note": "mine"}},
	}
	p := JobPod(s, map[string]string{"task": "list"})
	for k, want := range map[string]string{
		"team": "platform", "cost": "low", "task": "list", "app": "", "sidecar.istio.io/inject": "false", "kuma.io/sidecar-injection": "disabled",
	} {
		if got := p.Labels[k]; got != want {
			t.Errorf("label %s is %q, want %q", k, got, want)
		}
	}
	for k, want := range map[string]string{
		"note": "mine", "scrape": "", "linkerd.io/inject": "disabled", "consul.hashicorp.com/connect-inject": "false",
		"sidecar.istio.io/inject": "false",
	} {
		if got := p.Annotations[k]; got != want {
			t.Errorf("annotation %s is %q, want %q", k, got, want)
		}
	}
	s.Jobs = s.Jobs.With(JobSettings{PodLabels: map[string]string{"sidecar.istio.io/inject": "true", "task": "other"}})
	if p = JobPod(s, map[string]string{"task": "list"}); p.Labels["sidecar.istio.io/inject"] != "true" || p.Labels["task"] != "list" ||
		p.Labels["cost"] != "low" {
		t.Errorf("the labels are %v", p.Labels)
	}
}

func TestParseSnapshot(t *testing.T) {
	whole := map[string]any{
		"file": "consul-1.21.0-20260102T030405Z.snap", "version": "1.21.0", "index": 42, "term": 2, "size": 3082,
		"sha256": strings.Repeat("0a", 32), "time": "2026-01-02T03:04:05Z",
	}
	tests := map[string]struct {
		change func(map[string]any)
		ok     bool
	}{
		"whole":          {func(map[string]any) {}, true},
		"no file":        {func(m map[string]any) { delete(m, "file") }, false},
		"a path":         {func(m map[string]any) { m["file"] = "../x" }, false},
		"no index":       {func(m map[string]any) { m["index"] = 0 }, false},
		"no sum":         {func(m map[string]any) { m["sha256"] = "" }, false},
		"an empty file":  {func(m map[string]any) { m["size"] = 0 }, false},
		"no such number": {func(m map[string]any) { m["index"] = "" }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := merged(whole)
			tt.change(m)
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			s, err := ParseSnapshot("consul", string(text))
			if (err == nil) != tt.ok {
				t.Fatalf("got %+v, %v", s, err)
			}
			if tt.ok && s != *full().UpgradeSnapshot {
				t.Errorf("got %+v, want %+v", s, *full().UpgradeSnapshot)
			}
		})
	}
	if _, err := ParseSnapshot("consul", ""); err == nil {
		t.Error("an empty message was accepted")
	}
}

// newSnapshotRun returns a container whose consul saves and inspects like Consul, or fails as FAIL says.
func newSnapshotRun(t *testing.T) *scripttest.Container {
	t.Helper()
	c := scripttest.Busybox(t, "/snapshots")
	c.StandIn("sleep", "")
	c.StandIn("consul", `[ "$FAIL" != "$2" ] || { echo "$2 refused" >&2; exit 1; }
for file; do :; done
case $2 in
  save) echo "$*" >"$ROOT/call"; echo data >"$file" ;;
  inspect) printf '{\n   "Meta": {\n      "ID": "2-42",\n      "Size": 7,\n      "Index": 42,\n      "Term": 2,\n      "Version": 1\n   },\n   "Stats": []\n}\n' ;;
esac`)
	return c
}

func takeSnapshot(c *scripttest.Container, args ...string) (out string, code int) {
	return c.Run(snapshotScript, append([]string{c.Path("/snapshots"), "1.21.0", "http://consul", c.Path("/result")}, args...)...)
}

func snapshotFiles(t *testing.T, c *scripttest.Container) []string {
	t.Helper()
	entries, err := os.ReadDir(c.Path("/snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSnapshotScript_keepsTheLatestThree(t *testing.T) {
	t.Parallel()
	c := newSnapshotRun(t)
	for i, name := range []string{"consul-1.22.0-old.snap", "consul-1.9.0-newer.snap", "consul-1.10.0-newest.snap", "mine.snap"} {
		c.Write("/snapshots/"+name, "")
		at := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(c.Path("/snapshots/"+name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if out, code := takeSnapshot(c, "/token/token"); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	s, err := ParseSnapshot("consul", c.Read("/result"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Index != 42 || s.Term != 2 || s.Size != 5 || s.Version != "1.21.0" ||
		s.SHA256 != "6667b2d1aab6a00caa5aee5af8ad9f1465e567abf1c209d15727d57b3e8f6e5f" {
		t.Errorf("the result is %+v", s)
	}
	want := []string{"consul-1.10.0-newest.snap", s.File, "consul-1.9.0-newer.snap", "mine.snap"}
	if got := snapshotFiles(t, c); !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
	if call := c.Read("/call"); !strings.Contains(call, "-http-addr=http://consul -token-file=/token/token ") || strings.Contains(call, "stale") {
		t.Errorf("consul was called with %q", call)
	}
}

// A snapshot that cannot be taken or read back leaves nothing, and deletes no other.
func TestSnapshotScript_aFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, fail := range []string{"save", "inspect"} {
		c := newSnapshotRun(t)
		c.Env = []string{"FAIL=" + fail}
		before := []string{"consul-1.1.0-a.snap", "consul-1.2.0-b.snap", "consul-1.3.0-c.snap"}
		for _, name := range before {
			c.Write("/snapshots/"+name, "")
		}
		if out, code := takeSnapshot(c); code == 0 {
			t.Errorf("%s failed, and the script did not: %s", fail, out)
		}
		if got := snapshotFiles(t, c); !slices.Equal(got, before) {
			t.Errorf("after %s failed, left are %q", fail, got)
		}
		if c.Has("/result") {
			t.Errorf("after %s failed there is a result", fail)
		}
	}
}

func TestSnapshotScript_cleansUpAfterAKilledRun(t *testing.T) {
	t.Parallel()
	c := newSnapshotRun(t)
	c.Write("/snapshots/.taking/snapshot.tmp1/data", "")
	if out, code := takeSnapshot(c); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if got := snapshotFiles(t, c); len(got) != 1 || !strings.HasPrefix(got[0], "consul-1.21.0-") {
		t.Errorf("left are %q", got)
	}
}
