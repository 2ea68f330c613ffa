package supervise

import (
	"sync/atomic"
	"time"
)

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
