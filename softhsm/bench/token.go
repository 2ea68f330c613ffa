//go:build linux && cgo

package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	p11 "github.com/miekg/pkcs11"
)

// A tokenTarget uses the token in its own process through miekg/pkcs11: a session a
// client, the handle found once, the digest made in Go. It is the reference: what
// the token can do.
type tokenTarget struct {
	ctx    *p11.Ctx
	slot   uint
	label  string
	alg    string
	cipher []byte // for RSA-OAEP-256
}

func newTokenTarget(j job) (*tokenTarget, error) {
	t := &tokenTarget{label: j.Key, alg: j.Alg}
	s, err := t.login(j)
	if err != nil {
		return nil, err
	}
	return t, t.prepare(s)
}

// login loads the module and logs in to the token, and returns a session.
func (t *tokenTarget) login(j job) (p11.SessionHandle, error) {
	t.ctx = p11.New(j.Module)
	if t.ctx == nil {
		return 0, fmt.Errorf("%s cannot be loaded", j.Module)
	}
	if err := t.ctx.Initialize(); err != nil {
		return 0, err
	}
	slots, err := t.ctx.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, t.slot = range slots {
		info, err := t.ctx.GetTokenInfo(t.slot)
		if err != nil || info.Label != j.Token {
			continue
		}
		s, err := t.open()
		if err != nil {
			return 0, err
		}
		if err := t.ctx.Login(s, p11.CKU_USER, j.PIN); err != nil && !errors.Is(err, p11.Error(p11.CKR_USER_ALREADY_LOGGED_IN)) {
			return 0, err
		}
		return s, nil
	}
	return 0, fmt.Errorf("no token %q", j.Token)
}

func (t *tokenTarget) weight() int { return 1 }

// close leaves the module to the end of the process.
func (t *tokenTarget) close() error { return nil }

func (t *tokenTarget) open() (p11.SessionHandle, error) {
	return t.ctx.OpenSession(t.slot, p11.CKF_SERIAL_SESSION)
}

func (t *tokenTarget) find(s p11.SessionHandle, class uint) (p11.ObjectHandle, error) {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_LABEL, t.label)}
	if err := t.ctx.FindObjectsInit(s, template); err != nil {
		return 0, err
	}
	found, _, err := t.ctx.FindObjects(s, 2)
	if err := errors.Join(err, t.ctx.FindObjectsFinal(s)); err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d keys %q", len(found), t.label)
	}
	return found[0], nil
}

// prepare makes the ciphertext that clients decrypt.
func (t *tokenTarget) prepare(s p11.SessionHandle) error {
	if t.alg != "RSA-OAEP-256" {
		return nil
	}
	h, err := t.find(s, p11.CKO_PRIVATE_KEY)
	if err != nil {
		return err
	}
	attrs, err := t.ctx.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_MODULUS, nil), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, nil)})
	if err != nil {
		return err
	}
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(attrs[0].Value), E: int(new(big.Int).SetBytes(attrs[1].Value).Int64())}
	t.cipher, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, make([]byte, 32), nil)
	return err
}

// client implements target.
func (t *tokenTarget) client(i int) (func() error, error) {
	s, err := t.open()
	if err != nil {
		return nil, err
	}
	h, err := t.find(s, p11.CKO_PRIVATE_KEY)
	if err != nil {
		return nil, err
	}
	if t.alg == "RSA-OAEP-256" { // SoftHSM2 has it with SHA-1 only: the raw operation, as signetd does it
		m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_X_509, nil)}
		return func() error {
			if err := t.ctx.DecryptInit(s, m, h); err != nil {
				return err
			}
			_, err := t.ctx.Decrypt(s, t.cipher)
			return err
		}, nil
	}
	m, input, err := signInput(t.alg)
	if err != nil {
		return nil, err
	}
	message := signingInput(i)
	var n uint64
	return func() error {
		n++
		binary.BigEndian.PutUint64(message, n) // another each time, as tokens are
		if err := t.ctx.SignInit(s, m, h); err != nil {
			return err
		}
		_, err := t.ctx.Sign(s, input(message))
		return err
	}, nil
}

// signingInput is about as long as a small JWT's.
func signingInput(i int) []byte {
	message := make([]byte, 300)
	binary.BigEndian.PutUint64(message[8:], uint64(i)) // #nosec G115 -- a small number
	return message
}

// sha256Info precedes a SHA-256 digest in PKCS #1 v1.5 (RFC 8017 section 9.2).
var sha256Info = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// signInput returns the mechanism of alg and what it signs of a message.
func signInput(alg string) ([]*p11.Mechanism, func([]byte) []byte, error) {
	digest := func(message []byte) []byte { d := sha256.Sum256(message); return d[:] }
	switch alg {
	case "ES256":
		return []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}, digest, nil
	case "RS256":
		return []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS, nil)},
			func(message []byte) []byte { return append(append([]byte(nil), sha256Info...), digest(message)...) }, nil
	case "PS256":
		return []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_PSS, p11.NewPSSParams(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, 32))}, digest, nil
	case "EdDSA":
		const ckmEDDSA = 0x1057
		return []*p11.Mechanism{p11.NewMechanism(ckmEDDSA, nil)}, func(message []byte) []byte { return message }, nil
	default:
		return nil, nil, fmt.Errorf("no mechanism for %s", alg)
	}
}
