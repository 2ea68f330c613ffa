package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"signetd/backends/software"
	"signetd/signer"
)

func open(t *testing.T, ref string) signer.Key {
	t.Helper()
	b, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	k, err := b.OpenKey(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func version(t *testing.T, ref string, algs ...signer.Alg) *signer.Version {
	t.Helper()
	v, err := signer.NewVersion(open(t, ref), signer.VersionConfig{Algs: algs, Backend: "memory"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestThumbprint is the example of RFC 7638 section 3.1.
func TestThumbprint(t *testing.T) {
	n, err := base64.RawURLEncoding.DecodeString("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")
	if err != nil {
		t.Fatal(err)
	}
	got, err := signer.Thumbprint(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
	if want := "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"; err != nil || got != want {
		t.Errorf("Thumbprint() = %q, %v; want %q", got, err, want)
	}
}

func TestErrorCodes(t *testing.T) {
	for _, err := range []error{
		signer.ErrInvalid, signer.ErrDenied, signer.ErrNotFound, signer.ErrUnsupported, signer.ErrDecrypt,
		signer.ErrOverloaded, signer.ErrUnavailable, context.DeadlineExceeded,
	} {
		code := signer.Code(fmt.Errorf("wrapped: %w", err))
		if got := signer.FromCode(code); !errors.Is(got, err) {
			t.Errorf("FromCode(Code(%v)) = %v by code %q", err, got, code)
		}
	}
	if got := signer.Code(errors.New("other")); got != signer.CodeInternal {
		t.Errorf("Code(other) = %q, want %q", got, signer.CodeInternal)
	}
	if got := signer.Code(nil); got != "ok" {
		t.Errorf("Code(nil) = %q, want ok", got)
	}
}

func TestNewVersion(t *testing.T) {
	ec, rs := open(t, "generate:ec-p256"), open(t, "generate:rsa-2048")
	tests := []struct {
		name string
		key  signer.Key
		algs []signer.Alg
		want error
	}{
		{"fits", ec, []signer.Alg{signer.ES256}, nil},
		{"several", rs, []signer.Alg{signer.RS256, signer.PS512}, nil},
		{"none", ec, nil, signer.ErrInvalid},
		{"unknown", ec, []signer.Alg{"none"}, signer.ErrUnsupported},
		{"another curve", ec, []signer.Alg{signer.ES384}, signer.ErrUnsupported},
		{"another type", ec, []signer.Alg{signer.RS256}, signer.ErrUnsupported},
		{"signs and decrypts", rs, []signer.Alg{signer.RS256, signer.RSAOAEP256}, signer.ErrInvalid},
		{"does not sign", unable{ec}, []signer.Alg{signer.ES256}, signer.ErrUnsupported},
		{"does not decrypt", unable{rs}, []signer.Alg{signer.RSAOAEP}, signer.ErrUnsupported},
		{"lacks the mechanism", lister{rs.(signer.Decrypter), []signer.Alg{signer.RSAOAEP}}, []signer.Alg{signer.RSAOAEP256}, signer.ErrUnsupported},
		{"has the mechanism", lister{rs.(signer.Decrypter), []signer.Alg{signer.RSAOAEP}}, []signer.Alg{signer.RSAOAEP}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := signer.NewVersion(tt.key, signer.VersionConfig{Algs: tt.algs}); !errors.Is(err, tt.want) {
				t.Errorf("NewVersion() = %v, want %v", err, tt.want)
			}
		})
	}
}

// unable is a key that has a public half and nothing else.
type unable struct{ key signer.Key }

func (u unable) Public() crypto.PublicKey { return u.key.Public() }

type lister struct {
	signer.Decrypter
	algs []signer.Alg
}

func (l lister) Algs() []signer.Alg { return l.algs }

func TestSmallRSA(t *testing.T) {
	pub := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}
	if err := signer.RS256.Fits(pub); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("RS256.Fits(1024 bits) = %v, want ErrUnsupported", err)
	}
	if algs := signer.Algs(pub); len(algs) != 0 {
		t.Errorf("Algs(1024 bits) = %v, want none", algs)
	}
}

// glitch signs with another key than it shows.
type glitch struct {
	signer.Signer
	other signer.Signer
}

func (g glitch) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return g.other.SignContext(ctx, digest, opts)
}

func TestVerifyAfterSign(t *testing.T) {
	for _, ref := range []string{"generate:ec-p256", "generate:rsa-2048"} {
		key, ok := open(t, ref).(signer.Signer)
		other, ok2 := open(t, ref).(signer.Signer)
		if !ok || !ok2 {
			t.Fatal("not signers")
		}
		for _, alg := range signer.Algs(key.Public()) {
			if alg.Use() != signer.UseSig {
				continue
			}
			v, err := signer.NewVersion(glitch{key, other}, signer.VersionConfig{Algs: []signer.Alg{alg}})
			if err != nil {
				t.Fatal(err)
			}
			digest := make([]byte, alg.Hash().Size())
			if sig, err := v.Sign(t.Context(), alg, digest); err == nil || sig != nil || signer.Code(err) != signer.CodeInternal {
				t.Errorf("%s: Sign() by another key = %d bytes, %v; want an internal error", alg, len(sig), err)
			}
			if err := v.Prove(t.Context()); err == nil {
				t.Errorf("%s: Prove() with another key = nil", alg)
			}
		}
	}
}

func TestSignJWS(t *testing.T) {
	payload := []byte(`{"sub":"alice"}`)
	for ref, algs := range map[string][]signer.Alg{
		"generate:ec-p256": {signer.ES256}, "generate:ec-p384": {signer.ES384}, "generate:ec-p521": {signer.ES512},
		"generate:rsa-2048": {signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512},
	} {
		v := version(t, ref, algs...)
		if err := v.Prove(t.Context()); err != nil {
			t.Errorf("%s: Prove() = %v", ref, err)
		}
		for _, alg := range algs {
			jws, err := v.SignJWS(t.Context(), alg, signer.Header{Typ: "at+jwt", Cty: "x"}, payload)
			if err != nil {
				t.Fatalf("%s: SignJWS() = %v", alg, err)
			}
			checkJWS(t, v, alg, jws, payload)
		}
	}
}

// checkJWS verifies all three serializations with go-jose.
func checkJWS(t *testing.T, v *signer.Version, alg signer.Alg, jws *signer.JWS, payload []byte) {
	t.Helper()
	algs := []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)}
	jwk := v.JWK()
	compact, err := jose.ParseSignedCompact(jws.Compact(), algs)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := compact.Verify(jwk); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%s: compact: Verify() = %s, %v", alg, got, err)
	}
	h := compact.Signatures[0].Protected
	if h.KeyID != v.KID() || h.ExtraHeaders["typ"] != "at+jwt" || h.ExtraHeaders["cty"] != "x" {
		t.Errorf("%s: header is %+v", alg, h)
	}
	flat, err := jose.ParseSignedJSON(jws.Flattened(), algs)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := flat.Verify(jwk); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%s: flattened: Verify() = %s, %v", alg, got, err)
	}
	if got, want := jws.FlattenedDetached(), strings.Replace(jws.Flattened(), `"payload":"`+jws.Payload+`",`, "", 1); got != want {
		t.Errorf("%s: FlattenedDetached() = %s, want %s", alg, got, want)
	}
	detached, err := jose.ParseDetached(jws.Detached(), payload, algs)
	if err != nil {
		t.Fatal(err)
	}
	if err := detached.DetachedVerify(payload, jwk); err != nil {
		t.Errorf("%s: detached: DetachedVerify() = %v", alg, err)
	}
	token, err := signer.ParseSigned(jws.Compact())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v.VerifyJWS(token); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%s: VerifyJWS() = %s, %v", alg, got, err)
	}
}

