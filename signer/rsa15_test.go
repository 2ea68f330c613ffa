package signer_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"signetd/signer"
)

// rsa15 encrypts as an old sender does.
func rsa15(t *testing.T, pub any, plaintext string) string {
	t.Helper()
	e, err := jose.NewEncrypter(jose.A128CBC_HS256, jose.Recipient{Algorithm: jose.RSA1_5, Key: pub}, nil)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := e.Encrypt([]byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := obj.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return jwe
}

func TestRSA15(t *testing.T) {
	v := version(t, "generate:rsa-2048", signer.RSA15, signer.RSAOAEP256)
	if err := v.Prove(t.Context()); err != nil {
		t.Fatalf("Prove() = %v", err)
	}
	sealed, err := signer.ParseSealed(rsa15(t, v.Public(), "an old letter"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0]); err != nil || string(got) != "an old letter" {
		t.Errorf("DecryptJWE() = %q, %v", got, err)
	}
	ours, err := v.EncryptJWE(t.Context(), "", signer.Header{}, []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	if sealed, err := signer.ParseSealed(ours); err != nil || sealed.Recipients[0].Alg != signer.RSAOAEP256 {
		t.Errorf("EncryptJWE() is with %s, %v; want never %s", sealed.Recipients[0].Alg, err, signer.RSA15)
	}
	old := version(t, "generate:rsa-2048:old", signer.RSA15)
	if jwe, err := old.EncryptJWE(t.Context(), "", signer.Header{}, nil); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("EncryptJWE() = %q, %v; want ErrUnsupported", jwe, err)
	}
	if jwe, err := signer.EncryptJWE(v.Public(), "", signer.RSA15, "", signer.Header{}, nil); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("EncryptJWE() = %q, %v; want ErrUnsupported", jwe, err)
	}

	for _, alg := range signer.Algs(v.Public()) {
		if alg == signer.RSA15 {
			t.Errorf("Algs() has %s, which only a config may name", alg)
		}
	}

	plain := version(t, "generate:rsa-2048:plain", signer.RSAOAEP)
	sealed, err = signer.ParseSealed(rsa15(t, plain.Public(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := plain.DecryptJWE(t.Context(), sealed, sealed.Recipients[0]); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
		t.Errorf("DecryptJWE() by a key that does not list the alg = %q, %v; want ErrDecrypt", got, err)
	}
}

// TestRSA15Rejects: whatever is wrong with the encrypted key gives a random CEK of
// the right length, another each time, and no error.
func TestRSA15Rejects(t *testing.T) {
	v := version(t, "generate:rsa-2048", signer.RSA15)
	pub, _ := v.Public().(*rsa.PublicKey)
	short, err := rsa.EncryptPKCS1v15(rand.Reader, pub, make([]byte, 31)) //nolint:staticcheck // what an old sender sends
	if err != nil {
		t.Fatal(err)
	}
	noPadding := make([]byte, pub.Size())
	noPadding[9] = 7
	for name, ciphertext := range map[string][]byte{
		"a key of another length": short, "no padding": noPadding, "nothing": nil, "a byte short": short[1:],
		"as large as the modulus": pub.N.FillBytes(make([]byte, pub.Size())), "too long": append([]byte{0}, short...),
	} {
		w := signer.WrappedCEK{Alg: signer.RSA15, Enc: "A128CBC-HS256", EncryptedKey: ciphertext}
		one, err := v.UnwrapCEK(t.Context(), w)
		if err != nil || len(one) != 32 {
			t.Fatalf("%s: UnwrapCEK() = %d bytes, %v; want 32 random ones", name, len(one), err)
		}
		if two, err := v.UnwrapCEK(t.Context(), w); err != nil || bytes.Equal(one, two) {
			t.Errorf("%s: UnwrapCEK() gives the same key again, %v", name, err)
		}
	}
	if _, err := v.UnwrapCEK(t.Context(), signer.WrappedCEK{Alg: signer.RSA15, EncryptedKey: short}); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("UnwrapCEK() without enc = %v, want ErrInvalid", err)
	}
	jwe := strings.Split(rsa15(t, pub, "x"), ".")
	for i := 1; i < len(jwe); i++ {
		bad := append([]string(nil), jwe...)
		bad[i] = strings.Repeat("A", len(bad[i]))
		sealed, err := signer.ParseSealed(strings.Join(bad, "."))
		if err == nil {
			_, err = v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0])
		}
		if err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
			t.Errorf("part %d damaged: %v, want ErrDecrypt", i, err)
		}
	}
}

func TestFlattenJWE(t *testing.T) {
	v := version(t, "generate:ec-p256", signer.ECDHESA128KW)
	jwe, err := v.EncryptJWE(t.Context(), "", signer.Header{}, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}

	for _, general := range []bool{false, true} {
		text := signer.FlattenJWE(jwe, general)
		if _, err := jose.ParseEncryptedJSON(text, []jose.KeyAlgorithm{jose.ECDH_ES_A128KW}, []jose.ContentEncryption{jose.A256GCM}); err != nil {
			t.Errorf("go-jose does not read %s: %v", text, err)
		}
		sealed, err := signer.ParseSealed(text)
		if err != nil {
			t.Fatalf("ParseSealed(%s) = %v", text, err)
		}
		if got, err := v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0]); err != nil || string(got) != "text" {
			t.Errorf("%s opens as %q, %v", text, got, err)
		}
	}
}
