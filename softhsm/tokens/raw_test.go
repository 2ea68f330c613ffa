//go:build linux && cgo

package tokens_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm/tokens"
)

// These tests check, through the binding alone, what the doc comments say of the tokens.

// A raw is a token with one session in it.
type raw struct {
	*p11.Ctx
	t     *testing.T
	token *tokens.Token
	slot  uint
	s     p11.SessionHandle
}

func openRaw(t *testing.T, token *tokens.Token) *raw {
	t.Helper()
	r := &raw{Ctx: p11.New(token.Module()), t: t, token: token}
	if r.Ctx == nil {
		t.Fatalf("%s does not load", token.Module())
	}
	r.initialize()
	t.Cleanup(func() { _ = r.Finalize() }) // fails if the connection is broken
	return r
}

func (r *raw) initialize() {
	r.t.Helper()
	r.check("C_Initialize", r.token.Initialize(r.Ctx))
	var err error
	r.slot, err = r.token.Slot(r.Ctx)
	r.check("find the token", err)
	r.s, err = r.OpenSession(r.slot, p11.CKF_SERIAL_SESSION)
	r.check("C_OpenSession", err)
}

func (r *raw) login() { r.t.Helper(); r.check("C_Login", r.Login(r.s, p11.CKU_USER, r.token.PIN())) }

func (r *raw) check(what string, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

func (r *raw) want(what string, got error, rv uint) {
	r.t.Helper()
	var err p11.Error
	if !errors.As(got, &err) || uint(err) != rv {
		r.t.Errorf("%s: %v, want 0x%x", what, got, rv)
	}
}

func (r *raw) find(class uint, label string) p11.ObjectHandle {
	r.t.Helper()
	r.check("C_FindObjectsInit", r.FindObjectsInit(r.s, []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_LABEL, label)}))
	found, _, err := r.FindObjects(r.s, 2)
	r.check("C_FindObjects", err)
	r.check("C_FindObjectsFinal", r.FindObjectsFinal(r.s))
	if len(found) != 1 {
		r.t.Fatalf("%d objects %q, want 1", len(found), label)
	}
	return found[0]
}

// public reads the public half of an RSA key.
func (r *raw) public(label string) *rsa.PublicKey {
	r.t.Helper()
	attrs, err := r.GetAttributeValue(r.s, r.find(p11.CKO_PUBLIC_KEY, label), []*p11.Attribute{p11.NewAttribute(p11.CKA_MODULUS, nil), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, nil)})
	r.check("C_GetAttributeValue", err)
	return &rsa.PublicKey{N: new(big.Int).SetBytes(attrs[0].Value), E: int(new(big.Int).SetBytes(attrs[1].Value).Int64())}
}

func (r *raw) sign(key p11.ObjectHandle, m *p11.Mechanism, data []byte) ([]byte, error) {
	r.t.Helper()
	r.check("C_SignInit", r.SignInit(r.s, []*p11.Mechanism{m}, key))
	return r.Sign(r.s, data)
}

func (r *raw) decrypt(key p11.ObjectHandle, m *p11.Mechanism, ct []byte) ([]byte, error) {
	r.t.Helper()
	r.check("C_DecryptInit", r.DecryptInit(r.s, []*p11.Mechanism{m}, key))
	return r.Decrypt(r.s, ct)
}

var (
	oaep256 = p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, p11.NewOAEPParams(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, p11.CKZ_DATA_SPECIFIED, nil))
	pss     = p11.NewPSSParams(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, sha256.Size)
)

// decryptsOAEP256 checks that the token itself decrypts RSA-OAEP-256.
func (r *raw) decryptsOAEP256(label string) {
	r.t.Helper()
	want := []byte("a content encryption key")
	ct, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, r.public(label), want, nil)
	r.check("encrypt", err)
	got, err := r.decrypt(r.find(p11.CKO_PRIVATE_KEY, label), oaep256, ct)
	if err != nil || !bytes.Equal(got, want) {
		r.t.Errorf("RSA-OAEP-256 decrypts to %q, %v", got, err)
	}
}

func TestNSS(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewNSS(t)
	for label, typ := range map[string]provision.KeyType{"p256": provision.ECP256, "p384": provision.ECP384, "p521": provision.ECP521, "sig": provision.RSA2048} {
		token.Generate(t, label, typ, signer.UseSig)
	}
	token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	r := openRaw(t, token)
	for range 5 { // it never locks
		r.want("C_Login with a wrong PIN", r.Login(r.s, p11.CKU_USER, "wrong"), p11.CKR_PIN_INCORRECT)
	}
	r.login()
	r.decryptsOAEP256("enc")
	digest := sha256.Sum256([]byte("x"))
	sig, err := r.sign(r.find(p11.CKO_PRIVATE_KEY, "sig"), p11.NewMechanism(p11.CKM_RSA_PKCS_PSS, pss), digest[:])
	r.check("C_Sign", err)
	if err := rsa.VerifyPSS(r.public("sig"), crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: sha256.Size}); err != nil {
		t.Error(err)
	}

	for label, size := range map[string]int{"p256": 64, "p384": 96, "p521": 132} {
		if sig, err = r.sign(r.find(p11.CKO_PRIVATE_KEY, label), p11.NewMechanism(p11.CKM_ECDSA, nil), digest[:]); err != nil || len(sig) != size {
			t.Errorf("%s: a signature of %d bytes, %v; want %d", label, len(sig), err, size)
		}
	}
}

