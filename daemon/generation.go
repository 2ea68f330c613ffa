package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"signetd/daemon/policy"
	"signetd/signer"
)

// A Setup is what a config file makes: the keys, the backends that hold them, and the
// grants. The [Service] that is given one closes its backends when the last request that
// began with it has ended.
type Setup struct {
	Ring     *signer.Ring
	Policy   *policy.Policy
	Backends map[string]signer.Backend // by name
	// Issuers are trusted, and Recipients are encrypted to. Both are optional, and their
	// keys are other people's. The policy knows their names.
	Issuers    []Issuer
	Recipients []Recipient
	// Finish opens what was away when the setup was made, and hands each ring that has
	// more versions to swap. The [Service] runs it until it returns, and ends its context
	// when another setup becomes the current one. Optional.
	Finish func(ctx context.Context, swap func(*signer.Ring))
}

// Close closes the backends.
func (s *Setup) Close() error {
	var errs []error
	for _, b := range s.Backends {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}

// A generation is a setup while it is in use: the current one, and older ones until the
// requests that began with them have ended.
type generation struct {
	setup Setup
	ring  atomic.Pointer[signer.Ring] // that of the setup, and after it those of Finish
	users atomic.Int64                // the requests, and one more for the current generation

	finish    context.CancelFunc // ends Finish
	finishing sync.WaitGroup

	closeOnce sync.Once
	ended     chan struct{} // closed when the backends are, and err is set
	err       error
}

func newGeneration(s Setup) *generation {
	g := &generation{setup: s, ended: make(chan struct{})}
	g.ring.Store(s.Ring)
	g.users.Store(1)

	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // it belongs to no request
	g.finish = cancel
	if s.Finish != nil {
		g.finishing.Go(func() { s.Finish(ctx, g.ring.Store) }) // a goroutine; ends with finish
	}
	return g
}

// retire is called once g is no longer the current generation.
func (g *generation) retire() {
	g.finish()
	g.leave()
}

// enter returns the current generation, which stays open until its leave.
func (s *Service) enter() *generation {
	for {
		g := s.current.Load()
		g.users.Add(1)
		if s.current.Load() == g {
			return g
		}
		g.leave() // Swap replaced it in between, and it may be closed already
	}
}

// leave ends one use of g. The last one closes the backends, and does not wait for that: it
// takes for ever if a call into a token hangs.
func (g *generation) leave() {
	if g.users.Add(-1) > 0 {
		return
	}

	g.closeOnce.Do(func() {
		go func() { // ends when the backends are closed
			g.finishing.Wait()
			g.err = g.setup.Close()
			close(g.ended)
		}()
	})
}
