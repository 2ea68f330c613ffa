package daemon

import (
	"context"
	"log/slog"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
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
// use.
type Service struct {
	limits      Limits
	version     string
	reload      func(context.Context) (keys int, err error)
	recorder    recorder
	generations generations
	admission   *admission
	refusals    *refusalLimiter
	readiness   readiness
}

// NewService returns a service over a setup, which it takes over.
func NewService(setup Setup, c Config) *Service {
	limits := c.Limits.WithDefaults()
	s := &Service{
		limits: limits, version: c.Version, reload: c.Reload,
		recorder:  recorder{audit: c.Audit, metrics: c.Metrics, log: c.Log},
		admission: newAdmission(limits), refusals: newRefusalLimiter(limits),
	}
	s.generations.current.Store(newGeneration(setup))
	return s
}

// Fail is the answer to a request that the transport refuses because of err. It leaves no
// record.
func (*Service) Fail(q *Request, err error) Response { return respond(q.ID, 0, nil, err) }

// RecordSignal writes the audit record of a reload that a signal to this process, peer,
// asked for. outcome is why it was refused, or nil.
func (s *Service) RecordSignal(peer policy.Peer, outcome error) error {
	q := newRequest(peer)
	rec := &record{Record: audit.Record{Op: string(api.OpReload)}}
	return s.recorder.append(rec, &q, time.Now(), outcome).commit()
}

// Swap puts a setup in the place of the current one, all at once. Requests in flight
// finish with what they began with, and Swap waits neither for them nor for the old
// backends to close.
func (s *Service) Swap(setup Setup) {
	s.generations.swap(setup, func(err error) { s.recorder.log.Warn("closing the backends of the config before", "err", err) })
}

// Ring returns the ring in which requests find their keys now.
func (s *Service) Ring() *signer.Ring { return s.generations.current.Load().ring.Load() }

// EachBackend calls f with each backend in use. f must not keep it.
func (s *Service) EachBackend(f func(name string, b signer.Backend)) {
	g := s.generations.enter()
	defer g.leave()
	for name, b := range g.setup.Backends {
		f(name, b)
	}
}

// Close closes the backends when the requests in flight have ended, and waits for those
// of older setups. It returns an error if ctx ends first. No request may come after it.
func (s *Service) Close(ctx context.Context) error { return s.generations.close(ctx) }

// Ready tells whether every key has a version that can be used, and whether each backend
// answers, as of a second ago at most. It names keys only to a peer with a grant on them.
// It leaves no audit record, since it uses no key.
func (s *Service) Ready(ctx context.Context, peer policy.Peer) *api.Ready {
	g := s.generations.enter()
	defer g.leave()

	ready := &api.Ready{Ready: true, Backends: s.readiness.ask(ctx, g, s.limits.Timeout)}
	now := time.Now()
	for _, k := range g.ring.Load().Keys() {
		ready.Ready = ready.Ready && usable(k, now, ready.Backends)
		missing := missingOf(k)
		ready.MissingVersions += len(missing)
		if g.setup.Policy.Check(peer, api.OpList, k.Name) == nil {
			ready.Missing = append(ready.Missing, missing...)
		}
	}
	return ready
}
