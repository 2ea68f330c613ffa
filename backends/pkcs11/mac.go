//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
)

// macing is a key that implements signer.MACer.
type macing struct{ *key }

var _ signer.MACer = macing{}

// MACContext makes a MAC; see [signer.MACer].
func (m macing) MACContext(ctx context.Context, message []byte, hash crypto.Hash) ([]byte, error) {
	alg, err := signer.CheckMAC(m.public, hash)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(m.algs, alg) {
		return nil, fmt.Errorf("%w: the token makes no MACs of %s with this key", signer.ErrUnsupported, alg)
	}

	message = bytes.Clone(message) // the token may read it after the caller has left
	return m.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return m.mac(s, h, hash, message)
	})
}

func (k *key) mac(s *session, h p11.ObjectHandle, hash crypto.Hash, message []byte) ([]byte, error) {
	out := make([]byte, hash.Size())
	m := cryptoki.NewMechanism(cryptoki.Hashes[hash].HMAC)
	n, err := k.withPIN(func(pin []byte) (int, error) { return s.Sign(m, h, pin, message, out) })
	if err != nil {
		return nil, err
	}
	return exactly(out, n, len(out))
}

// probeMAC makes a MAC with each hash that the key is long enough for.
func (k *key) probeMAC(p *probe) error {
	if !k.may.sign {
		return fmt.Errorf("%w: the token does not let the key make MACs (CKA_SIGN)", signer.ErrUnsupported)
	}

	var refusals []error
	for _, alg := range signer.Algs(k.public) {
		var mac []byte
		err := p.run(func(s *session, h p11.ObjectHandle) (err error) {
			mac, err = k.mac(s, h, alg.Hash(), []byte(probeMessage))
			return err
		})
		switch {
		case err == nil:
			k.algs = append(k.algs, alg)
			if k.sameSecret == nil {
				k.sameSecret = k.makesAgain(alg.Hash(), mac)
			}
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

// makesAgain returns a check that a secret key is the one that was opened: it must make
// the MAC again that that one made. It keeps the MAC's digest, not the MAC.
func (k *key) makesAgain(hash crypto.Hash, mac []byte) func(*session, p11.ObjectHandle) error {
	was := digestOf(crypto.SHA256, mac)
	return func(s *session, h p11.ObjectHandle) error {
		mac, err := k.mac(s, h, hash, []byte(probeMessage))
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(digestOf(crypto.SHA256, mac), was) != 1 {
			return errAnotherKey
		}
		return nil
	}
}
