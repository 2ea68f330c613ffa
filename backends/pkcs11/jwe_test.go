//go:build cgo

package pkcs11_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/go-jose/go-jose/v4"
	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

const envelope = "a sealed envelope"

var encs = []jose.ContentEncryption{
	jose.A128GCM, jose.A192GCM, jose.A256GCM, jose.A128CBC_HS256, jose.A192CBC_HS384, jose.A256CBC_HS512,
}

func mustVersion(t *testing.T, k signer.Key, alg signer.Alg) *signer.Version {
	t.Helper()
	v, err := signer.NewVersion(k, signer.VersionConfig{KID: "k", Algs: []signer.Alg{alg}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// encryptByGoJose makes a JWE with go-jose, to a public key or with a secret key.
func encryptByGoJose(t *testing.T, alg jose.KeyAlgorithm, enc jose.ContentEncryption, key any) string {
	t.Helper()
	e, err := jose.NewEncrypter(enc, jose.Recipient{Algorithm: alg, Key: key, KeyID: "k"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	object, err := e.Encrypt([]byte(envelope))
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return jwe
}

func decryptByGoJose(alg jose.KeyAlgorithm, enc jose.ContentEncryption, key any, jwe string) (string, error) {
	object, err := jose.ParseEncryptedCompact(jwe, []jose.KeyAlgorithm{alg}, []jose.ContentEncryption{enc})
	if err != nil {
		return "", err
	}
	plaintext, err := object.Decrypt(key)
	return string(plaintext), err
}

func openJWE(t *testing.T, v *signer.Version, jwe string) (string, error) {
	t.Helper()
	sealed, err := signer.ParseSealed(jwe)
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0])
	return string(plaintext), err
}

// The token opens what go-jose encrypts, and the reverse, with every algorithm and content
// encryption that go-jose has.
func TestJWEWithGoJose(t *testing.T) {
	r := newRig(t)
	random := func(n int) []byte {
		b := make([]byte, n)
		rand.Read(b)
		return b
	}
	rsaKey := r.raw.importRSA("rsa", attrs{p11.CKA_DECRYPT: true})
	agreed := []signer.Alg{signer.ECDHES, signer.ECDHESA128KW, signer.ECDHESA192KW, signer.ECDHESA256KW}

	tests := []struct {
		label         string
		private, open any // of go-jose
		algs          []signer.Alg
	}{
		{"rsa", &rsaKey.PublicKey, rsaKey, []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256}},
	}

	for _, c := range []struct {
		curve elliptic.Curve
		oid   []byte
	}{
		{elliptic.P256(), oidP256}, {elliptic.P384(), []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}}, {elliptic.P521(), []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}},
	} {
		key := r.raw.importEC(c.curve.Params().Name, c.curve, c.oid)
		tests = append(tests, struct {
			label         string
			private, open any
			algs          []signer.Alg
		}{c.curve.Params().Name, &key.PublicKey, key, agreed})
	}

	for size, algs := range map[int][]signer.Alg{
		16: {signer.A128KW, signer.A128GCMKW, signer.Dir}, 24: {signer.A192KW, signer.A192GCMKW, signer.Dir}, 32: {signer.A256KW, signer.A256GCMKW, signer.Dir},
	} {
		value, label := random(size), fmt.Sprintf("aes-%d", size)
		r.raw.secret(p11.CKK_AES, label, label, value, aesUses())
		tests = append(tests, struct {
			label         string
			private, open any
			algs          []signer.Alg
		}{label, value, value, algs})
	}

	for _, tt := range tests {
		k := mustOpenKey(t, r.b, "pkcs11:object="+tt.label)
		for _, alg := range tt.algs {
			v := mustVersion(t, k, alg)
			for _, enc := range encs {
				if key, ok := k.Public().(signer.Secret); ok && alg == signer.Dir && string(enc) != fmt.Sprintf("A%dGCM", 8*key.Size) {
					continue
				}
				t.Run(fmt.Sprintf("%s %s %s", tt.label, alg, enc), func(t *testing.T) {
					got, err := openJWE(t, v, encryptByGoJose(t, jose.KeyAlgorithm(alg), enc, tt.private))
					if err != nil || got != envelope {
						t.Errorf("what go-jose made: %q, %v", got, err)
					}
					jwe, err := v.EncryptJWE(t.Context(), string(enc), signer.Header{}, []byte(envelope))
					if err != nil {
						t.Fatal(err)
					}
					if got, err := decryptByGoJose(jose.KeyAlgorithm(alg), enc, tt.open, jwe); err != nil || got != envelope {
						t.Errorf("what the token made: go-jose reads %q, %v", got, err)
					}
				})
			}
		}
	}
	r.raw.wantNoSessionKeys()
}

// Keys of known values make what the standard library makes with the same values.
func TestKnownAnswers(t *testing.T) {
	r := newRig(t)
	value := make([]byte, 64)
	rand.Read(value)
	r.raw.secret(p11.CKK_GENERIC_SECRET, "mac", "\x01", value, attrs{p11.CKA_SIGN: true})
	r.raw.secret(0x2c, "mac384", "\x02", value, attrs{p11.CKA_SIGN: true}) // CKK_SHA384_HMAC
	r.raw.secret(p11.CKK_GENERIC_SECRET, "short", "\x03", value[:40], attrs{p11.CKA_SIGN: true})
	r.raw.secret(p11.CKK_GENERIC_SECRET, "too short", "\x04", value[:31], attrs{p11.CKA_SIGN: true})

	tests := []struct {
		label string
		size  int
		algs  []signer.Alg
	}{
		{"mac", 64, []signer.Alg{signer.HS256, signer.HS384, signer.HS512}},
		{"mac384", 64, []signer.Alg{signer.HS384}},
		{"short", 40, []signer.Alg{signer.HS256}},
	}

	for _, tt := range tests {
		k := mustOpenKey(t, r.b, "pkcs11:type=secret-key;object="+tt.label)
		wantAlgs(t, k, tt.algs...)
		if got, want := k.Public(), (signer.Secret{Type: signer.SecretHMAC, Size: tt.size}); got != crypto.PublicKey(want) {
			t.Errorf("%s: Public() = %v, want %v", tt.label, got, want)
		}
		for _, alg := range tt.algs {
			jws, err := mustVersion(t, k, alg).SignJWS(t.Context(), alg, signer.Header{}, []byte("payload"))
			if err != nil {
				t.Fatal(err)
			}
			object, err := jose.ParseSignedCompact(jws.Compact(), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := object.Verify(value[:tt.size]); err != nil {
				t.Errorf("%s %s: %v", tt.label, alg, err)
			}
		}
	}
	k := mustOpenKey(t, r.b, "pkcs11:object=short").(signer.MACer)
	before := r.f.Count("C_SignInit").Calls
	_, err := k.MACContext(t.Context(), []byte("x"), crypto.SHA384)
	wantError(t, err, signer.ErrUnsupported)
	if r.f.Count("C_SignInit").Calls != before {
		t.Error("a MAC with a key shorter than its hash reached the token")
	}
	_, err = r.b.OpenKey(t.Context(), "pkcs11:object=too%20short")
	wantError(t, err, signer.ErrUnsupported, "32 bytes")
}
