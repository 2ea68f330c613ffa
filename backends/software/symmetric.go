package software

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"fmt"
	"slices"

	"signetd/signer"
)

// A secret is a symmetric key in memory.
type secret struct {
	typ   signer.SecretType
	value []byte
}

func (b *Backend) openSecret(s secret) (signer.Key, error) {
	k := secretKey{b, s}
	if s.typ == signer.SecretHMAC {
		return &macKey{k}, nil
	}

	block, err := aes.NewCipher(s.value)
	if err != nil {
		return nil, fmt.Errorf("%w: software key: an AES key of %d bytes", signer.ErrInvalid, len(s.value))
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("software key: %w", err)
	}
	return &aesKey{k, block, gcm}, nil
}

// A secretKey is an open secret. [macKey] and [aesKey] embed it.
type secretKey struct {
	backend *Backend
	secret  secret
}

// Public implements [signer.Key].
func (k *secretKey) Public() crypto.PublicKey {
	return signer.Secret{Type: k.secret.typ, Size: len(k.secret.value)}
}

// A macKey is an HMAC key.
type macKey struct{ secretKey }

var _ signer.MACer = (*macKey)(nil)

// MACContext implements [signer.MACer].
func (k *macKey) MACContext(ctx context.Context, message []byte, hash crypto.Hash) ([]byte, error) {
	if err := k.backend.enter(ctx); err != nil {
		return nil, err
	}
	defer k.backend.leave()

	if _, err := signer.CheckMAC(k.Public(), hash); err != nil {
		return nil, err
	}

	h := hmac.New(hash.New, k.secret.value)
	h.Write(message)
	return h.Sum(nil), nil
}

// An aesKey is an AES key.
type aesKey struct {
	secretKey
	block cipher.Block
	gcm   cipher.AEAD // puts a random IV before the ciphertext
}

var (
	_ signer.Wrapper = (*aesKey)(nil)
	_ signer.AEAD    = (*aesKey)(nil)
)

// WrapContext implements [signer.Wrapper].
func (k *aesKey) WrapContext(ctx context.Context, form signer.WrapForm, key []byte) ([]byte, error) {
	if err := k.backend.enter(ctx); err != nil {
		return nil, err
	}
	defer k.backend.leave()

	if err := signer.CheckWrap(form, key); err != nil {
		return nil, err
	}
	return signer.WrapBlocks(form, key, func(b []byte) error { k.block.Encrypt(b, b); return nil })
}

// UnwrapContext implements [signer.Wrapper].
func (k *aesKey) UnwrapContext(ctx context.Context, form signer.WrapForm, wrapped []byte) ([]byte, error) {
	if err := k.backend.enter(ctx); err != nil {
		return nil, err
	}
	defer k.backend.leave()

	if err := signer.CheckWrapped(form, wrapped); err != nil {
		return nil, err
	}
	return signer.UnwrapBlocks(form, wrapped, func(b []byte) error { k.block.Decrypt(b, b); return nil })
}

// SealContext implements [signer.AEAD].
func (k *aesKey) SealContext(ctx context.Context, plaintext, aad []byte) (iv, sealed []byte, err error) {
	if err := k.backend.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer k.backend.leave()

	out := k.gcm.Seal(nil, nil, plaintext, aad) // #nosec G407 -- the cipher draws the IV
	return out[:signer.GCMIVSize], out[signer.GCMIVSize:], nil
}

// OpenContext implements [signer.AEAD].
func (k *aesKey) OpenContext(ctx context.Context, iv, sealed, aad []byte) ([]byte, error) {
	if err := k.backend.enter(ctx); err != nil {
		return nil, err
	}
	defer k.backend.leave()

	if err := signer.CheckSealed(iv, sealed); err != nil {
		return nil, err
	}
	plaintext, err := k.gcm.Open(nil, nil, slices.Concat(iv, sealed), aad)
	if err != nil {
		return nil, signer.ErrDecrypt
	}
	return plaintext, nil
}
