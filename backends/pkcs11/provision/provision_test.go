//go:build cgo

package provision_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

func wantError(t *testing.T, err, is error, words ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error %v, want one that wraps %v", err, is)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not contain %q", err, w)
		}
	}
}

func options(token *softhsm.Token) provision.KeyOptions {
	return provision.KeyOptions{
		Module: token.Module(), Token: token.Label(), PIN: []byte(token.PIN()),
		Label: "k", Type: provision.ECP256, Use: signer.UseSig,
	}
}

// inToken runs f with a session in which the user is logged in.
func inToken(t *testing.T, token *softhsm.Token, f func(*p11.Ctx, p11.SessionHandle)) {
	t.Helper()
	ctx := p11.New(token.Module())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(ctx.Initialize())
	defer func() { must(ctx.Finalize()) }()
	slots, err := ctx.GetSlotList(true)
	must(err)

	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		must(err)
		if info.Label != token.Label() {
			continue
		}
		s, err := ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		must(err)
		must(ctx.Login(s, p11.CKU_USER, token.PIN()))
		f(ctx, s)
		return
	}
	t.Fatalf("no token %q", token.Label())
}

func find(t *testing.T, ctx *p11.Ctx, s p11.SessionHandle, template ...*p11.Attribute) []p11.ObjectHandle {
	t.Helper()
	if err := ctx.FindObjectsInit(s, template); err != nil {
		t.Fatal(err)
	}
	found, _, err := ctx.FindObjects(s, 10)
	if err := errors.Join(err, ctx.FindObjectsFinal(s)); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestGenerateKey(t *testing.T) {
	token := softhsm.New(t)
	tests := []struct {
		typ provision.KeyType
		use signer.Use
	}{
		{provision.ECP256, signer.UseSig},
		{provision.ECP384, signer.UseSig},
		{provision.ECP521, signer.UseSig},
		{provision.RSA2048, signer.UseSig},
		{provision.RSA2048, signer.UseEnc},
		{provision.ECP256, signer.UseEnc},
		{provision.Ed25519, signer.UseSig},
		{provision.ECSecp256k1, signer.UseSig},
		{provision.HMAC512, signer.UseSig},
		{provision.AES128, signer.UseEnc},
		{provision.AES192, signer.UseEnc},
		{provision.AES256, signer.UseEnc},
	}

	for _, tt := range tests {
		t.Run(string(tt.typ)+" "+string(tt.use), func(t *testing.T) {
			o := options(token)
			o.Label, o.Type, o.Use = string(tt.typ)+"-"+string(tt.use), tt.typ, tt.use
			key, err := provision.GenerateKey(o)
			if err != nil {
				t.Fatal(err)
			}
			u, err := pkcs11.ParseURI(key.URI)
			if err != nil {
				t.Fatal(err)
			}
			if u.Object != o.Label || u.Token != token.Label() || len(u.ID) != 16 {
				t.Errorf("URI %s names another key", key.URI)
			}
			sig, enc := tt.use == signer.UseSig, tt.use == signer.UseEnc
			agrees := enc && strings.HasPrefix(string(tt.typ), "ec-")
			want := map[uint]bool{
				p11.CKA_TOKEN: true, p11.CKA_PRIVATE: true,
				p11.CKA_SENSITIVE: true, p11.CKA_ALWAYS_SENSITIVE: true,
				p11.CKA_EXTRACTABLE: false, p11.CKA_NEVER_EXTRACTABLE: true,
				p11.CKA_SIGN: sig, p11.CKA_DECRYPT: enc && !agrees, p11.CKA_UNWRAP: enc && !agrees, p11.CKA_DERIVE: agrees,
			}
			class, typ := uint(p11.CKO_PRIVATE_KEY), pkcs11.TypePrivate
			if tt.typ.Secret() {
				class, typ = p11.CKO_SECRET_KEY, pkcs11.TypeSecret
				want[p11.CKA_ENCRYPT], want[p11.CKA_WRAP], want[p11.CKA_VERIFY] = enc, enc, sig
			}
			if u.Type != typ {
				t.Errorf("URI %s is of type %s, want %s", key.URI, u.Type, typ)
			}
			wantAttributes(t, token, class, o.Label, want)
			wantPublic(t, token, key)
		})
	}
}

func wantAttributes(t *testing.T, token *softhsm.Token, class uint, label string, want map[uint]bool) {
	t.Helper()
	inToken(t, token, func(ctx *p11.Ctx, s p11.SessionHandle) {
		found := find(t, ctx, s, p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_LABEL, label))
		if len(found) != 1 {
			t.Fatalf("%d keys with label %q", len(found), label)
		}
		for typ, value := range want {
			got, err := ctx.GetAttributeValue(s, found[0], []*p11.Attribute{p11.NewAttribute(typ, nil)})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[0].Value, p11.NewAttribute(typ, value).Value) {
				t.Errorf("attribute %#x is not %t", typ, value)
			}
		}
	})
}

