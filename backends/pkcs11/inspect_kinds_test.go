//go:build cgo

package pkcs11_test

import (
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// Each kind of key, with the algorithms that it can do and how.
func TestInspectKinds(t *testing.T) {
	token := softhsm.New(t)
	keys := []pkcs11.KeyRef{
		{Name: "edwards", Ref: token.Generate(t, "edwards", provision.Ed25519, signer.UseSig)},
		{Name: "k1", Ref: token.Generate(t, "k1", provision.ECSecp256k1, signer.UseSig)},
		{Name: "mac", Ref: token.Generate(t, "mac", provision.HMAC512, signer.UseSig)},
		{Name: "agree", Ref: token.Generate(t, "agree", provision.ECP256, signer.UseEnc)},
		{Name: "wrap", Ref: token.Generate(t, "wrap", provision.AES128, signer.UseEnc), Algs: []signer.Alg{signer.A128KW, signer.A128GCMKW}},
	}

	for i, k := range keys {
		u, err := pkcs11.ParseURI(k.Ref)
		if err != nil {
			t.Fatal(err)
		}
		u.ID = "" // a random one
		keys[i].Ref = u.String()
	}
	golden(t, "kinds", inspect(t, token.Config(), keys...), token.Config())
}

// A key that can only unwrap, with and without hold_cek.
func TestInspectHeldCEK(t *testing.T) {
	token := softhsm.New(t)
	b := mustOpen(t, token.Config())
	openRaw(t, token).rsa(2048, "inbox", "\x01", unwrapOnly())
	openRaw(t, token).rsa(2048, "decrypts", "\x02", attrs{p11.CKA_SIGN: false, p11.CKA_DECRYPT: true, p11.CKA_UNWRAP: false, p11.CKA_EXTRACTABLE: false})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	keys := []pkcs11.KeyRef{{Name: "inbox", Ref: "pkcs11:object=inbox", Algs: []signer.Alg{signer.RSAOAEP}}}
	golden(t, "key-unwraps", inspect(t, token.Config(), keys...), token.Config())
	cfg := token.Config()
	cfg.HoldCEK = true
	keys = append(keys, pkcs11.KeyRef{Name: "decrypts", Ref: "pkcs11:object=decrypts", Algs: []signer.Alg{signer.RSAOAEP}})
	golden(t, "key-holds", inspect(t, cfg, keys...), cfg)
}
