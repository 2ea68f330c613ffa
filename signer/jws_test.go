package signer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"signetd/signer"
)

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
	jwk := &v.JWK().JSONWebKey
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
	if got, want := jws.FlattenedDetached(), strings.Replace(jws.Flattened(), `"payload":"`+jws.Payload()+`",`, "", 1); got != want {
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
	if got, err := v.VerifyJWS(t.Context(), token); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%s: VerifyJWS() = %s, %v", alg, got, err)
	}
}

// TestSignJWSMore signs with what not every verifier knows. go-jose verifies EdDSA
// and HMAC; ES256K and the name Ed25519 it has not heard of.
func TestSignJWSMore(t *testing.T) {
	secret := make([]byte, 64)
	rand.Read(secret)
	tests := []struct {
		ref  string
		algs []signer.Alg
	}{
		{"generate:ed25519", []signer.Alg{signer.EdDSA, signer.Ed25519}},
		{"generate:ec-secp256k1", []signer.Alg{signer.ES256K}},
		{keyFile(t, secret, signer.HS512), []signer.Alg{signer.HS256, signer.HS384, signer.HS512}},
	}

	for _, tt := range tests {
		v, err := signer.NewVersion(open(t, tt.ref), signer.VersionConfig{KID: "k", Algs: tt.algs})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Prove(t.Context()); err != nil {
			t.Errorf("%s: Prove() = %v", tt.algs, err)
		}
		for _, alg := range tt.algs {
			jws, err := v.SignJWS(t.Context(), alg, signer.Header{Typ: "at+jwt", Cty: "x"}, []byte("{}"))
			if err != nil {
				t.Fatalf("%s: SignJWS() = %v", alg, err)
			}
			checkMore(t, v, alg, jws, secret)
		}
	}
}

func checkMore(t *testing.T, v *signer.Version, alg signer.Alg, jws *signer.JWS, secret []byte) {
	t.Helper()
	token, err := signer.ParseSigned(jws.Compact())
	if err != nil || token.Alg != alg || !bytes.Equal(token.Digest, jws.Digest) {
		t.Fatalf("%s: ParseSigned() = %+v, %v", alg, token, err)
	}
	if got, err := v.VerifyJWS(t.Context(), token); err != nil || string(got) != "{}" {
		t.Errorf("%s: VerifyJWS() = %q, %v", alg, got, err)
	}
	bad, err := signer.ParseSigned(jws.Protected() + "." + encode([]byte("{ }")) + "." + jws.Signature())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v.VerifyJWS(t.Context(), bad); !errors.Is(err, signer.ErrInvalid) || got != nil {
		t.Errorf("%s: VerifyJWS() of another payload = %q, %v; want ErrInvalid", alg, got, err)
	}
	if alg == signer.ES256K || alg == signer.Ed25519 {
		return
	}
	parsed, err := jose.ParseSignedCompact(jws.Compact(), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		t.Fatal(err)
	}
	key := any(secret)
	if alg == signer.EdDSA {
		key = v.JWK().Key
	}
	if got, err := parsed.Verify(key); err != nil || string(got) != "{}" {
		t.Errorf("%s: go-jose's Verify() = %q, %v", alg, got, err)
	}
}

// TestJWKSecp256k1 writes and reads a JWK, and refuses what is not one.
func TestJWKSecp256k1(t *testing.T) {
	v := version(t, "generate:ec-secp256k1", signer.ES256K)
	text, err := json.Marshal(signer.JWKSet{Keys: []signer.JWK{*v.JWK()}})
	if err != nil {
		t.Fatal(err)
	}
	var set signer.JWKSet
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	found := set.Key(v.KID())
	if len(found) != 1 || !v.Public().(*ecdsa.PublicKey).Equal(found[0].Key) || found[0].Algorithm != "ES256K" || found[0].Use != "sig" {
		t.Errorf("%s reads as %+v", text, found)
	}
	if print, err := signer.Thumbprint(found[0].Key); err != nil || print != v.KID() {
		t.Errorf("Thumbprint() = %q, %v; want %q", print, err, v.KID())
	}

	for _, bad := range []string{
		`{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}`, `{"kty":"OKP","crv":"secp256k1","x":"` + strings.Repeat("A", 43) + `"}`,
		`{"kty":"EC","crv":"secp256k1","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`,
	} {
		if json.Unmarshal([]byte(bad), new(signer.JWK)) == nil {
			t.Errorf("%s is read as a JWK", bad)
		}
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
	withHeader := func(h string) string { return b64([]byte(h)) + "." + good.Payload() + "." + good.Signature() }
	tests := map[string]string{
		"none":             b64([]byte(`{"alg":"none"}`)) + "." + good.Payload() + ".",
		"HMAC":             withHeader(`{"alg":"HS256"}`),
		"another alg":      withHeader(`{"alg":"PS256"}`),
		"crit":             withHeader(`{"alg":"RS256","crit":["b64"],"b64":false}`),
		"unknown crit":     withHeader(`{"alg":"RS256","crit":["x"],"x":1}`),
		"changed header":   withHeader(`{"alg":"RS256","kid":"x"}`),
		"changed payload":  good.Protected() + "." + b64([]byte(`{"a":1}`)) + "." + good.Signature(),
		"no signature":     good.Protected() + "." + good.Payload() + ".",
		"detached":         good.Detached(),
		"flattened":        good.Flattened(),
		"garbage":          "x",
		"empty":            "",
		"another key's":    otherToken(t),
		"one part too few": good.Protected() + "." + good.Payload(),
	}

	for name, token := range tests {
		t.Run(name, func(t *testing.T) {
			parsed, err := signer.ParseSigned(token)
			if err == nil {
				_, err = v.VerifyJWS(t.Context(), parsed)
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
