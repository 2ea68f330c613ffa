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

	"signetd/signer"
)

// An agreement is how a token wants to be asked for ECDH (CKM_ECDH1_DERIVE with
// CKD_NULL).
type agreement struct {
	form   pointForm
	object object // that the shared secret becomes, until it is read
}

// A pointForm is how a token wants the other side's point.
type pointForm int

const (
	barePoint pointForm = iota + 1 // uncompressed, as every token should take it (PKCS#11 2.40 Current Mechanisms section 2.3.9)
	derPoint                       // the same in a DER OCTET STRING
)

func (f pointForm) encode(peer *ecdh.PublicKey) ([]byte, error) {
	if f == derPoint {
		return asn1.Marshal(peer.Bytes())
	}
	return peer.Bytes(), nil
}

// agreeing is the half of a key that implements signer.Agreer.
type agreeing struct{ k *key }

// AgreeContext agrees on a secret; see [signer.Agreer].
func (a agreeing) AgreeContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	own, err := a.k.ecdh()
	if err != nil {
		return nil, err
	}
	if peer == nil || peer.Curve() != own.Curve() {
		return nil, signer.ErrDecrypt
	}
	return a.k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return a.k.agree(s, h, a.k.agreement, peer)
	})
}

// ecdh is the public half as ECDH has it.
func (k *key) ecdh() (*ecdh.PublicKey, error) {
	pub, ok := k.public.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: ECDH with a key of type %T", signer.ErrUnsupported, k.public)
	}
	return pub.ECDH()
}

// agree agrees with a peer on the curve of k. The shared secret is a session
// object until it is read. CKA_ALWAYS_AUTHENTICATE is about signatures and
// decryption (PKCS#11 2.40 section 4.9), not about this.
func (k *key) agree(s *session, h p11.ObjectHandle, a agreement, peer *ecdh.PublicKey) ([]byte, error) {
	point, err := a.form.encode(peer)
	if err != nil {
		return nil, err
	}
	z := make([]byte, k.fieldSize())
	n, err := s.derive(h, a.object, point, z)
	switch {
	case err != nil:
		return nil, err
	case n == len(z):
		return z, nil
	case n == 0:
		return nil, fmt.Errorf("%w: pkcs11: the token agreed on an empty secret", signer.ErrUnavailable)
	}
	defer clear(z)
	padded := make([]byte, len(z)) // a token may drop leading zeros
	copy(padded[len(z)-n:], z[:n])
	return padded, nil
}

func (k *key) fieldSize() int {
	pub, ok := k.public.(*ecdsa.PublicKey)
	if !ok {
		return 0
	}
	return coordinateSize(pub.Curve)
}

// proveAgreement finds a way in which the token agrees, with a key of our own as
// the other side.
func (k *key) proveAgreement(t *trial) error {
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
	for _, form := range []pointForm{barePoint, derPoint} {
		for _, o := range []object{{readable, len(want)}, {readable, 0}, {unsaid, len(want)}, {unsaid, 0}} {
			a := agreement{form, o}
			err := t.run(func(s *session, h p11.ObjectHandle) error { return k.proveAgreed(s, h, a, peer.PublicKey(), want) })
			if err == nil {
				k.agreement = a
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

func (k *key) proveAgreed(s *session, h p11.ObjectHandle, a agreement, peer *ecdh.PublicKey, want []byte) error {
	z, err := k.agree(s, h, a, peer)
	if err == nil && !bytes.Equal(z, want) {
		err = fmt.Errorf("%w: it agrees on another secret: the public half belongs to another key", signer.ErrInvalid)
	}
	clear(z)
	return err
}

// addAlgs adds the algorithms of a family that fit k.
func (k *key) addAlgs(f signer.Family) {
	for _, alg := range signer.Algs(k.public) {
		if alg.Family() == f {
			k.algs = append(k.algs, alg)
		}
	}
}
