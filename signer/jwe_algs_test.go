package signer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"signetd/signer"
)

// keyFile writes key as a JWK and returns the ref of the software key in it.
func keyFile(t *testing.T, key any, alg signer.Alg) string {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKey{Key: key, Algorithm: string(alg)})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.jwk")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pairs are a key for each algorithm, as go-jose has it: to encrypt with, and to
// decrypt with.
func pairs(t *testing.T) map[signer.Alg][2]any {
	t.Helper()
	all := map[signer.Alg][2]any{}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, alg := range []signer.Alg{signer.ECDHES, signer.ECDHESA128KW, signer.ECDHESA192KW, signer.ECDHESA256KW} {
			all[alg] = [2]any{&k.PublicKey, k}
		}
	}

	for alg, size := range map[signer.Alg]int{
		signer.A128KW: 16, signer.A192KW: 24, signer.A256KW: 32,
		signer.A128GCMKW: 16, signer.A192GCMKW: 24, signer.A256GCMKW: 32, signer.Dir: 32,
	} {
		k := make([]byte, size)
		rand.Read(k)
		all[alg] = [2]any{k, k}
	}
	return all
}

// TestJWEAlgorithms goes both ways with go-jose, in compact and in JSON form.
func TestJWEAlgorithms(t *testing.T) {
	want := []byte("a sealed envelope")
	for alg, key := range pairs(t) {
		k := open(t, keyFile(t, key[1], alg))
		v, err := signer.NewVersion(k, signer.VersionConfig{KID: "k", Algs: []signer.Alg{alg}})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Prove(t.Context()); err != nil {
			t.Errorf("%s: Prove() = %v", alg, err)
		}
		for _, enc := range contentEncryptions {
			if alg == signer.Dir && enc != jose.A256GCM {
				continue // the size of the key decides
			}
			ours, err := v.EncryptJWE(t.Context(), string(enc), signer.Header{Cty: "JWT"}, want)
			if err != nil {
				t.Fatalf("%s %s: EncryptJWE() = %v", alg, enc, err)
			}
			obj, err := jose.ParseEncryptedCompact(ours, []jose.KeyAlgorithm{jose.KeyAlgorithm(alg)}, []jose.ContentEncryption{enc})
			if err != nil {
				t.Fatalf("%s %s: go-jose: %v", alg, enc, err)
			}
			if got, err := obj.Decrypt(key[1]); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s %s: go-jose opens it as %q, %v", alg, enc, got, err)
			}
			for _, compress := range []jose.CompressionAlgorithm{jose.NONE, jose.DEFLATE} {
				o := (&jose.EncrypterOptions{Compression: compress}).WithContentType("JWT")
				r := jose.Recipient{Algorithm: jose.KeyAlgorithm(alg), Key: key[0], KeyID: "k"}
				e, err := jose.NewEncrypter(enc, r, o)
				if err != nil {
					t.Fatal(err)
				}
				theirs, err := e.EncryptWithAuthData(want, []byte("more"))
				if err != nil {
					t.Fatal(err)
				}
				checkOpen(t, v, alg, enc, theirs.FullSerialize(), want)
			}
		}
	}
}

