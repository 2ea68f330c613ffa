// Package pool leases sessions to calls that cannot be interrupted. It is bounded and fair,
// and it notices when every session is in a call that hangs.
//
// A [Pool] has a fixed number of slots with a session in each. [Do] leases a slot to one
// call at a time, which gives it back when it returns. When all slots are leased, calls
// wait in a bounded queue: first come, first served.
//
// A caller whose context ends leaves at once. Its call keeps the slot until it returns,
// since the session cannot be used before. A call that never returns costs its slot. When
// such calls have all slots, everyone who waits or comes is refused with ErrUnavailable at
// once, until one of them returns. [Pool.Close] waits for them, too: nothing but a new
// process heals a module that hangs.
package pool

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"signetd/signer"
	"signetd/signer/supervise"
)

// growAfter is how long a pool that the token gave too few sessions stays small before it
// asks for one more.
const growAfter = 10 * time.Second

// A Pool is a bounded number of slots, each with one session of type S. A session is
// opened for the first call in its slot. The slot that became idle last is leased next, so
// that a quiet backend uses few sessions. A Pool is safe for concurrent use.
type Pool[S any] struct {
	config Config[S]      // set before use
	open   sync.WaitGroup // counts the slots

	mu       sync.Mutex // guards what follows
	closed   bool
	limit    int       // of slots: Size, or fewer when the token has no more sessions
	limited  time.Time // when limit was last changed
	slots    map[*slot[S]]struct{}
	idle     []*slot[S] // the last became idle last
	waiting  list.List  // of *waiter[S]
	watching bool       // a timer will run watch
	totals   Stats      // the totals alone
}

// A Config says how a [Pool] works. All functions may be called concurrently.
type Config[S any] struct {
	Size  int // number of sessions
	Queue int // number of calls that may wait

	Open  func() (S, error)
	Close func(S)

	// Stale reports whether a session must be replaced before its next use. Optional.
	Stale func(S) bool
	// Lost reports whether a session must be replaced after a call that returned err.
	Lost func(err error) bool
	// Full reports whether Open failed because the token has no more sessions.
	Full func(err error) bool
}

// Stats says what a [Pool] is doing and did.
type Stats struct {
	Sessions  int // that may be open: fewer than configured when the token has no more
	Busy      int // sessions that an operation runs on
	Waiting   int // operations that wait for a session
	Abandoned int // operations that still run although their caller has left

	AbandonedTotal  uint64 // operations whose caller left while they ran
	ExpiredTotal    uint64 // operations whose deadline passed before they reached the token
	OverloadedTotal uint64 // operations refused because too many waited
	StuckTotal      uint64 // operations refused because every session hung
}

// A slot has room for one session.
type slot[S any] struct {
	session S // used by the call that has the lease, and by no other
	have    bool

	idleSince time.Time // under the pool's mu
	lease     *lease    // under the pool's mu; nil while the slot is idle
}

// A lease is one call's right to use one slot.
type lease struct {
	ctx context.Context //nolint:containedctx // of the call; the lease lives as long as the call

	left  time.Time // under the pool's mu: when the caller left, or zero
	ended bool      // under the pool's mu: the call returned before its caller left
}

// leftAt returns when the caller of the call left, if it has. The caller of a supervised
// call is on the call's own goroutine and cannot leave; it counts as gone when its time is
// over.
func (l *lease) leftAt() (time.Time, bool) {
	if supervise.Supervised(l.ctx) && l.ctx.Err() != nil {
		return l.ctx.Deadline()
	}
	return l.left, !l.left.IsZero()
}

// A waiter is a call that waits for a slot.
type waiter[S any] struct {
	lease   *lease
	element *list.Element // under the pool's mu; nil when it waits no more

	ready chan struct{} // closed when slot or err is set
	slot  *slot[S]
	err   error
}

// New returns a pool. It opens no session yet.
func New[S any](c Config[S]) *Pool[S] {
	return &Pool[S]{config: c, limit: c.Size, slots: make(map[*slot[S]]struct{})}
}

