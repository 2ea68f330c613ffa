//go:build linux && cgo

package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/ThalesGroup/crypto11"
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

func newTokenTarget(module, token, pin, label, alg string) (*tokenTarget, error) {
	ctx := p11.New(module)
	if ctx == nil {
		return nil, fmt.Errorf("%s cannot be loaded", module)
	}
	if err := ctx.Initialize(); err != nil {
		return nil, err
	}
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return nil, err
	}
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		if err != nil || info.Label != token {
			continue
		}
		t := &tokenTarget{ctx: ctx, slot: slot, label: label, alg: alg}
		s, err := t.open()
		if err != nil {
			return nil, err
		}
		if err := ctx.Login(s, p11.CKU_USER, pin); err != nil && !errors.Is(err, p11.Error(p11.CKR_USER_ALREADY_LOGGED_IN)) {
			return nil, err
		}
		return t, t.prepare(s)
	}
	return nil, fmt.Errorf("no token %q", token)
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

// A crypto11Target uses the token in its own process through crypto11.
type crypto11Target struct {
	key crypto11.Signer
	alg string
}

func newCrypto11Target(module, token, pin, label, alg string) (*crypto11Target, error) {
	ctx, err := crypto11.Configure(&crypto11.Config{Path: module, TokenLabel: token, Pin: pin, MaxSessions: 64})
	if err != nil {
		return nil, err
	}
	key, err := ctx.FindKeyPair(nil, []byte(label))
	if err != nil {
		return nil, err
	}
	return &crypto11Target{key: key, alg: alg}, nil
}

func (t *crypto11Target) weight() int { return 1 }

// close leaves the module to the end of the process.
func (t *crypto11Target) close() error { return nil }

// client implements target.
func (t *crypto11Target) client(i int) (func() error, error) {
	opts := crypto.SignerOpts(crypto.SHA256)
	if t.alg == "PS256" {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	message := signingInput(i)
	var n uint64
	return func() error {
		n++
		binary.BigEndian.PutUint64(message, n)
		d := sha256.Sum256(message)
		_, err := t.key.Sign(rand.Reader, d[:], opts)
		return err
	}, nil
}
