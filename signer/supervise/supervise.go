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
	"sync/atomic"
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

// Grace is how much later than its deadline a piece of work counts as stuck. Work that
// can be interrupted has answered for itself by then.
const Grace = 20 * time.Millisecond

// A Work is one piece of work that has one answer: that of the goroutine which does it,
// or the watchdog's if that goroutine is stuck. Owner and Due are set before use.
type Work struct {
	Owner any       // what the watchdog's user knows the work by
	Due   time.Time // when it should have ended

	finished atomic.Bool
}

// FinishOnce reports whether the caller is the first to finish w, and so the one who
// answers and writes the record. What any other has to say is dropped.
func (w *Work) FinishOnce() bool { return w.finished.CompareAndSwap(false, true) }

// An InFlight shows the watchdog which work one goroutine is in. That goroutine writes
// it and the watchdog reads it. Every method may be called on nil, which shows nothing.
type InFlight struct{ work atomic.Pointer[Work] }

// Begin shows w.
func (f *InFlight) Begin(w *Work) {
	if f != nil {
		f.work.Store(w)
	}
}

// End shows that the goroutine is in no work.
func (f *InFlight) End() {
	if f != nil {
		f.work.Store(nil)
	}
}

// Work returns the work that the goroutine is in, or nil.
func (f *InFlight) Work() *Work {
	if f == nil {
		return nil
	}
	return f.work.Load()
}

// Overdue returns the work that the goroutine is in if it should have ended [Grace] ago,
// and nil otherwise.
func (f *InFlight) Overdue(now time.Time) *Work {
	if w := f.Work(); w != nil && now.After(w.Due.Add(Grace)) {
		return w
	}
	return nil
}

// A Watchdog looks for overdue work as long as there is any work at all, and costs
// nothing in between. It is safe for concurrent use.
type Watchdog struct {
	every time.Duration
	look  func() (active bool)
	awake atomic.Bool // a look is scheduled
}

// NewWatchdog returns a watchdog that calls look, and again after every as long as look
// reports that there is work, or that there may be soon.
func NewWatchdog(every time.Duration, look func() (active bool)) *Watchdog {
	return &Watchdog{every: every, look: look}
}

// Wake sees to it that a look is scheduled. Whoever begins work calls it, after it has
// made the work visible to look.
func (d *Watchdog) Wake() {
	if !d.awake.Load() && d.awake.CompareAndSwap(false, true) {
		time.AfterFunc(d.every, d.run) // ends soon; scheduled again while there is work
	}
}

func (d *Watchdog) run() {
	// This comes before the look: a Wake that finds the watchdog awake began its work
	// before this, so that the look sees it.
	d.awake.Store(false)

	if d.look() {
		d.Wake()
	}
}