// TestJWERecipients opens a JWE to three as each of them.
func TestJWERecipients(t *testing.T) {
	all := pairs(t)
	var to []jose.Recipient
	algs := []signer.Alg{signer.A128KW, signer.ECDHESA256KW, signer.A256GCMKW}
	for _, alg := range algs {
		to = append(to, jose.Recipient{Algorithm: jose.KeyAlgorithm(alg), Key: all[alg][0], KeyID: string(alg)})
	}
	e, err := jose.NewMultiEncrypter(jose.A128CBC_HS256, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := e.Encrypt([]byte("for three"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := signer.ParseSealed(obj.FullSerialize())
	if err != nil || len(sealed.Recipients) != len(algs) {
		t.Fatalf("ParseSealed() = %+v, %v", sealed, err)
	}

	for i, alg := range algs {
		v, err := signer.NewVersion(open(t, keyFile(t, all[alg][1], alg)), signer.VersionConfig{KID: "k", Algs: []signer.Alg{alg}})
		if err != nil {
			t.Fatal(err)
		}
		for j, r := range sealed.Recipients {
			got, err := v.DecryptJWE(t.Context(), sealed, r)
			if i == j && (err != nil || string(got) != "for three") {
				t.Errorf("%s: DecryptJWE() = %q, %v", alg, got, err)
			}
			if i != j && !errors.Is(err, signer.ErrDecrypt) {
				t.Errorf("%s with what is for %s: DecryptJWE() = %v, want ErrDecrypt", alg, r.Alg, err)
			}
		}
	}
}

// TestInflateBound: a compressed plaintext may become larger, up to a bound.
func TestInflateBound(t *testing.T) {
	key := make([]byte, 32)
	v, err := signer.NewVersion(open(t, keyFile(t, key, signer.Dir)), signer.VersionConfig{KID: "k", Algs: []signer.Alg{signer.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: key}, &jose.EncrypterOptions{Compression: jose.DEFLATE})
	if err != nil {
		t.Fatal(err)
	}

	for size, want := range map[int]error{250_000: nil, 250_001: signer.ErrDecrypt, 100_000_000: signer.ErrDecrypt} {
		obj, err := e.Encrypt(make([]byte, size))
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := signer.ParseSealed(obj.FullSerialize())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0]); !errors.Is(err, want) || err == nil && len(got) != size {
			t.Errorf("DecryptJWE(%d bytes of zero) = %d bytes, %v; want %v", size, len(got), err, want)
		}
	}
}

func TestParseSealedRefuses(t *testing.T) {
	const epk = `{"kty":"EC","crv":"P-256","x":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0","y":"SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps"}`
	part := func(text string) string { return encode([]byte(text)) }
	head := part(`{"alg":"A128KW","enc":"A128GCM"}`)
	many := strings.TrimSuffix(strings.Repeat(`{"encrypted_key":"AA"},`, 17), ",")
	tests := map[string]string{
		"four parts":             head + ".AA.AA.AA",
		"six parts":              head + ".AA.AA.AA.AA.AA",
		"padding":                head + ".AA==.AA.AA.AA",
		"spare bits":             head + ".AB.AA.AA.AA",
		"line break":             head + ".AA\n.AA.AA.AA",
		"plain base64":           head + ".+/+/.AA.AA.AA",
		"no header":              ".AA.AA.AA.AA",
		"alg twice":              part(`{"alg":"A128KW","enc":"A128GCM","alg":"dir"}`) + ".AA.AA.AA.AA",
		"Alg":                    part(`{"Alg":"A128KW","enc":"A128GCM"}`) + ".AA.AA.AA.AA",
		"alg a number":           part(`{"alg":1,"enc":"A128GCM"}`) + ".AA.AA.AA.AA",
		"PBES2":                  part(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":1,"p2s":"AA"}`) + ".AA.AA.AA.AA",
		"crit":                   part(`{"alg":"A128KW","enc":"A128GCM","crit":["exp"],"exp":1}`) + ".AA.AA.AA.AA",
		"zip of another kind":    part(`{"alg":"A128KW","enc":"A128GCM","zip":"GZ"}`) + ".AA.AA.AA.AA",
		"no epk":                 part(`{"alg":"ECDH-ES","enc":"A128GCM"}`) + "..AA.AA.AA",
		"epk off the curve":      part(`{"alg":"ECDH-ES","enc":"A128GCM","epk":`+strings.Replace(epk, "gI0", "gI1", 1)+`}`) + "..AA.AA.AA",
		"alg in two headers":     `{"protected":"` + head + `","header":{"alg":"A128KW"},"encrypted_key":"AA","iv":"AA","ciphertext":"AA","tag":"AA"}`,
		"zip not protected":      `{"protected":"` + head + `","header":{"zip":"DEF"},"encrypted_key":"AA","iv":"AA","ciphertext":"AA","tag":"AA"}`,
		"recipients and key":     `{"protected":"` + head + `","recipients":[{"encrypted_key":"AA"}],"encrypted_key":"AQ","iv":"AA","ciphertext":"AA","tag":"AA"}`,
		"no recipients":          `{"protected":"` + head + `","recipients":[],"iv":"AA","ciphertext":"AA","tag":"AA"}`,
		"seventeen recipients":   `{"protected":"` + head + `","recipients":[` + many + `],"iv":"AA","ciphertext":"AA","tag":"AA"}`,
		"recipients with 2 encs": `{"protected":"` + part(`{"alg":"A128KW"}`) + `","recipients":[{"header":{"enc":"A128GCM"}},{"header":{"enc":"A256GCM"}}],"iv":"AA","ciphertext":"AA","tag":"AA"}`,
		"iv twice":               `{"protected":"` + head + `","encrypted_key":"AA","iv":"AA","iv":"AA","ciphertext":"AA","tag":"AA"}`,
		"text behind":            `{"protected":"` + head + `","encrypted_key":"AA","iv":"AA","ciphertext":"AA","tag":"AA"} x`,
	}

	for name, jwe := range tests {
		if got, err := signer.ParseSealed(jwe); !errors.Is(err, signer.ErrDecrypt) || err.Error() != signer.ErrDecrypt.Error() {
			t.Errorf("ParseSealed(%s) = %+v, %v; want ErrDecrypt and nothing else", name, got, err)
		}
	}

	for _, good := range []string{
		head + ".AA.AA.AA.AA", part(`{"alg":"ECDH-ES","enc":"A128GCM","epk":`+epk+`}`) + "..AA.AA.AA",
		`{"protected":"` + head + `","encrypted_key":"AA","iv":"AA","ciphertext":"AA","tag":"AA","x":1}`,
	} {
		if _, err := signer.ParseSealed(good); err != nil {
			t.Errorf("ParseSealed(%s) = %v", good, err)
		}
	}
}
