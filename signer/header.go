package signer

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
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

// A joseHeader is one of the headers of a JWE or a JWS: its members as they stand.
type joseHeader map[string]josejson.RawMessage

// add adds the members of other, and reports whether none was there before: RFC
// 7515 section 7.2.1, RFC 7516 section 7.2.1.
func (h joseHeader) add(other joseHeader) bool {
	for name, value := range other {
		if _, twice := h[name]; twice {
			return false
		}
		h[name] = value
	}
	return true
}

// A headerReader reads members of a header and remembers whether all were of the
// right type.
type headerReader struct {
	h  joseHeader
	ok bool
}

// text is the value of a member that is a string, or empty if there is none.
func (r *headerReader) text(name string) string {
	v, ok := r.h[name]
	if !ok {
		return ""
	}
	if n := len(v); n >= 2 && v[0] == '"' && isPlain(v[1:n-1]) {
		return string(v[1 : n-1])
	}
	var s string
	if josejson.Unmarshal(v, &s) != nil {
		r.ok = false
	}
	return s
}

// isPlain reports whether what stands between the quotes of a JSON string is the
// string: it is ASCII without escapes.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c == '\\' || c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// bytes is the value of a member that is base64url.
func (r *headerReader) bytes(name string) []byte {
	data, ok := decodeStrict(r.text(name))
	r.ok = r.ok && ok
	return data
}

// epk is the ephemeral public key (RFC 7518 section 4.6.1.1). go-jose checks that
// it is a point of its curve.
func (r *headerReader) epk() *ecdh.PublicKey {
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

// decodeStrict decodes base64url as RFC 7515 section 2 has it: without padding and
// line breaks, and with spare bits of zero, so that no token can be written in two
// ways.
func decodeStrict(text string) ([]byte, bool) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return data, err == nil
}

// A headerError says what a header has that cannot be; its text holds no value.
type headerError string

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }
