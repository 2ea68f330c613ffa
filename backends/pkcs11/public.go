//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// curves are the named curves of JOSE by CKA_EC_PARAMS, the DER of their object
// identifiers (RFC 5480 section 2.1.1.1).
var curves = []struct {
	params []byte
	curve  elliptic.Curve
}{
	{[]byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}, elliptic.P256()},
	{[]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}, elliptic.P384()},
	{[]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}, elliptic.P521()},
}

func isRSA(pub crypto.PublicKey) bool {
	_, ok := pub.(*rsa.PublicKey)
	return ok
}

// readPublic reads the public half of the private key h.
func readPublic(s *session, h p11.ObjectHandle) (crypto.PublicKey, error) {
	v, err := s.attribute(h, p11.CKA_KEY_TYPE)
	if err != nil {
		return nil, err
	}
	switch typ := ulong(v); typ {
	case p11.CKK_RSA:
		return readRSA(s, h)
	case p11.CKK_EC:
		return readEC(s, h)
	default:
		return nil, fmt.Errorf("%w: a key of type CKK %#x; RSA and EC are known", signer.ErrUnsupported, typ)
	}
}

// ulong is the value of a CK_ULONG attribute.
func ulong(v []byte) uint64 {
	switch len(v) {
	case 4:
		return uint64(binary.NativeEndian.Uint32(v))
	case 8:
		return binary.NativeEndian.Uint64(v)
	default:
		return math.MaxUint64 // CK_UNAVAILABLE_INFORMATION
	}
}

// readRSA reads modulus and exponent, which a private key object has, too.
func readRSA(s *session, h p11.ObjectHandle) (*rsa.PublicKey, error) {
	modulus, err := s.attribute(h, p11.CKA_MODULUS)
	if err != nil {
		return nil, err
	}
	exponent, err := s.attribute(h, p11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, err
	}
	n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(exponent)
	if n.Bit(0) == 0 || e.Bit(0) == 0 || e.BitLen() < 2 || e.BitLen() > 31 {
		return nil, fmt.Errorf("%w: the private key shows no usable CKA_MODULUS and CKA_PUBLIC_EXPONENT", signer.ErrUnsupported)
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// readEC reads the point from the public key object that has the private key's
// id and label and is on its curve. A private key object has no point, and a
// public key that merely has the same label may be a stranger's.
func readEC(s *session, private p11.ObjectHandle) (*ecdsa.PublicKey, error) {
	params, err := s.attribute(private, p11.CKA_EC_PARAMS)
	if err != nil {
		return nil, err
	}
	curve := curveOf(params)
	if curve == nil {
		return nil, fmt.Errorf("%w: a curve other than P-256, P-384 and P-521", signer.ErrUnsupported)
	}
	found, err := findPublic(s, private, params)
	if err != nil {
		return nil, err
	}
	var pub *ecdsa.PublicKey
	for _, h := range found {
		v, err := s.attribute(h, p11.CKA_EC_POINT)
		if err != nil {
			return nil, err
		}
		p, err := parsePoint(curve, v)
		if err != nil {
			return nil, fmt.Errorf("%w: its public key object: %w", signer.ErrInvalid, err)
		}
		if pub != nil && !pub.Equal(p) {
			return nil, fmt.Errorf("%w: several public key objects have its id and label", signer.ErrInvalid)
		}
		pub = p
	}
	if pub == nil {
		return nil, fmt.Errorf("%w: an EC private key without its public half: the token needs a public key object with the same id and label", signer.ErrInvalid)
	}
	return pub, nil
}

func curveOf(params []byte) elliptic.Curve {
	for _, c := range curves {
		if bytes.Equal(c.params, params) {
			return c.curve
		}
	}
	return nil
}

// findPublic returns the public key objects whose id, label and curve are those
// of the private key. It compares by itself what it put in the template: an
// empty value there matches all in some tokens and nothing in others.
func findPublic(s *session, private p11.ObjectHandle, params []byte) ([]p11.ObjectHandle, error) {
	template := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_EC),
	}
	want := map[uint][]byte{p11.CKA_EC_PARAMS: params}
	for _, typ := range []uint{p11.CKA_ID, p11.CKA_LABEL} {
		v, err := s.attribute(private, typ)
		if err != nil {
			return nil, err
		}
		want[typ] = v
		if len(v) > 0 {
			template = append(template, p11.NewAttribute(typ, v))
		}
	}
	found, err := s.find(template)
	if err != nil {
		return nil, err
	}
	var matching []p11.ObjectHandle
	for _, h := range found {
		ok, err := s.has(h, want)
		if err != nil {
			return nil, err
		}
		if ok {
			matching = append(matching, h)
		}
	}
	return matching, nil
}

// has reports whether the attributes of o have the given values.
func (s *session) has(o p11.ObjectHandle, want map[uint][]byte) (bool, error) {
	for typ, value := range want {
		v, err := s.attribute(o, typ)
		if err != nil || !bytes.Equal(v, value) {
			return false, err
		}
	}
	return true, nil
}

// parsePoint parses CKA_EC_POINT: an uncompressed point, in a DER OCTET STRING
// as PKCS#11 2.40 section 2.3.3 wants it, or bare as some tokens have it.
func parsePoint(curve elliptic.Curve, v []byte) (*ecdsa.PublicKey, error) {
	size := 1 + 2*((curve.Params().BitSize+7)/8)
	if len(v) != size {
		var inner []byte
		if rest, err := asn1.Unmarshal(v, &inner); err != nil || len(rest) != 0 {
			return nil, errors.New("its CKA_EC_POINT is no point")
		}
		v = inner
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, v)
	if err != nil {
		return nil, errors.New("its CKA_EC_POINT is not on the curve")
	}
	return pub, nil
}
