package signer

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
)

// An AKP is a public key for ML-DSA (FIPS 204), in JOSE of the type "AKP", which
// goes with one algorithm (RFC 9964 section 3). The standard library does not know
// it yet, and this package, which every issuer links, brings no library for it: who
// makes an AKP says how to verify with it, and without that it cannot be verified
// with. Package signetd/signer/mldsa makes those that can.
type AKP struct {
	alg    Alg
	pub    []byte
	verify func(message, sig []byte) bool
}

// akpSizes is the length in bytes of the public keys (FIPS 204 section 4).
var akpSizes = map[Alg]int{MLDSA44: 1312, MLDSA65: 1952, MLDSA87: 2592}

// NewAKP returns the public key pub, as FIPS 204 encodes it, for alg. verify reports
// whether sig is its signature on message, with an empty context; it is nil in a
// build that cannot tell.
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

func newAKPJWK(k *AKP) akpJWK { return akpJWK{Alg: k.alg, Kty: "AKP", Pub: b64(k.pub)} }

// parseAKP reads a public JWK of type AKP. A private one is an error.
func parseAKP(data []byte) (*AKP, akpJWK, error) {
	var j struct {
		akpJWK
		Priv *string `json:"priv"`
	}
	if json.Unmarshal(data, &j) != nil || j.Priv != nil {
		return nil, j.akpJWK, errors.New("not a public JWK of type AKP")
	}
	pub, ok := decodeStrict(j.Pub)
	if !ok {
		return nil, j.akpJWK, errors.New("not a public JWK of type AKP")
	}
	k, err := NewAKP(j.Alg, pub, nil)
	return k, j.akpJWK, err
}
