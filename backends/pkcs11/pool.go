//go:build cgo

package pkcs11

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
	"signetd/signer/supervise"
)

// growAfter is how long a pool that the token gave too few sessions stays small
// before it asks for one more.
const growAfter = 10 * time.Second

// hangAfter is how long every session must be in a call that its caller gave up
// before the module counts as hanging. Callers may be impatient, too.
const hangAfter = 250 * time.Millisecond

// A pool is a bounded number of seats, each with one session, an S, that is opened
// for the seat's first job. The seat that was idle last gets the next job, so that a
// quiet backend uses few sessions. When all are taken jobs wait in a bounded queue,
// first come, first served. Use [do] to run something on a session.
type pool[S any] struct {
	poolConfig[S]
	taken sync.WaitGroup // by the seats

	mu       sync.Mutex
	closed   bool
	limit    int // of seats: size, or fewer when the token has no more sessions
	limited  time.Time
	seats    map[*seat[S]]struct{}
	idle     []*seat[S] // the last is the one that was idle last
	waiting  list.List  // of *turn[S]
	watching bool       // refuseIfStuck will run
	counters poolCounters
}

type poolConfig[S any] struct {
	size  int // of sessions
	queue int // of jobs that wait
	open  func() (S, error)
	shut  func(S)
	// stale reports whether a session must be replaced before its next use.
	stale func(S) bool
}

type poolCounters struct{ abandoned, expired, overloaded, stuck uint64 }

// A seat is the right to use one session, and that session. Whoever took it uses it
// alone until it is given back.
type seat[S any] struct {
	session S
	have    bool
	since   time.Time // idle
	hold    *hold     // under the pool's mu: who has taken it, or nil
}

// A hold is a job's claim on a seat. Under the pool's mu.
type hold struct {
	ctx   context.Context //nolint:containedctx // a job is an argument on its way
	left  time.Time       // when the caller left
	ended bool            // before the caller left
}

// leftAt returns when the caller of the job left, if it has. That of a watched
// context is on the job's own goroutine: it is given up when its time is over.
func (h *hold) leftAt() (time.Time, bool) {
	if supervise.Supervised(h.ctx) && h.ctx.Err() != nil {
		return h.ctx.Deadline()
	}
	return h.left, !h.left.IsZero()
}

// A turn is a job that waits for a seat.
type turn[S any] struct {
	hold  *hold
	place *list.Element // under the pool's mu; nil when it waits no more
	ready chan struct{} // closed then; what came of it is in seat or err
	seat  *seat[S]
	err   error
}

func newPool[S any](c poolConfig[S]) *pool[S] {
	return &pool[S]{poolConfig: c, limit: c.size, seats: make(map[*seat[S]]struct{})}
}

// do runs f on a session that nobody else uses meanwhile, and waits for a free
// one if need be. When ctx ends first it returns ctx.Err() at once. If f runs
// then, it runs on, and its result is dropped: f must share no memory with the
// caller. If f does not run yet, it never will. With a [supervise.Context] f runs
// on the caller's goroutine, and do returns when f does.
//
// It returns ErrOverloaded at once if too many wait, and ErrUnavailable if every
// session hangs in a call that its caller gave up (see hangAfter).
func do[S, T any](ctx context.Context, p *pool[S], f func(S) (T, error)) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	h := &hold{ctx: ctx}
	w, err := p.take(h, false)
	if err != nil {
		return zero, err
	}
	if supervise.Supervised(ctx) {
		return run(p, w, h, f)
	}
	j := start(p, w, h, f)
	select {
	case <-j.ended:
	case <-ctx.Done():
		if p.leave(h) {
			return zero, ctx.Err()
		}
		<-j.ended // it is about to be
	}
	return j.value, j.err
}

// A job is a function that runs in a goroutine of its own.
type job[T any] struct {
	ended chan struct{} // closed when what follows is there
	value T
	err   error
}

