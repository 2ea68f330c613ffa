package signer

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"

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
	body, rest, ok := cutDER(der, 0x30)
	if !ok || len(rest) != 0 {
		return nil, errDER
	}

	raw := make([]byte, 2*size)
	for _, half := range [][]byte{raw[:size], raw[size:]} {
		var n []byte
		if n, body, ok = cutDER(body, 0x02); !ok {
			return nil, errDER
		}
		if n, ok = unsigned(n); !ok {
			return nil, errDER
		}
		if len(n) > size {
			return nil, fmt.Errorf("ecdsa signature: an integer of %d bytes where the curve has %d", len(n), size)
		}
		copy(half[size-len(n):], n)
	}
	if len(body) != 0 {
		return nil, errDER
	}
	return raw, nil
}

// DERECDSA turns a raw r || s (RFC 7518 section 3.4) into ASN.1 DER (RFC 3279
// section 2.2.3). It is the inverse of [RawECDSA].
func DERECDSA(raw []byte) ([]byte, error) {
	size := len(raw) / 2
	if len(raw) == 0 || len(raw)%2 != 0 || size > 66 {
		return nil, fmt.Errorf("ecdsa signature: %d bytes are not r || s", len(raw))
	}
	r, s := signed(raw[:size]), signed(raw[size:])
	if r == nil || s == nil {
		return nil, errors.New("ecdsa signature: r or s is zero")
	}
	body := appendDER(appendDER(make([]byte, 0, 2*(2+67)), 0x02, r), 0x02, s) // two integers of 67 bytes
	return appendDER(make([]byte, 0, 3+len(body)), 0x30, body), nil
}

// appendDER appends a value of at most 255 bytes with its tag and length. The
// longest here is the body of two 67-byte integers: 138.
func appendDER(out []byte, tag byte, value []byte) []byte {
	n := byte(len(value)) // #nosec G115 -- see above
	if n < 0x80 {
		return append(append(out, tag, n), value...)
	}
	return append(append(out, tag, 0x81, n), value...)
}

// cutDER splits off the first value of in, which must have the given tag and a
// length in the shortest form below 256.
func cutDER(in []byte, tag byte) (value, rest []byte, ok bool) {
	if len(in) < 2 || in[0] != tag {
		return nil, nil, false
	}
	n, in := int(in[1]), in[2:]
	if n == 0x81 && len(in) > 0 && in[0] >= 0x80 {
		n, in = int(in[0]), in[1:]
	} else if n >= 0x80 {
		return nil, nil, false
	}
	if n > len(in) {
		return nil, nil, false
	}
	return in[:n], in[n:], true
}

// unsigned strips the sign byte of a positive DER integer.
func unsigned(n []byte) ([]byte, bool) {
	switch {
	case len(n) == 0, n[0]&0x80 != 0: // empty, negative
		return nil, false
	case n[0] != 0:
		return n, true
	case len(n) == 1, n[1]&0x80 == 0: // zero, or a sign byte that is not needed
		return nil, false
	}
	return n[1:], true
}

// signed is the content of a DER integer with the big-endian value n, or nil
// for zero.
func signed(n []byte) []byte {
	for len(n) > 0 && n[0] == 0 {
		n = n[1:]
	}
	if len(n) > 0 && n[0]&0x80 != 0 {
		return append([]byte{0}, n...)
	}
	if len(n) == 0 {
		return nil
	}
	return n
}
