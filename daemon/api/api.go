// Package api declares what goes over the socket: the endpoints, and the JSON of each request
// and answer. The daemon and its clients share it. Binary values are base64url without
// padding, as everywhere in JOSE. Members are added, never changed or removed.
package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signetd/signer"
)

// DefaultSocket is the path of the socket that clients use unless told otherwise.
const DefaultSocket = "/run/signetd/signetd.sock"

// Bytes is binary data, in JSON a string of base64url without padding.
type Bytes []byte

var errBase64 = errors.New("not base64url without padding")

// AppendText implements [encoding.TextAppender], so that an encoder makes no second copy of
// b, which may be secret.
func (b Bytes) AppendText(text []byte) ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(text, b), nil
}

// MarshalText implements [encoding.TextMarshaler].
func (b Bytes) MarshalText() ([]byte, error) { return b.AppendText(nil) }

// UnmarshalText implements [encoding.TextUnmarshaler]. It accepts only one encoding of each
// value (unused bits must be zero), and its error does not contain the text.
func (b *Bytes) UnmarshalText(text []byte) error {
	if bytes.ContainsAny(text, "\r\n") { // package base64 ignores these
		return errBase64
	}
	data, err := base64.RawURLEncoding.Strict().AppendDecode(nil, text)
	if err != nil {
		return errBase64
	}
	*b = data
	return nil
}

// Header holds the members of a protected header that a request may set, if the key's
// policy allows it. The daemon sets alg and kid.
type Header struct {
	Typ string `json:"typ,omitempty"`
	Cty string `json:"cty,omitempty"`
}

// SignJWTRequest asks for a JWT (RFC 7519) with the key's claim policy applied.
type SignJWTRequest struct {
	Key    string          `json:"key"`
	Claims json.RawMessage `json:"claims"`           // a JSON object
	TTL    int64           `json:"ttl,omitzero"`     // seconds; the policy's default if absent
	Alg    string          `json:"alg,omitempty"`    // one that the key lists; its first if absent
	Header *Header         `json:"header,omitempty"` // typ only, and only as the key has it
}

// SignJWTResponse holds the token in compact form.
type SignJWTResponse struct {
	Token string `json:"token"`
	KID   string `json:"kid"`
}

// The serializations of [SignJWSRequest] and [EncryptJWERequest].
const (
	Compact   = "compact"
	Flattened = "flattened"
	General   = "general" // with one signature, or one recipient
)

// SignJWSRequest asks for a JWS (RFC 7515) over any payload.
type SignJWSRequest struct {
	Key           string  `json:"key"`
	Payload       Bytes   `json:"payload"`
	Alg           string  `json:"alg,omitempty"`
	Header        *Header `json:"header,omitempty"`
	Detached      bool    `json:"detached,omitzero"`       // leave the payload out of the answer (RFC 7515 appendix F)
	Serialization string  `json:"serialization,omitempty"` // compact (if absent), flattened or general
}

// SignJWSResponse holds the JWS and its parts, in base64url as they appear in it.
type SignJWSResponse struct {
	JWS       string `json:"jws"`
	Protected string `json:"protected"`
	Signature string `json:"signature"`
	KID       string `json:"kid"`
}

// SignDigestRequest asks for a bare signature: crypto.Signer over the socket. A
// kid pins the version; without one the active version signs. Ed25519 and ML-DSA have
// no digest: as with crypto.Signer, the message itself takes its place.
type SignDigestRequest struct {
	Key    string `json:"key"`
	KID    string `json:"kid,omitempty"`
	Alg    string `json:"alg"`
	Digest Bytes  `json:"digest"` // as long as the hash of alg; for EdDSA and ML-DSA the message
}

// SignDigestResponse holds the signature in JOSE form: r || s for ECDSA.
type SignDigestResponse struct {
	Signature Bytes  `json:"signature"`
	KID       string `json:"kid"`
}

// UnwrapCEKRequest asks for the content encryption key of a JWE that the client decrypts
// itself: crypto.Decrypter over the socket. A kid chooses the version; without a kid the
// active version decrypts.
type UnwrapCEKRequest struct {
	Key          string `json:"key,omitempty"` // key or kid or both
	KID          string `json:"kid,omitempty"`
	Alg          string `json:"alg"`
	EncryptedKey Bytes  `json:"encrypted_key"` // empty for ECDH-ES

	// Members of the JWE's header about the key (RFC 7518 sections 4.6.1 and 4.7.1).
	Enc string           `json:"enc,omitempty"` // needed for ECDH-ES
	EPK *jose.JSONWebKey `json:"epk,omitempty"` // of ECDH-ES and ECDH-ES+A*KW
	APU Bytes            `json:"apu,omitempty"`
	APV Bytes            `json:"apv,omitempty"`
	IV  Bytes            `json:"iv,omitempty"` // of A*GCMKW
	Tag Bytes            `json:"tag,omitempty"`
}

// UnwrapCEKResponse holds the key in clear.
type UnwrapCEKResponse struct {
	CEK Bytes  `json:"cek"`
	KID string `json:"kid"`
}

// DecryptJWERequest asks to decrypt a JWE (RFC 7516) in any serialization. The kid of the
// JWE names the version. Without a kid, the versions of the peer's keys are tried, or only
// those of Key if it is set.
type DecryptJWERequest struct {
	JWE string `json:"jwe"`
	Key string `json:"key,omitempty"`
}

