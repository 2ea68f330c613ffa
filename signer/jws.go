package signer

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
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

// SignJWS signs payload with alg, or the key's default if alg is empty. The
// protected header holds alg, kid and what header adds.
func (v *Version) SignJWS(ctx context.Context, alg Alg, header Header, payload []byte) (*JWS, error) {
	alg, err := v.Alg(alg)
	if err != nil {
		return nil, err
	}
	protected, err := v.protected(alg, header)
	if err != nil {
		return nil, err
	}
	b64 := base64.RawURLEncoding
	const more = 88 // the signature of the usual curve in base64url, and two dots
	input := make([]byte, 0, len(protected)+b64.EncodedLen(len(payload))+more)
	input = append(append(input, protected...), '.')
	input = b64.AppendEncode(input, payload)
	j := &JWS{KID: v.kid, Alg: alg, payload: len(protected) + 1, signature: len(input) + 1}
	j.Digest = appendInputDigest(j.sum[:0], alg, input)
	sig, err := v.signInput(ctx, alg, j.Digest, input)
	if err != nil {
		return nil, err
	}
	j.compact = string(b64.AppendEncode(append(input, '.'), sig))
	return j, nil
}

// signInput is [Version.SignMessage] for an input whose hash is known.
func (v *Version) signInput(ctx context.Context, alg Alg, digest, input []byte) ([]byte, error) {
	if alg.Family() == FamilyHMAC {
		return v.mac(ctx, alg, input)
	}
	if alg.Hash() == 0 {
		digest = input
	}
	return v.signMessage(ctx, alg, digest, input)
}

// appendInputDigest appends what names a token in records.
func appendInputDigest(b []byte, alg Alg, input []byte) []byte {
	hash := alg.Hash()
	if hash == 0 {
		hash = crypto.SHA256
	}
	return appendHash(b, hash, input)
}

// A protectedHeader is one that was written before.
type protectedHeader struct {
	alg    Alg
	header Header
	text   string // in base64url
}

// The bounds of what a version remembers of headers. A key has few, but where any
// payload is signed each request may have another.
const (
	maxHeaders    = 8
	maxHeaderText = 64 // bytes of typ and cty
)

// protected returns the protected header in base64url. It is the same for most tokens of
// a version, so the version remembers the first few.
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
	text := base64.RawURLEncoding.EncodeToString(data)
	if len(known) < maxHeaders && len(header.Typ)+len(header.Cty) <= maxHeaderText {
		list := append(slices.Clone(known), protectedHeader{alg, header, text})
		v.headers.Store(&list) // one that another request stores now may be lost: it comes again
	}
	return text, nil
}
