//go:build cgo

package pkcs11_test

import (
	"bytes"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

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

func TestOpenKeyRefuses(t *testing.T) {
	token := softhsm.New(t)
	b := mustOpen(t, token.Config())
	raw := openRaw(t, token)
	sig := func() attrs { return attrs{p11.CKA_SIGN: true} }
	raw.ec(oidP256, "twins", "\x01", sig())
	raw.ec(oidP256, "twins", "\x02", sig())
	pub, _ := raw.ec(oidP256, "widow", "\x03", sig())
	raw.destroy(pub)
	raw.ec(oidP256, "neighbour", "\x03", sig())
	pub, _ = raw.ec(oidP256, "changeling", "\x04", sig())
	raw.destroy(pub)
	_, priv := raw.ec(oidP256, "changeling", "\x04", sig())
	raw.destroy(priv)
	pub, _ = raw.ec(oidP256, "no id", "", sig())
	raw.destroy(pub)
	_, priv = raw.ec(oidP256, "no id", "\x09", sig())
	raw.destroy(priv)
	raw.ec(oidP224, "small curve", "\x05", sig())
	raw.ec(oidP256, "idle", "\x06", attrs{p11.CKA_SIGN: false, p11.CKA_DERIVE: false})
	raw.rsa(1024, "small", "\x07", sig())

	tests := []struct {
		name, ref string
		is        error
		words     []string
	}{
		{"no URI", "twins", signer.ErrInvalid, []string{"scheme"}},
		{"a URI with a PIN", "pkcs11:object=twins?pin-value=tellnobody", signer.ErrInvalid, []string{"PIN"}},
		{"another token", "pkcs11:token=elsewhere;object=twins", signer.ErrInvalid, []string{"elsewhere", "signetd-test"}},
		{"another serial", "pkcs11:serial=0;object=twins", signer.ErrInvalid, []string{"serial"}},
		{"an unknown label", "pkcs11:object=nobody", signer.ErrNotFound, []string{"object=nobody"}},
		{"an unknown id", "pkcs11:object=twins;id=%77", signer.ErrNotFound, nil},
		{"two keys with one label", "pkcs11:object=twins", signer.ErrInvalid, []string{"2 keys", "give the id"}},
		{"an EC key without its public half", "pkcs11:object=widow", signer.ErrInvalid, []string{"public key object"}},
		{"a stranger's public half with its label", "pkcs11:object=no%20id", signer.ErrInvalid, []string{"public key object"}},
		{"a public half of another key", "pkcs11:object=changeling", signer.ErrInvalid, []string{"does not verify"}},
		{"a curve that JOSE does not have", "pkcs11:object=small%20curve", signer.ErrUnsupported, []string{"P-256"}},
		{"a key that may do nothing", "pkcs11:object=idle", signer.ErrUnsupported, []string{"CKA_SIGN", "CKA_DECRYPT", "CKA_DERIVE"}},
		{"a short RSA key", "pkcs11:object=small", signer.ErrUnsupported, []string{"2048"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := b.OpenKey(t.Context(), tt.ref)
			wantError(t, err, tt.is, tt.words...)
			if strings.Contains(err.Error(), "tellnobody") {
				t.Error("the error shows the PIN")
			}
		})
	}
	t.Run("but one of the twins by its id", func(t *testing.T) {
		mustOpenKey(t, b, "pkcs11:object=twins;id=%02;type=private")
		mustOpenKey(t, b, "pkcs11:id=%01")
	})
}

func TestRSAKeyWithoutPublicObject(t *testing.T) {
	token := softhsm.New(t)
	b := mustOpen(t, token.Config())
	raw := openRaw(t, token)
	pub, _ := raw.rsa(2048, "k", "", attrs{p11.CKA_SIGN: true, p11.CKA_DECRYPT: false})
	raw.destroy(pub)
	k := mustOpenKey(t, b, "pkcs11:object=k")
	digest := digestFor(signer.PS384)
	sig, err := k.(signer.Signer).Sign(nil, digest, signer.PS384.SignerOpts())
	if err != nil {
		t.Fatal(err)
	}
	checkSignature(t, k.Public(), signer.PS384, digest, sig)
}

// The raw operation also makes signatures. So a key that may sign decrypts only with the
// hashes for which the token itself has OAEP.
func TestDualKey(t *testing.T) {
	token := softhsm.New(t)
	b := mustOpen(t, token.Config())
	openRaw(t, token).rsa(2048, "dual", "\x01", attrs{p11.CKA_SIGN: true, p11.CKA_DECRYPT: true})
	k := mustOpenKey(t, b, "pkcs11:object=dual")
	wantAlgs(t, k, signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512, signer.RSAOAEP)
	if _, ok := k.(signer.Signer); !ok {
		t.Error("it does not sign")
	}

	d := k.(signer.Decrypter)
	ct := encryptTo(t, k.Public(), signer.RSAOAEP256, []byte("cek"))
	_, err := d.DecryptContext(t.Context(), ct, signer.RSAOAEP256.DecrypterOpts())
	wantError(t, err, signer.ErrUnsupported, "RSA-OAEP-256")
	ct = encryptTo(t, k.Public(), signer.RSAOAEP, []byte("cek"))
	if got, err := d.Decrypt(nil, ct, signer.RSAOAEP.DecrypterOpts()); err != nil || string(got) != "cek" {
		t.Errorf("RSA-OAEP: %v", err)
	}
}

func TestTokensThatLackMechanisms(t *testing.T) {
	token := softhsm.New(t)
	sigRef := token.Generate(t, "sig", provision.RSA2048, signer.UseSig)
	encRef := token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	f, cfg := newFaulty(t, token)
	f.Inject("C_Sign * mech=CKM_RSA_PKCS_PSS rv=CKR_MECHANISM_INVALID", "C_DecryptInit * mech=CKM_RSA_X_509 rv=CKR_MECHANISM_INVALID")
	b := mustOpen(t, cfg)

	k := mustOpenKey(t, b, sigRef)
	wantAlgs(t, k, signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512) // of a message
	_, err := k.(signer.Signer).SignContext(t.Context(), digestFor(signer.PS256), signer.PS256.SignerOpts())
	wantError(t, err, signer.ErrUnsupported, "PS256")

	wantAlgs(t, mustOpenKey(t, b, encRef), signer.RSAOAEP)
}

func TestOpenKeyOfLyingToken(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	f, cfg := newFaulty(t, token)
	b := mustOpen(t, cfg)
	lift := f.Inject("C_Sign * flip")
	_, err := b.OpenKey(t.Context(), ref)
	wantError(t, err, signer.ErrInvalid, "does not verify")
	lift()
	f.Inject("C_Sign * short=1")
	_, err = b.OpenKey(t.Context(), ref)
	wantError(t, err, signer.ErrUnavailable, "63 bytes, not 64")
}

func TestSignRefuses(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	f, cfg := newFaulty(t, token)
	k := mustOpenKey(t, mustOpen(t, cfg), ref).(signer.Signer)
	before := calls(f, "C_Sign")
	_, err := k.SignContext(t.Context(), make([]byte, 31), signer.ES256.SignerOpts())
	wantError(t, err, signer.ErrInvalid, "31")
	_, err = k.SignContext(t.Context(), make([]byte, 48), signer.ES384.SignerOpts())
	wantError(t, err, signer.ErrUnsupported)
	_, err = k.SignContext(t.Context(), make([]byte, 32), signer.PS256.SignerOpts())
	wantError(t, err, signer.ErrUnsupported)
	if calls(f, "C_Sign") != before {
		t.Error("it reached the token")
	}
}

func TestDecryptRefuses(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	f, cfg := newFaulty(t, token)
	k := mustOpenKey(t, mustOpen(t, cfg), ref).(signer.Decrypter)
	before := calls(f, "C_Decrypt")
	for name, ct := range map[string][]byte{
		"empty":             {},
		"short":             make([]byte, 255),
		"long":              make([]byte, 257),
		"above the modulus": bytes.Repeat([]byte{0xff}, 256),
	} {
		if _, err := k.DecryptContext(t.Context(), ct, signer.RSAOAEP256.DecrypterOpts()); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
			t.Errorf("%s: %v, want ErrDecrypt itself", name, err)
		}
	}
	if calls(f, "C_Decrypt") != before {
		t.Error("it reached the token")
	}
}
