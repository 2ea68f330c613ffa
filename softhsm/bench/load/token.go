//go:build linux && cgo

package load

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

const oaep = "RSA-OAEP-256"

// A token uses the token in the worker's own process through miekg/pkcs11: one session
// for each client, the key's handle found once, the digest made in Go. It is the
// reference that everything else is measured beside.
type token struct {
	ctx    *p11.Ctx
	slot   uint
	label  string
	alg    string
	cipher []byte // for RSA-OAEP-256
}

func newToken(j Job) (*token, error) {
	t := &token{label: j.Key, alg: j.Alg}
	s, err := t.login(j)
	if err != nil || t.alg != oaep {
		return t, err
	}

	h, err := t.find(s)
	if err != nil {
		return nil, err
	}
	attrs, err := t.ctx.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_MODULUS, nil), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, nil)})
	if err != nil {
		return nil, err
	}
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(attrs[0].Value), E: int(new(big.Int).SetBytes(attrs[1].Value).Int64())}
	t.cipher, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, make([]byte, 32), nil)
	return t, err
}

// login loads the module, logs in to the token, and returns a session.
func (t *token) login(j Job) (p11.SessionHandle, error) {
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

func (t *token) Weight() int { return 1 }

// Close leaves the module to the end of the process.
func (t *token) Close() error { return nil }

func (t *token) open() (p11.SessionHandle, error) {
	return t.ctx.OpenSession(t.slot, p11.CKF_SERIAL_SESSION)
}

// find returns the handle of the private key.
func (t *token) find(s p11.SessionHandle) (p11.ObjectHandle, error) {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_LABEL, t.label)}
	if err := t.ctx.FindObjectsInit(s, template); err != nil {
		return 0, err
	}
	found, _, err := t.ctx.FindObjects(s, 2)
	if err := errors.Join(err, t.ctx.FindObjectsFinal(s)); err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("the token has %d private keys %q, not one", len(found), t.label)
	}
	return found[0], nil
}

// Client implements [Target].
func (t *token) Client(i int) (func() error, error) {
	s, err := t.open()
	if err != nil {
		return nil, err
	}
	h, err := t.find(s)
	if err != nil {
		return nil, err
	}

	// SoftHSM2 has OAEP with SHA-1 only, so signetd asks it for the raw operation and
	// removes the padding itself.
	if t.alg == oaep {
		m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_X_509, nil)}
		return func() error {
			if err := t.ctx.DecryptInit(s, m, h); err != nil {
				return err
			}
			_, err := t.ctx.Decrypt(s, t.cipher)
			return err
		}, nil
	}

	m, input, err := mechanism(t.alg)
	if err != nil {
		return nil, err
	}
	message := SigningInput(i)
	var n uint64
	return func() error {
		n++
		binary.BigEndian.PutUint64(message, n) // another message each time, as JWTs are
		if err := t.ctx.SignInit(s, m, h); err != nil {
			return err
		}
		_, err := t.ctx.Sign(s, input(message))
		return err
	}, nil
}

// SigningInput returns 300 bytes, which is about the length of a small JWT.
func SigningInput(i int) []byte {
	message := make([]byte, 300)
	binary.BigEndian.PutUint64(message[8:], uint64(i)) // #nosec G115 -- a small number
	return message
}

// sha256Info precedes a SHA-256 digest in PKCS #1 v1.5 (RFC 8017 section 9.2).
var sha256Info = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// mechanism returns the mechanism of alg, and a function that makes its input from a
// message.
func mechanism(alg string) ([]*p11.Mechanism, func([]byte) []byte, error) {
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
		const ckmEDDSA = 0x1057 // PKCS#11 v3.0, which miekg/pkcs11 does not name
		return []*p11.Mechanism{p11.NewMechanism(ckmEDDSA, nil)}, func(message []byte) []byte { return message }, nil
	default:
		return nil, nil, fmt.Errorf("no mechanism for %s", alg)
	}
}

// p256 is the object identifier of the curve P-256 in DER (RFC 5480 section 2.1.1.1).
var p256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

// Fill makes a P-256 key pair for each of the job's labels in one session. `signetd hsm
// keygen` would need a process and a login for each.
func Fill(j Job) error {
	t := &token{}
	if _, err := t.login(j); err != nil {
		return err
	}
	s, err := t.ctx.OpenSession(t.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return err
	}

	for i, label := range j.Labels {
		name := []*p11.Attribute{
			p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_ID, fmt.Appendf(nil, "more%d", i)), p11.NewAttribute(p11.CKA_TOKEN, true),
		}
		public := append(name[:len(name):len(name)], p11.NewAttribute(p11.CKA_EC_PARAMS, p256), p11.NewAttribute(p11.CKA_VERIFY, true))
		private := append(name[:len(name):len(name)], p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SENSITIVE, true),
			p11.NewAttribute(p11.CKA_EXTRACTABLE, false), p11.NewAttribute(p11.CKA_SIGN, true))
		if _, _, err := t.ctx.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}, public, private); err != nil {
			return errors.Join(fmt.Errorf("key %d: %w", i, err), t.ctx.CloseSession(s))
		}
	}
	return t.ctx.CloseSession(s)
}
