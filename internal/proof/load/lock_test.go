package load_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/load"
)

const (
	lockKey   = "lock"
	lockToken = "a-token"
)

// sessions answers like Consul's sessions and its key of a lock, without a delay after a loss.
type sessions struct {
	t       *testing.T
	mu      sync.Mutex
	created int
	exist   map[string]bool
	holder  string        // the session that holds the lock
	index   int           // of the holder
	changed chan struct{} // is closed by the next change of the holder
}

func newSessions(t *testing.T) *sessions {
	t.Helper()
	return &sessions{t: t, exist: map[string]bool{}, index: 1, changed: make(chan struct{})}
}

// answer is store.before.
func (s *sessions) answer(w http.ResponseWriter, r *http.Request) bool {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if path != "kv/"+lockKey && !strings.HasPrefix(path, "session/") {
		return false
	}
	if token := r.Header.Get("X-Consul-Token"); token != lockToken {
		s.t.Errorf("%s %s has the token %q", r.Method, path, token)
	}
	id := path[strings.LastIndex(path, "/")+1:]
	query := r.URL.Query()
	switch {
	case path == "session/create":
		s.create(w, r)
	case strings.HasPrefix(path, "session/renew/"):
		reply(w, []map[string]string{{"ID": id, "TTL": "15s"}})
	case strings.HasPrefix(path, "session/destroy/"):
		s.invalidate(id)
		reply(w, true)
	case query.Has("acquire"):
		reply(w, s.acquire(query.Get("acquire")))
	case query.Has("release"):
		reply(w, s.release(query.Get("release")))
	default:
		s.read(w, r)
	}
	return true
}

func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

// create creates a session. From the third one on, it waits until the lock is held: after a loss, the candidate that
// waited for the lock gets it.
func (s *sessions) create(w http.ResponseWriter, r *http.Request) {
	var entry map[string]any
	if err := json.NewDecoder(r.Body).Decode(&entry); err != nil || entry["TTL"] != "15s" || entry["Node"] != nil {
		s.t.Errorf("the session is %v, %v", entry, err)
	}
	s.mu.Lock()
	s.created++
	id := "session-" + strconv.Itoa(s.created)
	s.exist[id] = true
	changed, wait := s.changed, s.created > 2 && s.holder == ""
	s.mu.Unlock()
	if wait {
		<-changed
	}
	reply(w, map[string]string{"ID": id})
}

// read waits for a change of the holder if the request has an index, however long.
func (s *sessions) read(w http.ResponseWriter, r *http.Request) {
	index, _ := strconv.Atoi(r.URL.Query().Get("index"))
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.index == index {
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		s.mu.Lock()
		if r.Context().Err() != nil {
			return
		}
	}
	w.Header().Set("X-Consul-Index", strconv.Itoa(s.index))
	reply(w, []map[string]any{{"Key": lockKey, "Flags": uint64(0x2ddccbc058a50c18), "Session": s.holder}})
}

// hold gives the lock to a session, or to none.
func (s *sessions) hold(id string) {
	s.holder = id
	s.index++
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sessions) acquire(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != "" || !s.exist[id] {
		return false
	}
	s.hold(id)
	return true
}

func (s *sessions) release(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != id {
		return false
	}
	s.hold("")
	return true
}

func (s *sessions) invalidate(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.exist, id)
	if s.holder == id {
		s.hold("")
	}
}

// state returns the session that holds the lock, and how many sessions exist.
func (s *sessions) state() (holder string, exist int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder, len(s.exist)
}

// runWithLock sends requests, with two candidates for the lock, until enough returns true.
func runWithLock(t *testing.T, s *sessions, enough func(load.LockStats) bool) load.Report {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(lockToken), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, &store{before: s.answer}, load.Options{TokenFile: file, Lock: lockKey}, func(r load.Report) bool {
		if r.Lock == nil {
			t.Error("the progress does not report the lock")
			return true
		}
		return r.Requests > 0 && enough(*r.Lock)
	})
	if r.Failed > 0 {
		t.Errorf("%d requests failed: %v", r.Failed, r.Failures)
	}
	if holder, exist := s.state(); strings.HasPrefix(holder, "session-") || exist > 0 {
		t.Errorf("after the end, %q holds the lock, and %d sessions exist", holder, exist)
	}
	return r
}

func TestRun_holdsALock(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	reports := 0
	r := runWithLock(t, s, func(l load.LockStats) bool {
		if _, exist := s.state(); l.Held() && exist == 2 {
			reports++
		}
		return reports == 3
	})
	if want := (load.LockStats{Acquired: 1}); r.Lock == nil || *r.Lock != want {
		t.Errorf("the report has %+v, want %+v", r.Lock, want)
	}
}

// Somebody else holds the lock.
func TestRun_endsWhileItWaitsForALock(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	s.hold("somebody")
	reports := 0
	r := runWithLock(t, s, func(load.LockStats) bool {
		if _, exist := s.state(); exist == 2 {
			reports++
		}
		return reports == 3
	})
	if *r.Lock != (load.LockStats{}) {
		t.Errorf("the report has %+v", r.Lock)
	}
}

// The holder loses its session twice. Each time, the candidate that waited holds the lock next, and the former holder
// waits again.
func TestRun_countsLostLocks(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	var holders []string
	r := runWithLock(t, s, func(l load.LockStats) bool {
		holder, exist := s.state()
		if l.Acquired <= len(holders) || !l.Held() || exist < 2 {
			return false
		}
		holders = append(holders, holder)
		if len(holders) < 3 {
			s.invalidate(holder)
		}
		return len(holders) == 3
	})
	if l := r.Lock; l.Acquired != 3 || l.Lost != 2 || l.Error != "" {
		t.Errorf("the report has %+v", l)
	}
	// The two candidates begin in any order.
	if got := fmt.Sprint(holders); got != "[session-1 session-2 session-3]" && got != "[session-2 session-1 session-3]" {
		t.Errorf("the holders were %s", got)
	}
}

// The error shows why the lock is not held.
func TestRun_saysWhyItCannotHoldALock(t *testing.T) {
	t.Parallel()
	before := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v1/session/create" {
			http.Error(w, "Permission denied", http.StatusForbidden)
			return true
		}
		return false
	}
	r := run(t, &store{before: before}, load.Options{Lock: lockKey}, func(r load.Report) bool { return r.Lock.Error != "" })
	if l := r.Lock; l.Acquired != 0 || l.Lost != 0 || !strings.Contains(l.Error, "Permission denied") {
		t.Errorf("the report has %+v", l)
	}
}
