package software

import (
	"context"
	"crypto"
	"crypto/rand"
	"fmt"
	"io"

	"signetd/signer"
)

// A signKey is a key pair that signs. [decryptKey] and [agreeKey] embed it.
type signKey struct {
	backend *Backend
	private crypto.Signer
}

var _ signer.Signer = (*signKey)(nil)

// Public implements [signer.Key].
func (k *signKey) Public() crypto.PublicKey { return k.private.Public() }

// Sign implements [crypto.Signer].
func (k *signKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no context
}

// SignContext implements [signer.Signer].
func (k *signKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := k.backend.enter(ctx); err != nil {
		return nil, err
	}
	defer k.backend.leave()

	alg, err := signer.CheckDigest(k.Public(), digest, opts)
	if err != nil {
		return nil, err
	}

	sig, err := k.private.Sign(rand.Reader, digest, alg.SignerOpts())
	if err != nil {
		return nil, fmt.Errorf("software key: sign %s: %w", alg, err)
	}
	return sig, nil
}
