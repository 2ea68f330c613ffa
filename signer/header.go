package signer

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
)

// A Header holds the members of a protected header that do not follow from the key.
// Everything else in it, alg and kid above all, is written by this package.
type Header struct {
	// Typ is the media type of the whole object, "JWT" or "at+jwt" for example
	// (RFC 7515 section 4.1.9, RFC 8725 section 3.11). Optional.
	Typ string
	// Cty is the media type of the payload, "JWT" for a nested one (RFC 7515 section
	// 4.1.10). Optional.
	Cty string
}

// A joseHeader is one of the headers of a JWE or a JWS that is read. The JSON reader of
// go-jose refuses a member that appears twice, and member names in another case.
type joseHeader map[string]josejson.RawMessage

// add adds the members of other to h. It reports false if one is in h already: the headers
// of one JWS or JWE must not share a member (RFC 7515 section 7.2.1, RFC 7516 section
// 7.2.1).
func (h joseHeader) add(other joseHeader) bool {
	for name, value := range other {
		if _, ok := h[name]; ok {
			return false
		}
		h[name] = value
	}
	return true
}

// A headerReader reads members of a header. ok stays true as long as each member that was
// read had the right type.
type headerReader struct {
	h  joseHeader
	ok bool
}

// text returns the value of a member that is a string, or "" if the member is missing.
func (r *headerReader) text(name string) string {
	v, ok := r.h[name]
	if !ok {
		return ""
	}

	// Nearly all are ASCII without escapes, and are not parsed a second time.
	escaped := func(c rune) bool { return c == '\\' || c < ' ' || c > '~' }
	if n := len(v); n >= 2 && v[0] == '"' && bytes.IndexFunc(v[1:n-1], escaped) < 0 {
		return string(v[1 : n-1])
	}
	var s string
	if josejson.Unmarshal(v, &s) != nil {
		r.ok = false
	}
	return s
}

// bytes returns the value of a member that is base64url.
func (r *headerReader) bytes(name string) []byte {
	data, ok := DecodeBase64URL(r.text(name))
	r.ok = r.ok && ok
	return data
}

// epk returns the ephemeral public key (RFC 7518 section 4.6.1.1).
func (r *headerReader) epk() *ecdh.PublicKey {
	// go-jose checks that the point is on its curve: without that, the shared secrets of
	// a few chosen points would give the private key away (CVE-2016-9121).
	var jwk jose.JSONWebKey
	if jwk.UnmarshalJSON(r.h["epk"]) == nil {
		if pub, ok := jwk.Key.(*ecdsa.PublicKey); ok {
			if epk, err := pub.ECDH(); err == nil {
				return epk
			}
		}
	}
	r.ok = false
	return nil
}

// DecodeBase64URL decodes base64url as RFC 7515 section 2 defines it: without padding and
// line breaks, and with spare bits of zero, so that no token can be written in two ways.
func DecodeBase64URL(text string) (data []byte, ok bool) {
	if strings.ContainsAny(text, "\r\n") { // which package base64 passes over
		return nil, false
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return data, err == nil
}

// b64 encodes data in base64url without padding.
func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }
