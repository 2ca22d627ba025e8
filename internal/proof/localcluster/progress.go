package localcluster

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// heartbeat is how often a long step reports that it is still running.
const heartbeat = 20 * time.Second

// progress writes one line per completed step, and a line from time to time for a long one, so that a build of
// minutes does not look like a hang.
type progress struct {
	mu sync.Mutex
	w  io.Writer
}

func newProgress(w io.Writer) *progress {
	if w == nil {
		w = io.Discard
	}
	return &progress{w: w}
}

// line writes one line. A failure to write must not fail the work, so its error is ignored.
func (p *progress) line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintln(p.w, text)
}

// step runs f and writes how long it took.
func (p *progress) step(ctx context.Context, name string, f func(context.Context) error) error {
	begin := time.Now()
	done := make(chan struct{})
	var beats sync.WaitGroup
	beats.Go(func() {
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				p.line(fmt.Sprintf("%s: still at it after %s", name, time.Since(begin).Round(time.Second)))
			}
		}
	})
	err := f(ctx)
	close(done)
	beats.Wait()
	took := time.Since(begin).Round(100 * time.Millisecond)
	if err != nil {
		p.line(fmt.Sprintf("%s failed after %s", name, took))
		return fmt.Errorf("%s: %w", name, err)
	}
	p.line(fmt.Sprintf("%s %s", name, took))
	return nil
}
