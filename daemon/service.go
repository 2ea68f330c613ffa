package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
	"signetd/signer/supervise"
)

// A Service does what requests ask, whatever they came by. It is safe for
// concurrent use.
type Service struct {
	current atomic.Pointer[generation]
	closing sync.WaitGroup // of the older ones
	slots   *slots
	brake   *brake
	outages outages
	ready   readiness
	timeout time.Duration
	audit   *audit.Log
	metrics *Metrics
	log     *slog.Logger
	coming  atomic.Int64 // requests that will have a record
}

// atWork is how many requests keep a processor at work while the disk writes records:
// each takes it some 50 µs, and an fsync some 200.
const atWork = 4

// NewService returns a service over a setup. It takes the setup over, and uses
// the audit log until it is closed.
func NewService(setup Setup, limits Limits, log *audit.Log, metrics *Metrics, logger *slog.Logger) *Service {
	limits = limits.WithDefaults()
	s := &Service{slots: newSlots(limits), brake: newBrake(limits.Refusals, limits.Timeout/2), timeout: limits.Timeout, audit: log, metrics: metrics, log: logger}
	s.current.Store(newGeneration(setup))
	s.audit.Gather(func() int { return int(s.coming.Load()) }, atWork*runtime.NumCPU())
	return s
}

// Swap puts a setup in the place of the current one, all at once. Requests in
// flight finish on what they began with, and Swap waits neither for them nor for
// the old backends to close.
func (s *Service) Swap(setup Setup) {
	old := s.current.Swap(newGeneration(setup))
	s.closing.Go(func() { // ends when the old backends are closed
		<-old.ended
		if old.err != nil {
			s.log.Warn("closing the backends of the config before", "err", old.err)
		}
	})
	old.retire()
}

// Ring returns the ring that requests find their keys in now.
func (s *Service) Ring() *signer.Ring { return s.current.Load().ring.Load() }

// EachBackend calls f with each backend in use. f must not keep it.
func (s *Service) EachBackend(f func(name string, b signer.Backend)) {
	g := s.enter()
	defer g.leave()
	for name, b := range g.Backends {
		f(name, b)
	}
}

// Close closes the backends when the requests in flight have ended, and waits
// for those of older setups, or returns an error if ctx ends first. No request may
// come after it.
func (s *Service) Close(ctx context.Context) error {
	g := s.current.Load()
	g.retire()
	all := make(chan struct{})
	go func() { // ends when the backends are closed
		defer close(all)
		s.closing.Wait()
		<-g.ended
	}()
	select {
	case <-all:
		return g.err
	case <-ctx.Done():
		return fmt.Errorf("close: a backend does not answer: %w", ctx.Err())
	}
}

// A Request says who asks, under which id. The peer is the kernel's word.
type Request struct {
	ID   string
	Peer policy.Peer
	Item int // its place in a batch, from 1; 0 for a request that is in none

	watch   *watch   // shows the call to whoever watches its goroutine; or nil
	records *records // collects its records; or nil, to wait for each at once
}

// item is r for one of the requests in it, counted from 0, on a goroutine of its own.
func (r Request) item(i int, w *watch) Request {
	r.Item = i + 1
	r.watch = w
	return r
}

// NewRequest returns a request of peer with a random id, which is no secret: it only
// has to be another one each time.
func NewRequest(peer policy.Peer) Request {
	return Request{ID: requestID(), Peer: peer}
}

// do runs one operation: a slot, the act, the audit record, and the brake if it
// was refused. What act returns is withheld if the record cannot be written.
func do[A any](ctx context.Context, s *Service, r Request, op api.Op, key string, act func(context.Context, *call) (A, error)) (A, error) {
	var none A
	ctx, cancel := s.within(ctx)
	defer cancel()
	c := &call{peer: r.Peer, now: time.Now(), rec: audit.Record{Op: string(op), Key: key}, service: s, request: r, noted: used{key: key}}
	s.coming.Add(1)
	r.watch.begin(c)
	answer, err := guarded(ctx, s, c, act)
	r.watch.end()
	if !c.settle() {
		return none, errAbandoned
	}
	if werr := s.record(r, &c.rec, c.now, err); werr != nil {
		return none, werr
	}
	if errors.Is(err, signer.ErrDenied) || errors.Is(err, signer.ErrInvalid) {
		s.brake.refused(ctx, r.Peer.UID)
	}
	return answer, err
}

// within is ctx with the time limit of a request, unless it has that already.
func (s *Service) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if supervise.Supervised(ctx) {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.timeout)
}

// guarded runs act within the limits and turns a panic into an error.
func guarded[A any](ctx context.Context, s *Service, c *call, act func(context.Context, *call) (A, error)) (answer A, err error) {
	slots, err := s.slots.acquire(ctx, c.peer.UID)
	s.metrics.queue.Observe(time.Since(c.now).Seconds())
	if err != nil {
		return answer, err
	}
	c.hold(slots)
	defer c.free()
	c.generation = s.enter()
	defer c.leave()
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "panic", "request", c.request.ID, "op", c.rec.Op, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			var none A
			answer, err = none, errors.New("panic")
		}
	}()
	c.Ring = c.ring.Load()
	return act(ctx, c)
}

// refuse records a request that got no further than its syntax, and returns why,
// or why that could not be recorded.
func (s *Service) refuse(ctx context.Context, r Request, op api.Op, reason error) error {
	if err := s.record(r, &audit.Record{Op: string(op)}, time.Now(), reason); err != nil {
		return err
	}
	s.brake.refused(ctx, r.Peer.UID)
	return reason
}

// rule is the rule of a claim policy by which err came about, or "".
func rule(err error) string {
	var denial *policy.Denial
	if errors.As(err, &denial) {
		return denial.Rule
	}
	return ""
}

// clip bounds a name that a peer made up.
func clip(name string) string {
	const most = 64
	if len(name) > most {
		return name[:most] + "..."
	}
	return name
}
