package load

import (
	"math"
	"slices"
	"sync"
	"time"
)

// maxFailures is how many failures a report describes; it counts all of them.
const maxFailures = 20

// Report is the result of the requests so far.
type Report struct {
	// Done says that no more requests follow. Until then, a report only has the counts, so that a log of reports
	// stays short.
	Done bool `json:"done"`
	// Stats count all requests that have ended.
	Stats
	// Tokens is the number of different tokens so far.
	Tokens int `json:"tokens"`
	// Lock is what happened to the lock, nil without one.
	Lock *LockStats `json:"lock,omitempty"`
	// Kinds of requests: "write new" is a write on a new connection, "read kept" a read on one that is kept open.
	Kinds map[string]Stats `json:"kinds,omitempty"`
	// Failures are the first ones.
	Failures []Failure `json:"failures,omitempty"`
	// Acknowledged are the numbers of the writes that were acknowledged.
	Acknowledged []Range `json:"acknowledged,omitempty"`
}

// Stats count requests. Latencies are those of all requests, including the failed ones, from when a request was due
// until it ended.
type Stats struct {
	Requests int           `json:"requests"`
	Failed   int           `json:"failed"`
	P50      time.Duration `json:"p50,omitempty"`
	P99      time.Duration `json:"p99,omitempty"`
	Max      time.Duration `json:"max,omitempty"`
}

// Failure is a request that failed.
type Failure struct {
	Kind string `json:"kind"`
	// Due is when the request was to be sent, and Took how long after that it failed.
	Due   time.Time     `json:"due"`
	Took  time.Duration `json:"took"`
	Error string        `json:"error"`
}

// Range is all numbers from the first to the last.
type Range struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// recorder collects the results of requests.
type recorder struct {
	mu           sync.Mutex
	took         map[string][]time.Duration // by kind
	failed       map[string]int             // by kind
	failures     []Failure
	acknowledged []bool // by number
	newest       int    // the last acknowledged number, 0 for none
	token        string
	tokens       int
	lock         *lockRecorder // nil without a lock
}

func newRecorder() *recorder {
	return &recorder{took: map[string][]time.Duration{}, failed: map[string]int{}}
}

// ended records the end of a request; err is nil if it succeeded.
func (r *recorder) ended(kind string, due time.Time, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took[kind] = append(r.took[kind], took)
	if err == nil {
		return
	}
	r.failed[kind]++
	if len(r.failures) < maxFailures {
		r.failures = append(r.failures, Failure{Kind: kind, Due: due.UTC(), Took: took, Error: err.Error()})
	}
}

// acknowledge records that a write was acknowledged. Numbers start at 1.
func (r *recorder) acknowledge(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.acknowledged) <= n {
		r.acknowledged = append(r.acknowledged, false)
	}
	r.acknowledged[n] = true
	r.newest = max(r.newest, n)
}

// readable is the newest acknowledged write, 0 for none.
func (r *recorder) readable() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest
}

// use returns the token that a request uses: the given one or, if it is "", the former one.
func (r *recorder) use(token string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if token != "" && token != r.token {
		r.token = token
		r.tokens++
	}
	return r.token
}

// progress is the report while requests are in progress.
func (r *recorder) progress() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Report{Tokens: r.tokens}
	for kind, took := range r.took {
		p.Requests += len(took)
		p.Failed += r.failed[kind]
	}
	if r.lock != nil {
		p.Lock = r.lock.report(time.Now())
	}
	return p
}

// report is the report at the end.
func (r *recorder) report() Report {
	p := r.progress()
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Done, p.Kinds, p.Failures = true, map[string]Stats{}, r.failures
	var all []time.Duration
	for kind, took := range r.took {
		p.Kinds[kind] = newStats(took, r.failed[kind])
		all = append(all, took...)
	}
	p.Stats = newStats(all, p.Failed)
	p.Acknowledged = ranges(r.acknowledged)
	return p
}

func newStats(took []time.Duration, failed int) Stats {
	slices.Sort(took)
	return Stats{Requests: len(took), Failed: failed, P50: percentile(took, 50), P99: percentile(took, 99), Max: percentile(took, 100)}
}

// percentile returns the smallest of the sorted values that is not exceeded by p percent of them (nearest rank), 0
// without values.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// ranges returns the indexes that are set as ranges.
func ranges(set []bool) []Range {
	var out []Range
	for i, ok := range set {
		switch last := len(out) - 1; {
		case !ok:
		case last >= 0 && out[last].Last == i-1:
			out[last].Last = i
		default:
			out = append(out, Range{First: i, Last: i})
		}
	}
	return out
}
