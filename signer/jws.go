package signer

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4/json"
)

// A JWS is a signed object (RFC 7515).
type JWS struct {
	KID    string
	Alg    Alg
	Digest []byte // the hash of the signing input: by Alg, or SHA-256 if that has none

	compact            string          // the three parts, with dots between them
	payload, signature int             // where these begin in it
	sum                [maxDigest]byte // room for Digest
}

// maxDigest is the length in bytes of the longest hash of an algorithm.
const maxDigest = 64

// Protected returns the protected header in base64url.
func (j *JWS) Protected() string { return j.compact[:j.payload-1] }

// Payload returns the payload in base64url.
func (j *JWS) Payload() string { return j.compact[j.payload : j.signature-1] }

// Signature returns the signature in base64url.
func (j *JWS) Signature() string { return j.compact[j.signature:] }

// Compact returns the compact serialization (RFC 7515 section 7.1).
func (j *JWS) Compact() string { return j.compact }

// Detached returns the compact serialization without the payload (RFC 7515
// appendix F).
func (j *JWS) Detached() string { return j.Protected() + ".." + j.Signature() }

// Flattened returns the flattened JSON serialization (RFC 7515 section 7.2.2).
func (j *JWS) Flattened() string {
	return `{"payload":"` + j.Payload() + `","protected":"` + j.Protected() + `","signature":"` + j.Signature() + `"}`
}

// FlattenedDetached returns the flattened JSON serialization without the payload
// (RFC 7515 appendix F).
func (j *JWS) FlattenedDetached() string {
	return `{"protected":"` + j.Protected() + `","signature":"` + j.Signature() + `"}`
}

// General returns the general JSON serialization (RFC 7515 section 7.2.1), with
// one signature.
func (j *JWS) General() string {
	return `{"payload":"` + j.Payload() + `","signatures":[` + j.FlattenedDetached() + `]}`
}

// GeneralDetached returns the general JSON serialization without the payload (RFC
// 7515 appendix F).
func (j *JWS) GeneralDetached() string { return `{"signatures":[` + j.FlattenedDetached() + `]}` }

// SignJWS signs payload with alg, or with the key's default if alg is empty. The protected
// header holds alg, kid and what header adds.
func (v *Version) SignJWS(ctx context.Context, alg Alg, header Header, payload []byte) (*JWS, error) {
	alg, err := v.Alg(alg)
	if err != nil {
		return nil, err
	}
	protected, err := v.protected(alg, header)
	if err != nil {
		return nil, err
	}

	// The signing input grows into the whole JWS, in room that is allocated once.
	b64 := base64.RawURLEncoding
	const more = 88 // the signature of P-256 in base64url, and two dots
	input := make([]byte, 0, len(protected)+b64.EncodedLen(len(payload))+more)
	input = append(append(input, protected...), '.')
	input = b64.AppendEncode(input, payload)
	j := &JWS{KID: v.kid, Alg: alg, payload: len(protected) + 1, signature: len(input) + 1}
	j.Digest = appendInputDigest(j.sum[:0], alg, input)

	var sig []byte
	switch {
	case alg.Family() == FamilyHMAC:
		sig, err = v.mac(ctx, alg, input)
	case alg.Hash() == 0: // Digest is for records only, and the key signs the input itself
		sig, err = v.signMessage(ctx, alg, input, input)
	default:
		sig, err = v.signMessage(ctx, alg, j.Digest, input)
	}
	if err != nil {
		return nil, err
	}
	j.compact = string(b64.AppendEncode(append(input, '.'), sig))
	return j, nil
}

// A protectedHeader is a header of a JWS that a version has signed before.
type protectedHeader struct {
	alg    Alg
	header Header
	text   string // in base64url
}

// The bounds of the headers that a version keeps. Most keys sign a few headers again and
// again, but where any payload may be signed, each request may bring another header.
const (
	maxHeaders    = 8
	maxHeaderText = 64 // bytes of typ and cty
)

