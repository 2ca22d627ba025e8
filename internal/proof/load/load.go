// Package load is a client of Consul's key/value store that does not wait for answers: it sends requests at a steady
// rate, whether earlier ones have ended or not (open loop), as many independent clients do. A latency counts from
// when a request was due, so that an outage shows in every request that it delays, and not only in the one that was
// in progress (coordinated omission). It can also hold a lock, as Vault does, and measure whether it loses it.
//
// The program (cmd/load) runs in a pod beside the servers.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options define the requests.
type Options struct {
	// URL of the servers, such as "http://10.96.0.7:8500".
	URL string
	// Prefix is the prefix of all keys; see Key.
	Prefix string
	// Rate is the number of writes per second. There are as many reads. Half of each use a new connection.
	Rate int
	// Timeout of a request, from when it is due.
	Timeout time.Duration
	// TokenFile contains the token to send. It is read again for each request. Until it exists, no token is sent. ""
	// sends none.
	TokenFile string
	// Lock is the key of a lock to hold, if it is not "".
	Lock string
}

// Consul serves at most 200 connections of one client (http_max_conns_per_client in the limits of the agent's
// configuration), and all may be to one server. A request that finds no free connection waits for one, and this time
// counts.
const (
	maxNew = 96
	// keptPools spreads the kept connections over the servers: the server of a connection is chosen when the
	// connection is opened.
	keptPools   = 12
	maxKeptEach = 4
)

// Key is the key of a write. Numbers start at 1.
func Key(prefix string, n int) string { return prefix + strconv.Itoa(n) }

// Value is the value of a key, which shows whether it was written.
func Value(key string) string { return "value of " + key }

// Run sends requests until the context ends, waits for those in progress, and releases the lock. Twice a second, it
// calls progress, from one goroutine. Each write has another key. A read has the key that was acknowledged last, in consistent mode. It
// fails unless it finds the written value.
func Run(ctx context.Context, o Options, progress func(Report)) Report {
	c := newClient(o)
	defer c.close()
	var wg sync.WaitGroup
	if o.Lock != "" {
		c.record.lock = &lockRecorder{}
		for range 2 {
			wg.Go(func() { compete(ctx, o, c.token, c.record.lock) })
		}
	}
	interval := time.Second / time.Duration(2*o.Rate)
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i++ {
		due := start.Add(time.Duration(i) * interval)
		timer.Reset(time.Until(due)) // at once when it is late
		select {
		case <-ctx.Done():
			wg.Wait()
			return c.record.report()
		case <-timer.C:
		}
		wg.Go(func() { c.send(context.WithoutCancel(ctx), i, due) })
		if i%o.Rate == 0 {
			progress(c.record.progress())
		}
	}
}

type client struct {
	Options
	record *recorder
	new    *http.Client
	free   chan struct{} // a place for each new connection
	kept   []*http.Client
}

func newClient(o Options) *client {
	c := &client{
		Options: o, record: newRecorder(), free: make(chan struct{}, maxNew),
		new: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	for range keptPools {
		c.kept = append(c.kept, &http.Client{Transport: &http.Transport{
			MaxConnsPerHost: maxKeptEach, MaxIdleConnsPerHost: maxKeptEach, IdleConnTimeout: 90 * time.Second,
		}})
	}
	return c
}

func (c *client) close() {
	for _, k := range c.kept {
		k.CloseIdleConnections()
	}
}

// send sends the ith request. Writes and reads alternate, and so do new and kept connections.
func (c *client) send(ctx context.Context, i int, due time.Time) {
	ctx, cancel := context.WithDeadline(ctx, due.Add(c.Timeout))
	defer cancel()
	connection := "new"
	do := c.doNew
	if i%4 >= 2 {
		connection = "kept"
		do = c.kept[i/4%keptPools].Do
	}
	var kind string
	var err error
	if i%2 == 0 {
		kind, err = "write", c.write(ctx, i/2+1, do)
	} else {
		kind, err = "read", c.read(ctx, do)
	}
	c.record.ended(kind+" "+connection, due, time.Since(due), err)
}

type doer func(*http.Request) (*http.Response, error)

// doNew sends a request on a new connection.
func (c *client) doNew(r *http.Request) (*http.Response, error) {
	select {
	case c.free <- struct{}{}:
		defer func() { <-c.free }()
		return c.new.Do(r)
	case <-r.Context().Done():
		return nil, fmt.Errorf("waiting for a free connection: %w", r.Context().Err())
	}
}

func (c *client) write(ctx context.Context, n int, do doer) error {
	key := Key(c.Prefix, n)
	status, body, err := c.ask(ctx, http.MethodPut, key, "", Value(key), do)
	switch {
	case err != nil:
		return err
	case status != http.StatusOK || strings.TrimSpace(body) != "true":
		return answer(status, body)
	}
	c.record.acknowledge(n)
	return nil
}

func (c *client) read(ctx context.Context, do doer) error {
	n := c.record.readable()
	key := Key(c.Prefix, n) // key 0 is never written
	status, body, err := c.ask(ctx, http.MethodGet, key, "consistent&raw", "", do)
	switch {
	case err != nil:
		return err
	case n == 0 && status == http.StatusNotFound:
		return nil
	case status == http.StatusNotFound:
		return fmt.Errorf("the write of %s was acknowledged, and a consistent read does not find it", key)
	case status != http.StatusOK:
		return answer(status, body)
	case body != Value(key):
		return fmt.Errorf("the write of %s was acknowledged, and a consistent read finds %q", key, body)
	}
	return nil
}

func (c *client) ask(ctx context.Context, method, key, query, body string, do doer) (status int, text string, err error) {
	u := c.URL + "/v1/kv/" + key
	if query != "" {
		u += "?" + query
	}
	r, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, "", err
	}
	if token := c.token(); token != "" {
		r.Header.Set("X-Consul-Token", token)
	}
	resp, err := do(r)
	if err != nil {
		return 0, "", bare(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return 0, "", fmt.Errorf("reading the answer %d: %w", resp.StatusCode, err)
	}
	return resp.StatusCode, string(b), nil
}

// token reads the token. If the file is missing, for example while its Secret is created again, the former token
// stays.
func (c *client) token() string {
	if c.TokenFile == "" {
		return ""
	}
	text, _ := os.ReadFile(c.TokenFile)
	return c.record.use(strings.TrimSpace(string(text)))
}

// bare removes the method and the URL from an error: they are known.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// answer is the error of an unexpected answer.
func answer(status int, body string) error {
	body = strings.TrimSpace(body)
	return fmt.Errorf("%d: %s", status, body[:min(len(body), 200)])
}
