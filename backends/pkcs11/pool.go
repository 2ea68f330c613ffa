//go:build cgo

package pkcs11

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// growAfter is how long a pool that the token gave too few sessions stays small
// before it asks for one more.
const growAfter = 10 * time.Second

// hangAfter is how long every session must be in a call that its caller gave up
// before the module counts as hanging. Callers may be impatient, too.
const hangAfter = 250 * time.Millisecond

// A pool is a bounded number of workers, each of which owns one session, an S,
// that it opens for its first job. The worker that was idle last gets the next
// job, so that a quiet backend uses few sessions. When all are busy jobs wait
// in a bounded queue, first come, first served. Use [do] to run something on a
// session.
type pool[S any] struct {
	poolConfig[S]
	working sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	limit    int // of workers: size, or fewer when the token has no more sessions
	limited  time.Time
	workers  int
	idle     []*worker[S] // the last is the one that was idle last
	waiting  list.List    // of *job[S]
	counters poolCounters

	holding   int // jobs whose caller has left and whose call still runs
	heldSince time.Time
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

// A worker is a goroutine with a session.
type worker[S any] struct {
	jobs    chan *job[S] // holds one; closed to end an idle worker
	session S
	have    bool
	since   time.Time // idle
}

// A job runs on a session. What it returns tells the worker whether the session
// is still good.
type job[S any] struct {
	ctx   context.Context //nolint:containedctx // a job is an argument on its way
	run   func(S) error
	wipe  func()
	ended chan error // holds one

	// Under the pool's mu.
	place   *list.Element // in waiting
	running bool
	left    bool // the caller
}

func newPool[S any](c poolConfig[S]) *pool[S] {
	return &pool[S]{poolConfig: c, limit: c.size}
}

// do runs f on a session that nobody else uses meanwhile, and waits for a free
// one if need be. When ctx ends first it returns ctx.Err() at once. If f runs
// then, it runs on, and its result is dropped: f must share no memory with the
// caller. If f does not run yet, it never will.
//
// It returns ErrOverloaded at once if too many wait, and ErrUnavailable if every
// session hangs in a call that its caller gave up (see hangAfter).
func do[S, T any](ctx context.Context, p *pool[S], f func(S) (T, error)) (T, error) {
	var zero, value T
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	j := &job[S]{ctx: ctx, ended: make(chan error, 1)}
	j.run = func(s S) (err error) { value, err = f(s); return err }
	j.wipe = func() { wipe(value) }
	if err := p.submit(j); err != nil {
		return zero, err
	}
	select {
	case err := <-j.ended:
		return value, err
	case <-ctx.Done():
	}
	if p.leave(j) {
		return zero, ctx.Err()
	}
	err := <-j.ended // it has ended meanwhile
	return value, err
}

// submit hands j to a worker, or has it wait.
func (p *pool[S]) submit(j *job[S]) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errClosed()
	case p.hangsLocked():
		p.counters.stuck++
		return errStuck(p.holding)
	}
	p.growLocked()
	switch {
	case len(p.idle) > 0:
		p.startLocked(j)
	case p.workers < p.limit:
		j.running = true
		p.workers++
		w := &worker[S]{jobs: make(chan *job[S], 1)}
		p.working.Go(func() { p.work(w, j) }) // a goroutine; ends after close, or when the token has no session for it
	case p.waiting.Len() >= p.queue:
		p.counters.overloaded++
		return fmt.Errorf("%w: pkcs11: %d requests wait for %d sessions", signer.ErrOverloaded, p.waiting.Len(), p.limit)
	default:
		j.place = p.waiting.PushBack(j)
	}
	return nil
}

func errClosed() error {
	return fmt.Errorf("%w: the pkcs11 backend is closed", signer.ErrUnavailable)
}

func errStuck(n int) error {
	return fmt.Errorf("%w: pkcs11: the module hangs in %d calls, and all sessions are in them", signer.ErrUnavailable, n)
}

// startLocked gives j to the worker that was idle last.
func (p *pool[S]) startLocked(j *job[S]) {
	w := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	j.running = true
	w.jobs <- j
}

// growLocked lets a pool that was made smaller grow again by one.
func (p *pool[S]) growLocked() {
	if p.limit < p.size && time.Since(p.limited) > growAfter {
		p.limit++
		p.limited = time.Now()
	}
}

// leave is what the caller of j does when its context ends. It reports false if
// j has ended before.
func (p *pool[S]) leave(j *job[S]) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case j.place != nil:
		p.waiting.Remove(j.place)
		j.place = nil
		p.counters.expired++
	case !j.running:
		return false
	default:
		j.left = true
		p.holding++
		p.counters.abandoned++
		if p.holding >= p.limit {
			p.heldSince = time.Now()
			time.AfterFunc(hangAfter, p.refuseWaiting) // ends soon
		}
	}
	return true
}