// DecryptJWEResponse holds what was in the JWE.
type DecryptJWEResponse struct {
	Plaintext Bytes     `json:"plaintext"`
	Header    JWEHeader `json:"header"`
	KID       string    `json:"kid"`
}

// JWEHeader is the header of a JWE that was opened.
type JWEHeader struct {
	Alg string `json:"alg"`
	Enc string `json:"enc"`
	KID string `json:"kid,omitempty"`
	Typ string `json:"typ,omitempty"`
	Cty string `json:"cty,omitempty"`
}

// EncryptJWERequest asks for a JWE to the active version of a key, to a configured
// recipient, or to another party's public key. It uses no private key.
type EncryptJWERequest struct {
	Key           string           `json:"key,omitempty"`       // key or recipient: the name of a key, or of a configured recipient
	Recipient     *jose.JSONWebKey `json:"recipient,omitempty"` // a public key with "alg"
	Plaintext     Bytes            `json:"plaintext"`
	Enc           string           `json:"enc,omitempty"` // that of the recipient, or A256GCM
	Header        *Header          `json:"header,omitempty"`
	Serialization string           `json:"serialization,omitempty"` // compact (if absent), flattened or general
}

// EncryptJWEResponse holds the JWE in the form that was asked for.
type EncryptJWEResponse struct {
	JWE string `json:"jwe"`
	KID string `json:"kid,omitempty"`
}

// VerifyJWTRequest asks whether a token was signed by a key that the peer may
// verify with, the daemon's or that of a trusted issuer, and is valid now under its
// rules.
type VerifyJWTRequest struct {
	Token    string `json:"token"`
	Issuer   string `json:"issuer,omitempty"`   // if given, the issuer that it must be from
	Audience string `json:"audience,omitempty"` // if given, one that must be among the token's
}

// VerifyJWTResponse holds the claims of a valid token.
type VerifyJWTResponse struct {
	Claims json.RawMessage `json:"claims"`
	Header JWSHeader       `json:"header"`
	Key    string          `json:"key"` // the name of the key or of the trusted issuer
}

// JWSHeader is the header of a signature that was verified.
type JWSHeader struct {
	Alg string `json:"alg"`
	KID string `json:"kid"` // empty if it has none
	Typ string `json:"typ,omitempty"`
	Cty string `json:"cty,omitempty"`
}

// Keys lists the keys on which the peer has a grant.
type Keys struct {
	Keys []Key `json:"keys"`
}

// Key describes a key.
type Key struct {
	Name     string       `json:"name"`
	Use      string       `json:"use"`
	Algs     []string     `json:"algs"`
	Ops      []string     `json:"ops"` // what the peer may do with it
	Versions []KeyVersion `json:"versions"`
}

// KeyVersion describes one version of a key.
type KeyVersion struct {
	KID       string      `json:"kid"` // empty if the key was never opened and the config has no kid
	Active    bool        `json:"active"`
	NotBefore *time.Time  `json:"not_before,omitempty"`
	Backend   string      `json:"backend"`          // the first, if several hold it
	State     string      `json:"state"`            // ok, away or missing, see signer.State: the best of its places
	Places    []KeyPlace  `json:"places,omitempty"` // if several backends hold it
	Public    *signer.JWK `json:"public,omitempty"` // missing for a symmetric key, and for one that was never opened
}

// KeyPlace is one of several backends that hold a version.
type KeyPlace struct {
	Backend string `json:"backend"`
	State   string `json:"state"`
}

// Health is the answer of a process that is alive.
type Health struct {
	Status string `json:"status"` // "ok"
}

// Ready says whether every key has a version that can be used, and whether each
// backend answers: "ok" or an error code.
type Ready struct {
	Ready    bool              `json:"ready"`
	Backends map[string]string `json:"backends"`
	// MissingVersions is the length that Missing has for a peer with grants on all keys.
	MissingVersions int `json:"missing_versions,omitzero"`
	// Missing are the places that have not been opened yet, of versions of the keys on which
	// the peer has a grant.
	Missing []MissingVersion `json:"missing,omitempty"`
}

// MissingVersion is a version, or one of several places of it, that its backend has
// not opened yet.
type MissingVersion struct {
	Key       string     `json:"key"`
	KID       string     `json:"kid,omitempty"` // if it is known
	Backend   string     `json:"backend"`
	NotBefore *time.Time `json:"not_before,omitempty"`
}

// Version is the version of the build.
type Version struct {
	Version string `json:"version"`
}

// Reload asks the daemon to read its config again.
type Reload struct{}

// Reloaded is the answer when the new config is in force.
type Reloaded struct {
	Keys int `json:"keys"` // how many keys are served now
}

// Batch is a POST with several requests of one kind. They are independent: a request that
// is refused does not affect the others.
type Batch[Q any] struct {
	Batch []Q `json:"batch"`
}

// Results answers a [Batch], in its order. Each A is the answer to one request, or
// an [ErrorResponse].
type Results[A any] struct {
	Results []A `json:"results"`
}

// ErrorResponse is the body of every answer but 200.
type ErrorResponse struct {
	Error Error `json:"error"`
}

// Error says what went wrong. Code is one of package signer's.
type Error struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	RequestID string `json:"request_id"`
	Rule      string `json:"rule,omitempty"` // the rule on claims that refused, if one did
}
