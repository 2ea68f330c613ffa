package software

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
	generated map[string]crypto.Signer
}

var _ signer.Backend = (*Backend)(nil)

// Open returns a backend without keys.
func Open(_ context.Context, _ Config) (*Backend, error) {
	return &Backend{generated: map[string]crypto.Signer{}}, nil
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
	k := key{b, private}
	if d, ok := private.(crypto.Decrypter); ok {
		return &rsaKey{k, d}, nil
	}
	return &k, nil
}

func (b *Backend) loadLocked(ref string) (crypto.Signer, error) {
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

func generateKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "ec-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ec-p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ec-p521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "rsa-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	default:
		return nil, fmt.Errorf("%w: cannot generate a key of type %.32q (ec-p256, ec-p384, ec-p521, rsa-2048, rsa-3072, rsa-4096)", signer.ErrInvalid, kind)
	}
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

func (b *Backend) usableLocked(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.closed {
		return fmt.Errorf("%w: the backend is closed", signer.ErrUnavailable)
	}
	return nil
}