// start runs f on a seat that was taken, and wipes what it returns if nobody waits
// for it any more.
func start[S, T any](p *pool[S], w *seat[S], h *hold, f func(S) (T, error)) *job[T] {
	j := &job[T]{ended: make(chan struct{})}
	go func() { // ends when f has returned
		j.value, j.err = run(p, w, h, f)
		if !p.settle(h) {
			wipe(j.value)
		}
		close(j.ended)
	}()
	return j
}

// run runs f on a seat that was taken, and gives it back, also if f panics: a caller on
// whose goroutine it runs may recover.
func run[S, T any](p *pool[S], w *seat[S], h *hold, f func(S) (T, error)) (value T, err error) {
	ended := false
	defer func() {
		if !ended {
			w.drop(p.shut)
			p.giveBack(w, h)
		}
	}()
	for {
		if err = w.ready(p); !full(err) || !p.giveUp(w) {
			break
		}
		if w, err = p.take(h, true); err != nil {
			ended = true // it has no seat any more
			return value, err
		}
	}
	if err == nil {
		value, err = f(w.session)
	}
	ended = true
	if lost(err) {
		w.drop(p.shut)
	}
	p.giveBack(w, h)
	return value, err
}

// take returns a seat for h: a free one, a new one, or when it is h's turn the one
// that another gives back. first is for a job that had its turn before.
func (p *pool[S]) take(h *hold, first bool) (*seat[S], error) {
	w, t, err := p.takeOrWait(h, first)
	if t == nil {
		return w, err
	}
	select {
	case <-t.ready:
		return t.seat, t.err
	case <-h.ctx.Done():
	}
	p.mu.Lock()
	waits := t.place != nil
	if waits {
		p.expireLocked(t)
	}
	p.mu.Unlock()
	if !waits && t.seat != nil { // it came at the same moment
		p.giveBack(t.seat, h)
	}
	return nil, h.ctx.Err()
}

// takeOrWait is take without the wait.
func (p *pool[S]) takeOrWait(h *hold, first bool) (*seat[S], *turn[S], error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed && !first {
		return nil, nil, errClosed()
	}
	p.growLocked()
	if n := len(p.idle); n > 0 {
		w := p.idle[n-1]
		p.idle = p.idle[:n-1]
		w.hold = h
		return w, nil, nil
	}
	if len(p.seats) < p.limit {
		w := &seat[S]{hold: h}
		p.seats[w] = struct{}{}
		p.taken.Add(1)
		return w, nil, nil
	}
	t := &turn[S]{hold: h, ready: make(chan struct{})}
	switch {
	case first:
		t.place = p.waiting.PushFront(t)
	case p.hangsLocked():
		p.counters.stuck++
		return nil, nil, errStuck(len(p.seats))
	case p.waiting.Len() >= p.queue:
		p.counters.overloaded++
		return nil, nil, fmt.Errorf("%w: pkcs11: %d requests wait for %d sessions", signer.ErrOverloaded, p.waiting.Len(), p.limit)
	default:
		t.place = p.waiting.PushBack(t)
	}
	p.watchLocked()
	return nil, t, nil
}

func errClosed() error {
	return fmt.Errorf("%w: the pkcs11 backend is closed", signer.ErrUnavailable)
}

// growLocked lets a pool that was made smaller grow again by one.
func (p *pool[S]) growLocked() {
	if p.limit < p.size && time.Since(p.limited) > growAfter {
		p.limit++
		p.limited = time.Now()
	}
}

// giveBack ends what h did on w, and hands w to whose turn it is.
func (p *pool[S]) giveBack(w *seat[S], h *hold) {
	p.mu.Lock()
	if supervise.Supervised(h.ctx) && h.ctx.Err() != nil {
		p.counters.abandoned++
	}
	h.ended = h.left.IsZero()
	w.hold = nil
	if t := p.nextLocked(); t != nil {
		t.endLocked(w, nil)
		w.hold = t.hold
		p.mu.Unlock()
		return
	}
	if !p.closed {
		w.since = time.Now()
		p.idle = append(p.idle, w)
		p.mu.Unlock()
		return
	}
	delete(p.seats, w)
	p.mu.Unlock()
	w.drop(p.shut)
	p.taken.Done()
}

