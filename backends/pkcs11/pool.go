//go:build cgo

package pkcs11

import (
	"context"
	"fmt"
	"sync"

	"signetd/signer"
)

// A pool is a fixed number of workers, each of which owns one session, an S,
// that it opens for its first job. Use [do] to run something on a session.
type pool[S any] struct {
	open func() (S, error)
	shut func(S)
	jobs chan job[S] // unbuffered: a job waits with its caller, who may leave

	workers sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	callers sync.WaitGroup // Add only under mu and while not closed
}

// A job asks for its worker's session and delivers its result by itself. Its
// error tells the worker whether the session is still good.
type job[S any] func(session func() (S, error)) error

// newPool starts the workers. The pool must be closed.
func newPool[S any](size int, open func() (S, error), shut func(S)) *pool[S] {
	p := &pool[S]{open: open, shut: shut, jobs: make(chan job[S])}
	for range size {
		p.workers.Go(p.work) // a goroutine; ends when close closes jobs and its last job has returned
	}
	return p
}

func (p *pool[S]) work() {
	var (
		session S
		have    bool
	)
	get := func() (S, error) {
		if have {
			return session, nil
		}
		s, err := p.open()
		session, have = s, err == nil
		return s, err
	}
	drop := func() {
		if have {
			p.shut(session)
			have = false
		}
	}
	defer drop()
	for j := range p.jobs {
		if err := j(get); lost(err) {
			drop()
		}
	}
}

// enter lets a caller in unless the pool is closed. The caller must call
// callers.Done.
func (p *pool[S]) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("%w: the pkcs11 backend is closed", signer.ErrUnavailable)
	}
	p.callers.Add(1)
	return nil
}

// close lets no new caller in, waits for those that are in and for calls that
// their callers gave up, and has each worker close its session. It may be
// called more than once.
func (p *pool[S]) close() {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	p.callers.Wait()
	if first {
		close(p.jobs)
	}
	p.workers.Wait()
}

type result[T any] struct {
	value T
	err   error
}

// do runs f on a session that nobody else uses meanwhile, and waits for a free
// one if need be. When ctx ends first it returns ctx.Err() at once. If f runs
// then, it runs on, and its result is dropped: f must share no memory with the
// caller. If f does not run yet, it never will.
func do[S, T any](ctx context.Context, p *pool[S], f func(S) (T, error)) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	if err := p.enter(); err != nil {
		return zero, err
	}
	defer p.callers.Done()
	done := make(chan result[T])
	j := func(session func() (S, error)) error {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // that nobody waits is no fault of the session
		}
		var r result[T]
		s, err := session()
		if r.err = err; err == nil {
			r.value, r.err = f(s)
		}
		select {
		case done <- r:
		case <-ctx.Done():
			wipe(r.value)
		}
		return r.err
	}
	select {
	case p.jobs <- j:
	case <-ctx.Done():
		return zero, ctx.Err()
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// wipe clears v if it is a plaintext or signature that nobody waits for.
func wipe(v any) {
	if b, ok := v.([]byte); ok {
		clear(b)
	}
}
