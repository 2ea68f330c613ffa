package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
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
}

// NewService returns a service over a setup. It takes the setup over, and uses
// the audit log until it is closed.
func NewService(setup Setup, limits Limits, log *audit.Log, metrics *Metrics, logger *slog.Logger) *Service {
	limits = limits.WithDefaults()
	s := &Service{slots: newSlots(limits), brake: newBrake(limits.Refusals, limits.Timeout/2), timeout: limits.Timeout, audit: log, metrics: metrics, log: logger}
	s.current.Store(newGeneration(setup))
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
}

// item is r for one of the requests in it, counted from 0.
func (r Request) item(i int) Request {
	r.Item = i + 1
	return r
}

// NewRequest returns a request of peer with a random id.
func NewRequest(peer policy.Peer) Request {
	return Request{ID: requestID(), Peer: peer}
}

// A call is one request on its way: the setup and the ring that it began with, the
// time that it began, and the audit record that its steps fill in.
type call struct {
	*generation
	Ring    *signer.Ring
	peer    policy.Peer
	now     time.Time
	rec     *audit.Record
	metrics *Metrics
}

// allow asks the policy. An operation asks before it looks a key up by name, so
// that an unknown key is denied like any other.
func (c *call) allow(op policy.Op, key string) error {
	return c.Policy.Check(c.peer, op, key)
}

// use notes which version does the work, and with what. From then on the key's
// name may be a label of a metric.
func (c *call) use(key string, v *signer.Version, alg signer.Alg) {
	c.rec.Key, c.rec.KID, c.rec.Alg = key, v.KID(), string(alg)
}

// do runs one operation: a slot, the act, the audit record, and the brake if it
// was refused. What act returns is withheld if the record cannot be written.
func do[A any](ctx context.Context, s *Service, r Request, op policy.Op, key string, act func(context.Context, *call) (A, error)) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	rec := &audit.Record{Op: string(op), Key: key}
	start := time.Now()
	answer, err := guarded(ctx, s, r, rec, act)
	if werr := s.record(r, rec, start, err); werr != nil {
		var none A
		return none, werr
	}
	if errors.Is(err, signer.ErrDenied) || errors.Is(err, signer.ErrInvalid) {
		s.brake.refused(ctx, r.Peer.UID)
	}
	return answer, err
}

// guarded runs act within the limits and turns a panic into an error.
func guarded[A any](ctx context.Context, s *Service, r Request, rec *audit.Record, act func(context.Context, *call) (A, error)) (answer A, err error) {
	start := time.Now()
	release, err := s.slots.acquire(ctx, r.Peer.UID)
	s.metrics.queue.Observe(time.Since(start).Seconds())
	if err != nil {
		return answer, err
	}
	defer release()
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	g := s.enter()
	defer g.leave()
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "panic", "request", r.ID, "op", rec.Op, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			var none A
			answer, err = none, errors.New("panic")
		}
	}()
	return act(ctx, &call{generation: g, Ring: g.ring.Load(), peer: r.Peer, now: start, rec: rec, metrics: s.metrics})
}

// refuse records a request that got no further than its syntax, and returns why,
// or why that could not be recorded.
func (s *Service) refuse(ctx context.Context, r Request, op policy.Op, reason error) error {
	if err := s.record(r, &audit.Record{Op: string(op)}, time.Now(), reason); err != nil {
		return err
	}
	s.brake.refused(ctx, r.Peer.UID)
	return reason
}

// record completes and writes the audit record, and counts and logs the request.
func (s *Service) record(r Request, rec *audit.Record, start time.Time, outcome error) error {
	rec.Time = start.UTC()
	rec.Request, rec.Item = r.ID, r.Item
	rec.Peer = audit.Peer{UID: r.Peer.UID, GID: r.Peer.GID, PID: r.Peer.PID}
	rec.Key = clip(rec.Key)
	rec.Outcome = signer.Code(outcome)
	if outcome != nil {
		rec.Reason = outcome.Error()
		rec.Rule = rule(outcome)
	}
	err := s.audit.Write(rec)
	took, answered := time.Since(start), rec.Outcome
	if err != nil {
		s.metrics.auditErrors.Inc()
		s.log.Error("audit record not written, answer withheld", "request", r.ID, "op", rec.Op, "err", err)
		err = fmt.Errorf("%w: the audit record cannot be written, so the answer is withheld", signer.ErrUnavailable)
		answered = signer.Code(err)
	}
	key, alg := rec.Key, rec.Alg
	if rec.KID == "" { // not known to be a key: a peer's text is no label
		key, alg = "", ""
	}
	s.metrics.observeRequest(requestLabels{rec.Op, key, alg, answered}, took)
	s.outages.note(s.log, rec, outcome)
	s.metrics.observePolicy(key, rec)
	if rec.Outcome == signer.CodeInternal {
		s.log.Error("internal error", "request", r.ID, "peer", r.Peer, "op", rec.Op, "key", rec.Key, "err", outcome)
	}
	s.logRequest(r, rec, answered, took)
	return err
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