// wantPublic opens the key as the daemon does and compares the public half.
func wantPublic(t *testing.T, token *softhsm.Token, key provision.Key) {
	t.Helper()
	b, err := pkcs11.Open(t.Context(), token.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()

	k, err := b.OpenKey(t.Context(), key.URI)
	if err != nil {
		t.Fatal(err)
	}

	var der []byte
	switch pub := k.Public().(type) {
	case signer.Secret:
	case *ecdsa.PublicKey:
		if pub.Curve == signer.Secp256k1() {
			der, err = pkixK1(pub)
		} else {
			der, err = x509.MarshalPKIXPublicKey(pub)
		}
	default:
		der, err = x509.MarshalPKIXPublicKey(pub)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(der, key.Public) {
		t.Error("the public half is another one than the daemon sees")
	}
}

// pkixK1 returns the PKIX form of a key on secp256k1: a fixed prefix, and the point.
func pkixK1(pub *ecdsa.PublicKey) ([]byte, error) {
	head, err := hex.DecodeString("3056301006072a8648ce3d020106052b8104000a03420004")
	return slices.Concat(head, pub.X.FillBytes(make([]byte, 32)), pub.Y.FillBytes(make([]byte, 32))), err //nolint:staticcheck // it has no other way to the point of this curve
}

func TestGenerateKeyRefuses(t *testing.T) {
	token := softhsm.New(t)
	first := options(token)
	first.ID = []byte("\x01")
	key, err := provision.GenerateKey(first)
	if err != nil {
		t.Fatal(err)
	}
	if want := "pkcs11:token=signetd-test;object=k;id=%01;type=private"; key.URI != want {
		t.Errorf("URI = %s, want %s", key.URI, want)
	}

	tests := []struct {
		name   string
		change func(*provision.KeyOptions)
		is     error
		words  string
	}{
		{"an Ed25519 key to decrypt", func(o *provision.KeyOptions) { o.Type, o.Use = provision.Ed25519, signer.UseEnc }, signer.ErrInvalid, "its use is sig"},
		{"an HMAC key to decrypt", func(o *provision.KeyOptions) { o.Type, o.Use = provision.HMAC512, signer.UseEnc }, signer.ErrInvalid, "its use is sig"},
		{"an AES key to sign", func(o *provision.KeyOptions) { o.Type = provision.AES256 }, signer.ErrInvalid, "its use is enc"},
		{"no use", func(o *provision.KeyOptions) { o.Use = "" }, signer.ErrInvalid, "neither sig nor enc"},
		{"an unknown type", func(o *provision.KeyOptions) { o.Type = "rsa-1024" }, signer.ErrInvalid, "rsa-1024"},
		{"no label", func(o *provision.KeyOptions) { o.Label = "" }, signer.ErrInvalid, "label"},
		{"no token", func(o *provision.KeyOptions) { o.Token = "" }, signer.ErrInvalid, "token or serial"},
		{"no PIN", func(o *provision.KeyOptions) { o.PIN = nil }, signer.ErrInvalid, "PIN is empty"},
		{"a label that is taken", func(o *provision.KeyOptions) { o.Label = "k" }, signer.ErrInvalid, "label already"},
		{"an id that is taken", func(o *provision.KeyOptions) { o.ID = []byte("\x01") }, signer.ErrInvalid, "id already"},
		{"an unknown token", func(o *provision.KeyOptions) { o.Token = "elsewhere" }, signer.ErrNotFound, "elsewhere"},
		{"an unknown module", func(o *provision.KeyOptions) { o.Module = "/nowhere.so" }, signer.ErrUnavailable, "/nowhere.so"},
		{"a wrong PIN", func(o *provision.KeyOptions) { o.PIN = []byte("wrong-pin") }, signer.ErrUnavailable, "one login attempt"},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(token)
			o.Label = "another"
			tt.change(&o)
			_, err := provision.GenerateKey(o)
			wantError(t, err, tt.is, tt.words)
			if strings.Contains(err.Error(), "wrong-pin") {
				t.Error("the error shows the PIN")
			}
		})
	}
	inToken(t, token, func(ctx *p11.Ctx, s p11.SessionHandle) {
		if found := find(t, ctx, s); len(found) != 2 {
			t.Errorf("%d objects in the token, want the two halves of one key", len(found))
		}
	})
}

