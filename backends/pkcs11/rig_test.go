//go:build cgo

package pkcs11_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/softhsm"
	"signetd/softhsm/faultp11"
)

// A rig is a SoftHSM2 token behind the fault module, with a backend of one session, and a
// session that is not the backend's.
type rig struct {
	f   *faultp11.Module
	b   *pkcs11.Backend
	raw rawSession
	cfg pkcs11.Config
}

func newRig(t *testing.T) rig {
	t.Helper()
	token := softhsm.New(t)
	f := faultp11.New(t, token.Module())
	cfg := token.Config()
	cfg.Module, cfg.Sessions = f.Module(), 1
	b := mustOpen(t, cfg)
	return rig{f, b, openRaw(t, token), cfg} // openRaw uses the library that the fault module forwards to
}

// holding opens another backend, with hold_cek.
func (r rig) holding(t *testing.T) *pkcs11.Backend {
	t.Helper()
	r.cfg.HoldCEK = true
	return mustOpen(t, r.cfg)
}

// secret makes a secret key of a known value.
func (r rawSession) secret(keyType uint, label, id string, value []byte, more attrs) p11.ObjectHandle {
	r.t.Helper()
	a := attrs{
		p11.CKA_CLASS: p11.CKO_SECRET_KEY, p11.CKA_KEY_TYPE: keyType, p11.CKA_VALUE: value,
		p11.CKA_PRIVATE: true, p11.CKA_SENSITIVE: true, p11.CKA_EXTRACTABLE: false,
	}
	for typ, v := range more {
		a[typ] = v
	}
	return r.create(a.name(label, id))
}

func (r rawSession) create(a attrs) p11.ObjectHandle {
	r.t.Helper()
	h, err := r.ctx.CreateObject(r.s, a.list())
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

// aesUses allows all that an AES key can do.
func aesUses() attrs {
	return attrs{p11.CKA_ENCRYPT: true, p11.CKA_DECRYPT: true, p11.CKA_WRAP: true, p11.CKA_UNWRAP: true}
}

// importRSA makes an RSA key whose private half the test has, too.
func (r rawSession) importRSA(label string, more attrs) *rsa.PrivateKey {
	r.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		r.t.Fatal(err)
	}
	a := attrs{
		p11.CKA_CLASS: p11.CKO_PRIVATE_KEY, p11.CKA_KEY_TYPE: p11.CKK_RSA, p11.CKA_PRIVATE: true, p11.CKA_SENSITIVE: true,
		p11.CKA_MODULUS: key.N.Bytes(), p11.CKA_PUBLIC_EXPONENT: []byte{1, 0, 1}, p11.CKA_PRIVATE_EXPONENT: key.D.Bytes(),
		p11.CKA_PRIME_1: key.Primes[0].Bytes(), p11.CKA_PRIME_2: key.Primes[1].Bytes(), p11.CKA_EXPONENT_1: key.Precomputed.Dp.Bytes(),
		p11.CKA_EXPONENT_2: key.Precomputed.Dq.Bytes(), p11.CKA_COEFFICIENT: key.Precomputed.Qinv.Bytes(),
		p11.CKA_SIGN: false,
	}

	for typ, v := range more {
		a[typ] = v
	}
	r.create(a.name(label, label))
	return key
}

// importEC is importRSA for a key that agrees.
func (r rawSession) importEC(label string, curve elliptic.Curve, oid []byte) *ecdsa.PrivateKey {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}

	value, err := key.Bytes()
	if err != nil {
		r.t.Fatal(err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		r.t.Fatal(err)
	}
	point, err := asn1.Marshal(public)
	if err != nil {
		r.t.Fatal(err)
	}

	r.create(attrs{
		p11.CKA_CLASS: p11.CKO_PRIVATE_KEY, p11.CKA_KEY_TYPE: p11.CKK_EC, p11.CKA_PRIVATE: true, p11.CKA_SENSITIVE: true,
		p11.CKA_EC_PARAMS: oid, p11.CKA_VALUE: value, p11.CKA_SIGN: false, p11.CKA_DERIVE: true,
	}.name(label, label))
	r.create(attrs{p11.CKA_CLASS: p11.CKO_PUBLIC_KEY, p11.CKA_KEY_TYPE: p11.CKK_EC, p11.CKA_EC_PARAMS: oid, p11.CKA_EC_POINT: point}.name(label, label))
	return key
}

// wantNoSessionKeys checks that no secret session object is left in the process: each
// session sees those of all sessions.
func (r rawSession) wantNoSessionKeys() {
	r.t.Helper()
	template := attrs{p11.CKA_CLASS: p11.CKO_SECRET_KEY, p11.CKA_TOKEN: false}.list()
	if err := r.ctx.FindObjectsInit(r.s, template); err != nil {
		r.t.Fatal(err)
	}
	found, _, err := r.ctx.FindObjects(r.s, 100)
	if end := r.ctx.FindObjectsFinal(r.s); err == nil {
		err = end
	}
	if err != nil || len(found) != 0 {
		r.t.Errorf("%d secret keys are left in the session, %v", len(found), err)
	}
}
