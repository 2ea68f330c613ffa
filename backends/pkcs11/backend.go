//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// A Backend is a token that is logged in to. It is safe for concurrent use.
type Backend struct {
	module *module
	slot   uint
	token  p11.TokenInfo // as it was when opened

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
	m, err := acquireModule(cfg.Module)
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
	slot, token, err := m.findToken(cfg)
	if err != nil {
		return nil, err
	}
	if err := m.login(slot, credential{pin, cfg.PINFile}); err != nil {
		return nil, err
	}
	b := &Backend{module: m, slot: slot, token: token}
	b.sessions = newPool(poolConfig[*session]{
		size:  cfg.sessions(token.MaxSessionCount),
		queue: cfg.queue(),
		open:  b.openSession,
		shut:  (*session).close,
	})
	b.health = newPool(poolConfig[struct{}]{
		size:  1,
		queue: cfg.queue(),
		open:  func() (none struct{}, err error) { return none, nil },
		shut:  func(struct{}) {},
	})
	return b, nil
}

func (b *Backend) openSession() (*session, error) { return b.module.openSession(b.slot) }

// Ping asks the token who it is. It uses no session, so it answers while all of
// them are busy.
func (b *Backend) Ping(ctx context.Context) error {
	info, err := do(ctx, b.health, func(struct{}) (p11.TokenInfo, error) {
		info, err := b.module.ctx.GetTokenInfo(b.slot)
		return info, callError("C_GetTokenInfo", err)
	})
	if err != nil {
		return fmt.Errorf("pkcs11: token %q: %w", b.token.Label, err)
	}
	if info.SerialNumber != b.token.SerialNumber || info.Label != b.token.Label {
		return fmt.Errorf("%w: pkcs11: token %q: its slot now holds token %q with serial %q", signer.ErrUnavailable, b.token.Label, info.Label, info.SerialNumber)
	}
	return nil
}

// Stats says what b is doing and did.
func (b *Backend) Stats() Stats { return b.sessions.stats() }

// Close waits for what is in flight, closes the sessions, logs out and
// finalises the module, each unless another Backend still needs it. The keys of
// b answer ErrUnavailable from then on. A second Close waits for the first and
// returns what it returned.
func (b *Backend) Close() error {
	b.closing.Do(func() {
		b.sessions.close()
		b.health.close()
		// In this order: no call may be running when the module is finalised.
		logout := b.module.logout(b.slot)
		if err := errors.Join(logout, b.module.release()); err != nil {
			b.closeErr = fmt.Errorf("pkcs11: close token %q: %w", b.token.Label, err)
		}
	})
	return b.closeErr
}
