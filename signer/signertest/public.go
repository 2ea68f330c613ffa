package signertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"

	"signetd/signer"
)

// MarshalPublicKey returns the SubjectPublicKeyInfo of pub in DER (RFC 5280 section 4.1),
// also for a key on [signer.Secp256k1], which crypto/x509 does not know.
func MarshalPublicKey(pub crypto.PublicKey) ([]byte, error) {
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok || ec.Curve != signer.Secp256k1() {
		return x509.MarshalPKIXPublicKey(pub)
	}

	curve, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 10}) // SEC 2 section A.2.1
	if err != nil {
		return nil, err
	}
	point := make([]byte, 65)
	point[0] = 4
	ec.X.FillBytes(point[1:33]) //nolint:staticcheck // ecdsa encodes no point of this curve
	ec.Y.FillBytes(point[33:])  //nolint:staticcheck // as above
	return asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{
		pkix.AlgorithmIdentifier{
			Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, // RFC 5480 section 2.1.1
			Parameters: asn1.RawValue{FullBytes: curve},
		},
		asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	})
}
