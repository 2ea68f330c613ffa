//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"

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
	{[]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a}, signer.Secp256k1()},
}

// ed25519Params are what CKA_EC_PARAMS of Ed25519 may be: the object identifier
// (RFC 8410 section 3), or the name as a PrintableString (PKCS#11 v3.0 section
// 2.3.5).
var ed25519Params = [][]byte{
	{0x06, 0x03, 0x2b, 0x65, 0x70},
	append([]byte{0x13, 0x0c}, "edwards25519"...),
}

// Key types of PKCS#11 v3.0 that the binding has no names for.
const (
	ckkEdwards    = 0x40
	ckkSHA256HMAC = 0x2b
	ckkSHA384HMAC = 0x2c
	ckkSHA512HMAC = 0x2d
)

func isRSA(pub crypto.PublicKey) bool {
	_, ok := pub.(*rsa.PublicKey)
	return ok
}

// readPublic reads the public half of the private key h, or the type and length of the
// secret key h.
func readPublic(s *session, h p11.ObjectHandle) (crypto.PublicKey, error) {
	v, err := s.Attribute(h, p11.CKA_KEY_TYPE)
	if err != nil {
		return nil, err
	}

	switch typ := ulong(v); typ {
	case p11.CKK_RSA:
		return readRSA(s, h)
	case p11.CKK_EC:
		return readEC(s, h)
	case ckkEdwards:
		return readEd25519(s, h)
	case p11.CKK_GENERIC_SECRET, ckkSHA256HMAC, ckkSHA384HMAC, ckkSHA512HMAC:
		return readSecret(s, h, signer.SecretHMAC)
	case p11.CKK_AES:
		return readSecret(s, h, signer.SecretAES)
	default:
		return nil, fmt.Errorf("%w: a key of type CKK %#x; RSA, EC, EC_EDWARDS, AES and those for HMAC are known", signer.ErrUnsupported, typ)
	}
}

// readSecret reads the length of a secret key.
func readSecret(s *session, h p11.ObjectHandle, typ signer.SecretType) (crypto.PublicKey, error) {
	v, err := s.Attribute(h, p11.CKA_VALUE_LEN)
	if err != nil {
		return nil, err
	}
	size := ulong(v)
	if size == 0 || size > maxSecret {
		return nil, fmt.Errorf("%w: the secret key does not say how long it is (CKA_VALUE_LEN)", signer.ErrUnsupported)
	}
	return signer.Secret{Type: typ, Size: int(size)}, nil
}

// maxSecret is an upper bound of the length of a secret key in bytes.
const maxSecret = 1 << 20

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

