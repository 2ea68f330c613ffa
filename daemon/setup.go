package daemon

import (
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
	users atomic.Int64 // the requests, and one for being the current one
	end   sync.Once
	ended chan struct{} // closed when the backends are
	err   error
}

func newGeneration(s Setup) *generation {
	g := &generation{Setup: s, ended: make(chan struct{})}
	g.users.Store(1)
	return g
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
				g.err = g.Close()
				close(g.ended)
			}()
		})
	}
}
