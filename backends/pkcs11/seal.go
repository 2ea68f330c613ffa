//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
)

var aesGCM = cryptoki.NewMechanism(p11.CKM_AES_GCM)

// sealing is a key that implements signer.AEAD, with AES-GCM.
type sealing struct{ *key }

var _ signer.AEAD = sealing{}

// SealContext encrypts; see [signer.AEAD].
func (a sealing) SealContext(ctx context.Context, plaintext, aad []byte) (iv, sealed []byte, err error) {
	plaintext, aad = bytes.Clone(plaintext), bytes.Clone(aad) // the token may read them after the caller has left
	out, err := a.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return a.seal(s, h, aad, plaintext)
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
	g, sealed := cryptoki.GCM{IV: bytes.Clone(iv), AAD: bytes.Clone(aad)}, bytes.Clone(sealed)
	return a.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return a.openSealed(s, h, g, sealed)
	})
}

// seal returns the IV, the ciphertext and the tag.
func (k *key) seal(s *session, h p11.ObjectHandle, aad, plaintext []byte) ([]byte, error) {
	out := make([]byte, signer.GCMIVSize+len(plaintext)+signer.GCMTagSize)
	iv, sealed := out[:signer.GCMIVSize], out[signer.GCMIVSize:]

	// The IV is made here, and anew for each try: a token takes an old one, or none,
	// without complaint. A token that makes its own writes it over ours.
	rand.Read(iv)
	n, err := k.withPIN(func(pin []byte) (int, error) {
		return s.Seal(aesGCM, h, pin, cryptoki.GCM{IV: iv, AAD: aad}, plaintext, sealed)
	})
	if err != nil {
		return nil, err
	}
	if _, err := exactly(sealed, n, len(sealed)); err != nil {
		return nil, err
	}
	return out, nil
}

func (k *key) openSealed(s *session, h p11.ObjectHandle, g cryptoki.GCM, sealed []byte) ([]byte, error) {
	out := make([]byte, len(sealed)) // tokens want more than the plaintext needs
	n, err := k.withPIN(func(pin []byte) (int, error) { return s.Open(aesGCM, h, pin, g, sealed, out) })
	if err != nil {
		return nil, err
	}
	return exactly(out, n, len(sealed)-signer.GCMTagSize)
}

// probeAES finds out how the key wraps keys and encrypts. A key that does one direction
// alone is of no use: no other key could make what it is to open, or open what it made.
func (k *key) probeAES(p *probe) error {
	wrapErr := k.probeWrapping(p)
	if final(wrapErr) {
		return fmt.Errorf("wrap: %w", wrapErr)
	}
	sealErr := k.probeSealing(p)
	if final(sealErr) {
		return fmt.Errorf("encrypt: %w", sealErr)
	}
	if len(k.algs) == 0 {
		return fmt.Errorf("%w: the token neither wraps keys with this one nor encrypts by AES-GCM, in both directions (CKA_ENCRYPT and CKA_DECRYPT, or CKA_WRAP and CKA_UNWRAP): %w",
			signer.ErrUnsupported, errors.Join(wrapErr, sealErr))
	}
	return nil
}

// probeSealing sets k.seals if the token encrypts with AES-GCM and decrypts that again.
func (k *key) probeSealing(p *probe) error {
	if !k.may.encrypt || !k.may.decrypt {
		return nil
	}
	secret, aad := probeSecret(), []byte(probeMessage)
	var out []byte
	err := p.run(func(s *session, h p11.ObjectHandle) (err error) {
		out, err = k.seal(s, h, aad, secret)
		return err
	})
	if err != nil {
		return err
	}

	iv, sealed := out[:signer.GCMIVSize], out[signer.GCMIVSize:]
	open := func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return k.openSealed(s, h, cryptoki.GCM{IV: slices.Clone(iv), AAD: aad}, sealed)
	}
	err = p.run(func(s *session, h p11.ObjectHandle) error {
		got, err := open(s, h)
		if err == nil && !bytes.Equal(got, secret) {
			err = fmt.Errorf("%w: what it encrypts decrypts to something else", signer.ErrUnavailable)
		}
		return err
	})
	if err != nil {
		return err
	}

	k.seals = true
	k.addAlgs(signer.FamilyGCMKW)
	k.addAlgs(signer.FamilyDir)
	if k.sameSecret == nil {
		k.sameSecret = undoes(open)
	}
	return nil
}
