//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"signetd/signer"
)

// A Backend is a token that is logged in to. It is safe for concurrent use.
//
// When the login, the sessions or the device are lost it gets them back by
// itself, and finds its keys again. Requests wait for that if it is quick, and
// hear ErrUnavailable at once if it is not.
type Backend struct {
	cfg    Config
	module *module
	id     tokenID
	login  *login
	healer *healer

	sessions *pool[*session]
	health   *pool[struct{}] // of one, so that Ping does not wait behind signatures

	closing  sync.Once
	closeErr error
}

var _ signer.Backend = (*Backend)(nil)

// Open loads the module, finds the token and logs in. It makes at most one login
// attempt, and none with a PIN that the token has refused in this process. The
// Backend must be closed.
//
// If ctx ends first it returns at once; what the module still does is undone
// when it returns.
func Open(ctx context.Context, cfg Config) (*Backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	done := make(chan result[*Backend])
	go func() { // ends when the module's calls have returned
		b, err := open(cfg)
		select {
		case done <- result[*Backend]{b, err}:
		case <-ctx.Done():
			if err == nil {
				_ = b.Close() // nobody is there to hear of it
			}
		}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type result[T any] struct {
	value T
	err   error
}

func open(cfg Config) (*Backend, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	pin, err := ReadPIN(cfg.PINFile)
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	for _, pause := range pauses {
		b, err := openWith(cfg, pin)
		if !errors.Is(err, errNoToken) {
			return b, err
		}
		time.Sleep(pause)
	}
	return openWith(cfg, pin)
}

// pauses are between the looks for a token that is not found. SoftHSM2 rewrites a
// token's file at each login, and a process that initialises the module meanwhile
// sees a broken token, or none, until it initialises it anew.
var pauses = []time.Duration{20 * time.Millisecond, 80 * time.Millisecond, 200 * time.Millisecond}

func openWith(cfg Config, pin []byte) (*Backend, error) {
	m, err := acquireModule(cfg.Module, cfg.InitArgs)
	if err != nil {
		return nil, err
	}
	b, err := m.open(cfg, pin)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pkcs11: %w", err), m.release())
	}
	return b, nil
}

// open makes the Backend, which from then on has the caller's hold on m.
func (m *module) open(cfg Config, pin []byte) (*Backend, error) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	slot, token, err := m.findToken(cfg)
	if err != nil {
		return nil, err
	}
	l, err := m.login(slot, credential{pin, cfg.PINFile})
	if err != nil {
		return nil, err
	}
	b := &Backend{cfg: cfg, module: m, id: idOf(token), login: l}
	b.healer = newHealer(b)
	b.sessions = newPool(poolConfig[*session]{
		size:  cfg.sessions(token.MaxSessionCount),
		queue: cfg.queue(),
		open:  b.openSession,
		shut:  b.closeSession,
		stale: func(s *session) bool { return s.stamp != *b.healer.repaired.Load() },
	})
	b.health = newPool(poolConfig[struct{}]{
		size:  1,
		queue: cfg.queue(),
		open:  func() (none struct{}, err error) { return none, nil },
		shut:  func(struct{}) {},
	})
	if idle := cfg.keepAlive(); idle > 0 {
		b.healer.running.Go(func() { b.healer.keepAlive(idle) }) // a goroutine; ends with Close
	}
	return b, nil
}

// errRestarting means that a call could not be made because the module is being
// initialised anew. It had no effect.
var errRestarting = fmt.Errorf("%w: pkcs11: the module is being initialised anew", signer.ErrUnavailable)

// inside runs f, which calls into the module, so that the module is not
// finalised meanwhile. It does not wait for a module that is being initialised.
func (b *Backend) inside(f func() error) error {
	if !b.module.gate.TryRLock() {
		return errRestarting
	}
	defer b.module.gate.RUnlock()
	return f()
}

func (b *Backend) openSession() (s *session, err error) {
	err = b.inside(func() error {
		from := *b.healer.repaired.Load()
		if s, err = b.module.openSession(b.login.slotNow(b.module)); err == nil {
			s.stamp = from
		}
		return err
	})
	return s, err
}

func (b *Backend) closeSession(s *session) {
	b.module.gate.RLock()
	defer b.module.gate.RUnlock()
	s.close()
}

// readCredential reads the PIN again. Whoever gets it wipes it.
func (b *Backend) readCredential() (credential, error) {
	pin, err := ReadPIN(b.cfg.PINFile)
	return credential{pin, b.cfg.PINFile}, err
}

// Ping asks the token who it is. It uses no session, so it answers while all of
// them are busy.
func (b *Backend) Ping(ctx context.Context) error {
	if err := b.healer.admit(ctx); err != nil {
		return err
	}
	epoch := b.healer.epoch()
	err := b.ask(ctx)
	if needsRestart(err) {
		b.healer.begin(epoch, false)
	}
	if err != nil {
		return fmt.Errorf("pkcs11: token %q: %w", b.id.label, err)
	}
	return nil
}

// ask asks the token who it is.
func (b *Backend) ask(ctx context.Context) error {
	_, err := do(ctx, b.health, func(none struct{}) (struct{}, error) {
		return none, b.inside(func() error {
			info, err := b.module.ctx.GetTokenInfo(b.login.slotNow(b.module))
			if err == nil && idOf(info) != b.id {
				return fmt.Errorf("%w: %w: its slot now holds token %q with serial %q", signer.ErrUnavailable, errTokenGone, info.Label, info.SerialNumber)
			}
			return callError("C_GetTokenInfo", err)
		})
	})
	return err
}

// Stats says what b is doing and did.
func (b *Backend) Stats() Stats {
	s := b.sessions.stats()
	b.healer.stats(&s)
	return s
}

// Close waits for what is in flight, closes the sessions, logs out and
// finalises the module, each unless another Backend still needs it. The keys of
// b answer ErrUnavailable from then on. A second Close waits for the first and
// returns what it returned.
func (b *Backend) Close() error {
	b.closing.Do(func() {
		b.healer.close()
		b.sessions.close()
		b.health.close()
		// In this order: no call may be running when the module is finalised.
		logout := b.module.logout(b.id)
		if err := errors.Join(logout, b.module.release()); err != nil {
			b.closeErr = fmt.Errorf("pkcs11: close token %q: %w", b.id.label, err)
		}
	})
	return b.closeErr
}
