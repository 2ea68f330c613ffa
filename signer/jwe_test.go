package signer_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"signetd/backends/software"
	"signetd/signer"
)

var contentEncryptions = []jose.ContentEncryption{jose.A128GCM, jose.A192GCM, jose.A256GCM, jose.A128CBC_HS256, jose.A192CBC_HS384, jose.A256CBC_HS512}

// TestJWE goes both ways with go-jose where it knows the algorithm, and with
// itself where not.
func TestJWE(t *testing.T) {
	key := open(t, "generate:rsa-2048")
	plaintext := []byte("a sealed envelope")
	for _, alg := range []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512} {
		v, err := signer.NewVersion(key, signer.VersionConfig{Algs: []signer.Alg{alg}})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Prove(t.Context()); err != nil {
			t.Errorf("%s: Prove() = %v", alg, err)
		}
		for _, enc := range contentEncryptions {
			ours, err := v.EncryptJWE(t.Context(), string(enc), signer.Header{Typ: "t", Cty: "JWT"}, plaintext)
			if err != nil {
				t.Fatalf("%s %s: EncryptJWE() = %v", alg, enc, err)
			}
			checkOpen(t, v, alg, enc, ours, plaintext)
			theirsOpens(t, key, alg, enc, ours, plaintext)
			if alg == signer.RSAOAEP || alg == signer.RSAOAEP256 {
				checkOpen(t, v, alg, enc, theirs(t, v, alg, enc, plaintext), plaintext)
			}
		}
	}
}

func checkOpen(t *testing.T, v *signer.Version, alg signer.Alg, enc jose.ContentEncryption, jwe string, want []byte) {
	t.Helper()
	sealed, err := signer.ParseSealed(jwe)
	if err != nil {
		t.Fatal(err)
	}
	if sealed.Recipients[0].KID != v.KID() || sealed.Recipients[0].Alg != alg || sealed.Enc != string(enc) || sealed.Header.Cty != "JWT" {
		t.Errorf("%s %s: ParseSealed() = %+v", alg, enc, sealed)
	}
	if got, err := v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0]); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s %s: DecryptJWE() = %q, %v", alg, enc, got, err)
	}
}

func theirs(t *testing.T, v *signer.Version, alg signer.Alg, enc jose.ContentEncryption, plaintext []byte) string {
	t.Helper()
	e, err := jose.NewEncrypter(enc, jose.Recipient{Algorithm: jose.KeyAlgorithm(alg), Key: &v.JWK().JSONWebKey}, (&jose.EncrypterOptions{}).WithContentType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	obj, err := e.Encrypt(plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return obj.FullSerialize()
}

// theirsOpens opens our JWE with go-jose, by the opaque decrypter, which is the
// way for the algorithms that go-jose does not know.
func theirsOpens(t *testing.T, key signer.Key, alg signer.Alg, enc jose.ContentEncryption, jwe string, want []byte) {
	t.Helper()
	obj, err := jose.ParseEncryptedCompact(jwe, []jose.KeyAlgorithm{jose.KeyAlgorithm(alg)}, []jose.ContentEncryption{enc})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := obj.Decrypt(signer.OpaqueDecrypter(key.(signer.Decrypter), alg)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s %s: go-jose opens it as %q, %v", alg, enc, got, err)
	}
	if _, err := obj.Decrypt(signer.OpaqueDecrypter(key.(signer.Decrypter), signer.RS256)); err == nil {
		t.Errorf("%s %s: an algorithm that is not listed is decrypted", alg, enc)
	}
}

func TestJWERefuses(t *testing.T) {
	v := version(t, "generate:rsa-2048", signer.RSAOAEP256)
	good, err := v.EncryptJWE(t.Context(), "", signer.Header{}, []byte("a sealed envelope"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	with := func(i int, part string) string {
		p := append([]string(nil), parts...)
		p[i] = part
		return strings.Join(p, ".")
	}

	flip := func(i int) string {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		data[0] ^= 1
		return with(i, base64.RawURLEncoding.EncodeToString(data))
	}

	head := func(h string) string { return with(0, base64.RawURLEncoding.EncodeToString([]byte(h))) }
	shortCEK, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, v.JWK().Key.(*rsa.PublicKey), make([]byte, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"encrypted key": flip(1), "iv": flip(2), "ciphertext": flip(3), "tag": flip(4),
		"no encrypted key": with(1, ""), "no iv": with(2, ""), "no tag": with(4, ""),
		"short encrypted key": with(1, parts[1][:8]),
		"short CEK":           with(1, base64.RawURLEncoding.EncodeToString(shortCEK)),
		"another alg":         head(`{"alg":"RSA-OAEP","enc":"A256GCM"}`),
		"alg none":            head(`{"alg":"none","enc":"A256GCM"}`),
		"dir":                 head(`{"alg":"dir","enc":"A256GCM"}`),
		"RSA1_5":              head(`{"alg":"RSA1_5","enc":"A256GCM"}`),
		"another enc":         head(`{"alg":"RSA-OAEP-256","enc":"A128GCM"}`),
		"unknown enc":         head(`{"alg":"RSA-OAEP-256","enc":"x"}`),
		"no enc":              head(`{"alg":"RSA-OAEP-256"}`),
		"crit":                head(`{"alg":"RSA-OAEP-256","enc":"A256GCM","crit":["x"],"x":1}`),
		"zip":                 head(`{"alg":"RSA-OAEP-256","enc":"A256GCM","zip":"DEF"}`),
		"garbage":             "garbage", "empty": "", "JSON": "{}", "dots": "....",
	}

	for name, jwe := range tests {
		t.Run(name, func(t *testing.T) {
			sealed, err := signer.ParseSealed(jwe)
			var plaintext []byte
			if err == nil {
				plaintext, err = v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0])
			}
			if !errors.Is(err, signer.ErrDecrypt) || err.Error() != signer.ErrDecrypt.Error() || plaintext != nil {
				t.Errorf("error is %v with %d bytes, want ErrDecrypt and nothing else", err, len(plaintext))
			}
		})
	}
	if _, err := v.EncryptJWE(t.Context(), "A512GCM", signer.Header{}, nil); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("EncryptJWE(A512GCM) = %v, want ErrUnsupported", err)
	}
}

// TestDecryptJWEUnavailable: a backend that is down is not reported as a bad JWE.
func TestDecryptJWEUnavailable(t *testing.T) {
	b, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}
	k, err := b.OpenKey(t.Context(), "generate:rsa-2048")
	if err != nil {
		t.Fatal(err)
	}
	v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{signer.RSAOAEP}})
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := v.EncryptJWE(t.Context(), "", signer.Header{}, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := signer.ParseSealed(jwe)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0]); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("DecryptJWE() = %v, want ErrUnavailable", err)
	}
}