func TestOpencryptoki(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewOpencryptoki(t)
	token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	r := openRaw(t, token)
	r.login()
	r.decryptsOAEP256("enc")
	r.check("C_Logout", r.Logout(r.s))
	r.want("the first wrong PIN", r.Login(r.s, p11.CKU_USER, "00000000"), p11.CKR_PIN_INCORRECT)
	r.want("the second wrong PIN", r.Login(r.s, p11.CKU_USER, "00000000"), p11.CKR_PIN_INCORRECT)
	_ = r.Login(r.s, p11.CKU_USER, "00000000") // the third locks
	r.want("the right PIN", r.Login(r.s, p11.CKU_USER, token.PIN()), p11.CKR_PIN_LOCKED)
}

// Nothing is left of the token of the test before, which was locked and had a key.
func TestOpencryptokiIsNew(t *testing.T) {
	if !runAlone(t) {
		return
	}
	r := openRaw(t, tokens.NewOpencryptoki(t))
	r.login()
	r.check("C_FindObjectsInit", r.FindObjectsInit(r.s, nil))
	if found, _, err := r.FindObjects(r.s, 10); err != nil || len(found) != 0 {
		t.Errorf("%d objects in a new token, %v", len(found), err)
	}
}

func TestTPM(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewTPM(t)
	token.Generate(t, "sig", provision.RSA2048, signer.UseSig)
	token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	r := openRaw(t, token)
	r.login()
	r.decryptsOAEP256("enc")

	message := []byte("x")
	digest := sha256.Sum256(message)
	key := r.find(p11.CKO_PRIVATE_KEY, "sig")
	sig, err := r.sign(key, p11.NewMechanism(p11.CKM_SHA256_RSA_PKCS_PSS, pss), message)
	r.check("C_Sign of a message", err)
	if err := rsa.VerifyPSS(r.public("sig"), crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}); err != nil {
		t.Error(err)
	}
	_, err = r.sign(key, p11.NewMechanism(p11.CKM_RSA_PKCS_PSS, pss), digest[:])
	r.want("C_Sign of a digest with PSS", err, p11.CKR_MECHANISM_INVALID)

	// A failed C_Decrypt stays active (against PKCS#11 v2.40, section 5.9.2).
	r.check("C_CloseSession", r.CloseSession(r.s))
	r.s, err = r.OpenSession(r.slot, p11.CKF_SERIAL_SESSION)
	r.check("C_OpenSession", err)
	r.login()
	enc := r.find(p11.CKO_PRIVATE_KEY, "enc")
	if _, err := r.decrypt(enc, oaep256, make([]byte, 256)); err == nil {
		t.Error("zeros decrypt")
	}
	r.want("C_DecryptInit after a failed C_Decrypt", r.DecryptInit(r.s, []*p11.Mechanism{oaep256}, enc), p11.CKR_OPERATION_ACTIVE)

	opened := 1
	for ; err == nil && opened < 2000; opened++ {
		_, err = r.OpenSession(r.slot, p11.CKF_SERIAL_SESSION)
	}
	r.want("C_OpenSession", err, p11.CKR_SESSION_COUNT)
	if opened-1 != 1024 {
		t.Errorf("%d sessions, want 1024", opened-1)
	}
}

func TestP11KitCut(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewP11Kit(t)
	token.Generate(t, "k", provision.ECP256, signer.UseSig)
	r := openRaw(t, token)
	for range 3 {
		r.login()
		if _, err := r.sign(r.find(p11.CKO_PRIVATE_KEY, "k"), p11.NewMechanism(p11.CKM_ECDSA, nil), make([]byte, 32)); err != nil {
			t.Fatal(err)
		}
		token.Cut(t)
		_, err := r.GetSessionInfo(r.s)
		r.want("C_GetSessionInfo", err, p11.CKR_DEVICE_ERROR)
		_, err = r.OpenSession(r.slot, p11.CKF_SERIAL_SESSION)
		r.want("C_OpenSession", err, p11.CKR_DEVICE_ERROR)
		_ = r.Finalize() // fails: the connection is gone
		r.initialize()
	}
}