// A key that is weaker than the token was told to make is destroyed.
func TestDisobedientToken(t *testing.T) {
	token := softhsm.New(t)
	o := options(token)
	o.ID = []byte("\x01")
	inToken(t, token, func(ctx *p11.Ctx, s p11.SessionHandle) {
		name := []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, o.Label), p11.NewAttribute(p11.CKA_ID, o.ID), p11.NewAttribute(p11.CKA_TOKEN, true)}
		params := p11.NewAttribute(p11.CKA_EC_PARAMS, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})
		_, _, err := ctx.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)},
			append([]*p11.Attribute{params}, name...),
			append([]*p11.Attribute{p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SIGN, true), p11.NewAttribute(p11.CKA_DECRYPT, true), p11.NewAttribute(p11.CKA_SENSITIVE, false), p11.NewAttribute(p11.CKA_EXTRACTABLE, true)}, name...))
		if err != nil {
			t.Fatal(err)
		}

		err = provision.KeepOrDestroy(ctx, s, o)
		wantError(t, err, signer.ErrUnsupported, "CKA_EXTRACTABLE is not false", "CKA_SENSITIVE is not true", "CKA_DECRYPT is not false")
		if found := find(t, ctx, s); len(found) != 0 {
			t.Errorf("%d objects are left", len(found))
		}
	})
}

func TestInitToken(t *testing.T) {
	token := softhsm.New(t)
	o := provision.InitOptions{Module: token.Module(), Label: "new", SOPIN: []byte("so-pin-1"), PIN: []byte("user-pin-1")}
	serial, err := provision.InitToken(o)
	if err != nil {
		t.Fatal(err)
	}
	k := options(token)
	k.Token, k.Serial, k.PIN = "", serial, o.PIN
	if _, err := provision.GenerateKey(k); err != nil {
		t.Errorf("the new token is of no use: %v", err)
	}

	tests := []struct {
		name   string
		change func(*provision.InitOptions)
		words  string
	}{
		{"a label that is taken", func(*provision.InitOptions) {}, "already"},
		{"no label", func(o *provision.InitOptions) { o.Label = "" }, "1 to 32 bytes"},
		{"a long label", func(o *provision.InitOptions) { o.Label = strings.Repeat("x", 33) }, "1 to 32 bytes"},
		{"no PIN", func(o *provision.InitOptions) { o.PIN = nil }, "PIN is empty"},
		{"no PIN of the security officer", func(o *provision.InitOptions) { o.SOPIN = nil }, "security officer's PIN is empty"},
		{"a short PIN", func(o *provision.InitOptions) { o.Label, o.PIN = "third", []byte("1") }, "PINs of 4 to 255 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := o
			tt.change(&o)
			_, err := provision.InitToken(o)
			wantError(t, err, signer.ErrInvalid, tt.words)
		})
	}
	cfg := token.Config()
	cfg.Token = "third"
	_, err = pkcs11.Open(t.Context(), cfg)
	wantError(t, err, signer.ErrUnavailable, `"new"`)
}
