package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"signetd/daemon/policy"
	"signetd/signer"
)

// A Setup is what a config file makes: the keys, where they are, and who may use
// them. The [Service] that is given one closes its backends when the last
// request that began with it has ended.
type Setup struct {
	Ring     *signer.Ring
	Policy   *policy.Policy
	Backends map[string]signer.Backend // by name
	// Issuers and Recipients are of other people, and may be none. The policy knows
	// their names.
	Issuers    []Issuer
	Recipients []Recipient
	// Finish opens what was away when the setup was made, and hands each ring that has
	// more of it to swap. The [Service] runs it until it returns, or until its context
	// ends when the setup is no more the current one. Optional.
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

// A generation is a setup while it is in use: the current one, and older ones
// until the requests that began with them have ended.
type generation struct {
	Setup
	ring  atomic.Pointer[signer.Ring] // the one of Setup, and after that those of Finish
	users atomic.Int64                // the requests, and one for being the current one
	end   sync.Once
	ended chan struct{} // closed when the backends are
	err   error

	finishing sync.WaitGroup
	finish    context.CancelFunc // ends it
}

func newGeneration(s Setup) *generation {
	g := &generation{Setup: s, ended: make(chan struct{})}
	g.ring.Store(s.Ring)
	g.users.Store(1)
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // it is nobody's request
	g.finish = cancel
	if s.Finish != nil {
		g.finishing.Go(func() { s.Finish(ctx, g.ring.Store) }) // a goroutine; ends with finish
	}
	return g
}

// retire lets go of g, which is no more the current one.
func (g *generation) retire() {
	g.finish()
	g.leave()
}

// enter returns the current generation, which stays open until leave.
func (s *Service) enter() *generation {
	for {
		g := s.current.Load()
		g.users.Add(1)
		if s.current.Load() == g {
			return g
		}
		g.leave() // it was replaced in between, and may be closed already
	}
}

// leave lets go of g. Who is the last to do so does not wait for the backends to
// close, which takes for ever where a call into a token hangs.
func (g *generation) leave() {
	if g.users.Add(-1) == 0 {
		g.end.Do(func() {
			go func() { // ends when the backends are closed
				g.finishing.Wait()
				g.err = g.Close()
				close(g.ended)
			}()
		})
	}
}
