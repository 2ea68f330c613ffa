//go:build cgo

package interop_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/go-jose/go-jose/v4"

	"signetd/signer"
)

// A tool is a key for one algorithm, with the content encryptions of that algorithm.
type tool struct {
	key
	alg  signer.Alg
	encs []string // none for a signature
}

var allEncs = []string{"A128GCM", "A192GCM", "A256GCM", "A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512"}

// public returns the half of a key that the other side has: the whole key if it is
// symmetric.
func (k key) public() map[string]any {
	half := map[string]any{"kid": k.kid}
	for name, v := range k.jwk {
		switch name {
		case "d", "p", "q", "dp", "dq", "qi":
		default:
			half[name] = v
		}
	}
	return half
}

// whole returns the private half with the kid.
func (k key) whole() map[string]any {
	all := map[string]any{"kid": k.kid}
	for name, v := range k.jwk {
		all[name] = v
	}
	return all
}

func jwkOf(t testing.TB, private any) map[string]any {
	t.Helper()
	var jwk map[string]any
	must(t, "JWK", json.Unmarshal(encode(t, jose.JSONWebKey{Key: private}), &jwk))
	return jwk
}

func rsaJWK(t testing.TB) map[string]any {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, "RSA key", err)
	return jwkOf(t, k)
}

func ecJWK(t testing.TB, curve elliptic.Curve) map[string]any {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	must(t, "EC key", err)
	return jwkOf(t, k)
}

func k1JWK(t testing.TB) map[string]any {
	t.Helper()
	k, err := secp256k1.GeneratePrivateKey()
	must(t, "secp256k1 key", err)
	point := k.PubKey().SerializeUncompressed()
	return map[string]any{"kty": "EC", "crv": "secp256k1", "d": b64(k.Serialize()), "x": b64(point[1:33]), "y": b64(point[33:])}
}

func edJWK(t testing.TB) map[string]any {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	must(t, "Ed25519 key", err)
	return jwkOf(t, k)
}

func octJWK(size int) map[string]any {
	k := make([]byte, size)
	rand.Read(k)
	return map[string]any{"kty": "oct", "k": b64(k)}
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// sealers returns a key for each alg that encrypts, and for ECDH on each curve.
func sealers(t testing.TB) []tool {
	t.Helper()
	var tools []tool
	add := func(name string, jwk map[string]any, alg signer.Alg, encs ...string) {
		tools = append(tools, tool{newKey(name, jwk, alg), alg, encs})
	}
	for _, alg := range []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512} {
		add(string(alg), rsaJWK(t), alg, allEncs...) // the daemon refuses a key pair that two keys have
	}

	for name, curve := range curves {
		for _, alg := range []signer.Alg{signer.ECDHES, signer.ECDHESA128KW, signer.ECDHESA192KW, signer.ECDHESA256KW} {
			add(string(alg)+" "+name, ecJWK(t, curve), alg, allEncs...)
		}
	}
	for alg, size := range map[signer.Alg]int{
		signer.A128KW: 16, signer.A192KW: 24, signer.A256KW: 32, signer.A128GCMKW: 16, signer.A192GCMKW: 24, signer.A256GCMKW: 32,
	} {
		add(string(alg), octJWK(size), alg, allEncs...)
	}

	for enc, size := range map[string]int{"A128GCM": 16, "A192GCM": 24, "A256GCM": 32} { // a token has no mechanism for CBC with HMAC
		add("dir "+enc, octJWK(size), signer.Dir, enc)
	}
	return tools
}

// signers returns a key for each signature algorithm but ML-DSA, which no other
// implementation here has: go-jose needs a newer Go for it, jose a newer Node.
func signers(t testing.TB) []tool {
	t.Helper()
	var tools []tool
	for alg, jwk := range map[signer.Alg]map[string]any{
		signer.RS256: rsaJWK(t), signer.RS384: rsaJWK(t), signer.RS512: rsaJWK(t),
		signer.PS256: rsaJWK(t), signer.PS384: rsaJWK(t), signer.PS512: rsaJWK(t),
		signer.ES256: ecJWK(t, elliptic.P256()), signer.ES384: ecJWK(t, elliptic.P384()), signer.ES512: ecJWK(t, elliptic.P521()),
		signer.ES256K: k1JWK(t), signer.EdDSA: edJWK(t), signer.Ed25519: edJWK(t),
		signer.HS256: octJWK(32), signer.HS384: octJWK(48), signer.HS512: octJWK(64),
	} {
		tools = append(tools, tool{newKey(string(alg), jwk, alg), alg, nil})
	}
	return tools
}

func b64decode(text string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(text) }
