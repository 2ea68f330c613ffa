package cloud

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

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
type bucket struct {
	limit *rate.Limiter

	mu            sync.Mutex
	held          time.Time // until then nothing goes out
	second        int64     // Unix time that current counts
	last, current int       // grants in the second before, and in this one
}

// newBucket lets a tenth of a second's calls through at once: with more, a second
// that begins with a full bucket would take almost twice the rate. A rate of 0 is none.
func newBucket(perSecond int) *bucket {
	limit := rate.Limit(perSecond)
	if perSecond == 0 {
		limit = rate.Inf
	}
	return &bucket{limit: rate.NewLimiter(limit, max(1, perSecond/10))}
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
	turn := b.limit.Reserve()
	if wait := turn.Delay(); wait > maxWait {
		turn.Cancel()
		return c.limited(wait, "%s: the rate of %g calls a second for %s is used up", c.config.Service, float64(b.limit.Limit()), class)
	} else if wait > 0 && !sleep(ctx, wait) {
		turn.Cancel()
		return ctx.Err()
	}
	b.count(time.Now())
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

func (b *bucket) count(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roll(now)
	b.current++
}

// used is the share of the rate that went in the second up to now.
func (b *bucket) used(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roll(now)
	gone := float64(now.Nanosecond()) / float64(time.Second)
	return (float64(b.current) + float64(b.last)*(1-gone)) / float64(b.limit.Limit())
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
		if b.limit.Limit() != rate.Inf {
			s.Used[class] = b.used(now)
		}
	}
	return s
}