// Do runs f on a session that no other call uses meanwhile. It waits for a free one if
// need be.
//
// When ctx ends first, Do returns ctx.Err() at once. If f has not begun, it never will. If
// it has, it runs on and its result is dropped: f must share no memory with the caller.
// With a supervised context (see [supervise.Supervised]) f runs on the caller's goroutine,
// and Do returns when f does.
//
// Do returns ErrOverloaded at once if too many calls wait, and ErrUnavailable if the pool
// is closed or every session hangs.
func Do[S, T any](ctx context.Context, p *Pool[S], f func(S) (T, error)) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, err
	}

	l := &lease{ctx: ctx}
	s, err := p.acquire(l, false)
	if err != nil {
		return zero, err
	}
	if supervise.Supervised(ctx) {
		return run(p, s, l, f)
	}

	c := start(p, s, l, f)
	select {
	case <-c.returned:
	case <-ctx.Done():
		if p.leave(l) {
			return zero, ctx.Err()
		}
		<-c.returned // in a moment: the call has ended
	}
	return c.value, c.err
}

// A call is a function that runs in a goroutine of its own.
type call[T any] struct {
	returned chan struct{} // closed when value and err are set
	value    T
	err      error
}

// start runs f in a goroutine. It wipes what f returns if the caller has left.
func start[S, T any](p *Pool[S], s *slot[S], l *lease, f func(S) (T, error)) *call[T] {
	c := &call[T]{returned: make(chan struct{})}
	go func() { // ends when f has returned
		c.value, c.err = run(p, s, l, f)
		if !p.end(l) {
			wipe(c.value)
		}
		close(c.returned)
	}()
	return c
}

// run runs f on a slot that is leased, and gives the slot back.
func run[S, T any](p *Pool[S], s *slot[S], l *lease, f func(S) (T, error)) (value T, err error) {
	// A caller on whose goroutine f runs may recover from a panic of f, and the slot must
	// come back then, too. What state its session is in is not known.
	panicked := true
	defer func() {
		if panicked {
			p.drop(s)
			p.giveBack(s, l)
		}
	}()

	for {
		if err = p.ready(s); err == nil || !p.config.Full(err) || !p.shrink(s) {
			break
		}
		if s, err = p.acquire(l, true); err != nil {
			panicked = false // and there is no slot to give back
			return value, err
		}
	}

	if err == nil {
		value, err = f(s.session)
	}
	panicked = false
	if err != nil && p.config.Lost(err) {
		p.drop(s)
	}
	p.giveBack(s, l)
	return value, err
}

// acquire leases a slot to l: an idle one, a new one, or the one that another call gives
// back when it is l's turn. again is for a call that had a slot before: it goes to the
// front of the queue, also when the pool is closed.
func (p *Pool[S]) acquire(l *lease, again bool) (*slot[S], error) {
	s, w, err := p.acquireOrQueue(l, again)
	if w == nil {
		return s, err
	}

	select {
	case <-w.ready:
		return w.slot, w.err
	case <-l.ctx.Done():
	}

	p.mu.Lock()
	waits := w.element != nil
	if waits {
		p.expireLocked(w)
	}
	p.mu.Unlock()
	if !waits && w.slot != nil { // it came at the same moment
		p.giveBack(w.slot, l)
	}
	return nil, l.ctx.Err()
}

// acquireOrQueue returns a slot, or the place in the queue where to wait for one.
func (p *Pool[S]) acquireOrQueue(l *lease, again bool) (*slot[S], *waiter[S], error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed && !again {
		return nil, nil, fmt.Errorf("%w: the pkcs11 backend is closed", signer.ErrUnavailable)
	}

	// The token may have room for one more session by now.
	if p.limit < p.config.Size && time.Since(p.limited) > growAfter {
		p.limit++
		p.limited = time.Now()
	}

	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle = p.idle[:n-1]
		s.lease = l
		return s, nil, nil
	}
	if len(p.slots) < p.limit {
		s := &slot[S]{lease: l}
		p.slots[s] = struct{}{}
		p.open.Add(1)
		return s, nil, nil
	}

	w := &waiter[S]{lease: l, ready: make(chan struct{})}
	switch {
	case again:
		w.element = p.waiting.PushFront(w)
	case p.hangsLocked():
		p.totals.StuckTotal++
		return nil, nil, errStuck(len(p.slots))
	case p.waiting.Len() >= p.config.Queue:
		p.totals.OverloadedTotal++
		return nil, nil, fmt.Errorf("%w: pkcs11: %d requests wait for %d sessions", signer.ErrOverloaded, p.waiting.Len(), p.limit)
	default:
		w.element = p.waiting.PushBack(w)
	}
	p.watchLocked()
	return nil, w, nil
}