// readRSA reads modulus and public exponent, which a private key object has, too.
func readRSA(s *session, h p11.ObjectHandle) (*rsa.PublicKey, error) {
	modulus, err := s.Attribute(h, p11.CKA_MODULUS)
	if err != nil {
		return nil, err
	}
	exponent, err := s.Attribute(h, p11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, err
	}

	n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(exponent)
	if n.Bit(0) == 0 || e.Bit(0) == 0 || e.BitLen() < 2 || e.BitLen() > 31 {
		return nil, fmt.Errorf("%w: the private key shows no usable CKA_MODULUS and CKA_PUBLIC_EXPONENT", signer.ErrUnsupported)
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// readEC reads the public half of a key on a curve of ECDSA.
func readEC(s *session, private p11.ObjectHandle) (crypto.PublicKey, error) {
	params, err := s.Attribute(private, p11.CKA_EC_PARAMS)
	if err != nil {
		return nil, err
	}
	for _, c := range curves {
		if bytes.Equal(c.params, params) {
			return readPoint(s, private, p11.CKK_EC, [][]byte{params}, func(v []byte) (publicKey, error) { return parsePoint(c.curve, v) })
		}
	}
	return nil, fmt.Errorf("%w: a curve other than P-256, P-384, P-521 and secp256k1", signer.ErrUnsupported)
}

// readEd25519 is readEC for Ed25519.
func readEd25519(s *session, private p11.ObjectHandle) (crypto.PublicKey, error) {
	params, err := s.Attribute(private, p11.CKA_EC_PARAMS)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(ed25519Params, func(p []byte) bool { return bytes.Equal(p, params) }) {
		return nil, fmt.Errorf("%w: an Edwards curve other than Ed25519", signer.ErrUnsupported)
	}
	return readPoint(s, private, ckkEdwards, ed25519Params, parseEd25519)
}

// A publicKey is one of the standard library's.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// readPoint reads the point from the public key object that has the private key's id and
// label and its curve, which one of params names. A private key object has no point, and a
// public key that has only the same label may belong to another key.
func readPoint(s *session, private p11.ObjectHandle, keyType uint, params [][]byte, parse func([]byte) (publicKey, error)) (crypto.PublicKey, error) {
	found, err := findPublic(s, private, keyType, params)
	if err != nil {
		return nil, err
	}

	var pub publicKey
	for _, h := range found {
		v, err := s.Attribute(h, p11.CKA_EC_POINT)
		if err != nil {
			return nil, err
		}
		p, err := parse(v)
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

// findPublic returns the public key objects whose id and label are those of the private
// key, and whose curve is one of params.
func findPublic(s *session, private p11.ObjectHandle, keyType uint, params [][]byte) ([]p11.ObjectHandle, error) {
	template := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, keyType),
	}

	want := map[uint][][]byte{p11.CKA_EC_PARAMS: params}
	for _, typ := range []uint{p11.CKA_ID, p11.CKA_LABEL} {
		v, err := s.Attribute(private, typ)
		if err != nil {
			return nil, err
		}
		want[typ] = [][]byte{v}
		if len(v) > 0 {
			template = append(template, p11.NewAttribute(typ, v))
		}
	}
	found, err := s.Find(template)
	if err != nil {
		return nil, err
	}

	// What the template says is compared here once more: an empty value in a template
	// matches everything in some tokens and nothing in others.
	var matching []p11.ObjectHandle
	for _, h := range found {
		ok, err := has(s, h, want)
		if err != nil {
			return nil, err
		}
		if ok {
			matching = append(matching, h)
		}
	}
	return matching, nil
}

// has reports whether each attribute of o has one of the values that want lists for it.
func has(s *session, o p11.ObjectHandle, want map[uint][][]byte) (bool, error) {
	for typ, values := range want {
		v, err := s.Attribute(o, typ)
		if err != nil || !slices.ContainsFunc(values, func(value []byte) bool { return bytes.Equal(v, value) }) {
			return false, err
		}
	}
	return true, nil
}

// parsePoint parses CKA_EC_POINT: an uncompressed point, in a DER OCTET STRING as PKCS#11
// 2.40 section 2.3.3 wants it, or bare as some tokens have it.
func parsePoint(curve elliptic.Curve, v []byte) (publicKey, error) {
	for _, point := range [][]byte{v, octetString(v)} {
		if pub, ok := signer.ParsePoint(curve, point); ok {
			return pub, nil
		}
	}
	return nil, errors.New("its CKA_EC_POINT is not a point of its curve")
}

// parseEd25519 parses CKA_EC_POINT of a key on Ed25519: 32 bytes (RFC 8032 section
// 5.1.5), bare as PKCS#11 v3.0 section 2.3.5 wants them, in an OCTET STRING as for other
// curves, or in a BIT STRING.
func parseEd25519(v []byte) (publicKey, error) {
	for _, point := range [][]byte{v, octetString(v), bitString(v)} {
		if len(point) == ed25519.PublicKeySize {
			return ed25519.PublicKey(point), nil
		}
	}
	return nil, errors.New("its CKA_EC_POINT is not a point of Ed25519")
}

// octetString returns the content of a DER OCTET STRING, or nil if v is something else.
func octetString(v []byte) (octets []byte) {
	if rest, err := asn1.Unmarshal(v, &octets); err != nil || len(rest) != 0 {
		return nil
	}
	return octets
}

// bitString is octetString for a DER BIT STRING of whole bytes.
func bitString(v []byte) []byte {
	var bits asn1.BitString
	if rest, err := asn1.Unmarshal(v, &bits); err != nil || len(rest) != 0 || bits.BitLength%8 != 0 {
		return nil
	}
	return bits.Bytes
}
