//go:build cgo

package pkcs11

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/backends/pkcs11/pool"
	"signetd/signer"
)

// A Backend is a token that this process is logged in to. It is safe for concurrent use.
//
// When the login, the sessions or the device are lost it gets them back by itself, and
// finds its keys again. Requests wait for that if it is quick, and are refused with
// ErrUnavailable at once if it is not.
type Backend struct {
	// All are set when the Backend is opened.
	cfg    Config
	module *cryptoki.Module
	login  *cryptoki.Login
	healer *healer

	sessions *pool.Pool[*session]
	pings    *pool.Pool[struct{}] // of size one, so that Ping does not wait behind signatures

	closing  sync.Once
	closeErr error // set by closing
}

var _ signer.Backend = (*Backend)(nil)

// Open loads the module, finds the token and logs in. It makes at most one login attempt,
// and none with a PIN that the token has refused in this process. The Backend must be
// closed.
//
// If ctx ends first, Open returns at once. What the module still does is undone when it
// returns.
func Open(ctx context.Context, cfg Config) (*Backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}

	type result struct {
		b   *Backend
		err error
	}
	done := make(chan result)
	go func() { // ends when the module's calls have returned
		b, err := open(cfg)
		select {
		case done <- result{b, err}:
		case <-ctx.Done():
			if err == nil {
				_ = b.Close() // the caller has left: the error has no reader
			}
		}
	}()

	select {
	case r := <-done:
		return r.b, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// findPauses are the pauses between the looks for a token that is not found. SoftHSM2
// rewrites a token's file at each login, and a process that initialises the module
// meanwhile sees a broken token, or none, until it initialises it anew.
var findPauses = []time.Duration{20 * time.Millisecond, 80 * time.Millisecond, 200 * time.Millisecond}

func open(cfg Config) (*Backend, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	pin, err := ReadPIN(cfg.PINFile)
	if err != nil {
		return nil, err
	}
	defer clear(pin)

	// The PIN is read once and not before each look: Login wipes what it shows, and no
	// look that found no token has shown it.
	for _, pause := range findPauses {
		b, err := openOnce(cfg, pin)
		if !errors.Is(err, cryptoki.ErrNoToken) {
			return b, err
		}
		time.Sleep(pause)
	}
	return openOnce(cfg, pin)
}

func openOnce(cfg Config, pin []byte) (*Backend, error) {
	m, err := cryptoki.Acquire(cfg.Module, cfg.InitArgs)
	if err != nil {
		return nil, err
	}
	b, err := openIn(m, cfg, pin)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pkcs11: %w", err), m.Release())
	}
	return b, nil
}

// openIn makes the Backend, whose Close releases m.
func openIn(m *cryptoki.Module, cfg Config, pin []byte) (*Backend, error) {
	m.Enter()
	defer m.Leave()
	slot, token, err := m.FindToken(cfg.token())
	if err != nil {
		return nil, err
	}
	login, err := m.Login(slot, cryptoki.Credential{PIN: pin, File: cfg.PINFile})
	if err != nil {
		return nil, err
	}

	queue := cmp.Or(cfg.Queue, defaultQueue)
	b := &Backend{cfg: cfg, module: m, login: login}
	b.healer = newHealer(login, b.readCredential, b.askToken)
	b.sessions = pool.New(pool.Config[*session]{
		Size:  cfg.sessions(token.MaxSessionCount),
		Queue: queue,
		Open:  b.openSession,
		Close: b.closeSession,
		Stale: b.healer.stale,
		Lost:  cryptoki.Lost,
		Full:  cryptoki.Full,
	})
	b.pings = pool.New(pool.Config[struct{}]{
		Size:  1,
		Queue: queue,
		Open:  func() (none struct{}, err error) { return none, nil },
		Close: func(struct{}) {},
		Lost:  func(error) bool { return false },
		Full:  func(error) bool { return false },
	})
	if idle := cfg.keepAlive(); idle > 0 {
		b.healer.running.Go(func() { b.keepAlive(idle) }) // a goroutine; ends with Close
	}
	return b, nil
}

