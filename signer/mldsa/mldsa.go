// Package mldsa verifies ML-DSA (FIPS 204, RFC 9964) for package signer, which links no
// library for it. A backend whose hardware signs with ML-DSA makes its public keys here. The
// software keys also sign here.
package mldsa

import (
	"crypto"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/cloudflare/circl/sign"
	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/cloudflare/circl/sign/mldsa/mldsa87"

	"signetd/signer"
)

var schemes = map[signer.Alg]sign.Scheme{
	signer.MLDSA44: mldsa44.Scheme(), signer.MLDSA65: mldsa65.Scheme(), signer.MLDSA87: mldsa87.Scheme(),
}

// Public returns the public key pub, as FIPS 204 encodes it, with the function that
// verifies. Errors are signer.ErrInvalid.
func Public(alg signer.Alg, pub []byte) (*signer.AKP, error) {
	scheme, ok := schemes[alg]
	if !ok {
		return nil, fmt.Errorf("%w: %.32q is not ML-DSA", signer.ErrInvalid, string(alg))
	}
	key, err := scheme.UnmarshalBinaryPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: not a public key for %s", signer.ErrInvalid, alg)
	}
	return signer.NewAKP(alg, pub, func(message, sig []byte) bool { return scheme.Verify(key, message, sig, nil) })
}

// A PrivateKey is a software key. It is a [crypto.Signer] whose digest is the message
// itself.
type PrivateKey struct {
	private sign.PrivateKey
	public  *signer.AKP
}

// Generate makes a key for alg.
func Generate(alg signer.Alg) (*PrivateKey, error) {
	seed := make([]byte, 32)
	rand.Read(seed)
	defer clear(seed)
	return FromSeed(alg, seed)
}

// FromSeed returns the key of a seed of 32 bytes, which is the "priv" of a JWK (RFC 9964
// section 3).
func FromSeed(alg signer.Alg, seed []byte) (*PrivateKey, error) {
	scheme, ok := schemes[alg]
	if !ok || len(seed) != scheme.SeedSize() {
		return nil, fmt.Errorf("%w: a seed of %d bytes for %.32q", signer.ErrInvalid, len(seed), string(alg))
	}
	public, private := scheme.DeriveKey(seed)
	text, err := public.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	akp, err := Public(alg, text)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{private, akp}, nil
}

// Public implements [crypto.Signer].
func (k *PrivateKey) Public() crypto.PublicKey { return k.public }

// Sign implements [crypto.Signer] for a whole message.
func (k *PrivateKey) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	return schemes[k.public.Alg()].Sign(k.private, message, nil), nil
}
