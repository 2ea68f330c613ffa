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
	users  atomic.Int64 // the requests, and one for being the current one
	end    sync.Once
	closed *sync.WaitGroup // the service's: of all generations
	err    error           // of closing it, to be read when closed is done
}

func (s *Service) newGeneration(setup Setup) *generation {
	g := &generation{Setup: setup, closed: &s.generations}
	g.closed.Add(1)
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

// leave has the generation closed if nobody uses it any more. It does not wait: a
// backend that hangs must hold up neither the request that happened to be the
// last nor the reload.
func (g *generation) leave() {
	if g.users.Add(-1) > 0 {
		return
	}
	g.end.Do(func() {
		go func() { // ends when the backends are closed; Service.Close waits for it
			defer g.closed.Done()
			g.err = g.Close()
		}()
	})
}
