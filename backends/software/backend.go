package software

import (
	"context"
	"fmt"
	"sync"

	"signetd/signer"
)

// Config configures a [Backend]. It has no fields: a ref says all about a key.
type Config struct{}

// A Backend holds software keys. It is safe for concurrent use.
type Backend struct {
	// mu is held for reading while a key is in use, so that Close waits for that.
	mu        sync.RWMutex
	closed    bool           // under mu
	generated map[string]any // by ref: a crypto.Signer or a secret; under mu
}

var _ signer.Backend = (*Backend)(nil)

// Open returns a backend without keys.
func Open(_ context.Context, _ Config) (*Backend, error) {
	return &Backend{generated: map[string]any{}}, nil
}

// Ping implements [signer.Backend].
func (b *Backend) Ping(ctx context.Context) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.usableLocked(ctx)
}

// Close implements [signer.Backend].
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.generated = nil
	return nil
}

// enter keeps b open until leave is called. It returns ErrUnavailable if b is closed,
// and ctx.Err() if ctx has ended.
func (b *Backend) enter(ctx context.Context) error {
	b.mu.RLock()
	err := b.usableLocked(ctx)
	if err != nil {
		b.mu.RUnlock()
	}
	return err
}

func (b *Backend) leave() { b.mu.RUnlock() }

func (b *Backend) usableLocked(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.closed {
		return fmt.Errorf("%w: the backend is closed", signer.ErrUnavailable)
	}
	return nil
}
