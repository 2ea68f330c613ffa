//go:build cgo

package pkcs11_test

import (
	"bytes"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

func TestSign(t *testing.T) {
	token := softhsm.New(t)
	refs := map[provision.KeyType]string{}
	for _, typ := range []provision.KeyType{provision.ECP256, provision.ECP384, provision.ECP521, provision.RSA2048} {
		refs[typ] = token.Generate(t, string(typ), typ, signer.UseSig)
	}
	b := mustOpen(t, token.Config())
	tests := []struct {
		typ  provision.KeyType
		algs []signer.Alg
	}{
		{provision.ECP256, []signer.Alg{signer.ES256}},
		{provision.ECP384, []signer.Alg{signer.ES384}},
		{provision.ECP521, []signer.Alg{signer.ES512}},
		{provision.RSA2048, []signer.Alg{signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512}},
	}
	for _, tt := range tests {
		t.Run(string(tt.typ), func(t *testing.T) {
			k := mustOpenKey(t, b, refs[tt.typ])
			wantAlgs(t, k, tt.algs...)
			if _, ok := k.(signer.Decrypter); ok {
				t.Error("a key without CKA_DECRYPT is a Decrypter")
			}
			for _, alg := range tt.algs {
				digest := digestFor(alg)
				sig, err := k.(signer.Signer).SignContext(t.Context(), digest, alg.SignerOpts())
				if err != nil {
					t.Fatalf("%s: %v", alg, err)
				}
				checkSignature(t, k.Public(), alg, digest, sig)
			}
		})
	}
}

func TestDecrypt(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "inbox", provision.RSA2048, signer.UseEnc)
	b := mustOpen(t, token.Config())
	k := mustOpenKey(t, b, ref)
	algs := []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512}
	wantAlgs(t, k, algs...)
	if _, ok := k.(signer.Signer); ok {
		t.Error("a key without CKA_SIGN is a Signer")
	}
	d := k.(signer.Decrypter)
	for _, alg := range algs {
		t.Run(string(alg), func(t *testing.T) {
			for _, plaintext := range [][]byte{[]byte("a content encryption key, 32 byt"), {}, {0, 1, 0, 1}} {
				ct := encryptTo(t, k.Public(), alg, plaintext)
				got, err := d.DecryptContext(t.Context(), ct, alg.DecrypterOpts())
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, plaintext) {
					t.Errorf("decrypted to %d bytes, not those %d", len(got), len(plaintext))
				}
				ct[len(ct)-1] ^= 1
				if got, err := d.DecryptContext(t.Context(), ct, alg.DecrypterOpts()); err != signer.ErrDecrypt || got != nil { //nolint:errorlint // it must be bare
					t.Errorf("tampered: %v, want ErrDecrypt itself", err)
				}
			}
		})
	}
	if !pkcs11.NativeOAEP(k, signer.RSAOAEP.Hash()) {
		t.Error("OAEP with SHA-1 does not use the token's own")
	}
}
