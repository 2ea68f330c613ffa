//go:build cgo

package provision

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// The key types that crypto11 does not generate, through the binding.

// ckmEdwardsKeyPairGen is CKM_EC_EDWARDS_KEY_PAIR_GEN of PKCS#11 v3.0 section 2.3.4, for
// which the binding has no name.
const ckmEdwardsKeyPairGen = 0x1055

// Object identifiers: of Ed25519 (RFC 8410 section 3), of EC public keys and of
// secp256k1 (RFC 5480 section 2.1.1, SEC 2 appendix A.2.1).
var (
	oidEd25519   = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidECPublic  = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidSecp256k1 = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
)

// template returns more and the attributes that name the key of o.
func template(o KeyOptions, more ...*p11.Attribute) []*p11.Attribute {
	return append(more, p11.NewAttribute(p11.CKA_LABEL, o.Label), p11.NewAttribute(p11.CKA_ID, o.ID))
}

// wantedTemplate returns wanted as attributes.
func wantedTemplate(o KeyOptions) (list []*p11.Attribute) {
	for _, w := range wanted(o) {
		list = append(list, p11.NewAttribute(w.typ, w.value))
	}
	return list
}

// generatePair makes a key pair on Ed25519 or secp256k1, and returns the public half.
func generatePair(ctx *p11.Ctx, s p11.SessionHandle, o KeyOptions) ([]byte, error) {
	mechanism, oid := uint(p11.CKM_EC_KEY_PAIR_GEN), oidSecp256k1
	if o.Type == Ed25519 {
		mechanism, oid = ckmEdwardsKeyPairGen, oidEd25519
	}
	params, err := asn1.Marshal(oid)
	if err != nil {
		return nil, err
	}

	public := template(o, append(publicTemplate(o), p11.NewAttribute(p11.CKA_EC_PARAMS, params))...)
	h, _, err := ctx.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, public, template(o, wantedTemplate(o)...))
	if err != nil {
		return nil, fmt.Errorf("C_GenerateKeyPair: %w", err)
	}

	attrs, err := ctx.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	if o.Type != Ed25519 {
		return publicSecp256k1(attrs[0].Value)
	}
	point := octets(attrs[0].Value, ed25519.PublicKeySize)
	if len(point) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: the token's CKA_EC_POINT is not a point of Ed25519", signer.ErrUnsupported)
	}
	return x509.MarshalPKIXPublicKey(ed25519.PublicKey(point))
}

// publicSecp256k1 returns the PKIX form (RFC 5480 section 2), which the standard library
// does not make for this curve.
func publicSecp256k1(v []byte) ([]byte, error) {
	point := octets(v, 65)
	if _, ok := signer.ParsePoint(signer.Secp256k1(), point); !ok {
		return nil, fmt.Errorf("%w: the token's CKA_EC_POINT is not a point of secp256k1", signer.ErrUnsupported)
	}

	type algorithm struct{ Algorithm, Parameters asn1.ObjectIdentifier }
	return asn1.Marshal(struct {
		Algorithm algorithm
		PublicKey asn1.BitString
	}{algorithm{oidECPublic, oidSecp256k1}, asn1.BitString{Bytes: point, BitLength: 8 * len(point)}})
}

// octets returns the point of size bytes that v is, bare or in a DER OCTET STRING.
func octets(v []byte, size int) []byte {
	var inner []byte
	if rest, err := asn1.Unmarshal(v, &inner); len(v) != size && err == nil && len(rest) == 0 {
		return inner
	}
	return v
}

// generateSecret makes a symmetric key.
func generateSecret(ctx *p11.Ctx, s p11.SessionHandle, o KeyOptions) error {
	mechanism, keyType := uint(p11.CKM_AES_KEY_GEN), uint(p11.CKK_AES)
	if types[o.Type].shape == hmacSecret {
		// Not CKK_SHA512_HMAC: some tokens do not have it, and it is for one hash.
		mechanism, keyType = p11.CKM_GENERIC_SECRET_KEY_GEN, p11.CKK_GENERIC_SECRET
	}
	key := template(o, append(wantedTemplate(o),
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		p11.NewAttribute(p11.CKA_KEY_TYPE, keyType),
		p11.NewAttribute(p11.CKA_VALUE_LEN, types[o.Type].bits/8))...)
	if _, err := ctx.GenerateKey(s, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, key); err != nil {
		return fmt.Errorf("C_GenerateKey: %w", err)
	}
	return nil
}
