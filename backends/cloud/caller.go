package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"signetd/signer"
)

// The defaults of a [Config]. Three attempts that hang, with the pauses between them,
// fit into the five seconds that the daemon gives a request by default.
const (
	DefaultAttempts       = 3
	DefaultAttemptTimeout = 1500 * time.Millisecond
)

// firstPause is the longest pause after the first attempt. Each later pause may be
// twice as long.
const firstPause = 50 * time.Millisecond

// A Kind says what a failed attempt means for the next one.
type Kind int

// The kinds of fault.
const (
	// Final is an answer that the next attempt would get, too: no permission, no
	// such key, a ciphertext that does not decrypt.
	Final Kind = iota
	// Retryable is a fault of the service, of the network or of one answer.
	Retryable
	// Throttled is a refusal because there were too many calls.
	Throttled
)

// A Fault is the error of one attempt and what it means.
type Fault struct {
	Kind Kind
	// Err is what went wrong, without the name of the service. [Caller.Do] returns that
	// of a Final fault as it is, so it wraps a sentinel of package signer where one fits;
	// ErrDecrypt stands alone. Do gives the others their sentinel.
	Err error
	// After is how long the service asks to wait, for a Throttled fault. Optional.
	After time.Duration
}

// Error implements error, so that a call can return a Fault itself.
func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap returns Err.
func (f *Fault) Unwrap() error { return f.Err }

// Retry returns an error for an answer that is of no use, where the next one may be
// better: it was cut off, or a checksum is wrong.
func Retry(err error) error { return &Fault{Kind: Retryable, Err: err} }

// Fail returns an error for an answer that is of no use, where the call must not be
// made again.
func Fail(err error) error { return &Fault{Kind: Final, Err: err} }

// A Config configures a [Caller].
type Config struct {
	// Service is the name of the service in errors, such as "AWS KMS".
	Service string
	// Attempts is how often a call is made at most. Optional: [DefaultAttempts].
	Attempts int
	// AttemptTimeout is how long one attempt may take. Optional:
	// [DefaultAttemptTimeout].
	AttemptTimeout time.Duration
	// Rates is how many attempts a second may go out, by class of calls. A class that
	// is not listed, or listed with 0, has no limit here.
	Rates map[string]int
	// Classify says what an error of the SDK means. It is not called for a [Fault] that
	// the call returned, nor for an attempt whose time was up.
	Classify func(error) Fault
}

// A Caller makes calls to one service with one set of credentials. It is safe for
// concurrent use.
type Caller struct {
	config   Config
	counts   counts
	answered atomic.Int64  // when the service last answered, in Unix nanoseconds; 0 if the last call failed
	pinging  chan struct{} // a lock for Ping that a context can interrupt: holds an element while locked

	mu       sync.Mutex
	buckets  map[string]*bucket // by class; under mu
	closed   bool               // under mu
	inFlight sync.WaitGroup     // Add is called under mu, and not once closed is true
}

// New returns a Caller.
func New(c Config) *Caller {
	c.Attempts = cmp.Or(c.Attempts, DefaultAttempts)
	c.AttemptTimeout = cmp.Or(c.AttemptTimeout, DefaultAttemptTimeout)

	caller := &Caller{config: c, buckets: map[string]*bucket{}, pinging: make(chan struct{}, 1)}
	for class, rate := range c.Rates {
		if rate > 0 {
			caller.buckets[class] = newBucket(rate)
		}
	}
	return caller
}

// Do makes a call of the given class until it succeeds or another attempt makes no
// sense; the package's documentation says what it returns when. The ctx that call gets
// ends with the attempt, and call must return when it does.
func (c *Caller) Do(ctx context.Context, class string, call func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}

	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return fmt.Errorf("%w: the backend is closed", signer.ErrUnavailable)
	}
	c.inFlight.Add(1)
	c.mu.Unlock()
	defer c.inFlight.Done()

	if err := c.acquire(ctx, class); err != nil {
		return err
	}
	for i := 1; ; i++ {
		fault := c.attempt(ctx, call)
		switch {
		case fault == nil:
			c.answered.Store(time.Now().UnixNano())
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case fault.Kind == Throttled:
			return c.throttled(class, fault)
		case fault.Kind == Final:
			return fault.Err
		}

		if i == c.config.Attempts || !c.pause(ctx, class, i) {
			c.counts.unavailable.Add(1)
			c.answered.Store(0)
			times := "1 attempt"
			if i > 1 {
				times = fmt.Sprintf("%d attempts", i)
			}
			return fmt.Errorf("%w: %s: %w (%s)", signer.ErrUnavailable, c.config.Service, fault.Err, times)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.counts.retries.Add(1)
	}
}

// attempt makes the call once.
func (c *Caller) attempt(ctx context.Context, call func(ctx context.Context) error) *Fault {
	c.counts.attempts.Add(1)
	ctx, cancel := context.WithTimeout(ctx, c.config.AttemptTimeout)
	defer cancel()

	err := call(ctx)
	if err == nil {
		return nil
	}
	var fault *Fault
	if errors.As(err, &fault) {
		return fault
	}
	if ctx.Err() != nil {
		return &Fault{Kind: Retryable, Err: fmt.Errorf("no answer within %v", c.config.AttemptTimeout)}
	}
	f := c.config.Classify(err)
	return &f
}

// throttled returns the error for a call that the service refused because there were
// too many. There is no second attempt, which would take more of what is short.
func (c *Caller) throttled(class string, f *Fault) error {
	c.counts.throttled.Add(1)
	c.answered.Store(time.Now().UnixNano()) // a service that throttles is there
	c.bucket(class).holdBack(f.After)
	err := fmt.Errorf("%w: %s throttles: %w", signer.ErrOverloaded, c.config.Service, f.Err)
	return signer.WithRetryAfter(err, max(f.After, time.Second))
}

// pause waits after the given attempt. It reports false at once if the deadline or the
// rate leaves no room for another attempt, and true if ctx ends meanwhile.
func (c *Caller) pause(ctx context.Context, class string, attempt int) bool {
	longest := firstPause << (attempt - 1)
	wait := longest/2 + rand.N(longest/2) // #nosec G404 -- to spread attempts, not to hide them
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	if !sleep(ctx, wait) {
		return true
	}
	return c.acquire(ctx, class) == nil
}

// sleep waits. It reports false if ctx ended first.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// answerHolds is how long Ping takes the last answer for a sign that the service is
// there.
const answerHolds = 5 * time.Second

// Ping returns nil if the service has answered any call within the last seconds, and
// otherwise the error of probe, a cheap call of the given class. A service that
// throttles is there; one that is not asked, because its quota is used up, is taken to
// be there, too.
func (c *Caller) Ping(ctx context.Context, class string, probe func(ctx context.Context) error) error {
	select {
	case c.pinging <- struct{}{}:
		defer func() { <-c.pinging }()
	case <-ctx.Done():
		return ctx.Err()
	}

	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if last := c.answered.Load(); last != 0 && time.Since(time.Unix(0, last)) < answerHolds && !closed {
		return nil
	}

	err := c.Do(ctx, class, probe)
	if errors.Is(err, signer.ErrOverloaded) {
		return nil
	}
	return err
}

// Close waits for the calls in flight. Later ones are ErrUnavailable. It may be called
// more than once.
func (c *Caller) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.inFlight.Wait()
}
