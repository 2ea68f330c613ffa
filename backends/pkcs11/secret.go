//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// macing is the half of a key that implements signer.MACer.
type macing struct{ k *key }

// MACContext makes a MAC; see [signer.MACer].
func (m macing) MACContext(ctx context.Context, message []byte, hash crypto.Hash) ([]byte, error) {
	alg, err := signer.CheckMAC(m.k.public, hash)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(m.k.algs, alg) {
		return nil, fmt.Errorf("%w: the token makes no MACs of %s with this key", signer.ErrUnsupported, alg)
	}
	message = bytes.Clone(message) // the token may read it after the caller has left
	return m.k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return m.k.mac(s, h, hash, message)
	})
}

func (k *key) mac(s *session, h p11.ObjectHandle, hash crypto.Hash, message []byte) ([]byte, error) {
	out := make([]byte, hash.Size())
	m := mechanism{typ: tokenHashes[hash].hmac}
	n, err := k.withPIN(func(pin []byte) (int, error) { return s.sign(m, h, pin, message, out) })
	if err != nil {
		return nil, err
	}
	return exactly(out, n, len(out))
}

// proveMAC makes a MAC with each hash that the key is long enough for.
func (k *key) proveMAC(t *trial) error {
	if !k.may.sign {
		return fmt.Errorf("%w: the token does not let the key make MACs (CKA_SIGN)", signer.ErrUnsupported)
	}
	var refusals []error
	for _, alg := range signer.Algs(k.public) {
		var mac []byte
		err := t.run(func(s *session, h p11.ObjectHandle) (err error) {
			mac, err = k.mac(s, h, alg.Hash(), []byte(proofMessage))
			return err
		})
		switch {
		case err == nil && k.sample == nil:
			k.sample = digestOf(crypto.SHA256, mac)
			fallthrough
		case err == nil:
			k.algs = append(k.algs, alg)
		case lacks(err):
			refusals = append(refusals, fmt.Errorf("mac %s: %w", alg, err))
		default:
			return fmt.Errorf("mac %s: %w", alg, err)
		}
	}
	if len(k.algs) == 0 {
		return errors.Join(refusals...)
	}
	return nil
}

// proveAES finds the ways in which the key wraps keys and encrypts. A key that
// does one direction alone is of no use: nobody but the key itself could make what
// it is to open, or open what it made.
func (k *key) proveAES(t *trial) error {
	wraps, err := k.proveWrapping(t)
	if final(err) {
		return fmt.Errorf("wrap: %w", err)
	}
	k.wraps = wraps
	if len(wraps[signer.WrapRFC3394].sample) > 0 {
		k.addAlgs(signer.FamilyAESKW)
		k.sample = wraps[signer.WrapRFC3394].sample
	}
	sealErr := k.proveSealing(t)
	if final(sealErr) {
		return fmt.Errorf("encrypt: %w", sealErr)
	}
	if k.seals {
		k.addAlgs(signer.FamilyGCMKW)
		k.addAlgs(signer.FamilyDir)
	}
	if len(k.algs) == 0 {
		return fmt.Errorf("%w: the token neither wraps keys with this one nor encrypts by AES-GCM, in both directions (CKA_ENCRYPT and CKA_DECRYPT, or CKA_WRAP and CKA_UNWRAP): %w",
			signer.ErrUnsupported, errors.Join(err, sealErr))
	}
	return nil
}

// sameSecret returns an error if a secret key is not the one that was open. There
// is no public half to compare, and check values of tokens differ or are absent. So
// the key must make the same MAC of the same message, or undo what it did when it
// was opened, which no other key can.
func (k *key) sameSecret(s *session, h p11.ObjectHandle) error {
	var err error
	switch {
	case k.public.(signer.Secret).Type == signer.SecretHMAC:
		var mac []byte
		mac, err = k.mac(s, h, k.algs[0].Hash(), []byte(proofMessage))
		if err == nil && subtle.ConstantTimeCompare(digestOf(crypto.SHA256, mac), k.sample) != 1 {
			err = errAnotherKey
		}
	case len(k.wraps) > 0:
		_, err = k.unwrapKey(s, h, signer.WrapRFC3394, k.wraps[signer.WrapRFC3394], k.sample)
	default:
		_, err = k.openSealed(s, h, gcm{k.sample[:signer.GCMIVSize], []byte(proofMessage)}, k.sample[signer.GCMIVSize:])
	}
	if errors.Is(err, signer.ErrDecrypt) {
		return errAnotherKey
	}
	return err
}

// proofKey is what a key wraps or encrypts when it is opened.
func proofKey() []byte {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	return key
}
