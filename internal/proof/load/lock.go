package load

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// The settings of Vault's Consul storage backend (physical/consul), whose candidates wait lockRetry after an error.
const (
	lockSessionTTL     = "15s"
	lockMonitorRetries = 5
	lockWait           = 15 * time.Second
	lockRetry          = 10 * time.Second
)

// LockStats count what happened to a lock for which two candidates compete: one holds it, and the other waits.
type LockStats struct {
	Acquired int `json:"acquired"`
	// Lost is how often a holder noticed that it lost the lock. The release at the end does not count.
	Lost int `json:"lost"`
	// Without is how long nobody held the lock after it was acquired for the first time, from when the holder noticed
	// its loss, and LongestWithout is the longest of these times.
	Without        time.Duration `json:"without"`
	LongestWithout time.Duration `json:"longest_without"`
	// Error is the latest reason for which a candidate could not compete.
	Error string `json:"error,omitempty"`
}

// Held reports whether a candidate holds the lock.
func (s LockStats) Held() bool { return s.Acquired > s.Lost }

// lockRecorder collects what happens to a lock.
type lockRecorder struct {
	mu    sync.Mutex
	stats LockStats // without the time since the lock was lost last
	lost  time.Time // when that was
}

func (r *lockRecorder) acquire(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats = r.statsAt(at)
	r.stats.Acquired++
}

func (r *lockRecorder) lose(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Lost++
	r.lost = at
}

func (r *lockRecorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Error = err.Error()
}

// report is what has happened until now.
func (r *lockRecorder) report(now time.Time) *LockStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return new(r.statsAt(now))
}

func (r *lockRecorder) statsAt(now time.Time) LockStats {
	s := r.stats
	if s.Lost > 0 && !s.Held() {
		without := now.Sub(r.lost)
		s.Without += without
		s.LongestWithout = max(s.LongestWithout, without)
	}
	return s
}

// candidate competes for a lock as a Vault server does that stores its data in Consul.
type candidate struct {
	key    string
	consul *api.Client
	record *lockRecorder
}

// compete holds the lock whenever it can, until the context ends.
func compete(ctx context.Context, o Options, token func() string, record *lockRecorder) {
	config := api.DefaultConfig()
	defer config.Transport.CloseIdleConnections()
	config.Address = o.URL
	config.HttpClient = &http.Client{Transport: lockTransport{ctx, config.Transport, token}}
	consul, err := api.NewClient(config)
	if err != nil {
		record.fail(err)
		return
	}
	c := candidate{o.Lock, consul, record}
	for {
		err := c.hold(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil { // the lock was lost
			continue
		}
		record.fail(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(lockRetry):
		}
	}
}

// hold waits for the lock, and holds it until it is lost or the context ends. Its session is its own, and not that of
// api.Lock, so that it is destroyed when hold returns.
func (c candidate) hold(ctx context.Context) error {
	sessions := c.consul.Session()
	session, _, err := sessions.Create(&api.SessionEntry{Name: "load", TTL: lockSessionTTL}, nil)
	if err != nil {
		return fmt.Errorf("creating a session: %w", err)
	}
	var renewal sync.WaitGroup
	end := make(chan struct{})
	renewal.Go(func() { _ = sessions.RenewPeriodic(lockSessionTTL, session, nil, end) }) // if it fails, the lock is lost
	defer renewal.Wait()
	defer close(end)
	lock, err := c.consul.LockOpts(&api.LockOptions{
		Key: c.key, Session: session, SessionTTL: lockSessionTTL, MonitorRetries: lockMonitorRetries, LockWaitTime: lockWait,
	})
	if err != nil {
		return err
	}
	lost, err := lock.Lock(ctx.Done())
	if err != nil || lost == nil {
		return err
	}
	defer func() { _ = lock.Unlock() }() // the end of the session releases it too
	if ctx.Err() != nil {                // the other candidate has released it
		return nil
	}
	c.record.acquire(time.Now())
	select {
	case <-ctx.Done():
	case <-lost:
		if ctx.Err() == nil {
			c.record.lose(time.Now())
		}
	}
	return nil
}

// lockTransport sends the current token. Reads end with the context: api.Lock would wait for the lock for longer.
type lockTransport struct {
	ctx   context.Context
	base  http.RoundTripper
	token func() string
}

// RoundTrip implements http.RoundTripper.
func (t lockTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.Method == http.MethodGet {
		r = r.WithContext(t.ctx) //nolint:contextcheck // see above
	}
	if token := t.token(); token != "" {
		r.Header.Set("X-Consul-Token", token)
	}
	return t.base.RoundTrip(r)
}
