package kube

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const kubeconfig = `
apiVersion: v1
kind: Config
clusters:
- {name: a, cluster: {server: "https://a.example:6443"}}
- {name: b, cluster: {server: "https://b.example:6443"}}
users:
- {name: u, user: {token: from-file}}
- {name: w, user: {token: other}}
contexts:
- {name: a, context: {cluster: a, user: u}}
- {name: b, context: {cluster: b, user: u}}
current-context: a
`

func write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfig_neverFallsBack(t *testing.T) {
	t.Setenv("KUBECONFIG", write(t))
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	for name, c := range map[string]Config{"empty": {}, "only a token": {Token: "x"}, "only a context": {Context: "a"}} {
		if got, err := c.RESTConfig(); !errors.Is(err, ErrNotConfigured) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := (Config{ConfigPaths: []string{empty}}).RESTConfig(); err == nil {
		t.Errorf("an empty kubeconfig resulted in %s", got.Host)
	}
}

func TestConfig_RESTConfig(t *testing.T) {
	path := write(t)
	tests := map[string]struct {
		config            Config
		host, token, fail string
	}{
		"current context": {config: Config{ConfigPaths: []string{path}}, host: "https://a.example:6443", token: "from-file"},
		"another context": {config: Config{ConfigPaths: []string{path}, Context: "b"}, host: "https://b.example:6443", token: "from-file"},
		"another cluster": {
			config: Config{ConfigPaths: []string{path}, ContextCluster: "b"},
			host:   "https://b.example:6443",
			token:  "from-file",
		},
		"another user": {
			config: Config{ConfigPaths: []string{path}, ContextAuthInfo: "w"},
			host:   "https://a.example:6443",
			token:  "other",
		},
		"a missing context": {config: Config{ConfigPaths: []string{path}, Context: "c"}, fail: "c"},
		"attributes win": {
			config: Config{ConfigPaths: []string{path}, Host: "https://c.example", Token: "mine"},
			host:   "https://c.example",
			token:  "mine",
		},
		"host and token":       {config: Config{Host: "c.example:6443", Token: "mine"}, host: "https://c.example:6443", token: "mine"},
		"no such file":         {config: Config{ConfigPaths: []string{"/no/such/file"}}, fail: "/no/such/file"},
		"an unreadable host":   {config: Config{Host: "https://a b"}, fail: "a b"},
		"a malformed CA":       {config: Config{Host: "https://c.example", ClusterCACertificate: "x"}, host: "https://c.example"},
		"a second file merged": {config: Config{ConfigPaths: []string{path, path}}, host: "https://a.example:6443", token: "from-file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.config.RESTConfig()
			if tt.fail != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fail) {
					t.Errorf("got %v, want something about %s", err, tt.fail)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Host != tt.host || got.BearerToken != tt.token {
				t.Errorf("got %s with token %q, want %s with %q", got.Host, got.BearerToken, tt.host, tt.token)
			}
		})
	}
}

func TestWait_saysWhatWasMissing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := Wait(ctx, "the moon", time.Millisecond, func(context.Context) (string, error) { return "it is day", nil })
	var timeout *TimeoutError
	if !errors.As(err, &timeout) || !errors.Is(err, context.DeadlineExceeded) || err.Error() != "timed out waiting for the moon: it is day" {
		t.Errorf("got %v", err)
	}
	n := 0
	err = Wait(t.Context(), "a third try", time.Millisecond, func(context.Context) (string, error) {
		if n++; n < 3 {
			return "not yet", nil
		}
		return "", nil
	})
	if err != nil || n != 3 {
		t.Errorf("got %v after %d checks", err, n)
	}
	broken := errors.New("broken")
	if err := Wait(t.Context(), "it", time.Millisecond, func(context.Context) (string, error) { return "", broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
