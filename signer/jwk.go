package signer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// A JWK is a public key (RFC 7517). It is go-jose's, which does not know keys on
// [Secp256k1] (RFC 8812 section 3.1) and [AKP]s: their JSON is made and read here.
type JWK struct{ jose.JSONWebKey }

// A JWKSet is a set of public keys (RFC 7517 section 5).
type JWKSet struct {
	Keys []JWK `json:"keys"`
}

// k1JWK is the JSON of a key on secp256k1, with the members of a thumbprint in the
// order of RFC 7638 section 3.
type k1JWK struct {
	Crv string `json:"crv"`
	Kty string `json:"kty"`
	X   string `json:"x"`
	Y   string `json:"y"`
	D   string `json:"d,omitempty"`
	Use string `json:"use,omitempty"`
	KID string `json:"kid,omitempty"`
	Alg string `json:"alg,omitempty"`
}

// MarshalJSON implements [json.Marshaler].
func (k JWK) MarshalJSON() ([]byte, error) {
	switch pub := k.Key.(type) {
	case *AKP:
		return json.Marshal(akpJWK{Alg: pub.alg, Kty: "AKP", Pub: b64(pub.pub), Use: k.Use, KID: k.KeyID})

	case *ecdsa.PublicKey:
		if !isK1(pub) {
			break
		}
		key, ok := k1Key(pub)
		if !ok {
			return nil, errors.New("a public key that is no point of secp256k1")
		}
		point := key.SerializeUncompressed()
		return json.Marshal(k1JWK{Crv: "secp256k1", Kty: "EC", X: b64(point[1:33]), Y: b64(point[33:]), Use: k.Use, KID: k.KeyID, Alg: k.Algorithm})
	}
	return k.JSONWebKey.MarshalJSON()
}

// UnmarshalJSON implements [json.Unmarshaler].
func (k *JWK) UnmarshalJSON(data []byte) error {
	var j k1JWK
	err := json.Unmarshal(data, &j)

	if err == nil && j.Kty == "AKP" {
		akp, j, err := parseAKP(data)
		if err != nil {
			return err
		}
		k.JSONWebKey = jose.JSONWebKey{Key: akp, KeyID: j.KID, Algorithm: string(j.Alg), Use: j.Use}
		return nil
	}

	if err != nil || j.Crv != "secp256k1" {
		return k.JSONWebKey.UnmarshalJSON(data)
	}

	x, goodX := DecodeBase64URL(j.X)
	y, goodY := DecodeBase64URL(j.Y)
	point := append(append([]byte{4}, x...), y...)
	pub, ok := ParsePoint(Secp256k1(), point)
	if j.Kty != "EC" || j.D != "" || !goodX || !goodY || len(x) != 32 || !ok {
		return errors.New("not a public JWK on secp256k1")
	}
	k.JSONWebKey = jose.JSONWebKey{Key: pub, KeyID: j.KID, Algorithm: j.Alg, Use: j.Use}
	return nil
}

// Thumbprint returns the RFC 7638 thumbprint of pub with SHA-256, in base64url
// without padding: 43 characters, the kid of a key whose config names none.
func Thumbprint(pub crypto.PublicKey) (string, error) {
	jwk := JWK{jose.JSONWebKey{Key: pub}}
	var sum []byte
	var err error
	ec, isEC := pub.(*ecdsa.PublicKey)
	if _, isAKP := pub.(*AKP); isAKP || isEC && isK1(ec) {
		var text []byte // the JSON that is made here has the form that is hashed
		text, err = jwk.MarshalJSON()
		sum = appendHash(nil, crypto.SHA256, text)
	} else {
		sum, err = jwk.Thumbprint(crypto.SHA256)
	}
	if err != nil {
		return "", fmt.Errorf("thumbprint: %w: %w", ErrUnsupported, err)
	}
	return b64(sum), nil
}

// JWK returns the public key of v (RFC 7517), or nil if v has none or it is not known yet.
// It names an algorithm only if the key has no other.
func (v *Version) JWK() *JWK {
	if v.Symmetric() || v.Public() == nil {
		return nil
	}
	jwk := &JWK{jose.JSONWebKey{Key: v.public, KeyID: v.kid, Use: string(v.Use())}}
	if len(v.algs) == 1 {
		jwk.Algorithm = string(v.algs[0])
	}
	return jwk
}

// maxKeys bounds the keys of a set that [ParseJWKSet] reads: each may cost a verification.
const maxKeys = 64

