package cloud

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"signetd/signer"
	"signetd/signer/mldsa"
)

// spki is a SubjectPublicKeyInfo (RFC 5280 section 4.1).
type spki struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} // RFC 5480 section 2.1.1
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}       // SEC 2 section A.2.1
)

// oidMLDSA are the algorithms of ML-DSA (RFC 9881 section 2).
var oidMLDSA = map[string]signer.Alg{
	"2.16.840.1.101.3.4.3.17": signer.MLDSA44,
	"2.16.840.1.101.3.4.3.18": signer.MLDSA65,
	"2.16.840.1.101.3.4.3.19": signer.MLDSA87,
}

// ParsePublicKey reads a SubjectPublicKeyInfo in DER. It returns an *rsa.PublicKey, an
// *ecdsa.PublicKey, an ed25519.PublicKey, or another type that crypto/x509 reads; also
// an *ecdsa.PublicKey on [signer.Secp256k1] and a *signer.AKP that can verify, which
// crypto/x509 does not know.
func ParsePublicKey(der []byte) (crypto.PublicKey, error) {
	var info spki
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) != 0 {
		return x509.ParsePKIXPublicKey(der) // says what is wrong
	}
	algorithm, parameters := info.Algorithm.Algorithm, info.Algorithm.Parameters.FullBytes

	// A key for ML-DSA is in the encoding of FIPS 204, and its algorithm has no parameters.
	if alg, ok := oidMLDSA[algorithm.String()]; ok && len(parameters) == 0 && info.Key.BitLength%8 == 0 {
		return mldsa.Public(alg, info.Key.Bytes)
	}

	var curve asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(parameters, &curve)
	if err != nil || len(rest) != 0 || !algorithm.Equal(oidECPublicKey) || !curve.Equal(oidSecp256k1) {
		return x509.ParsePKIXPublicKey(der)
	}
	pub, ok := signer.ParsePoint(signer.Secp256k1(), info.Key.RightAlign())
	if !ok {
		return nil, errors.New("a public key that is not a point of secp256k1")
	}
	return pub, nil
}

// Verify returns an error unless sig is pub's signature on digest with alg, in ASN.1 DER
// for ECDSA. For Ed25519 and ML-DSA digest is the message. The error wraps
// [signer.ErrVerify]. The caller must not return the signature.
func Verify(pub crypto.PublicKey, alg signer.Alg, digest, sig []byte) error {
	if ec, ok := pub.(*ecdsa.PublicKey); ok {
		raw, err := signer.RawECDSA(sig, (ec.Curve.Params().BitSize+7)/8)
		if err != nil {
			return fmt.Errorf("%w: %w", signer.ErrVerify, err)
		}
		sig = raw
	}

	if !signer.VerifyDigest(pub, alg, digest, sig) {
		return signer.ErrVerify
	}
	return nil
}
