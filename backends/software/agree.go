package software

import (
	"context"
	"crypto/ecdh"

	"signetd/signer"
)

// An agreeKey is a key pair on one of the curves of ECDH-ES. It signs, too.
type agreeKey struct {
	signKey
	private *ecdh.PrivateKey
}

var _ signer.Agreer = (*agreeKey)(nil)

// AgreeContext implements [signer.Agreer].
func (k *agreeKey) AgreeContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	if err := k.backend.enter(ctx); err != nil {
		return nil, err
	}
	defer k.backend.leave()

	z, err := k.private.ECDH(peer)
	if err != nil {
		return nil, signer.ErrDecrypt
	}
	return z, nil
}