// protected returns the protected header of a JWS in base64url. The first few of a version
// are kept, since most of its tokens have the same.
func (v *Version) protected(alg Alg, header Header) (string, error) {
	var known []protectedHeader
	if list := v.headers.Load(); list != nil {
		known = *list
	}
	for i := range known {
		if k := &known[i]; k.alg == alg && k.header == header {
			return k.text, nil
		}
	}

	data, err := json.Marshal(struct {
		Alg Alg    `json:"alg"`
		KID string `json:"kid"`
		Typ string `json:"typ,omitempty"`
		Cty string `json:"cty,omitempty"`
	}{alg, v.kid, header.Typ, header.Cty})
	if err != nil {
		return "", fmt.Errorf("header: %w", err)
	}
	text := b64(data)

	if len(known) < maxHeaders && len(header.Typ)+len(header.Cty) <= maxHeaderText {
		// Another request may store its header at the same time, and one of the two is
		// lost. It is stored when it comes again.
		list := append(slices.Clone(known), protectedHeader{alg, header, text})
		v.headers.Store(&list)
	}
	return text, nil
}

// appendInputDigest appends the hash of a signing input that names its token in records.
func appendInputDigest(b []byte, alg Alg, input []byte) []byte {
	hash := alg.Hash()
	if hash == 0 {
		hash = crypto.SHA256
	}
	return appendHash(b, hash, input)
}

// maxSignatures bounds the signatures of one JWS: each may cost a verification.
const maxSignatures = 16

// A SignedToken is one signature of a JWS that is not verified yet. It says which key to
// verify it with, and gives away its payload only to [Version.VerifyJWS] and
// [SignedToken.VerifyWith].
type SignedToken struct {
	KID string
	Alg Alg
	Typ string
	Cty string
	// Digest is the hash of the signing input: by Alg, or SHA-256 if that has none.
	Digest    []byte
	input     []byte
	payload   []byte
	signature []byte
}

// jwsJSON is the JSON serialization of a JWS, general or flattened (RFC 7515 section 7.2).
type jwsJSON struct {
	Payload    *string         `json:"payload"`
	Protected  string          `json:"protected"`
	Header     joseHeader      `json:"header"`
	Signature  *string         `json:"signature"`
	Signatures *[]jwsSignature `json:"signatures"`
}

type jwsSignature struct {
	Protected string     `json:"protected"`
	Header    joseHeader `json:"header"`
	Signature string     `json:"signature"`
}

// ParseSigned reads a JWS in compact form. A header with crit or b64 (RFC 7797) is
// refused: signetd makes no such tokens and implements no extension. Errors are
// ErrInvalid.
func ParseSigned(token string) (*SignedToken, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: token: is not a JWS in compact form", ErrInvalid)
	}
	payload, ok := DecodeBase64URL(parts[1])
	if !ok {
		return nil, fmt.Errorf("%w: token: is not a JWS in compact form", ErrInvalid)
	}

	t, err := readSignature(jwsSignature{Protected: parts[0], Signature: parts[2]}, parts[1], payload)
	if err != nil {
		return nil, fmt.Errorf("%w: token: %w", ErrInvalid, err)
	}
	return t, nil
}

// ParseJWS reads a JWS in compact, flattened or general JSON form and returns its
// signatures, one or more. If its payload is detached (RFC 7515 appendix F), detached is
// the payload. A JWS that has a payload needs an empty detached.
//
// A signature that [ParseSigned] would refuse is left out, and so is one whose alg is not
// in the protected header: these are for other recipients (RFC 7515 section 7.2.1). A JWS
// without any other signature is refused. Errors are ErrInvalid.
func ParseJWS(jws string, detached []byte) ([]*SignedToken, error) {
	text, signatures, ok := splitJWS(jws)
	if !ok || len(signatures) == 0 || len(signatures) > maxSignatures {
		return nil, fmt.Errorf("%w: jws: is not a JWS in compact, flattened or general form with at most %d signatures", ErrInvalid, maxSignatures)
	}

	payload, ok := DecodeBase64URL(text)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: jws: the payload is not base64url", ErrInvalid)
	case len(detached) > 0 && text != "":
		return nil, fmt.Errorf("%w: payload: must be left out, because the jws has a payload", ErrInvalid)
	case text == "":
		payload, text = detached, b64(detached)
	}

	tokens := make([]*SignedToken, 0, len(signatures))
	var refused error
	for _, s := range signatures {
		t, err := readSignature(s, text, payload)
		if err != nil {
			refused = err
			continue
		}
		tokens = append(tokens, t)
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("%w: jws: %w", ErrInvalid, refused)
	}
	return tokens, nil
}