// hangsLocked reports whether no session will be free soon.
func (p *pool[S]) hangsLocked() bool {
	return p.holding >= p.limit && time.Since(p.heldSince) >= hangAfter
}

// refuseWaiting ends all that wait if the module hangs.
func (p *pool[S]) refuseWaiting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.hangsLocked() {
		return
	}
	for e := p.waiting.Front(); e != nil; e = p.waiting.Front() {
		j := p.waiting.Remove(e).(*job[S])
		j.place = nil
		p.counters.stuck++
		j.ended <- errStuck(p.holding)
	}
}

func (p *pool[S]) work(w *worker[S], j *job[S]) {
	defer w.drop(p.shut)
	for j != nil {
		err := w.ready(p)
		if full(err) && p.giveBack(j) {
			return
		}
		if err == nil {
			err = j.run(w.session)
		}
		if lost(err) {
			w.drop(p.shut)
		}
		j = p.next(w, j, err)
	}
}

// ready sees to it that w has a good session.
func (w *worker[S]) ready(p *pool[S]) error {
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

func (w *worker[S]) drop(shut func(S)) {
	if w.have {
		shut(w.session)
		w.have = false
	}
}

// full reports whether the token has no more sessions.
func full(err error) bool { return answered(err, p11.CKR_SESSION_COUNT) }

// giveBack ends a worker for which the token has no session and puts its job
// before all others, unless there is no other worker to do it. The pool stays
// that much smaller for a while.
func (p *pool[S]) giveBack(j *job[S]) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers == 1 {
		return false
	}
	p.workers--
	p.limit = max(1, p.workers)
	p.limited = time.Now()
	switch {
	case j.left:
		p.holding--
	case len(p.idle) > 0:
		p.startLocked(j)
	default:
		j.running = false
		j.place = p.waiting.PushFront(j)
	}
	return true
}

// next ends j and waits for the next job, or returns nil when the pool closes.
func (p *pool[S]) next(w *worker[S], j *job[S], err error) *job[S] {
	p.mu.Lock()
	j.running = false
	if j.left {
		p.holding--
		j.wipe()
	} else {
		j.ended <- err
	}
	for e := p.waiting.Front(); e != nil; e = p.waiting.Front() {
		n := e.Value.(*job[S])
		if n.ctx.Err() != nil {
			// Nobody waits for it: it never reaches the token. Its caller is
			// on the way out and takes it from the queue by itself.
			p.expireLocked(n)
			continue
		}
		p.waiting.Remove(e)
		n.place, n.running = nil, true
		p.mu.Unlock()
		return n
	}
	if p.closed {
		p.workers--
		p.mu.Unlock()
		return nil
	}
	w.since = time.Now()
	p.idle = append(p.idle, w)
	p.mu.Unlock()
	return <-w.jobs
}

// expireLocked takes a job from the queue whose context has ended.
func (p *pool[S]) expireLocked(j *job[S]) {
	p.waiting.Remove(j.place)
	j.place = nil
	p.counters.expired++
	j.ended <- j.ctx.Err()
}

// close lets no new job in, waits for those that are in and for calls that
// their callers gave up, and has each worker close its session. It may be
// called more than once.
func (p *pool[S]) close() {
	p.mu.Lock()
	p.closed = true
	for _, w := range p.idle {
		p.workers--
		close(w.jobs)
	}
	p.idle = nil
	p.mu.Unlock()
	p.working.Wait()
}

// touch runs f on every session that was idle for d or longer, and gives up on
// those whose calls have not returned when ctx ends.
func (p *pool[S]) touch(ctx context.Context, d time.Duration, f func(S) error) {
	for _, j := range p.startIdle(ctx, d, f) {
		select {
		case <-j.ended: //nolint:errcheck // what it answers shows in the session's next use
		case <-ctx.Done():
			p.leave(j)
		}
	}
}

func (p *pool[S]) startIdle(ctx context.Context, d time.Duration, f func(S) error) (jobs []*job[S]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > len(jobs) && time.Since(p.idle[len(jobs)].since) >= d { // those that were idle longest come first
		j := &job[S]{ctx: ctx, run: f, wipe: func() {}, ended: make(chan error, 1), running: true}
		p.idle[len(jobs)].jobs <- j
		jobs = append(jobs, j)
	}
	p.idle = p.idle[len(jobs):]
	return jobs
}

// stats fills in what the pool knows.
func (p *pool[S]) stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Sessions:        p.limit,
		Busy:            p.workers - len(p.idle),
		Waiting:         p.waiting.Len(),
		Abandoned:       p.holding,
		AbandonedTotal:  p.counters.abandoned,
		ExpiredTotal:    p.counters.expired,
		OverloadedTotal: p.counters.overloaded,
		StuckTotal:      p.counters.stuck,
	}
}

// wipe clears v if it is a plaintext or signature that nobody waits for.
func wipe(v any) {
	if b, ok := v.([]byte); ok {
		clear(b)
	}
}
