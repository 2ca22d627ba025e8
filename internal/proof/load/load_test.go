package load_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/load"
)

// store answers like Consul's key/value store.
type store struct {
	mu     sync.Mutex
	values map[string]string
	// before may answer instead of the store.
	before func(http.ResponseWriter, *http.Request) (answered bool)
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.before != nil && s.before(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.TrimPrefix(r.URL.Path, "/v1/kv/")
	value, ok := s.values[key]
	switch {
	case r.Method == http.MethodPut:
		body, _ := io.ReadAll(r.Body)
		s.values[key] = string(body)
		_, _ = io.WriteString(w, "true\n")
	case !r.URL.Query().Has("consistent"):
		http.Error(w, "a read that is not consistent", http.StatusBadRequest)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = io.WriteString(w, value)
	}
}

// run sends requests to a store until enough returns true.
func run(t *testing.T, s *store, o load.Options, enough func(load.Report) bool) load.Report {
	t.Helper()
	s.values = map[string]string{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	o.URL, o.Prefix, o.Rate = server.URL, "written/", 250
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	return load.Run(ctx, o, func(r load.Report) {
		if enough(r) {
			cancel()
		}
	})
}

func requests(n int) func(load.Report) bool {
	return func(r load.Report) bool { return r.Requests >= n }
}

func TestRun_writesAndReadsOnBothKindsOfConnections(t *testing.T) {
	t.Parallel()
	s := &store{}
	r := run(t, s, load.Options{}, requests(500))
	if !r.Done || r.Failed != 0 || len(r.Failures) != 0 {
		t.Errorf("done is %v, %d failed: %v", r.Done, r.Failed, r.Failures)
	}
	kinds := slices.Sorted(maps.Keys(r.Kinds))
	if want := []string{"read kept", "read new", "write kept", "write new"}; !slices.Equal(kinds, want) {
		t.Errorf("the kinds are %q, want %q", kinds, want)
	}
	total := 0
	for kind, k := range r.Kinds {
		if k.Requests < r.Requests/4-1 {
			t.Errorf("%d of %d requests are of the kind %q", k.Requests, r.Requests, kind)
		}
		total += k.Requests
	}
	if total != r.Requests || r.P50 == 0 || r.P50 > r.P99 || r.P99 > r.Max {
		t.Errorf("%d requests in %+v", total, r.Stats)
	}
	if want := []load.Range{{First: 1, Last: len(s.values)}}; !slices.Equal(r.Acknowledged, want) {
		t.Errorf("acknowledged are %v, want %v", r.Acknowledged, want)
	}
	for n := 1; n <= len(s.values); n++ {
		if key := load.Key("written/", n); s.values[key] != load.Value(key) {
			t.Fatalf("%s holds %q", key, s.values[key])
		}
	}
}

// The server does not answer until a crowd of requests waits.
func TestRun_doesNotWaitForAnswers(t *testing.T) {
	t.Parallel()
	const crowd = 60
	var waiting atomic.Int32
	released := make(chan struct{})
	s := &store{before: func(http.ResponseWriter, *http.Request) bool {
		if waiting.Add(1) == crowd {
			close(released)
		}
		<-released
		return false
	}}
	if r := run(t, s, load.Options{}, requests(crowd)); r.Failed != 0 {
		t.Errorf("%d failed: %v", r.Failed, r.Failures)
	}
}

func TestRun_waitsForRequestsInProgress(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := &store{before: func(http.ResponseWriter, *http.Request) bool {
		<-release
		return false
	}}
	reports := 0
	r := run(t, s, load.Options{}, func(load.Report) bool {
		if reports++; reports == 3 {
			time.AfterFunc(10*time.Millisecond, func() { close(release) })
		}
		return reports == 3
	})
	if r.Requests < 400 || r.Failed != 0 {
		t.Errorf("%d requests have ended, %d failed: %v", r.Requests, r.Failed, r.Failures)
	}
}

func TestRun_reportsFailures(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before  func(w http.ResponseWriter, r *http.Request) bool
		timeout time.Duration
		want    string // in every failure
	}{
		"no leader": {
			before: func(w http.ResponseWriter, _ *http.Request) bool {
				http.Error(w, "No cluster leader", http.StatusInternalServerError)
				return true
			},
			want: "500: No cluster leader",
		},
		"the connection breaks": {
			before: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
			want:   "EOF",
		},
		"no answer": {
			before: func(_ http.ResponseWriter, r *http.Request) bool {
				_, _ = io.Copy(io.Discard, r.Body) // otherwise the server does not notice that the client is gone
				<-r.Context().Done()
				return true
			},
			timeout: 20 * time.Millisecond,
			want:    "context deadline exceeded",
		},
		"a write that is not taken": {
			before: func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut {
					_, _ = io.WriteString(w, "false")
				}
				return r.Method == http.MethodPut
			},
			want: "200: false",
		},
		"a write that is lost": {
			before: func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut {
					_, _ = io.WriteString(w, "true")
				}
				return r.Method == http.MethodPut
			},
			want: "was acknowledged, and a consistent read does not find it",
		},
		"a read of something else": {
			before: func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet && !strings.HasSuffix(r.URL.Path, "/0") {
					_, _ = io.WriteString(w, "something else")
					return true
				}
				return false
			},
			want: `was acknowledged, and a consistent read finds "something else"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, &store{before: test.before}, load.Options{Timeout: test.timeout}, func(r load.Report) bool { return r.Failed >= 30 })
			if r.Failed < 30 || len(r.Failures) != 20 {
				t.Errorf("%d failed, of which the report describes %d", r.Failed, len(r.Failures))
			}
			for _, f := range r.Failures {
				if !strings.Contains(f.Error, test.want) {
					t.Errorf("the %s failed with %q, want %q", f.Kind, f.Error, test.want)
				}
			}
		})
	}
}

func TestRun_usesTheLatestToken(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	var mu sync.Mutex
	var seen []string
	s := &store{before: func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if token := r.Header.Get("X-Consul-Token"); !slices.Contains(seen, token) {
			seen = append(seen, token)
		}
		return false
	}}
	changes := []func() error{
		func() error { return os.WriteFile(file, []byte("first"), 0o600) },
		func() error { return os.WriteFile(file, []byte("second\n"), 0o600) },
		func() error {
			mu.Lock()
			defer mu.Unlock()
			seen = nil
			return os.Remove(file)
		},
	}
	next := 0
	r := run(t, s, load.Options{TokenFile: file}, func(r load.Report) bool {
		if r.Requests == 0 || r.Tokens < min(next, 2) {
			return false
		}
		if next < len(changes) {
			if err := changes[next](); err != nil {
				t.Error(err)
			}
			next++
			return false
		}
		return true
	})
	if slices.Contains(seen, "") || !slices.Contains(seen, "second") || r.Tokens != 2 {
		t.Errorf("without the file the tokens were %q; the report counts %d in all", seen, r.Tokens)
	}
}
