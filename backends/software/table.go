package software

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"signetd/signer"
	"signetd/signer/mldsa"
)

// A keyType is a type of key that a ref "generate:TYPE" can ask for.
type keyType struct {
	name  string
	shape crypto.PublicKey // has the type, curve and size of the public halves; nil for ML-DSA
	mldsa signer.Alg       // the one algorithm of a key for ML-DSA
}

var keyTypes = []keyType{
	{name: "ec-p256", shape: &ecdsa.PublicKey{Curve: elliptic.P256()}},
	{name: "ec-p384", shape: &ecdsa.PublicKey{Curve: elliptic.P384()}},
	{name: "ec-p521", shape: &ecdsa.PublicKey{Curve: elliptic.P521()}},
	{name: "ec-secp256k1", shape: &ecdsa.PublicKey{Curve: signer.Secp256k1()}},
	{name: "ed25519", shape: make(ed25519.PublicKey, ed25519.PublicKeySize)},
	{name: "ml-dsa-44", mldsa: signer.MLDSA44},
	{name: "ml-dsa-65", mldsa: signer.MLDSA65},
	{name: "ml-dsa-87", mldsa: signer.MLDSA87},
	{name: "rsa-2048", shape: rsaShape(2048)},
	{name: "rsa-3072", shape: rsaShape(3072)},
	{name: "rsa-4096", shape: rsaShape(4096)},
	{name: "hmac-512", shape: signer.Secret{Type: signer.SecretHMAC, Size: 64}},
	{name: "aes-128", shape: signer.Secret{Type: signer.SecretAES, Size: 16}},
	{name: "aes-192", shape: signer.Secret{Type: signer.SecretAES, Size: 24}},
	{name: "aes-256", shape: signer.Secret{Type: signer.SecretAES, Size: 32}},
}

func rsaShape(bits uint) *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits-1), E: 65537}
}

// KeysFor returns the types of key that can be generated and do alg.
func KeysFor(alg signer.Alg) (names []string) {
	for _, t := range keyTypes {
		if t.mldsa == alg || t.shape != nil && alg.Fits(t.shape) == nil {
			names = append(names, t.name)
		}
	}
	return names
}

// generateKey makes a crypto.Signer or a secret of the type with the given name.
func generateKey(name string) (any, error) {
	var names []string
	for _, t := range keyTypes {
		if t.name == name {
			return t.generate()
		}
		names = append(names, t.name)
	}
	return nil, fmt.Errorf("%w: cannot generate a key of type %.32q: the types are %s", signer.ErrInvalid, name, strings.Join(names, ", "))
}

func (t keyType) generate() (any, error) {
	switch shape := t.shape.(type) {
	case *rsa.PublicKey:
		return rsa.GenerateKey(rand.Reader, shape.N.BitLen())
	case *ecdsa.PublicKey:
		if shape.Curve == signer.Secp256k1() {
			private, err := secp256k1.GeneratePrivateKey()
			return k1Key{private}, err
		}
		return ecdsa.GenerateKey(shape.Curve, rand.Reader)
	case ed25519.PublicKey:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case signer.Secret:
		s := secret{shape.Type, make([]byte, shape.Size)}
		rand.Read(s.value)
		return s, nil
	default:
		return mldsa.Generate(t.mldsa)
	}
}
