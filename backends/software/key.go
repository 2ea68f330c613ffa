package software

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"path/filepath"
	"strings"

	"signetd/signer"
)

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
		return &decryptKey{signKey{b, private}, private}, nil
	case *ecdsa.PrivateKey:
		agrees, err := private.ECDH()
		if err != nil {
			return nil, fmt.Errorf("%w: software key: not a key on its curve", signer.ErrInvalid)
		}
		return &agreeKey{signKey{b, private}, agrees}, nil
	case crypto.Signer:
		return &signKey{b, private}, nil
	default:
		return nil, fmt.Errorf("%w: software key: a key of type %T", signer.ErrUnsupported, private)
	}
}

// loadLocked returns a crypto.Signer or a secret: from a file, or generated.
func (b *Backend) loadLocked(ref string) (any, error) {
	spec, generate := strings.CutPrefix(ref, "generate:")
	if !generate {
		if !filepath.IsAbs(ref) {
			// The ref is not shown, because it may be the URI of a token with a PIN in it.
			return nil, fmt.Errorf("%w: the ref is neither generate:TYPE nor an absolute path", signer.ErrInvalid)
		}
		return readKey(ref)
	}

	if private, ok := b.generated[ref]; ok {
		return private, nil
	}
	name, _, _ := strings.Cut(spec, ":")
	private, err := generateKey(name)
	if err != nil {
		return nil, err
	}
	b.generated[ref] = private
	return private, nil
}