func TestSignJWSRefuses(t *testing.T) {
	v := version(t, "generate:rsa-2048", signer.RS256)
	for _, alg := range []signer.Alg{"none", signer.PS256, signer.ES256, "HS256", signer.RSAOAEP} {
		if _, err := v.SignJWS(t.Context(), alg, signer.Header{}, nil); !errors.Is(err, signer.ErrUnsupported) {
			t.Errorf("SignJWS(%s) = %v, want ErrUnsupported", alg, err)
		}
	}
}

func TestVerifyJWSRefuses(t *testing.T) {
	v := version(t, "generate:rsa-2048", signer.RS256)
	good, err := v.SignJWS(t.Context(), "", signer.Header{}, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	withHeader := func(h string) string { return b64([]byte(h)) + "." + good.Payload + "." + good.Signature }
	tests := map[string]string{
		"none":             b64([]byte(`{"alg":"none"}`)) + "." + good.Payload + ".",
		"HMAC":             withHeader(`{"alg":"HS256"}`),
		"another alg":      withHeader(`{"alg":"PS256"}`),
		"crit":             withHeader(`{"alg":"RS256","crit":["b64"],"b64":false}`),
		"unknown crit":     withHeader(`{"alg":"RS256","crit":["x"],"x":1}`),
		"changed header":   withHeader(`{"alg":"RS256","kid":"x"}`),
		"changed payload":  good.Protected + "." + b64([]byte(`{"a":1}`)) + "." + good.Signature,
		"no signature":     good.Protected + "." + good.Payload + ".",
		"detached":         good.Detached(),
		"flattened":        good.Flattened(),
		"garbage":          "x",
		"empty":            "",
		"another key's":    otherToken(t),
		"one part too few": good.Protected + "." + good.Payload,
	}
	for name, token := range tests {
		t.Run(name, func(t *testing.T) {
			parsed, err := signer.ParseSigned(token)
			if err == nil {
				_, err = v.VerifyJWS(parsed)
			}
			if !errors.Is(err, signer.ErrInvalid) {
				t.Errorf("error is %v, want ErrInvalid", err)
			}
		})
	}
}

func otherToken(t *testing.T) string {
	t.Helper()
	jws, err := version(t, "generate:rsa-2048:other", signer.RS256).SignJWS(t.Context(), "", signer.Header{}, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return jws.Compact()
}

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
			ours, err := v.EncryptJWE(string(enc), signer.Header{Typ: "t", Cty: "JWT"}, plaintext)
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
	if sealed.KID != v.KID() || sealed.Alg != alg || sealed.Enc != string(enc) || sealed.Header.Cty != "JWT" {
		t.Errorf("%s %s: ParseSealed() = %+v", alg, enc, sealed)
	}
	if got, err := v.DecryptJWE(t.Context(), sealed); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s %s: DecryptJWE() = %q, %v", alg, enc, got, err)
	}
}

