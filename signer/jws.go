package signer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// A Header holds the members of a protected header that do not follow from the
// key. Everything else in it, alg and kid above all, is the daemon's to write.
type Header struct {
	// Typ is the media type of the whole object, "JWT" or "at+jwt" for example
	// (RFC 7515 section 4.1.9, RFC 8725 section 3.11). Optional.
	Typ string
	// Cty is the media type of the payload, "JWT" for a nested one (section
	// 4.1.10). Optional.
	Cty string
}

// A JWS is a signed object (RFC 7515): its three parts in base64url.
type JWS struct {
	Protected string
	Payload   string
	Signature string
	KID       string
	Alg       Alg
	Digest    []byte // the hash of the signing input: by Alg, or SHA-256 if that has none
}

// Compact returns the compact serialization (RFC 7515 section 7.1).
func (j *JWS) Compact() string { return j.Protected + "." + j.Payload + "." + j.Signature }

// Detached returns the compact serialization without the payload (RFC 7515
// appendix F).
func (j *JWS) Detached() string { return j.Protected + ".." + j.Signature }

// Flattened returns the flattened JSON serialization (RFC 7515 section 7.2.2).
func (j *JWS) Flattened() string {
	return `{"payload":"` + j.Payload + `","protected":"` + j.Protected + `","signature":"` + j.Signature + `"}`
}

// FlattenedDetached returns the flattened JSON serialization without the payload
// (RFC 7515 appendix F).
func (j *JWS) FlattenedDetached() string {
	return `{"protected":"` + j.Protected + `","signature":"` + j.Signature + `"}`
}

// SignJWS signs payload with alg, or the key's default if alg is empty. The
// protected header holds alg, kid and what header adds.
func (v *Version) SignJWS(ctx context.Context, alg Alg, header Header, payload []byte) (*JWS, error) {
	alg, err := v.Alg(alg)
	if err != nil {
		return nil, err
	}
	protected, err := json.Marshal(struct {
		Alg Alg    `json:"alg"`
		KID string `json:"kid"`
		Typ string `json:"typ,omitempty"`
		Cty string `json:"cty,omitempty"`
	}{alg, v.kid, header.Typ, header.Cty})
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	j := &JWS{
		Protected: base64.RawURLEncoding.EncodeToString(protected),
		Payload:   base64.RawURLEncoding.EncodeToString(payload),
		KID:       v.kid,
		Alg:       alg,
	}
	input := []byte(j.Protected + "." + j.Payload)
	j.Digest = inputDigest(alg, input)
	sig, err := v.SignMessage(ctx, alg, input)
	if err != nil {
		return nil, err
	}
	j.Signature = base64.RawURLEncoding.EncodeToString(sig)
	return j, nil
}

// inputDigest is what names a token in records.
func inputDigest(alg Alg, input []byte) []byte {
	if alg.Hash() == 0 {
		sum := sha256.Sum256(input)
		return sum[:]
	}
	return alg.digest(input)
}

// A SignedToken is a JWS in compact form whose signature has not been verified:
// it says which key to verify it with, and gives its payload to nobody else.
type SignedToken struct {
	KID string
	Alg Alg
	Typ string
	// Digest is the hash of the signing input: by Alg, or SHA-256 if that has none.
	Digest    []byte
	input     []byte
	payload   []byte
	signature []byte
}

// signatureAlgs is every signature algorithm of this package, as go-jose has it.
var signatureAlgs = func() (algs []jose.SignatureAlgorithm) {
	for _, x := range algorithms {
		if x.alg.Use() == UseSig {
			algs = append(algs, jose.SignatureAlgorithm(x.alg))
		}
	}
	return algs
}()

// ParseSigned reads a JWS in compact form. A header with crit or b64 (RFC 7797)
// is refused: signetd makes no such tokens and understands no extension. Errors
// are ErrInvalid.
func ParseSigned(token string) (*SignedToken, error) {
	jws, err := jose.ParseSignedCompact(token, signatureAlgs)
	if err != nil || !canonical(token) {
		return nil, fmt.Errorf("%w: token: no JWS in compact form with an algorithm of signetd", ErrInvalid)
	}
	h := jws.Signatures[0].Protected
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := h.ExtraHeaders[name]; ok {
			return nil, fmt.Errorf("%w: token: header %q is not understood", ErrInvalid, string(name))
		}
	}
	typ, _ := h.ExtraHeaders[jose.HeaderType].(string)
	alg, input := Alg(h.Algorithm), []byte(token[:strings.LastIndexByte(token, '.')])
	return &SignedToken{
		KID: h.KeyID, Alg: alg, Typ: typ, Digest: inputDigest(alg, input),
		input: input, payload: jws.UnsafePayloadWithoutVerification(), signature: jws.Signatures[0].Signature,
	}, nil
}

// canonical reports whether the parts of a compact serialization are base64url
// as RFC 7515 section 2 has it, without line breaks and with spare bits of zero.
// go-jose reads more, so that one token could be written in many ways, and a list
// of tokens that are revoked or were seen would miss all but one.
func canonical(compact string) bool {
	for part := range strings.SplitSeq(compact, ".") {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return false
		}
	}
	return !strings.ContainsAny(compact, "\r\n")
}

// VerifyJWS returns the payload of t if v signed it with one of the algorithms
// that v is pinned to, and ErrInvalid if not. Where v makes MACs it uses the key,
// and errors are also those of [MACer].
func (v *Version) VerifyJWS(ctx context.Context, t *SignedToken) ([]byte, error) {
	if _, err := v.Alg(t.Alg); err != nil || t.Alg == "" || v.Use() != UseSig {
		return nil, fmt.Errorf("%w: token: the key does not sign with %.32q", ErrInvalid, string(t.Alg))
	}
	switch ok, err := v.Verify(ctx, t.Alg, t.input, t.signature); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%w: token: signature does not verify", ErrInvalid)
	}
	return t.payload, nil
}