// splitJWS splits a JWS of any form. payload is still in base64url.
func splitJWS(jws string) (payload string, signatures []jwsSignature, ok bool) {
	if !strings.HasPrefix(strings.TrimSpace(jws), "{") {
		parts := strings.Split(jws, ".")
		if len(parts) != 3 {
			return "", nil, false
		}
		return parts[1], []jwsSignature{{Protected: parts[0], Signature: parts[2]}}, true
	}

	var j jwsJSON
	if json.Unmarshal([]byte(jws), &j) != nil {
		return "", nil, false
	}
	if j.Payload != nil {
		payload = *j.Payload
	}
	switch {
	case j.Signatures != nil: // general form, with no member of the flattened form beside it
		return payload, *j.Signatures, j.Signature == nil && j.Protected == "" && j.Header == nil
	case j.Signature != nil:
		return payload, []jwsSignature{{Protected: j.Protected, Header: j.Header, Signature: *j.Signature}}, true
	}
	return "", nil, false
}

// readSignature reads the headers of one signature over a payload, which is text in
// base64url. Its errors hold no value of a header.
func readSignature(s jwsSignature, text string, payload []byte) (*SignedToken, error) {
	head, good := DecodeBase64URL(s.Protected)
	signature, ok := DecodeBase64URL(s.Signature)
	if !good || !ok {
		return nil, errors.New("a part is not base64url as RFC 7515 defines it")
	}
	var protected joseHeader
	if s.Protected == "" || json.Unmarshal(head, &protected) != nil {
		return nil, errors.New("the protected header is not a JSON object")
	}

	all := joseHeader{}
	if !all.add(protected) || !all.add(s.Header) {
		return nil, errors.New("a member of the header appears twice")
	}
	for _, name := range []string{"crit", "b64"} {
		if _, ok := all[name]; ok {
			return nil, errors.New(`header "` + name + `" is not supported`)
		}
	}

	h := headerReader{h: all, ok: true}
	t := &SignedToken{KID: h.text("kid"), Alg: Alg(h.text("alg")), Typ: h.text("typ"), Cty: h.text("cty")}
	// An alg outside the protected header is not signed: anybody could have changed it.
	if _, ok := protected["alg"]; !ok || !h.ok || t.Alg.Use() != UseSig {
		return nil, errors.New("the protected header has no alg that signetd knows, or a member of the wrong type")
	}

	t.input, t.payload, t.signature = []byte(s.Protected+"."+text), payload, signature
	t.Digest = appendInputDigest(nil, t.Alg, t.input)
	return t, nil
}

// VerifyJWS returns the payload of t if v signed it with one of the algorithms that v is
// pinned to, and ErrInvalid if not. Where v makes MACs it uses the key, and errors are also
// those of [MACer].
func (v *Version) VerifyJWS(ctx context.Context, t *SignedToken) ([]byte, error) {
	if _, err := v.Alg(t.Alg); err != nil || t.Alg == "" || v.Use() != UseSig {
		return nil, fmt.Errorf("%w: token: the key does not sign with %.32q", ErrInvalid, string(t.Alg))
	}
	switch ok, err := v.Verify(ctx, t.Alg, t.input, t.signature); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errSignature
	}
	return t.payload, nil
}

// VerifyWith is [Version.VerifyJWS] for the public key of another party, pinned to algs. It
// never verifies a MAC. A key that this build cannot verify with is ErrUnsupported.
func (t *SignedToken) VerifyWith(pub crypto.PublicKey, algs []Alg) ([]byte, error) {
	if err := CanVerify(pub); err != nil {
		return nil, err
	}
	if t.Alg.Symmetric() || !slices.Contains(algs, t.Alg) || !VerifyMessage(pub, t.Alg, t.input, t.signature) {
		return nil, errSignature
	}
	return t.payload, nil
}

var errSignature = fmt.Errorf("%w: token: signature does not verify", ErrInvalid)