func theirs(t *testing.T, v *signer.Version, alg signer.Alg, enc jose.ContentEncryption, plaintext []byte) string {
	t.Helper()
	e, err := jose.NewEncrypter(enc, jose.Recipient{Algorithm: jose.KeyAlgorithm(alg), Key: v.JWK()}, (&jose.EncrypterOptions{}).WithContentType("JWT"))
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
	good, err := v.EncryptJWE("", signer.Header{}, []byte("a sealed envelope"))
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
				plaintext, err = v.DecryptJWE(t.Context(), sealed)
			}
			if !errors.Is(err, signer.ErrDecrypt) || err.Error() != signer.ErrDecrypt.Error() || plaintext != nil {
				t.Errorf("error is %v with %d bytes, want ErrDecrypt and nothing else", err, len(plaintext))
			}
		})
	}
	if _, err := v.EncryptJWE("A512GCM", signer.Header{}, nil); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("EncryptJWE(A512GCM) = %v, want ErrUnsupported", err)
	}
}

// TestDecryptJWEUnavailable: a backend that is down is no bad JWE.
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
	jwe, err := v.EncryptJWE("", signer.Header{}, []byte("x"))
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
	if _, err := v.DecryptJWE(t.Context(), sealed); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("DecryptJWE() = %v, want ErrUnavailable", err)
	}
}

func TestOpaqueSigner(t *testing.T) {
	key, ok := open(t, "generate:ec-p256").(signer.Signer)
	if !ok {
		t.Fatal("no signer")
	}
	o, err := signer.OpaqueSigner(key, "k1", signer.ES256)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: o}, nil)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := js.Sign([]byte("postcard"))
	if err != nil {
		t.Fatal(err)
	}
	compact, err := obj.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parsed.Verify(key.Public()); err != nil || string(got) != "postcard" || parsed.Signatures[0].Protected.KeyID != "k1" {
		t.Errorf("Verify() = %q, %v with kid %q", got, err, parsed.Signatures[0].Protected.KeyID)
	}
	if _, err := o.SignPayload(nil, "none"); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("SignPayload(none) = %v, want ErrUnsupported", err)
	}
}

