package cloud

import (
	"context"
	"fmt"
	"sync"
	"time"

	"signetd/signer"
)

// maxWait is how long a call may wait for its turn: long enough to even out calls that
// come at once, and too short for a queue to form.
const maxWait = 20 * time.Millisecond

// holdOff is how long a class makes no calls after a throttle. It costs callers
// milliseconds, and spares the service most of the calls that it would refuse.
const holdOff = 25 * time.Millisecond

// A bucket keeps one class of calls below its rate, and lets the service rest after it
// has throttled.
//
// The limiter of golang.org/x/time/rate is not used: it reads the clock before it takes
// its lock. On a busy host callers overtake each other in between, so that its time goes
// backwards, and it lets twice as many through.
type bucket struct {
	rate  float64 // tokens a second; 0 is no limit
	burst float64 // tokens at most

	mu            sync.Mutex // for all below
	tokens        float64    // as of filled; below zero by the tokens that waiting calls have taken
	filled        time.Time
	heldUntil     time.Time // no call goes out before
	second        int64     // Unix time of the second that current counts
	last, current int       // tokens taken in the second before, and in this one
}

// newBucket returns a full bucket, which holds the calls of a tenth of a second. With
// more, a second that begins with a full bucket would take almost twice the rate. A
// rate of 0 is no limit.
func newBucket(perSecond int) *bucket {
	burst := float64(max(1, perSecond/10))
	return &bucket{rate: float64(perSecond), burst: burst, tokens: burst, filled: time.Now()}
}

// reserve takes a token, and returns how long to wait before using it. If that is
// longer than maxWait, it has taken none.
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
	b.rollLocked(now)
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

// acquire waits for the class's turn to make a call. If that takes too long it returns
// ErrOverloaded.
func (c *Caller) acquire(ctx context.Context, class string) error {
	refuse := func(wait time.Duration, format string, args ...any) error {
		c.counts.limited.Add(1)
		err := fmt.Errorf("%w: %s", signer.ErrOverloaded, fmt.Sprintf(format, args...))
		return signer.WithRetryAfter(err, max(wait, time.Second))
	}

	b := c.bucket(class)
	if wait := b.heldFor(); wait > 0 {
		return refuse(wait, "%s throttled calls for %s a moment ago", c.config.Service, class)
	}

	wait := b.reserve()
	if wait > maxWait {
		return refuse(wait, "%s: the rate of %g calls a second for %s is used up", c.config.Service, b.rate, class)
	}
	if wait > 0 && !sleep(ctx, wait) {
		return ctx.Err()
	}
	return nil
}

// holdBack stops the calls of the class for a moment, or for as long as the service
// asks for.
func (b *bucket) holdBack(after time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until := time.Now().Add(max(after, holdOff)); until.After(b.heldUntil) {
		b.heldUntil = until
	}
}

// heldFor returns how long the class still makes no calls.
func (b *bucket) heldFor() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Until(b.heldUntil)
}

// rollLocked makes current count the second of now.
func (b *bucket) rollLocked(now time.Time) {
	switch s := now.Unix(); s {
	case b.second:
	case b.second + 1:
		b.second, b.last, b.current = s, b.current, 0
	default:
		b.second, b.last, b.current = s, 0, 0
	}
}

// used returns the share of the rate that the second up to now has taken.
func (b *bucket) used(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rollLocked(now)

	gone := float64(now.Nanosecond()) / float64(time.Second)
	return (float64(b.current) + float64(b.last)*(1-gone)) / b.rate
}