// giveBack ends the lease l of s, and leases s to the next waiter.
func (p *Pool[S]) giveBack(s *slot[S], l *lease) {
	p.mu.Lock()
	if supervise.Supervised(l.ctx) && l.ctx.Err() != nil {
		p.totals.AbandonedTotal++
	}
	l.ended = l.left.IsZero()
	s.lease = nil

	if w := p.nextLocked(); w != nil {
		s.lease = w.lease
		w.endLocked(s, nil)
		p.mu.Unlock()
		return
	}
	if !p.closed {
		s.idleSince = time.Now()
		p.idle = append(p.idle, s)
		p.mu.Unlock()
		return
	}

	delete(p.slots, s)
	p.mu.Unlock()
	p.drop(s)
	p.open.Done()
}

// nextLocked takes the first waiter out of the queue. A call whose context has ended never
// reaches the token.
func (p *Pool[S]) nextLocked() *waiter[S] {
	for e := p.waiting.Front(); e != nil; e = p.waiting.Front() {
		w := e.Value.(*waiter[S])
		if w.lease.ctx.Err() == nil {
			p.waiting.Remove(e)
			w.element = nil
			return w
		}
		p.expireLocked(w)
		w.endLocked(nil, w.lease.ctx.Err())
	}
	return nil
}

// expireLocked takes a call whose context has ended out of the queue.
func (p *Pool[S]) expireLocked(w *waiter[S]) {
	p.waiting.Remove(w.element)
	w.element = nil
	p.totals.ExpiredTotal++
}

// endLocked ends the wait.
func (w *waiter[S]) endLocked(s *slot[S], err error) {
	w.slot, w.err = s, err
	close(w.ready)
}

// end notes that the call with the lease l has returned, and reports whether its caller
// still waits.
func (p *Pool[S]) end(l *lease) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.ended = l.left.IsZero()
	return l.ended
}

// ready opens the session of a slot that is leased, unless it has a good one.
func (p *Pool[S]) ready(s *slot[S]) error {
	if s.have && p.config.Stale != nil && p.config.Stale(s.session) {
		p.drop(s)
	}
	if s.have {
		return nil
	}
	session, err := p.config.Open()
	s.session, s.have = session, err == nil
	return err
}

// drop closes the session of a slot, if it has one.
func (p *Pool[S]) drop(s *slot[S]) {
	if s.have {
		p.config.Close(s.session)
		s.have = false
	}
}

// shrink gives up a slot for which the token has no session, unless there is no other one.
// The pool stays smaller by that for a while.
func (p *Pool[S]) shrink(s *slot[S]) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.slots) == 1 {
		return false
	}
	delete(p.slots, s)
	p.open.Done()
	p.limit = max(1, len(p.slots))
	p.limited = time.Now()
	return true
}

// Close refuses new calls, waits for all others, those that their callers left and those
// in the queue included, and closes the sessions. It may be called more than once.
func (p *Pool[S]) Close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	for _, s := range idle {
		delete(p.slots, s)
	}
	p.mu.Unlock()

	for _, s := range idle {
		p.drop(s)
		p.open.Done()
	}
	p.open.Wait()
}

// Touch runs f on every session that was idle for d or longer. It returns when they have
// returned or ctx ends.
func (p *Pool[S]) Touch(ctx context.Context, d time.Duration, f func(S) error) {
	calls := make(map[*lease]*call[struct{}])
	for _, s := range p.acquireIdle(ctx, d) {
		l := s.lease // the slot may have another as soon as f has returned
		calls[l] = start(p, s, l, func(session S) (struct{}, error) { return struct{}{}, f(session) })
	}

	for l, c := range calls {
		select {
		case <-c.returned: // an error of f shows again when the session is used next
		case <-ctx.Done():
			p.leave(l)
		}
	}
}

func (p *Pool[S]) acquireIdle(ctx context.Context, d time.Duration) []*slot[S] {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].idleSince) >= d { // those that were idle longest come first
		p.idle[n].lease = &lease{ctx: ctx}
		n++
	}
	leased := slices.Clone(p.idle[:n])
	p.idle = p.idle[n:]
	return leased
}

// Stats returns what the pool is doing and did.
func (p *Pool[S]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.totals
	s.Sessions = p.limit
	s.Busy = len(p.slots) - len(p.idle)
	s.Waiting = p.waiting.Len()
	s.Abandoned = p.leftLocked()
	return s
}

// wipe clears v if it is bytes: they may be a plaintext.
func wipe(v any) {
	if b, ok := v.([]byte); ok {
		clear(b)
	}
}
