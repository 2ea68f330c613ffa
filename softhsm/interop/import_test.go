//go:build cgo

package interop_test

import (
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
	"signetd/softhsm"
)

// importKeys creates keys in a token with C_CreateObject and returns their refs. The
// attributes are those of `signetd hsm keygen`: sensitive, not extractable, one use. It
// initialises and finalizes the module in this process; daemons are other processes.
func importKeys(t testing.TB, token *softhsm.Token, keys []key) []string {
	t.Helper()
	ctx := p11.New(token.Module())
	if ctx == nil {
		t.Fatalf("cannot load %s", token.Module())
	}
	defer ctx.Destroy()

	must(t, "C_Initialize", ctx.Initialize())
	defer func() { must(t, "C_Finalize", ctx.Finalize()) }()
	s := login(t, ctx, token)
	var refs []string
	for i, k := range keys {
		label := fmt.Sprintf("key-%d", i)
		for _, object := range objects(t, k) {
			object = append(object, p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_ID, []byte(label)))
			_, err := ctx.CreateObject(s, object)
			must(t, "C_CreateObject of key "+k.name, err)
		}
		class := "private"
		if k.algs[0].Symmetric() {
			class = "secret-key"
		}
		refs = append(refs, "pkcs11:object="+label+";type="+class)
	}

	return refs
}

func login(t testing.TB, ctx *p11.Ctx, token *softhsm.Token) p11.SessionHandle {
	t.Helper()
	slots, err := ctx.GetSlotList(true)
	must(t, "C_GetSlotList", err)
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		must(t, "C_GetTokenInfo", err)
		if info.Label != token.Label() {
			continue
		}
		s, err := ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		must(t, "C_OpenSession", err)
		pin, err := os.ReadFile(token.PINFile())
		must(t, "PIN", err)
		must(t, "C_Login", ctx.Login(s, p11.CKU_USER, strings.TrimSpace(string(pin))))
		return s
	}

	t.Fatalf("no token %q", token.Label())
	return 0
}

func must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// ecParams are the CKA_EC_PARAMS of the curves (RFC 5480 section 2.1.1.1, RFC 8410
// section 3, SEC 2 section A.2).
var ecParams = map[any][]byte{
	"P-256":     {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07},
	"P-384":     {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22},
	"P-521":     {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23},
	"secp256k1": {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a},
	"Ed25519":   {0x06, 0x03, 0x2b, 0x65, 0x70},
}

// ckkECEdwards is CKK_EC_EDWARDS of PKCS#11 3.0, which package pkcs11 does not name.
const ckkECEdwards = 0x40

// objects returns the templates of a key: one for a secret key, two for a pair.
func objects(t testing.TB, k key) [][]*p11.Attribute {
	t.Helper()
	field := func(typ uint, name string) *p11.Attribute { return p11.NewAttribute(typ, member(t, k.jwk, name)) }
	secret := private(k)
	switch kty := k.jwk["kty"]; kty {
	case "RSA":
		return [][]*p11.Attribute{append(secret,
			p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_RSA),
			field(p11.CKA_MODULUS, "n"), field(p11.CKA_PUBLIC_EXPONENT, "e"), field(p11.CKA_PRIVATE_EXPONENT, "d"),
			field(p11.CKA_PRIME_1, "p"), field(p11.CKA_PRIME_2, "q"),
			field(p11.CKA_EXPONENT_1, "dp"), field(p11.CKA_EXPONENT_2, "dq"), field(p11.CKA_COEFFICIENT, "qi"))}
	case "EC", "OKP":
		typ, point := uint(p11.CKK_EC), member(t, k.jwk, "x")
		if kty == "OKP" {
			typ = ckkECEdwards
		} else {
			point = append(append([]byte{4}, point...), member(t, k.jwk, "y")...)
		}
		der, err := asn1.Marshal(point)
		must(t, "CKA_EC_POINT", err)
		params := p11.NewAttribute(p11.CKA_EC_PARAMS, ecParams[k.jwk["crv"]])
		return [][]*p11.Attribute{
			append(secret, p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, typ), params, field(p11.CKA_VALUE, "d")),
			{
				p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, typ), p11.NewAttribute(p11.CKA_PRIVATE, false),
				p11.NewAttribute(p11.CKA_VERIFY, k.algs[0].Use() == signer.UseSig), params, p11.NewAttribute(p11.CKA_EC_POINT, der),
			},
		}
	default:
		typ := uint(p11.CKK_AES)
		if k.algs[0].Use() == signer.UseSig {
			typ = p11.CKK_GENERIC_SECRET
		}
		return [][]*p11.Attribute{append(secret, p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, typ), field(p11.CKA_VALUE, "k"))}
	}
}

// private returns the attributes that all private and secret keys have. A key has one use.
func private(k key) []*p11.Attribute {
	attrs := []*p11.Attribute{p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, false)}
	sig, ec, symmetric := k.algs[0].Use() == signer.UseSig, k.jwk["kty"] == "EC" || k.jwk["kty"] == "OKP", k.algs[0].Symmetric()
	for typ, on := range map[uint]bool{
		p11.CKA_SIGN: sig, p11.CKA_VERIFY: sig && symmetric, p11.CKA_DECRYPT: !sig && !ec, p11.CKA_UNWRAP: !sig && !ec,
		p11.CKA_ENCRYPT: !sig && symmetric, p11.CKA_WRAP: !sig && symmetric, p11.CKA_DERIVE: !sig && ec,
	} {
		if on || !symmetric && typ != p11.CKA_ENCRYPT && typ != p11.CKA_WRAP && typ != p11.CKA_VERIFY {
			attrs = append(attrs, p11.NewAttribute(typ, on))
		}
	}
	return attrs
}

// member decodes a member of a JWK from base64url.
func member(t testing.TB, jwk map[string]any, name string) []byte {
	t.Helper()
	text, _ := jwk[name].(string)
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(data) == 0 {
		t.Fatalf("the JWK has no %s: %v", name, err)
	}
	return data
}
