//go:build !noaws

package awskms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"signetd/signer"
)

// pairs are the key specs of key pairs that this backend knows. Each has a public key
// with the type, curve and size of their public halves.
var pairs = []struct {
	spec   types.KeySpec
	public crypto.PublicKey
}{
	{types.KeySpecRsa2048, rsaShape(2048)},
	{types.KeySpecRsa3072, rsaShape(3072)},
	{types.KeySpecRsa4096, rsaShape(4096)},
	{types.KeySpecEccNistP256, &ecdsa.PublicKey{Curve: elliptic.P256()}},
	{types.KeySpecEccNistP384, &ecdsa.PublicKey{Curve: elliptic.P384()}},
	{types.KeySpecEccNistP521, &ecdsa.PublicKey{Curve: elliptic.P521()}},
	{types.KeySpecEccSecgP256k1, &ecdsa.PublicKey{Curve: signer.Secp256k1()}},
	{types.KeySpecEccNistEdwards25519, make(ed25519.PublicKey, ed25519.PublicKeySize)},
	{types.KeySpecMlDsa44, akpShape(signer.MLDSA44, 1312)},
	{types.KeySpecMlDsa65, akpShape(signer.MLDSA65, 1952)},
	{types.KeySpecMlDsa87, akpShape(signer.MLDSA87, 2592)},
}

// akpShape returns a public key for alg, of size bytes (FIPS 204 table 2).
func akpShape(alg signer.Alg, size int) crypto.PublicKey {
	pub, err := signer.NewAKP(alg, make([]byte, size), nil)
	if err != nil {
		panic(err) // the sizes are above
	}
	return pub
}

func rsaShape(bits uint) crypto.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits-1), E: 65537}
}

// KeysFor returns the key specs that do alg, by AWS's names, if the key's usage is the
// one for it: SIGN_VERIFY, ENCRYPT_DECRYPT, KEY_AGREEMENT or GENERATE_VERIFY_MAC. It is
// empty for an algorithm that AWS does not have, and in a build without AWS.
func KeysFor(alg signer.Alg) (specs []string) {
	_, signs := signingAlgorithms[alg]
	_, decrypts := encryptionAlgorithms[alg]
	if signs || decrypts || alg.Family() == signer.FamilyECDH {
		for _, p := range pairs {
			if alg.Fits(p.public) == nil {
				specs = append(specs, string(p.spec))
			}
		}
	}

	for spec, mac := range hmacAlgs {
		if mac == alg {
			specs = append(specs, string(spec))
		}
	}
	return specs
}
