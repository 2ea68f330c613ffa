package signer

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// maxRecipients bounds the recipients of one JWE: each may cost a try with a key.
const maxRecipients = 16

// A SealedToken is a JWE (RFC 7516) that has not been opened.
type SealedToken struct {
	Enc    string
	Header Header
	// Recipients are those that the JWE names: one, or several in the general JSON
	// serialization.
	Recipients []*Recipient

	iv, ciphertext, tag, aad []byte
	deflated                 bool
}

// A Recipient is what a JWE holds for one of its recipients.
type Recipient struct {
	KID string
	WrappedCEK
}

// A WrappedCEK is a content encryption key as a JWE carries it, with the members
// of the header that say how (RFC 7518 section 4).
type WrappedCEK struct {
	Alg          Alg
	Enc          string // what the CEK is for: its length follows from it
	EncryptedKey []byte
	EPK          *ecdh.PublicKey // of ECDH-ES
	APU, APV     []byte          // of ECDH-ES
	IV, Tag      []byte          // of A*GCMKW
}

// content is t as one of its recipients sees it.
func (t *SealedToken) content(r *Recipient) Content {
	return Content{EncryptedKey: r.EncryptedKey, Enc: t.Enc, IV: t.iv, Ciphertext: t.ciphertext, Tag: t.tag, AAD: t.aad}
}

// jweJSON is the JSON serialization of a JWE, general or flattened (RFC 7516
// section 7.2).
type jweJSON struct {
	Protected    string          `json:"protected"`
	Unprotected  joseHeader      `json:"unprotected"`
	Header       joseHeader      `json:"header"`
	EncryptedKey *string         `json:"encrypted_key"`
	Recipients   *[]jweRecipient `json:"recipients"`
	AAD          *string         `json:"aad"`
	IV           string          `json:"iv"`
	Ciphertext   string          `json:"ciphertext"`
	Tag          string          `json:"tag"`
}

type jweRecipient struct {
	Header       joseHeader `json:"header"`
	EncryptedKey string     `json:"encrypted_key"`
}

// A joseHeader is one of the headers of a JWE or a JWS: its members as they stand.
type joseHeader map[string]json.RawMessage

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

// ParseSealed reads a JWE in compact, flattened or general JSON form. Whatever is
// wrong with it, the error is ErrDecrypt.
func ParseSealed(jwe string) (*SealedToken, error) {
	var j jweJSON
	if strings.HasPrefix(strings.TrimSpace(jwe), "{") {
		if json.Unmarshal([]byte(jwe), &j) != nil || j.mixed() {
			return nil, ErrDecrypt
		}
	} else {
		parts := strings.Split(jwe, ".")
		if len(parts) != 5 || parts[0] == "" {
			return nil, ErrDecrypt
		}
		j = jweJSON{Protected: parts[0], EncryptedKey: &parts[1], IV: parts[2], Ciphertext: parts[3], Tag: parts[4]}
	}
	t, ok := j.token()
	if !ok {
		return nil, ErrDecrypt
	}
	return t, nil
}

// mixed reports whether j is both general and flattened (RFC 7516 section 7.2.2).
// go-jose's general form repeats the first recipient's key at the top: that is let
// through.
func (j *jweJSON) mixed() bool {
	if j.Recipients == nil {
		return false
	}
	repeated := j.EncryptedKey == nil || len(*j.Recipients) > 0 && *j.EncryptedKey == (*j.Recipients)[0].EncryptedKey
	return j.Header != nil || !repeated
}

func (j *jweJSON) token() (*SealedToken, bool) {
	t, ok := new(SealedToken), true
	decode := func(text string) []byte {
		data, good := decodeStrict(text)
		ok = ok && good
		return data
	}
	t.iv, t.ciphertext, t.tag, t.aad = decode(j.IV), decode(j.Ciphertext), decode(j.Tag), []byte(j.Protected)
	if j.AAD != nil {
		decode(*j.AAD)
		t.aad = []byte(j.Protected + "." + *j.AAD)
	}
	var protected joseHeader
	if text := decode(j.Protected); j.Protected != "" && json.Unmarshal(text, &protected) != nil {
		return nil, false
	}
	recipients := []jweRecipient{{Header: j.Header}}
	if j.EncryptedKey != nil {
		recipients[0].EncryptedKey = *j.EncryptedKey
	}
	if j.Recipients != nil {
		recipients = *j.Recipients
	}
	if !ok || len(recipients) == 0 || len(recipients) > maxRecipients {
		return nil, false
	}
	for _, r := range recipients {
		if !t.add(protected, j.Unprotected, r) {
			return nil, false
		}
	}
	return t, true
}

// add adds a recipient whose header is the union of three. All recipients must
// agree on what concerns the content.
func (t *SealedToken) add(protected, shared joseHeader, r jweRecipient) bool {
	all := joseHeader{}
	if !all.add(protected) || !all.add(shared) || !all.add(r.Header) {
		return false
	}
	_, crit := all["crit"] // nothing that it could name is understood
	_, zipped := all["zip"]
	_, protectedZip := protected["zip"] // RFC 7516 section 4.1.3
	if crit || zipped != protectedZip {
		return false
	}
	h := headerReader{h: all, ok: true}
	enc, zip := h.text("enc"), h.text("zip")
	if _, known := cekSizes[jose.ContentEncryption(enc)]; !known || (zipped && zip != "DEF") {
		return false
	}
	if len(t.Recipients) > 0 && enc != t.Enc {
		return false
	}
	t.Enc, t.deflated = enc, zipped
	t.Header = Header{Typ: h.text("typ"), Cty: h.text("cty")}
	key, good := decodeStrict(r.EncryptedKey)
	to := &Recipient{KID: h.text("kid"), WrappedCEK: WrappedCEK{
		Alg: Alg(h.text("alg")), Enc: enc, EncryptedKey: key,
		APU: h.bytes("apu"), APV: h.bytes("apv"), IV: h.bytes("iv"), Tag: h.bytes("tag"),
	}}
	if to.Alg.Family() == FamilyECDH {
		to.EPK = h.epk()
	}
	t.Recipients = append(t.Recipients, to)
	return good && h.ok && to.Alg.Use() == UseEnc
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
	if json.Unmarshal(v, &s) != nil {
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