// nextLocked returns the job whose turn it is, out of the queue, or nil. One whose
// context has ended never reaches the token.
func (p *pool[S]) nextLocked() *turn[S] {
	for e := p.waiting.Front(); e != nil; e = p.waiting.Front() {
		t := e.Value.(*turn[S])
		if t.hold.ctx.Err() == nil {
			p.waiting.Remove(e)
			t.place = nil
			return t
		}
		p.expireLocked(t)
		t.endLocked(nil, t.hold.ctx.Err())
	}
	return nil
}

// expireLocked takes a job from the queue whose context has ended.
func (p *pool[S]) expireLocked(t *turn[S]) {
	p.waiting.Remove(t.place)
	t.place = nil
	p.counters.expired++
}

// endLocked lets the caller of a job that waited go on.
func (t *turn[S]) endLocked(w *seat[S], err error) {
	t.seat, t.err = w, err
	close(t.ready)
}

// settle ends h, and reports whether its caller still waits.
func (p *pool[S]) settle(h *hold) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.ended = h.left.IsZero()
	return h.ended
}

// ready sees to it that w has a good session.
func (w *seat[S]) ready(p *pool[S]) error {
	if w.have && p.stale != nil && p.stale(w.session) {
		w.drop(p.shut)
	}
	if w.have {
		return nil
	}
	s, err := p.open()
	w.session, w.have = s, err == nil
	return err
}

func (w *seat[S]) drop(shut func(S)) {
	if w.have {
		shut(w.session)
		w.have = false
	}
}

// full reports whether the token has no more sessions.
func full(err error) bool { return answered(err, p11.CKR_SESSION_COUNT) }

// giveUp ends a seat for which the token has no session, unless there is no other
// one. The pool stays that much smaller for a while.
func (p *pool[S]) giveUp(w *seat[S]) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seats) == 1 {
		return false
	}
	delete(p.seats, w)
	p.taken.Done()
	p.limit = max(1, len(p.seats))
	p.limited = time.Now()
	return true
}

// close lets no new job in, waits for those that are in and for calls that
// their callers gave up, and closes the sessions. It may be called more than once.
func (p *pool[S]) close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	for _, w := range idle {
		delete(p.seats, w)
	}
	p.mu.Unlock()
	for _, w := range idle {
		w.drop(p.shut)
		p.taken.Done()
	}
	p.taken.Wait()
}

// touch runs f on every session that was idle for d or longer, and gives up on
// those whose calls have not returned when ctx ends.
func (p *pool[S]) touch(ctx context.Context, d time.Duration, f func(S) error) {
	holds := make(map[*hold]*job[struct{}])
	for _, w := range p.takeIdle(ctx, d) {
		h := w.hold // it is another's once f has returned
		holds[h] = start(p, w, h, func(s S) (struct{}, error) { return struct{}{}, f(s) })
	}
	for h, j := range holds {
		select {
		case <-j.ended: // what it answers shows in the session's next use
		case <-ctx.Done():
			p.leave(h)
		}
	}
}

func (p *pool[S]) takeIdle(ctx context.Context, d time.Duration) []*seat[S] {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].since) >= d { // those that were idle longest come first
		p.idle[n].hold = &hold{ctx: ctx}
		n++
	}
	taken := slices.Clone(p.idle[:n])
	p.idle = p.idle[n:]
	return taken
}

// wipe clears v if it is a plaintext or signature that nobody waits for.
func wipe(v any) {
	if b, ok := v.([]byte); ok {
		clear(b)
	}
}
