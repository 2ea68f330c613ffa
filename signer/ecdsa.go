package signer

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
)

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
		return nil, fmt.Errorf("ecdsa signature: %d bytes are no r || s", len(raw))
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

// coordinateSize is the length of r and of s in bytes: 32, 48 or 66.
func coordinateSize(pub *ecdsa.PublicKey) int {
	return (pub.Curve.Params().BitSize + 7) / 8
}
