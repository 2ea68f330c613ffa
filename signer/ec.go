package signer

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	k1 "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// Secp256k1 returns the curve of ES256K (SEC 2 section 2.4.1, RFC 8812). The
// standard library does not have it: compare keys and verify with this package.
func Secp256k1() elliptic.Curve { return secp256k1.S256() } //nolint:staticcheck // deprecated for its arithmetic; here it only names the curve

// isK1 reports whether pub is on secp256k1.
func isK1(pub *ecdsa.PublicKey) bool { return pub.Curve == Secp256k1() }

// ParsePoint reads an uncompressed point: 0x04, x and y, each as long as the field
// (SEC 1 section 2.3.4). It reports false if that is not a point of curve.
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

// k1Key returns pub as the library for secp256k1 has it.
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

// curveOf returns the curve of crypto/elliptic that is the same as c.
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

var errDER = errors.New("ecdsa signature: not the DER of two positive integers")

// RawECDSA turns an ECDSA signature from ASN.1 DER (RFC 3279 section 2.2.3)
// into the raw r || s of RFC 7518 section 3.4, in which both integers have size
// bytes. It takes strict DER only: one encoding for each signature.
func RawECDSA(der []byte, size int) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil || sig.R.Sign() <= 0 || sig.S.Sign() <= 0 {
		return nil, errDER
	}
	if n := (max(sig.R.BitLen(), sig.S.BitLen()) + 7) / 8; n > size {
		return nil, fmt.Errorf("ecdsa signature: an integer of %d bytes where the curve has %d", n, size)
	}
	raw := make([]byte, 2*size)
	sig.R.FillBytes(raw[:size])
	sig.S.FillBytes(raw[size:])

	// Unmarshal passes over what follows the two integers.
	if strict, err := DERECDSA(raw); err != nil || !bytes.Equal(strict, der) {
		return nil, errDER
	}
	return raw, nil
}

// DERECDSA turns a raw r || s (RFC 7518 section 3.4) into ASN.1 DER (RFC 3279
// section 2.2.3). It is the inverse of [RawECDSA]. It comes before each verification by
// crypto/ecdsa, and takes a tenth of the time of package asn1.
func DERECDSA(raw []byte) ([]byte, error) {
	size := len(raw) / 2
	if len(raw) == 0 || len(raw)%2 != 0 || size > 66 {
		return nil, fmt.Errorf("ecdsa signature: %d bytes are not r || s", len(raw))
	}

	body := make([]byte, 0, 2*(2+67)) // two integers of 67 bytes at most
	for _, n := range [][]byte{raw[:size], raw[size:]} {
		n = bytes.TrimLeft(n, "\x00")
		if len(n) == 0 {
			return nil, errors.New("ecdsa signature: r or s is zero")
		}
		if n[0]&0x80 != 0 { // a zero keeps it positive
			body = append(append(body, 0x02, byte(len(n)+1), 0), n...) // #nosec G115 -- 67 at most
		} else {
			body = append(append(body, 0x02, byte(len(n))), n...) // #nosec G115 -- 66 at most
		}
	}

	head := []byte{0x30, byte(len(body))} // #nosec G115 -- 138 at most
	if len(body) >= 0x80 {
		head = []byte{0x30, 0x81, byte(len(body))} // #nosec G115 -- as above
	}
	return append(head, body...), nil
}
