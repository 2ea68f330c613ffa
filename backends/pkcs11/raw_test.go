//go:build cgo

package pkcs11_test

import (
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/softhsm"
)

// A rawSession makes objects that no careful tool makes. It is logged in while a Backend is
// open on the token, since PKCS#11 logs in whole processes.
type rawSession struct {
	t   *testing.T
	ctx *p11.Ctx
	s   p11.SessionHandle
}

// openRaw opens a session beside those of an open Backend.
func openRaw(t *testing.T, token *softhsm.Token) rawSession {
	t.Helper()
	ctx := p11.New(token.Module())
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}

	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		if err != nil || info.Label != token.Label() {
			continue
		}
		s, err := ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ctx.CloseSession(s) })
		return rawSession{t, ctx, s}
	}
	t.Fatalf("no token %q", token.Label())
	return rawSession{}
}

type attrs map[uint]any

func (a attrs) list() []*p11.Attribute {
	var list []*p11.Attribute
	for typ, v := range a {
		list = append(list, p11.NewAttribute(typ, v))
	}
	return list
}

// name returns the attributes that every key of these tests has, and more.
func (a attrs) name(label, id string) attrs {
	a[p11.CKA_LABEL], a[p11.CKA_ID], a[p11.CKA_TOKEN] = label, []byte(id), true
	return a
}

var (
	oidP256      = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	oidP224      = []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21}
	oidSecp256k1 = []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a}
)

func (r rawSession) ec(oid []byte, label, id string, private attrs) (pub, priv p11.ObjectHandle) {
	r.t.Helper()
	public := attrs{p11.CKA_EC_PARAMS: oid, p11.CKA_VERIFY: true}.name(label, id)
	return r.generate(p11.CKM_EC_KEY_PAIR_GEN, public, private.name(label, id))
}

func (r rawSession) rsa(bits int, label, id string, private attrs) (pub, priv p11.ObjectHandle) {
	r.t.Helper()
	public := attrs{p11.CKA_MODULUS_BITS: bits, p11.CKA_PUBLIC_EXPONENT: []byte{1, 0, 1}}.name(label, id)
	return r.generate(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, public, private.name(label, id))
}

func (r rawSession) generate(mechanism uint, public, private attrs) (pub, priv p11.ObjectHandle) {
	r.t.Helper()
	private[p11.CKA_PRIVATE], private[p11.CKA_SENSITIVE] = true, true
	pub, priv, err := r.ctx.GenerateKeyPair(r.s, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, public.list(), private.list())
	if err != nil {
		r.t.Fatal(err)
	}
	return pub, priv
}

func (r rawSession) destroy(objects ...p11.ObjectHandle) {
	r.t.Helper()
	for _, o := range objects {
		if err := r.ctx.DestroyObject(r.s, o); err != nil {
			r.t.Fatal(err)
		}
	}
}
