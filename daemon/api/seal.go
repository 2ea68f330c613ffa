package api

import (
	"encoding/json"

	"github.com/go-jose/go-jose/v4"
)

// VerifyJWSRequest asks whether a payload was signed by a key that the peer may
// verify with: one of the daemon's, or of a trusted issuer. What the payload says
// is not looked at.
type VerifyJWSRequest struct {
	JWS     string `json:"jws"`               // compact, flattened or general
	Payload Bytes  `json:"payload,omitempty"` // of a detached one
	Key     string `json:"key,omitempty"`     // if given, the key or trusted issuer that it must be signed by
}

// VerifyJWSResponse holds the payload of a JWS and the header of the signature that
// was verified, the first of those that may be.
type VerifyJWSResponse struct {
	Payload Bytes     `json:"payload"`
	Header  JWSHeader `json:"header"`
	Key     string    `json:"key"` // or trusted issuer
}

// SealJWTRequest asks for a nested JWT (RFC 7519 section 11.2): claims signed with
// a key, its claim policy applied, and the token encrypted for a recipient.
type SealJWTRequest struct {
	Key       string           `json:"key"`
	Claims    json.RawMessage  `json:"claims"`
	TTL       int64            `json:"ttl,omitzero"`
	Alg       string           `json:"alg,omitempty"`       // of the signature
	Header    *Header          `json:"header,omitempty"`    // of the signed token: typ only, and only as the key has it
	To        string           `json:"to,omitempty"`        // to or recipient: a configured recipient, or a key of the daemon
	Recipient *jose.JSONWebKey `json:"recipient,omitempty"` // a public key with "alg"
	Enc       string           `json:"enc,omitempty"`       // that of the recipient, or A256GCM
}

// SealJWTResponse holds the token, a JWE in compact form.
type SealJWTResponse struct {
	Token        string `json:"token"`
	KID          string `json:"kid"` // of the signature
	RecipientKID string `json:"recipient_kid,omitempty"`
}

// OpenJWTRequest asks to decrypt a nested JWT and to verify the token in it, as
// [DecryptJWERequest] and [VerifyJWTRequest] do.
type OpenJWTRequest struct {
	Token    string `json:"token"`
	Key      string `json:"key,omitempty"` // to decrypt with; that of its kid if absent
	Issuer   string `json:"issuer,omitempty"`
	Audience string `json:"audience,omitempty"`
}

// OpenJWTResponse holds the claims of a nested JWT that is valid.
type OpenJWTResponse struct {
	Claims json.RawMessage `json:"claims"`
	Header JWSHeader       `json:"header"` // of the signed token
	Key    string          `json:"key"`    // or trusted issuer, that signed it
	Sealed JWEHeader       `json:"sealed"` // the header of the JWE
}
