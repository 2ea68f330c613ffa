package software

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"io"

	"signetd/signer"
)

// A decryptKey is an RSA key pair. It signs, too.
type decryptKey struct {
	signKey
	decrypter crypto.Decrypter
}

var _ signer.SessionKeyDecrypter = (*decryptKey)(nil)

// Decrypt implements [crypto.Decrypter].
func (k *decryptKey) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no context
}

// DecryptContext implements [signer.Decrypter].
func (k *decryptKey) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if err := k.backend.enter(ctx); err != nil {
		return nil, err
	}
	defer k.backend.leave()

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
func (k *decryptKey) DecryptSessionKeyContext(ctx context.Context, ciphertext []byte, size int) ([]byte, error) {
	if err := k.backend.enter(ctx); err != nil {
		return nil, err
	}
	defer k.backend.leave()

	// Whatever fails, the caller gets a random key and no error, and cannot tell it from
	// the right one: the reason is an oracle (Bleichenbacher's attack, RFC 7516 section
	// 11.5).
	random := make([]byte, size)
	rand.Read(random)

	pub, ok := k.Public().(*rsa.PublicKey)
	if !ok || !signer.FitsModulus(pub, ciphertext) {
		return random, nil
	}
	key, err := k.decrypter.Decrypt(rand.Reader, ciphertext, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: size}) //nolint:staticcheck // what the config asks for, and without an oracle
	if err != nil {
		return random, nil
	}
	return key, nil
}
