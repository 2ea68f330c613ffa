package daemon

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
	"signetd/signer/supervise"
)

// A Config configures a [Service].
type Config struct {
	Limits  Limits
	Version string // of the build, for GET /v1/version

	// Audit is used until the service is closed, and closed by the caller after that.
	Audit   *audit.Log
	Metrics *Metrics
	Log     *slog.Logger

	// Reload reads the config again and returns how many keys are served then. It is nil
	// in a daemon without a config file.
	Reload func(context.Context) (keys int, err error)
}

// A Service answers requests, whatever transport they came by. It is safe for concurrent
// use. What is not said to change is set by [NewService] and never again.
type Service struct {
	current atomic.Pointer[generation] // replaced by Swap
	closing sync.WaitGroup             // for the older generations

	limits    Limits
	version   string
	reload    func(context.Context) (keys int, err error)
	audit     *audit.Log
	metrics   *Metrics
	log       *slog.Logger
	admission *admission
	refusals  *refusalLimiter
	outages   outages
	readiness readiness
}

// NewService returns a service over a setup, which it takes over.
func NewService(setup Setup, c Config) *Service {
	limits := c.Limits.WithDefaults()
	s := &Service{
		limits: limits, version: c.Version, reload: c.Reload, audit: c.Audit, metrics: c.Metrics, log: c.Log,
		admission: newAdmission(limits), refusals: newRefusalLimiter(limits),
	}
	s.current.Store(newGeneration(setup))
	return s
}

// Begin returns a request of peer with an id of its own.
//
// The id is 64 random bits in hexadecimal, and no secret: it names the request in logs.
// The bits come from the runtime's generator, ChaCha8 with a seed from the kernel for
// each thread, so that they are as unlike each other as the kernel's, without a system
// call for each.
func (s *Service) Begin(peer policy.Peer) Request {
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], rand.Uint64()) // #nosec G404 -- see above
	var text [16]byte
	hex.Encode(text[:], id[:])
	return Request{ID: string(text[:]), Peer: peer}
}

// Answer does what a request asks for, and returns what to tell the peer. It ends with ctx,
// or with the time limit of a request if that is earlier.
//
// The response must not leave the process before its Commit has returned.
func (s *Service) Answer(ctx context.Context, q *Request) Response {
	// The requests that were read behind this one will have records soon, which can share
	// an fsync with its own.
	s.expectBehind(q)
	defer s.forgetBehind(q)

	// The name of a key is the last part of a path, and the only part that varies.
	path := q.Path
	if prefix, _, _ := strings.Cut(api.GetKey.Path, "{"); strings.HasPrefix(path, prefix) && path != prefix {
		q.name, path = path[len(prefix):], api.GetKey.Path
	}
	e, known := entries[path]

	switch {
	case !known:
		return s.refuse(ctx, q, api.OpNone, fmt.Errorf("%w: no such path", signer.ErrNotFound))
	case e.Method != q.Method:
		r := s.refuse(ctx, q, api.OpNone, fmt.Errorf("%w: this path takes %s", signer.ErrInvalid, e.Method))
		r.Status, r.Allow = http.StatusMethodNotAllowed, e.Method
		return r
	default:
		return e.answer(ctx, s, q)
	}
}

func (s *Service) expectBehind(q *Request) {
	if q.Behind > 0 {
		q.backlog = new(atomic.Int64)
		q.backlog.Store(int64(q.Behind))
		s.audit.Expect(q.Behind)
	}
}

// forgetBehind undoes expectBehind. It may be called twice: at the end of a request, and
// by the watchdog if that does not come.
func (s *Service) forgetBehind(q *Request) {
	if q.backlog != nil {
		s.audit.Expect(-int(q.backlog.Swap(0)))
	}
}

// TimeOut answers in place of a goroutine that is stuck in w, which is work on a request
// of this service. It reports false if that goroutine has an answer after all.
func (s *Service) TimeOut(w *supervise.Work) (Response, bool) {
	t, ours := w.Owner.(*task)
	if !ours {
		return Response{}, false
	}
	rec, ok := t.timeOut()
	if !ok {
		return Response{}, false
	}

	s.forgetBehind(&t.request)
	return respond(t.request.ID, 0, nil, context.DeadlineExceeded, rec), true
}

// Fail is the answer to a request that the transport refuses because of err. It leaves no
// record.
func (*Service) Fail(q *Request, err error) Response { return respond(q.ID, 0, nil, err) }

// RecordSignal writes the audit record of a reload that a signal to this process, peer,
// asked for. outcome is why it was refused, or nil.
func (s *Service) RecordSignal(peer policy.Peer, outcome error) error {
	q := s.Begin(peer)
	t := newTask(s, &q, api.OpReload, "")
	return t.conclude(&t.rec, outcome).commit()
}

// Swap puts a setup in the place of the current one, all at once. Requests in flight
// finish with what they began with, and Swap waits neither for them nor for the old
// backends to close.
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

// Ring returns the ring in which requests find their keys now.
func (s *Service) Ring() *signer.Ring { return s.current.Load().ring.Load() }

// EachBackend calls f with each backend in use. f must not keep it.
func (s *Service) EachBackend(f func(name string, b signer.Backend)) {
	g := s.enter()
	defer g.leave()
	for name, b := range g.setup.Backends {
		f(name, b)
	}
}

// Close closes the backends when the requests in flight have ended, and waits for those
// of older setups. It returns an error if ctx ends first. No request may come after it.
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