func TestRing(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC) }
	pairs := map[byte]signer.Key{'a': open(t, "generate:ec-p256"), 'b': open(t, "generate:ec-p256")}
	v := func(kid string, notBefore time.Time) *signer.Version {
		k := pairs[kid[0]]
		v, err := signer.NewVersion(k, signer.VersionConfig{KID: kid, Algs: []signer.Alg{signer.ES256}, NotBefore: notBefore})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	r, err := signer.NewRing([]signer.NamedKey{
		{Name: "a", Versions: []*signer.Version{v("a1", at(1)), v("a0", time.Time{}), v("a2", at(10)), v("a2b", at(10))}},
		{Name: "b", Versions: []*signer.Version{v("b1", at(5))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for day, want := range map[int]string{-100: "a0", 1: "a1", 9: "a1", 10: "a2", 30: "a2"} {
		if got, err := r.Active("a", at(day)); err != nil || got.KID() != want {
			t.Errorf("Active(a, day %d) = %v, %v; want %s", day, got, err, want)
		}
	}
	if _, err := r.Active("b", at(4)); !errors.Is(err, signer.ErrNotFound) {
		t.Errorf("Active(b) before its time = %v, want ErrNotFound", err)
	}
	if _, err := r.Active("c", at(4)); !errors.Is(err, signer.ErrNotFound) {
		t.Errorf("Active(c) = %v, want ErrNotFound", err)
	}
	if name, got, err := r.Version("a2b"); err != nil || name != "a" || got.KID() != "a2b" {
		t.Errorf("Version(a2b) = %s, %v, %v", name, got, err)
	}
	if _, _, err := r.Version("x"); !errors.Is(err, signer.ErrNotFound) {
		t.Errorf("Version(x) = %v, want ErrNotFound", err)
	}
	var kids []string
	for _, jwk := range r.JWKS("b", "a", "c").Keys {
		kids = append(kids, jwk.KeyID)
	}
	if diff := cmp.Diff([]string{"a1", "a0", "a2", "a2b", "b1"}, kids); diff != "" {
		t.Errorf("JWKS() (-want +got):\n%s", diff)
	}
	if data, err := json.Marshal(r.JWKS()); err != nil || string(data) != `{"keys":[]}` {
		t.Errorf("JWKS() of no key = %s, %v", data, err)
	}
}

func TestRingRefuses(t *testing.T) {
	k := open(t, "generate:ec-p256")
	v := func(kid string) *signer.Version {
		v, err := signer.NewVersion(k, signer.VersionConfig{KID: kid, Algs: []signer.Alg{signer.ES256}})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	rs := version(t, "generate:rsa-2048", signer.RS256)
	tests := map[string][]signer.NamedKey{
		"no versions":    {{Name: "a"}},
		"no name":        {{Versions: []*signer.Version{v("1")}}},
		"a name twice":   {{Name: "a", Versions: []*signer.Version{v("1")}}, {Name: "a", Versions: []*signer.Version{v("2")}}},
		"a kid twice":    {{Name: "a", Versions: []*signer.Version{v("1")}}, {Name: "b", Versions: []*signer.Version{v("1")}}},
		"a pair twice":   {{Name: "a", Versions: []*signer.Version{v("1")}}, {Name: "b", Versions: []*signer.Version{v("2")}}},
		"mixed versions": {{Name: "a", Versions: []*signer.Version{v("1"), rs}}},
	}
	for name, keys := range tests {
		if _, err := signer.NewRing(keys); !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("%s: NewRing() = %v, want ErrInvalid", name, err)
		}
	}
}

func TestCheckDigestAuto(t *testing.T) {
	rs := open(t, "generate:rsa-2048").Public()
	alg, err := signer.CheckDigest(rs, make([]byte, 32), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256})
	if err != nil || alg != signer.PS256 {
		t.Errorf("CheckDigest(PSSSaltLengthAuto) = %s, %v; want PS256", alg, err)
	}
	if _, err := signer.CheckDigest(rs, nil, nil); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("CheckDigest(no options) = %v, want ErrUnsupported", err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.CheckDigest(p224.Public(), make([]byte, 32), crypto.SHA256); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("CheckDigest(P-224) = %v, want ErrUnsupported", err)
	}
}

// TestLargeRSA has a public key of half a million bits, as fits into a
// request: to encrypt to it takes more than a minute of one CPU.
func TestLargeRSA(t *testing.T) {
	n := new(big.Int).SetBit(big.NewInt(1), signer.MaxRSABits, 1)
	for _, alg := range []signer.Alg{signer.RSAOAEP256, signer.RS256} {
		if err := alg.Fits(&rsa.PublicKey{N: n, E: 65537}); !errors.Is(err, signer.ErrUnsupported) {
			t.Errorf("%s fits %d bits: %v", alg, n.BitLen(), err)
		}
	}
	n.SetBit(n, 1<<19, 1)
	if _, err := signer.EncryptJWE(&rsa.PublicKey{N: n, E: 1<<31 - 1}, "", signer.RSAOAEP, "", signer.Header{}, nil); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("EncryptJWE() to %d bits = %v", n.BitLen(), err)
	}
}
