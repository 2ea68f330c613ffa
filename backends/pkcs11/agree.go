//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
)

// agreeing is a key that implements signer.Agreer.
type agreeing struct{ *key }

var _ signer.Agreer = agreeing{}

// AgreeContext agrees on a secret; see [signer.Agreer].
func (a agreeing) AgreeContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	own, err := a.ecdh()
	if err != nil {
		return nil, err
	}
	if peer == nil || peer.Curve() != own.Curve() {
		return nil, signer.ErrDecrypt
	}
	return a.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return a.agree(s, h, a.agrees, peer)
	})
}

// ecdh returns the public half in the type of package ecdh.
func (k *key) ecdh() (*ecdh.PublicKey, error) {
	pub, ok := k.public.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: ECDH with a key of type %T", signer.ErrUnsupported, k.public)
	}
	return pub.ECDH()
}

// agree agrees with a peer on the curve of k, and returns the x coordinate as RFC 7518
// section 4.6 wants it, with its leading zeros.
func (k *key) agree(s *session, h p11.ObjectHandle, strategy agreeStrategy, peer *ecdh.PublicKey) ([]byte, error) {
	point := peer.Bytes()
	if strategy.point == derPoint {
		var err error
		if point, err = asn1.Marshal(point); err != nil {
			return nil, err
		}
	}

	// Without the PIN: CKA_ALWAYS_AUTHENTICATE is about signatures and decryption
	// (PKCS#11 2.40 section 4.9), not about this.
	z := make([]byte, len(peer.Bytes())/2) // of a point 0x04 || x || y
	n, err := s.Derive(h, strategy.object, point, z)
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, fmt.Errorf("%w: pkcs11: the token agreed on an empty secret", signer.ErrUnavailable)
	case n < len(z):
		return padLeft(z, n), nil
	default:
		return z, nil
	}
}

// probeAgreement finds a strategy by which the token agrees with a peer whose private half
// is known here.
func (k *key) probeAgreement(p *probe) error {
	own, err := k.ecdh()
	if err != nil {
		return err
	}
	peer, err := own.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := peer.ECDH(own)
	if err != nil {
		return err
	}

	var refusals []error
	for _, point := range []pointForm{barePoint, derPoint} {
		for _, o := range []cryptoki.Object{
			{Access: cryptoki.Readable, Size: len(want)}, {Access: cryptoki.Readable},
			{Access: cryptoki.Unspecified, Size: len(want)}, {Access: cryptoki.Unspecified},
		} {
			strategy := agreeStrategy{point, o}
			err := p.run(func(s *session, h p11.ObjectHandle) error {
				z, err := k.agree(s, h, strategy, peer.PublicKey())
				if err == nil && !bytes.Equal(z, want) {
					err = fmt.Errorf("%w: it agrees on another secret: the public half belongs to another key", signer.ErrInvalid)
				}
				clear(z)
				return err
			})
			if err == nil {
				k.agrees = strategy
				k.addAlgs(signer.FamilyECDH)
				return nil
			}
			if final(err) {
				return fmt.Errorf("agree: %w", err)
			}
			refusals = append(refusals, err)
		}
	}
	return fmt.Errorf("%w: the token does not agree on a secret that may be read (CKM_ECDH1_DERIVE): %w", signer.ErrUnsupported, errors.Join(refusals...))
}
