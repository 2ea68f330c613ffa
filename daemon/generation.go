package daemon

import (
	"context"
	"crypto"
	"errors"
	"fmt"
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

// An Issuer is another party whose tokens are trusted. Grants name it as they name keys.
type Issuer struct {
	Name   string
	Algs   []signer.Alg     // that it signs with; no token chooses another
	Accept *policy.Verifier // what its tokens must be like
	// Keys are its public keys, or Key names a key of the ring.
	Keys []signer.JWK
	Key  string
}

// A Recipient is another party, which the daemon encrypts to. Grants name it as they name
// keys.
type Recipient struct {
	Name   string
	Public crypto.PublicKey
	KID    string // may be empty
	Alg    signer.Alg
	Enc    string // the one content encryption, or empty for any
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

// generations are the current one and those before it that are still in use. They are safe
// for concurrent use.
type generations struct {
	current atomic.Pointer[generation]
	closing sync.WaitGroup // for those before
}

// enter returns the current generation, which stays open until its leave.
func (gs *generations) enter() *generation {
	for {
		g := gs.current.Load()
		g.users.Add(1)
		if gs.current.Load() == g {
			return g
		}
		g.leave() // swap replaced it in between, and it may be closed already
	}
}

// swap makes a setup the current generation, and waits neither for requests nor for the old
// backends to close. It calls failed if closing them fails.
func (gs *generations) swap(setup Setup, failed func(error)) {
	old := gs.current.Swap(newGeneration(setup))
	gs.closing.Go(func() { // ends when the old backends are closed
		<-old.ended
		if old.err != nil {
			failed(old.err)
		}
	})
	old.retire()
}

// close closes all backends once the requests that use them have ended, and returns an
// error if ctx ends first.
func (gs *generations) close(ctx context.Context) error {
	g := gs.current.Load()
	g.retire()

	all := make(chan struct{})
	go func() { // ends when the backends are closed
		defer close(all)
		gs.closing.Wait()
		<-g.ended
	}()
	select {
	case <-all:
		return g.err
	case <-ctx.Done():
		return fmt.Errorf("close: a backend does not answer: %w", ctx.Err())
	}
}
