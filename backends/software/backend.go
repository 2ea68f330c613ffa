package software

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"signetd/signer"
)

// Config configures a [Backend]. It has no fields: a key is named by its ref.
type Config struct{}

// A Backend holds software keys. It is safe for concurrent use.
type Backend struct {
	mu        sync.RWMutex // held for reading while a key is in use
	closed    bool
	generated map[string]any // a crypto.Signer or a secret
}

var _ signer.Backend = (*Backend)(nil)

// Open returns a backend without keys.
func Open(_ context.Context, _ Config) (*Backend, error) {
	return &Backend{generated: map[string]any{}}, nil
}

// OpenKey implements [signer.Backend].
func (b *Backend) OpenKey(ctx context.Context, ref string) (signer.Key, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usableLocked(ctx); err != nil {
		return nil, err
	}
	private, err := b.loadLocked(ref)
	if err != nil {
		return nil, fmt.Errorf("software key: %w", err)
	}
	switch private := private.(type) {
	case secret:
		return b.openSecret(private)
	case *rsa.PrivateKey:
		return &rsaKey{key{b, private}, private}, nil
	case *ecdsa.PrivateKey:
		agrees, err := private.ECDH()
		if err != nil {
			return nil, fmt.Errorf("%w: software key: not a key on its curve", signer.ErrInvalid)
		}
		return &ecKey{key{b, private}, agrees}, nil
	case crypto.Signer:
		return &key{b, private}, nil
	default:
		return nil, fmt.Errorf("%w: software key: a key of type %T", signer.ErrUnsupported, private)
	}
}

// loadLocked returns a crypto.Signer or a secret.
func (b *Backend) loadLocked(ref string) (any, error) {
	spec, generate := strings.CutPrefix(ref, "generate:")
	if !generate {
		if !filepath.IsAbs(ref) {
			return nil, fmt.Errorf("%w: the ref is neither generate:TYPE nor an absolute path", signer.ErrInvalid) // not shown: it may be a URI with a PIN
		}
		return readKey(ref)
	}
	if private, ok := b.generated[ref]; ok {
		return private, nil
	}
	kind, _, _ := strings.Cut(spec, ":")
	private, err := generateKey(kind)
	if err != nil {
		return nil, err
	}
	b.generated[ref] = private
	return private, nil
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

// enter keeps b open until leave is called, or says why it is not.
func (b *Backend) enter(ctx context.Context) (leave func(), err error) {
	b.mu.RLock()
	if err := b.usableLocked(ctx); err != nil {
		b.mu.RUnlock()
		return nil, err
	}
	return b.mu.RUnlock, nil
}

func (b *Backend) usableLocked(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.closed {
		return fmt.Errorf("%w: the backend is closed", signer.ErrUnavailable)
	}
	return nil
}
