package daemon

import (
	"context"
	"sync"
	"time"
)

// A deadline is the context of one request that a connection's own goroutine works on.
// It ends at a time, or when the request does, and costs a timer and a channel only
// where somebody waits for that. It is a [signer.WatchedContext]: see [call.settle].
type deadline struct {
	at time.Time

	mu    sync.Mutex
	err   error
	done  chan struct{}
	timer *time.Timer
}

func newDeadline(timeout time.Duration) *deadline { return &deadline{at: time.Now().Add(timeout)} }

// Watched implements [signer.WatchedContext].
func (*deadline) Watched() {}

// Deadline implements [context.Context].
func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }

// Value implements [context.Context]: there are none.
func (*deadline) Value(any) any { return nil }

// Done implements [context.Context].
func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done = make(chan struct{})
		if d.err != nil {
			close(d.done)
		} else {
			d.timer = time.AfterFunc(time.Until(d.at), func() { d.end(context.DeadlineExceeded) })
		}
	}
	return d.done
}

// Err implements [context.Context].
func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil && !time.Now().Before(d.at) {
		d.endLocked(context.DeadlineExceeded)
	}
	return d.err
}

// end ends d with err, unless it has ended.
func (d *deadline) end(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endLocked(err)
}

func (d *deadline) endLocked(err error) {
	if d.err != nil {
		return
	}
	d.err = err
	if d.done != nil {
		close(d.done)
		d.timer.Stop()
	}
}