// token returns the token that the config names.
func (c Config) token() cryptoki.TokenID { return cryptoki.TokenID{Label: c.Token, Serial: c.Serial} }

// Ping asks the token who it is. It uses no session, so it answers while all of them are
// busy.
func (b *Backend) Ping(ctx context.Context) error {
	if err := b.healer.admit(ctx); err != nil {
		return err
	}
	repairs := b.healer.repairs()
	err := b.askToken(ctx)
	if needsRestart(err) {
		b.healer.begin(repairs, false)
	}
	if err != nil {
		return fmt.Errorf("pkcs11: token %q: %w", b.login.Token().Label, err)
	}
	return nil
}

func (b *Backend) askToken(ctx context.Context) error {
	_, err := pool.Do(ctx, b.pings, func(none struct{}) (struct{}, error) {
		return none, b.inside(b.login.Ask)
	})
	return err
}

// Stats says what b is doing and did.
func (b *Backend) Stats() Stats {
	s := b.healer.stats()
	s.Stats = b.sessions.Stats()
	return s
}

// Close waits for all calls, closes the sessions, logs out and finalises the module, the
// last two unless another Backend still needs them. The keys of b return ErrUnavailable
// from then on. A second Close waits for the first and returns what it returned.
func (b *Backend) Close() error {
	b.closing.Do(func() {
		b.healer.close()
		b.sessions.Close()
		b.pings.Close()

		// In this order: no call may be running when the module is finalised.
		b.module.Enter()
		logout := b.login.Logout()
		b.module.Leave()
		if err := errors.Join(logout, b.module.Release()); err != nil {
			b.closeErr = fmt.Errorf("pkcs11: close token %q: %w", b.login.Token().Label, err)
		}
	})
	return b.closeErr
}

// inside runs f, which calls into the module, so that the module is not finalised
// meanwhile. It does not wait for a module that is being initialised.
func (b *Backend) inside(f func() error) error {
	if !b.module.TryEnter() {
		return errRestarting
	}
	defer b.module.Leave()
	return f()
}

func (b *Backend) openSession() (s *session, err error) {
	err = b.inside(func() error {
		s, err = b.healer.openSession()
		return err
	})
	return s, err
}

func (b *Backend) closeSession(s *session) {
	b.module.Enter()
	defer b.module.Leave()
	s.Close()
}

// readCredential reads the PIN again, for a repair or for a key that wants it. Its error
// wraps ErrUnavailable and no other sentinel: the file is not the mistake of the request.
func (b *Backend) readCredential() (cryptoki.Credential, error) {
	pin, err := ReadPIN(b.cfg.PINFile)
	if err != nil {
		return cryptoki.Credential{}, unavailable(err)
	}
	return cryptoki.Credential{PIN: pin, File: b.cfg.PINFile}, nil
}

// keepAlive uses sessions that were idle for d, until Close.
func (b *Backend) keepAlive(d time.Duration) {
	tick := time.NewTicker(d / 2)
	defer tick.Stop()
	for {
		select {
		case <-b.healer.stop:
			return
		case <-tick.C:
		}

		ctx, cancel := context.WithTimeout(context.Background(), d) //nolint:forbidigo // no request asks for it
		repairs := b.healer.repairs()
		b.sessions.Touch(ctx, d/2, func(s *session) error {
			return b.inside(func() error {
				in, err := s.LoggedIn()
				if cryptoki.Lost(err) || err == nil && !in {
					b.healer.begin(repairs, false)
				}
				return err
			})
		})
		cancel()

		if err := b.inside(b.login.Touch); cryptoki.Lost(err) || b.healer.outdated() {
			b.healer.begin(repairs, false)
		}
	}
}
