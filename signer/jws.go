package signer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
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

// General returns the general JSON serialization (RFC 7515 section 7.2.1), with
// one signature.
func (j *JWS) General() string {
	return `{"payload":"` + j.Payload + `","signatures":[` + j.FlattenedDetached() + `]}`
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
