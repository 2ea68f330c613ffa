package software

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"

	"signetd/signer"
)

type key struct {
	backend *Backend
	private crypto.Signer
}

var _ signer.Signer = (*key)(nil)

// Public implements [signer.Key].
func (k *key) Public() crypto.PublicKey { return k.private.Public() }

// Sign implements [crypto.Signer].
func (k *key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no context
}

// SignContext implements [signer.Signer].
func (k *key) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	leave, err := k.backend.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
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

// An ecKey is on a curve that ECDH-ES knows, too.
type ecKey struct {
	key
	private *ecdh.PrivateKey
}

var _ signer.Agreer = (*ecKey)(nil)

// AgreeContext implements [signer.Agreer].
func (k *ecKey) AgreeContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	leave, err := k.backend.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	z, err := k.private.ECDH(peer)
	if err != nil {
		return nil, signer.ErrDecrypt
	}
	return z, nil
}

type rsaKey struct {
	key
	decrypter crypto.Decrypter
}

var _ signer.SessionKeyDecrypter = (*rsaKey)(nil)

// Decrypt implements [crypto.Decrypter].
func (k *rsaKey) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no context
}

// DecryptContext implements [signer.Decrypter].
func (k *rsaKey) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	leave, err := k.backend.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	alg, err := signer.CheckCiphertext(k.Public(), ciphertext, opts)
	if err != nil {
		return nil, err
	}
	plaintext, err := k.decrypter.Decrypt(rand.Reader, ciphertext, alg.DecrypterOpts())
	if err != nil {
		return nil, signer.ErrDecrypt
	}
	return plaintext, nil
}

// DecryptSessionKeyContext implements [signer.SessionKeyDecrypter].
func (k *rsaKey) DecryptSessionKeyContext(ctx context.Context, ciphertext []byte, size int) ([]byte, error) {
	leave, err := k.backend.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	random := make([]byte, size)
	rand.Read(random)
	pub, ok := k.Public().(*rsa.PublicKey)
	if !ok || !signer.FitsModulus(pub, ciphertext) {
		return random, nil
	}
	key, err := k.decrypter.Decrypt(rand.Reader, ciphertext, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: size}) //nolint:staticcheck // what the config asks for, and without an oracle
	if err != nil {
		return random, nil // the reason is an oracle
	}
	return key, nil
}