// ParseJWKSet reads a set of public keys. Keys of unknown types and curves are left out
// (RFC 7517 section 5); a private or symmetric key, and one that is not valid, is
// ErrInvalid. An error names the key by its place in the set, and holds nothing of it.
func ParseJWKSet(data []byte) (*JWKSet, error) {
	var raw struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &raw); err != nil || raw.Keys == nil || len(*raw.Keys) > maxKeys {
		return nil, fmt.Errorf("%w: is not a JWK set of at most %d keys", ErrInvalid, maxKeys)
	}

	set := &JWKSet{Keys: []JWK{}}
	for i, text := range *raw.Keys {
		var is struct{ Kty, Crv string }
		if json.Unmarshal(text, &is) == nil && unknownKey(is.Kty, is.Crv) {
			continue
		}
		var k JWK
		if err := json.Unmarshal(text, &k); err != nil || !k.public() {
			return nil, fmt.Errorf("%w: key %d of the JWK set is not a public key", ErrInvalid, i+1)
		}
		set.Keys = append(set.Keys, k)
	}
	return set, nil
}

// public reports whether k is a public key that is valid.
func (k *JWK) public() bool {
	if _, ok := k.Key.(*AKP); ok {
		return true // UnmarshalJSON has checked it
	}
	return k.Valid() && k.IsPublic()
}

// unknownKey reports whether a JWK is of a type or curve that this package does not have,
// but that may well be one.
func unknownKey(kty, crv string) bool {
	switch kty {
	case "RSA", "oct", "AKP":
		return false
	case "EC":
		return !slices.Contains([]string{"P-256", "P-384", "P-521", "secp256k1"}, crv)
	case "OKP":
		return crv != "Ed25519"
	}
	return kty != ""
}

// Key returns the keys of s with the given kid.
func (s *JWKSet) Key(kid string) (keys []JWK) {
	for _, k := range s.Keys {
		if k.KeyID == kid {
			keys = append(keys, k)
		}
	}
	return keys
}

// An AKP is a public key for ML-DSA (FIPS 204). Its type in JOSE is "AKP", and it goes with
// one algorithm (RFC 9964 section 3). The standard library does not have ML-DSA yet, and
// this package, which every issuer links, brings no library for it: the maker of an AKP
// hands in the function that verifies. Package signetd/signer/mldsa makes AKPs that have
// one.
type AKP struct {
	alg    Alg
	pub    []byte
	verify func(message, sig []byte) bool
}

// akpSizes is the length in bytes of the public keys (FIPS 204 section 4).
var akpSizes = map[Alg]int{MLDSA44: 1312, MLDSA65: 1952, MLDSA87: 2592}

// NewAKP returns the public key pub, as FIPS 204 encodes it, for alg. verify reports
// whether sig is its signature on message, with an empty context; it may be nil, and then
// the key cannot verify.
func NewAKP(alg Alg, pub []byte, verify func(message, sig []byte) bool) (*AKP, error) {
	if size, ok := akpSizes[alg]; !ok || len(pub) != size {
		return nil, fmt.Errorf("%w: a public key of %d bytes for %.32q", ErrInvalid, len(pub), string(alg))
	}
	return &AKP{alg, bytes.Clone(pub), verify}, nil
}

// Alg returns the algorithm of k.
func (k *AKP) Alg() Alg { return k.alg }

// Bytes returns k as FIPS 204 encodes it.
func (k *AKP) Bytes() []byte { return bytes.Clone(k.pub) }

// Equal reports whether k and other are the same key.
func (k *AKP) Equal(other crypto.PublicKey) bool {
	o, ok := other.(*AKP)
	return ok && o.alg == k.alg && bytes.Equal(o.pub, k.pub)
}

// CanVerify returns nil if this build can verify signatures of pub, and
// ErrUnsupported if not.
func CanVerify(pub crypto.PublicKey) error {
	if k, ok := pub.(*AKP); ok && k.verify == nil {
		return fmt.Errorf("%w: this build cannot verify %s", ErrUnsupported, k.alg)
	}
	return nil
}

// akpJWK is the JSON of an AKP, with the members of a thumbprint (RFC 9964 section 6)
// in the order of RFC 7638 section 3.
type akpJWK struct {
	Alg Alg    `json:"alg"`
	Kty string `json:"kty"`
	Pub string `json:"pub"`
	Use string `json:"use,omitempty"`
	KID string `json:"kid,omitempty"`
}

// parseAKP reads a public JWK of type AKP. A private one is an error.
func parseAKP(data []byte) (*AKP, akpJWK, error) {
	var j struct {
		akpJWK
		Priv *string `json:"priv"`
	}
	if json.Unmarshal(data, &j) != nil || j.Priv != nil {
		return nil, j.akpJWK, errors.New("not a public JWK of type AKP")
	}
	pub, ok := DecodeBase64URL(j.Pub)
	if !ok {
		return nil, j.akpJWK, errors.New("not a public JWK of type AKP")
	}
	k, err := NewAKP(j.Alg, pub, nil)
	return k, j.akpJWK, err
}
