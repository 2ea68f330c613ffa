package cloud

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"signetd/signer"
)

// maxWait is how long a call may wait for its turn: enough to even out callers that
// come at once, and too short for a queue.
const maxWait = 20 * time.Millisecond

// holdOff is for how long a class is held back after a throttle. It costs callers
// milliseconds, and saves the service most of the calls that it would refuse.
const holdOff = 25 * time.Millisecond

// A bucket keeps one class of calls below its rate, and lets the service rest after it
// has throttled.
//
// The limiter of golang.org/x/time/rate is not used: it reads the clock before it takes
// its lock. Where callers overtake each other in between, as on a busy host, time goes back
// for it, and it lets twice as many through.
type bucket struct {
	rate  float64 // tokens a second; 0 is no limit
	burst float64 // tokens at most

	mu            sync.Mutex
	tokens        float64 // as of filled; below zero, what those that wait have taken
	filled        time.Time
	held          time.Time // until then nothing goes out
	second        int64     // Unix time that current counts
	last, current int       // grants in the second before, and in this one
}

// newBucket lets a tenth of a second's calls through at once: with more, a second
// that begins with a full bucket would take almost twice the rate. A rate of 0 is none.
func newBucket(perSecond int) *bucket {
	burst := float64(max(1, perSecond/10))
	return &bucket{rate: float64(perSecond), burst: burst, tokens: burst, filled: time.Now()}
}

// reserve takes a token that is there now, or after wait. It takes none if that is
// longer than maxWait.
func (b *bucket) reserve() (wait time.Duration) {
	if b.rate == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tokens = min(b.burst, b.tokens+now.Sub(b.filled).Seconds()*b.rate)
	b.filled = now
	wait = time.Duration((1 - b.tokens) / b.rate * float64(time.Second))
	if wait > maxWait {
		return wait
	}
	b.tokens--
	b.roll(now)
	b.current++
	return max(wait, 0)
}

// bucket returns the bucket of a class.
func (c *Caller) bucket(class string) *bucket {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.buckets[class]
	if b == nil {
		b = newBucket(0)
		c.buckets[class] = b
	}
	return b
}

// take waits for the class's turn to make a call, or refuses it.
func (c *Caller) take(ctx context.Context, class string) error {
	b := c.bucket(class)
	if wait := b.hold(); wait > 0 {
		return c.limited(wait, "%s throttled calls for %s a moment ago", c.config.Service, class)
	}
	wait := b.reserve()
	if wait > maxWait {
		return c.limited(wait, "%s: the rate of %g calls a second for %s is used up", c.config.Service, b.rate, class)
	}
	if wait > 0 && !sleep(ctx, wait) {
		return ctx.Err()
	}
	return nil
}

// limited is the error for a call that does not go out.
func (c *Caller) limited(wait time.Duration, format string, args ...any) error {
	c.counts.limited.Add(1)
	err := fmt.Errorf("%w: %s", signer.ErrOverloaded, fmt.Sprintf(format, args...))
	return signer.WithRetryAfter(err, max(wait, time.Second))
}

// throttled holds the class back for a moment, or as long as the service asks for.
func (b *bucket) throttled(after time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until := time.Now().Add(max(after, holdOff)); until.After(b.held) {
		b.held = until
	}
}

// hold returns for how long the class is still held back.
func (b *bucket) hold() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Until(b.held)
}

// roll makes current count the second of now.
func (b *bucket) roll(now time.Time) {
	switch s := now.Unix(); s {
	case b.second:
	case b.second + 1:
		b.second, b.last, b.current = s, b.current, 0
	default:
		b.second, b.last, b.current = s, 0, 0
	}
}

// used is the share of the rate that went in the second up to now.
func (b *bucket) used(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roll(now)
	gone := float64(now.Nanosecond()) / float64(time.Second)
	return (float64(b.current) + float64(b.last)*(1-gone)) / b.rate
}

// counts are the totals of [Stats].
type counts struct {
	attempts, retries, throttled, limited, unavailable atomic.Uint64
}

// Stats says what a [Caller] is doing and did since it was made.
type Stats struct {
	// Used is, for each class that has a rate, the share of it that the last second
	// took: 0.5 for half.
	Used map[string]float64

	AttemptsTotal    uint64 // calls that went out, with their retries
	RetriesTotal     uint64 // of them, those that were not the first for their purpose
	ThrottledTotal   uint64 // calls that the service refused for their number
	LimitedTotal     uint64 // calls that did not go out: the rate was used up, or the service had just throttled
	UnavailableTotal uint64 // calls given up after the last attempt
}

// Stats returns the numbers as of now.
func (c *Caller) Stats() Stats {
	s := Stats{
		Used: map[string]float64{}, AttemptsTotal: c.counts.attempts.Load(), RetriesTotal: c.counts.retries.Load(),
		ThrottledTotal: c.counts.throttled.Load(), LimitedTotal: c.counts.limited.Load(), UnavailableTotal: c.counts.unavailable.Load(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for class, b := range c.buckets {
		if b.rate > 0 {
			s.Used[class] = b.used(now)
		}
	}
	return s
}

// Metrics returns the numbers for [signer.Metered].
func (s Stats) Metrics() []signer.Metric {
	counter := func(name, help string, value uint64) signer.Metric {
		return signer.Metric{Name: "signetd_cloud_" + name, Help: help, Counter: true, Value: float64(value)}
	}
	metrics := []signer.Metric{
		counter("attempts_total", "Calls to the service, those that were tried again too.", s.AttemptsTotal),
		counter("retries_total", "Calls to the service that repeat one that failed.", s.RetriesTotal),
		counter("throttled_total", "Calls that the service refused for their number.", s.ThrottledTotal),
		counter("limited_total", "Operations refused here because the configured rate was used up.", s.LimitedTotal),
		counter("unavailable_total", "Operations given up after the last attempt.", s.UnavailableTotal),
	}

	for class, used := range s.Used {
		metrics = append(metrics, signer.Metric{
			Name: "signetd_cloud_quota_used", Help: "Share of the configured rate that the last second took, by class of operation.",
			Value: used, Label: "class", LabelValue: class,
		})
	}
	return metrics
}
