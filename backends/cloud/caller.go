package cloud

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"signetd/signer"
)

// The defaults of a [Config]. Three attempts that hang, and the pauses between
// them, fit into the five seconds that the daemon gives a request by default.
const (
	DefaultAttempts       = 3
	DefaultAttemptTimeout = 1500 * time.Millisecond
)

// firstPause is how long the pause after the first attempt is at most. Each later
// one is twice as long.
const firstPause = 50 * time.Millisecond

// A Kind says what a failed attempt means for the next one.
type Kind int

// The kinds of fault.
const (
	// Final is an answer that the next attempt would get, too: no permission, no
	// such key, a ciphertext that does not decrypt.
	Final Kind = iota
	// Retryable is a fault of the service, the network or one answer.
	Retryable
	// Throttled is a refusal because of how much was asked for.
	Throttled
)

// A Fault is what a backend makes of an error of its SDK.
type Fault struct {
	Kind Kind
	// Err is what went wrong, without the name of the service. A Final one is what
	// [Caller.Do] returns, as it is, and wraps a sentinel of package signer where one
	// fits: ErrDecrypt goes bare. The others get their sentinel from Do.
	Err error
	// After is how long the service asks to wait if it is Throttled. Optional.
	After time.Duration
}

// Error implements error: a call may return a Fault of its own making.
func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap returns Err.
func (f *Fault) Unwrap() error { return f.Err }

// Retry returns an error with which a call says that its answer is of no use and
// that the next one may be better: it was cut off, or a checksum is wrong.
func Retry(err error) error { return &Fault{Kind: Retryable, Err: err} }

// Fail returns an error with which a call says that its answer is of no use and
// that it is not to be made again.
func Fail(err error) error { return &Fault{Kind: Final, Err: err} }

// A Config configures a [Caller].
type Config struct {
	// Service is how errors call the service, such as "AWS KMS".
	Service string
	// Attempts is how many times a call is made at most. Optional: [DefaultAttempts].
	Attempts int
	// AttemptTimeout is how long one of them may take. Optional:
	// [DefaultAttemptTimeout].
	AttemptTimeout time.Duration
	// Rates is how many attempts a second there may be of each class of calls. A
	// class that is not listed, or listed with 0, has no limit here.
	Rates map[string]int
	// Classify says what an error of the SDK means. It is not asked about a [Fault]
	// that the call returned, nor when the attempt's time was up.
	Classify func(error) Fault
}

// A Caller makes calls to one service with one set of credentials. It is safe for
// concurrent use.
type Caller struct {
	config  Config
	counts  counts
	answer  atomic.Int64  // when the service last answered, in Unix nanoseconds; 0 if it is not known to
	pinging chan struct{} // holds an element while one asks

	mu       sync.Mutex
	buckets  map[string]*bucket // by class
	closed   bool
	inFlight sync.WaitGroup // Add under mu
}

// New returns a Caller.
func New(c Config) *Caller {
	if c.Attempts == 0 {
		c.Attempts = DefaultAttempts
	}
	if c.AttemptTimeout == 0 {
		c.AttemptTimeout = DefaultAttemptTimeout
	}
	caller := &Caller{config: c, buckets: map[string]*bucket{}, pinging: make(chan struct{}, 1)}
	for class, rate := range c.Rates {
		if rate > 0 {
			caller.buckets[class] = newBucket(rate)
		}
	}
	return caller
}

// Do makes a call of the given class until it succeeds or there is no point in
// going on; the package's documentation says what it returns when. The ctx that
// call gets ends with the attempt, and call returns when it does.
func (c *Caller) Do(ctx context.Context, class string, call func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.enter(); err != nil {
		return err
	}
	defer c.inFlight.Done()
	if err := c.take(ctx, class); err != nil {
		return err
	}
	for i := 1; ; i++ {
		err := c.attempt(ctx, call)
		if err == nil {
			c.answer.Store(time.Now().UnixNano())
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err.Kind == Throttled {
			return c.throttled(class, err)
		}
		if err.Kind == Final {
			return err.Err
		}
		if i == c.config.Attempts || !c.pause(ctx, class, i) {
			c.counts.unavailable.Add(1)
			c.answer.Store(0)
			return c.unavailable(i, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.counts.retries.Add(1)
	}
}

// enter notes a call in flight unless the Caller is closed.
func (c *Caller) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("%w: the backend is closed", signer.ErrUnavailable)
	}
	c.inFlight.Add(1)
	return nil
}

// attempt makes the call once and says what it came to.
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

// throttled is the error for a call that the service refused for its number.
func (c *Caller) throttled(class string, f *Fault) error {
	c.counts.throttled.Add(1)
	c.answer.Store(time.Now().UnixNano()) // who is busy is alive
	c.bucket(class).throttled(f.After)
	err := fmt.Errorf("%w: %s throttles: %w", signer.ErrOverloaded, c.config.Service, f.Err)
	return signer.WithRetryAfter(err, max(f.After, time.Second))
}

func (c *Caller) unavailable(attempts int, f *Fault) error {
	times := "1 attempt"
	if attempts > 1 {
		times = fmt.Sprintf("%d attempts", attempts)
	}
	return fmt.Errorf("%w: %s: %w (%s)", signer.ErrUnavailable, c.config.Service, f.Err, times)
}

// pause waits after the given attempt. It reports false at once if the deadline or
// the rate leaves no room for another one.
func (c *Caller) pause(ctx context.Context, class string, attempt int) bool {
	most := firstPause << (attempt - 1)
	wait := most/2 + rand.N(most/2) // #nosec G404 -- to spread attempts, not to hide them
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	if !sleep(ctx, wait) {
		return true // for Do to see that ctx ended
	}
	return c.take(ctx, class) == nil
}

// sleep waits, and reports false if ctx ended first.
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

// answerHolds is how long one answer stands for the service being there.
const answerHolds = 5 * time.Second

// Ping reports whether the service answers: with nil if it did within the last
// seconds, whatever was asked, and otherwise with what probe, a cheap call of the
// given class, comes to. A service that throttles is there, and so is one that
// is not asked for the sake of its quota.
func (c *Caller) Ping(ctx context.Context, class string, probe func(ctx context.Context) error) error {
	select {
	case c.pinging <- struct{}{}:
		defer func() { <-c.pinging }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if last := c.answer.Load(); last != 0 && time.Since(time.Unix(0, last)) < answerHolds && !c.isClosed() {
		return nil
	}
	err := c.Do(ctx, class, probe)
	if errors.Is(err, signer.ErrOverloaded) {
		return nil
	}
	return err
}

func (c *Caller) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Close waits for the calls in flight. Those that come later are ErrUnavailable. It
// may be called more than once.
func (c *Caller) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.inFlight.Wait()
}
