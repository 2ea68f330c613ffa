// Package supervise is about calls that cannot be interrupted, such as one into a
// PKCS#11 module that hangs. A request whose time is over is answered all the same: the
// goroutine that is in the call cannot do it, so a watchdog does, in its place.
//
// Who answers is decided once for each [Call]. Who may rely on the watchdog is told by
// the context: see [Supervised].
package supervise

import (
	"context"
	"sync"
	"time"
)

// A Context is the context of one request that a watchdog answers when its time is over.
// It ends at a fixed time, or when the request does, and it costs a timer and a channel
// only if something waits for that. It holds no values. It is safe for concurrent use.
type Context struct {
	at time.Time

	mu    sync.Mutex // guards what follows
	err   error
	done  chan struct{}
	timer *time.Timer
}

var _ context.Context = (*Context)(nil)

// NewContext returns a context that ends after timeout. The caller ends it with
// [Context.End] as soon as the request is answered.
func NewContext(timeout time.Duration) *Context { return &Context{at: time.Now().Add(timeout)} }

// Supervised reports whether a watchdog answers for the caller of a method when ctx ends.
// If so, the method may run an uninterruptible call on the caller's own goroutine and
// return when that call does, which spares two changes of goroutine.
//
// Only a [Context] itself is supervised. A context derived from one is not: it may end
// earlier, and no watchdog knows when.
func Supervised(ctx context.Context) bool {
	_, ok := ctx.(*Context)
	return ok
}

// Deadline implements [context.Context].
func (c *Context) Deadline() (time.Time, bool) { return c.at, true }

// Value implements [context.Context]. It is always nil.
func (*Context) Value(any) any { return nil }

// Done implements [context.Context].
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done != nil {
		return c.done
	}

	c.done = make(chan struct{})
	if c.err != nil {
		close(c.done)
	} else {
		c.timer = time.AfterFunc(time.Until(c.at), func() { c.End(context.DeadlineExceeded) })
	}
	return c.done
}

// Err implements [context.Context].
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && !time.Now().Before(c.at) {
		c.endLocked(context.DeadlineExceeded)
	}
	return c.err
}

// End ends c with err. If c has ended already, its first error stays.
func (c *Context) End(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(err)
}

func (c *Context) endLocked(err error) {
	if c.err != nil {
		return
	}

	c.err = err
	if c.done != nil {
		close(c.done)
		c.timer.Stop()
	}
}
