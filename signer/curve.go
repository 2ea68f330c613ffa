package signer

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	k1 "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// Secp256k1 returns the curve of ES256K (SEC 2 section 2.4.1, RFC 8812). The
// standard library does not have it: compare keys and verify with this package.
func Secp256k1() elliptic.Curve { return secp256k1.S256() } //nolint:staticcheck // deprecated for its arithmetic; here it only names the curve

// isK1 reports whether pub is on secp256k1.
func isK1(pub *ecdsa.PublicKey) bool { return pub.Curve == Secp256k1() }

// ParsePoint reads an uncompressed point: 0x04, x and y, each as long as the field
// (SEC 1 section 2.3.4). It reports false if that is no point of curve.
func ParsePoint(curve elliptic.Curve, point []byte) (*ecdsa.PublicKey, bool) {
	if curve == Secp256k1() {
		if len(point) != 65 || point[0] != 4 {
			return nil, false
		}
		pub, err := secp256k1.ParsePubKey(point)
		if err != nil {
			return nil, false
		}
		return pub.ToECDSA(), true
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	return pub, err == nil
}

// verifyECDSA reports whether r || s is a signature of pub on digest.
func verifyECDSA(pub *ecdsa.PublicKey, digest, sig []byte) bool {
	size := coordinateSize(pub)
	if len(sig) != 2*size {
		return false
	}
	if !isK1(pub) {
		der, err := DERECDSA(sig)
		return err == nil && ecdsa.VerifyASN1(pub, digest, der)
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:size]) || s.SetByteSlice(sig[size:]) || r.IsZero() || s.IsZero() {
		return false
	}
	key, ok := k1Key(pub)
	return ok && k1.NewSignature(&r, &s).Verify(digest, key)
}

// k1Key is pub in the words of the library for secp256k1.
func k1Key(pub *ecdsa.PublicKey) (*secp256k1.PublicKey, bool) {
	var x, y secp256k1.FieldVal
	px, py := pub.X, pub.Y //nolint:staticcheck // PublicKey.Bytes knows the curves of NIST only
	if px == nil || py == nil || px.Sign() < 0 || py.Sign() < 0 || px.BitLen() > 256 || py.BitLen() > 256 {
		return nil, false
	}
	if x.SetByteSlice(px.FillBytes(make([]byte, 32))) || y.SetByteSlice(py.FillBytes(make([]byte, 32))) {
		return nil, false
	}
	key := secp256k1.NewPublicKey(&x, &y)
	return key, key.IsOnCurve()
}

// curveOf returns the curve of crypto/elliptic that is c.
func curveOf(c ecdh.Curve) (elliptic.Curve, bool) {
	switch c {
	case ecdh.P256():
		return elliptic.P256(), true
	case ecdh.P384():
		return elliptic.P384(), true
	case ecdh.P521():
		return elliptic.P521(), true
	}
	return nil, false
}
