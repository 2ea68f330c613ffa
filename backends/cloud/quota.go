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

// A bucket keeps one class of calls below its rate.
type bucket struct {
	limit *rate.Limiter

	mu            sync.Mutex
	second        int64 // Unix time that current counts
	last, current int   // grants in the second before, and in this one
}

// newBucket lets a tenth of a second's calls through at once: with more, a second
// that begins with a full bucket would take almost twice the rate.
func newBucket(perSecond int) *bucket {
	return &bucket{limit: rate.NewLimiter(rate.Limit(perSecond), max(1, perSecond/10))}
}

// take waits for the class's turn to make a call, or refuses it.
func (c *Caller) take(ctx context.Context, class string) error {
	b := c.buckets[class]
	if b == nil {
		return nil
	}
	turn := b.limit.Reserve()
	if wait := turn.Delay(); wait > maxWait {
		turn.Cancel()
		c.counts.limited.Add(1)
		err := fmt.Errorf("%w: %s: the rate of %g calls a second for %s is used up", signer.ErrOverloaded, c.config.Service, float64(b.limit.Limit()), class)
		return signer.WithRetryAfter(err, max(wait, time.Second))
	} else if wait > 0 && !sleep(ctx, wait) {
		turn.Cancel()
		return ctx.Err()
	}
	b.count(time.Now())
	return nil
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
	LimitedTotal     uint64 // calls that did not go out because the rate was used up
	UnavailableTotal uint64 // calls given up after the last attempt
}

// Stats returns the numbers as of now.
func (c *Caller) Stats() Stats {
	s := Stats{
		Used: map[string]float64{}, AttemptsTotal: c.counts.attempts.Load(), RetriesTotal: c.counts.retries.Load(),
		ThrottledTotal: c.counts.throttled.Load(), LimitedTotal: c.counts.limited.Load(), UnavailableTotal: c.counts.unavailable.Load(),
	}
	now := time.Now()
	for class, b := range c.buckets {
		s.Used[class] = b.used(now)
	}
	return s
}
