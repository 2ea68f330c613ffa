//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// ckmGCM is the mechanism of [sealing].
var ckmGCM = mechanism{typ: p11.CKM_AES_GCM}

// sealing is the half of a key that implements signer.AEAD.
type sealing struct{ k *key }

// SealContext encrypts; see [signer.AEAD].
func (a sealing) SealContext(ctx context.Context, plaintext, aad []byte) (iv, sealed []byte, err error) {
	plaintext, aad = bytes.Clone(plaintext), bytes.Clone(aad) // the token may read them after the caller has left
	out, err := a.k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return a.k.seal(s, h, aad, plaintext)
	})
	if err == nil || ctx.Err() == nil { // else a call may still read it
		clear(plaintext)
	}
	if err != nil {
		return nil, nil, err
	}
	return out[:signer.GCMIVSize:signer.GCMIVSize], out[signer.GCMIVSize:], nil
}

// OpenContext decrypts; see [signer.AEAD].
func (a sealing) OpenContext(ctx context.Context, iv, sealed, aad []byte) ([]byte, error) {
	if err := signer.CheckSealed(iv, sealed); err != nil {
		return nil, err
	}
	g, sealed := gcm{bytes.Clone(iv), bytes.Clone(aad)}, bytes.Clone(sealed)
	return a.k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return a.k.openSealed(s, h, g, sealed)
	})
}

// seal returns the IV, the ciphertext and the tag. The IV is from here, and new for
// each try: a token takes an old one, or none, without complaint. One that makes
// its own instead tells it.
func (k *key) seal(s *session, h p11.ObjectHandle, aad, plaintext []byte) ([]byte, error) {
	out := make([]byte, signer.GCMIVSize+len(plaintext)+signer.GCMTagSize)
	iv, sealed := out[:signer.GCMIVSize], out[signer.GCMIVSize:]
	rand.Read(iv)
	n, err := k.withPIN(func(pin []byte) (int, error) { return s.seal(ckmGCM, h, pin, gcm{iv, aad}, plaintext, sealed) })
	if err != nil {
		return nil, err
	}
	if _, err := exactly(sealed, n, len(sealed)); err != nil {
		return nil, err
	}
	return out, nil
}

func (k *key) openSealed(s *session, h p11.ObjectHandle, g gcm, sealed []byte) ([]byte, error) {
	out := make([]byte, len(sealed)) // tokens want more than the plaintext needs
	n, err := k.withPIN(func(pin []byte) (int, error) { return s.open(ckmGCM, h, pin, g, sealed, out) })
	if err != nil {
		return nil, err
	}
	return exactly(out, n, len(sealed)-signer.GCMTagSize)
}

// proveSealing sets k.seals if the token encrypts with AES-GCM and opens that again.
func (k *key) proveSealing(t *trial) error {
	if !k.may.encrypt || !k.may.decrypt {
		return nil
	}
	secret, aad := proofKey(), []byte(proofMessage)
	var sealed []byte
	err := t.run(func(s *session, h p11.ObjectHandle) (err error) {
		sealed, err = k.seal(s, h, aad, secret)
		return err
	})
	if err != nil {
		return err
	}
	err = t.run(func(s *session, h p11.ObjectHandle) error {
		got, err := k.openSealed(s, h, gcm{slices.Clone(sealed[:signer.GCMIVSize]), aad}, sealed[signer.GCMIVSize:])
		if err == nil && !bytes.Equal(got, secret) {
			err = fmt.Errorf("%w: what it encrypts decrypts to something else", signer.ErrUnavailable)
		}
		return err
	})
	if err != nil {
		return err
	}
	k.seals = true
	if k.sample == nil {
		k.sample = sealed
	}
	return nil
}
